"""The training loop: it saves, evaluates during training, and ends in an orderly way."""

import contextlib

import tensorflow.compat.v1 as tf

from checkpointing import run_folder
from common import cli, files
from common.errors import UserError
from training import hooks
from training.best_checkpoint import evaluate, has_stalled, read_best, read_history


def define_evaluation_flags(flag_values, best):
    """Define the flags of evaluations during training.

    Args:
        flag_values: absl's `FlagValues`.
        best: str, such as "lowest loss", names the best checkpoint in the help.
    """
    define = cli.flag_definer(flag_values)
    define.integer(
        "eval_every_steps",
        0,
        "With do_train and do_eval: steps between two evaluations; the checkpoint with the {} is "
        "kept in output_dir/best. 0: evaluate only at the end.".format(best),
        lower_bound=0,
    )
    define.integer(
        "eval_steps", None, "Batches in an evaluation. Default: all batches.", lower_bound=1
    )


@contextlib.contextmanager
def owned_folder(trainer, do_train=True):
    """A context in which no other process trains in the trainer's folder.

    Args:
        trainer: `trainer.Trainer`.
        do_train: bool. A run that only evaluates may use the folder beside one that trains.

    Raises:
        UserError: if another process trains there.
    """
    with contextlib.ExitStack() as stack:
        if trainer.is_chief and do_train:
            if files.is_local(trainer.model_dir):
                stack.enter_context(files.locked_folder(trainer.model_dir))
            run_folder.remove_unfinished(trainer.model_dir)
        yield


def train(trainer, input_fn, max_steps, save_steps, signals):
    """Train up to a global step, save regularly and at the end, stop when training diverges.

    Args:
        trainer: `trainer.Trainer`.
        input_fn: the input function of training.
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
        session_hooks.append(hooks.CurveHook(trainer.model_dir))
        session_hooks.append(
            hooks.CheckpointHook(trainer.model_dir, save_steps, guard.check_weights)
        )
    try:
        trainer.train(input_fn, max_steps=max_steps, hooks=session_hooks)
    except tf.train.NanLossDuringTrainingError as error:  # on a TPU no scalars are watched
        raise UserError(
            "training diverged, the loss is not a number: lower --learning_rate or lengthen the "
            "warm-up; the last good checkpoint is {}".format(
                tf.train.latest_checkpoint(trainer.model_dir)
            )
        ) from error
    finally:
        signals.deferred = False
    if signals.received:
        latest = tf.train.latest_checkpoint(trainer.model_dir)
        tf.logging.warning("Ended by a signal; %s is saved; the same command continues it", latest)
    signals.end_if_received()


def train_and_evaluate(trainer, input_fn, max_steps, save_steps, signals, evaluation=None):
    """Train up to a global step with regular evaluations and one at the end.

    The results of each evaluation become a line of `eval_history.jsonl` in the run's folder, and
    the checkpoint of the best evaluation is copied to the folder `best` there. Evaluations do not
    change the training steps. A run that was killed during an evaluation repeats this evaluation
    when it is started again. The decision to stop early depends on the file alone, so a run that
    is started again makes the same decision.

    Args:
        trainer, input_fn, max_steps, save_steps, signals: as in `train`; inside `owned_folder`.
        evaluation: `best_checkpoint.Evaluation`, or None for none.

    Returns:
        dict, the results of the last evaluation; None if there was none, or on workers other than
        the chief.

    Raises:
        UserError, SystemExit: as in `train`.
    """
    folder = trainer.model_dir
    step = run_folder.latest_step(folder)
    every = evaluation.every_steps if evaluation else 0
    # Before the first checkpoint another command may have evaluated other weights.
    seen = read_history(folder, step) if tf.train.latest_checkpoint(folder) else {}
    if evaluation:
        read_best(folder, evaluation)  # a damaged file ends the run before the steps
    while step < max_steps:
        is_due = every and step % every == 0 and (step or evaluation.at_start)
        if is_due and step not in seen:
            evaluate(trainer, evaluation)
        if has_stalled(folder, step, evaluation):
            return read_history(folder, step)[step]
        step = min(max_steps, (step // every + 1) * every) if every else max_steps
        train(trainer, input_fn, step, save_steps, signals)
    return evaluate(trainer, evaluation) if evaluation else None
