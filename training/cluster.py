"""Several machines: which one this is, and training together with the others."""

import contextlib
import json
import os
import time
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from checkpointing import run_folder
from common.errors import UserError

# Seconds that a worker waits for the chief to save what both have trained.
PATIENCE = 1800


class Task(NamedTuple):
    """Which of the processes of a cluster this one is."""

    workers: list  # addresses, the chief's first
    index: int

    @property
    def is_chief(self):
        return self.index == 0


CLUSTER_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def read_task(text=None):
    """Return the `Task` that TF_CONFIG describes.

    Args:
        text: str, JSON; that of the environment if left out.

    Raises:
        UserError: if it is missing, or does not describe a cluster of workers and this process.
    """
    text = os.environ.get("TF_CONFIG") if text is None else text
    if not text:
        raise UserError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG, on each machine "
            "with its own index: " + CLUSTER_EXAMPLE
        )
    try:
        described = json.loads(text)
        jobs, task = described["cluster"], described["task"]
        unknown = set(jobs) - {"chief", "worker"}
        workers = jobs.get("chief", []) + jobs.get("worker", [])
        index = int(task["index"])
        valid = not unknown and 0 <= index < len(jobs[task["type"]])
        if task["type"] == "worker":
            index += len(jobs.get("chief", []))
    except (AttributeError, KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise UserError(
            "TF_CONFIG is {!r}, which is not like {}; chief and worker are the only types of "
            "task".format(text, CLUSTER_EXAMPLE)
        )
    return Task(workers, index)


@contextlib.contextmanager
def alone():
    """Hide TF_CONFIG from what is made inside: an Estimator would wait for its machines."""
    text = os.environ.pop("TF_CONFIG", None)
    try:
        yield
    finally:
        if text is not None:
            os.environ["TF_CONFIG"] = text


class Runner:
    """What all machines train and one of them evaluates, on one device.

    Args:
        estimator: tf.estimator.Estimator that works alone.
        trainer: the Estimator to train with, of the same folder; the first one if left out.
        task: `Task`, if `trainer` trains with other machines.
    """

    def __init__(self, estimator, trainer=None, task=None):
        self._trainer = trainer or estimator
        self._task = task
        self.model_dir = estimator.model_dir
        self.is_chief = task is None or task.is_chief
        self.evaluate = estimator.evaluate
        self.predict = estimator.predict

    def train(self, input_fn, max_steps, hooks):
        """Train up to a global step; at the end every machine sees the checkpoint of it.

        Args:
            input_fn: the input function.
            max_steps: int, the global step.
            hooks: list of SessionRunHook, of which the chief's are to save checkpoints.
        """
        if self._task is None:
            self._trainer.train(input_fn, max_steps=max_steps, hooks=hooks)
            return
        last_step = _LastStep()
        # Estimator.train refuses to work with other machines. This trains, and evaluates nothing
        # since no task of the cluster is an evaluator.
        tf.estimator.train_and_evaluate(
            self._trainer,
            tf.estimator.TrainSpec(input_fn, max_steps, hooks=list(hooks) + [last_step]),
            tf.estimator.EvalSpec(input_fn),
        )
        self._await_checkpoint(last_step.value)

    def _await_checkpoint(self, step):
        """Wait until the step is saved: who starts from an older one leaves the others."""
        end = time.time() + PATIENCE
        while run_folder.latest_step(self.model_dir) < step:
            if time.time() > end:
                raise UserError(
                    "no checkpoint of step {} in --output_dir={} after {} minutes: all machines "
                    "need one and the same folder".format(step, self.model_dir, PATIENCE // 60)
                )
            time.sleep(0.1)


class _LastStep(tf.train.SessionRunHook):
    """Remembers the global step that a session ended at."""

    value = 0

    def begin(self):
        self._global_step = tf.identity(tf.train.get_or_create_global_step())

    def end(self, session):
        self.value = int(session.run(self._global_step))
