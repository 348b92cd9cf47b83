"""Labels of pieces: schemes, legal sequences, the best legal sequence, and the spans of a sequence.

A scheme writes entities as one label for each piece. In both schemes "O" is outside of entities:

    pieces    吴 重 阳 在 北 京
    bio       B-NAME I-NAME I-NAME O B-LOC I-LOC
    bioes     B-NAME I-NAME E-NAME O B-LOC E-LOC          an entity of one piece is S-LOC

`bmes` and `bilou` are other spellings of bioes: M for I, or L for E and U for S. The id of O is 0;
the labels of type t follow in the order of `PREFIXES`. L is the number of labels, B of sequences, S
the greatest length.
"""

import re
from typing import NamedTuple

import numpy as np

OUTSIDE = "O"
PREFIXES = {"bio": "BI", "bioes": "BIES"}
ANY_PREFIX = "[BIMESLU]"  # pattern of the prefixes of all spellings
_SPELLINGS = re.compile("({})[-_](.+)".format(ANY_PREFIX))
_OTHER_PREFIXES = str.maketrans("MLU", "IES")
# Prefixes with which an entity begins, and for each scheme those with which an entity may end.
_BEGIN = "BS"
_LAST = {"bio": "BI", "bioes": "ES"}
# A score that no sum of real scores reaches, and that stays finite when many are added.
IMPOSSIBLE = -1e9


class Legal(NamedTuple):
    """Which labels are allowed at which places: bool arrays."""

    first: np.ndarray  # [L], at the beginning of a sequence
    following: np.ndarray  # [L, L], label j directly after label i
    last: np.ndarray  # [L], at the end of a sequence


def label_names(types, scheme):
    """Return the labels of a scheme, a list of str.

    >>> label_names(["NAME"], "bioes")
    ['O', 'B-NAME', 'I-NAME', 'E-NAME', 'S-NAME']
    """
    return [OUTSIDE] + [
        "{}-{}".format(prefix, name) for name in types for prefix in PREFIXES[scheme]
    ]


def spelled(label):
    """Return a label as `label_names` spells it, None for what is not a label of an entity.

    >>> spelled("M_LOC"), spelled("U-LOC"), spelled("O"), spelled("LABEL_0")
    ('I-LOC', 'S-LOC', 'O', None)
    """
    match = _SPELLINGS.fullmatch(label)
    if match:
        return "{}-{}".format(match.group(1).translate(_OTHER_PREFIXES), match.group(2))
    return label if label == OUTSIDE else None


def labels_of(spans, length, scheme):
    """Return the ids of the labels of a sequence: int32 [length].

    Args:
        spans: list of (begin, end, type): half-open, not empty, without overlap; type is an index.
        length: int.
        scheme: str, of PREFIXES.
    """
    prefixes = PREFIXES[scheme]
    label_ids = np.zeros(length, np.int32)
    for begin, end, entity_type in spans:
        base = 1 + entity_type * len(prefixes)
        label_ids[begin] = base
        label_ids[begin + 1 : end] = base + prefixes.index("I")
        if scheme == "bioes":
            label_ids[end - 1] = base + prefixes.index("S" if end - begin == 1 else "E")
    return label_ids


def legal(labels, scheme):
    """Return the `Legal` sequences of labels of a scheme, in any order."""
    return Legal(
        np.array([may_follow(OUTSIDE, label, scheme) for label in labels]),
        np.array([[may_follow(one, two, scheme) for two in labels] for one in labels]),
        np.array([may_follow(label, OUTSIDE, scheme) for label in labels]),
    )


def may_follow(before, label, scheme):
    """Return whether a label may directly follow another; the ends of a text count as O."""
    is_inside = label != OUTSIDE and label[0] not in _BEGIN
    if is_inside:  # I or E: goes on with an entity that has begun
        return before[1:] == label[1:] and before[0] in "BI"
    return before == OUTSIDE or before[0] in _LAST[scheme]


def spans_of(labels, scheme):
    """Return the whole entities of a sequence of labels, as seqeval's strict mode counts them.

    >>> spans_of(["B-LOC", "I-LOC", "I-ORG", "B-ORG", "B-ORG"], "bio")
    [(0, 2, 'LOC'), (3, 4, 'ORG'), (4, 5, 'ORG')]
    >>> spans_of(["B-LOC", "I-LOC", "S-ORG", "B-ORG", "E-ORG"], "bioes")
    [(2, 3, 'ORG'), (3, 5, 'ORG')]

    Args:
        labels: list of str.
        scheme: str, of PREFIXES.

    Returns:
        list of (begin, end, type).
    """
    spans, begin, before = [], None, OUTSIDE
    for place, label in enumerate(list(labels) + [OUTSIDE]):
        goes_on = label != OUTSIDE and label[0] not in _BEGIN and may_follow(before, label, scheme)
        if begin is not None and not goes_on:
            if before[0] in _LAST[scheme]:
                spans.append((begin, place, before[2:]))
            begin = None
        if label[0] in _BEGIN:
            begin = place
        before = label if begin is not None else OUTSIDE
    return spans


def viterbi(scores, lengths, transitions, first, last):
    """Return the sequences of labels with the greatest sums of scores.

    Args:
        scores: float [B, S, L], of each label at each place.
        lengths: int [B], at least 1; later places are ignored.
        transitions: float [L, L]; [i, j] is the score of label j directly after label i.
        first, last: float [L], of the label at the beginning and at the end of a sequence.

    Returns:
        int32 [B, S]; 0 after the end of a sequence. If two sequences have equal sums, the one with
        the smaller id at the last place where they differ is returned.
    """
    scores, lengths = np.asarray(scores, np.float64), np.asarray(lengths)
    num_sequences, length, num_labels = scores.shape
    best = first + scores[:, 0]  # [B, L], of the sequences that end with each label
    come_from = np.zeros([length, num_sequences, num_labels], np.int32)
    for place in range(1, length):
        sums = best[:, :, np.newaxis] + transitions  # [B, L, L]
        origins = np.argmax(sums, axis=1)  # [B, L]
        step = np.take_along_axis(sums, origins[:, np.newaxis], axis=1)[:, 0] + scores[:, place]
        goes_on = (place < lengths)[:, np.newaxis]
        best = np.where(goes_on, step, best)
        come_from[place] = np.where(goes_on, origins, np.arange(num_labels))
    labels = np.zeros([num_sequences, length], np.int32)
    labels[:, -1] = np.argmax(best + last, axis=1)
    for place in range(length - 1, 0, -1):
        rows = np.arange(num_sequences)
        labels[:, place - 1] = come_from[place][rows, labels[:, place]]
    return np.where(np.arange(length) < lengths[:, np.newaxis], labels, 0).astype(np.int32)


def penalties(allowed):
    """Return scores for a bool array: 0 where it is True, IMPOSSIBLE elsewhere."""
    return np.where(allowed, 0.0, IMPOSSIBLE)


def spans_in_text(spans, begins, ends):
    """Turn spans of pieces into spans of characters.

    Pieces that share a character may lie in two entities: the character belongs to the first one,
    and an entity without a character of its own is left out.

    Args:
        spans: list of (begin, end, type) of pieces, in their order.
        begins, ends: int arrays [n], the characters of each piece.

    Returns:
        list of (begin, end, type), half-open, without overlap, none of them empty.
    """
    found, free = [], 0
    for first, last, entity_type in spans:
        begin, end = max(free, int(begins[first])), int(ends[last - 1])
        if begin < end:
            found.append((begin, end, entity_type))
            free = end
    return found
