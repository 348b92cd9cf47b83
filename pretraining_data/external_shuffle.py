"""An external shuffle: records to shards, each in the order of random keys, in bounded memory.

    runs      what a block made is sorted by key and written in one or more files ("runs"); a
              done file, written last, tells how many, and what was counted
    shards    shard i of n takes the keys from i / n to (i + 1) / n of all runs, a range small
              enough for memory at a time

A run is a table of offsets, one for each of equal ranges of keys ("cells"), and the entries. All
files appear by rename, so a killed process leaves whole ones only, and whoever starts again does
what is missing.
"""

import json
import os
import struct
from typing import NamedTuple

import numpy as np

from common import files
from tfrecords import wire

# Bytes of records in memory before a run is written, and of those of a shard sorted at a time.
RUN_BYTES = 1 << 26
BUCKET_BYTES = 1 << 27
MIN_CELLS = 1 << 12
# How many records are tried to take the place of one that stands beside its like.
SWAPS_TRIED = 64
_WRITE_RECORDS = 4096

_PREFIX = struct.Struct("<dq")  # key, document


class Spill(NamedTuple):
    """The folder of the runs.

    Attributes:
        folder: str, local.
        num_shards: int.
    """

    folder: str
    num_shards: int

    @property
    def num_cells(self):
        """Number of cells of a run, a multiple of the number of shards."""
        return -(-MIN_CELLS // self.num_shards) * self.num_shards

    def read_done(self, index):
        """Return what was given to `write_block` as `done`, or None if it did not end."""
        try:
            with open(self._path(index, "done")) as stream:
                return json.load(stream)
        except FileNotFoundError:
            return None

    def write_block(self, index, batches, done):
        """Write the runs of a block.

        Args:
            index: int, that of the block.
            batches: iterable of `instances.Records`.
            done: function that is called at the end and returns a dict for JSON.

        Raises:
            UserError: where the disk is full.
        """
        # What was made of other bytes is not done any more from the first new run on.
        files.remove(self._path(index, "done"))
        held, num_bytes, num_runs = [], 0, 0
        for batch in batches:
            held.append(batch)
            num_bytes += sum(map(len, batch.records))
            if num_bytes >= RUN_BYTES:
                self._write_run(index, num_runs, held)
                held, num_bytes, num_runs = [], 0, num_runs + 1
        if held:
            self._write_run(index, num_runs, held)
            num_runs += 1
        files.write_text(
            self._path(index, "done"), json.dumps(dict(done(), runs=num_runs), ensure_ascii=True)
        )

    def _write_run(self, index, run, batches):
        keys = np.concatenate([batch.keys for batch in batches])
        documents = np.concatenate([batch.documents for batch in batches])
        records = [record for batch in batches for record in batch.records]
        order = np.argsort(keys, kind="stable")
        framed = [wire.frame(records[i]) for i in order.tolist()]
        ends = np.cumsum([0] + [_PREFIX.size + len(entry) for entry in framed])
        edges = np.arange(self.num_cells + 1) / self.num_cells
        table = ends[np.searchsorted(keys[order], edges)].astype("<i8")
        prefixes = map(_PREFIX.pack, keys[order].tolist(), documents[order].tolist())
        parts = [part for entry in zip(prefixes, framed) for part in entry]
        with files.WholeFile(self._path(index, "{}.run".format(run))) as whole:
            whole.write(table.tobytes())
            for begin in range(0, len(parts), _WRITE_RECORDS):
                whole.write(b"".join(parts[begin : begin + _WRITE_RECORDS]))

    def _path(self, index, suffix):
        return os.path.join(self.folder, "{:012d}.{}".format(index, suffix))

    def runs(self, indices):
        """Return the paths of the runs of some blocks, in their order."""
        return [
            self._path(index, "{}.run".format(run))
            for index in indices
            for run in range(self.read_done(index)["runs"])
        ]

    def cell_bytes(self, runs):
        """Return how many bytes of all runs are in each cell, int64 [num_cells]."""
        total = np.zeros(self.num_cells, np.int64)
        for path in runs:
            total += np.diff(np.fromfile(path, "<i8", self.num_cells + 1))
        return total

    def write_shard(self, shard, path, runs, cell_bytes, compress):
        """Write a shard, sorted by key; neighbours are of different documents where possible.

        Args:
            shard: int.
            path: str, of the shard.
            runs: list of paths, from `runs`.
            cell_bytes: int64 array, from `cell_bytes`.
            compress: bool, whether to gzip.

        Returns:
            int, how many records stand beside one of the same document.
        """
        cells = self.num_cells // self.num_shards
        begin, end = shard * cells, (shard + 1) * cells
        last_document, num_neighbours = -1, 0
        with files.WholeFile(path, compress) as whole:
            while begin < end:
                sizes = np.cumsum(cell_bytes[begin:end])
                next_begin = begin + max(1, int(np.searchsorted(sizes, BUCKET_BYTES, "right")))
                data = [self._read(run, begin, next_begin) for run in runs]
                keys, documents, entries = _parse(data)
                order, neighbours = arrange(keys, documents, last_document)
                num_neighbours += neighbours
                for i in range(0, len(order), _WRITE_RECORDS):
                    whole.write(b"".join([entries[j] for j in order[i : i + _WRITE_RECORDS]]))
                last_document = documents[order[-1]] if order else last_document
                begin = next_begin
        return num_neighbours

    def _read(self, run, begin, end):
        """Return the entries of a run in the cells [begin, end), bytes."""
        with open(run, "rb") as stream:
            bounds = []
            for cell in (begin, end):
                stream.seek(8 * cell)
                bounds.append(int(np.frombuffer(stream.read(8), "<i8")[0]))
            stream.seek(8 * (self.num_cells + 1) + bounds[0])
            return stream.read(bounds[1] - bounds[0])


def _parse(data):
    """Return keys (float64 array), documents (list of int) and framed records (memoryviews)."""
    keys, documents, entries = [], [], []
    for part in data:
        view = memoryview(part)
        begin = 0
        while begin < len(part):
            key, document = _PREFIX.unpack_from(part, begin)
            begin += _PREFIX.size
            end = begin + wire.frame_size(part, begin)
            keys.append(key)
            documents.append(document)
            entries.append(view[begin:end])
            begin = end
    return np.array(keys), documents, entries


def arrange(keys, documents, last_document=-1):
    """Return the order of records, list of int, and how many neighbours are of one document.

    Args:
        keys: sequence of float.
        documents: sequence of int, of each record.
        last_document: int, that of the record before the first.
    """
    return separate(np.argsort(keys, kind="stable"), documents, last_document)


def separate(order, documents, last_document):
    """Swap records so that none follows one of the same document, as far as a few tries go.

    Args:
        order: int array [m], indices of records.
        documents: sequence of int, of each index.
        last_document: int, that of the record before the first.

    Returns:
        (order, neighbours): list of int, and how many still follow their like.
    """
    in_order = np.asarray(documents, np.int64)[order]
    order = order.tolist()
    if not order:
        return order, 0
    of = [last_document] + in_order.tolist() + [-1]  # of[i + 1] is the document of order[i]

    def is_free(place, document):
        return of[place] != document != of[place + 2]

    is_neighbour = np.diff(in_order, prepend=last_document) == 0
    neighbours = 0
    for i in np.flatnonzero(is_neighbour).tolist():
        if of[i] != of[i + 1]:  # an earlier swap has mended it
            continue
        for step in range(1, SWAPS_TRIED + 1):
            j = (i + step) % len(order)
            if abs(i - j) > 1 and is_free(i, of[j + 1]) and is_free(j, of[i + 1]):
                order[i], order[j] = order[j], order[i]
                of[i + 1], of[j + 1] = of[j + 1], of[i + 1]
                break
        else:
            neighbours += 1
    return order, neighbours
