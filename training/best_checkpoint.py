"""Evaluations during training: their history, the copy of the best checkpoint, early stopping."""

import math
import os
from typing import Callable, NamedTuple

import tensorflow.compat.v1 as tf

from checkpointing import model_files, run_folder
from checkpointing.eval_history import HISTORY, read_history
from common import files
from common.errors import UserError


class Evaluation(NamedTuple):
    """How a model is evaluated while it trains."""

    run: Callable[[], dict]  # Evaluates the latest checkpoint: results with their global_step.
    every_steps: int  # 0: at the end only.
    metric: str  # Key of the results that decides which checkpoint is best.
    higher_is_better: bool = False
    at_start: bool = False  # Whether a model that has not trained yet is evaluated, too.
    patience: int = 0  # Evaluations without a better value after which training ends; 0: never.

    def score(self, results):
        """Return the metric of results, negated if lower is better; -inf if it is not finite."""
        value = results[self.metric] if self.higher_is_better else -results[self.metric]
        return value if math.isfinite(value) else -math.inf


def read_best(folder, evaluation):
    """Return the results of the best checkpoint of a run, a dict, or None if there is none.

    Raises:
        UserError: if the file is damaged.
    """
    path = _best_file(folder)
    if not files.exists(path):
        return None
    try:
        best = files.read_json(path)
        evaluation.score(best)
    except (UserError, KeyError, TypeError) as error:
        text = "{} is damaged ({}): remove it; the next evaluation then counts as the best"
        raise UserError(text.format(path, error)) from error
    return best


def _best_file(folder):
    return os.path.join(folder, model_files.BEST, model_files.BEST + ".json")


def evaluate(trainer, evaluation):
    """Evaluate the latest checkpoint, keep it if it is the best, and write the history.

    Args:
        trainer: `trainer.Trainer`.
        evaluation: `Evaluation`.

    Returns:
        dict, the results; None on workers other than the chief.
    """
    if not trainer.is_chief:
        return None
    folder = trainer.model_dir
    results = evaluation.run()
    step, value = results["global_step"], results[evaluation.metric]
    best = read_best(folder, evaluation)
    latest = tf.train.latest_checkpoint(folder)  # None before the first step
    if latest and evaluation.score(results) > (evaluation.score(best) if best else -math.inf):
        run_folder.copy(latest, os.path.join(folder, model_files.BEST))
        files.write_json(_best_file(folder), results)
        tf.logging.info("Best so far: %s %.4f at step %d", evaluation.metric, value, step)
    lines = list(read_history(folder, step - 1).values()) + [results]
    # The history is written last: a run repeats an evaluation that is not in it.
    files.write_json_lines(os.path.join(folder, HISTORY), lines)
    return results


def has_stalled(folder, step, evaluation):
    """Return whether the last `patience` evaluations, up to this step's, gave no better score."""
    history = read_history(folder, step)
    if not (evaluation and evaluation.patience and step in history):
        return False
    scores = [evaluation.score(results) for results in history.values()]
    waited = len(scores) - 1 - scores.index(max(scores))
    if waited >= evaluation.patience:
        tf.logging.info(
            "Early stopping at step %d: %d evaluations without a better %s",
            step,
            waited,
            evaluation.metric,
        )
    return waited >= evaluation.patience


def write_curves(folder, results):
    """Write the results of an evaluation for TensorBoard, in the folder that Estimator uses."""
    values = [
        tf.Summary.Value(tag=name, simple_value=results[name])
        for name in sorted(results)
        if name != "global_step"
    ]
    with tf.Graph().as_default(), tf.summary.FileWriter(os.path.join(folder, "eval")) as writer:
        writer.add_summary(tf.Summary(value=values), results["global_step"])
