"""The order of training: whole, shuffled passes that can start at any position."""

import gzip

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfrecords import order, wire
from tfrecords.index import load_index

SIZES = (1000, 300, 257, 1)
TOTAL = sum(SIZES)
POOL = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of numbered records of several lengths; one file is gzipped."""
    folder = tmp_path_factory.mktemp("records")
    for file, size in enumerate(SIZES):
        contents = [("%d-%d " % (file, n)).encode() + b"x" * (n % 40) for n in range(size)]
        data = b"".join(map(wire.frame, contents))
        (folder / str(file)).write_bytes(gzip.compress(data) if file == 2 else data)
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return load_index([str(folder / str(file)) for file in range(len(SIZES))])


class Reader:
    """Reads the order of training with one graph, since building a graph is slow."""

    def __init__(self, index):
        with tf.Graph().as_default():
            self._values = [tf.placeholder(tf.int64, []) for _ in range(4)]
            count, first, seed, pool_size = self._values
            records = order.shuffled(index, seed, pool_size, first).batch(count)
            self._iterator = tf.data.make_initializable_iterator(records)
            self._next = self._iterator.get_next()
            self._session = tf.Session()

    def __call__(self, count, first=0, seed=1, pool_size=POOL):
        values = dict(zip(self._values, (count, first, seed, pool_size)))
        self._session.run(self._iterator.initializer, values)
        records, epochs, numbers = self._session.run(self._next)
        records = parse(records)
        assert epochs.tolist() == [position // TOTAL for position in range(first, first + count)]
        assert [ALL[number] for number in numbers] == records
        return records


@pytest.fixture(scope="module")
def shuffled(index):
    """A function that returns (file, number) of records in the order of training."""
    return Reader(index)


def parse(records):
    return [tuple(map(int, record.split()[0].split(b"-"))) for record in records]


ALL = [(file, number) for file, size in enumerate(SIZES) for number in range(size)]


@pytest.mark.parametrize("has_offsets", sorted({False, order.HAS_OFFSETS}))
def test_the_order_of_the_files(index, monkeypatch, has_offsets):
    monkeypatch.setattr(order, "HAS_OFFSETS", has_offsets)
    with tf.Graph().as_default(), tf.Session() as session:
        records = order.in_order(index).batch(2 * TOTAL)
        records, epochs, numbers = session.run(tf.data.make_one_shot_iterator(records).get_next())
    assert parse(records) == ALL
    assert not epochs.any() and numbers.tolist() == list(range(TOTAL))


def test_every_pass_has_every_record_once_in_another_order(shuffled):
    records = shuffled(3 * TOTAL)
    passes = [records[begin : begin + TOTAL] for begin in range(0, 3 * TOTAL, TOTAL)]
    assert all(sorted(one) == ALL for one in passes)
    assert len({tuple(one) for one in passes}) == 3


def test_without_the_operation_that_tensorflow_1_15_lacks(index, shuffled, monkeypatch):
    monkeypatch.setattr(order, "HAS_OFFSETS", False)
    assert Reader(index)(2 * TOTAL) == shuffled(2 * TOTAL)


def test_the_order_follows_the_seed(shuffled):
    assert shuffled(TOTAL) == shuffled(TOTAL)
    assert shuffled(TOTAL) != shuffled(TOTAL, seed=2)
    assert sorted(shuffled(TOTAL, seed=-(2**40))) == ALL


def test_the_order_can_start_at_any_position(shuffled):
    whole = shuffled(4 * TOTAL)
    draws = np.random.RandomState(0)
    edges = [1, POOL - 1, POOL, TOTAL - 1, TOTAL, TOTAL + 1, 3 * TOTAL - 1]
    for first in edges + draws.randint(3 * TOTAL, size=8).tolist():
        assert shuffled(300, first) == whole[first : first + 300], first


def test_a_far_position_is_read_without_those_before(shuffled):
    """The position is after 10**12 passes; to read or skip all of them would never end."""
    first = 10**12 * TOTAL
    assert sorted(shuffled(TOTAL, first)) == ALL
    assert shuffled(10, first + 5) == shuffled(15, first)[5:]


def test_a_pool_is_mixed(shuffled):
    """The records of all blocks of a pool are mixed, and the blocks are in random order."""
    records = shuffled(TOTAL, pool_size=10 * TOTAL)
    positions = {record: position for position, record in enumerate(records)}
    # The mean position of 256 of TOTAL uniform draws has a standard deviation of 26.
    for begin in range(0, 1000 - 256, 256):
        mean = np.mean([positions[0, number] for number in range(begin, begin + 256)])
        assert abs(mean - TOTAL / 2) < 130
    steps = np.diff([positions[0, number] for number in range(1000)])
    assert 0.45 < np.mean(steps > 0) < 0.55
    starts = [shuffled(1, seed=seed, pool_size=1)[0] for seed in range(12)]
    assert len({(file, number // 256) for file, number in starts}) >= 4


def test_pools_are_about_as_large_as_asked(shuffled):
    """No block is in two pools, and a pool ends as soon as it is full."""
    records = shuffled(TOTAL, pool_size=POOL)
    blocks = [(file, 0 if file == 2 else number // 256) for file, number in records]
    last = {block: position for position, block in enumerate(blocks)}
    sizes, begin, end = [], 0, 0
    for position, block in enumerate(blocks):
        end = max(end, last[block])
        if position == end:
            sizes.append(end + 1 - begin)
            begin = end + 1
    assert len(sizes) >= 3
    assert max(sizes) < POOL + 2 * 257


def test_many_blocks_are_merged_and_nothing_is_lost(index, monkeypatch):
    monkeypatch.setattr(order, "MAX_BLOCKS", 4)
    records = Reader(index)(2 * TOTAL)
    assert sorted(records[:TOTAL]) == sorted(records[TOTAL:]) == ALL


def test_the_graph_has_no_python_in_it(index):
    """A remote TPU host runs the graph in its own process, without functions of this process."""
    with tf.Graph().as_default() as graph:
        tf.data.make_initializable_iterator(order.shuffled(index, 1, POOL))
        definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += function.node_def
    kinds = {node.op for node in nodes}
    # The interleave is in a nested function, so the search has reached nested functions.
    assert any("Interleave" in kind for kind in kinds)
    assert not any("PyFunc" in kind for kind in kinds)
