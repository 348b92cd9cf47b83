"""Schemes, legal sequences, Viterbi against all sequences, spans against seqeval."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_data import label_decoding
from finetuning_data.label_decoding import (
    labels_of,
    legal,
    penalties,
    spans_in_text,
    spans_of,
    viterbi,
)
from kinds import entity_scores

TYPES = ["NAME", "LOC"]
SCHEMES = sorted(label_decoding.PREFIXES)


def random_spans(rng, length):
    """Return disjoint spans (begin, end, index of the type)."""
    spans, place = [], 0
    while place < length:
        begin = place + rng.randint(0, 3)
        end = begin + rng.randint(1, 4)
        if end <= length:
            spans.append((begin, end, rng.randint(0, 2)))
        place = end
    return spans


def is_legal(label_ids, rules):
    return (
        rules.first[label_ids[0]]
        and rules.last[label_ids[-1]]
        and all(rules.following[i, j] for i, j in zip(label_ids, label_ids[1:]))
    )


def test_a_worked_example():
    names = label_decoding.label_names(["N", "L"], "bioes")
    label_ids = labels_of([(0, 3, 0), (4, 5, 1)], 6, "bioes")
    assert [names[i] for i in label_ids] == ["B-N", "I-N", "E-N", "O", "S-L", "O"]
    names = label_decoding.label_names(["N", "L"], "bio")
    label_ids = labels_of([(0, 3, 0), (3, 5, 1)], 6, "bio")
    assert [names[i] for i in label_ids] == ["B-N", "I-N", "I-N", "B-L", "I-L", "O"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_spans_become_legal_labels_and_spans_again(scheme):
    rng = np.random.RandomState(0)
    names, rules = (
        label_decoding.label_names(TYPES, scheme),
        legal(label_decoding.label_names(TYPES, scheme), scheme),
    )
    for _ in range(300):
        length = rng.randint(1, 12)
        spans = random_spans(rng, length)
        label_ids = labels_of(spans, length, scheme)
        assert is_legal(label_ids, rules)
        again = spans_of([names[i] for i in label_ids], scheme)
        assert again == [(begin, end, TYPES[kind]) for begin, end, kind in spans]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_legal_sequences_are_those_of_some_spans(scheme):
    """A sequence of 3 labels is legal if, and only if, some spans of 3 pieces have these labels."""
    names = label_decoding.label_names(["X"], scheme)
    rules = legal(names, scheme)
    made = set()
    for num_spans in range(4):
        for edges in itertools.combinations_with_replacement(range(4), 2 * num_spans):
            pairs = list(zip(edges[::2], edges[1::2]))
            if all(begin < end for begin, end in pairs):
                made.add(tuple(labels_of([pair + (0,) for pair in pairs], 3, scheme)))
    for label_ids in itertools.product(range(len(names)), repeat=3):
        assert is_legal(label_ids, rules) == (label_ids in made), label_ids


@pytest.mark.parametrize("scheme", SCHEMES)
def test_viterbi_finds_the_best_of_all_legal_sequences(scheme):
    rng = np.random.RandomState(1)
    rules = legal(label_decoding.label_names(TYPES, scheme), scheme)
    num_labels, lengths = len(rules.first), np.array([4, 1, 3, 2, 4])
    for _ in range(5):
        scores = rng.normal(size=(len(lengths), 4, num_labels))
        own = rng.normal(size=(num_labels, num_labels))  # like the transitions of a CRF
        transitions = own + penalties(rules.following)
        first, last = penalties(rules.first), penalties(rules.last)
        found = viterbi(scores, lengths, transitions, first, last)
        for row, length, label_ids in zip(scores, lengths, found):

            def value(sequence, row=row, own=own):
                steps = sum(own[i, j] for i, j in zip(sequence, sequence[1:]))
                return steps + sum(row[place, i] for place, i in enumerate(sequence))

            every = itertools.product(range(num_labels), repeat=int(length))
            best = max((seq for seq in every if is_legal(seq, rules)), key=value)
            assert tuple(label_ids[:length]) == best
            assert not label_ids[length:].any()


@pytest.mark.parametrize("scheme, tag", [("bio", "IOB2"), ("bioes", "IOBES")])
def test_seqeval_agrees_on_random_sequences(scheme, tag):
    """seqeval's strict mode gives the same results for 10,000 sequences, most of them not legal."""
    pytest.importorskip("seqeval")
    from seqeval import scheme as schemes
    from seqeval.metrics.v1 import precision_recall_fscore_support

    rng = np.random.RandomState(2)
    names = label_decoding.label_names(TYPES, scheme)
    shares = np.array([0.4] + [0.6 / (len(names) - 1)] * (len(names) - 1))
    pairs = [rng.choice(names, size=(2, rng.randint(1, 12)), p=shares) for _ in range(10000)]
    pairs = [(one, np.where(rng.rand(len(one)) < 0.7, one, two)) for one, two in pairs]
    right, found = ([list(map(str, pair[i])) for pair in pairs] for i in (0, 1))
    theirs = schemes.Entities(right, getattr(schemes, tag)).entities
    ours = [spans_of(labels, scheme) for labels in right]
    assert ours == [[(e.start, e.end, e.tag) for e in entities] for entities in theirs]
    scores = entity_scores.entity_scores(
        ours, [spans_of(labels, scheme) for labels in found], ["字" * 12] * len(ours), TYPES
    )
    options = {"scheme": getattr(schemes, tag), "zero_division": 0}
    expected = precision_recall_fscore_support(right, found, average="micro", **options)
    assert (scores["precision"], scores["recall"], scores["f1"]) == pytest.approx(expected[:3])
    rows = precision_recall_fscore_support(right, found, average=None, **options)
    for i, name in enumerate(sorted(TYPES)):
        row = scores["per_type"][name]
        expected = [column[i] for column in rows]
        assert [row[x] for x in ("precision", "recall", "f1", "support")] == pytest.approx(expected)


def test_entities_that_share_a_character_do_not_overlap():
    begins, ends = np.array([0, 1, 1, 1, 2]), np.array([1, 2, 2, 2, 3])
    assert spans_in_text([(0, 2, "A"), (2, 3, "B"), (3, 5, "C")], begins, ends) == [
        (0, 2, "A"),
        (2, 3, "C"),
    ]


@given(st.data())
def test_spans_of_any_labels_are_whole_and_disjoint(data):
    scheme = data.draw(st.sampled_from(SCHEMES))
    names = label_decoding.label_names(TYPES, scheme)
    labels = data.draw(st.lists(st.sampled_from(names), max_size=9))
    spans = spans_of(labels, scheme)
    edges = [edge for begin, end, _ in spans for edge in (begin, end)]
    assert edges == sorted(edges)
    for begin, end, kind in spans:
        assert {label[2:] for label in labels[begin:end]} == {kind}
