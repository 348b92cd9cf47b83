"""Sentence-order pairs: documents cut into chunks, chunks into two segments, half of them swapped.

`pairs_of_document` is the readable specification: one document at a time. `pairs_of_block` makes
the same pairs for all duplicates of all documents of a block at once, with the same random numbers.

In the shapes, n counts the pieces of a block, d its documents and c the chunks of all duplicates.
"""

import bisect
from typing import NamedTuple

import numpy as np

from masking.random_numbers import Draws, Stream
from tfrecords.compact import NUM_SEPARATORS

# The kinds of breaks: what begins at a piece. A stronger break has a higher number.
INSIDE, WORD, CLAUSE, SENTENCE = range(4)


# The shortest sequence: [CLS], three pieces, two [SEP]. With room for two pieces only, a document
# of three could not be cut into segments without losing one.
MIN_SEQ_LENGTH = 6


class Pair(NamedTuple):
    """Two consecutive segments of a document, [begin, middle) and [middle, end)."""

    begin: int
    middle: int
    end: int
    swapped: bool


def pairs_of_document(breaks, config, draws):
    """Cut a document into chunks, and each chunk into two segments, swapped in half of them.

    A chunk has at most S - 3 pieces. With probability `short_seq_prob`, the target of a chunk is
    shorter: a random number of pieces from 2 to S - 3.

    Args:
        breaks: int [n + 1], the breaks of a `reference.Document`; n is at least 2.
        config: `reference.MaskingConfig`.
        draws: `Draws` of this duplicate of the document.

    Returns:
        List of (`Pair`, `Draws` of that chunk); the pairs cover the document.
    """
    # The positions of the breaks that are at least as strong as each kind.
    strengths = (SENTENCE, CLAUSE, WORD, INSIDE)
    levels = [np.flatnonzero(breaks >= strength).tolist() for strength in strengths]
    size = len(breaks) - 1
    max_pieces = config.max_seq_length - NUM_SEPARATORS
    pairs = []
    begin = 0
    while begin < size:
        chunk = draws.child(len(pairs))
        target = max_pieces
        if chunk.uniform(Stream.SHORT)[0] < config.short_seq_prob:
            target = 2 + int(chunk.below(Stream.TARGET, max_pieces - 1)[0])
        end = _chunk_end(levels, begin, size, target, max_pieces)
        middles = next(filter(None, (_within(level, begin + 1, end - 1) for level in levels)))
        middle = middles[chunk.below(Stream.MIDDLE, len(middles))[0]]
        pairs.append((Pair(begin, middle, end, bool(chunk.below(Stream.SWAP, 2)[0])), chunk))
        begin = end
    return pairs


def _chunk_end(levels, begin, size, target, max_pieces):
    """Return the end of the chunk that starts at `begin`: the end of a sentence, if possible.

    The chunk ends at the first end of a sentence at or after the target, if that fits into
    `max_pieces`, else the last one that fits. A single sentence that is too long is cut at the last
    clause that ends in the second half of `max_pieces`, else at the last word that fits, else
    anywhere. The rest of the document is never a single piece.
    """
    limit = begin + max_pieces
    last = size if limit >= size else min(limit, size - 2)
    ends = [end for end in _within(levels[0], begin + 2, last) if end == size or end <= size - 2]
    if ends:
        return ends[min(bisect.bisect_left(ends, begin + target), len(ends) - 1)]
    lows = (begin + max_pieces // 2 + 1, begin + 2, begin + 2)
    ends = [_within(level, low, last)[-1:] for level, low in zip(levels[1:], lows)]
    return next(filter(None, ends))[0]


def _within(numbers, first, last):
    """Return the numbers of a sorted list that are in [first, last]."""
    return numbers[bisect.bisect_left(numbers, first) : bisect.bisect_right(numbers, last)]


class Text(NamedTuple):
    """The documents of a block, one after the other."""

    pieces: np.ndarray  # int [n], ids
    breaks: np.ndarray  # int [n + 1], the kind of break at each piece; SENTENCE around documents
    begins: np.ndarray  # int [d], the first piece of each document, which has at least two
    ends: np.ndarray  # int [d], the piece after its last
    numbers: np.ndarray  # int [d], its number in the block


class Pairs(NamedTuple):
    """Arrays [c] of the fields of `Pair`, and the numbers of the documents."""

    begin: np.ndarray
    middle: np.ndarray
    end: np.ndarray
    swapped: np.ndarray
    document: np.ndarray
    draws: Draws

    def take(self, rows):
        """Return some of the pairs."""
        return Pairs(*(field[rows] for field in self[:5]), self.draws.take(rows))


class Chunks(NamedTuple):
    """Arrays [c]: the pieces [begin, end) of chunks, and the numbers of the documents."""

    begin: np.ndarray
    end: np.ndarray
    document: np.ndarray
    draws: Draws

    def take(self, rows):
        """Return the chunks at the indices `rows`."""
        return Chunks(*(field[rows] for field in self[:3]), self.draws.take(rows))


class Level:
    """The positions of all breaks that are at least as strong as `strength`."""

    def __init__(self, breaks, strength):
        self.positions = np.flatnonzero(breaks >= strength)

    def count_before(self, place):
        """Return for each place the number of breaks before it."""
        return self.positions.searchsorted(place)

    def first_from(self, low):
        """Return the position of the first break at or after each of `low`; a break must exist."""
        return self.positions[self.count_before(low)]

    def last_until(self, high):
        """Return the position of the last break at or before each of `high`; a break must exist."""
        return self.positions[self.count_before(high + 1) - 1]


def levels_of(text):
    """Return the `Level`s of sentences, clauses and words of a `Text`."""
    return [Level(text.breaks, strength) for strength in (SENTENCE, CLAUSE, WORD)]


def chunks_of_block(text, levels, dupe_factor, config, draws):
    """Cut every duplicate of every document into chunks; a round cuts one chunk from each.

    Args:
        text: `Text`.
        levels: list of `Level`, from `levels_of`.
        dupe_factor: int, number of duplicates.
        config: `reference.MaskingConfig`.
        draws: `Draws` of the seed and the block.

    Returns:
        `Chunks`, sorted by duplicate.
    """
    number = np.repeat(text.numbers, dupe_factor)
    draws = draws.child(number, np.tile(np.arange(dupe_factor), len(text.numbers)))
    begin = np.repeat(text.begins, dupe_factor)
    size = np.repeat(text.ends, dupe_factor)
    rows = np.arange(len(begin))  # the duplicates that still have pieces
    rounds = []
    while len(rows):
        chunk = draws.take(rows).child(len(rounds))
        end = _chunk_ends(levels, begin, size, config, chunk)
        rounds.append((rows, Chunks(begin, end, number[rows], chunk)))
        has_more = end < size
        rows, begin, size = rows[has_more], end[has_more], size[has_more]
    order = np.argsort(np.concatenate([rows for rows, _ in rounds]), kind="stable")
    *arrays, draws = zip(*(chunks for _, chunks in rounds))
    return Chunks(*map(np.concatenate, arrays), Draws.concatenate(draws)).take(order)


def pairs_of_block(text, dupe_factor, config, draws):
    """Cut every duplicate of every document into pairs of segments, and swap half of them.

    Args:
        text, dupe_factor, config, draws: as for `chunks_of_block`.

    Returns:
        `Pairs`, sorted by duplicate.
    """
    levels = levels_of(text)
    begin, end, document, draws = chunks_of_block(text, levels, dupe_factor, config, draws)
    middle = _middles(levels, begin, end, draws)
    swapped = draws.below(Stream.SWAP, 2) == 1
    return Pairs(begin, middle, end, swapped, document, draws)


def _chunk_ends(levels, begin, size, config, draws):
    sentences, clauses, words = levels
    max_pieces = config.max_seq_length - NUM_SEPARATORS
    is_short = draws.uniform(Stream.SHORT) < config.short_seq_prob
    target = np.where(is_short, 2 + draws.below(Stream.TARGET, max_pieces - 1), max_pieces)
    last = np.where(begin + max_pieces >= size, size, np.minimum(begin + max_pieces, size - 2))
    end = sentences.first_from(np.minimum(begin + target, size))
    end = np.where(end == size - 1, size, end)
    end = np.where(end > last, sentences.last_until(last), end)
    lows = (begin + max_pieces // 2 + 1, begin + 2)
    candidates = [level.last_until(last) for level in (clauses, words)]
    is_within = [candidate >= low for candidate, low in zip(candidates, lows)]
    return np.select([end >= begin + 2] + is_within, [end] + candidates, last)


def _middles(levels, begin, end, draws):
    first = np.stack([level.count_before(begin + 1) for level in levels])  # [levels, c]
    number = np.stack([level.count_before(end) for level in levels]) - first
    has_some = number > 0
    total = np.select(has_some, number, end - begin - 1)
    chosen = draws.below(Stream.MIDDLE, total)
    middles = [
        level.positions[np.where(some, index + chosen, 0)]
        for level, index, some in zip(levels, first, has_some)
    ]
    return np.select(has_some, middles, begin + 1 + chosen)
