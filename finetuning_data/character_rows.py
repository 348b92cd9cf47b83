"""Checks files of a character and its label a row: separators, places in words, blank lines."""

import re

from absl import logging

from finetuning_data.bad_rows import row_error
from finetuning_data.label_decoding import ANY_PREFIX
from finetuning_data.task_files import shown

# A character and its label with another separator than a blank.
_LABEL = r"(?:O|{}[-_]\S+)".format(ANY_PREFIX)
_SEPARATED = re.compile(r"\S([,，;；:：|/])" + _LABEL)
# For a sentence a line, such as 在/O 北/B-LOC: a label stands after the last slash of its cell.
_SPLIT_CELLS = (
    '; this writes a character a line: awk \'{for (i = 1; i <= NF; i++) {match($i, "[/][^/]*$"); '
    'print substr($i, 1, RSTART - 1), substr($i, RSTART + 1)} print ""}\' FILE > NEW_FILE'
)
# A character, its place in its word, and its label, as in weiboNER_2nd_conll.train.
_PLACED = re.compile(r"(\S[^\d\s]*)(\d+)(?=[ \t]+" + _LABEL + r"\s*$)")
_PLACED_SHARE = 0.9  # least share of such rows in a file with places; other files have few
_SENTENCE_END = re.compile("[。！？!?]")
_LONG_SENTENCE = 500  # characters


def without_places(path, lines):
    """Remove the number after each character, its place in its word, if a file has such numbers.

    The rows of 口腔 in weiboNER_2nd_conll.train are "口0 O" and "腔1 O".

    Args:
        path: str.
        lines: list of (number, str).

    Returns:
        list of (number, str).
    """
    rows = [_PLACED.match(line) for _, line in lines if line.strip()]
    places = [int(row.group(2)) if row else None for row in rows]
    follow = sum(
        place == 0 or None not in (before, place) and place == before + 1
        for before, place in zip([-1] + places, places)
    )
    if len(rows) < 2 or follow < _PLACED_SHARE * len(rows):
        return lines
    logging.warning(
        "PLACES: the characters of %s have numbers after them, their places in words, such as %s; "
        "the numbers are left out",
        path,
        shown(rows[0].group() if rows[0] else rows[1].group()),
    )
    return [(number, _PLACED.sub(r"\1", line, count=1)) for number, line in lines]


def refuse_separator(path, lines):
    """Raise `UserError` for a file with commas or the like between characters and labels."""
    rows = [(number, line.split()) for number, line in lines if line.strip()]
    rows = [(number, [_SEPARATED.fullmatch(cell) for cell in cells]) for number, cells in rows]
    found = [(number, cells) for number, cells in rows if all(cells)]
    if 2 * len(found) > len(rows):
        number, (match, *_) = found[0]
        problem = "{} has {} between a character and its label: put a blank or tab there"
        problem = problem.format(shown(match.group()), shown(match.group(1)))
        is_sentence = match.group(1) == "/" and any(len(cells) > 1 for _, cells in found)
        raise row_error(path, number, problem + _SPLIT_CELLS * is_sentence)


def warn_of_one_sentence(path, parts):
    """Warn of a file of characters whose sentences have no blank lines between them."""
    if len(parts) != 1 or len(parts[0]) == 1:
        return
    part = parts[0]
    ends = [number for number, line in part[:-1] if _SENTENCE_END.match(line)]
    if len(ends) > 1 or len(part) > _LONG_SENTENCE:
        logging.warning(
            "ONE SENTENCE: %s has %d characters and no blank line, so they are one text; put a "
            "blank line after each sentence, the first of them %s",
            path,
            len(part),
            "after row {}".format(ends[0]) if ends else "where it ends",
        )
