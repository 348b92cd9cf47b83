"""Models in the format of TensorFlow Serving: signatures for ids and for raw text.

Dimension letters: B batch size, S length, M masked pieces of a text, k best pieces, V vocabulary.
"""

import functools
import os
import tempfile
from typing import Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
import tokenization
from checkpointing import inspection
from common import files
from serving import graph_tokenizer, model_outputs, samples, text_signatures


class Signature(NamedTuple):
    """A computation of a saved model: dicts of name to tensor."""

    inputs: Dict[str, tf.Tensor]
    outputs: Dict[str, tf.Tensor]


def write_saved_model(model, folder, options):
    """Write a model in the layout of TensorFlow Serving.

    Args:
        model: `predictor.Predictor`.
        folder: str, of the version; it must not exist yet.
        options: `export.Options`.
    """
    with tempfile.TemporaryDirectory() as assets, tf.Graph().as_default(), tf.Session() as session:
        vocabulary = _asset(assets, "vocab.txt", model.tokenizer.vocab)
        signatures = _build_signatures(model, vocabulary, options)
        if model.num_labels is not None:
            labels = _asset(assets, "labels.txt", model.task.labels)
            tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, tf.constant(labels))
        if not options.raw_text:  # GraphTokenizer makes it an asset
            tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, tf.constant(vocabulary))
        save(session, model, folder, signatures)


def save(session, model, folder, signatures):
    """Write the graph of a session with the weights of a model.

    Args:
        session: `tf.Session`.
        model: `predictor.Predictor`.
        folder: str.
        signatures: dict of name to `Signature`.
    """
    model.load_weights(session)
    define = tf.saved_model.predict_signature_def
    builder = tf.saved_model.Builder(folder)
    builder.add_meta_graph_and_variables(
        session,
        [tf.saved_model.SERVING],
        {name: define(*signature) for name, signature in signatures.items()},
        assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
        main_op=tf.tables_initializer(),
        strip_default_attrs=True,
    )
    builder.save()


def _asset(folder, name, lines):
    path = os.path.join(folder, name)
    files.write_text(path, "".join(line + "\n" for line in lines))
    return path


def _build_signatures(model, vocabulary, options):
    """Build the graphs of all signatures of a saved model, a dict of name to `Signature`.

    Every model has `embed`. A fine-tuned model has the computation of its kind of task, which is
    `classify` or one of `samples.FIELDS`; another model has `fill_mask` if its checkpoint has the
    head for masked pieces. Signatures whose names end in `_text` take text instead of
    ids. `serving_default` is a second name of one of the signatures.
    """
    computations = {"embed": _embed}
    default = samples.default_computation(model)
    if default == "embed":
        if "masked_lm" in inspection.find_heads(model.checkpoint.model_shapes()):
            computations["fill_mask"] = _fill_mask
    else:
        computations[default] = BUILDERS.get(default, _outputs_of_kind)
    signatures = {}
    for name, compute in computations.items():
        placeholders = model_outputs.placeholders(None if name == "embed" else model.kind)
        inputs = _checked_lengths(list(placeholders.values()), model.config)
        outputs = _for_any_batch(compute, model, inputs, options)
        signatures[name] = Signature(placeholders, outputs)
    signatures["serving_default"] = signatures[default]
    if options.raw_text:
        tokenizer = graph_tokenizer.GraphTokenizer(model.tokenizer, vocabulary)
        for name, compute in computations.items():
            compute_ids = functools.partial(_for_any_batch, compute, model, options=options)
            signatures[name + "_text"] = Signature(
                *text_signatures.build(model, name, tokenizer, compute_ids)
            )
    return signatures


def _for_any_batch(compute, model, inputs, options):
    """Return the outputs of a computation, even for a batch without texts.

    TensorFlow's batched matrix product fails for an empty batch, so a row is added to it.
    """
    is_empty = tf.cast(tf.equal(tf.shape(inputs[0]), 0), tf.int32)  # of rows, columns, ...
    lacking = tf.stack([tf.zeros_like(is_empty), is_empty * is_empty[0]], axis=1)  # [rank, 2]
    outputs = compute(model, [tf.pad(tensor, lacking) for tensor in inputs], options)
    batch_size = tf.shape(inputs[0])[0]
    return {name: tensor[:batch_size] for name, tensor in outputs.items()}


def _checked_lengths(inputs, config):
    """Return inputs whose use fails if they are longer than the position table."""
    longest = config.max_position_embeddings
    message = "more than the {} pieces of the model's max_position_embeddings".format(longest)
    check = tf.debugging.assert_less_equal(tf.shape(inputs[0])[-1], longest, message=message)
    with tf.control_dependencies([check]):
        return [tf.identity(tensor) for tensor in inputs]


def _embed(model, inputs, _):
    outputs = model_outputs.build_vectors(model.config, inputs)
    return {name: outputs[name] for name in model.poolings}


def _classify(model, inputs, _):
    labels = tf.constant(model.task.labels)
    outputs = model_outputs.build_vectors(model.config, inputs, model.num_labels)
    probabilities = outputs["probabilities"]  # [B, labels]
    return {
        "probabilities": probabilities,
        "labels": tf.tile(labels[tf.newaxis], [tf.shape(probabilities)[0], 1]),
        "label": tf.gather(labels, tf.argmax(probabilities, axis=1)),
    }


def _choose(model, inputs, _):
    """Return `probabilities` [B, C], 0 for missing choices, and the best one's `number` [B]."""
    inputs = dict(zip(model_outputs.INPUTS, inputs))
    probabilities = model_outputs.choice_probabilities(model, inputs)
    return {
        "probabilities": probabilities,
        "number": tf.argmax(probabilities, axis=1, output_type=tf.int32),
    }


def _outputs_of_kind(model, inputs, _):
    """Return the scores of pieces, float32 [B, S, ...], of a model that finds parts of texts."""
    inputs = dict(zip(model_outputs.INPUTS, inputs))
    return model_outputs.build(model.kind, model.config, model.task, model.settings, inputs)


BUILDERS = {"classify": _classify, "choose": _choose}


def _fill_mask(model, inputs, options):
    """Return `pieces`, `ids` and `probabilities` [B, M, k].

    The values are "", 0 and 0.0 at the end of a text with fewer than M masks.
    """
    is_mask = tf.equal(inputs[0], model.tokenizer.vocab[tokenization.MASK])  # [B, S]
    columns = tf.zeros_like(inputs[0]) + tf.range(tf.shape(inputs[0])[1])
    places = tf.ragged.boolean_mask(columns, is_mask)
    is_there = tf.sequence_mask(places.row_lengths())[:, :, tf.newaxis]  # [B, M, 1]
    places = places.to_tensor()  # [B, M]
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        encoder = modeling.AlbertModel(model.config, False, *inputs, scope="bert")
        with tf.variable_scope("cls/predictions"):
            logits = modeling.masked_lm_logits(encoder, encoder.outputs_at(places))  # [B*M, V]
    number = min(options.top_k, model.config.vocab_size)
    best, ids = tf.nn.top_k(tf.nn.softmax(logits), number)  # [B*M, k]
    shape = tf.concat([tf.shape(places), [number]], axis=0)
    names = list(map(model.name_of, range(model.config.vocab_size)))
    ids = tf.reshape(ids, shape) * tf.cast(is_there, tf.int32)
    pieces = tf.gather(tf.constant(names), ids)
    is_there = tf.broadcast_to(is_there, shape)
    return {
        "probabilities": tf.reshape(best, shape) * tf.cast(is_there, tf.float32),
        "ids": ids,
        "pieces": tf.where(is_there, pieces, tf.fill(shape, "")),
    }


def load_saved_model(folder):
    """Load a saved model, from its folder alone.

    Returns:
        (session, signatures): a `tf.Session`; and a dict of a signature's name to its function. The
        function turns a dict of inputs, name to array, into such a dict of outputs.
    """
    graph = tf.Graph()
    with graph.as_default():
        session = tf.Session()
        loaded = tf.saved_model.load(session, [tf.saved_model.SERVING], folder)

    def function(signature):
        outputs = {name: info.name for name, info in signature.outputs.items()}
        return lambda feeds: session.run(
            outputs, {signature.inputs[name].name: value for name, value in feeds.items()}
        )

    return session, {
        name: function(signature)
        for name, signature in loaded.signature_def.items()
        if not name.startswith("__")  # the initializer of tables
    }


def saved_model_differences(model, folder):
    """Return the largest differences of all outputs of a saved model from the predictor's."""
    largest = {}
    session, signatures = load_saved_model(folder)
    with session:
        for name, function in sorted(signatures.items()):
            by_output = _differences(model, name, function)
            largest.update(("{} {}".format(name, key), value) for key, value in by_output.items())
    return largest


def _differences(model, name, function):
    """Return the largest difference of each output of a signature from the predictor's."""
    computation = name.replace("_text", "")
    if computation == "serving_default":
        computation = samples.default_computation(model)
    if computation == "fill_mask":
        return {"probabilities": _masked_difference(model, name, function)}
    rows = samples.samples(model, computation)
    if not name.endswith("_text"):
        return samples.differences(
            model, computation, function(samples.id_feeds(model, computation, rows)), rows
        )
    finds_parts = computation in text_signatures.FINDS_PARTS
    compare = text_signatures.differences if finds_parts else samples.differences
    return compare(model, computation, function(samples.text_feeds(model, computation, rows)), rows)


def _masked_difference(model, name, function):
    """Return the largest difference of the best pieces' probabilities from the predictor's."""
    feeds = model.masked_batch(samples.MASKED_SAMPLES)
    wanted = model.masked_probabilities(feeds)  # [all masks, V]
    if name.endswith("_text"):
        feeds = {"text": [text.encode("utf-8") for text in samples.MASKED_SAMPLES]}
    outputs = function(feeds)
    is_there = outputs["probabilities"][:, :, 0] > 0  # [B, M], rows as in `wanted`
    if np.sum(is_there) != len(wanted):
        return np.inf
    best = np.take_along_axis(wanted, outputs["ids"][is_there], axis=1)
    return float(np.abs(best - outputs["probabilities"][is_there]).max())
