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
import json
import re
from typing import NamedTuple, Optional, Tuple

from absl import logging

from common import file_types, files
from common.errors import UserError
from finetuning_data import character_rows, data_report
from finetuning_data.bad_rows import SHOWN_ROWS, BadRow, BadRows
from finetuning_data.label_decoding import OUTSIDE, may_follow, spans_of, spelled
from finetuning_data.task_files import missing, shown

# A label that bio does not have.
_BLANK = "[ \t\xa0\u2000-\u200a\u3000]"
_BIOES = re.compile(r"(?:^|\"|{})[MESLU][-_]\w".format(_BLANK))
_DOCUMENT = "-DOCSTART-"
# The beginning of a JSON object, perhaps damaged, or of an array of objects, arrays or texts.
_JSON = re.compile(r"""\s*(?:\{\s*(?:["'A-Za-z}]|$)|\[\s*(?:["{\[]|$))""")
_KEEP_TWO = "; this keeps the first column and the last: awk '{print $1, $NF}' FILE > NEW_FILE"
_NAMES = {"text_a", "text", "label", "labels"}
_SPANS = ("entities", "spans", "label", "labels")
_UNITS, _LABELS = ("tokens", "text", "words"), ("ner_tags", "labels", "label", "tags")
_BEGIN = ("begin", "start", "start_offset", "start_idx", "start_pos")
_END = ("end", "end_offset", "end_pos")
_LAST = "end_idx"  # of CMeEE: the last character
_TYPE = ("type", "label", "label_type")
_STRING = ("text", "word", "entity", "mention", "string")
_WORD = re.compile(r"[0-9A-Za-z]+")


class Entity(NamedTuple):
    """A span of characters, half-open, and its type."""

    begin: int
    end: int
    type: str


class LabelledText(NamedTuple):
    """A text and its entities in their order; None where they are not known."""

    guid: str
    text: str
    entities: Optional[Tuple[Entity, ...]]


class _Scheme(NamedTuple):
    """How the labels of characters are written."""

    name: str  # bio or bioes
    cut: list  # numbers of rows where an entity goes on beyond the text; reading fills this list


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
    scheme = _Scheme("bioes" if any(_has_bioes(line) for _, line in lines) else "bio", [])
    character_rows.refuse_separator(path, lines)
    parse, parts = _parser(parts, scheme, needs_labels)
    character_rows.warn_of_one_sentence(path, parts)
    texts, bad = [], BadRows(skip_bad_rows)
    for position, part in enumerate(parts):
        try:
            guid, text, entities = parse(part)
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
    _warn_of_cuts(path, scheme.cut)
    return texts


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


def listed(rows):
    """Return the first of many rows, and how many more there are, as one line."""
    more = ["and {} more".format(len(rows) - SHOWN_ROWS)] if len(rows) > SHOWN_ROWS else []
    return ", ".join([str(row) for row in rows[:SHOWN_ROWS]] + more)


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


def _has_bioes(line):
    """Return whether a line has a label that bio does not have."""
    cells = _cells(line)
    is_character = len(cells) == 2 and spelled(cells[1])  # cells[0] may be U-2
    return bool(_BIOES.search(cells[1] if is_character else line))


def _is_plain(rows):
    """Return whether a file without labels has a text a line: most lines are many characters."""
    cells = [_cells(row[0][1]) for row in rows]
    if any(len(row) > 1 and spelled(row[-1]) for row in cells):
        return False
    return 2 * sum(len(row[0]) > 1 or len(row) > 2 for row in cells) > len(cells)


def _parser(parts, scheme, needs_labels):
    """Return (function, parts) for the format of a file.

    The function returns the `LabelledText` of a part; its guid is None where the file has no ids.
    """
    rows = [[row] for part in parts for row in part]
    first = rows[0][0][1]
    if _JSON.match(first) and not spelled(_cells(first)[-1]):
        return functools.partial(_json_text, scheme), rows
    cells = first.split("\t")
    names = [cell.strip().lower() for cell in cells]
    has_header = set(names) <= _NAMES and ("\t" in first or len(rows) > 1)
    second = rows[1][0][1].split("\t") if has_header and len(rows) > 1 else cells
    units, labels = (cell.split() for cell in second) if len(second) == 2 else ((), ())
    are_labels = len(labels) > 1 and (len(units) == len(labels) or all(map(spelled, labels)))
    if has_header or are_labels:
        columns = ["label" if name.startswith("label") else "text" for name in names]
        columns = columns if has_header else ["text", "label"]
        return functools.partial(_sentence, columns, scheme), rows[1:] if has_header else rows
    if not needs_labels and _is_plain(rows):
        return _plain, rows
    return functools.partial(_characters, scheme), parts


def _plain(part):
    """Return the `LabelledText` of a line without labels."""
    text = part[0][1].strip()
    if "\t" in text:
        raise BadRow("{} has a tab: write one text a line".format(shown(text)))
    return LabelledText(None, text, None)


def _cells(line):
    return re.split(_BLANK + "+", line.rstrip())


# ------------------------------------------------------------------------- labels of characters


def _sentence(columns, scheme, part):
    """Return the `LabelledText` of a row with all characters and all labels of a sentence."""
    number, line = part[0]
    cells = line.split("\t")
    row = dict(zip(columns, cells))
    if len(cells) > len(columns):
        raise BadRow("found {} columns, expected {}".format(len(cells), len(columns)))
    units, labels = row.get("text", "").split(), row.get("label", "").split()
    if not units:
        raise BadRow("the text is empty")
    if not labels:
        return _joined([(number, unit, None) for unit in units], scheme)
    if len(units) != len(labels):
        raise BadRow(
            "{} characters, but {} labels: both need blanks between them".format(
                len(units), len(labels)
            )
        )
    return _joined([(number, unit, label) for unit, label in zip(units, labels)], scheme)


def _characters(scheme, part):
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
    return _joined(units, scheme)


def _joined(units, scheme):
    """Join units of a text, most of them single characters; returns a `LabelledText`.

    A blank comes between two Latin words or numbers, unless both are single characters.

    Args:
        units: list of (row, str, label or None).
        scheme: `_Scheme`.
    """
    text, spans = "", []
    for i, (_, unit, _) in enumerate(units):
        before = units[i - 1][1] if i else ""
        is_word = _WORD.fullmatch(before) and _WORD.fullmatch(unit)
        if is_word and max(len(before), len(unit)) > 1:
            text += " "
        spans.append((len(text), len(text) + len(unit)))
        text += unit
    if units[0][2] is None:
        return LabelledText(None, text, None)
    labels = [_spelled(number, label) for number, _, label in units]
    _mend_edges(labels, scheme, [number for number, _, _ in units])
    _refuse_illegal(labels, scheme.name, units)
    entities = [
        Entity(spans[first][0], spans[last - 1][1], entity_type)
        for first, last, entity_type in spans_of(labels, scheme.name)
    ]
    return LabelledText(None, text, entities)


def _spelled(number, label):
    """Return a label as `label_decoding` spells it."""
    if spelled(label) is None:
        raise BadRow(
            "label {} is illegal: expected O, or a type after B-, I-, M-, E-, S-, L- or U-".format(
                shown(label)
            ),
            number,
        )
    return spelled(label)


def _mend_edges(labels, scheme, numbers):
    """Change labels so that the part of an entity at the edge of a text is a whole entity.

    Published files cut sentences at full stops, even at a full stop that is a part of a name.
    """
    if not may_follow(OUTSIDE, labels[0], scheme.name):
        labels[0] = {"I": "B", "E": "S"}[labels[0][0]] + labels[0][1:]
        scheme.cut.append(numbers[0])
    if not may_follow(labels[-1], OUTSIDE, scheme.name):
        labels[-1] = {"B": "S", "I": "E"}[labels[-1][0]] + labels[-1][1:]
        scheme.cut.append(numbers[-1])


def _refuse_illegal(labels, scheme, units):
    """Raise `BadRow` for a label that may not follow the label before it."""
    for i in range(1, len(labels)):
        if not may_follow(labels[i - 1], labels[i], scheme):
            raise BadRow(_illegal(units[i - 1][2], units[i][2], labels[i]), units[i][0])


def _illegal(before, label, own):
    """Return a message about a label that may not follow another label."""
    if own[0] in "IE":
        remedy = "an entity begins with B-{}".format(own[2:])
    else:
        remedy = "an entity that begins with B- ends with E-, and one character is S-"
    return "label {} after {} is illegal: {}".format(label, before, remedy)


# -------------------------------------------------------------------------------------- JSON lines


def _json_text(scheme, part):
    """Return the `LabelledText` of a JSON object."""
    try:
        row = file_types.parse_json(part[0][1])
    except json.JSONDecodeError as error:
        raise BadRow(
            "not JSON ({}): write one object a line".format(file_types.json_problem(error))
        ) from None
    if not isinstance(row, dict):
        raise BadRow("{} is not a JSON object: write one object a line".format(shown(row)))
    guid = None if row.get("id") is None else str(row["id"])
    units = _named(row, _UNITS)
    if isinstance(units, list):
        return _listed_units(part[0][0], units, _named(row, _LABELS), scheme)._replace(guid=guid)
    if "text" not in row:
        raise BadRow(missing("text", row))
    text = row["text"]
    if not isinstance(text, str) or not text.strip():
        raise BadRow("text is {}, not a text".format(shown(text)))
    if re.search("[\ud800-\udfff]", text):
        raise BadRow("the text has half of a character: remove it")
    spans = _named(row, _SPANS)
    if spans is None:
        return LabelledText(guid, text, None)
    read = {dict: _cluener_entities, list: _listed_entities}.get(type(spans))
    if not read:
        raise BadRow("{} is neither an object of types nor a list".format(shown(spans)))
    return LabelledText(guid, text, list(read(text, spans)))


def _listed_units(number, units, labels, scheme):
    """Return the `LabelledText` of a list of characters; `labels`: list of str, or None."""
    labels = [None] * len(units) if labels is None else labels
    if not isinstance(labels, list) or len(labels) != len(units):
        problem = "{} characters, but the labels are {}, not a list of as many"
        raise BadRow(problem.format(len(units), shown(labels)))
    for one in units + [label for label in labels if label is not None]:
        if not isinstance(one, str) or not one:
            problem = "{} is not a text: write characters, and labels by name, such as B-name"
            raise BadRow(problem.format(shown(one)))
    if not "".join(units).strip():
        raise BadRow("the text is empty")
    return _joined([(number, *pair) for pair in zip(units, labels)], scheme)


def _cluener_entities(text, by_type):
    """Yield the entities of {type: {entity: [[first, last character]]}}."""
    for entity_type, places_of in by_type.items():
        if not isinstance(places_of, dict):
            raise BadRow(
                "type {}: {} is not an object of entities".format(entity_type, shown(places_of))
            )
        for string, places in places_of.items():
            for place in places if isinstance(places, list) else [places]:
                begin, last = _edges(entity_type, place)
                _check_string(
                    text, begin, last + 1, entity_type, string, "the end is the last character"
                )
                yield Entity(begin, last + 1, entity_type)


def _listed_entities(text, entities):
    """Yield the entities of a list of objects, or of lists [begin, end, type]."""
    for entity in entities:
        row = entity
        if isinstance(entity, list) and len(entity) == 3 and isinstance(entity[2], str):
            row = dict(zip(("begin", "end", "type"), entity))
        if not isinstance(row, dict):
            problem = "entity {} is neither an object with begin, end and type nor a list of these"
            raise BadRow(problem.format(shown(entity)))
        entity_type = _named(row, _TYPE)
        if not isinstance(entity_type, str) or not entity_type:
            raise BadRow("entity {} has no type".format(shown(entity)))
        has_last = row.get(_LAST) is not None
        place = [_named(row, _BEGIN), _named(row, (_LAST,) if has_last else _END)]
        if None in place:
            problem = (
                "entity {} lacks its begin or its end: the fields are begin (or start) and end"
            )
            raise BadRow(problem.format(shown(entity)))
        begin, end = _edges(entity_type, place)
        end += has_last
        string = _named(row, _STRING)
        string = text[begin:end] if string is None else string
        rule = "last character" if has_last else "first character after it"
        _check_string(text, begin, end, entity_type, string, "the end is the " + rule)
        yield Entity(begin, end, entity_type)


def _named(row, names):
    """Return the value of the first of these names that a dict has, or None if it has none."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _edges(entity_type, place):
    is_pair = isinstance(place, list) and len(place) == 2
    if not is_pair or any(type(edge) is not int for edge in place):
        raise BadRow(
            "the place of a {} is {}, not two whole numbers".format(entity_type, shown(place))
        )
    return place


def _check_string(text, begin, end, entity_type, string, rule):
    """Refuse an entity that is empty, reaches outside of its text or is another string."""
    where = "entity {} of type {}, characters {} to {}".format(
        shown(string), entity_type, begin, end
    )
    if end <= begin:
        raise BadRow("{}: the end is before the beginning; {}".format(where, rule))
    if begin < 0 or end > len(text):
        raise BadRow("{}: the text has {} characters; {}".format(where, len(text), rule))
    if text[begin:end] != string:
        raise BadRow("{}: the text has {} there; {}".format(where, shown(text[begin:end]), rule))


# ------------------------------------------------------------------------------------------ checks


def _checked(text, entities, types):
    """Return entities in their order; refuse unknown types and overlaps."""
    entities = sorted(set(entities))
    for entity in entities:
        if entity.type == OUTSIDE:
            where = shown(text[entity.begin : entity.end])
            raise BadRow("{} has the type O, which means no entity: remove it".format(where))
        if types and entity.type not in types:
            raise BadRow(
                "type {} is unknown; the types are {}; if they are those of the train file, name "
                "all types with --labels".format(shown(entity.type), ", ".join(sorted(types)))
            )
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
