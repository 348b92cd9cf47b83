"""Batches of fine-tuning: every example once, the same ones when resumed, however padded."""

import collections
import functools

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import read_batches
from hypothesis import given, settings
from hypothesis import strategies as st

import modeling
from common.errors import UserError
from finetuning import batching
from finetuning_data import encoding
from training import model_fn

CLS, SEP, FIRST_PIECE, VOCABULARY = 2, 3, 5, 60
COLUMNS = (encoding.LABEL_IDS,)


def make_features(lengths, seed=0):
    """Return encoded pairs of the given lengths in pieces, each at least 4."""
    draws = np.random.RandomState(seed)
    lengths = np.array(lengths)
    begins = np.append(0, np.cumsum(lengths))
    ids = draws.randint(FIRST_PIECE, VOCABULARY, begins[-1]).astype(np.int32)
    lengths_a = (lengths - 2 - draws.randint(0, lengths - 3)).astype(np.int32)
    ids[begins[:-1]] = CLS
    ids[begins[:-1] + lengths_a - 1] = ids[begins[1:] - 1] = SEP
    labels = draws.randint(2, size=len(lengths)).astype(np.int32)
    return encoding.Encoded(ids, begins, lengths_a, {"label_ids": labels}, lengths.astype(np.int32))


def write(folder, made):
    path = str(folder / "train.features")
    encoding.write(path, made, COLUMNS)
    return path


def padded(made, index, length):
    """Return the features that an example must have in a batch."""
    ids = made.ids[made.begins[index] : made.begins[index + 1]].tolist()
    length_a = made.lengths_a[index]
    zeros = [0] * (length - len(ids))
    return {
        "input_ids": ids + zeros,
        "input_mask": [1] * len(ids) + zeros,
        "segment_ids": [0] * length_a + [1] * (len(ids) - length_a) + zeros,
        "label_ids": made.columns["label_ids"][index],
    }


def assert_padded_as_specified(made, batch):
    rows, length = batch["input_ids"].shape
    for row in range(rows):
        index = batch["row_index"][row]
        assert batch["is_real_row"][row] == (index >= 0)
        found = {name: batch[name][row].tolist() for name in padded(made, 0, 1)}
        if index >= 0:
            assert found == padded(made, index, length)
        else:
            assert not any(np.any(value) for value in found.values())


class OrderReader:
    """Reads the order of training with one graph, since building a graph is slow."""

    def __init__(self):
        with tf.Graph().as_default():
            lengths = tf.placeholder(tf.int64, [None])
            self._values = [lengths] + [tf.placeholder(tf.int64, []) for _ in range(4)]
            *values, count = self._values
            order = batching.training_order(*values).batch(count)
            self._iterator = tf.data.make_initializable_iterator(order)
            self._next = self._iterator.get_next()
            self._session = tf.Session()

    def __call__(self, *values):
        self._session.run(self._iterator.initializer, dict(zip(self._values, values)))
        return self._session.run(self._next).tolist()


@functools.lru_cache(maxsize=None)
def reader_of(pool_batches):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "POOL_BATCHES", pool_batches)
        return OrderReader()


def order_of(lengths, seed, batch_size, first, count, pool_batches=batching.POOL_BATCHES):
    """Return `count` examples of the training order, from position `first` on."""
    return reader_of(pool_batches)(lengths, seed, batch_size, first, count)


LENGTHS = st.lists(st.integers(4, 40), min_size=1, max_size=40)
BATCH_SIZES = st.sampled_from([1, 2, 3, 4, 8, 64])


@settings(max_examples=25)
@given(LENGTHS, BATCH_SIZES, st.integers(0, 9), st.integers(1, 4))
def test_every_epoch_shows_every_example_once(lengths, batch_size, seed, pool):
    n = len(lengths)
    order = order_of(lengths, seed, batch_size, 0, 4 * n, pool)
    for epoch in range(4):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))


@settings(max_examples=25)
@given(LENGTHS, BATCH_SIZES, st.integers(0, 10))
def test_a_resumed_order_is_the_uninterrupted_one(lengths, batch_size, step):
    whole = order_of(lengths, 1, batch_size, 0, (step + 3) * batch_size)
    resumed = order_of(lengths, 1, batch_size, step * batch_size, 3 * batch_size)
    assert resumed == whole[step * batch_size :]


def test_a_far_step_is_reached_at_once():
    first = order_of([4, 5, 6], 1, 2, 10**12, 6)
    assert sorted(first[2:5]) == [0, 1, 2]  # 3 examples an epoch, and 10**12 % 3 == 1


def test_pools_are_sorted_and_batches_permuted():
    lengths = np.random.RandomState(0).permutation(64) + 4
    batches = np.reshape(order_of(lengths, 1, 4, 0, 64, 4), [16, 4])
    of_batches = lengths[batches]
    assert (np.diff(of_batches, axis=1) > 0).all()
    spans = of_batches[:, -1] - of_batches[:, 0]
    assert spans.mean() < 16  # there are 64 lengths; a batch is a part of a sorted pool of 16
    assert np.any(np.diff(of_batches[:, 0]) < 0)
    other = np.reshape(order_of(lengths, 2, 4, 0, 64, 4), [16, 4])
    assert set(map(tuple, batches)) != set(map(tuple, other))
    next_epoch = np.reshape(order_of(lengths, 1, 4, 64, 64, 4), [16, 4])
    assert set(map(tuple, batches)) != set(map(tuple, next_epoch))


def test_batches_begin_where_the_last_one_of_the_epoch_before_ends():
    """In every epoch only a batch shared by two epochs is not sorted by length."""
    lengths = np.random.RandomState(0).permutation(21) + 4
    batches = np.reshape(order_of(lengths, 1, 4, 0, 84), [21, 4])
    shared = [b for b in range(21) if b * 4 // 21 != (b * 4 + 3) // 21]
    assert shared == [5, 10, 15]
    is_sorted = (np.diff(lengths[batches], axis=1) > 0).all(axis=1)
    assert set(np.flatnonzero(~is_sorted)) <= set(shared)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dynamic_padding", [True, False])
def test_shapes_are_static_but_for_the_length(tmp_path, training, dynamic_padding):
    input_fn = batching.make_input_fn(
        write(tmp_path, make_features([4] * 5)),
        COLUMNS,
        30,
        training,
        dynamic_padding=dynamic_padding,
    )
    with tf.Graph().as_default():
        shapes = tf.data.get_output_shapes(input_fn({"batch_size": 4}))
    shapes = {name: shape.as_list() for name, shape in shapes.items()}
    for name in ("input_ids", "input_mask", "segment_ids"):
        assert shapes.pop(name) == [4, None if dynamic_padding else 30]
    assert list(shapes.values()) == [[4]] * 3


def test_an_epoch_worked_by_hand(monkeypatch):
    """The example in the docstring of the module, with a permutation that is not random."""
    monkeypatch.setattr(batching, "POOL_BATCHES", 3)
    monkeypatch.setattr(
        batching,
        "permutation",
        lambda size, seed, number: tf.cond(
            tf.less(number, 0),
            lambda: tf.constant([5, 0, 3, 2, 1, 4], tf.int64),
            lambda: tf.range(size),
        ),
    )
    lengths = np.array([5, 2, 9, 4, 8, 3, 6, 1, 7, 2, 4, 3])
    with tf.Graph().as_default(), tf.Session() as session:
        order = batching.epoch_order(tf.constant(lengths), 1, 2, tf.constant(0, tf.int64))
        order = session.run(order)
    assert lengths[order].tolist() == [6, 7, 2, 3, 1, 2, 8, 9, 4, 5, 3, 4]


@pytest.mark.parametrize("dynamic_padding", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_batches_are_padded_as_specified(tmp_path, training, dynamic_padding):
    made = make_features(np.random.RandomState(1).randint(4, 31, 21))
    input_fn = batching.make_input_fn(
        write(tmp_path, made), COLUMNS, 30, training, batch_size=4, dynamic_padding=dynamic_padding
    )
    batches = read_batches(input_fn, None, 12 if training else None)
    for batch in batches:
        assert_padded_as_specified(made, batch)
        longest = batch["input_mask"].sum(axis=1).max()
        fitting = min(-(-longest // 2) * 2, 30)
        assert batch["input_ids"].shape == (4, fitting if dynamic_padding else 30)
        kinds = {name: value.dtype for name, value in batch.items()}
        assert kinds.pop("is_real_row") == np.float32
        assert set(kinds.values()) == {np.dtype(np.int32)} and len(kinds) == 5
    seen = collections.Counter(np.concatenate([batch["row_index"] for batch in batches]))
    if training:
        assert set(seen) == set(range(21)) and -1 not in seen
    else:
        assert seen == collections.Counter([*range(21), -1, -1, -1])


def test_evaluation_begins_with_the_longest(tmp_path):
    path = write(tmp_path, make_features([5, 9, 7, 9, 4]))
    [first, second] = read_batches(
        batching.make_input_fn(path, COLUMNS, 16, False), {"batch_size": 3}
    )
    assert first["row_index"].tolist() == [1, 3, 2]
    assert second["row_index"].tolist() == [0, 4, -1]
    assert second["is_real_row"].tolist() == [1, 1, 0]


@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_change_the_composition_of_batches(tmp_path, training):
    path = write(tmp_path, make_features(np.random.RandomState(1).randint(4, 31, 50)))
    dynamic, full = (
        read_batches(
            batching.make_input_fn(path, COLUMNS, 32, training, dynamic_padding=way),
            {"batch_size": 4},
            9,
        )
        for way in (True, False)
    )
    for one, other in zip(dynamic, full):
        assert one["row_index"].tolist() == other["row_index"].tolist()
    assert len({batch["input_ids"].shape for batch in dynamic}) > 1


def test_first_step_is_asked_for_whenever_the_input_is_built(tmp_path):
    step = [0]
    input_fn = batching.make_input_fn(
        write(tmp_path, make_features(range(4, 25))), COLUMNS, 32, True, first_step=lambda: step[0]
    )
    whole = read_batches(input_fn, {"batch_size": 4}, 12)
    for step[0] in (1, 5, 9):
        for found, expected in zip(read_batches(input_fn, {"batch_size": 4}, 3), whole[step[0] :]):
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])


GLOBAL_BATCH = 8


@pytest.mark.parametrize(
    "hosts, replicas, on_tpu, training",
    [
        (1, 1, False, True),
        (1, 1, True, False),
        (1, 4, False, False),
        (1, 4, True, True),
        (2, 2, False, True),
        (2, 2, True, False),
        (2, 4, False, False),
        (2, 4, True, True),
    ],
)
def test_a_step_is_the_same_on_all_devices(tmp_path, hosts, replicas, on_tpu, training):
    path = write(tmp_path, make_features(range(4, 25)))
    input_fn = batching.make_input_fn(
        path, COLUMNS, 32, training, first_step=lambda: 2, dynamic_padding=not on_tpu
    )
    count = 4 if training else None
    whole = np.array([b["row_index"] for b in read_batches(input_fn, {"batch_size": 8}, count)])
    of_hosts, size = [], replicas // hosts
    for host in range(hosts):
        params, context = {"batch_size": GLOBAL_BATCH}, None
        if on_tpu:
            params["batch_size"] //= replicas
            params["context"] = helpers.TPUContext(hosts, host, size)
        else:
            context = tf.distribute.InputContext(hosts, host, replicas)
        function = functools.partial(input_fn, input_context=context)
        parts = read_batches(function, params, count and count * size)
        assert {len(part["input_ids"]) for part in parts} == {GLOBAL_BATCH // replicas}
        of_hosts.append(np.reshape([part["row_index"] for part in parts], [len(whole), -1]))
    np.testing.assert_array_equal(np.concatenate(of_hosts, axis=1), whole)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    input_fn = batching.make_input_fn(write(tmp_path, make_features([4])), COLUMNS, 32, True)
    with pytest.raises(UserError, match="a batch of 8 cannot be shared by 3 devices"):
        input_fn({"batch_size": 8}, tf.distribute.InputContext(1, 0, 3))


def test_the_graph_does_not_hold_the_examples(tmp_path):
    path = write(tmp_path, make_features([30] * 10000))
    with tf.Graph().as_default() as graph:
        batching.make_input_fn(path, COLUMNS, 32, True)({"batch_size": 4})
        assert len(graph.as_graph_def().SerializeToString()) < 1 << 17


@pytest.mark.parametrize(
    "longest, max_seq_length, expected",
    [
        (25, 128, 32),
        (32, 128, 32),
        (33, 128, 48),
        (100, 128, 128),
        (100, 110, 110),
        (600, 600, 600),
    ],
)
def test_a_fixed_length_holds_the_longest(longest, max_seq_length, expected):
    assert batching.fixed_length(make_features([4, longest]), max_seq_length) == expected


def test_micro_batches_of_a_length_that_is_not_static():
    matrix = np.arange(24).reshape(4, 6)
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(tf.int32, [4, None])
        found = [
            model_fn.micro_batch({"a": fed, "b": fed[:, 0]}, index, 2)
            for index in (0, tf.constant(1))
        ]
        assert [part["a"].shape.as_list() for part in found] == [[2, None]] * 2
        assert [part["b"].shape.as_list() for part in found] == [[2]] * 2
        parts = session.run(found, {fed: matrix})
    for part, expected in zip(parts, (matrix[:2], matrix[2:])):
        np.testing.assert_array_equal(part["a"], expected)
        np.testing.assert_array_equal(part["b"], expected[:, 0])


@pytest.mark.parametrize(
    "layout, fields", [("albert_zh", {}), ("albert_zh", {"ln_type": "preln"}), ("google", {})]
)
def test_padding_changes_neither_logits_nor_losses(tmp_path, layout, fields):
    made = make_features(np.random.RandomState(1).randint(4, 65, 24))
    path = write(tmp_path, made)
    config = modeling.AlbertConfig(
        VOCABULARY, 8, 16, 2, 2, 32, max_position_embeddings=64, layout=layout,
        initializer_range=0.2, **fields
    )  # fmt: skip
    batches = [
        read_batches(
            batching.make_input_fn(path, COLUMNS, 64, False, dynamic_padding=way), {"batch_size": 4}
        )
        for way in (True, False)
    ]
    with tf.Graph().as_default(), tf.Session() as session:
        names = ("input_ids", "input_mask", "segment_ids")
        fed = {name: tf.placeholder(tf.int32, [4, None]) for name in names}
        model = modeling.AlbertModel(config, False, *(fed[name] for name in names))
        fed["label_ids"] = tf.placeholder(tf.int32, [4])
        head = modeling.classification_head(model, 2, fed["label_ids"])
        session.run(tf.global_variables_initializer())
        dynamic, full = (
            [
                session.run(
                    [head.logits, head.example_loss],
                    {tensor: batch[name] for name, tensor in fed.items()},
                )
                for batch in one_way
            ]
            for one_way in batches
        )
    assert {batch["input_ids"].shape[1] for batch in batches[0]} > {64}
    for found, expected in zip(dynamic, full):
        np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-5)
    assert np.std([logits for logits, _ in full]) > 0.01
