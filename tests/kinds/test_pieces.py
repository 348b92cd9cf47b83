"""Spans of pieces: several characters, none, shared ones, and marks."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_texts import ODD_TEXTS

import finetuning_data.label_decoding
import kinds.pieces
from kinds.pieces import owned_by, pieces_of, windows_of, with_marks


@pytest.mark.parametrize("module", [kinds.pieces, finetuning_data.label_decoding])
def test_examples_of_the_docstrings(module):
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.attempted and not result.failed


def test_a_mark_belongs_to_its_letter_and_a_blank_to_none():
    text = "e\u0301\u0301 a\u200b"
    assert with_marks(text, np.array([0, 4]), np.array([1, 5])).tolist() == [3, 5]
    # A mark that is a piece of its own, or that begins the text, extends no other piece.
    assert with_marks("\u0301a\u20dd", np.array([1, 2]), np.array([2, 3])).tolist() == [2, 3]


@given(ODD_TEXTS)
def test_marks_never_reach_into_the_next_piece(tokenizer, text):
    _, begins, ends = tokenizer.encode(text)
    longer = with_marks(text, begins, ends)
    assert (longer >= ends).all() and (longer <= len(text)).all()
    for i, end in enumerate(longer):
        assert all(begin >= end or begin <= begins[i] or begin < ends[i] for begin in begins)


@given(ODD_TEXTS, st.integers(0, 20), st.integers(0, 20))
def test_pieces_of_a_span_are_those_that_share_a_character(tokenizer, text, one, two):
    begin, end = min(one, two), max(one, two) + 1
    _, begins, ends = tokenizer.encode(text)
    first, last = pieces_of(begins, ends, begin, end)
    expected = [i for i in range(len(begins)) if max(begins[i], begin) < min(ends[i], end)]
    assert list(range(first, last)) == expected


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 25))
def test_windows_cover_a_text_and_every_piece_has_the_owner_with_most_context(count, room, stride):
    windows = windows_of(count, room, stride)
    assert windows[0][0] == 0 and windows[-1][1] == count
    assert len(set(windows)) == len(windows)
    for (begin, end), (following, _) in zip(windows, windows[1:]):
        assert begin < following <= min(end, begin + stride)
    owned = [piece for edges in owned_by(windows) for piece in range(*edges)]
    assert owned == list(range(count))
    for (begin, end), edges in zip(windows, owned_by(windows)):
        for piece in range(*edges):
            assert begin <= piece < end <= begin + room
            context = min(piece - begin, end - 1 - piece)
            assert context == max(min(piece - b, e - 1 - piece) for b, e in windows)
