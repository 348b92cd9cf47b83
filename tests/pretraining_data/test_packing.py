"""Chunks packed into rows: nothing is lost, nothing is too long, rows are full."""

import numpy as np
import pytest

from masking.sentence_order import Level
from pretraining_data import packing

CAPACITY = 128


def draw(seed, mean):
    """Return chunks of random documents, and the levels of their text."""
    rng = np.random.RandomState(seed)
    chunks, begin = [], 0
    for document in range(200):
        for _ in range(rng.randint(1, 4)):
            size = int(np.clip(rng.exponential(mean), 2, CAPACITY - 3))
            chunks.append(packing.Chunk(begin, begin + size, document))
            begin += size
    kinds = rng.rand(begin + 1)
    kinds[[chunk.begin for chunk in chunks] + [begin]] = 0
    return chunks, [Level(kinds < share, True) for share in (0.05, 0.2, 0.7)]


@pytest.mark.parametrize("max_chunks", [1, 2, 8])
@pytest.mark.parametrize("mean", [10, 60, 400])
def test_rows_hold_every_piece_once(mean, max_chunks):
    chunks, levels = draw(1, mean)
    rows = packing.pack(chunks, levels, CAPACITY, max_chunks)
    assert rows == packing.pack(chunks, levels, CAPACITY, max_chunks)
    pieces = [i for row in rows for chunk in row for i in range(chunk.begin, chunk.end)]
    assert sorted(pieces) == list(range(chunks[-1].end))
    owner = {i: chunk.document for chunk in chunks for i in (chunk.begin, chunk.end - 1)}
    for row in rows:
        assert 1 <= len(row) <= max_chunks
        assert sum(chunk.size for chunk in row) <= CAPACITY
        assert len({chunk.document for chunk in row}) == len(row)
        for chunk in row:
            assert chunk.end - chunk.begin >= 2
            assert chunk.document == owner.get(chunk.begin, chunk.document)


def fill(rows):
    return sum(chunk.size for row in rows for chunk in row) / (len(rows) * CAPACITY)


def test_rows_are_full():
    chunks, levels = draw(1, 40)
    rows = packing.pack(chunks, levels, CAPACITY, 8)
    assert fill(rows) > 0.95
    assert fill(packing.pack(chunks, levels, CAPACITY, 1)) < 0.4


def test_chunks_that_do_not_fit_together_are_cut():
    """Two chunks of 80 pieces share no row of 128 positions."""
    chunks = [packing.Chunk(80 * i, 80 * i + 80, i) for i in range(30)]
    levels = [Level(np.arange(80 * 30 + 1) % 10 == 0, True)]
    assert fill(packing.join(chunks, CAPACITY, 8)) == 83 / 128
    rows = packing.pack(chunks, levels, CAPACITY, 8)
    assert fill(rows) > 0.95
    assert all(chunk.begin % 10 == chunk.end % 10 == 0 for row in rows for chunk in row)
