"""Scores of entities: precision, recall and F1 of whole spans, and CLUENER's mean over types.

An entity is (begin, end, type): a half-open span of characters. An entity
that was found is right only if its begin, its end and its type are right.
"""

import collections

from common.text_table import text_table

_COLUMNS = ("precision", "recall", "f1", "support")


def entity_scores(right, found, texts, types):
    """Compare the entities that were found with the right ones.

    Args:
        right, found: lists of lists of (begin, end, type), one list for each text.
        texts: list of str.
        types: list of str.

    Returns:
        dict that json can write: `examples`, `entities` (right ones), `precision`, `recall` and
        `f1` over all types (micro, with positions: seqeval's strict mode), `macro_f1` (mean F1 of
        the types that are right or found somewhere), `cluener_f1` (mean over all `types` of the F1
        of sets of strings, as CLUENER's own script counts: positions do not matter) and `per_type`
        (type -> `precision`, `recall`, `f1`, each 0 where it is 0/0, and `support`).
    """
    if not len(right) == len(found) == len(texts):
        raise ValueError("{} right, {} found, {} texts".format(*map(len, (right, found, texts))))
    counts = _count(right, found)
    strings = _count(*(list(map(_strings, rows, texts)) for rows in (right, found)))
    per_type = {name: _row(*counts.get(name, (0, 0, 0))) for name in types}
    occurring = [row["f1"] for name, row in per_type.items() if any(counts.get(name, ()))]
    whole = _row(*map(sum, zip(*counts.values()))) if counts else _row(0, 0, 0)
    return {
        "examples": len(texts),
        "entities": whole["support"],
        "precision": whole["precision"],
        "recall": whole["recall"],
        "f1": whole["f1"],
        "macro_f1": sum(occurring) / max(len(occurring), 1),
        "cluener_f1": sum(_row(*strings.get(name, (0, 0, 0)))["f1"] for name in types) / len(types),
        "per_type": per_type,
    }


def _strings(entities, text):
    """Return the (string, type) pairs of the entities of a text."""
    return {(text[begin:end], entity_type) for begin, end, entity_type in entities}


def _count(right, found):
    """Return type -> [hits, found, right], numbers of entities; an entity ends with its type."""
    counts = collections.defaultdict(lambda: [0, 0, 0])
    for right_here, found_here in zip(map(set, right), map(set, found)):
        for column, entities in enumerate((right_here & found_here, found_here, right_here)):
            for entity in entities:
                counts[entity[-1]][column] += 1
    return counts


def _row(hits, found, right):
    return {
        "precision": hits / max(found, 1),
        "recall": hits / max(right, 1),
        "f1": 2 * hits / max(found + right, 1),
        "support": right,
    }


def type_table(scores):
    """Return the scores of each type as a table for people; `scores`: from `entity_scores`."""
    rows = [["type"] + list(_COLUMNS)]
    for name, row in scores["per_type"].items():
        rows.append([name] + [row[column] for column in _COLUMNS])
    whole = dict(scores, support=scores["entities"])
    rows.append(["all"] + [whole[column] for column in _COLUMNS])
    return text_table(rows)
