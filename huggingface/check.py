"""Both models computed on the same inputs: what was converted beside what it was made of.

Dimension letters: B batch size, S sequence length, V vocabulary.
"""

import re

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
from checkpointing import inspection
from common.errors import UserError

# End of a class's name -> head -> what its logits are called there, in ALBERT or BERT.
THEIR_LOGITS = {
    "Model": {},
    "ForPreTraining": {
        "masked_lm": ("prediction_logits",),
        "sentence_order": ("sop_logits", "seq_relationship_logits"),
    },
    "ForMaskedLM": {"masked_lm": ("logits",)},
    "ForSequenceClassification": {"classifier": ("logits",)},
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


def fixed_inputs(config, batch_size=3, length=24):
    """Return input_ids, input_mask and segment_ids, int32 [3, S], the same ones each time."""
    rng = np.random.RandomState(0)
    shape = (batch_size, min(length, config.max_position_embeddings))
    columns = np.arange(shape[1])
    lengths = np.array([shape[1], max(shape[1] * 2 // 3, 1), max(shape[1] // 3, 1)])[:, np.newaxis]
    mask = (columns < lengths).astype(np.int32)
    segments = ((columns >= lengths // 2) & (columns < lengths)) * (config.type_vocab_size > 1)
    return rng.randint(0, config.vocab_size, shape).astype(np.int32), mask, segments.astype("int32")


def our_logits(config, arrays, inputs):
    """Return a dict of what the model of some weights computes, by head.

    Args:
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to array.
        inputs: input_ids, input_mask and segment_ids, int32 [B, S].
    """
    heads = inspection.find_heads(arrays)
    with tf.Graph().as_default():
        model = modeling.AlbertModel(config, False, *map(tf.constant, inputs), scope="bert")
        found = {"sequence_output": model.sequence_output}
        if "masked_lm" in heads:
            with tf.variable_scope("cls/predictions"):
                hidden = tf.reshape(model.sequence_output, [-1, config.hidden_size])
                found["masked_lm"] = modeling.masked_lm_logits(model, hidden)  # [B*S, V]
        if "sentence_order" in heads:
            labels = tf.zeros([len(inputs[0])], tf.int32)
            found["sentence_order"] = modeling.sentence_order_head(model, labels).logits
        if "classifier" in heads:
            number = len(arrays["output_weights"])
            found["classifier"] = modeling.classification_head(model, number).logits
        fed = {tf.placeholder(tf.float32, x.shape): x for x in tf.trainable_variables()}
        start = [tf.assign(variable, place) for place, variable in fed.items()]
        with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
            # What only fills masks has no pooler, and none of these read it.
            empty = {x.op.name: np.zeros(x.shape) for x in fed.values() if "/pooler/" in x.op.name}
            filled = dict(empty, **arrays)
            session.run(start, {place: filled[x.op.name] for place, x in fed.items()})
            return session.run(found)


def their_logits(folder, class_name, inputs):
    """Return the same of the model of a folder of Hugging Face; None where it is not installed.

    Args:
        folder: str.
        class_name: str, of the model there.
        inputs: input_ids, input_mask and segment_ids, int32 [B, S].

    Raises:
        UserError: if that model has parameters which the folder has not, or the other way round.
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
        # What fills masks has no pooler today, but had one once.
        odd = [name for name in sorted(report[problem]) if "pooler" not in name]
        if odd:
            raise UserError("{}: {}: {}".format(folder, problem, ", ".join(map(str, odd[:3]))))
    ids, mask, segments = (torch.from_numpy(array.astype(np.int64)) for array in inputs)
    with torch.no_grad():
        found = model.float().eval()(
            input_ids=ids, attention_mask=mask, token_type_ids=segments, output_hidden_states=True
        )
    theirs = {"sequence_output": found.hidden_states[-1].numpy()}
    for head, names in THEIR_LOGITS[re.sub("^(Albert|Bert)", "", class_name)].items():
        logits = next(found[name] for name in names if name in found).numpy()
        theirs[head] = logits.reshape(-1, logits.shape[-1])
    return theirs
