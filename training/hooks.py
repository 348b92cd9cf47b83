"""Session hooks of training: progress with an ETA, the guard against divergence, checkpoints."""

import math
import os
import signal
import time

import tensorflow.compat.v1 as tf

from checkpointing import run_folder
from common import progress
from common.errors import UserError
from training import trainer

COUNTS = ("tokens", "positions")
RUNAWAY = 20.0  # a loss above this multiple of the first loss (or of 1) never falls again


def counts(is_piece):
    """Return a dict of `COUNTS` to float32 []: pieces and, padding included, positions.

    Args:
        is_piece: bool [B, S], False for padding.
    """
    is_piece = tf.cast(is_piece, tf.float32)
    return dict(zip(COUNTS, (tf.reduce_sum(is_piece), tf.cast(tf.size(is_piece), tf.float32))))


class ProgressHook(tf.train.SessionRunHook):
    """Logs step, scalars, speed, the share of positions that are not padding, and remaining time.

    Args:
        scalars: dict of name to scalar tensor, logged in this order.
        last_step: int, the global step at which training ends.
        batch_size: int, examples of a step.
        counts: dict of `COUNTS` to float32 [], of a step; or an empty dict.
        every_seconds: float, least time between two lines.
    """

    def __init__(self, scalars, last_step, batch_size, counts, every_seconds=10.0):
        self._scalars = scalars
        self._last_step = last_step
        self._batch_size = batch_size
        self._counts = counts
        self._every_seconds = every_seconds

    def begin(self):
        self._global_step = tf.identity(tf.train.get_or_create_global_step())
        self._marked_step = None

    def before_run(self, run_context):
        return tf.train.SessionRunArgs((self._scalars, self._counts))

    def after_run(self, run_context, run_values):
        scalars, counts = run_values.results
        now = time.time()
        if self._marked_step is None:  # the first step includes the set-up, so it is not timed
            self._log(self._mark(run_context, now), scalars, "")
            return
        for name, count in counts.items():
            self._seen[name] += count
        elapsed = now - self._marked_time
        if elapsed < self._every_seconds:
            return
        seen, marked_step = self._seen, self._marked_step
        step = self._mark(run_context, now)
        if step == marked_step:
            return
        rate = (step - marked_step) / elapsed
        speed = ", {:.1f} examples/s".format(rate * self._batch_size)
        if counts:
            speed += ", {:,.0f} tokens/s".format(seen["tokens"] / elapsed)
            speed += ", {:.0%} full".format(seen["tokens"] / seen["positions"])
        left = progress.duration((self._last_step - step) / rate)
        self._log(step, scalars, speed + ", ETA " + left)

    def _mark(self, run_context, now):
        # A global step that is fetched together with the update may be the one before or after the
        # update. A separate session run gives the exact step.
        self._marked_step = int(run_context.session.run(self._global_step))
        self._marked_time = now
        self._seen = dict.fromkeys(self._counts, 0.0)
        return self._marked_step

    def _log(self, step, scalars, speed):
        tf.logging.info("step %d of %d: %s%s", step, self._last_step, _listing(scalars), speed)


WATCHED, PLOTTED = "watched", "plotted"
# Steps between two points of TensorBoard's curves.
SUMMARY_STEPS = 10


def watch(scalars):
    """Add scalars, a dict of name to tensor, to those that `DivergenceGuard` watches."""
    _collect(WATCHED, scalars)


def plot(scalars):
    """Add scalars, a dict of name to tensor, to those that `CurveHook` writes."""
    _collect(PLOTTED, scalars)


def _collect(collection, scalars):
    for name, scalar in scalars.items():
        tf.add_to_collection(collection, tf.identity(scalar, name=collection + "/" + name))


def _collected(collection):
    """Return a dict of name to tensor; the values of a name are equal on all replicas."""
    return {scalar.op.name.split("/")[-1]: scalar for scalar in tf.get_collection(collection)}


class CurveHook(tf.train.SessionRunHook):
    """Writes scalars for TensorBoard: of the first and of every SUMMARY_STEPS-th step after it.

    The hook fetches the scalars at every step. TensorFlow's own hook fetches a summary at some
    steps only, and TensorFlow would optimize the whole graph a second time for that other set of
    fetches.

    Args:
        folder: str, where the file of events is.
    """

    def __init__(self, folder):
        self._folder = folder

    def begin(self):
        self._global_step = tf.identity(tf.train.get_or_create_global_step())
        self._scalars = _collected(PLOTTED)
        self._runs = 0

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._scalars)

    def after_run(self, run_context, run_values):
        if self._scalars and self._runs % SUMMARY_STEPS == 0:
            step = int(run_context.session.run(self._global_step))
            values = sorted(run_values.results.items())
            points = [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values]
            writer = tf.summary.FileWriterCache.get(self._folder)
            writer.add_summary(tf.Summary(value=points), step)
        self._runs += 1


class DivergenceGuard(tf.train.SessionRunHook):
    """Stops training when a watched scalar or a weight that is to be saved is not finite.

    The hook also stops training at a loss that is far above the first loss: the weights are then
    useless although they are finite, and their checkpoint must not be taken for a good one.

    The hook must run before the Estimator's own check, which reports neither step nor values.
    Therefore `Estimator.train` gets the hook, and the hook reads its tensors from a collection of
    the graph.

    Args:
        model_dir: str, where the checkpoints are.

    Raises:
        UserError: in a run that diverged; names the step, the values and the last good checkpoint.
    """

    def __init__(self, model_dir):
        self._model_dir = model_dir
        self._last_seen = {}
        self._highest_loss = math.inf

    def begin(self):
        self._global_step = tf.identity(tf.train.get_or_create_global_step())
        self._scalars = _collected(WATCHED)
        saved = [v for v in tf.global_variables() if v.dtype.base_dtype.is_floating]
        self._is_finite = {v.op.name: tf.reduce_all(tf.is_finite(v)) for v in saved}

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._scalars)

    def after_run(self, run_context, run_values):
        self._last_seen = run_values.results
        loss = self._last_seen.get("loss", 0.0)
        if self._highest_loss == math.inf:
            self._highest_loss = RUNAWAY * max(loss, 1.0)
        is_finite = all(math.isfinite(value) for value in self._last_seen.values())
        if not is_finite or loss > self._highest_loss:
            step = int(run_context.session.run(self._global_step))
            # The weights of the previous step gave these values, so their checkpoint is bad too.
            self._stop(step, _listing(self._last_seen), last_good=step - 2)

    def check_weights(self, session, step):
        """Raise UserError if a variable of the model or of the optimizer is not finite."""
        bad = [name for name, is_finite in session.run(self._is_finite).items() if not is_finite]
        if bad:
            scalars = _listing(self._last_seen)
            weights = "{} of {} variables are not finite, such as {}".format(
                len(bad), len(self._is_finite), min(bad)
            )
            self._stop(step, ", ".join(filter(None, (scalars, weights))), last_good=step - 1)

    def _stop(self, step, values, last_good):
        good = run_folder.go_back(self._model_dir, last_good)
        if not good:
            raise UserError(
                "training diverged at step {} ({}), with the weights that it began with: lower "
                "--learning_rate, start from another checkpoint, and give another "
                "--output_dir".format(step, values)
            )
        raise UserError(
            "training diverged at step {} ({}): lower --learning_rate or lengthen the warm-up; "
            "nothing is overwritten, and the same --output_dir continues from the last good "
            "checkpoint, {}".format(step, values, good)
        )


class CheckpointHook(tf.train.SessionRunHook):
    """Saves a checkpoint every `every_steps` steps, at the end, and at the start if there is none.

    Unlike TensorFlow's own hook it does not save again the step that was just restored, and it runs
    after `DivergenceGuard`.

    Args:
        model_dir: str, the folder.
        every_steps: int.
        check: function of (session, step) that raises where the weights must not be saved.
    """

    def __init__(self, model_dir, every_steps, check):
        self._model_dir = model_dir
        self._every_steps = every_steps
        self._check = check

    def begin(self):
        self._global_step = tf.identity(tf.train.get_or_create_global_step())

    def after_create_session(self, session, coord):
        self._saved_step = int(session.run(self._global_step))
        if not tf.train.latest_checkpoint(self._model_dir):
            self._save(session, self._saved_step)

    def after_run(self, run_context, run_values):
        step = int(run_context.session.run(self._global_step))
        # A TPU makes many steps in one session run.
        if step // self._every_steps > self._saved_step // self._every_steps:
            self._save(run_context.session, step)

    def end(self, session):
        step = int(session.run(self._global_step))
        if step > self._saved_step:
            self._save(session, step)

    def _save(self, session, step):
        self._check(session, step)
        prefix = os.path.join(self._model_dir, run_folder.BASENAME)
        [saver] = tf.get_collection(tf.GraphKeys.SAVERS)
        try:
            saver.save(session, prefix, global_step=step, write_meta_graph=False)
        except (tf.errors.OpError, ValueError) as error:  # ValueError: the folder is gone
            raise UserError(
                "cannot save a checkpoint at step {} in {} ({}): make room or repair the folder; "
                "the last good checkpoint is {}".format(
                    step,
                    self._model_dir,
                    trainer.reason(error),
                    tf.train.latest_checkpoint(self._model_dir),
                )
            ) from error
        # If the run is killed later, the curves up to here are kept too.
        tf.summary.FileWriterCache.get(self._model_dir).flush()
        self._saved_step = step
        tf.logging.info("Saved %s-%d", prefix, step)


SENT, SUMMED = "signal_sent", "signals_summed"


def share_signals(sum_over_replicas):
    """Add to the training step the sum of the signals that the machines have received.

    A machine that stopped alone would leave the others waiting for it in the middle of a step.

    Args:
        sum_over_replicas: function of a dict of float32 [] that returns the dict of their sums.
    """
    sent = tf.placeholder_with_default(0.0, [], SENT)
    tf.add_to_collection(SENT, sent)
    tf.add_to_collection(SUMMED, sum_over_replicas({SENT: sent})[SENT])


class SignalHook(tf.train.SessionRunHook):
    """Ends a training session after the step in which a signal came to one of the machines.

    This hook runs before `CheckpointHook`, so that a signal does not interrupt the first save.

    Args:
        signals: `signals.OrderlyEnd`.
    """

    def __init__(self, signals):
        self._signals = signals

    def begin(self):
        self._sent = tf.get_collection(SENT)
        self._summed = tf.get_collection(SUMMED)

    def after_create_session(self, session, coord):
        self._signals.deferred = True

    def before_run(self, run_context):
        sent = float(bool(self._signals.received))
        return tf.train.SessionRunArgs(self._summed, feed_dict=dict.fromkeys(self._sent, sent))

    def after_run(self, run_context, run_values):
        # All machines read the same sum, so they end after the same step.
        is_end = any(run_values.results) if self._summed else self._signals.received
        if is_end:
            self._signals.received = self._signals.received or signal.SIGTERM
            run_context.request_stop()


def _listing(scalars):
    return ", ".join("{} {:.4g}".format(name, float(value)) for name, value in scalars.items())
