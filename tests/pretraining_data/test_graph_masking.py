"""Masks drawn in a graph against the readable specification."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from pretraining_data import graph_masking, masking_reference
from pretraining_data.draws import Draws
from tfrecords import compact

VOCABULARY = masking_reference.make_vocabulary(
    {
        piece: i
        for i, piece in enumerate(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + ["w%d" % i for i in range(200)]
        )
    }
)


def make_config(**changes):
    config = masking_reference.MaskingConfig(
        max_seq_length=64,
        max_predictions_per_seq=10,
        masked_lm_prob=0.15,
        short_seq_prob=0.1,
        gram_probabilities=masking_reference.gram_probabilities(3),
        max_chunks_per_row=4,
    )
    return config._replace(**changes)


def limits_of(config, vocab_size=205):
    return compact.Limits(config.max_seq_length, config.max_chunks_per_row, vocab_size)


def random_row(rng, config, vocab_size=205):
    """Return a `compact.Row` with random chunks, words and splits."""
    left, lengths = config.max_seq_length, []
    for _ in range(rng.integers(1, config.max_chunks_per_row + 1)):
        if left >= 5:
            lengths.append(int(rng.integers(2, left - 2)))
            left -= lengths[-1] + 3
    splits = []
    for length in lengths:
        places = np.flatnonzero(rng.random(length - 1) < rng.choice([0, 0.1, 0.5])) + 1
        splits.append(places.tolist())
    size = sum(lengths)
    is_word = rng.random(size) < rng.choice([0, 0.5, 1])
    return compact.Row(lengths, splits, rng.integers(5, vocab_size, size), is_word)


def serialize(row, limits):
    bounds = np.cumsum(row.lengths)[:-1]
    pieces = compact.encode_pieces(row.pieces, row.is_word, limits.has_word_bits)
    return compact.serialize(
        row.lengths,
        [np.array(splits, np.uint16) for splits in row.splits],
        np.split(pieces, bounds),
        np.split(row.is_word, bounds) if limits.has_word_bits else None,
    )


def features_of(rows, config, vocabulary, seed, epochs, numbers):
    """Return the features of rows by the specification, a dict of lists of arrays."""
    length, most, num_chunks = config[0], config.max_predictions_per_seq, config.max_chunks_per_row
    shapes = {"input_ids": length, "segment_ids": length, "chunk_ids": length}
    shapes.update(position_ids=length, masked_lm_positions=most, masked_lm_ids=most)
    shapes.update(masked_lm_weights=most, chunk_starts=num_chunks)
    shapes.update(next_sentence_labels=num_chunks, next_sentence_weights=num_chunks)
    tables = {name: np.zeros([len(rows), size], int) for name, size in shapes.items()}
    for i, row in enumerate(rows):
        draws = Draws(seed, epochs[i], numbers[i])
        masked = masking_reference.mask_row(row, config, vocabulary, draws)
        positions, labels = [], []
        for number, (instance, start) in enumerate(zip(masked.instances, masked.starts)):
            span = slice(start, start + len(instance.input_ids))
            tables["input_ids"][i, span] = instance.input_ids
            tables["segment_ids"][i, span] = instance.segment_ids
            tables["chunk_ids"][i, span] = number + 1
            tables["position_ids"][i, span] = np.arange(len(instance.input_ids))
            positions += [start + position for position in instance.masked_lm_positions]
            labels += instance.masked_lm_ids
            tables["chunk_starts"][i, number] = start
            tables["next_sentence_labels"][i, number] = instance.swapped
            tables["next_sentence_weights"][i, number] = 1
        tables["masked_lm_positions"][i, : len(positions)] = positions
        tables["masked_lm_ids"][i, : len(positions)] = labels
        tables["masked_lm_weights"][i, : len(positions)] = 1
    if num_chunks == 1:
        tables["input_mask"] = tables.pop("chunk_ids")
        del tables["position_ids"], tables["chunk_starts"]
    return tables


def run_graph(rows, config, vocabulary, limits, seed, epochs, numbers, batch_size=None):
    with tf.Graph().as_default(), tf.Session() as session:
        masking = graph_masking.Masking(config, vocabulary, limits, seed)
        records = tf.placeholder(tf.string, [None])
        epoch, number = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.int64, [None])
        features = masking.parse(records, epoch, number, batch_size or len(rows))
        data = [serialize(row, limits) for row in rows]
        return session.run(features, {records: data, epoch: epochs, number: numbers})


CONFIGS = {
    "default": {},
    "one chunk": {"max_chunks_per_row": 1},
    "single words": {"gram_probabilities": (1.0,)},
    "long grams": {"gram_probabilities": masking_reference.gram_probabilities(6, "longer")},
    "many masks": {"masked_lm_prob": 0.5, "max_predictions_per_seq": 20},
    "all masked": {"masked_lm_prob": 1.0, "max_predictions_per_seq": 64},
    "spans": {"replace_spans": True},
    "long": {"max_seq_length": 300, "max_chunks_per_row": 9, "max_predictions_per_seq": 40},
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("vocab_size", [205, 40000])
def test_masks_are_those_of_the_specification(name, vocab_size):
    config = make_config(**CONFIGS[name])
    rng = np.random.default_rng(1)
    rows = [random_row(rng, config, 205) for _ in range(60)]
    limits = limits_of(config, vocab_size)
    epochs, numbers = rng.integers(0, 5, len(rows)), rng.integers(0, 1 << 40, len(rows))
    given = run_graph(rows, config, VOCABULARY, limits, -7, epochs, numbers)
    expected = features_of(rows, config, VOCABULARY, -7, epochs, numbers)
    assert set(given) == set(expected)
    for feature, values in expected.items():
        np.testing.assert_array_equal(given[feature], values, feature)
