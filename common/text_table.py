"""Tables of text, whose columns stay aligned when Chinese characters take two cells."""

import unicodedata


def text_table(rows):
    """Return rows as aligned lines: the first column to the left, the others to the right.

    Args:
        rows: list of lists of str, int or float, equally long; floats get four decimals.

    Returns:
        str, each line with its end.
    """
    rows = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*rows)]
    return "".join(
        "  ".join(_padded(row[i], widths[i], i > 0) for i in range(len(row))).rstrip() + "\n"
        for row in rows
    )


def _text(cell):
    return "{:.4f}".format(cell) if isinstance(cell, float) else str(cell)


def _padded(text, width, to_the_right):
    blanks = " " * (width - _width(text))
    return blanks + text if to_the_right else text + blanks


def _width(text):
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
