"""Windows of contexts, and answers chosen from scores."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_texts import ODD_TEXTS

from kinds import span_windows
from kinds.pieces import encode_text
from kinds.span_windows import AnswerRules, Sizes, choose_answers, encode_windows


def windows_of(tokenizer, question, context, answer, sizes):
    pieces = encode_text(context, tokenizer)
    return encode_windows(tokenizer.encode(question).ids, pieces, answer, tokenizer, sizes)


def perfect_scores(windows):
    """Return scores that are 1 at the answer's pieces, or at [CLS] if the window has no answer."""
    starts = [np.eye(len(window.ids))[window.answer[0]] for window in windows]
    return starts, [np.eye(len(window.ids))[window.answer[1]] for window in windows]


def test_a_worked_example(tokenizer):
    sizes = Sizes(max_seq_length=10, max_query_length=2, doc_stride=3)
    one, two, three = windows_of(tokenizer, "在哪里", "他在2019年到北京上学", (8, 10), sizes)
    tokens = tokenizer.convert_ids_to_tokens(one.ids.tolist())
    assert tokens == ["[CLS]", "在", "哪", "[SEP]", "他", "在", "2019", "年", "到", "[SEP]"]
    assert one.length_a == 4 and one.answer == (0, 0)
    assert one.char_begins.tolist() == [-1] * 4 + [0, 1, 2, 6, 7, -1]
    assert one.char_ends.tolist() == [-1] * 4 + [1, 2, 6, 7, 8, -1]
    tokens = tokenizer.convert_ids_to_tokens(two.ids.tolist())
    assert tokens[4:] == ["年", "到", "北", "京", "上", "[SEP]"] and two.answer == (6, 7)
    assert three.answer == (5, 6)
    assert [window.is_own.sum() for window in (one, two, three)] == [4, 2, 3]


def test_the_number_of_windows_is_known_before(tokenizer):
    for length, stride in itertools.product((0, 1, 5, 6, 7, 30), (1, 4, 9)):
        sizes = Sizes(10, 1, stride)
        windows = windows_of(tokenizer, "在哪", "字" * length, None, sizes)
        assert len(windows) == span_windows.count_windows(2, length, sizes)


def test_the_best_answer_of_all_windows_wins(tokenizer):
    context = "一二三四五六七八九十"
    sizes = Sizes(10, 1, 3)
    windows = windows_of(tokenizer, "在", context, None, sizes)
    rng = np.random.RandomState(0)
    for _ in range(20):
        starts = [rng.normal(size=len(window.ids)) for window in windows]
        ends = [rng.normal(size=len(window.ids)) for window in windows]
        every = all_answers(context, windows, starts, ends, longest=4)
        found = choose_answers(context, windows, starts, ends, AnswerRules(4, 5))
        best = sorted(every, key=lambda text: -every[text])[:5]
        assert [candidate.text for candidate in found] == best
        assert [c.score for c in found] == pytest.approx([every[text] for text in best])
        assert sum(c.probability for c in found) == pytest.approx(1.0)
        ratio = np.exp(found[0].score - found[1].score)
        assert found[0].probability / found[1].probability == pytest.approx(ratio)


def all_answers(context, windows, starts, ends, longest):
    """Return a dict of the text of every possible answer to its score; no text occurs twice.

    A score is of the window that owns the first piece. If the answer is not whole there, the score
    is of the first window that holds all of it.
    """
    every = {}
    for is_owner in (True, False):
        for window, start, end in zip(windows, starts, ends):
            for i, j in itertools.product(range(3, len(window.ids) - 1), repeat=2):
                if 0 <= j - i < longest and (window.is_own[i] or not is_owner):
                    text = context[window.char_begins[i] : window.char_ends[j]]
                    every.setdefault(text, start[i] + end[j])
    return every


def test_an_answer_that_is_whole_in_a_window_can_be_found(tokenizer):
    context = "".join(map(chr, range(0x4E00, 0x4E00 + 40)))
    for stride, length in itertools.product(range(1, 13), range(1, 13)):
        for begin in range(len(context) - length + 1):
            sizes = Sizes(16, 1, stride)  # 12 pieces of the context
            windows = windows_of(tokenizer, "在", context, (begin, begin + length), sizes)
            found = choose_answers(context, windows, *perfect_scores(windows), AnswerRules(12))
            if any(window.answer != (0, 0) for window in windows):
                assert (found[0].begin, found[0].end) == (begin, begin + length)


def test_no_answer_wins_above_its_threshold(tokenizer):
    (window,) = windows_of(tokenizer, "在", "北京", None, Sizes(10, 1, 3))
    starts, ends = np.zeros([2, len(window.ids)])
    starts[0], starts[3] = 2.0, 1.5
    choose = lambda **options: choose_answers(  # noqa: E731
        "北京", [window], [starts], [ends], AnswerRules(**options)
    )
    assert choose()[0].text == "北" or choose()[0].text == "北京"
    assert all(candidate.begin is not None for candidate in choose())
    first, *others = choose(allow_no_answer=True)
    assert (first.text, first.begin) == ("", None) and all(c.text for c in others)
    first, second, *_ = choose(allow_no_answer=True, no_answer_threshold=0.6)
    assert first.text and second.text == ""
    starts[0] = 1.0
    scores = [candidate.score for candidate in choose(allow_no_answer=True)]
    assert scores == sorted(scores, reverse=True) and scores.index(1.0) > 1


def test_no_answer_needs_a_low_score_in_every_window_only_once(tokenizer):
    """If one window has a good answer, its low score of "no answer" counts for all windows."""
    windows = windows_of(tokenizer, "在", "一二三四五六七八九十", None, Sizes(10, 1, 3))
    starts = [np.full(len(window.ids), -9.0) for window in windows]
    for i, start in enumerate(starts):
        start[0] = 5.0 - i
    found = choose_answers(
        "一二三四五六七八九十", windows, starts, starts, AnswerRules(allow_no_answer=True)
    )
    assert found[0].begin is None and found[0].score == 2 * (5.0 - len(windows) + 1)


def test_a_context_without_pieces_has_no_answer(tokenizer):
    (window,) = windows_of(tokenizer, "在", "\u200b ", None, Sizes(10, 1, 3))
    scores = [np.zeros(len(window.ids))]
    (found,) = choose_answers("\u200b ", [window], scores, scores, AnswerRules())
    assert (found.text, found.begin, found.probability) == ("", None, 1.0)


@given(ODD_TEXTS, st.data())
def test_every_answer_is_a_part_of_the_original_text(tokenizer, context, data):
    """The text equals its slice of the context; right scores give all pieces of the answer."""
    begin = data.draw(st.integers(0, len(context)))
    end = data.draw(st.integers(begin, len(context)))
    answer = (begin, end) if end > begin else None
    windows = windows_of(
        tokenizer, "在？", context, answer, Sizes(12, 2, data.draw(st.integers(1, 9)))
    )
    starts, ends = perfect_scores(windows)
    found = choose_answers(context, windows, starts, ends, AnswerRules(max_answer_length=30))
    for candidate in found:
        if candidate.begin is not None:
            assert candidate.text == context[candidate.begin : candidate.end] != ""
    if any(window.answer != (0, 0) for window in windows):
        pieces = encode_text(context, tokenizer)
        inside = [(b, e) for b, e in zip(pieces.begins, pieces.ends) if b < end and e > begin]
        assert found[0].begin == inside[0][0] and found[0].end == inside[-1][1]
