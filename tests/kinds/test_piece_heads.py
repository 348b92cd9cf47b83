"""A conditional random field against the sum over all sequences."""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from kinds import piece_heads


def log_likelihood(scores, transitions, label_ids, is_label):
    with tf.Graph().as_default(), tf.Session() as session:
        chains = piece_heads.Chains(tf.constant(label_ids, tf.int32), tf.constant(is_label))
        values = (tf.constant(scores, tf.float32), tf.constant(transitions, tf.float32))
        found = piece_heads.chain_log_likelihood(*values, chains)
        gradients = tf.gradients(found, values)
        return session.run([found, gradients])


def by_definition(scores, transitions, label_ids):
    """Return the log-likelihood of one sequence, from the scores of all sequences."""

    def value(sequence):
        steps = sum(transitions[i, j] for i, j in zip(sequence, sequence[1:]))
        return steps + sum(scores[place, i] for place, i in enumerate(sequence))

    every = itertools.product(range(scores.shape[1]), repeat=len(label_ids))
    return value(label_ids) - np.log(sum(np.exp(value(sequence)) for sequence in every))


def test_chains_anywhere_in_a_row_equal_their_definition():
    rng = np.random.RandomState(0)
    spans = [(0, 5), (1, 4), (2, 3), (3, 5), (2, 2)]
    scores, transitions = rng.normal(size=(5, 5, 3)), rng.normal(size=(3, 3))
    label_ids = rng.randint(3, size=(5, 5))
    is_label = np.array([[begin <= i < end for i in range(5)] for begin, end in spans])
    found, (score_gradients, _) = log_likelihood(scores, transitions, label_ids, is_label)
    for i, (begin, end) in enumerate(spans):
        expected = by_definition(scores[i, begin:end], transitions, label_ids[i, begin:end])
        assert found[i] == pytest.approx(expected if end > begin else 0.0, abs=1e-5)
    assert np.isfinite(score_gradients).all() and not score_gradients[~is_label].any()


def test_the_likelihoods_of_all_sequences_sum_to_one():
    rng = np.random.RandomState(1)
    every = np.array(list(itertools.product(range(3), repeat=3)))
    scores = np.tile(rng.normal(size=(1, 3, 3)), [len(every), 1, 1])
    is_label = np.ones(every.shape, bool)
    found, _ = log_likelihood(scores, rng.normal(size=(3, 3)), every, is_label)
    assert np.exp(found).sum() == pytest.approx(1.0, rel=1e-5)
