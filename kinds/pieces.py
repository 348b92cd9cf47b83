"""Places of pieces in a text: from characters to pieces and back, and windows of long texts.

Labels and answers belong to the characters of the original text, but a model reads pieces. A piece
may hold several characters (a Latin word, a number, [UNK]), some characters have no piece (blanks,
zero-width characters), and several pieces may share a character (a Hangul syllable).

A text with more pieces than fit into a sequence is cut into windows that overlap. A piece near the
edge of a window lacks context, so the window in which it has most context owns it:

    pieces                   0 1 2 3 4 5 6 7 8
    windows (6, stride 3)    0 1 2 3 4 5              owns 0 to 3
                                   3 4 5 6 7 8        owns 4 to 8
"""

import unicodedata

import numpy as np

from finetuning_data.encoding import Column

# A row is a window. Its columns: the index of its example, and for each piece whether the window
# owns the piece, and where the characters of the piece begin and end.
EXAMPLE = Column("example_index", in_batch=False)
IS_OWN = Column("is_own", per_piece=True, in_batch=False)
CHAR_BEGINS = Column("char_begins", per_piece=True, in_batch=False)
CHAR_ENDS = Column("char_ends", per_piece=True, in_batch=False)
# All marks have this code point or a higher one. So most characters need no look-up.
_FIRST_MARK = "\u0300"


def encode_text(text, tokenizer):
    """Return the `tokenization.Encoding` of a text; `with_marks` extends its spans."""
    pieces = tokenizer.encode(text)
    is_piece = pieces.ends > pieces.begins  # SentencePiece has pieces of blanks alone
    pieces = pieces._make(array[is_piece] for array in pieces)
    return pieces._replace(ends=with_marks(text, pieces.begins, pieces.ends))


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


def windows_of(num_pieces, room, stride):
    """Return the windows of a text: a list of (first, last), half-open; one for an empty text.

    The last window is as long as the others: it begins earlier where the text ends.

    >>> windows_of(10, 6, 3), windows_of(5, 6, 3)
    ([(0, 6), (3, 9), (4, 10)], [(0, 5)])

    Args:
        num_pieces: int.
        room: int, most pieces of a window.
        stride: int, pieces from the start of a window to the start of the next one; at most
            `room` is used.
    """
    if num_pieces <= room:
        return [(0, num_pieces)]
    begins = list(range(0, num_pieces - room, min(stride, room))) + [num_pieces - room]
    return [(begin, begin + room) for begin in begins]


def owned_by(windows):
    """Return the pieces that each window owns: a list of (first, last), which follow one another.

    >>> owned_by([(0, 6), (3, 9)])
    [(0, 4), (4, 9)]

    Args:
        windows: list as from `windows_of`.
    """
    edges = [sum(one + two) // 4 for one, two in zip(windows, windows[1:])]
    return list(zip([0] + edges, edges + [windows[-1][1]]))
