"""The outputs of a fine-tuned model for the examples of any kind of task.

Dimension letters: b rows of a batch, C sequences of a row, S longest of a batch.
"""

import types

import numpy as np
import tensorflow.compat.v1 as tf

from finetuning.model import make_forward
from finetuning.predictions import in_order

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


def placeholders(kind):
    """Return a dict of `INPUTS` to placeholders, int32 [b, S], or [b, C, S] with choices."""
    shape = [None, None] if kind.num_sequences(()) is None else [None, None, None]
    return {name: tf.placeholder(tf.int32, shape, name) for name in INPUTS}


def build(kind, config, task, settings, inputs):
    """Build the head of a kind; a second call in the same graph uses the same weights.

    Args:
        kind: `kind.Kind`.
        config: `modeling.AlbertConfig`.
        task, settings: as of the methods of `kind.Kind`.
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
        inputs: as of `build`.
    """
    outputs = build(model.kind, model.config, model.task, model.settings, inputs)
    return tf.nn.softmax(outputs["logits"])


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
