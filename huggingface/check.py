"""Compares the outputs of a model here and of its Hugging Face folder, on the same inputs.

Dimension letters: B batch size, S sequence length, V vocabulary.
"""

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
from checkpointing import inspection
from common.errors import UserError
from huggingface.configs import CLASSES
from kinds.piece_heads import piece_scores

# Head -> names of its logits at Hugging Face; a class uses one of the names of masked_lm and
# sentence_order, and both names of spans.
THEIR_LOGITS = {
    "masked_lm": ("prediction_logits", "logits"),
    "sentence_order": ("sop_logits", "seq_relationship_logits"),
    "classifier": ("logits",),
    "choice": ("logits",),
    "spans": ("start_logits", "end_logits"),
    "labels": ("logits",),
}


def differences(folder, class_name, config, arrays):
    """Return the largest difference of each output: dict of its name to float.

    Args:
        folder: str, of Hugging Face.
        class_name: str, of the model in it.
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to array, the weights of our model.

    Returns:
        None where torch or transformers is missing.
    """
    inputs = fixed_inputs(config)
    theirs = their_logits(folder, class_name, inputs)
    if theirs is None:
        return None
    ours = our_logits(config, arrays, inputs)
    return {head: float(np.abs(ours[head] - theirs[head]).max()) for head in sorted(ours)}


def fixed_inputs(config):
    """Return input_ids, input_mask and segment_ids, int32 [3, S], equal in every call."""
    rng = np.random.RandomState(0)
    longest = min(24, config.max_position_embeddings)
    columns = np.arange(longest)
    lengths = np.maximum(1, longest * np.array([[3], [2], [1]]) // 3)  # [3, 1]
    mask = (columns < lengths).astype(np.int32)
    segments = ((columns >= lengths // 2) & (columns < lengths)) * (config.type_vocab_size > 1)
    ids = rng.randint(0, config.vocab_size, mask.shape)
    return ids.astype(np.int32), mask, segments.astype(np.int32)


def our_logits(config, arrays, inputs):
    """Return the outputs of our model: dict of `sequence_output` and of heads to arrays.

    Args:
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to array, the weights.
        inputs: input_ids, input_mask and segment_ids, int32 [B, S].
    """
    heads = inspection.find_heads(inspection.shapes_of_arrays(arrays))
    with tf.Graph().as_default():
        model = modeling.AlbertModel(config, False, *map(tf.constant, inputs), scope="bert")
        outputs = {"sequence_output": model.sequence_output}
        if "masked_lm" in heads:
            with tf.variable_scope("cls/predictions"):
                hidden = tf.reshape(model.sequence_output, [-1, config.hidden_size])
                outputs["masked_lm"] = modeling.masked_lm_logits(model, hidden)  # [B*S, V]
        if "sentence_order" in heads:
            labels = tf.zeros([len(inputs[0])], tf.int32)
            outputs["sentence_order"] = modeling.sentence_order_head(model, labels).logits
        for head in {"classifier", "choice"}.intersection(heads):
            number = len(arrays["output_weights"])
            outputs[head] = modeling.classification_head(model, number).logits
        for head in {"spans", "labels"}.intersection(heads):
            mark = inspection.HEADS[head]
            scores = piece_scores(model, len(arrays[mark]), mark.rpartition("/")[0])
            outputs[head] = tf.reshape(scores, [-1, len(arrays[mark])])  # [B*S, outputs]
        with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
            variables = [
                variable
                for variable in tf.trainable_variables()
                # A head that does not read the pooler may come without one.
                if variable.op.name in arrays or "/pooler/" not in variable.op.name
            ]
            initializers = [variable.initializer for variable in variables]
            values = [arrays[variable.op.name] for variable in variables]
            session.run(initializers, {op.inputs[1]: x for op, x in zip(initializers, values)})
            return session.run(outputs)


def their_logits(folder, class_name, inputs):
    """Return what `our_logits` does, computed by transformers from a folder of Hugging Face.

    Args:
        folder, class_name: as in `differences`.
        inputs: as in `our_logits`.

    Returns:
        None where torch or transformers is not installed.

    Raises:
        UserError: if the names of parameters in the folder and in the class differ.
    """
    try:
        import torch
        import transformers
    except ImportError:
        return None
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, report = getattr(transformers, class_name).from_pretrained(
        folder, output_loading_info=True, ignore_mismatched_sizes=True
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        # Older releases of transformers save a pooler with the class ForMaskedLM.
        odd = [name for name in sorted(report[problem]) if "pooler" not in name]
        if odd:
            raise UserError("{}: {}: {}".format(folder, problem, ", ".join(map(str, odd[:3]))))
    heads = next(heads for heads, end in CLASSES.items() if class_name.endswith(end))
    ids, mask, segments = (torch.from_numpy(array.astype(np.int64)) for array in inputs)
    if heads == ("choice",):  # all sequences are the choices of one question
        ids, mask, segments = ids[None], mask[None], segments[None]
    with torch.no_grad():
        outputs = model.float().eval()(
            input_ids=ids, attention_mask=mask, token_type_ids=segments, output_hidden_states=True
        )
    theirs = {"sequence_output": outputs.hidden_states[-1].numpy()}
    for head in heads:
        found = [outputs[name].numpy() for name in THEIR_LOGITS[head] if name in outputs]
        if head == "spans":
            found = [np.stack(found, axis=-1)]  # [B, S, 2]
        width = 1 if head == "choice" else found[0].shape[-1]
        theirs[head] = found[0].reshape(-1, width)
    return theirs
