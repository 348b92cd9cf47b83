"""Session hooks: progress with an ETA, and the guard against losses that are no numbers."""

import math
import time

import tensorflow.compat.v1 as tf

from pipeline.errors import UserError


class ProgressHook(tf.train.SessionRunHook):
    """Logs step, scalars, speed and the time that is left.

    Args:
        scalars: dict of name to scalar tensor, logged in this order.
        last_step: int, the global step that training ends at.
        batch_size: int, examples of a step.
        every_seconds: float, least time between two lines.
    """

    def __init__(self, scalars, last_step, batch_size, every_seconds=10.0):
        self._scalars = scalars
        self._last_step = last_step
        self._batch_size = batch_size
        self._every_seconds = every_seconds

    def begin(self):
        self._global_step = tf.train.get_or_create_global_step()
        self._marked_step = None

    def before_run(self, run_context):
        return tf.train.SessionRunArgs((self._global_step, self._scalars))

    def after_run(self, run_context, run_values):
        # What is fetched beside the update may be the step before or after it.
        step, scalars = run_values.results
        now = time.time()
        if self._marked_step is None:  # the first step pays for the set-up: time from its end
            self._marked_step, self._marked_time = step, now
            tf.logging.info("step %d of %d: %s", step, self._last_step, _listing(scalars))
            return
        elapsed = now - self._marked_time
        if step > self._marked_step and elapsed >= self._every_seconds:
            rate = (step - self._marked_step) / elapsed
            tf.logging.info(
                "step %d of %d: %s, %.1f examples/s, ETA %s",
                step,
                self._last_step,
                _listing(scalars),
                rate * self._batch_size,
                duration((self._last_step - step) / rate),
            )
            self._marked_step, self._marked_time = step, now


WATCHED = "watched_scalars"


def watch(scalars):
    """Give `NanGuardHook` scalars of the graph being built: a dict of name to tensor."""
    for name, scalar in scalars.items():
        tf.add_to_collection(WATCHED, tf.identity(scalar, name="watched/" + name))


class NanGuardHook(tf.train.SessionRunHook):
    """Stops training when a watched scalar is no finite number.

    It takes its tensors from the graph since it goes to `Estimator.train` itself: there it comes
    before the Estimator's own check, which says neither step nor values.

    Args:
        model_dir: str, where the checkpoints are.

    Raises:
        UserError: with step, values and the last checkpoint.
    """

    def __init__(self, model_dir):
        self._model_dir = model_dir

    def begin(self):
        self._global_step = tf.train.get_or_create_global_step()
        self._scalars = {
            scalar.op.name.split("/")[-1]: scalar for scalar in tf.get_collection(WATCHED)
        }

    def before_run(self, run_context):
        return tf.train.SessionRunArgs((self._global_step, self._scalars))

    def after_run(self, run_context, run_values):
        step, scalars = run_values.results
        if all(math.isfinite(value) for value in scalars.values()):
            return
        raise UserError(
            "training diverged at step {} ({}): lower --learning_rate or raise "
            "--num_warmup_steps; the last checkpoint is {}".format(
                step, _listing(scalars), tf.train.latest_checkpoint(self._model_dir)
            )
        )


def duration(seconds):
    """Write seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return "{}:{:02d}:{:02d}".format(hours, minutes, seconds)


def _listing(scalars):
    return ", ".join("{} {:.4g}".format(name, float(value)) for name, value in scalars.items())
