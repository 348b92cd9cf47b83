"""Texts with entities, from the file formats of published data sets.

    one JSON object a line    {"text": "在北京", "label": {"LOC": {"北京": [[1, 2]]}}} of CLUENER,
                              where the end is the last character, or a user's own, half-open:
                              {"text": "在北京",
                              "entities": [{"begin": 1, "end": 3, "type": "LOC"}]}; or lists, as
                              datasets of Hugging Face: {"tokens": ["在", "北", "京"],
                              "ner_tags": ["O", "B-LOC", "I-LOC"]}
    one character a line      a blank or tab, and its label: BIO, BIOES, BMES, BILOU; a blank line
                              between sentences
    one sentence a line       characters with blanks between them, a tab, and their labels with
                              blanks between them; the first row may name the columns
    one text a line           only where labels are not needed, as in a test file

Files are UTF-8. The content decides between the last three formats.
"""

import functools
import re
from typing import Callable, NamedTuple

from absl import logging

from common import file_types, files
from common.errors import UserError
from finetuning_data import character_rows, data_report, entity_objects
from finetuning_data.bad_rows import BadRow, BadRows, listed
from finetuning_data.label_decoding import OUTSIDE, spelled
from finetuning_data.labelled_text import LabelledText, Labels, joined, refuse_unknown
from finetuning_data.task_files import shown

_BLANK = "[ \t\xa0\u2000-\u200a\u3000]"
# A label that bio does not have, or another string that begins like one.
_BIOES = re.compile(r"(?:^|\"|{})[MESLU][-_]\w".format(_BLANK))
_DOCUMENT = "-DOCSTART-"
# The beginning of a JSON object, perhaps damaged, or of an array of objects, arrays or texts.
_JSON = re.compile(r"""\s*(?:\{\s*(?:["'A-Za-z}]|$)|\[\s*(?:["{\[]|$))""")
_KEEP_TWO = "; this keeps the first column and the last: awk '{print $1, $NF}' FILE > NEW_FILE"
_NAMES = {"text_a", "text", "label", "labels"}
_COLUMNS = ("text", "label")  # of a file without a header


class _Format(NamedTuple):
    """How the texts of a file are written."""

    parse: Callable  # (`Labels`, part) -> `LabelledText`; raises `BadRow`
    labels_of: Callable  # line -> the labels of its characters, a list of str
    parts: list  # of the texts, each a list of (number, line)


def read_texts(path, types=(), needs_labels=True, skip_bad_rows=False):
    """Read a file of texts with entities.

    Args:
        path: str.
        types: the types that entities may have; empty: any.
        needs_labels: bool; without it texts may lack entities, as in a test file.
        skip_bad_rows: bool, whether texts that cannot be read are left out and listed in the log.

    Returns:
        list of `LabelledText`, not empty.

    Raises:
        UserError: if the file is empty; else it names file and row of the first mistake: no JSON,
            an unknown type, an end before its begin, entities that overlap or reach outside of the
            text, a label that may not follow the one before it.
    """
    content = files.read_utf8(path)
    lines = [(n, line.rstrip("\r")) for n, line in enumerate(content.split("\n"), 1)]
    lines = character_rows.without_places(path, lines)
    parts = list(_parts(lines))
    if not parts:
        raise UserError("{}: no texts".format(path))
    first = [line.encode("utf-8", "replace") for part in parts[:2] for _, line in part[:2]]
    refusal = file_types.json_lines_problem(path, first[:2])
    if refusal:
        raise UserError(refusal)
    character_rows.refuse_separator(path, lines)
    parse, labels_of, parts = _format_of(parts, needs_labels)
    has_bioes = any(_has_bioes(labels_of, line) for part in parts for _, line in part)
    known = Labels("bioes" if has_bioes else "bio", types, cut=[])
    character_rows.warn_of_one_sentence(path, parts)
    texts, bad = [], BadRows(skip_bad_rows)
    for position, part in enumerate(parts):
        try:
            guid, text, entities = parse(known, part)
            if entities is not None:
                entities = _checked(text, entities, types)
            elif needs_labels:
                raise BadRow("there are no labels; only a test file may lack them")
            texts.append(LabelledText(str(position) if guid is None else guid, text, entities))
        except BadRow as problem:
            bad.add(path, "row {}".format(problem.number or part[0][0]), problem)
    bad.end(path, texts, "no texts")
    if not needs_labels:
        data_report.warn_of_repeated_ids(path, texts)
        texts = _without_placeholders(path, texts)
    _warn_of_cuts(path, known.cut)
    return texts


def _without_placeholders(path, texts):
    """Return texts whose entities are unknown if no text has one, as in published test files."""
    if any(text.entities for text in texts) or all(text.entities is None for text in texts):
        return texts
    logging.warning("No text of %s has an entity: its labels count as unknown, not scored", path)
    return [text._replace(entities=None) for text in texts]


def _warn_of_cuts(path, rows):
    """Warn of rows with entities that the end of their text cuts."""
    if rows:
        logging.warning(
            "CUT ENTITIES: %d of %s begin before their text or end after it, at rows %s; the part "
            "in the text counts as the entity",
            len(rows),
            path,
            listed(rows),
        )


def _parts(lines):
    """Yield the parts between blank lines or marks of CoNLL, each a list of (number, line)."""
    part = []
    for number, line in lines:
        # A line that begins with a tab or blank may be the label of a blank character.
        if line.strip() and not line.startswith(_DOCUMENT):
            part.append((number, line))
        elif part:
            yield part
            part = []
    if part:
        yield part


def _has_bioes(labels_of, line):
    """Return whether a line has a label that bio does not have."""
    # Few lines pass the fast test, so few lines are parsed twice.
    return bool(_BIOES.search(line)) and any(
        spelled(label) and _BIOES.match(label) for label in labels_of(line)
    )


# ----------------------------------------------------------------------------- format of a file


def _format_of(parts, needs_labels):
    """Return the `_Format` of a file of these parts."""
    first = parts[0][0][1]
    cells = _cells(first)
    if _JSON.match(first) and not (len(cells) == 2 and spelled(cells[1])):
        return _Format(entity_objects.parse, entity_objects.labels_of, _single(parts))
    columns = _header(parts)
    if columns:
        parts = [part for part in [parts[0][1:]] + parts[1:] if part]
    rows = _single(parts)
    pairs = [_pair(columns or _COLUMNS, row[0][1]) for row in rows]
    is_plain = not (columns or needs_labels) and _is_plain(rows)
    if is_plain or (_have_sentences if columns else _are_sentences)(pairs):
        columns = ("text",) if is_plain else columns or _COLUMNS
        units = [unit for units, labels in pairs if not labels for unit in units]
        is_spaced = 2 * sum(len(unit) == 1 for unit in units) > len(units)
        parse = functools.partial(_sentence, columns, is_spaced)
        return _Format(parse, lambda line: _pair(columns, line)[1], rows)
    return _Format(_characters, lambda line: _cells(line)[1:], parts)


def _single(parts):
    """Return the lines of parts, each as a part of its own."""
    return [[row] for part in parts for row in part]


def _header(parts):
    """Return the columns that the first line names, of text and label, or None."""
    first = parts[0][0][1]
    names = [cell.strip().lower() for cell in first.split("\t")]
    if not set(names) <= _NAMES or ("\t" not in first and len(_single(parts)) == 1):
        return None
    return tuple("label" if name.startswith("label") else "text" for name in names)


def _pair(columns, line):
    """Return the units of a line's text and its labels, two lists of str."""
    row = dict(zip(columns, line.split("\t")))
    return row.get("text", "").split(), row.get("label", "").split()


def _have_sentences(pairs):
    """Return whether the rows below a header are sentences, and not single characters."""
    single = sum(len(units) == 1 and len(labels or units[0]) == 1 for units, labels in pairs)
    return 2 * single <= len(pairs)


def _are_sentences(pairs):
    """Return whether most labelled rows of a file without a header are sentences."""
    sentences = sum(
        len(labels) > 1 and (len(units) == len(labels) or all(map(spelled, labels)))
        for units, labels in pairs
    )
    single = sum(len(units) == 1 and len(labels) == 1 for units, labels in pairs)
    return sentences > 0 and sentences >= single


def _is_plain(rows):
    """Return whether a file without labels has a text a line: most lines are many characters."""
    cells = [_cells(row[0][1]) for row in rows]
    labelled = sum(len(row) > 1 and bool(spelled(row[-1])) for row in cells)
    long = sum(len(row[0]) > 1 or len(row) > 2 for row in cells)
    return 2 * labelled <= len(cells) < 2 * long


def _cells(line):
    return re.split(_BLANK + "+", line.rstrip())


# ------------------------------------------------------------------------- labels of characters


def _sentence(columns, is_spaced, known, part):
    """Return the `LabelledText` of a row with all characters and all labels of a sentence.

    `is_spaced`: whether texts without labels have a blank after each character.
    """
    number, line = part[0]
    cells = line.split("\t")
    if len(cells) > len(columns):
        if len(columns) == 1:
            raise BadRow("{} has a tab: write one text a line".format(shown(line)))
        raise BadRow("found {} columns, expected {}".format(len(cells), len(columns)))
    units, labels = _pair(columns, line)
    if not units:
        raise BadRow("the text is empty")
    if not labels and not is_spaced:
        return LabelledText(None, cells[columns.index("text")].strip(), None)
    labels = labels or [None] * len(units)
    if len(units) != len(labels):
        raise BadRow(
            "{} characters, but {} labels: both need blanks between them".format(
                len(units), len(labels)
            )
        )
    return joined([(number, *pair) for pair in zip(units, labels)], known)


def _characters(known, part):
    """Return the `LabelledText` of lines that each hold a character and its label."""
    units = []
    for number, line in part:
        cells = _cells(line)
        if line[0].isspace() and len(cells) == 2 and not cells[0].strip():
            cells[0] = line[0]  # the character is a blank
        if len(cells) > 2:
            problem = "{} has {} columns, expected a character and its label".format(
                shown(line), len(cells)
            )
            is_table = {len(_cells(row)) for _, row in part} == {len(cells)}
            raise BadRow(problem + _KEEP_TWO * (is_table and bool(spelled(cells[-1]))), number)
        units.append((number, cells[0], cells[1] if len(cells) == 2 else None))
    with_labels = [number for number, _, label in units if label]
    if with_labels and len(with_labels) < len(units):
        number = next(number for number, _, label in units if not label)
        raise BadRow("there is no label after the character", number)
    return joined(units, known)


# ------------------------------------------------------------------------------------------ checks


def _checked(text, entities, types):
    """Return entities in their order; refuse unknown types and overlaps."""
    entities = sorted(set(entities))
    for entity in entities:
        if entity.type == OUTSIDE:
            where = shown(text[entity.begin : entity.end])
            raise BadRow("{} has the type O, which means no entity: remove it".format(where))
        refuse_unknown(entity.type, types)
    for one, two in zip(entities, entities[1:]):
        if two.begin < one.end:
            raise BadRow(
                "entities {} ({}) and {} ({}) overlap: keep one of them".format(
                    shown(text[one.begin : one.end]),
                    one.type,
                    shown(text[two.begin : two.end]),
                    two.type,
                )
            )
    return tuple(entities)


def types_of(texts):
    """Return the types of the entities of texts, sorted."""
    return tuple(sorted({entity.type for text in texts for entity in text.entities or ()}))
