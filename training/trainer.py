"""The object that trains a model on all devices, and evaluates and predicts on one."""

import contextlib
import re
import time

import tensorflow.compat.v1 as tf

from checkpointing import run_folder
from common import cli
from common.errors import UserError
from training import cluster, devices, tpu

# Seconds that a worker waits until the chief has saved the last step.
CHECKPOINT_SECONDS = 1800


def make_trainer(model_fn, settings, placement=None):
    """Return the `Trainer` of a model.

    Args:
        model_fn: as `model_fn.make_model_fn` makes it.
        settings: `flags.RunSettings`.
        placement: `placement.Placement`; None if the run does not train.
    """
    member = cluster.read_member() if settings.strategy == "multi_worker" else None
    with cluster.without_cluster():
        alone = _make_estimator(model_fn, settings)
    if not (placement and placement.strategy):
        return Trainer(alone, alone, member)
    with contextlib.nullcontext() if member else cluster.without_cluster():
        together = _make_estimator(model_fn, settings, placement.strategy)
    return Trainer(alone, together, member)


def _make_estimator(model_fn, settings, strategy=None):
    """Return the TPUEstimator that runs `model_fn` on TPU, GPU or CPU."""
    estimators = tf.estimator.tpu
    config = estimators.RunConfig(
        cluster=tpu.make_resolver(settings) if settings.use_tpu else None,
        master=settings.master,
        model_dir=settings.output_dir,
        save_checkpoints_steps=None,  # hooks.CheckpointHook saves
        save_checkpoints_secs=None,
        save_summary_steps=None,  # hooks.CurveHook writes them
        keep_checkpoint_max=settings.keep_checkpoint_max,
        tf_random_seed=settings.random_seed,
        log_step_count_steps=None,  # hooks.ProgressHook logs more
        session_config=None if settings.use_tpu else devices.session_config(settings),
        train_distribute=strategy,
        tpu_config=estimators.TPUConfig(
            iterations_per_loop=settings.iterations_per_loop,
            num_shards=settings.num_tpu_cores,
            per_host_input_for_training=estimators.InputPipelineConfig.PER_HOST_V2,
        ),
    )
    return estimators.TPUEstimator(
        use_tpu=settings.use_tpu,
        model_fn=model_fn,
        config=config,
        train_batch_size=settings.train_batch_size,
        eval_batch_size=settings.eval_batch_size,
        predict_batch_size=settings.predict_batch_size,
    )


class Trainer:
    """Trains a model on all devices and machines; evaluates and predicts on one device.

    Args:
        alone: tf.estimator.Estimator of one device.
        together: the Estimator to train with, of the same folder; `alone` if left out.
        member: `cluster.ClusterMember`, if `together` trains with other machines.
    """

    def __init__(self, alone, together=None, member=None):
        self._together = together or alone
        self._member = member
        self.model_dir = alone.model_dir
        self.is_chief = member is None or member.is_chief
        self.evaluate = alone.evaluate
        self.predict = alone.predict

    def train(self, input_fn, max_steps, hooks):
        """Train up to a global step. When this returns, every machine can read the last checkpoint.

        Args:
            input_fn: the input function.
            max_steps: int, the global step.
            hooks: list of SessionRunHook; the hooks of the chief save checkpoints.
        """
        if self._member is None:
            self._together.train(input_fn, max_steps=max_steps, hooks=hooks)
            return
        last_step = _LastStep()
        # Estimator.train refuses to work with other machines. train_and_evaluate trains, and it
        # evaluates nothing, because no task of the cluster is an evaluator.
        tf.estimator.train_and_evaluate(
            self._together,
            tf.estimator.TrainSpec(input_fn, max_steps, hooks=list(hooks) + [last_step]),
            tf.estimator.EvalSpec(input_fn),
        )
        self._await_checkpoint(last_step.value)

    def _await_checkpoint(self, step):
        """Wait until the step is saved: a worker that reads an older step would train alone."""
        end = time.time() + CHECKPOINT_SECONDS
        while run_folder.latest_step(self.model_dir) < step:
            if time.time() > end:
                raise UserError(
                    "no checkpoint of step {} in --output_dir={} after {} minutes: all machines "
                    "must use the same folder".format(
                        step, self.model_dir, CHECKPOINT_SECONDS // 60
                    )
                )
            time.sleep(0.1)


class _LastStep(tf.train.SessionRunHook):
    """Remembers the global step that a session ended at."""

    value = 0

    def begin(self):
        self._global_step = tf.identity(tf.train.get_or_create_global_step())

    def end(self, session):
        self.value = int(session.run(self._global_step))


# A part of TensorFlow's messages about a record that `tf.io.parse_example` cannot read.
NO_EXAMPLE = re.compile("Could not parse example|ParseExample")
# A part of TensorFlow's messages about an id that an embedding table does not have, on a CPU.
TOO_LARGE = re.compile(r"\] = (-?\d+) is not in \[0, (\d+)\)")


@contextlib.contextmanager
def user_errors():
    """Turn TensorFlow's errors that a user can mend into one clear line."""
    try:
        yield
    except tf.errors.DataLossError as error:
        raise UserError(
            "a file is damaged ({}): make the records or fetch the checkpoint again".format(
                reason(error)
            )
        ) from error
    except tf.errors.ResourceExhaustedError as error:
        if cli.FULL_DISK in str(error):
            raise UserError("cannot write ({}): make room".format(reason(error))) from error
        raise UserError(
            "out of memory ({}): lower --micro_batch_size, or --max_seq_length".format(
                reason(error)
            )
        ) from error
    except RuntimeError as error:
        if "Cannot find any TPU cores" not in str(error):
            raise
        tpu.check_kernels()
        raise UserError(
            "no TPU core answers ({}): check that the TPU is ready".format(reason(error))
        ) from error
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        # TensorFlow fails to decode its own message if that quotes a record.
        is_decoded = isinstance(error, tf.errors.OpError)
        text = str(error) if is_decoded else error.object.decode("utf-8", "replace")
        large = TOO_LARGE.search(text)
        if large:
            raise UserError(
                "a record holds id {}, but the model has {} rows for such ids, so the records were "
                "made with another vocabulary: make them again with the model's".format(
                    *large.groups()
                )
            ) from error
        if not NO_EXAMPLE.search(text):
            raise
        sizes = re.search(r"Values size: (\d+) but output shape: \[(\d+)", text)
        raise UserError(
            "a record differs in format from the first one of its file{}: all records of a file "
            "need the same flags, so make them again with create_pretraining_data.py".format(
                " (length {}, not {})".format(*sizes.groups()) if sizes else ""
            )
        ) from error


def reason(error):
    """Return the line of a TensorFlow error that says why; it may follow the name of an op."""
    lines = [line.strip() for line in str(getattr(error, "message", error)).split("\n")]
    lines = [x for x in lines if x and not x.startswith(("Graph execution", "Detected at node"))]
    return lines[0] if lines else type(error).__name__
