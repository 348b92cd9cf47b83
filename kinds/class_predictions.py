"""Writes predictions.tsv of a classifier, and its predictions for a submission to CLUE."""

import numpy as np
from absl import logging

from common import files


def write_predictions(path, task_labels, examples, probabilities):
    """Write a table with a header and a row for each example, in the order of the examples.

    The columns are `id`, `label` (empty where it is not known), `prediction` and `p(LABEL)` for
    every label, separated by tabs; a tab or line end inside a name becomes a blank.

    Args:
        path: str; the file appears when it is complete.
        task_labels: list of str, in the order of the probabilities.
        examples: list of `tasks.Example`.
        probabilities: float [examples, labels].

    Raises:
        UserError: where the file cannot be written.
    """
    rows = [["id", "label", "prediction"] + ["p({})".format(label) for label in task_labels]]
    predictions = predicted_labels(task_labels, examples, probabilities)
    for example, prediction, row in zip(examples, predictions, probabilities):
        cells = ["{:.6f}".format(probability) for probability in row]
        rows.append([example.guid, example.label or "", prediction] + cells)
    files.write_table(path, rows)
    logging.info("%d predictions in %s", len(examples), path)


def write_submission(path, task, examples, probabilities):
    """Write the predictions of a test set in CLUE's format: JSON lines.

    Args:
        path: str; the file appears when it is complete.
        task: `tasks.Task` of CLUE.
        examples: list of `tasks.Example`.
        probabilities: float [examples, labels].

    Raises:
        UserError: where the file cannot be written.
    """
    predictions = predicted_labels(task.labels, examples, probabilities)
    guids = (example.guid for example in examples)
    files.write_json_lines(path, map(task.submission.row, guids, predictions))
    logging.info("%d predictions for CLUE in %s", len(examples), path)


def predicted_labels(task_labels, examples, probabilities):
    """Return the most probable label of each example; raises ValueError where shapes differ."""
    if np.shape(probabilities) != (len(examples), len(task_labels)):
        raise ValueError(
            "probabilities {} for {} examples and {} labels".format(
                np.shape(probabilities), len(examples), len(task_labels)
            )
        )
    return [task_labels[i] for i in np.argmax(probabilities, axis=1)]
