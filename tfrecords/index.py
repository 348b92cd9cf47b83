"""The index of TFRecord files: where each block of records begins and ends.

A scan reads every file once. The scan checks every record against its checksum, so that damage is
found before training starts. With the index, any block can be read without the records before it.
The output folder keeps the index for a run that is resumed. TensorFlow is used only for remote
files.

A block is up to BLOCK_RECORDS consecutive records of a file. A gzipped file cannot be read from its
middle, so it is a single block. N is the number of blocks.
"""

import gzip
import json
import os
from typing import List, NamedTuple, Tuple

import numpy as np
from absl import logging

from common import files, progress
from common.errors import UserError
from common.workers import run_tasks
from tfrecords import wire

BLOCK_RECORDS = 256
CACHE_NAME = "record_index.json"
VERSION = 1
GZIP_MAGIC = b"\x1f\x8b\x08"
# Scanning fewer bytes takes less time than starting worker processes.
MIN_BYTES_FOR_WORKERS = 1 << 28
MAX_DAMAGE_LINES = 10


class Damage(NamedTuple):
    """A record that cannot be read."""

    record: int  # the record's number in the file, from 0
    begin: int  # the record's first byte; in a gzipped file, counted after decompression
    is_rest: bool  # whether the records after it cannot be read either
    reason: str


class FileIndex(NamedTuple):
    """The blocks of one file; positions in a gzipped file count decompressed bytes."""

    is_gzipped: bool
    size: int  # bytes, as stored
    begin: List[int]  # first byte of each block
    end: List[int]  # the byte after each block
    count: List[int]  # records of each block
    damage: List[Damage]


class RecordIndex(NamedTuple):
    """The blocks of all files, in their order."""

    paths: Tuple[str, ...]
    is_gzipped: Tuple[bool, ...]
    sizes: Tuple[int, ...]  # bytes of the files, as stored
    file: np.ndarray  # int64 [N], index into `paths` of the block's file
    begin: np.ndarray  # int64 [N], first byte
    end: np.ndarray  # int64 [N], the byte after it
    count: np.ndarray  # int64 [N], records

    @property
    def num_records(self):
        return int(self.count.sum())


def load_index(paths, folder=None, skip_damaged=False, find_fault=None, keep=True):
    """Return the `RecordIndex` of files; scan the files that the kept index lacks.

    Args:
        paths: list of str.
        folder: str, the folder that keeps the index, or None.
        skip_damaged: bool; log and leave out damaged records instead of raising an error.
        find_fault: function that returns what is wrong with a record, bytes, or None; or None.
        keep: bool, whether to write what was scanned into the folder.

    Raises:
        UserError: names the first damaged record, or a file without any.
    """
    cache = _read_cache(folder)
    stamps = {path: [files.size(path), files.modified(path)] for path in paths}
    new = [path for path in paths if cache["files"].get(path, {}).get("stamp") != stamps[path]]
    for path, index in _scan_all(new, find_fault):
        cache["files"][path] = {"stamp": stamps[path], "index": index}
    if new and keep:
        _write_cache(folder, cache)
    indexes = [FileIndex(*cache["files"][path]["index"]) for path in paths]
    _check_damage(paths, indexes, skip_damaged)
    for path, index in zip(paths, indexes):
        if not index.count:
            raise UserError("{} holds no record: make it again".format(path))
    is_gzipped, sizes, *blocks, _ = zip(*indexes)
    file = np.repeat(np.arange(len(paths)), list(map(len, blocks[0])))
    blocks = (np.concatenate(lists).astype(np.int64) for lists in blocks)
    return RecordIndex(tuple(paths), is_gzipped, sizes, file, *blocks)


def merge_blocks(index, factor):
    """Return a `RecordIndex` in which up to `factor` adjacent blocks of a file are one block.

        bytes of the blocks of a file  0-50 50-90 95-140   factor 2   ->   0-90 95-140

    Args:
        index: `RecordIndex`.
        factor: int, 1 or more.
    """
    follows = (index.file[1:] == index.file[:-1]) & (index.begin[1:] == index.end[:-1])
    number = np.arange(len(index.file))
    first = np.maximum.accumulate(np.where(np.append(False, follows), 0, number))
    heads = np.flatnonzero((number - first) % factor == 0)
    tails = np.append(heads[1:], len(number)) - 1
    return index._replace(
        file=index.file[heads],
        begin=index.begin[heads],
        end=index.end[tails],
        count=np.add.reduceat(index.count, heads),
    )


def open_records(path):
    """Open a file of records, gzipped or not, in binary mode."""
    stream = files.open_file(path)
    files.refuse_pointer(path)
    return gzip.GzipFile(fileobj=stream) if _is_gzipped(path) else stream


def _is_gzipped(path):
    with files.open_file(path) as stream:
        return stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def scan_file(path, find_fault):
    """Read a whole file and return its `FileIndex`; takes the arguments of `load_index`."""
    index = FileIndex(_is_gzipped(path), files.size(path), [], [], [], [])
    number = 0  # how many records were read, damaged ones included
    is_open = False  # whether the last block may take the next record
    try:
        with open_records(path) as stream:
            for number, (begin, end, record) in enumerate(wire.read_frames(stream), 1):
                fault = _fault(record, find_fault)
                if fault:
                    is_open = False
                    damage = Damage(number - 1, begin, index.is_gzipped, fault)
                    index.damage.append(damage)
                    if damage.is_rest:
                        break
                elif is_open and (index.is_gzipped or index.count[-1] < BLOCK_RECORDS):
                    index.end[-1] = end
                    index.count[-1] += 1
                else:
                    is_open = True
                    index.begin.append(begin)
                    index.end.append(end)
                    index.count.append(1)
    except wire.LostRecords as lost:
        index.damage.append(Damage(number, lost.begin, True, lost.reason))
    return index


def _fault(record, find_fault):
    if record is None:
        return "wrong checksum"
    return find_fault and find_fault(record)


def _scan_all(paths, find_fault):
    """Yield (path, `FileIndex`) of files in any order; worker processes share large files."""
    total = sum(map(files.size, paths))
    # TensorFlow's clients of remote file systems do not work in a forked process.
    has_workers = total > MIN_BYTES_FOR_WORKERS and all(map(files.is_local, paths))
    num_workers = min(len(paths), os.cpu_count() or 1) if has_workers else 1
    if total > MIN_BYTES_FOR_WORKERS:
        logging.info("Checking %.1f GB of records", total / 1e9)

    def scan(path):
        return path, scan_file(path, find_fault)

    done, show = 0, progress.Lines("MB of records checked")
    for path, index in run_tasks(scan, paths, num_workers):
        yield path, index
        done += index.size
        show(done / 1e6, total / 1e6)


def _check_damage(paths, indexes, skip_damaged):
    """Raise a `UserError` for damaged records, or log them."""
    damages = [
        (path, index, Damage(*damage))
        for path, index in zip(paths, indexes)
        for damage in index.damage
    ]
    if not damages:
        return
    lines = [_damage_line(*damage) for damage in damages]
    rests = sum(damage.is_rest for _, _, damage in damages)
    count = "{} damaged records, {} files without their rest".format(len(lines) - rests, rests)
    if not skip_damaged:
        raise UserError(
            "{} (in all: {}): make the records, or copy the file, again, or leave the damage "
            "out with --skip_damaged=True".format(lines[0], count)
        )
    for line in lines[:MAX_DAMAGE_LINES]:
        logging.warning("%s", line)
    logging.warning("Left out: %s", count)


def _damage_line(path, index, damage):
    text = "{}: record {} at byte {} is damaged: {}".format(
        path, damage.record, damage.begin, damage.reason
    )
    if damage.is_rest and index.is_gzipped:
        text += "; it is gzipped, so that the rest of the file is lost"
    elif damage.is_rest:
        text += "; the rest of the file, {} bytes, is lost".format(index.size - damage.begin)
    return text


class Order(NamedTuple):
    """The values that decide the order of training, and the masks."""

    files: List[List]  # [name, number of records] of each file
    seed: int
    shuffle_buffer: int
    batch_size: int
    masks: str = ""  # in words; empty where the records are masked already


def training_order(index, seed, shuffle_buffer, batch_size, masks=""):
    """Return the `Order` of the records of a `RecordIndex`."""
    counts = np.bincount(index.file, index.count, len(index.paths)).astype(int).tolist()
    names = map(os.path.basename, index.paths)
    pairs = [list(pair) for pair in zip(names, counts)]
    return Order(pairs, seed, shuffle_buffer, batch_size, masks)


def remember_order(folder, order, is_resumed):
    """Keep the `Order` of a run; warn where a resumed run had another order before.

    Args:
        folder: str, the output folder, or None.
        order: `Order`.
        is_resumed: bool, whether the run resumes from a checkpoint of the folder.
    """
    line = other_order(folder, order)
    if line and is_resumed:
        logging.warning("%s", line)
    cache = _read_cache(folder)
    if cache.get("order") != order._asdict():
        _write_cache(folder, dict(cache, order=order._asdict()))


def other_order(folder, order):
    """Return a line for the user if the run in `folder` had another `Order` until now, else None.

    Args:
        folder: str, or None.
        order: `Order`.
    """
    before = _read_cache(folder).get("order")
    differences = _differences(before, order._asdict()) if before else []
    text = (
        "{} was trained on records in another order until now ({}): from here on some records may "
        "be repeated and others come later"
    )
    return text.format(folder, ", ".join(differences)) if differences else None


def _differences(old, new):
    """Return a list of words, one for each difference of two orders (dicts)."""
    was, now = dict(old["files"]), dict(new["files"])
    words = [
        "{} has {} records instead of {}".format(name, now.get(name, 0), was.get(name, 0))
        for name in sorted(set(was) | set(now))
        if was.get(name) != now.get(name)
    ]
    if not words and old["files"] != new["files"]:
        words.append("files in another order")
    words += [
        "{} {} instead of {}".format(name, new[name], old[name])
        for name in Order._fields[1:]
        if old.get(name, new[name]) != new[name]  # older versions kept no masks
    ]
    return words


def _read_cache(folder):
    """Return the dict that `_write_cache` wrote, or an empty one."""
    path = folder and os.path.join(folder, CACHE_NAME)
    if path and files.exists(path):
        try:
            cache = files.read_json(path)
        except UserError as error:
            cache = {}
            logging.warning("%s: the records are checked again", error)
        if cache.get("version") == VERSION:
            return cache
    return {"version": VERSION, "files": {}}


def _write_cache(folder, cache):
    if folder:
        try:
            files.write_text(os.path.join(folder, CACHE_NAME), json.dumps(cache) + "\n")
        except UserError as error:  # Perhaps another process of this run is writing the file.
            logging.warning("%s: the next start checks the records again", error)
