"""Pieces of documents to pre-training instances: sentence-order pairs, grams, 80/10/10.

This is the specification: one instance at a time, in the order in which a reader thinks of it.
`pretraining_data/masking.py` makes the same instances, of many documents at once and many times
faster. Both work on ids and half-open spans [begin, end), and know no files, no segmenter and no
TensorFlow. The steps, for one document (`make_instances`):

    find_breaks   where sentences, clauses and words begin among the pieces
    make_pairs    the document is cut into chunks, each chunk into two consecutive segments, and
                  the two are swapped in half of the chunks
    make_grams    words of a segment are tiled with grams of 1 to n words
    mask          grams are taken at random up to the budget, their pieces replaced 80/10/10

Nothing is truncated and nothing is lost: without the swaps, the segments of a duplicate of a
document, one after the other, are the document. (The published tool let chunks overflow and cut
off what was too much.)

All randomness comes from a `Draws`, whose numbers depend on their key and on nothing else. So
any number of instances can be made at once, in any process, and be the same.

S is the sequence length, P the number of predictions per sequence, V the size of the vocabulary.
"""

import bisect
import itertools
from typing import NamedTuple

import numpy as np

from pretraining_data.draws import (
    ACTION,
    FIRST_GRAMS,
    MIDDLE,
    REPLACEMENT,
    SECOND_GRAMS,
    SHORT,
    SWAP,
    TARGET,
)

# What begins at a piece, the stronger the higher.
INSIDE, WORD, CLAUSE, SENTENCE = range(4)

# A clause ends with one of these, and with the closing marks that follow it.
CLAUSE_MARKS = [ord(mark) for mark in "，。！？；：、…—,.!?;:"]
CLOSING_MARKS = [ord(mark) for mark in "”’」』】》〉）)]}\"'"]

# The shortest sequence: [CLS], three pieces, two [SEP]. With room for two pieces only, a document
# of three could not be cut into segments without losing one.
MIN_SEQ_LENGTH = 6
MAX_SEQ_LENGTH = 1 << 16  # `Draws.order_keys` counts to that
NUM_SEPARATORS = 3

MASK_SHARE, KEEP_SHARE = 0.8, 0.1  # BERT (arXiv 1810.04805), section 3.1; the rest is random


class Vocabulary(NamedTuple):
    """What masking knows of pieces, by their ids."""

    cls_id: int
    sep_id: int
    mask_id: int
    unk_id: int
    continues: np.ndarray  # bool [V], whether the piece begins with "##"
    replacements: np.ndarray  # int [V minus special and unused], what a random piece is drawn from
    later_labels: np.ndarray  # int [V], the label of a piece that is not the first of its word


class MaskingConfig(NamedTuple):
    """How instances are made; `gram_probabilities[n - 1]` is that of a gram of n words."""

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float
    short_seq_prob: float
    gram_probabilities: tuple
    replace_spans: bool = False  # 80/10/10 for whole grams instead of single pieces


class Document(NamedTuple):
    """Pieces of a document, int [n], and what begins at each, int [n + 1] (SENTENCE at n)."""

    pieces: np.ndarray
    breaks: np.ndarray


class Pair(NamedTuple):
    """Two consecutive segments of a document, [begin, middle) and [middle, end)."""

    begin: int
    middle: int
    end: int
    swapped: bool


class Sequence(NamedTuple):
    """[CLS] first [SEP] second [SEP], and the words of both, spans of positions in it."""

    ids: list
    segment_ids: list
    first_words: list
    second_words: list


class Gram(NamedTuple):
    """Consecutive words that are masked together: positions [begin, end)."""

    begin: int
    end: int
    num_words: int


class Instance(NamedTuple):
    """One training example, not padded."""

    input_ids: list
    segment_ids: list
    masked_lm_positions: list
    masked_lm_ids: list
    swapped: bool
    original_ids: list  # input_ids before masking
    grams: list  # of Gram, in the order of their positions


def describe_vocabulary(vocab, published_labels=False):
    """Return the `Vocabulary` of a dict from piece to id.

    Args:
        vocab: dict, ids from 0 without gaps; has the special pieces.
        published_labels: bool. The published tool marked the later characters of a Chinese word
            with "##" and left the mark on the labels; to continue its checkpoints, True gives
            the same labels, where the vocabulary has them.
    """
    pieces = sorted(vocab, key=vocab.get)
    later_labels = np.arange(len(pieces))
    if published_labels:
        for piece, i in vocab.items():
            if "\u4e00" <= piece <= "\u9fa5":  # as published: one character of this block
                later_labels[i] = vocab.get("##" + piece, i)
    return Vocabulary(
        cls_id=vocab["[CLS]"],
        sep_id=vocab["[SEP]"],
        mask_id=vocab["[MASK]"],
        unk_id=vocab["[UNK]"],
        continues=np.array([piece.startswith("##") and piece != "##" for piece in pieces]),
        replacements=np.array([i for i, piece in enumerate(pieces) if not _is_reserved(piece)]),
        later_labels=later_labels,
    )


def _is_reserved(piece):
    """Return whether no text becomes that piece: [PAD], [unused1], <S> and their like."""
    return len(piece) > 2 and piece[0] + piece[-1] in ("[]", "<>")


# Weight of a gram of n words, of at most `longest`.
GRAM_WEIGHTS = {
    "shorter": lambda n, longest: 1 / n,  # ALBERT (arXiv 1909.11942), section 4.1
    "uniform": lambda n, longest: 1,
    "longer": lambda n, longest: 1 / (longest + 1 - n),
}


def gram_probabilities(ngram, favor="shorter"):
    """Return the tuple of the probabilities of 1 to `ngram` words.

    gram_probabilities(3) == (6 / 11, 3 / 11, 2 / 11)
    """
    weights = [GRAM_WEIGHTS[favor](n, ngram) for n in range(1, ngram + 1)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def find_breaks(text, word_ends, pieces, begins, vocabulary):
    """Find what begins at each piece, from its offset in the text.

    A piece belongs to the word in which its first character lies; a piece with "##" belongs to
    the word of the piece before, so that a Latin word is one word whatever the segmenter says.

        text      我爱ALBERT，是的。      words 我|爱|ALBERT|，|是的|。, which end at 1 2 8 9 11 12
        pieces    我    爱   al   ##bert ，   是     的     。
        begins    0     1    2    4      8    9      10     11
        breaks    SENT. WORD WORD INSIDE WORD CLAUSE INSIDE WORD

    Args:
        text: str, one sentence a line.
        word_ends: int array, where the words that make up the text end, or None: every piece is
            a word.
        pieces: int [n], ids.
        begins: int [n], offset of each piece's first character, not decreasing.
        vocabulary: `Vocabulary`.

    Returns:
        int8 [n], INSIDE, WORD, CLAUSE or SENTENCE.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if word_ends is None:
        is_word = np.ones(len(pieces), bool)
    else:
        word = np.searchsorted(word_ends, begins, side="right")
        is_word = (np.diff(word, prepend=-1) > 0) & ~vocabulary.continues[pieces]
    # A mark ends its clause together with the marks after it: 。” or ……
    is_mark = np.isin(codes[begins], CLAUSE_MARKS)
    is_closing = np.isin(codes[begins], CLOSING_MARKS)
    after_mark = np.zeros(len(pieces), bool)
    after_mark[1:] = is_mark[:-1]
    after_mark[2:] |= is_mark[:-2] & is_closing[1:-1]
    line = np.cumsum(codes == ord("\n"))[begins]
    breaks = np.full(len(pieces), INSIDE, np.int8)
    breaks[is_word] = WORD
    breaks[is_word & after_mark & ~is_mark & ~is_closing] = CLAUSE
    breaks[np.diff(line, prepend=-1) > 0] = SENTENCE
    return breaks


def make_instances(document, config, vocabulary, draws):
    """Make the instances of one duplicate of a document.

    Args:
        document: `Document` of at least two pieces.
        config: `MaskingConfig`.
        vocabulary: `Vocabulary`.
        draws: `Draws` of the seed, the document and the duplicate.

    Returns:
        List of `Instance`.
    """
    return [
        mask(assemble(document, pair, vocabulary), pair.swapped, config, vocabulary, chunk_draws)
        for pair, chunk_draws in make_pairs(document.breaks, config, draws)
    ]


def make_pairs(breaks, config, draws):
    """Cut a document into chunks, and each chunk into two segments, swapped in half of them.

    A chunk has at most S - 3 pieces; with probability `short_seq_prob`, drawn for each chunk, it
    aims at a number of pieces drawn from 2 to S - 3.

    Args:
        breaks: int [n + 1], as in `Document`; n is at least 2.
        config: `MaskingConfig`.
        draws: `Draws` of this duplicate of the document.

    Returns:
        List of (`Pair`, `Draws` of that chunk); the pairs cover the document.
    """
    # Where a sentence begins (or something weaker, in the later lists), strongest first.
    strengths = (SENTENCE, CLAUSE, WORD, INSIDE)
    levels = [np.flatnonzero(breaks >= strength).tolist() for strength in strengths]
    size = len(breaks) - 1
    max_pieces = config.max_seq_length - NUM_SEPARATORS
    pairs = []
    begin = 0
    while begin < size:
        chunk = draws.child(len(pairs))
        target = max_pieces
        if chunk.uniform(SHORT)[0] < config.short_seq_prob:
            target = 2 + int(chunk.below(TARGET, max_pieces - 1)[0])
        end = _chunk_end(levels, begin, size, target, max_pieces)
        middles = next(filter(None, (_within(level, begin + 1, end - 1) for level in levels)))
        middle = middles[chunk.below(MIDDLE, len(middles))[0]]
        pairs.append((Pair(begin, middle, end, bool(chunk.below(SWAP, 2)[0])), chunk))
        begin = end
    return pairs


def _chunk_end(levels, begin, size, target, max_pieces):
    """Return where the chunk from `begin` ends: with a sentence if possible.

    That is the first sentence to reach the target, if it fits, else the last that fits. A
    sentence that is too long by itself is cut after a clause, if one ends in the second half of
    what fits, else after a word, else anywhere. Never is a single piece left over.
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
    """Return those of the sorted numbers that are in [first, last]."""
    return numbers[bisect.bisect_left(numbers, first) : bisect.bisect_right(numbers, last)]


def assemble(document, pair, vocabulary):
    """Return the `Sequence` of a pair: [CLS] first [SEP] second [SEP], segment ids 0 and 1.

    A word that the pair cuts in two is two words here.
    """
    spans = [(pair.begin, pair.middle), (pair.middle, pair.end)]
    if pair.swapped:
        spans.reverse()
    ids, segment_ids, words = [vocabulary.cls_id], [0], []
    for segment, (begin, end) in enumerate(spans):
        starts = [i for i in range(begin, end) if i == begin or document.breaks[i] >= WORD]
        shift = len(ids) - begin
        words.append([(b + shift, e + shift) for b, e in zip(starts, starts[1:] + [end])])
        ids += document.pieces[begin:end].tolist() + [vocabulary.sep_id]
        segment_ids += [segment] * (end - begin + 1)
    return Sequence(ids, segment_ids, *words)


def mask(sequence, swapped, config, vocabulary, draws):
    """Choose grams and replace their pieces.

    Args:
        sequence: `Sequence` of T pieces, separators included.
        swapped: bool, whether its segments are.
        config: `MaskingConfig`.
        vocabulary: `Vocabulary`.
        draws: `Draws` of this chunk.

    Returns:
        `Instance`; its positions are sorted and unique, never those of separators.
    """
    grams = make_grams(sequence.first_words, config.gram_probabilities, draws, FIRST_GRAMS)
    grams += make_grams(sequence.second_words, config.gram_probabilities, draws, SECOND_GRAMS)
    words = sequence.first_words + sequence.second_words
    budget = int(mask_budget(len(sequence.ids), config))
    grams = choose_grams(grams, words, budget, draws)
    word_begins = {begin for begin, _ in words}
    actions = draws.uniform(ACTION, np.arange(len(sequence.ids)))
    choices = draws.uniform(REPLACEMENT, np.arange(len(sequence.ids)))
    input_ids, positions, labels = list(sequence.ids), [], []
    for gram in grams:
        for position in range(gram.begin, gram.end):
            piece = sequence.ids[position]
            is_first = position in word_begins
            positions.append(position)
            labels.append(piece if is_first else int(vocabulary.later_labels[piece]))
            action = actions[gram.begin if config.replace_spans else position]
            input_ids[position] = _replace(piece, action, choices[position], vocabulary)
    return Instance(
        input_ids, sequence.segment_ids, positions, labels, swapped, sequence.ids, grams
    )


def mask_budget(num_pieces, config):
    """Return the most pieces to mask of so many, separators included; int or int array.

    Neither `masked_lm_prob` nor `max_predictions_per_seq` is exceeded.
    """
    # 0.29 * 100 is a little less than 29 in binary.
    budget = np.floor(config.masked_lm_prob * np.asarray(num_pieces) + 1e-9).astype(np.int64)
    return np.minimum(budget, config.max_predictions_per_seq)


def _replace(piece, action, choice, vocabulary):
    """Return what stands in the place of a masked piece; `action` and `choice` are in [0, 1)."""
    if action < MASK_SHARE:
        return vocabulary.mask_id
    if action < MASK_SHARE + KEEP_SHARE:
        return piece
    return int(vocabulary.replacements[int(choice * len(vocabulary.replacements))])


def make_grams(words, probabilities, draws, stream):
    """Tile the words of a segment with grams: every word is in exactly one.

    words [(1, 2), (2, 4), (4, 5)] and lengths drawn 2, 2 give the grams [1, 4) and [4, 5).

    Args:
        words: list of (begin, end), consecutive.
        probabilities: tuple, of 1, 2, ... words.
        draws: `Draws`.
        stream: int, FIRST_GRAMS or SECOND_GRAMS.

    Returns:
        List of `Gram`; the last is as long as the words allow.
    """
    bounds = np.cumsum(probabilities[:-1])
    numbers = draws.uniform(stream, np.arange(len(words)))
    lengths = 1 + np.searchsorted(bounds, numbers, side="right")
    grams = []
    first = 0
    for length in lengths.tolist():
        gram = words[first : first + length]
        if gram:
            grams.append(Gram(gram[0][0], gram[-1][1], len(gram)))
        first += length
    return grams


def choose_grams(grams, words, budget, draws):
    """Go through the grams in random order, taking what fits into the budget.

    Every gram has the same chance, and with it every word. A gram that does not fit gives way to
    the next one that does and has as many words: to take whatever fits would make single words
    much too frequent. Only in the end, one more gram is cut to the words that still fit.

    Args:
        grams: list of `Gram`.
        words: list of (begin, end), those of the grams.
        budget: int, how many pieces may be masked.
        draws: `Draws`.

    Returns:
        List of the chosen `Gram`, sorted by position.
    """
    order = np.argsort(draws.order_keys(np.arange(len(grams)))).tolist()
    left = budget
    chosen = []
    wanted = None  # number of words of the gram that did not fit
    for gram in (grams[i] for i in order):
        if gram.num_words <= budget and wanted in (None, gram.num_words):
            length = gram.end - gram.begin
            if length <= left:
                chosen.append(gram)
                left -= length
                wanted = None
            else:
                wanted = gram.num_words
    others = (_cut_gram(grams[i], words, left) for i in order if grams[i] not in chosen)
    return sorted(chosen + list(itertools.islice(filter(None, others), 1)))


def _cut_gram(gram, words, length):
    """Return a gram cut to its first words that make up no more than `length`, or None."""
    ends = [end for begin, end in words if gram.begin <= begin and end <= gram.end]
    num_words = sum(end - gram.begin <= length for end in ends)
    return Gram(gram.begin, ends[num_words - 1], num_words) if num_words else None
