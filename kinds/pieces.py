"""Places of pieces in a text: from characters to pieces and back.

Labels and answers belong to the characters of the original text, and a model sees pieces. A piece
may hold several characters (a Latin word, a number, [UNK]), some characters have no piece (blanks,
zero-width characters), and several pieces may share a character (a Hangul syllable).
"""

import unicodedata

import numpy as np

# No mark stands below this code point; it spares the look-up of most characters.
_FIRST_MARK = "\u0300"


def with_marks(text, begins, ends):
    """Extend the spans of pieces over combining marks that no piece holds.

    The tokenizer drops the mark of "e" + U+0301, but the mark belongs to its letter:

    >>> with_marks("e\u0301a", np.array([0, 2]), np.array([1, 3]))
    array([2, 3])

    Args:
        text: str.
        begins, ends: int arrays [n], half-open spans that never go backwards.

    Returns:
        int array [n], the new ends.
    """
    ends = np.array(ends)
    for place, character in enumerate(text):
        if character < _FIRST_MARK or not unicodedata.category(character).startswith("M"):
            continue
        before = np.searchsorted(begins, place, side="right") - 1
        if before >= 0 and ends[before] == place:
            ends[ends == place] += 1
    return ends


def pieces_of(begins, ends, begin, end):
    """Return the half-open range of the pieces that share a character with text[begin:end].

    The range is empty where the characters have no piece:

    >>> begins, ends = np.array([0, 1, 6]), np.array([1, 5, 7])  # "在2019 年"
    >>> pieces_of(begins, ends, 1, 3), pieces_of(begins, ends, 1, 7), pieces_of(begins, ends, 5, 6)
    ((1, 2), (1, 3), (2, 2))

    Args:
        begins, ends: int arrays [n], half-open spans that never go backwards.
        begin, end: int, half-open span of characters, not empty.
    """
    first = int(np.searchsorted(ends, begin, side="right"))
    return first, max(first, int(np.searchsorted(begins, end, side="left")))
