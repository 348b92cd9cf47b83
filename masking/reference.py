"""Turns documents into pre-training instances: masks n-grams of whole words by the rule 80/10/10.

This module is the readable specification, which makes one instance at a time.
`masking/vectorized.py` makes the same instances, for many documents at once and many times faster.
Both modules work on ids and half-open spans [begin, end), without TensorFlow. The steps for one
document (`make_instances`):

    find_breaks         where sentences, clauses and words begin among the pieces
    pairs_of_document   cut the document into pairs of segments (module `sentence_order`)
    make_grams          divide the words of a segment into grams of 1 to n words
    mask                choose grams at random up to a budget, replace their pieces 80/10/10

No piece is lost: if the swaps are undone, the joined segments of a duplicate are the document. (The
published tool truncated chunks that were too long.)

S is the sequence length, P the number of predictions per sequence, V the size of the vocabulary.
"""

import itertools
from typing import NamedTuple

import numpy as np

from masking.random_numbers import Stream
from masking.sentence_order import (
    CLAUSE,
    INSIDE,
    SENTENCE,
    WORD,
    Pair,
    pairs_of_document,
)

# A clause ends with one of these marks and the closing marks after it.
CLAUSE_MARKS = [ord(mark) for mark in "，。！？；：、…—,.!?;:"]
CLOSING_MARKS = [ord(mark) for mark in "”’」』】》〉）)]}\"'"]

# The kinds of the characters of 16 bits: a look-up is several times as fast as np.isin.
_NO_MARK, _CLAUSE_MARK, _CLOSING_MARK = range(3)
_MARK_KINDS = np.full(1 << 16, _NO_MARK, np.int8)
_MARK_KINDS[CLAUSE_MARKS] = _CLAUSE_MARK
_MARK_KINDS[CLOSING_MARKS] = _CLOSING_MARK

MAX_SEQ_LENGTH = 1 << 16  # `Draws.order_keys` has 16 bits for a position

MASK_SHARE, KEEP_SHARE = 0.8, 0.1  # BERT (arXiv 1810.04805), section 3.1; the rest is random


class Vocabulary(NamedTuple):
    """The properties of pieces that masking needs, by their ids."""

    cls_id: int
    sep_id: int
    mask_id: int
    unk_id: int
    continues: np.ndarray  # bool [V], whether the piece begins with "##"
    replacements: np.ndarray  # int [V minus special and unused], the ids of random replacements
    later_labels: np.ndarray  # int [V], the label of a piece that is not the first of its word


class MaskingConfig(NamedTuple):
    """How to make instances; `gram_probabilities[n - 1]` is the probability of n words."""

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float
    short_seq_prob: float
    gram_probabilities: tuple
    replace_spans: bool = False  # 80/10/10 for whole grams instead of single pieces
    max_chunks_per_row: int = 1  # of compact records


class Document(NamedTuple):
    """A document of n pieces."""

    pieces: np.ndarray  # int [n], ids
    breaks: np.ndarray  # int [n + 1], the kind of break at each piece; SENTENCE at the end


class Sequence(NamedTuple):
    """[CLS] first segment [SEP] second segment [SEP]."""

    ids: list
    segment_ids: list
    first_words: list  # of (begin, end), positions of each word of the first segment
    second_words: list


class Gram(NamedTuple):
    """Consecutive words that are masked together, at positions [begin, end)."""

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
    grams: list  # of `Gram`, sorted by position
    budget: int  # how many pieces could be masked


class MaskedRow(NamedTuple):
    """The instances of the chunks of a compact record, one after the other in a sequence."""

    sequences: list  # of `Sequence`
    instances: list  # of `Instance`, whose positions count from the start of the chunk
    starts: list  # the position of each [CLS] in the sequence


def make_vocabulary(vocab, published_labels=False):
    """Return the `Vocabulary` of a dict from piece to id.

    Args:
        vocab: dict with the special pieces; the ids are 0, 1, 2 and so on.
        published_labels: bool. The published tool put "##" before the later characters of a Chinese
            word and left it on the labels. True makes the same labels, where the vocabulary has
            them, to continue a checkpoint that was trained with them.
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
    """Return whether a piece never comes from text, such as [PAD], [unused1] or <S>."""
    return len(piece) > 2 and piece[0] + piece[-1] in ("[]", "<>")


# The weight of a gram of n words, where the longest gram has `longest` words.
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
    """Find the kind of break at each piece, from the offset of the piece in the text.

    A piece belongs to the word that holds its first character. A piece with "##" belongs to the
    word of the piece before it, so that a Latin word stays one word for every segmenter.

        text      我爱ALBERT，是的。      words 我|爱|ALBERT|，|是的|。, which end at 1 2 8 9 11 12
        pieces    我    爱   al   ##bert ，   是     的     。
        begins    0     1    2    4      8    9      10     11
        breaks    SENT. WORD WORD INSIDE WORD CLAUSE INSIDE WORD

    Args:
        text: str, one sentence a line.
        word_ends: int array, the offsets where words end, or None if every piece is a word.
        pieces: int [n], ids.
        begins: int [n], offset of the first character of each piece, not decreasing.
        vocabulary: `Vocabulary`.

    Returns:
        int8 [n], INSIDE, WORD, CLAUSE or SENTENCE.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if word_ends is None:
        is_word = np.ones(len(pieces), bool)
    else:
        is_end = np.zeros(len(codes) + 1, bool)
        is_end[word_ends] = True
        word = np.cumsum(is_end, dtype=np.int32).take(begins)
        is_word = ~vocabulary.continues.take(pieces)
        is_word[1:] &= word[1:] != word[:-1]
    # A clause ends after all of its marks, as in 。’” or ……
    mark = _MARK_KINDS.take(np.minimum(codes.take(begins), len(_MARK_KINDS) - 1))
    others = np.where(mark == _CLOSING_MARK, 0, np.arange(len(mark)))
    last_other = np.maximum.accumulate(others)  # the last piece that is no closing mark
    after_mark = np.zeros(len(pieces), bool)
    after_mark[1:] = mark[last_other[:-1]] == _CLAUSE_MARK
    line_begins = np.append(0, np.flatnonzero(codes == ord("\n")))
    breaks = np.full(len(pieces), INSIDE, np.int8)
    breaks[is_word] = WORD
    breaks[is_word & after_mark & (mark == _NO_MARK)] = CLAUSE
    first_pieces = np.searchsorted(begins, line_begins)
    breaks[first_pieces[first_pieces < len(pieces)]] = SENTENCE
    return breaks


def make_instances(document, config, vocabulary, draws):
    """Return the list of `Instance` of one duplicate of a document.

    Args:
        document: `Document` of at least two pieces.
        config: `MaskingConfig`.
        vocabulary: `Vocabulary`.
        draws: `Draws` of the seed, the document and the duplicate.
    """
    return [
        mask(assemble(document, pair, vocabulary), pair.swapped, config, vocabulary, chunk_draws)
        for pair, chunk_draws in pairs_of_document(document.breaks, config, draws)
    ]


def assemble(document, pair, vocabulary):
    """Return the `Sequence` of a pair: [CLS] first [SEP] second [SEP], segment ids 0 and 1.

    A word on both sides of a cut counts as two words.
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


def mask_row(row, config, vocabulary, draws):
    """Return the `MaskedRow` of a compact record: each chunk is split, swapped and masked.

    The chunks of a row share `max_predictions_per_seq`. If this number is less than
    `masked_lm_prob` asks for, the share of the masked pieces is lower in all chunks. A later chunk
    gets at most what the budgets of the earlier chunks leave.

    Args:
        row: `compact.Row`.
        config: `MaskingConfig`.
        vocabulary: `Vocabulary`.
        draws: `Draws` of the seed, the epoch and the number of the record.
    """
    sequences, instances, starts, begin, start = [], [], [], 0, 0
    left = config.max_predictions_per_seq
    share = min(config.masked_lm_prob, left / row.num_positions)
    config = config._replace(masked_lm_prob=share)
    for number, (length, splits) in enumerate(zip(row.lengths, row.splits)):
        chunk_draws = draws.child(number)
        pieces, is_word = (values[begin : begin + length] for values in (row.pieces, row.is_word))
        document = Document(pieces, np.append(np.where(is_word, WORD, INSIDE), SENTENCE))
        middles = splits or (1 + np.flatnonzero(is_word[1:])).tolist() or list(range(1, length))
        middle = middles[chunk_draws.below(Stream.MIDDLE, len(middles))[0]]
        # Without a place for a split between sentences, a chunk has no order to predict.
        swapped = bool(splits) and bool(chunk_draws.below(Stream.SWAP, 2)[0])
        pair = Pair(0, middle, length, swapped)
        sequence = assemble(document, pair, vocabulary)
        instance = mask(sequence, pair.swapped, config, vocabulary, chunk_draws, left)
        sequences.append(sequence)
        instances.append(instance)
        starts.append(start)
        left -= instance.budget
        begin += length
        start += len(sequence.ids)
    return MaskedRow(sequences, instances, starts)


def mask(sequence, swapped, config, vocabulary, draws, most=None):
    """Choose grams and replace their pieces.

    Args:
        sequence: `Sequence` of T pieces, separators included.
        swapped: bool, whether the segments are swapped.
        config: `MaskingConfig`.
        vocabulary: `Vocabulary`.
        draws: `Draws` of this chunk.
        most: int, a further limit of the masked pieces, or None.

    Returns:
        `Instance`; its masked positions are sorted and unique, and no separator is masked.
    """
    probabilities = config.gram_probabilities
    grams = make_grams(sequence.first_words, probabilities, draws, Stream.FIRST_GRAMS)
    grams += make_grams(sequence.second_words, probabilities, draws, Stream.SECOND_GRAMS)
    words = sequence.first_words + sequence.second_words
    word_ends = dict(words)
    least = min(word_ends[gram.begin] - gram.begin for gram in grams)
    budget = int(mask_budget(len(sequence.ids), least, config))
    budget = budget if most is None else min(budget, most)
    grams = choose_grams(grams, words, budget, draws)
    actions = draws.uniform(Stream.ACTION, np.arange(len(sequence.ids)))
    choices = draws.uniform(Stream.REPLACEMENT, np.arange(len(sequence.ids)))
    input_ids, positions, labels = list(sequence.ids), [], []
    for gram in grams:
        for position in range(gram.begin, gram.end):
            piece = sequence.ids[position]
            is_first = position in word_ends
            positions.append(position)
            labels.append(piece if is_first else int(vocabulary.later_labels[piece]))
            action = actions[gram.begin if config.replace_spans else position]
            input_ids[position] = _replace(piece, action, choices[position], vocabulary)
    return Instance(
        input_ids, sequence.segment_ids, positions, labels, swapped, sequence.ids, grams, budget
    )


def mask_budget(num_pieces, least, config):
    """Return how many pieces may be masked: the lower one of both limits of `MaskingConfig`.

    A short sequence may exceed `masked_lm_prob` so that one word can be masked: no instance is
    without a mask.

    Args:
        num_pieces: int or int array, lengths of sequences, separators included.
        least: int or int array, pieces of the shortest first word of a gram of each sequence.
        config: `MaskingConfig`.
    """
    # 0.29 * 100 is a little less than 29 in binary.
    budget = np.floor(config.masked_lm_prob * np.asarray(num_pieces) + 1e-9).astype(np.int64)
    return np.minimum(np.maximum(budget, least), config.max_predictions_per_seq)


def _replace(piece, action, choice, vocabulary):
    """Return the replacement of a masked piece; `action` and `choice` are in [0, 1)."""
    if action < MASK_SHARE:
        return vocabulary.mask_id
    if action < MASK_SHARE + KEEP_SHARE:
        return piece
    return int(vocabulary.replacements[int(choice * len(vocabulary.replacements))])


def make_grams(words, probabilities, draws, stream):
    """Divide the words of a segment into grams of random lengths.

    The words [(1, 2), (2, 4), (4, 5)] and the lengths 2, 2 give the grams [1, 4) and [4, 5).

    Args:
        words: list of (begin, end), consecutive.
        probabilities: tuple, the probabilities of 1, 2, ... words.
        draws: `Draws`.
        stream: int, Stream.FIRST_GRAMS or Stream.SECOND_GRAMS.

    Returns:
        List of `Gram`; the last may be shorter than its random length.
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
    """Choose grams in random order until the budget is used.

    Every gram, and so every word, has the same chance. When a gram does not fit into the rest of
    the budget, the next chosen gram is one that fits and has the same number of words: choosing
    any gram that fits would make single words much too frequent. In the end, one more gram is
    chosen and cut to the words that still fit.

    Args:
        grams: list of `Gram`.
        words: list of (begin, end), the words of the grams.
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
    """Return a gram cut to its first words that fit into `length` pieces, or None."""
    ends = [end for begin, end in words if gram.begin <= begin and end <= gram.end]
    num_words = sum(end - gram.begin <= length for end in ends)
    return Gram(gram.begin, ends[num_words - 1], num_words) if num_words else None
