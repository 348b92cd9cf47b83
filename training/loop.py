"""Training with evaluations on the way; the best checkpoint is kept, training may stop early."""

import contextlib
import json
import math
import os
from typing import Callable, NamedTuple

import tensorflow.compat.v1 as tf

from checkpointing import model_files, run_folder
from common import cli, files
from common.errors import UserError
from training import hooks

HISTORY = "eval_history.jsonl"


class Evaluation(NamedTuple):
    """How a model is evaluated while it trains."""

    run: Callable[[], dict]  # Evaluates the latest checkpoint: results with their global_step.
    every_steps: int  # 0: at the end only.
    metric: str  # Key of the results that says which checkpoint is best.
    higher_is_better: bool = False
    patience: int = 0  # Evaluations without a better value after which training ends; 0: never.

    def score(self, results):
        """Return the metric of results as a number that is higher for better ones."""
        value = results[self.metric] if self.higher_is_better else -results[self.metric]
        return value if math.isfinite(value) else -math.inf


def define_evaluation_flags(flag_values, best):
    """Define the flags of evaluations on the way.

    Args:
        flag_values: absl's `FlagValues`.
        best: str, such as "lowest loss", names the best checkpoint in the help.
    """
    define = cli.flag_definer(flag_values)
    define.integer(
        "eval_every_steps",
        0,
        "With do_train and do_eval: evaluate every so many steps as well, and keep the checkpoint "
        "of the {} in output_dir/best; 0: only at the end.".format(best),
        lower_bound=0,
    )
    define.integer(
        "eval_steps", None, "Batches of an evaluation; all of them if left out.", lower_bound=1
    )


def train(trainer, input_fn, max_steps, save_steps, signals):
    """Train up to a global step, save on the way and at the end, stop when training diverges.

    Args:
        trainer: `trainer.Trainer`.
        input_fn: its input function.
        max_steps: int, the global step to stop at.
        save_steps: int, steps from one checkpoint to the next.
        signals: `signals.OrderlyEnd`.

    Raises:
        UserError: if the loss or a weight is not finite.
        SystemExit: after a signal, with everything saved.
    """
    guard = hooks.DivergenceGuard(trainer.model_dir)
    session_hooks = [guard, hooks.SignalHook(signals)]
    if trainer.is_chief:
        session_hooks.append(
            hooks.CheckpointHook(trainer.model_dir, save_steps, guard.check_weights)
        )
    try:
        trainer.train(input_fn, max_steps=max_steps, hooks=session_hooks)
    except tf.train.NanLossDuringTrainingError as error:  # on a TPU, where nothing is watched
        raise UserError(
            "training diverged, the loss is no number: lower --learning_rate or raise "
            "--num_warmup_steps; the last good checkpoint is {}".format(
                tf.train.latest_checkpoint(trainer.model_dir)
            )
        ) from error
    finally:
        signals.deferred = False
    if signals.received:
        latest = tf.train.latest_checkpoint(trainer.model_dir)
        tf.logging.warning("Ended by a signal; %s is saved, the same command goes on", latest)
    signals.end_if_received()


def train_and_evaluate(trainer, input_fn, max_steps, save_steps, signals, evaluation=None):
    """Train up to a global step with an evaluation every so many steps and at the end.

    The results of each evaluation become a line of `eval_history.jsonl` in the run's folder, and
    the checkpoint of the best evaluation is copied to the folder `best` there. Evaluations do not
    change the training steps. A run that was killed during an evaluation repeats this evaluation
    when it is started again. The decision to stop early depends on the file alone, so a run that
    is started again makes the same decision.

    Args:
        trainer, input_fn, max_steps, save_steps, signals: as `train`.
        evaluation: `Evaluation`, or None for none.

    Returns:
        dict, the results of the last evaluation; None without one, or on a machine that only helps
        to train.

    Raises:
        UserError, SystemExit: as `train`.
        UserError: if another process trains in the same folder.
    """
    folder = trainer.model_dir
    with _owned_folder(trainer):
        step = run_folder.latest_step(folder)
        every = evaluation.every_steps if evaluation else 0
        seen = read_history(folder, step)
        while step < max_steps:
            if every and step and step % every == 0 and step not in seen:
                _evaluate(trainer, evaluation)
            if _has_stalled(folder, step, evaluation):
                return read_history(folder, step)[step]
            step = min(max_steps, (step // every + 1) * every) if every else max_steps
            train(trainer, input_fn, step, save_steps, signals)
        return _evaluate(trainer, evaluation) if evaluation else None


@contextlib.contextmanager
def _owned_folder(trainer):
    """A context in which no other process trains in the trainer's folder; raises UserError."""
    with contextlib.ExitStack() as stack:
        if trainer.is_chief:
            if files.is_local(trainer.model_dir):
                stack.enter_context(files.locked_folder(trainer.model_dir))
            run_folder.remove_unfinished(trainer.model_dir)
        yield


def read_history(folder, last_step=math.inf):
    """Return the evaluations of a run up to a step: dict of global step to results, ascending."""
    path = os.path.join(folder, HISTORY)
    if not files.exists(path):
        return {}
    with files.open_file(path) as stream:
        evaluations = [json.loads(line) for line in stream.read().decode("utf-8").splitlines()]
    by_step = {results["global_step"]: results for results in evaluations}
    return {step: by_step[step] for step in sorted(by_step) if step <= last_step}


def _has_stalled(folder, step, evaluation):
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


def _evaluate(trainer, evaluation):
    if not trainer.is_chief:  # the chief evaluates
        return None
    folder = trainer.model_dir
    results = evaluation.run()
    step, value = results["global_step"], results[evaluation.metric]
    best = _read_best(folder)
    if evaluation.score(results) > (evaluation.score(best) if best else -math.inf):
        run_folder.copy(tf.train.latest_checkpoint(folder), os.path.join(folder, model_files.BEST))
        text = json.dumps({"global_step": step, evaluation.metric: value}, indent=2) + "\n"
        files.write_text(os.path.join(folder, model_files.BEST, model_files.BEST + ".json"), text)
        tf.logging.info("Best so far: %s %.4f at step %d", evaluation.metric, value, step)
    lines = list(read_history(folder, step - 1).values()) + [results]
    # The history comes last: a run repeats an evaluation that is not in it.
    text = "".join(json.dumps(line) + "\n" for line in lines)
    files.write_text(os.path.join(folder, HISTORY), text)
    return results


def _read_best(folder):
    path = os.path.join(folder, model_files.BEST, model_files.BEST + ".json")
    if not files.exists(path):
        return None
    with files.open_file(path) as stream:
        return json.loads(stream.read().decode("utf-8"))
