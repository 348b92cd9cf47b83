"""The index of records: every undamaged record is in one block, and every damage is reported."""

import gzip
import json
import os
import zlib

import numpy as np
import pytest

from common.errors import UserError
from tfrecords import index as record_index
from tfrecords import wire
from tfrecords.index import BLOCK_RECORDS, load_index, merge_blocks

NUMBER = 600  # records of a file: two whole blocks and a part


def make(path, number=NUMBER, compress=False):
    """Write records of changing lengths; returns the path and where each begins and ends."""
    contents = [b"%d " % n + b"x" * (n * 7 % 50) for n in range(number)]
    frames = [wire.frame(content) for content in contents]
    data = b"".join(frames)
    path.write_bytes(gzip.compress(data) if compress else data)
    return str(path), np.cumsum([0] + [len(frame) for frame in frames]).tolist()


def change_byte(path, position):
    with open(path, "r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ 1]))


def blocks(index):
    return list(
        zip(index.file.tolist(), index.begin.tolist(), index.end.tolist(), index.count.tolist())
    )


def numbers(index):
    """Read the records of all blocks of an index; returns their (file, number)."""
    records = []
    for file, begin, end, count in blocks(index):
        with open(index.paths[file], "rb") as stream:
            stream.seek(begin)
            data = stream.read(end - begin)
        for _ in range(count):
            size = wire.frame_size(data, 0)
            records.append((file, int(data[12 : size - 4].split()[0])))
            data = data[size:]
        assert not data
    return records


def test_blocks_hold_every_record_of_every_file(tmp_path):
    paths = [make(tmp_path / name, number)[0] for name, number in (("a", NUMBER), ("b", 1))]
    index = load_index(paths)
    assert index.count.tolist() == [256, 256, 88, 1]
    assert index.num_records == NUMBER + 1
    assert numbers(index) == [(0, number) for number in range(NUMBER)] + [(1, 0)]


def test_a_gzipped_file_is_one_block(tmp_path):
    path, ends = make(tmp_path / "a", compress=True)
    assert blocks(load_index([path])) == [(0, 0, ends[-1], NUMBER)]


def test_records_longer_than_what_is_read_at_a_time(tmp_path):
    lengths = [0, 1, wire._READ_BYTES - 17, wire._READ_BYTES, 3 * wire._READ_BYTES, 5]
    data = b"".join(wire.frame(b"x" * length) for length in lengths)
    (tmp_path / "a").write_bytes(data)
    with open(str(tmp_path / "a"), "rb") as stream:
        frames = list(wire.read_frames(stream))
    assert [len(frame.record) for frame in frames] == lengths
    assert [frame.end - frame.begin - 16 for frame in frames] == lengths


@pytest.mark.parametrize("number", [0, 3, 255, 256, 599])
def test_a_damaged_record_is_named_and_left_out(tmp_path, number, caplog):
    path, ends = make(tmp_path / "a")
    change_byte(path, ends[number] + 12)
    with pytest.raises(UserError) as raised:
        load_index([path])
    message = str(raised.value)
    where = "{}: record {} at byte {} is damaged: wrong checksum"
    assert where.format(path, number, ends[number]) in message
    assert "1 damaged records, 0 files without their rest" in message
    assert "--skip_damaged=True" in message and "\n" not in message
    index = load_index([path], skip_damaged=True)
    assert numbers(index) == [(0, n) for n in range(NUMBER) if n != number]
    assert index.count.max() <= BLOCK_RECORDS
    assert "record {} at byte".format(number) in caplog.text
    assert "Left out: 1 damaged records" in caplog.text


@pytest.mark.parametrize("offset", [0, 8])
def test_after_a_damaged_length_the_file_is_lost(tmp_path, offset):
    path, ends = make(tmp_path / "a")
    change_byte(path, ends[300] + offset)
    with pytest.raises(UserError) as raised:
        load_index([path])
    where = "record 300 at byte {} is damaged: its length is damaged; the rest of the file, {} by"
    assert where.format(ends[300], ends[-1] - ends[300]) in str(raised.value)
    index = load_index([path], skip_damaged=True)
    assert numbers(index) == [(0, n) for n in range(300)]


@pytest.mark.parametrize("missing", [1, 4, 17, 30])
def test_a_file_that_ends_inside_a_record(tmp_path, missing):
    path, ends = make(tmp_path / "a")
    os.truncate(path, ends[-1] - missing)
    lost = next(n for n, end in enumerate(ends[1:]) if end > ends[-1] - missing)
    with pytest.raises(UserError, match="record {} at .* the file ends inside it".format(lost)):
        load_index([path])
    assert numbers(load_index([path], skip_damaged=True)) == [(0, n) for n in range(lost)]


def test_damage_of_many_files_is_counted(tmp_path, caplog):
    paths = [make(tmp_path / name)[0] for name in "abc"]
    _, ends = make(tmp_path / "same")
    for path in paths[:2]:
        for number in range(20):
            change_byte(path, ends[number] + 13)
    os.truncate(paths[2], ends[-1] - 1)
    with pytest.raises(UserError, match="40 damaged records, 1 files without their rest"):
        load_index(paths)
    index = load_index(paths, skip_damaged=True)
    assert index.num_records == 3 * NUMBER - 41
    assert "Left out: 40 damaged records, 1 files without their rest" in caplog.text
    assert len(caplog.records) == record_index.MAX_DAMAGE_LINES + 1


def test_damage_of_gzipped_files(tmp_path):
    """Whether gzip or a record in it is damaged, the records before the damage can be read."""
    path, ends = make(tmp_path / "a")
    change_byte(path, ends[300] + 12)
    (tmp_path / "inside").write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    with pytest.raises(UserError, match="record 300 .*checksum; it is gzipped, so that the rest"):
        load_index([str(tmp_path / "inside")])
    index = load_index([str(tmp_path / "inside")], skip_damaged=True)
    assert blocks(index) == [(0, 0, ends[300], 300)]
    cut = wire.frame(np.random.RandomState(0).bytes(1 << 20))
    (tmp_path / "cut").write_bytes(gzip.compress(cut * 3)[: 5 << 19])
    with pytest.raises(UserError, match="record 2 at byte {} is damaged".format(2 * len(cut))):
        load_index([str(tmp_path / "cut")])
    assert load_index([str(tmp_path / "cut")], skip_damaged=True).count.tolist() == [2]


def test_an_error_of_the_disk_is_no_damage():
    class Disk:
        def read(self, size):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(wire.read_frames(Disk()))


@pytest.mark.parametrize("error", [EOFError("end"), OSError("Not gzip"), zlib.error("invalid")])
def test_an_error_of_gzip_is_damage(error):
    class Gzip:
        def read(self, size):
            raise error

    with pytest.raises(wire.LostRecords, match=str(error)):
        list(wire.read_frames(Gzip()))


def test_a_file_where_nothing_can_be_read(tmp_path):
    path, _ = make(tmp_path / "a", 1)
    os.truncate(path, 3)
    with pytest.raises(UserError, match="holds no record"):
        load_index([path], skip_damaged=True)


def test_blocks_are_merged_only_where_they_touch(tmp_path):
    path, ends = make(tmp_path / "a", 10 * BLOCK_RECORDS)
    for number in (700, 1023, 1024):
        change_byte(path, ends[number] + 12)
    index = load_index([path, make(tmp_path / "b")[0]], skip_damaged=True)
    assert merge_blocks(index, 1).count.tolist() == index.count.tolist()
    for factor in (2, 3, 100):
        merged = merge_blocks(index, factor)
        assert numbers(merged) == numbers(index)
        assert merged.count.max() <= factor * BLOCK_RECORDS
    assert merged.count.tolist() == [700, 1023 - 701, 10 * BLOCK_RECORDS - 1025, NUMBER]


def test_files_are_shared_by_processes(tmp_path, monkeypatch):
    paths = [make(tmp_path / name, 300 + n)[0] for n, name in enumerate("abcd")]
    serial = load_index(paths)
    scan = record_index.scan_file
    here = os.getpid()
    monkeypatch.setattr(record_index, "MIN_BYTES_FOR_WORKERS", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(
        record_index, "scan_file", lambda *args: os.getpid() == here and 1 / 0 or scan(*args)
    )
    for one, other in zip(serial, load_index(paths)):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def scanned(monkeypatch):
    """Return a list that collects the names of the files that are scanned."""
    names = []
    scan = record_index.scan_file

    def note(path, find_fault):
        names.append(os.path.basename(path))
        return scan(path, find_fault)

    monkeypatch.setattr(record_index, "scan_file", note)
    return names


def test_a_file_is_scanned_again_only_if_it_changed(tmp_path, scanned):
    paths = [make(tmp_path / name)[0] for name in "ab"]
    folder = str(tmp_path / "out")
    first = load_index(paths, folder)
    for one, other in zip(first, load_index(paths, folder)):
        np.testing.assert_array_equal(one, other)
    assert scanned == ["a", "b"]
    load_index(paths[:1], folder)
    assert scanned == ["a", "b"]
    os.utime(paths[0], ns=(1, 1))
    load_index(paths, folder)
    assert scanned == ["a", "b", "a"]
    make(tmp_path / "b", 10)
    assert load_index(paths, folder).num_records == NUMBER + 10
    assert scanned == ["a", "b", "a", "b"]
    assert os.listdir(folder) == [record_index.CACHE_NAME]


def test_damage_is_reported_again_without_a_second_scan(tmp_path, scanned):
    path, ends = make(tmp_path / "a")
    change_byte(path, ends[3] + 12)
    for _ in range(2):
        with pytest.raises(UserError, match="record 3 at byte"):
            load_index([path], str(tmp_path))
    assert load_index([path], str(tmp_path), skip_damaged=True).num_records == NUMBER - 1
    assert scanned == ["a"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"{}", b'{"version": 0, "files": {}}'])
def test_a_cache_that_cannot_be_used_is_made_again(tmp_path, scanned, content):
    path, _ = make(tmp_path / "a")
    cache = tmp_path / record_index.CACHE_NAME
    cache.write_bytes(content)
    assert load_index([path], str(tmp_path)).num_records == NUMBER
    assert json.loads(cache.read_text())["version"] == record_index.VERSION
    load_index([path], str(tmp_path))
    assert scanned == ["a"]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    path, _ = make(tmp_path / "a")
    assert load_index([path], path + "/in/a/file").num_records == NUMBER
    assert "the next start checks the records again" in caplog.text


@pytest.fixture
def order(tmp_path):
    """A function that stores the training order of the files with the given names."""

    def remember(names, is_resumed, seed=1, shuffle_buffer=100, batch_size=8):
        index = load_index([str(tmp_path / name) for name in names])
        made = record_index.training_order(index, seed, shuffle_buffer, batch_size)
        record_index.remember_order(str(tmp_path), made, is_resumed)

    for name in "abc":
        make(tmp_path / name)
    return remember


@pytest.mark.parametrize(
    "names, changes, words",
    [
        ("ac", {}, "(b has 0 records instead of 600, c has 600 records instead of 0)"),
        ("ab", {"seed": 2}, "(seed 2 instead of 1)"),
        ("ab", {"shuffle_buffer": 9}, "(shuffle_buffer 9 instead of 100)"),
        ("ab", {"batch_size": 4}, "(batch_size 4 instead of 8)"),
        ("ba", {}, "(files in another order)"),
    ],
)
def test_a_run_that_is_resumed_with_other_records_is_warned_of(
    order, caplog, names, changes, words
):
    order("ab", is_resumed=False)
    order("ab", is_resumed=True)
    assert not caplog.records
    order(names, is_resumed=True, **changes)
    assert words in caplog.text
    caplog.clear()
    order(names, is_resumed=True, **changes)
    assert not caplog.records


def test_files_that_were_made_again_are_warned_of(order, caplog, tmp_path):
    order("ab", is_resumed=False)
    make(tmp_path / "b", 10)
    order("ab", is_resumed=True)
    assert "b has 10 records instead of 600" in caplog.text


def test_a_new_run_may_have_other_records(order, caplog):
    order("ab", is_resumed=False)
    order("c", is_resumed=False)
    order("c", is_resumed=True)
    assert not caplog.records
