"""The specification of instances: worked examples, invariants over any document, ratios."""

import collections

import numpy as np
import pytest
from documents import (
    CHARACTERS,
    FIRST_PLAIN,
    PIECES,
    SPECIAL,
    VOCAB,
    config,
    configs,
    documents,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from masking import reference, sentence_order
from masking.random_numbers import Draws, Stream
from masking.reference import Document, Gram
from masking.sentence_order import CLAUSE, INSIDE, SENTENCE, WORD, Pair

VOCABULARY = reference.make_vocabulary(VOCAB)


def segments(instance):
    """The two segments of an instance, as they were before masking, in their true order."""
    ids, last = instance.original_ids, len(instance.original_ids) - 1
    middle = ids.index(VOCAB["[SEP]"])
    assert ids[0] == VOCAB["[CLS]"]
    assert ids[last] == VOCAB["[SEP]"]
    assert instance.segment_ids == [0] * (middle + 1) + [1] * (last - middle)
    first, second = ids[1:middle], ids[middle + 1 : last]
    return (second, first) if instance.swapped else (first, second)


def first_word_of(instance):
    """Return the pieces of the masked word; 0 if no word or several words are masked."""
    return sum(gram.end - gram.begin for gram in instance.grams if gram.num_words == 1) * (
        len(instance.grams) == 1
    )


@settings(max_examples=300, deadline=None)
@given(documents(), configs, st.integers(-(2**63), 2**63 - 1))
def test_invariants_of_instances(document, config, seed):
    made = reference.make_instances(document, config, VOCABULARY, Draws(seed))
    rebuilt = []
    for instance in made:
        first, second = segments(instance)
        assert first
        assert second
        rebuilt += first + second
        size = len(instance.original_ids)
        assert len(instance.input_ids) == len(instance.segment_ids) == size
        assert size <= config.max_seq_length
        positions = instance.masked_lm_positions
        assert len(positions) <= config.max_predictions_per_seq
        budget = max(config.masked_lm_prob * size + 1e-6, first_word_of(instance))
        assert len(positions) <= budget
        assert positions == sorted(set(positions))
        assert instance.masked_lm_ids == [instance.original_ids[i] for i in positions]
        for i in range(size):
            if i not in positions:
                assert instance.input_ids[i] == instance.original_ids[i]
            elif instance.input_ids[i] != VOCAB["[MASK]"]:
                assert PIECES[instance.input_ids[i]] not in SPECIAL
            if instance.original_ids[i] in (VOCAB["[CLS]"], VOCAB["[SEP]"]):
                assert i not in positions
    assert rebuilt == document.pieces.tolist()


@settings(max_examples=200, deadline=None)
@given(documents(), configs, st.integers(0, 2**63 - 1))
def test_grams_are_whole_words_of_one_segment(document, config, seed):
    pairs = sentence_order.pairs_of_document(document.breaks, config, Draws(seed))
    for pair, draws in pairs:
        sequence = reference.assemble(document, pair, VOCABULARY)
        instance = reference.mask(sequence, pair.swapped, config, VOCABULARY, draws)
        masked = []
        for gram in instance.grams:
            inside = [
                [word for word in words if gram.begin <= word[0] and word[1] <= gram.end]
                for words in (sequence.first_words, sequence.second_words)
            ]
            words = inside[0] or inside[1]
            assert not (inside[0] and inside[1])
            assert (words[0][0], words[-1][1]) == (gram.begin, gram.end)
            assert len(words) == gram.num_words <= len(config.gram_probabilities)
            masked += range(gram.begin, gram.end)
        assert masked == instance.masked_lm_positions


@settings(max_examples=200, deadline=None)
@given(documents(), configs, st.integers(0, 2**63 - 1))
def test_words_tile_the_segments(document, config, seed):
    for pair, _ in sentence_order.pairs_of_document(document.breaks, config, Draws(seed)):
        sequence = reference.assemble(document, pair, VOCABULARY)
        words = sequence.first_words + sequence.second_words
        covered = [i for begin, end in words for i in range(begin, end)]
        middle = sequence.ids.index(VOCAB["[SEP]"])
        expected = [i for i in range(1, len(sequence.ids) - 1) if i != middle]
        assert covered == expected


def breaks_of(*sentences):
    """Return the breaks of sentences; a sentence is a list of the lengths of its words."""
    marks = []
    for words in sentences:
        for length in words:
            marks += [WORD] + [INSIDE] * (length - 1)
        marks[-sum(words)] = SENTENCE
    return np.array(marks + [SENTENCE])


def chunks(breaks, **changes):
    made = sentence_order.pairs_of_document(breaks, config(short_seq_prob=0.0, **changes), Draws(3))
    return [(pair.begin, pair.end) for pair, _ in made]


@pytest.mark.parametrize(
    "sentences, expected",
    [
        (([4], [4], [4]), [(0, 8), (8, 12)]),  # a sentence that does not fit begins the next chunk
        (([5], [5]), [(0, 10)]),
        (([2, 3, 3, 3, 3],), [(0, 8), (8, 14)]),  # a long sentence is cut between words
        (([25],), [(0, 10), (10, 20), (20, 25)]),  # a long word is cut anywhere
        (([11],), [(0, 9), (9, 11)]),  # a single piece is never left
        (([10], [1]), [(0, 9), (9, 11)]),
        (([1], [10]), [(0, 9), (9, 11)]),
    ],
)
def test_chunks_end_with_a_sentence_else_a_word_else_anywhere(sentences, expected):
    assert chunks(breaks_of(*sentences), max_seq_length=13) == expected


def test_a_long_sentence_is_cut_after_a_clause_of_the_second_half():
    breaks = breaks_of([1] * 20)
    breaks[[3, 7]] = CLAUSE
    assert chunks(breaks, max_seq_length=13)[0] == (0, 7)
    breaks[7] = WORD
    assert chunks(breaks, max_seq_length=13)[0] == (0, 10)


def middles(breaks):
    return {
        sentence_order.pairs_of_document(breaks, config(short_seq_prob=0.0), Draws(seed))[0][
            0
        ].middle
        for seed in range(200)
    }


def test_segments_divide_at_sentences_else_clauses_else_words_else_anywhere():
    assert middles(breaks_of([2, 3], [4], [2, 2])) == {5, 9}
    clauses = breaks_of([2, 3, 4, 1])
    assert middles(clauses) == {2, 5, 9}
    clauses[[5, 9]] = CLAUSE
    assert middles(clauses) == {5, 9}
    assert middles(breaks_of([4])) == {1, 2, 3}


def test_half_of_the_pairs_are_swapped():
    breaks = breaks_of(*[[1] * 8] * 4000)
    pairs = sentence_order.pairs_of_document(breaks, config(max_seq_length=19), Draws(5))
    assert len(pairs) >= 2000
    swapped = np.mean([pair.swapped for pair, _ in pairs])
    assert abs(swapped - 0.5) < 0.04


def test_short_sequences_come_with_their_probability():
    breaks = breaks_of(*[[1]] * 100000)
    made = sentence_order.pairs_of_document(breaks, config(short_seq_prob=0.2), Draws(5))
    lengths = np.array([pair.end - pair.begin for pair, _ in made[:-1]])
    short = lengths[lengths < 61]
    assert abs(len(short) / len(lengths) - 0.2 * 59 / 60) < 0.03
    assert short.min() == 2
    assert abs(short.mean() - 31) < 2
    whole = sentence_order.pairs_of_document(breaks, config(short_seq_prob=0.0), Draws(5))
    assert {pair.end - pair.begin for pair, _ in whole[:-1]} == {61}


def test_assemble_swaps_and_shifts_the_words():
    document = Document(np.arange(10, 16), breaks_of([2, 1], [3]))
    sequence = reference.assemble(document, Pair(0, 2, 6, True), VOCABULARY)
    cls, sep = VOCAB["[CLS]"], VOCAB["[SEP]"]
    assert sequence.ids == [cls, 12, 13, 14, 15, sep, 10, 11, sep]
    assert sequence.segment_ids == [0] * 6 + [1] * 3
    assert sequence.first_words == [(1, 2), (2, 5)]
    assert sequence.second_words == [(6, 8)]
    cut = reference.assemble(document, Pair(0, 1, 6, False), VOCABULARY)
    assert cut.first_words == [(1, 2)]
    assert cut.second_words == [(3, 4), (4, 5), (5, 8)]


def find(text, pieces, words):
    """Return the breaks of a text, from its pieces (str, begin) and its words."""
    ids = np.array([VOCAB[piece] for piece, _ in pieces])
    begins = np.array([begin for _, begin in pieces])
    assert words is None or "".join(words) == text
    word_ends = None if words is None else np.cumsum([len(word) for word in words])
    return reference.find_breaks(text, word_ends, ids, begins, VOCABULARY).tolist()


A, B, C = CHARACTERS[:3]


def test_breaks_as_in_the_docstring():
    text = A + B + "ALBERT，" + C + A + "。"
    pieces = [(A, 0), (B, 1), ("al", 2), ("##bert", 4), ("，", 8), (C, 9), (A, 10), ("。", 11)]
    words = [A, B, "ALBERT", "，", C + A, "。"]
    expected = [SENTENCE, WORD, WORD, INSIDE, WORD, CLAUSE, INSIDE, WORD]
    assert find(text, pieces, words) == expected
    assert find(text, pieces, None) == [
        SENTENCE, WORD, WORD, WORD, WORD, CLAUSE, WORD, WORD
    ]  # fmt: skip


def test_a_latin_word_is_one_word_for_every_segmenter():
    assert find("albert", [("al", 0), ("##bert", 2)], list("albert")) == [SENTENCE, INSIDE]


def test_the_same_word_twice_has_its_boundaries_by_position():
    text = A + B + A + B + C
    pieces = [(c, i) for i, c in enumerate(text)]
    assert find(text, pieces, [A + B, A, B + C]) == [SENTENCE, INSIDE, WORD, WORD, INSIDE]
    four = A + B + C + A
    pieces = [(c, i) for i, c in enumerate(four)]
    assert find(four, pieces, [four]) == [SENTENCE] + [INSIDE] * 3


def test_spaces_and_lines_separate():
    text = A + " " + B + "\n" + C
    assert find(text, [(A, 0), (B, 2), (C, 4)], list(text)) == [SENTENCE, WORD, SENTENCE]
    # A word of the segmenter that holds a line end changes nothing.
    assert find(text, [(A, 0), (B, 2), (C, 4)], [text]) == [SENTENCE, INSIDE, SENTENCE]


def test_a_clause_begins_after_its_marks():
    text = A + "。”" + B + "；；" + C
    # The published vocabulary has no quotes, so they are found in the text.
    pieces = [("[UNK]" if c == "”" else c, i) for i, c in enumerate(text)]
    assert find(text, pieces, list(text)) == [SENTENCE, WORD, WORD, CLAUSE, WORD, WORD, CLAUSE]
    text = A + "。’”" + B + C  # two closing marks
    pieces = [("[UNK]" if c in "’”" else c, i) for i, c in enumerate(text)]
    assert find(text, pieces, list(text))[4:] == [CLAUSE, WORD]


def test_gram_probabilities():
    assert reference.gram_probabilities(1) == (1.0,)
    assert reference.gram_probabilities(3) == pytest.approx((6 / 11, 3 / 11, 2 / 11))
    assert reference.gram_probabilities(3, "uniform") == pytest.approx((1 / 3,) * 3)
    assert reference.gram_probabilities(3, "longer") == pytest.approx((2 / 11, 3 / 11, 6 / 11))


@pytest.mark.parametrize("favor", sorted(reference.GRAM_WEIGHTS))
def test_gram_lengths_are_drawn_with_their_probabilities(favor):
    probabilities = reference.gram_probabilities(3, favor)
    words = [(i, i + 1) for i in range(60000)]
    grams = reference.make_grams(words, probabilities, Draws(1), Stream.FIRST_GRAMS)
    assert [begin for begin, _, _ in grams] == [0] + [end for _, end, _ in grams[:-1]]
    assert grams[-1].end == 60000
    counts = collections.Counter(gram.num_words for gram in grams)
    for n, probability in enumerate(probabilities, start=1):
        assert abs(counts[n] / len(grams) - probability) < 0.01


def ranked_grams(draws, shapes):
    """Return grams, their words, and the grams in random order, which have the given shapes."""
    order = np.argsort(draws.order_keys(np.arange(len(shapes)))).tolist()
    shape_of = dict(zip(order, shapes))
    grams, words, begin = [], [], 1
    for i in range(len(shapes)):
        num_words, length = shape_of[i]
        ends = [begin + 1 + n for n in range(num_words - 1)] + [begin + length]
        words += zip([begin] + ends, ends)
        grams.append(Gram(begin, begin + length, num_words))
        begin += length
    return grams, words, [grams[i] for i in order]


def test_a_gram_that_does_not_fit_is_replaced_by_one_of_as_many_words():
    draws = Draws(2)
    # The second gram is too long, the third has another number of words.
    grams, words, (one, two, three, four) = ranked_grams(draws, [(2, 2), (2, 4), (1, 1), (2, 2)])

    def choose(budget):
        return reference.choose_grams(grams, words, budget, draws)

    assert choose(4) == sorted([one, four])
    # The rest of the budget takes one more gram, cut to the words that fit.
    assert choose(5) == sorted([one, four, Gram(two.begin, two.begin + 1, 1)])
    assert choose(1) == [three]
    assert choose(100) == grams
    assert choose(0) == []


@pytest.mark.parametrize(
    "num_pieces, least, prob, most, expected",
    [(15, 1, 0.1, 9, 1), (19, 1, 0.1, 9, 1), (20, 1, 0.1, 9, 2), (100, 1, 0.29, 50, 29)]
    + [(9, 1, 0.1, 9, 1), (9, 2, 0.1, 9, 2), (9, 2, 0.1, 1, 1), (29, 3, 0.1, 9, 3)]
    + [(100, 1, 0.3, 9, 9), (7, 1, 1.0, 9, 7), (7, 1, 0.0, 9, 1)],
)
def test_the_budget_is_not_rounded_up_but_to_one_word(num_pieces, least, prob, most, expected):
    limits = config(masked_lm_prob=prob, max_predictions_per_seq=most)
    assert reference.mask_budget(num_pieces, least, limits) == expected


@settings(max_examples=200, deadline=None)
@given(documents(max_size=30), configs, st.integers(0, 2**63 - 1))
def test_an_instance_without_a_mask_has_no_word_that_fits(document, config, seed):
    for instance in reference.make_instances(document, config, VOCABULARY, Draws(seed)):
        assert instance.masked_lm_positions or config.max_predictions_per_seq < 20


def test_every_word_of_a_short_document_is_masked_in_some_duplicates():
    document = Document(np.arange(FIRST_PLAIN, FIRST_PLAIN + 6), breaks_of([1, 1, 1], [1, 1, 1]))
    counts = collections.Counter()
    for seed in range(3000):
        (instance,) = reference.make_instances(
            document, config(masked_lm_prob=0.1, short_seq_prob=0.0), VOCABULARY, Draws(seed)
        )
        counts.update(instance.masked_lm_ids)
    assert sum(counts.values()) == 3000
    assert set(counts) == set(document.pieces.tolist())
    assert min(counts.values()) > 150


def test_every_instance_has_a_mask_if_a_word_fits():
    draws = Draws(3)
    grams, words, (one, _) = ranked_grams(draws, [(3, 7), (3, 8)])
    assert reference.choose_grams(grams, words, 3, draws) == [Gram(one.begin, one.begin + 2, 2)]
    assert reference.choose_grams(grams, words, 1, draws) == [Gram(one.begin, one.begin + 1, 1)]


def many_instances(num_documents, **changes):
    """Return instances of 512 pieces, about 50 for a document; words have 1 or 2 characters."""
    rng = np.random.RandomState(0)
    made = []
    for number in range(num_documents):
        words = rng.randint(1, 3, 17000)
        breaks = breaks_of(*np.split(words, np.arange(20, 17000, 20)))
        pieces = rng.randint(FIRST_PLAIN, FIRST_PLAIN + len(CHARACTERS), len(breaks) - 1)
        made += reference.make_instances(
            Document(pieces, breaks),
            config(max_seq_length=512, max_predictions_per_seq=51, masked_lm_prob=0.1, **changes),
            VOCABULARY,
            Draws(9, number),
        )
    return made


@pytest.fixture(scope="module")
def instances():
    """Instances with over 100,000 masked pieces."""
    return many_instances(40)


def test_eighty_ten_ten(instances):
    counts = collections.Counter()
    replacements = collections.Counter()
    for instance in instances:
        for position, label in zip(instance.masked_lm_positions, instance.masked_lm_ids):
            given = instance.input_ids[position]
            if given == VOCAB["[MASK]"]:
                counts["mask"] += 1
            elif given == label:
                counts["kept"] += 1
            else:
                counts["random"] += 1
                replacements[given] += 1
    total = sum(counts.values())
    assert total >= 100000
    assert abs(counts["mask"] / total - 0.8) < 0.01
    assert abs(counts["kept"] / total - 0.1) < 0.005
    assert abs(counts["random"] / total - 0.1) < 0.005
    # Every plain piece is drawn, and no piece is drawn much more often than another.
    assert set(replacements) == set(range(FIRST_PLAIN, len(PIECES)))
    mean = counts["random"] / len(replacements)
    assert max(replacements.values()) < 2.5 * mean


def test_mask_rate_and_gram_lengths_of_whole_instances(instances):
    masked = sum(len(instance.masked_lm_ids) for instance in instances)
    positions = sum(len(instance.input_ids) for instance in instances)
    assert 0.097 < masked / positions <= 0.1
    counts = collections.Counter(
        gram.num_words for instance in instances for gram in instance.grams
    )
    total = sum(counts.values())
    for n, probability in enumerate(reference.gram_probabilities(3), start=1):
        assert abs(counts[n] / total - probability) < 0.025


def test_every_position_is_masked_equally_often(instances):
    full = [instance for instance in instances if len(instance.input_ids) > 480]
    counts = np.zeros(480)
    for instance in full:
        counts += np.bincount(instance.masked_lm_positions, minlength=512)[:480]
    rates = counts.reshape(16, 30).mean(axis=1) / len(full)
    assert rates[1:].min() > 0.085
    assert rates[1:].max() < 0.115


def test_replace_spans_draws_once_for_a_gram():
    for instance in many_instances(4, replace_spans=True):
        for gram in instance.grams:
            masks = {instance.input_ids[i] == VOCAB["[MASK]"] for i in range(gram.begin, gram.end)}
            assert len(masks) == 1


def test_published_labels_mark_later_characters_only():
    vocabulary = reference.make_vocabulary(VOCAB, published_labels=True)
    pieces = np.array([VOCAB[piece] for piece in (A, B, "，", "al", "##bert", C, A)])
    document = Document(pieces, breaks_of([2, 1, 2, 2]))
    everything = config(masked_lm_prob=1.0, max_predictions_per_seq=64, gram_probabilities=(1.0,))
    pair = Pair(0, 3, 7, False)
    sequence = reference.assemble(document, pair, vocabulary)
    instance = reference.mask(sequence, False, everything, vocabulary, Draws(1))
    labels = [PIECES[i] for i in instance.masked_lm_ids]
    assert labels == [A, "##" + B, "，", "al", "##bert", C, "##" + A]


def test_vocabulary_tables():
    assert set(VOCABULARY.replacements.tolist()) == set(range(FIRST_PLAIN, len(PIECES)))
    assert VOCABULARY.later_labels.tolist() == list(range(len(PIECES)))
    assert not VOCABULARY.continues[VOCAB["##"]]
    assert VOCABULARY.continues[VOCAB["##b"]]


def test_equal_keys_give_equal_numbers_after_any_earlier_draws():
    one = Draws(1, 2, 3)
    one.uniform(Stream.SWAP, np.arange(100))
    np.testing.assert_array_equal(
        one.uniform(Stream.ORDER, np.arange(5)),
        Draws(1).child(2, 3).uniform(Stream.ORDER, np.arange(9))[:5],
    )
    document = Document(np.arange(FIRST_PLAIN, FIRST_PLAIN + 100), breaks_of(*[[2, 3]] * 20))

    def make(*key):
        return reference.make_instances(document, config(), VOCABULARY, Draws(*key))

    assert make(1, 2) == make(1, 2)
    assert make(1, 2) != make(1, 3)
    assert make(1, 2) != make(2, 2)
    assert make(-1, 2) != make(1, 2)


def test_draws_are_uniform_and_independent():
    rows = np.array([Draws(7, i).uniform(Stream.ORDER, np.arange(200)) for i in range(500)])
    assert rows.min() >= 0
    assert rows.max() < 1
    counts = np.histogram(rows, bins=50, range=(0, 1))[0]
    expected = rows.size / 50
    assert np.sum((counts - expected) ** 2 / expected) < 94  # chi-square, 49 degrees: p = 0.0001
    for one, other in ((rows[:-1], rows[1:]), (rows[:, :-1], rows[:, 1:])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015
    below = Draws(np.arange(3000)).below(Stream.MIDDLE, 3)
    assert np.bincount(below).min() > 900
    assert np.bincount(below).size == 3
