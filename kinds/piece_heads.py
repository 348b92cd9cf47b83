"""Heads that score every piece of a sequence.

B sequences, S pieces, H hidden size, L labels.
"""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

# Variables that are not trained, because these heads do not read the pooler's output.
UNTRAINED = "^bert/pooler/"


def piece_scores(model, num_outputs, scope, dropout_prob=0.0):
    """Return float32 [B, S, num_outputs], a linear layer on the last layer of the encoder.

    Args:
        model: `modeling.AlbertModel`.
        num_outputs: int.
        scope: str, holds `output_weights` [num_outputs, H] and `output_bias` [num_outputs].
        dropout_prob: float, dropout rate of the last layer; give 0 when predicting.
    """
    hidden_size = model.config.hidden_size
    with tf.variable_scope(scope):
        weights = tf.get_variable(
            "output_weights",
            [num_outputs, hidden_size],
            initializer=tf.truncated_normal_initializer(stddev=model.config.initializer_range),
        )
        bias = tf.get_variable("output_bias", [num_outputs], initializer=tf.zeros_initializer())
    pieces = model.get_sequence_output()  # [B, S, H]
    pieces = model.execution.layers.dropout(pieces, dropout_prob, model.dropout_seeds.classifier)
    scores = tf.matmul(
        tf.reshape(tf.cast(pieces, tf.float32), [-1, hidden_size]), weights, transpose_b=True
    )
    shape = tf.concat([tf.shape(pieces)[:2], [num_outputs]], axis=0)
    return tf.reshape(tf.nn.bias_add(scores, bias), shape)


class Chains(NamedTuple):
    """Sequences of labels for a conditional random field.

    The labels of a sequence are consecutive, and begin anywhere in its row.
    """

    label_ids: tf.Tensor  # int32 [B, S]
    is_label: tf.Tensor  # bool [B, S]


def chain_log_likelihood(scores, transitions, chains):
    """Return log p of the labels of a linear-chain conditional random field: float32 [B].

    The score of a sequence is the sum of the scores of its labels and of the transitions between
    neighbours; p is the exp of this score, divided by the sum of the exps of all sequences
    (Lafferty et al., 2001). For a sequence without labels, log p is 0.

    Args:
        scores: float32 [B, S, L].
        transitions: float32 [L, L], of label j directly after label i.
        chains: `Chains`.
    """
    is_label = tf.cast(chains.is_label, tf.float32)  # [B, S]
    is_both = is_label[:, 1:] * is_label[:, :-1]  # [B, S - 1]
    num_labels = scores.shape.as_list()[-1]
    chosen = tf.one_hot(chains.label_ids, num_labels)  # [B, S, L]
    value = tf.reduce_sum(scores * chosen * is_label[:, :, tf.newaxis], axis=[1, 2])
    pairs = tf.tensordot(chosen[:, :-1], transitions, axes=1)  # [B, S - 1, L]
    value += tf.reduce_sum(pairs * chosen[:, 1:] * is_both[:, :, tf.newaxis], axis=[1, 2])
    return value - _log_partition(scores, transitions, is_label)


def _log_partition(scores, transitions, is_label):
    """Return the log of the sum of exp over all sequences of labels: float32 [B]."""

    def step(before, place):
        """Return [B, L]: log of the sum over sequences that end with each label."""
        sums, has_begun = before
        own_scores, is_here = place  # [B, L], [B, 1]
        longer = tf.reduce_logsumexp(sums[:, :, tf.newaxis] + transitions, axis=1) + own_scores
        here = tf.where(tf.tile(has_begun > 0, [1, tf.shape(sums)[1]]), longer, own_scores)
        stays = tf.tile(is_here > 0, [1, tf.shape(sums)[1]])
        return tf.where(stays, here, sums), tf.maximum(has_begun, is_here)

    num_sequences = tf.shape(scores)[0]
    nothing = tf.zeros([num_sequences, scores.shape.as_list()[-1]])
    places = (tf.transpose(scores, [1, 0, 2]), tf.transpose(is_label)[:, :, tf.newaxis])
    sums, has_begun = tf.scan(step, places, (nothing, tf.zeros([num_sequences, 1])))
    is_chain = has_begun[-1][:, 0] > 0
    return tf.where(is_chain, tf.reduce_logsumexp(sums[-1], axis=1), tf.zeros([num_sequences]))


def masked_scores(scores, is_allowed):
    """Return scores with -1e9 in the place of scores that `is_allowed`, bool or int, forbids."""
    smallest = np.float32(-1e9)
    return tf.where(tf.cast(is_allowed, tf.bool), scores, smallest * tf.ones_like(scores))
