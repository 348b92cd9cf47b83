"""One block of documents to compact records: chunks, cut once, and packed into full rows.

    documents -> pieces and breaks -> chunks -> rows -> serialized records

Nothing is masked and nothing is swapped. A run draws masks, places of the split and swaps while it
trains, see `masking_reference.mask_row`.
"""

import collections

import numpy as np

from pretraining_data import instances, packing, sentence_order
from pretraining_data.draws import Draws, Stream
from pretraining_data.sentence_order import CLAUSE, SENTENCE, WORD
from tfrecords import compact

# A chunk of full length ends with a clause where a sentence would leave more pieces unused.
MOST_UNUSED = 8
# Records of one `SerializedInstances`.
BATCH_ROWS = 1024


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
        """Yield the serialized rows of a block, each time an `instances.SerializedInstances`.

        The document of a row is that of its longest chunk.
        """
        rows = self.make_rows(tokenized)
        serialize = _Serializer(tokenized.text, self.limits)
        draws = Draws(self.random_seed, tokenized.index, instances.RECORD_KEYS)
        for begin in range(0, len(rows), BATCH_ROWS):
            batch = rows[begin : begin + BATCH_ROWS]
            longest = [max(row, key=lambda chunk: chunk.size) for row in batch]
            documents = np.array([chunk.document for chunk in longest])
            yield instances.SerializedInstances(
                list(map(serialize, batch)),
                draws.uniform(Stream.ORDER, np.arange(begin, begin + len(batch))),
                tokenized.index * instances.MAX_DOCUMENTS + documents,
                count_rows(batch),
            )


class _Serializer:
    """Serializes rows of a text.

    Args:
        text: `sentence_order.Text`.
        limits: `compact.Limits`.
    """

    def __init__(self, text, limits):
        is_word = text.breaks[:-1] >= WORD
        self._pieces = compact.encode_pieces(text.pieces, is_word, limits.has_word_bits)
        self._is_word = is_word if limits.has_word_bits else None
        self._levels = [np.flatnonzero(text.breaks >= kind) for kind in (SENTENCE, CLAUSE)]

    def __call__(self, row):
        """Return the record of a row, a list of `packing.Chunk`."""
        spans = [slice(chunk.begin, chunk.end) for chunk in row]
        return compact.serialize(
            [chunk.end - chunk.begin for chunk in row],
            [self._splits(chunk) for chunk in row],
            [self._pieces[span] for span in spans],
            None if self._is_word is None else [self._is_word[span] for span in spans],
        )

    def _splits(self, chunk):
        """Return where the sentences of a chunk begin, or else the clauses, uint16 [splits]."""
        for begins in self._levels:
            first, last = np.searchsorted(begins, (chunk.begin + 1, chunk.end)).tolist()
            if first < last:
                return (begins[first:last] - chunk.begin).astype(np.uint16)
        return np.zeros(0, np.uint16)


def count_rows(rows):
    """Return the counts of rows for the manifest, a Counter; a chunk becomes an instance."""
    chunks = [chunk for row in rows for chunk in row]
    return collections.Counter(
        rows=len(rows),
        instances=len(chunks),
        positions=sum(chunk.size for chunk in chunks),
    )
