"""JSON objects that each hold a text and its entities, of CLUENER, other data sets and tools."""

import json

from common import file_types
from finetuning_data.bad_rows import BadRow
from finetuning_data.labelled_text import Entity, LabelledText, joined
from finetuning_data.task_files import check_characters, missing, shown

_SPANS = ("entities", "spans", "label", "labels")
_TEXTS = ("text", "originalText")  # the second name is of CCKS
_UNITS, _LABELS = ("tokens", "text", "words"), ("ner_tags", "labels", "label", "tags")
_BEGIN = ("begin", "start", "start_offset", "start_idx", "start_pos")
_END = ("end", "end_offset", "end_pos")
_LAST = "end_idx"  # of CMeEE: the last character
_TYPE = ("type", "label", "label_type", "labels")
_STRING = ("text", "word", "entity", "mention", "string")


def labels_of(line):
    """Return the labels of characters in a line of JSON, a list of str; [] if it has none."""
    try:
        row = file_types.parse_json(line)
    except json.JSONDecodeError:
        return []
    labels = _named(row, _LABELS) if isinstance(row, dict) else None
    return [label for label in labels if isinstance(label, str)] if _is_list(labels) else []


def parse(known, part):
    """Return the `LabelledText` of a JSON object.

    Args:
        known: `labelled_text.Labels`.
        part: list of one (number, line).

    Raises:
        BadRow: for a mistake in the object.
    """
    number, line = part[0]
    try:
        row = file_types.parse_json(line)
    except json.JSONDecodeError as error:
        raise BadRow(
            "not JSON ({}): write one object a line".format(file_types.json_problem(error))
        ) from None
    if not isinstance(row, dict):
        raise BadRow("{} is not a JSON object: write one object a line".format(shown(row)))
    check_characters(row)
    if row.get("answer") in ("reject", "ignore"):  # of Prodigy
        raise BadRow("answer is {}: its annotator did not accept the row".format(row["answer"]))
    guid = None if row.get("id") is None else str(row["id"])
    units = _named(row, _UNITS)
    if _is_list(units) and not _has_places(row):
        return _listed_units(number, units, _named(row, _LABELS), known)._replace(guid=guid)
    text = _named(row, _TEXTS)
    if text is None and {"data", "annotations"} <= set(row):
        raise BadRow("this is the full JSON of Label Studio: export JSON_MIN, an object a line")
    if text is None and "text" not in row:
        raise BadRow(missing("text", row))
    if not isinstance(text, str) or not text.strip():
        raise BadRow("text is {}, not a text".format(shown(text)))
    spans = _named(row, _SPANS)
    if spans in (None, ""):
        return LabelledText(guid, text, None)
    read = {dict: _cluener_entities, list: _listed_entities}.get(type(spans))
    if not read:
        raise BadRow("{} is neither an object of types nor a list".format(shown(spans)))
    return LabelledText(guid, text, list(read(text, spans)))


def _has_places(row):
    """Return whether a row with a list of tokens has its entities as places in its text.

    Prodigy writes such rows. BadRow is raised if the text is missing.
    """
    labels = _named(row, _LABELS)
    is_of_tokens = _is_list(labels) and not any(isinstance(one, (list, dict)) for one in labels)
    if isinstance(row.get("text"), str):
        return not (is_of_tokens and labels)
    if _named(row, ("entities", "spans")) is not None and not is_of_tokens:
        raise BadRow("places of entities need the text as one string, in the field text")
    return False


def _listed_units(number, units, labels, known):
    """Return the `LabelledText` of a list of characters; `labels`: list of str, or None."""
    if labels is not None and (not _is_list(labels) or len(labels) != len(units)):
        problem = "{} characters, but the labels are {}, not a list of as many"
        raise BadRow(problem.format(len(units), shown(labels)))
    for one in units + (labels or []):
        if not isinstance(one, str) or not one:
            problem = "{} is not a text: write characters, and labels by name, such as B-name"
            raise BadRow(problem.format(shown(one)))
    if not "".join(units).strip():
        raise BadRow("the text is empty")
    return joined([(number, *pair) for pair in zip(units, labels or [None] * len(units))], known)


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
        if _is_list(entity_type) and len(entity_type) == 1:  # of Label Studio
            [entity_type] = entity_type
        if not isinstance(entity_type, str) or not entity_type:
            raise BadRow("entity {} has no type: give type or label".format(shown(entity)))
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


def _is_list(value):
    return isinstance(value, list)


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
