"""An external shuffle: sorts records by random keys into shards, in bounded memory.

    spill files   the records of a block, sorted by key; a summary file, written last, holds the
                  number of the spill files and what was counted
    shards        shard i of n merges the keys from i / n to (i + 1) / n of all spill files, one
                  range of keys after the other, each small enough for memory

The keys are divided into equal ranges, called cells. A spill file holds a table with the offset of
every cell, and then the entries: the records with their keys. A file appears by a
rename when it is complete. So a killed process leaves only complete files, and the next start makes
the missing files.
"""

import json
import os
import struct
from typing import NamedTuple

import numpy as np

from common import files
from tfrecords import wire

# A spill file is written when the records in memory reach this size.
SPILL_BYTES = 1 << 26
# A shard is sorted in ranges of keys of this size.
RANGE_BYTES = 1 << 27
MIN_CELLS = 1 << 12
# A record that follows a record of the same document is swapped with one of this many later ones.
SWAPS_TRIED = 64
_WRITE_RECORDS = 4096

_PREFIX = struct.Struct("<dq")  # key, document


def read_summary(path):
    """Return the dict in a JSON file, or None where the file does not exist."""
    return files.read_json(path) if files.exists(path) else None


class Spill(NamedTuple):
    """The folder of the spill files."""

    folder: str  # local
    num_shards: int

    @property
    def num_cells(self):
        """Number of cells of a spill file, a multiple of the number of shards."""
        return -(-MIN_CELLS // self.num_shards) * self.num_shards

    def read_summary(self, index):
        """Return the summary of a block, a dict, or None where the block is not complete."""
        return read_summary(self._path(index, "done"))

    def write_block(self, index, batches, summary):
        """Write the spill files of a block, and its summary.

        Args:
            index: int, of the block.
            batches: iterable of `instances.SerializedInstances`.
            summary: dict for JSON, to which the iteration over `batches` may still add.

        Raises:
            UserError: where the disk is full.
        """
        # An older summary does not fit the new spill files.
        files.remove(self._path(index, "done"))
        held, num_bytes, num_files = [], 0, 0
        for batch in batches:
            held.append(batch)
            num_bytes += sum(map(len, batch.records))
            if num_bytes >= SPILL_BYTES:
                self._write_spill_file(index, num_files, held)
                held, num_bytes, num_files = [], 0, num_files + 1
        if held:
            self._write_spill_file(index, num_files, held)
            num_files += 1
        summary = dict(summary, spill_files=num_files)
        files.write_text(self._path(index, "done"), json.dumps(summary))

    def _write_spill_file(self, index, number, batches):
        keys = np.concatenate([batch.keys for batch in batches])
        documents = np.concatenate([batch.documents for batch in batches])
        records = [record for batch in batches for record in batch.records]
        order = np.argsort(keys, kind="stable")
        frames = [wire.frame(records[i]) for i in order.tolist()]
        ends = np.cumsum([0] + [_PREFIX.size + len(frame) for frame in frames])
        edges = np.arange(self.num_cells + 1) / self.num_cells
        table = ends[np.searchsorted(keys[order], edges)].astype("<i8")
        prefixes = map(_PREFIX.pack, keys[order].tolist(), documents[order].tolist())
        parts = [part for entry in zip(prefixes, frames) for part in entry]
        with files.WholeFile(self._path(index, "{}.spill".format(number))) as whole:
            whole.write(table.tobytes())
            for begin in range(0, len(parts), _WRITE_RECORDS):
                whole.write(b"".join(parts[begin : begin + _WRITE_RECORDS]))

    def _path(self, index, suffix):
        return os.path.join(self.folder, "{:012d}.{}".format(index, suffix))

    def spill_files(self, indices):
        """Return the paths of the spill files of blocks, in the order of the blocks."""
        return [
            self._path(index, "{}.spill".format(number))
            for index in indices
            for number in range(self.read_summary(index)["spill_files"])
        ]

    def cell_bytes(self, spill_files):
        """Return how many bytes of all spill files are in each cell, int64 [num_cells]."""
        total = np.zeros(self.num_cells, np.int64)
        for path in spill_files:
            total += np.diff(np.fromfile(path, "<i8", self.num_cells + 1))
        return total

    def write_shard(self, shard, path, spill_files, cell_bytes, compress):
        """Write a shard, sorted by key; neighbours are of different documents where possible.

        Args:
            shard: int.
            path: str, of the shard.
            spill_files: list of paths, from the method `spill_files`.
            cell_bytes: int64 array, from the method `cell_bytes`.
            compress: bool, whether to gzip.

        Returns:
            int, how many records follow a record of the same document.
        """
        cells = self.num_cells // self.num_shards
        begin, end = shard * cells, (shard + 1) * cells
        last_document, num_neighbours = -1, 0
        with files.WholeFile(path, compress) as whole:
            while begin < end:
                sizes = np.cumsum(cell_bytes[begin:end])
                next_begin = begin + max(1, int(np.searchsorted(sizes, RANGE_BYTES, "right")))
                data = [self._read(spill_file, begin, next_begin) for spill_file in spill_files]
                keys, documents, frames = _parse(data)
                order = np.argsort(keys, kind="stable")
                order, neighbours = separate_documents(order, documents, last_document)
                num_neighbours += neighbours
                for i in range(0, len(order), _WRITE_RECORDS):
                    whole.write(b"".join([frames[j] for j in order[i : i + _WRITE_RECORDS]]))
                last_document = documents[order[-1]] if order else last_document
                begin = next_begin
        return num_neighbours

    def _read(self, spill_file, begin, end):
        """Return the entries of a spill file in the cells [begin, end), bytes."""
        with open(spill_file, "rb") as stream:
            stream.seek(8 * begin)
            table = np.frombuffer(stream.read(8 * (end - begin + 1)), "<i8").tolist()
            stream.seek(8 * (self.num_cells + 1) + table[0])
            return stream.read(table[-1] - table[0])


def _parse(data):
    """Return keys (float64 array), documents (list of int) and frames (list of memoryview)."""
    keys, documents, frames = [], [], []
    for part in data:
        view = memoryview(part)
        begin = 0
        while begin < len(part):
            key, document = _PREFIX.unpack_from(part, begin)
            begin += _PREFIX.size
            end = begin + wire.frame_size(part, begin)
            keys.append(key)
            documents.append(document)
            frames.append(view[begin:end])
            begin = end
    return np.array(keys), documents, frames


def separate_documents(order, documents, last_document=-1):
    """Swap records so that neighbours are of different documents, if SWAPS_TRIED swaps allow.

    Args:
        order: int array [m], indices of records.
        documents: sequence of int, the document of each record.
        last_document: int, the document of the record before the first.

    Returns:
        (order, neighbours): list of int, and how many records still follow one of the same
        document.
    """
    in_order = np.asarray(documents, np.int64)[order]
    order = order.tolist()
    of = [last_document] + in_order.tolist() + [-1]  # of[i + 1] is the document of order[i]

    def is_free(place, document):
        return of[place] != document != of[place + 2]

    is_neighbour = np.diff(in_order, prepend=last_document) == 0
    neighbours = 0
    for i in np.flatnonzero(is_neighbour).tolist():
        if of[i] != of[i + 1]:  # an earlier swap has separated them
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
