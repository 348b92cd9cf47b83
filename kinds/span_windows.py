"""Cuts contexts into windows of pieces, and finds the answers in the scores of the windows.

A window is [CLS] question [SEP] part of the context [SEP]. The answer of a question is the best
span of all its windows. In a window that does not hold the answer, [CLS] is marked as the answer.
"""

from typing import NamedTuple, Optional

import numpy as np

from kinds.pieces import owned_by, pieces_of, windows_of
from tokenization import CLS, SEP

NO_PLACE = -1  # the character of a piece that is not in the context


class Sizes(NamedTuple):
    """How contexts are cut."""

    max_seq_length: int  # most pieces of a window, special ones included
    max_query_length: int  # most pieces of a question; the rest is cut off
    doc_stride: int  # pieces from the start of a window to the start of the next window


class Window(NamedTuple):
    """A sequence of pieces: arrays of int32 [length], except where noted."""

    ids: np.ndarray
    length_a: int  # pieces of [CLS] question [SEP]
    char_begins: np.ndarray  # of each piece in the context, NO_PLACE outside
    char_ends: np.ndarray
    is_own: np.ndarray  # 1 for the pieces that have more context in this window than in others
    answer: tuple  # (first, last piece) of the answer; (0, 0) if it is not in the window


class Candidate(NamedTuple):
    """A possible answer, context[begin:end]. For no answer both are None and the text is ""."""

    text: str
    begin: Optional[int]
    end: Optional[int]
    score: float
    probability: float  # of this candidate; the candidates of a question sum to 1


class AnswerRules(NamedTuple):
    """How answers are chosen."""

    max_answer_length: int = 50  # pieces
    num_best: int = 20  # candidates of a question
    allow_no_answer: bool = False
    # The question has no answer if "no answer" scores higher than the best span by more than this.
    no_answer_threshold: float = 0.0


def count_windows(num_question, num_context, sizes):
    """Return the number of windows of a question and its context, given their numbers of pieces."""
    return len(_windows(min(num_question, sizes.max_query_length), num_context, sizes))


def _windows(num_question, num_context, sizes):
    room = sizes.max_seq_length - num_question - 3
    return windows_of(num_context, room, sizes.doc_stride)


def encode_windows(question_ids, context, answer, tokenizer, sizes):
    """Return the windows of a question, a list of `Window`.

    Args:
        question_ids: int32 [pieces of the question].
        context: the pieces of the context, as from `pieces.encode_text`.
        answer: (begin, end), characters of the context, or None.
        tokenizer: `tokenization.FullTokenizer`.
        sizes: `Sizes`.
    """
    cls_id, sep_id = tokenizer.convert_tokens_to_ids([CLS, SEP])
    question_ids = question_ids[: sizes.max_query_length]
    head = np.concatenate([[cls_id], question_ids, [sep_id]])
    first_of_answer, last_of_answer = (0, 0)
    if answer:
        first_of_answer, last_of_answer = pieces_of(context.begins, context.ends, *answer)
    spans = _windows(len(question_ids), len(context.ids), sizes)
    windows = []
    for (first, last), (own_first, own_last) in zip(spans, owned_by(spans)):
        length = len(head) + last - first + 1
        inside = slice(len(head), length - 1)
        char_begins, char_ends, is_own = np.full([3, length], NO_PLACE, np.int32)
        char_begins[inside] = context.begins[first:last]
        char_ends[inside] = context.ends[first:last]
        is_own[:] = 0
        is_own[len(head) + own_first - first : len(head) + own_last - first] = 1
        place = (0, 0)
        if first <= first_of_answer < last_of_answer <= last:
            shift = len(head) - first
            place = (first_of_answer + shift, last_of_answer - 1 + shift)
        ids = np.concatenate([head, context.ids[first:last], [sep_id]]).astype(np.int32)
        windows.append(Window(ids, len(head), char_begins, char_ends, is_own, place))
    return windows


# ----------------------------------------------------------------------------------------- answers


def choose_answers(context, windows, start_scores, end_scores, rules):
    """Return the best answers of a question, a list of `Candidate`, the best first.

    The first candidate is the answer. The answer is "no answer" only if `rules` allows this and
    the score is high enough, or if the context has no piece. Different spans with the same text
    count once.

    Args:
        context: str.
        windows: list of objects with `char_begins`, `char_ends` and `is_own`, all of a question.
        start_scores, end_scores: lists of float arrays, one for each window and at least as long
            as the window.
        rules: `AnswerRules`.
    """
    best, none = {}, np.inf
    rows = zip(windows, _numbers_seen(windows), start_scores, end_scores)
    for window, num_seen, starts, ends in rows:
        none = min(none, float(starts[0] + ends[0]))
        for score, first, last in _best_spans(window, num_seen, starts, ends, rules):
            begin, end = int(window.char_begins[first]), int(window.char_ends[last])
            text = context[begin:end]
            if text not in best or score > best[text][0]:
                best[text] = score, begin, end
    rows = sorted(((-score, begin, end) for score, begin, end in best.values()))
    rows = [(-score, begin, end) for score, begin, end in rows[: rules.num_best]]
    if rules.allow_no_answer or not rows:
        wins = not rows or none - rows[0][0] > rules.no_answer_threshold
        behind_best = 1 + sum(row[0] >= none for row in rows[1:])
        rows.insert(0 if wins else behind_best, (none, None, None))
    shares = np.exp(np.array([row[0] for row in rows]) - max(row[0] for row in rows))
    shares /= shares.sum()
    return [
        Candidate("" if begin is None else context[begin:end], begin, end, score, float(share))
        for (score, begin, end), share in zip(rows, shares)
    ]


def _numbers_seen(windows):
    """Return for each window how many of its first pieces the window before it holds, too."""
    numbers, num_owned, end = [], 0, 0
    for window in windows:
        inside = np.flatnonzero(window.char_begins != NO_PLACE)
        own = np.flatnonzero(window.is_own)
        first = num_owned - (own[0] - inside[0]) if len(own) else 0  # piece of the context
        numbers.append(end - first)
        num_owned += len(own)
        end = first + len(inside)
    return numbers


def _best_spans(window, num_seen, starts, ends, rules):
    """Return the spans of a window with the greatest scores: list of (score, first, last piece).

    A span counts in the window that owns its first piece. If the span ends behind that window, it
    counts in the first window that holds all of it.
    """
    inside = np.flatnonzero(window.char_begins != NO_PLACE)
    if not len(inside):
        return []
    starts, ends, is_own = starts[inside], ends[inside], window.is_own[inside] != 0
    longest = min(rules.max_answer_length, len(inside))
    own_starts = np.where(is_own, starts, -np.inf)
    spans = _top_spans(own_starts, ends, longest, rules.num_best, inside[0])
    first_own, first = int(np.argmax(is_own)), max(0, num_seen - longest + 1)
    if first < first_own:
        early_starts = np.where(np.arange(len(starts)) < first_own, starts, -np.inf)
        new_ends = np.where(np.arange(len(ends)) >= num_seen, ends, -np.inf)
        early = slice(first, first_own + longest)
        shift = inside[0] + first
        spans += _top_spans(early_starts[early], new_ends[early], longest, rules.num_best, shift)
    return spans


def _top_spans(starts, ends, longest, num_best, shift):
    """Return the spans of at most `longest` pieces with the greatest scores above -inf.

    Args:
        starts, ends: float [n], scores of pieces.
        longest, num_best: int.
        shift: int, added to the pieces.

    Returns:
        List of (score, first, last piece), not sorted.
    """
    padded = np.concatenate([ends, np.full(longest, -np.inf)])
    # A view of `padded`: element [i, k] is padded[i + k].
    ends_behind = np.lib.stride_tricks.as_strided(
        padded, [len(ends), longest], [padded.strides[0]] * 2, writeable=False
    )
    scores = (starts[:, np.newaxis] + ends_behind).ravel()  # of the spans from i to i + k
    kept = min(num_best, len(scores))
    best = np.argpartition(-scores, kept - 1)[:kept]
    firsts = shift + best // longest
    lasts = firsts + best % longest
    return [
        (score, first, last)
        for score, first, last in zip(scores[best].tolist(), firsts.tolist(), lasts.tolist())
        if score > -np.inf
    ]
