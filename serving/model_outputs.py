"""The outputs of a model: outputs of a kind's head, vectors of texts, and masked pieces.

Dimension letters: b rows of a batch, C sequences of a row, S longest of a batch, B sequences, H
hidden size, M masked pieces of a batch, V vocabulary.
"""

import types

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
from finetuning.model import make_forward
from finetuning.row_outputs import in_order

INPUTS = ("input_ids", "input_mask", "segment_ids")


def settings_of(kind, max_seq_length, stored):
    """Return the settings of a kind's methods for a trained model.

    Args:
        kind: `kind.Kind`.
        max_seq_length: int.
        stored: dict, `model_files.Description.settings`.

    Returns:
        Object with the attributes `encoding_flags`, `head_flags` and `prediction_flags`.
    """
    names = kind.encoding_flags + kind.head_flags + kind.prediction_flags
    values = dict.fromkeys(names)
    values.update(stored, classifier_dropout_prob=0.0, max_seq_length=max_seq_length)
    return types.SimpleNamespace(**values)


def placeholders(kind=None):
    """Return a dict of `INPUTS` to placeholders, int32 [b, S], or [b, C, S] with choices."""
    has_choices = kind and kind.num_sequences(()) is not None
    shape = [None] * (3 if has_choices else 2)
    return {name: tf.placeholder(tf.int32, shape, name) for name in INPUTS}


def build(kind, config, task, settings, inputs):
    """Build the head of a kind; a second call in the same graph uses the same weights.

    Args:
        kind: `kind.Kind`.
        config: `modeling.AlbertConfig`.
        task, settings: as in the methods of `kind.Kind`.
        inputs: dict of `INPUTS` to int32 tensors.

    Returns:
        dict of name to tensor [b, ...].
    """
    features = dict(inputs, row_index=tf.range(tf.shape(inputs["input_ids"])[0]))
    forward = make_forward(kind, config, task, settings)
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        outputs = forward(features, tf.estimator.ModeKeys.PREDICT).predictions
    return {name: tensor for name, tensor in outputs.items() if name != "row_index"}


def choice_probabilities(model, inputs):
    """Return float32 [b, C], the probabilities of the choices of questions.

    Args:
        model: `predictor.Predictor` of a model that chooses.
        inputs: as in `build`.
    """
    outputs = build(model.kind, model.config, model.task, model.settings, inputs)
    return tf.nn.softmax(outputs["logits"])


def build_vectors(config, inputs, num_labels=None):
    """Build the vectors of texts; a second call in the same graph uses the same weights.

    Args:
        config: `modeling.AlbertConfig`.
        inputs: list of `input_ids`, `input_mask` and `segment_ids`, int32 [B, S].
        num_labels: int, or None for a model without classifier.

    Returns:
        dict of float32 tensors: `mean`, `cls` and `pooled` [B, H], and `probabilities` [B, labels]
        if there is a classifier.
    """
    no_positions = tf.zeros([tf.shape(inputs[0])[0], 0], tf.int32)  # none beside [CLS]
    weights = tf.expand_dims(tf.cast(inputs[1], tf.float32), 2)  # [B, S, 1]
    counts = tf.maximum(tf.reduce_sum(weights, 1), 1.0)  # [B, 1]; 1 for a row of padding alone
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        whole = modeling.AlbertModel(config, False, *inputs, scope="bert")
        first = modeling.AlbertModel(
            config, False, *inputs, output_positions=no_positions, scope="bert"
        )
        outputs = {
            "mean": tf.reduce_sum(whole.sequence_output * weights, 1) / counts,
            "cls": first.sequence_output[:, 0],
            "pooled": first.pooled_output,
        }
        if num_labels:
            head = modeling.classification_head(first, num_labels)
            outputs["probabilities"] = tf.nn.softmax(head.logits)
    return outputs


def build_masked(config, inputs, mask_id):
    """Return float32 [M, V], the probabilities at every [MASK] of a batch, row after row.

    Args:
        config, inputs: as in `build_vectors`.
        mask_id: int, the id of [MASK].
    """
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        model = modeling.AlbertModel(config, False, *inputs, scope="bert")
        hidden = tf.boolean_mask(model.sequence_output, tf.equal(inputs[0], mask_id))
        with tf.variable_scope("cls/predictions"):
            return tf.nn.softmax(modeling.masked_lm_logits(model, hidden))


def padded_rows(encoded, rows):
    """Return the feeds of some rows, padded to the longest of their sequences.

    Args:
        encoded: `encoding.Encoded`.
        rows: int [b].

    Returns:
        dict of `INPUTS` to int32 [b, S], or [b, C, S].
    """
    count = encoded.num_sequences or 1
    sequences = (np.asarray(rows)[:, np.newaxis] * count + np.arange(count)).ravel()
    begins = encoded.begins[sequences, np.newaxis]  # [b*C, 1]
    lengths = encoded.begins[sequences + 1, np.newaxis] - begins
    columns = np.arange(lengths.max())  # [S]
    mask = (columns < lengths).astype(np.int32)  # [b*C, S]
    places = np.minimum(begins + columns, len(encoded.ids) - 1)
    is_second = (columns >= encoded.lengths_a[sequences, np.newaxis]).astype(np.int32)
    feeds = dict(zip(INPUTS, (encoded.ids[places] * mask, mask, is_second * mask)))
    if encoded.num_sequences:
        feeds = {name: array.reshape(len(rows), count, -1) for name, array in feeds.items()}
    return feeds


def compute(encoded, function, batch_size, progress=None):
    """Compute the outputs of all rows in their order: dict of name to array [rows, ...].

    Args:
        encoded: `encoding.Encoded`.
        function: function of a dict of feeds that returns a dict of outputs of a batch.
        batch_size: int, sequences that are computed at a time.
        progress: function of (pieces computed, pieces in all), called after every batch.
    """
    count = encoded.num_sequences or 1
    lengths = np.diff(encoded.begins).reshape(-1, count)  # [rows, C]
    # The largest batch first: if memory does not suffice, the run fails at once.
    order = np.argsort(-lengths.max(axis=1), kind="stable")
    size, done, batches = max(1, batch_size // count), 0, []
    for begin in range(0, len(order), size):
        rows = order[begin : begin + size]
        batches.append(dict(function(padded_rows(encoded, rows)), row_index=rows))
        done += int(lengths[rows].sum())
        if progress:
            progress(done, int(encoded.begins[-1]))
    return in_order(batches, len(order))
