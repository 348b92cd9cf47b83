"""Turns one block of documents into compact records: cuts chunks and packs them into rows.

    documents -> pieces and breaks -> chunks -> rows -> serialized records

Nothing is masked and nothing is swapped. A run draws masks, places of the split and swaps while it
trains, see `reference.mask_row`.
"""

import collections

import numpy as np

from masking import sentence_order
from masking.random_numbers import Draws, Stream
from masking.sentence_order import CLAUSE, SENTENCE, WORD
from pretraining_data import instances, packing
from tfrecords import compact


class RowMaker(instances.InstanceMaker):
    """Makes compact records of a `corpus.Block`; there are no duplicates."""

    __slots__ = ()

    @property
    def limits(self):
        """The `compact.Limits` of the rows."""
        config = self.config
        size = len(self.vocabulary.continues)
        return compact.Limits(config.max_seq_length, config.max_chunks_per_row, size)

    def make_rows(self, tokenized):
        """Return the rows of a block, lists of `packing.Chunk`."""
        text = tokenized.text
        if not len(text.numbers):
            return []
        levels = sentence_order.levels_of(text)
        draws = Draws(self.random_seed, tokenized.index)
        chunks = sentence_order.chunks_of_block(text, levels, 1, self.config, draws)
        columns = (chunks.begin.tolist(), chunks.end.tolist(), chunks.document.tolist())
        config = self.config
        return packing.pack(
            list(map(packing.Chunk, *columns)),
            levels,
            config.max_seq_length,
            config.max_chunks_per_row,
        )

    def make_records(self, tokenized):
        """Yield the serialized rows of a block, one `instances.SerializedInstances`, if it has any.

        The number of a row's document is the number of its longest chunk's document.
        """
        rows = self.make_rows(tokenized)
        if not rows:
            return
        chunks = [chunk for row in rows for chunk in row]
        splits = find_splits(chunks, tokenized.text.breaks)
        longest = [max(row, key=lambda chunk: chunk.size) for row in rows]
        documents = np.array([chunk.document for chunk in longest])
        draws = Draws(self.random_seed, tokenized.index, instances.RECORD_KEYS)
        statistics = collections.Counter(
            rows=len(rows),
            instances=len(chunks),  # a run makes one instance of every chunk in an epoch
            instances_with_order=sum(len(of_chunk) > 0 for of_chunk in splits),
            positions=sum(chunk.size for chunk in chunks),
        )
        yield instances.SerializedInstances(
            serialize_rows(rows, splits, tokenized.text, self.limits),
            draws.uniform(Stream.ORDER, np.arange(len(rows))),
            tokenized.index * instances.MAX_DOCUMENTS + documents,
            statistics,
        )


def serialize_rows(rows, splits, text, limits):
    """Return the records of rows, bytes each.

    Args:
        rows: list of rows, which are lists of `packing.Chunk`.
        splits: list of bytes, the splits of each chunk of all rows, from `find_splits`.
        text: `sentence_order.Text`.
        limits: `compact.Limits`.
    """
    is_word = text.breaks[:-1] >= WORD
    pieces = compact.encode_pieces(text.pieces, is_word, limits.has_word_bits)
    splits = iter(splits)
    return [
        compact.serialize(
            [next(splits) for _ in row],
            [pieces[2 * begin : 2 * end] for begin, end, _ in row],
            [is_word[begin:end] for begin, end, _ in row] if limits.has_word_bits else None,
        )
        for row in rows
    ]


def find_splits(chunks, breaks):
    """Return where each chunk may be divided into two segments, a list of bytes (uint16 numbers).

    A chunk may be divided at breaks of the same kind as its begin and its end, sentences or
    clauses. At other places the marks at the ends of the segments would show the order: if one
    segment ends with a full stop and the other with a comma, the order is known. A chunk that
    cannot be divided at such a break has no order to predict.
    """
    begins, ends = np.array([chunk[:2] for chunk in chunks]).T
    splits = [b""] * len(chunks)
    for strength in (CLAUSE, SENTENCE):
        places = np.flatnonzero(breaks == strength)
        chosen = np.flatnonzero((breaks[begins] == strength) & (breaks[ends] == strength))
        first, last = np.searchsorted(places, (begins[chosen] + 1, ends[chosen]))
        counts = last - first
        bounds = np.append(0, np.cumsum(counts))  # of each chunk in `inner`
        inner = np.arange(bounds[-1]) + np.repeat(first - bounds[:-1], counts)
        numbers = compact.encode_numbers(places[inner] - np.repeat(begins[chosen], counts))
        bounds = (2 * bounds).tolist()
        for i, begin, end in zip(chosen.tolist(), bounds, bounds[1:]):
            splits[i] = numbers[begin:end]
    return splits
