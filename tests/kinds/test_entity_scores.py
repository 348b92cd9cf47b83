"""Entity scores worked out by hand."""

import json

import pytest

from kinds import entity_scores
from kinds.entities import Entities

TEXTS = ["北京和北京", "张三"]
RIGHT = [[(0, 2, "LOC"), (3, 5, "LOC")], [(0, 2, "PER")]]


def test_what_chooses_the_best_checkpoint_is_a_score():
    assert set(Entities.metrics) <= set(entity_scores.entity_scores([[]], [[]], ["好"], ["LOC"]))


def test_a_worked_example():
    found = [[(0, 2, "LOC"), (2, 5, "LOC")], [(0, 2, "ORG")]]
    scores = entity_scores.entity_scores(RIGHT, found, TEXTS, ["LOC", "ORG", "PER"])
    assert (scores["examples"], scores["entities"]) == (2, 3)
    assert scores["precision"] == scores["recall"] == scores["f1"] == pytest.approx(1 / 3)
    assert scores["per_type"]["LOC"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert scores["per_type"]["PER"]["recall"] == 0.0
    assert scores["macro_f1"] == pytest.approx(0.5 / 3)
    # CLUENER compares strings: {北京} is right, {北京, 和北京} was found.
    assert scores["cluener_f1"] == pytest.approx((2 / 3) / 3)
    assert json.loads(json.dumps(scores)) == scores
    assert entity_scores.type_table(scores) == (
        "type  precision  recall      f1  support\n"
        "LOC      0.5000  0.5000  0.5000        2\n"
        "ORG      0.0000  0.0000  0.0000        0\n"
        "PER      0.0000  0.0000  0.0000        1\n"
        "all      0.3333  0.3333  0.3333        3\n"
    )


def test_cluener_counts_a_string_once_wherever_it_stands():
    found = [[(3, 5, "LOC")], [(0, 2, "PER")]]
    scores = entity_scores.entity_scores(RIGHT, found, TEXTS, ["LOC", "PER"])
    assert scores["cluener_f1"] == 1.0
    assert scores["recall"] == pytest.approx(2 / 3)


def test_nothing_right_and_nothing_found_is_zero():
    scores = entity_scores.entity_scores([[]], [[]], ["好"], ["LOC"])
    assert scores["f1"] == scores["macro_f1"] == scores["cluener_f1"] == 0.0


def test_every_text_needs_both_lists():
    with pytest.raises(ValueError, match="2 right, 1 found"):
        entity_scores.entity_scores(RIGHT, [[]], TEXTS, ["LOC"])
