"""Scores against their definitions, computed one example at a time."""

import collections
import json
import math

import numpy as np
import pytest

from kinds import class_scores

LABELS = ("坏", "好", "中", "无")


def softmax_rows(rng, examples, labels):
    weights = rng.gamma(1.0, size=(examples, labels))
    return weights / weights.sum(axis=1, keepdims=True)


def by_hand(pairs, labels):
    """Return (accuracy, macro F1, label -> (precision, recall, f1, support)) of (right, found)."""
    hits = collections.Counter(right for right, found in pairs if right == found)
    rights = collections.Counter(right for right, _ in pairs)
    founds = collections.Counter(found for _, found in pairs)
    rows = {}
    for i, label in enumerate(labels):
        precision = hits[i] / founds[i] if founds[i] else 0.0
        recall = hits[i] / rights[i] if rights[i] else 0.0
        both = precision + recall
        f1 = 2 * precision * recall / both if both else 0.0
        rows[label] = (precision, recall, f1, rights[i])
    there = [rows[labels[i]][2] for i in sorted(set(rights) | set(founds))]
    return sum(hits.values()) / len(pairs), sum(there) / len(there), rows


@pytest.mark.parametrize("examples", [1, 2, 40, 500])
@pytest.mark.parametrize("used", [2, 3, 4])
def test_scores_are_what_their_definitions_say(examples, used):
    rng = np.random.RandomState(examples + used)
    probabilities = softmax_rows(rng, examples, used)
    probabilities = np.hstack([probabilities, np.zeros((examples, 4 - used))])
    label_ids = rng.randint(0, used, examples)
    found = class_scores.classification_scores(probabilities.astype(np.float32), label_ids, LABELS)
    pairs = [(int(i), int(np.argmax(row))) for i, row in zip(label_ids, probabilities)]
    accuracy, macro_f1, per_class = by_hand(pairs, LABELS)
    assert found["examples"] == examples
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["macro_f1"] == pytest.approx(macro_f1)
    loss = -sum(math.log(row[i]) for i, row in zip(label_ids, probabilities)) / examples
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    names = ("precision", "recall", "f1", "support")
    assert list(found["per_class"]) == list(LABELS)
    for label in LABELS:
        row = found["per_class"][label]
        assert tuple(row[name] for name in names) == pytest.approx(per_class[label])
    counts = collections.Counter(pairs)
    assert found["confusion"] == [[counts[i, j] for j in range(4)] for i in range(4)]
    assert json.loads(json.dumps(found)) == found


def test_a_worked_example():
    found = class_scores.classification_scores(
        [[0.8, 0.2], [0.6, 0.4], [0.5, 0.5], [0.1, 0.9]], [0, 1, 0, 1], ["0", "1"]
    )
    assert found["confusion"] == [[2, 0], [1, 1]]  # the first of equally probable labels counts
    assert (found["accuracy"], found["examples"]) == (0.75, 4)
    assert found["per_class"]["0"] == {
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "support": 2,
    }
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["loss"] == pytest.approx(-math.log(0.8 * 0.4 * 0.5 * 0.9) / 4)


def test_examples_without_a_label_count_nowhere():
    rows = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    found = class_scores.classification_scores(rows, [0, -1, 1], ["0", "1"])
    assert found == class_scores.classification_scores([rows[0], rows[2]], [0, 1], ["0", "1"])
    with pytest.raises(ValueError, match="no example"):
        class_scores.classification_scores(rows, [-1, -1, -1], ["0", "1"])


def test_a_probability_of_zero_is_still_json():
    found = class_scores.classification_scores(np.array([[1, 0]], np.float32), [1], ["0", "1"])
    assert 80 < found["loss"] < 90
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "probabilities, label_ids", [([[1.0, 0.0]], [0, 1]), ([[0.5, 0.3, 0.2]], [0])]
)
def test_shapes_have_to_fit(probabilities, label_ids):
    with pytest.raises(ValueError, match="labels"):
        class_scores.classification_scores(probabilities, label_ids, ["0", "1"])


def test_tables_show_classes_and_matrix():
    rows = np.eye(4)[[0, 1, 1, 2]]
    text = class_scores.class_tables(class_scores.classification_scores(rows, [0, 1, 0, 2], LABELS))
    assert text == (
        "label  precision  recall      f1  support\n"
        "坏        1.0000  0.5000  0.6667        2\n"
        "好        0.5000  1.0000  0.6667        1\n"
        "中        1.0000  1.0000  1.0000        1\n"
        "无        0.0000  0.0000  0.0000        0\n"
        "\n"
        "right \\ predicted  (0)  (1)  (2)  (3)\n"
        "(0) 坏               1    1    0    0\n"
        "(1) 好               0    1    0    0\n"
        "(2) 中               0    0    1    0\n"
        "(3) 无               0    0    0    0\n"
    )


def test_of_many_labels_the_text_shows_the_commonest_confusions():
    labels = [str(i) for i in range(119)]
    right = [0, 0, 0, 5, 5, 7] + list(range(20, 40))
    predicted = [3, 3, 3, 6, 6, 8] + list(range(21, 41))
    text = class_scores.class_tables(
        class_scores.classification_scores(np.eye(119)[predicted], right, labels)
    )
    table = [line.split() for line in text.split("\n\n")[-1].strip().split("\n")]
    assert table[1:4] == [["0", "3", "3"], ["5", "6", "2"], ["7", "8", "1"]]
    assert len(table) == 1 + class_scores.COMMONEST


@pytest.mark.parametrize(
    "accuracy, labels, at_chance",
    [
        (0.5, "01" * 50, True),
        (0.59, "01" * 50, True),
        (0.61, "01" * 50, False),
        (0.9, "0" * 90 + "1" * 10, True),
        (1.0, "0" * 90 + "1" * 10, False),
    ],
)
def test_chance_level_is_told(accuracy, labels, at_chance, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        assert class_scores.warn_at_chance_level(accuracy, list(labels)) == at_chance
    assert ("CHANCE LEVEL" in caplog.text) == at_chance
