"""A text with its entities, made of characters that each have a label."""

import re
from typing import NamedTuple, Optional, Tuple

from finetuning_data.bad_rows import BadRow
from finetuning_data.label_decoding import OUTSIDE, may_follow, spans_of, spelled
from finetuning_data.task_files import shown

_WORD = re.compile(r"[0-9A-Za-z]+")


class Entity(NamedTuple):
    """A span of characters, half-open, and its type."""

    begin: int
    end: int
    type: str


class LabelledText(NamedTuple):
    """A text and its entities in their order; None where they are not known."""

    guid: Optional[str]  # None where the file has no ids
    text: str
    entities: Optional[Tuple[Entity, ...]]


class Labels(NamedTuple):
    """What is known about the labels of a file."""

    scheme: str  # bio or bioes
    types: Tuple[str, ...]  # the types that entities may have; empty: any
    cut: list  # numbers of rows where an entity goes on beyond the text; `joined` fills this list


def joined(units, known):
    """Join units of a text, most of them single characters; returns a `LabelledText`.

    A blank comes between two Latin words or numbers, unless both are single characters.

    Args:
        units: list of (row, str, label); all labels are None where they are not known.
        known: `Labels`.

    Raises:
        BadRow: for a label that is none, of an unknown type, or that may not be at its place.
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
    labels = [_spelled(number, label, known.types) for number, _, label in units]
    _mend_edges(labels, known, [number for number, _, _ in units])
    _refuse_illegal(labels, known.scheme, units)
    entities = [
        Entity(spans[first][0], spans[last - 1][1], entity_type)
        for first, last, entity_type in spans_of(labels, known.scheme)
    ]
    return LabelledText(None, text, entities)


def refuse_unknown(entity_type, types, number=None):
    """Raise `BadRow` for a type that entities may not have; `number`: its row, if it is known."""
    if types and entity_type not in types:
        raise BadRow(
            "type {} is unknown; the types are {}; if they are those of the train file, name "
            "all types with --labels".format(shown(entity_type), ", ".join(sorted(types))),
            number,
        )


def _spelled(number, label, types):
    """Return a label as `label_decoding` spells it."""
    own = spelled(label)
    if own is None:
        raise BadRow(
            "label {} is illegal: expected O, or a type after B-, I-, M-, E-, S-, L- or U-".format(
                shown(label)
            ),
            number,
        )
    if own != OUTSIDE:
        refuse_unknown(own[2:], types, number)
    return own


def _mend_edges(labels, known, numbers):
    """Change labels so that the part of an entity at the edge of a text is a whole entity.

    Published files cut sentences at full stops, even at a full stop that is a part of a name.
    """
    if not may_follow(OUTSIDE, labels[0], known.scheme):
        labels[0] = {"I": "B", "E": "S"}[labels[0][0]] + labels[0][1:]
        known.cut.append(numbers[0])
    if not may_follow(labels[-1], OUTSIDE, known.scheme):
        labels[-1] = {"B": "S", "I": "E"}[labels[-1][0]] + labels[-1][1:]
        known.cut.append(numbers[-1])


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
