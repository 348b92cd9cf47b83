"""The external shuffle loses no record and sorts by key, whatever the sizes of its files."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pretraining_data import external_shuffle, instances


def made(rng, count, documents=10**6):
    """`instances.SerializedInstances` whose records hold their keys and documents."""
    keys = rng.uniform(0, 1, count)
    numbers = rng.randint(0, documents, count)
    records = [
        "{:.17f} {} {}".format(key, document, "x" * rng.randint(0, 50)).encode()
        for key, document in zip(keys, numbers)
    ]
    return instances.SerializedInstances(records, keys, numbers, {})


def read(path):
    return [record.split() for record in tf.io.tf_record_iterator(path)]


def write_all(folder, blocks, num_shards):
    """Spill blocks (lists of SerializedInstances) and write the shards; return their paths."""
    (folder / "work").mkdir(parents=True)
    spill = external_shuffle.Spill(str(folder / "work"), num_shards)
    for index, batches in enumerate(blocks):
        spill.write_block(index, iter(batches), {"index": index})
        assert spill.read_summary(index)["index"] == index
    spill_files = spill.spill_files(range(len(blocks)))
    cell_bytes = spill.cell_bytes(spill_files)
    paths = [str(folder / str(shard)) for shard in range(num_shards)]
    for shard, path in enumerate(paths):
        spill.write_shard(shard, path, spill_files, cell_bytes, False)
    return paths


@pytest.fixture
def blocks():
    rng = np.random.RandomState(0)
    return [[made(rng, 100) for _ in range(3)] for _ in range(5)] + [[]]


@pytest.mark.parametrize("num_shards", [1, 3, 7])
def test_shards_hold_all_records_in_the_order_of_keys(tmp_path, blocks, num_shards):
    paths = write_all(tmp_path, blocks, num_shards)
    expected = sorted(record for block in blocks for one in block for record in one.records)
    records = []
    for shard, path in enumerate(paths):
        keys = np.array([float(fields[0]) for fields in read(path)])
        assert keys.min() >= shard / num_shards
        assert keys.max() < (shard + 1) / num_shards
        assert np.all(np.diff(keys) > 0)
        records += tf.io.tf_record_iterator(path)
    assert sorted(records) == expected


def test_the_sizes_of_spill_files_and_ranges_do_not_matter(tmp_path, blocks, monkeypatch):
    def contents(name):
        paths = write_all(tmp_path / name, blocks, 2)
        return [open(path, "rb").read() for path in paths]

    whole = contents("whole")
    monkeypatch.setattr(external_shuffle, "SPILL_BYTES", 3000)
    assert contents("small") == whole
    assert len(list((tmp_path / "small" / "work").glob("*.spill"))) == 3 * 5
    assert len(list((tmp_path / "whole" / "work").glob("*.spill"))) == 5
    monkeypatch.setattr(external_shuffle, "RANGE_BYTES", 1000)
    ranges = contents("ranges")
    # Swaps stay inside a range.
    assert [sorted(one) for one in ranges] == [sorted(one) for one in whole]


def test_a_block_that_did_not_end_has_no_summary(tmp_path):
    spill = external_shuffle.Spill(str(tmp_path), 1)
    assert spill.read_summary(3) is None

    def stop():
        yield made(np.random.RandomState(0), 5)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        spill.write_block(3, stop(), {})
    assert spill.read_summary(3) is None


def test_a_block_that_is_made_again_has_no_summary_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(external_shuffle, "SPILL_BYTES", 1)
    spill = external_shuffle.Spill(str(tmp_path), 1)
    rng = np.random.RandomState(0)
    spill.write_block(3, iter([made(rng, 5)]), {"of": "old bytes"})

    def stop():
        yield made(rng, 5)  # this replaces the only spill file
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        spill.write_block(3, stop(), {"of": "new bytes"})
    assert spill.read_summary(3) is None


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 120), st.integers(3, 30), st.integers(0, 10**6))
def test_neighbours_are_of_different_documents(count, kinds, seed):
    rng = np.random.RandomState(seed)
    documents = rng.randint(0, kinds, count).tolist()
    if max(map(documents.count, documents)) > count / 3:  # There may be no such order.
        return
    order = rng.permutation(count)
    separated, neighbours = external_shuffle.separate_documents(order, documents, documents[0])
    assert sorted(separated) == list(range(count))
    assert neighbours == 0
    in_order = [documents[0]] + [documents[i] for i in separated]
    assert all(one != other for one, other in zip(in_order, in_order[1:]))


def test_neighbours_that_cannot_be_separated_are_counted():
    assert external_shuffle.separate_documents(np.arange(4), [5, 5, 5, 5], -1) == ([0, 1, 2, 3], 3)
    order, neighbours = external_shuffle.separate_documents(np.arange(5), [5, 5, 5, 6, 7], -1)
    assert neighbours == 0
    assert [[5, 5, 5, 6, 7][i] for i in order][::2] == [5, 5, 5]
    assert external_shuffle.separate_documents(np.arange(0), [], 3) == ([], 0)
