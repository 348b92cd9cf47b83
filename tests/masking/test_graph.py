"""Masks drawn in a graph against the readable specification."""

import compact_rows
import documents
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from masking import graph, reference, sentence_order
from masking.random_numbers import Draws
from pretraining_data import instances, rows
from tfrecords import compact

VOCABULARY = compact_rows.make_vocabulary(205)


def limits_of(config, vocab_size=205):
    return compact.Limits(config.max_seq_length, config.max_chunks_per_row, vocab_size)


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
        masked = reference.mask_row(row, config, vocabulary, draws)
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
            tables["next_sentence_weights"][i, number] = bool(row.splits[number])
        tables["masked_lm_positions"][i, : len(positions)] = positions
        tables["masked_lm_ids"][i, : len(positions)] = labels
        tables["masked_lm_weights"][i, : len(positions)] = 1
    if num_chunks == 1:
        tables["input_mask"] = tables.pop("chunk_ids")
        del tables["position_ids"], tables["chunk_starts"]
    return tables


def run_graph(rows, config, vocabulary, limits, seed, epochs, numbers, batch_size=None):
    with tf.Graph().as_default(), tf.Session() as session:
        masking = graph.Masking(config, vocabulary, limits, seed)
        records = tf.placeholder(tf.string, [None])
        epoch, number = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.int64, [None])
        features = masking.parse(records, epoch, number, batch_size or len(rows))
        data = [compact_rows.serialize(row, limits) for row in rows]
        return session.run(features, {records: data, epoch: epochs, number: numbers})


CONFIGS = {
    "default": {},
    "one chunk": {"max_chunks_per_row": 1},
    "single words": {"gram_probabilities": (1.0,)},
    "long grams": {"gram_probabilities": reference.gram_probabilities(6, "longer")},
    "many masks": {"masked_lm_prob": 0.5, "max_predictions_per_seq": 20},
    "all masked": {"masked_lm_prob": 1.0, "max_predictions_per_seq": 64},
    "spans": {"replace_spans": True},
    "long": {"max_seq_length": 300, "max_chunks_per_row": 9, "max_predictions_per_seq": 40},
}


@pytest.mark.parametrize(
    "name, vocab_size", [(name, 205) for name in CONFIGS] + [("default", 40000)]
)
def test_masks_are_those_of_the_specification(name, vocab_size):
    config = compact_rows.make_config(**CONFIGS[name])
    rng = np.random.RandomState(1)
    limits = limits_of(config, vocab_size)
    rows = [compact_rows.random_row(rng, limits, 205) for _ in range(60)]
    epochs, numbers = rng.randint(0, 5, len(rows)), rng.randint(0, 1 << 40, len(rows))
    given = run_graph(rows, config, VOCABULARY, limits, -7, epochs, numbers)
    expected = features_of(rows, config, VOCABULARY, -7, epochs, numbers)
    assert set(given) == set(expected)
    for feature, values in expected.items():
        np.testing.assert_array_equal(given[feature], values, feature)


@pytest.fixture(scope="module")
def masked():
    """The features of 2,000 rows of one long chunk and several short ones, in two epochs."""
    config = compact_rows.make_config(max_seq_length=128, max_predictions_per_seq=19)
    rng = np.random.RandomState(2)
    limits = limits_of(config)
    rows = [compact_rows.random_row(rng, limits) for _ in range(3000)]
    rows = [row for row in rows if row.is_word.any()]  # a row of one long word has nothing to mask
    numbers = np.arange(len(rows))
    args = rows, config, VOCABULARY, limits, 5
    epochs = [np.full(len(rows), epoch) for epoch in (0, 1)]
    return rows, [run_graph(*args, epoch, numbers) for epoch in epochs + epochs[:1]]


def test_ratios(masked):
    rows, (features, *_) = masked
    is_masked = features["masked_lm_weights"] > 0
    positions, labels = features["masked_lm_positions"], features["masked_lm_ids"]
    given = np.take_along_axis(features["input_ids"], positions, axis=1)[is_masked]
    labels = labels[is_masked]
    assert abs(np.mean(given == VOCABULARY.mask_id) - 0.8) < 0.01
    assert abs(np.mean(given == labels) - 0.1) < 0.01
    assert (
        abs(np.mean(features["next_sentence_labels"][features["next_sentence_weights"] > 0]) - 0.5)
        < 0.03
    )
    num_masked = is_masked.sum(axis=1)
    sizes = [row.num_positions for row in rows]
    assert num_masked.max() <= 19
    # A budget is rounded down, which costs half a piece of every chunk.
    assert 0.135 < num_masked.sum() / sum(sizes) < 0.15


def test_an_epoch_has_its_own_masks_and_a_repetition_the_same(masked):
    _, (first, second, again) = masked
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    for name in ("masked_lm_positions", "next_sentence_labels", "segment_ids"):
        differs = np.any(first[name] != second[name], axis=1)
        assert differs.mean() > 0.4, name
    # The text is the same after the swaps and the masks are undone.
    for name in ("chunk_ids", "position_ids", "chunk_starts"):
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("number", [0, 3])
def test_the_last_batch_is_filled_up(number):
    config = compact_rows.make_config()
    rng = np.random.RandomState(3)
    limits = limits_of(config)
    rows = [compact_rows.random_row(rng, limits) for _ in range(number)]
    args = rows, config, VOCABULARY, limits, 5, np.zeros(number), np.arange(number)
    filled, exact = run_graph(*args, batch_size=5), run_graph(*args, batch_size=max(number, 1))
    for name, values in filled.items():
        assert len(values) == 5 and not values[number:].any()
        np.testing.assert_array_equal(values[:number], exact[name][:number])


def test_shapes_are_static_and_no_python_is_called():
    config = compact_rows.make_config()
    with tf.Graph().as_default() as tf_graph:
        masking = graph.Masking(config, VOCABULARY, limits_of(config), 1)
        records = tf.data.Dataset.from_tensors((tf.fill([4], ""), *[tf.zeros([4], tf.int64)] * 2))
        features = tf.data.make_one_shot_iterator(
            records.map(lambda *batch: masking.parse(batch[0], batch[1], batch[2], 4))
        ).get_next()
        assert all(value.shape.is_fully_defined() for value in features.values())
        assert {value.dtype for value in features.values()} == {tf.int32, tf.float32}
        functions = tf_graph.as_graph_def().library.function
        kinds = {node.op for function in functions for node in function.node_def}
        assert "TopKV2" in kinds and not any("PyFunc" in kind for kind in kinds)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(documents.documents(), min_size=1, max_size=6),
    documents.configs,
    st.integers(1, 6),
    st.integers(-(2**63), 2**63 - 1),
)
def test_any_documents(texts, config, max_chunks, seed):
    """Rows and masks of documents equal the specification, and no piece is lost."""
    config = config._replace(max_chunks_per_row=max_chunks)
    vocabulary = reference.make_vocabulary(documents.VOCAB)
    maker = rows.RowMaker(None, None, vocabulary, config, None, 1, 1)
    sizes = [len(text.pieces) for text in texts]
    ends = np.cumsum(sizes)
    text = sentence_order.Text(
        np.concatenate([text.pieces for text in texts]),
        np.concatenate([text.breaks[:-1] for text in texts] + [[sentence_order.SENTENCE]]),
        ends - sizes,
        ends,
        np.arange(len(texts)),
    )
    tokenized = instances.Tokenized(0, text, None, None)
    records = [record for batch in maker.make_records(tokenized) for record in batch.records]
    parsed = [compact.parse(record, maker.limits) for record in records]
    assert sorted(np.concatenate([row.pieces for row in parsed])) == sorted(text.pieces)
    epochs, numbers = np.arange(len(parsed)) % 2, np.arange(len(parsed))
    args = config, vocabulary
    given = run_graph(parsed, *args, maker.limits, seed, epochs, numbers)
    for name, values in features_of(parsed, *args, seed, epochs, numbers).items():
        np.testing.assert_array_equal(given[name], values, name)
