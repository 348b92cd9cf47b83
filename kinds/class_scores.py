"""Computes the scores of a classifier in numpy, from the probabilities of all examples."""

import collections
import math

import numpy as np
from absl import logging

from common.text_table import text_table

# With more labels than this, a report shows only the commonest confusions, not the matrix.
MATRIX_LABELS = 20
COMMONEST = 10


def classification_scores(probabilities, label_ids, labels):
    """Compare probabilities with the right classes.

    Args:
        probabilities: float [examples, labels].
        label_ids: int [examples], right classes; examples without a label have a negative one and
            are left out.
        labels: list of str, names of the classes.

    Returns:
        dict that json can write: `examples`, `accuracy`, `macro_f1` (mean F1 of the labels that
        are right or predicted somewhere), `loss` (mean -log p of the right class, nats),
        `per_class` (label -> `precision`, `recall`, `f1`, each 0 where it is 0/0, and `support`,
        its examples) and `confusion` (rows right, columns predicted, in the order of labels).

    Raises:
        ValueError: where the shapes differ, or no example has a label.
    """
    probabilities, label_ids = np.asarray(probabilities, np.float64), np.asarray(label_ids)
    if probabilities.shape != (len(label_ids), len(labels)):
        raise ValueError(
            "probabilities {} for {} examples and {} labels".format(
                probabilities.shape, len(label_ids), len(labels)
            )
        )
    is_labelled = label_ids >= 0
    probabilities, label_ids = probabilities[is_labelled], label_ids[is_labelled]
    if not len(label_ids):
        raise ValueError("no example has a label")
    right = probabilities[np.arange(len(label_ids)), label_ids]  # [examples]
    confusion = _confusion(label_ids, probabilities.argmax(axis=1), len(labels))
    per_class = _per_class(confusion, labels)
    occurs = confusion.any(axis=0) | confusion.any(axis=1)  # [labels]
    return {
        "examples": len(label_ids),
        "accuracy": float(np.trace(confusion) / len(label_ids)),
        "macro_f1": float(np.mean(np.array([row["f1"] for row in per_class.values()])[occurs])),
        # A probability may be 0 in float32; JSON has no infinity.
        "loss": float(-np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean()),
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }


def _confusion(label_ids, predictions, num_labels):
    """Return int [labels, labels]: counts by right label (row) and predicted label (column)."""
    cells = np.bincount(label_ids * num_labels + predictions, minlength=num_labels**2)
    return cells.reshape(num_labels, num_labels)


def _per_class(confusion, labels):
    hits, support = np.diag(confusion), confusion.sum(axis=1)  # [labels] each
    predicted = confusion.sum(axis=0)  # [labels]
    columns = {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(predicted + support, 1),
    }
    return {
        label: dict({name: float(columns[name][i]) for name in columns}, support=int(support[i]))
        for i, label in enumerate(labels)
    }


def class_tables(scores):
    """Return the scores of each class, and the confusions, as tables for people.

    Args:
        scores: the result of `classification_scores`.
    """
    columns = ("precision", "recall", "f1", "support")
    per_class = [["label"] + list(columns)]
    for label, row in scores["per_class"].items():
        per_class.append([label] + [row[column] for column in columns])
    labels = list(scores["per_class"])
    show = _matrix if len(labels) <= MATRIX_LABELS else _commonest_confusions
    return text_table(per_class) + "\n" + text_table(show(scores, labels))


def _matrix(scores, labels):
    """Return the rows of a table: right labels down, predicted labels, as numbers, across."""
    numbers = ["({})".format(i) for i in range(len(labels))]
    rows = [["right \\ predicted"] + numbers]
    for number, label, counts in zip(numbers, labels, scores["confusion"]):
        rows.append(["{} {}".format(number, label)] + counts)
    return rows


def _commonest_confusions(scores, labels):
    confusions = [
        (count, labels[i], labels[j])
        for i, counts in enumerate(scores["confusion"])
        for j, count in enumerate(counts)
        if i != j and count
    ]
    confusions.sort(key=lambda confusion: -confusion[0])
    commonest = [[right, wrong, count] for count, right, wrong in confusions[:COMMONEST]]
    return [["right", "predicted instead", "examples"]] + commonest


def warn_at_chance_level(accuracy, labels):
    """Warn if an accuracy is within two standard errors of always predicting the commonest label.

    Args:
        accuracy: float, share of right predictions.
        labels: list of the right labels.

    Returns:
        bool, whether it is at chance level.
    """
    label, count = collections.Counter(labels).most_common(1)[0]
    chance = count / len(labels)
    standard_error = math.sqrt(chance * (1.0 - chance) / len(labels))
    at_chance = accuracy <= chance + 2 * standard_error
    if at_chance:
        logging.warning(
            "CHANCE LEVEL: accuracy %.4f on %d examples; always answering %r gives %.4f. Check "
            "that the checkpoint was loaded, and try another --learning_rate or more steps",
            accuracy,
            len(labels),
            label,
            chance,
        )
    return at_chance
