"""Masks many documents at once, in numpy: the fast version of `reference`.

Each function here does the work of the function of the same name in `reference`, for all chunks of
all duplicates of all documents of a block. Both modules use the same random numbers, so that the
instances are equal.

In the shapes, n counts the pieces of a block, d its documents, c the chunks of all duplicates, m
the instances of a batch and g their grams; S is the sequence length and P the number of predictions
per sequence.
"""

from typing import NamedTuple

import numpy as np

from masking import reference
from masking.random_numbers import Stream
from masking.sentence_order import NUM_SEPARATORS, WORD, Level


class Batch(NamedTuple):
    """Instances, padded with zeros, and counts for the statistics of the manifest."""

    input_ids: np.ndarray  # int32 [m, S]
    num_pieces: np.ndarray  # int [m], separators included
    first_size: np.ndarray  # int [m], pieces of segment 0, from [CLS] to its [SEP]
    masked_lm_positions: np.ndarray  # int32 [m, P]
    masked_lm_ids: np.ndarray  # int32 [m, P]
    num_masked: np.ndarray  # int [m]
    swapped: np.ndarray  # bool [m]
    document: np.ndarray  # int [m], number of the document in the block
    gram_words: np.ndarray  # int [number of chosen grams], how many words each has
    num_by_mask: int  # how many masked pieces became [MASK]
    num_kept: int  # how many masked pieces stayed as they were


class _Segments(NamedTuple):
    """Both segments of the pairs, arrays [m, 2]; piece i in [begin, end) is at i + shift."""

    begin: np.ndarray
    end: np.ndarray
    shift: np.ndarray


class _Grams(NamedTuple):
    """Arrays [g] of the fields of `reference.Gram` and more, sorted by (row, begin)."""

    row: np.ndarray  # the instance
    begin: np.ndarray
    end: np.ndarray
    num_words: np.ndarray
    next_word: np.ndarray  # index in the text's words of the word after the gram's first word
    shift: np.ndarray  # position of a piece in the sequence minus its index in the text


class BatchMaker:
    """Makes batches of instances of a text.

    Args:
        text: `sentence_order.Text`.
        config: `reference.MaskingConfig`.
        vocabulary: `reference.Vocabulary`.
    """

    def __init__(self, text, config, vocabulary):
        self._text = text
        self._config = config
        self._vocabulary = vocabulary
        self._words = Level(text.breaks, WORD)

    def __call__(self, pairs):
        """Return the `Batch` of the instances of `sentence_order.Pairs`."""
        segments = _segments(pairs)
        num_pieces = pairs.end - pairs.begin + NUM_SEPARATORS
        first_size = segments.end[:, 0] - segments.begin[:, 0] + 2
        input_ids = self._assemble(segments, first_size, num_pieces)
        grams = self._make_grams(segments, pairs.draws)
        budget = reference.mask_budget(num_pieces, self._least(grams), self._config)
        grams = self._choose_grams(grams, budget, pairs.draws)
        return self._mask(input_ids, grams, segments, pairs)._replace(
            num_pieces=num_pieces, first_size=first_size
        )

    def _assemble(self, segments, first_size, num_pieces):
        """Return the padded ids before masking, int32 [m, S]."""
        pieces = self._text.pieces
        ids = np.zeros((len(num_pieces), self._config.max_seq_length), np.int32)
        spans = np.concatenate([segments.begin, segments.end], axis=1).tolist()
        for row, size, spans_of_row in zip(ids, first_size.tolist(), spans):
            begin, next_begin, end, next_end = spans_of_row
            row[1 : size - 1] = pieces[begin:end]
            row[size : size + next_end - next_begin] = pieces[next_begin:next_end]
        rows = np.arange(len(ids))
        ids[:, 0] = self._vocabulary.cls_id
        ids[rows, first_size - 1] = ids[rows, num_pieces - 1] = self._vocabulary.sep_id
        return ids

    def _make_grams(self, segments, draws):
        begin, end = segments.begin.ravel(), segments.end.ravel()  # [2m]
        first_word = self._words.count_before(begin + 1) - 1
        num_words = self._words.count_before(end) - first_word
        segment = np.repeat(np.arange(len(begin)), num_words)
        offset = np.cumsum(num_words) - num_words
        index = np.arange(len(segment)) - offset[segment]  # of each word in its segment
        lengths = np.ones(len(segment), np.int64)
        streams = np.tile([Stream.FIRST_GRAMS, Stream.SECOND_GRAMS], len(begin) // 2)
        draws = draws.take(np.repeat(np.arange(len(begin) // 2), 2))
        numbers = draws.uniform(streams, index, segment)
        for bound in np.cumsum(self._config.gram_probabilities[:-1]):
            lengths += numbers >= bound
        last_word = np.cumsum(lengths)
        last_word -= (last_word - lengths)[offset][segment]
        is_gram = last_word - lengths < num_words[segment]
        segment, first = segment[is_gram], (last_word - lengths)[is_gram]
        words_left = num_words[segment] - first
        gram_words = np.minimum(lengths[is_gram], words_left)
        word = first_word[segment] + first
        source = np.where(first == 0, begin[segment], self._words.positions[word])
        is_last = gram_words == words_left
        source_end = np.where(is_last, end[segment], np.append(source[1:], 0))
        shift = segments.shift.ravel()[segment]
        return _Grams(segment // 2, source + shift, source_end + shift, gram_words, word + 1, shift)

    def _choose_grams(self, grams, budget, draws):
        """Return the chosen `_Grams`, the cut ones included; `budget` is int [m]."""
        number = np.bincount(grams.row, minlength=len(budget))
        first = np.cumsum(number) - number
        index = np.arange(len(grams.row)) - first[grams.row]
        keys = np.full((len(budget), number.max()), ~np.uint64(0))
        keys[grams.row, index] = draws.order_keys(index, grams.row)
        keys.sort(axis=1)
        ranked = (keys & np.uint64(0xFFFF)).astype(np.int64) + first[:, np.newaxis]  # [m, ranks]
        chosen, left = _take_whole(grams, ranked, number, budget)
        end, num_words = grams.end.copy(), grams.num_words.copy()
        rows = np.flatnonzero(left)
        for rank in range(ranked.shape[1]):
            rows = rows[number[rows] > rank]
            if not len(rows):
                break
            gram = ranked[rows, rank]
            cut_end, cut_words = self._cut(grams, gram, left[rows])
            is_cut = (cut_words > 0) & ~chosen[gram]
            last = gram[is_cut]  # the last gram of its instance
            chosen[last] = True
            end[last], num_words[last] = cut_end[is_cut], cut_words[is_cut]
            rows = rows[~is_cut]
        chosen_grams = grams._replace(end=end, num_words=num_words)
        return _Grams(*(field[chosen] for field in chosen_grams))

    def _least(self, grams):
        """Return the pieces of the shortest first word of a gram of each instance, int [m]."""
        lengths = self._end_of_words(grams, 1) - grams.begin
        return np.minimum.reduceat(lengths, np.flatnonzero(np.diff(grams.row, prepend=-1)))

    def _end_of_words(self, grams, n):
        """Return where the first n words of grams of at least n words end, int [g]."""
        next_word = np.minimum(grams.next_word + n - 1, len(self._words.positions) - 1)
        end = self._words.positions[next_word] + grams.shift
        return np.where(n == grams.num_words, grams.end, end)

    def _cut(self, grams, gram, length):
        """Return (end, number of words) of grams cut to the words that fit into `length` pieces."""
        grams = _Grams(*(field[gram] for field in grams))
        begin, most = grams.begin, grams.num_words
        end, num_words = begin, np.zeros(len(gram), np.int64)
        for n in range(1, len(self._config.gram_probabilities) + 1):
            next_end = self._end_of_words(grams, n)
            fits = (n <= most) & (next_end - begin <= length)
            end, num_words = np.where(fits, next_end, end), np.where(fits, n, num_words)
        return end, num_words

    def _mask(self, input_ids, grams, segments, pairs):
        """Replace the pieces of the chosen grams in `input_ids`; return the `Batch`."""
        config, vocabulary = self._config, self._vocabulary
        lengths = grams.end - grams.begin
        row = np.repeat(grams.row, lengths)
        gram_begin = np.repeat(grams.begin, lengths)
        offset = np.repeat(np.cumsum(lengths) - lengths, lengths)
        position = gram_begin + np.arange(len(row)) - offset
        pieces = input_ids[row, position]
        decider = gram_begin if config.replace_spans else position
        action = pairs.draws.uniform(Stream.ACTION, decider, row)
        choice = pairs.draws.uniform(Stream.REPLACEMENT, position, row)
        choice = (choice * len(vocabulary.replacements)).astype(np.int64)
        is_mask = action < reference.MASK_SHARE
        is_random = action >= reference.MASK_SHARE + reference.KEEP_SHARE
        given = np.where(is_random, vocabulary.replacements[choice], pieces)
        given = np.where(is_mask, vocabulary.mask_id, given)
        input_ids[row, position] = given
        is_first = self._begins_word(segments, row, position)
        labels = np.where(is_first, pieces, vocabulary.later_labels[pieces])
        num_masked = np.bincount(row, minlength=len(input_ids))
        column = np.arange(len(row)) - (np.cumsum(num_masked) - num_masked)[row]
        masked = np.zeros((2, len(input_ids), config.max_predictions_per_seq), np.int32)
        masked[:, row, column] = position, labels
        return Batch(
            input_ids=input_ids,
            num_pieces=None,
            first_size=None,
            masked_lm_positions=masked[0],
            masked_lm_ids=masked[1],
            num_masked=num_masked,
            swapped=pairs.swapped,
            document=pairs.document,
            gram_words=grams.num_words,
            num_by_mask=int(np.sum(given == vocabulary.mask_id)),
            num_kept=int(np.sum(given == pieces)),
        )

    def _begins_word(self, segments, row, position):
        second = (position >= segments.begin[row, 1] + segments.shift[row, 1]).astype(np.int64)
        source = position - segments.shift[row, second]
        return (source == segments.begin[row, second]) | (self._text.breaks[source] >= WORD)


def _segments(pairs):
    swapped = pairs.swapped[:, np.newaxis]
    begin = np.stack([pairs.begin, pairs.middle], axis=1)
    end = np.stack([pairs.middle, pairs.end], axis=1)
    begin = np.where(swapped, begin[:, ::-1], begin)
    end = np.where(swapped, end[:, ::-1], end)
    shift = 1 - begin
    shift[:, 1] += end[:, 0] - begin[:, 0] + 1
    return _Segments(begin, end, shift)


def _take_whole(grams, ranked, number, budget):
    """Choose the grams that are not cut; return bool [g] and the rest of the budget, int [m].

    `ranked` holds the grams of every instance in random order; instance i has `number[i]` of them.
    Each round takes grams in random order until one does not fit, and then, in place of that gram,
    the next gram that fits and has as many words.
    """
    ranks = np.arange(ranked.shape[1], dtype=np.int32)
    is_gram = ranks < number[:, np.newaxis]
    ranked = np.where(is_gram, ranked, 0)
    lengths = (grams.end - grams.begin).astype(np.int32)[ranked]
    words = grams.num_words.astype(np.int32)[ranked]
    # The round skips grams of length 0: padding, and grams with more words than the budget.
    lengths[~is_gram | (words > budget[:, np.newaxis])] = 0
    left = budget.astype(np.int32)
    chosen = np.zeros(len(grams.row), bool)
    rows, begin = np.arange(len(budget)), np.zeros(len(budget), np.int32)
    while len(rows):
        cost = np.where(ranks >= begin[:, np.newaxis], lengths, 0)
        total = np.cumsum(cost, axis=1, dtype=np.int32)
        fits = total <= left[rows, np.newaxis]
        chosen[ranked[fits & (cost > 0)]] = True
        left[rows] -= np.max(total, axis=1, where=fits, initial=0)
        miss = np.argmin(fits, axis=1)
        wanted = words[np.arange(len(rows)), miss]
        is_next = words == wanted[:, np.newaxis]
        is_next &= (lengths <= left[rows, np.newaxis]) & (lengths > 0)
        is_next &= ranks > miss[:, np.newaxis]
        rank = np.argmax(is_next, axis=1)
        more = np.flatnonzero(is_next[np.arange(len(rows)), rank] & ~fits[:, -1])
        rows, lengths, words, ranked = rows[more], lengths[more], words[more], ranked[more]
        rank = rank[more]
        chosen[ranked[np.arange(len(rows)), rank]] = True
        left[rows] -= lengths[np.arange(len(rows)), rank]
        begin = rank + 1
    return chosen, left
