"""What the run scripts share: flags, devices, the TPUEstimator and the one `model_fn`."""

import contextlib
import json
import sys
from typing import NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags

from pipeline import checkpoint, files, hooks
from pipeline.errors import UserError

REMOTE_PREFIXES = ("gs://", "/bigstore/", "/cns/")


class ModelOutputs(NamedTuple):
    """What a script's `forward(features, mode)` returns."""

    loss: Optional[tf.Tensor]  # float32 []; None when predicting
    predictions: Optional[dict]  # name -> tensor [B, ...]
    eval_metrics: Optional[tuple]  # (metric_fn, list of tensors)
    scalars: dict = {}  # name -> float32 [], shown while training


class RunSettings(NamedTuple):
    """Where and how a script runs; the values of the flags below."""

    output_dir: str
    init_checkpoint: Optional[str]
    allow_missing: bool
    train_batch_size: int
    eval_batch_size: int
    predict_batch_size: int
    save_checkpoints_steps: int
    keep_checkpoint_max: int
    iterations_per_loop: int
    random_seed: int
    use_tpu: bool
    tpu_name: Optional[str]
    tpu_zone: Optional[str]
    gcp_project: Optional[str]
    master: Optional[str]
    num_tpu_cores: int


def define_run_flags(flag_values, train_batch_size, eval_batch_size, predict_batch_size=8):
    """Define the flags behind `RunSettings`; the batch sizes are the script's defaults."""
    options = {"flag_values": flag_values}
    flags.DEFINE_string("output_dir", None, "Folder for checkpoints and results.", **options)
    flags.mark_flag_as_required("output_dir", flag_values)
    flags.DEFINE_string(
        "init_checkpoint",
        None,
        "Checkpoint to start from: a prefix such as albert_base_zh/bert_model.ckpt, or a folder. "
        "Used only where output_dir holds no checkpoint of its own.",
        **options,
    )
    flags.DEFINE_bool(
        "allow_missing",
        False,
        "Start variables that init_checkpoint lacks at random instead of stopping.",
        **options,
    )
    flags.DEFINE_integer(
        "train_batch_size",
        train_batch_size,
        "Examples a training step, over all devices.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_integer(
        "eval_batch_size", eval_batch_size, "Examples an evaluation step.", lower_bound=1, **options
    )
    flags.DEFINE_integer(
        "predict_batch_size",
        predict_batch_size,
        "Examples a prediction step.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_integer(
        "save_checkpoints_steps",
        1000,
        "Steps from one checkpoint to the next.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_integer(
        "keep_checkpoint_max", 5, "Checkpoints kept, the latest ones.", lower_bound=1, **options
    )
    flags.DEFINE_integer(
        "iterations_per_loop",
        1000,
        "Steps a TPU takes before it reports.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_integer(
        "random_seed", 12345, "Seed of initial weights, dropout and shuffling.", **options
    )
    _define_tpu_flags(options)


def _define_tpu_flags(options):
    flags.DEFINE_bool("use_tpu", False, "Run on a TPU instead of GPU or CPU.", **options)
    flags.DEFINE_string(
        "tpu_name", None, "TPU: its name, or an address such as grpc://10.240.1.66:8470.", **options
    )
    flags.DEFINE_string("tpu_zone", None, "TPU: its zone; found by itself if left out.", **options)
    flags.DEFINE_string("gcp_project", None, "TPU: the Google Cloud project.", **options)
    flags.DEFINE_string("master", None, "Address of a TensorFlow master, if any.", **options)
    flags.DEFINE_integer("num_tpu_cores", 8, "TPU: number of cores.", lower_bound=1, **options)


def run_settings(args):
    """Return the `RunSettings` that parsed flags ask for.

    Raises:
        UserError: for a TPU without a name or with local paths.
    """
    settings = RunSettings(**{name: getattr(args, name) for name in RunSettings._fields})
    if settings.use_tpu:
        if not (settings.tpu_name or settings.master):
            raise UserError("--use_tpu=True needs --tpu_name=NAME or grpc://ADDRESS:8470")
        for name in ("output_dir", "init_checkpoint"):
            path = getattr(settings, name)
            if path and not path.startswith(REMOTE_PREFIXES):
                raise UserError(
                    "--{}={} is a local path, which a TPU cannot reach: use gs://...".format(
                        name, path
                    )
                )
    if settings.init_checkpoint:
        settings = settings._replace(
            init_checkpoint=checkpoint.find_checkpoint(settings.init_checkpoint)
        )
    return settings


def announce(settings):
    """Log versions, devices and batch size: the first line to look for in a log."""
    tf.logging.set_verbosity(tf.logging.INFO)
    devices = [device.name for device in tf.config.experimental.list_physical_devices()]
    tf.logging.info(
        "TensorFlow %s, numpy %s, Python %s; %s; global batch %d",
        tf.version.VERSION,
        np.__version__,
        sys.version.split()[0],
        "TPU " + str(settings.tpu_name or settings.master) if settings.use_tpu else devices,
        settings.train_batch_size,
    )
    if not settings.use_tpu and not any("GPU" in device for device in devices):
        tf.logging.warning("No GPU found: running on the CPU")


def make_estimator(model_fn, settings):
    """Return the TPUEstimator that runs `model_fn` on TPU, GPU or CPU."""
    cluster = None
    if settings.use_tpu and settings.tpu_name:
        cluster = tf.distribute.cluster_resolver.TPUClusterResolver(
            settings.tpu_name, zone=settings.tpu_zone, project=settings.gcp_project
        )
    tpu = tf.estimator.tpu
    session_config = tf.ConfigProto(allow_soft_placement=True)
    session_config.gpu_options.allow_growth = True
    config = tpu.RunConfig(
        cluster=cluster,
        master=settings.master,
        model_dir=settings.output_dir,
        save_checkpoints_steps=settings.save_checkpoints_steps,
        keep_checkpoint_max=settings.keep_checkpoint_max,
        tf_random_seed=settings.random_seed,
        log_step_count_steps=None,  # hooks.ProgressHook tells more
        session_config=None if settings.use_tpu else session_config,
        tpu_config=tpu.TPUConfig(
            iterations_per_loop=settings.iterations_per_loop,
            num_shards=settings.num_tpu_cores,
            per_host_input_for_training=tpu.InputPipelineConfig.PER_HOST_V2,
        ),
    )
    return tpu.TPUEstimator(
        use_tpu=settings.use_tpu,
        model_fn=model_fn,
        config=config,
        train_batch_size=settings.train_batch_size,
        eval_batch_size=settings.eval_batch_size,
        predict_batch_size=settings.predict_batch_size,
    )


def make_model_fn(forward, settings, create_train_op=None, num_train_steps=0, new_variables=None):
    """Wrap a script's forward pass into the `model_fn` that TPUEstimator asks for.

    Args:
        forward: function of (features, mode) that returns `ModelOutputs`.
        settings: `RunSettings`.
        create_train_op: function of the loss that returns an object with `op` and `scalars`;
            needed for training only.
        num_train_steps: int, the step that training ends at, for the ETA.
        new_variables: str, pattern of the variables that `init_checkpoint` need not have, or None.

    Returns:
        Function of (features, labels, mode, params).
    """

    def model_fn(features, labels, mode, params):
        del labels, params
        outputs = forward(features, mode)
        spec = tf.estimator.tpu.TPUEstimatorSpec
        scaffold_fn = _restore(settings, new_variables)
        if mode == tf.estimator.ModeKeys.TRAIN:
            train_op = create_train_op(outputs.loss)
            return spec(
                mode,
                loss=outputs.loss,
                train_op=train_op.op,
                training_hooks=_training_hooks(outputs, train_op, settings, num_train_steps),
                scaffold_fn=scaffold_fn,
            )
        if mode == tf.estimator.ModeKeys.EVAL:
            return spec(
                mode,
                loss=outputs.loss,
                eval_metrics=outputs.eval_metrics,
                scaffold_fn=scaffold_fn,
            )
        return spec(mode, predictions=outputs.predictions, scaffold_fn=scaffold_fn)

    return model_fn


def _restore(settings, new_variables):
    """Start from `init_checkpoint` where output_dir has no checkpoint; returns a scaffold_fn."""
    variables = tf.trainable_variables()
    own = tf.train.latest_checkpoint(settings.output_dir)
    if own:
        checkpoint.check_same_model(variables, own, settings.output_dir)
        return None
    if not settings.init_checkpoint:
        return None

    def restore():
        checkpoint.warm_start(
            variables, settings.init_checkpoint, new_variables, settings.allow_missing
        )
        return tf.train.Scaffold()

    if settings.use_tpu:  # must run on the host, after the model is built
        return restore
    restore()
    return None


def _training_hooks(outputs, train_op, settings, num_train_steps):
    """Show and watch the scalars; a TPU cannot fetch tensors of its graph."""
    if settings.use_tpu:
        return []
    hooks.watch(dict(train_op.scalars, loss=outputs.loss))
    shown = {"loss": outputs.loss}
    shown.update(outputs.scalars)
    shown.update(train_op.scalars)
    for name, scalar in shown.items():
        tf.summary.scalar(name, scalar)
    return [hooks.ProgressHook(shown, num_train_steps, settings.train_batch_size)]


def train(runner, input_fn, max_steps):
    """Train an Estimator up to a global step and stop at once where the loss is no number."""
    runner.train(input_fn, max_steps=max_steps, hooks=[hooks.NanGuardHook(runner.model_dir)])


@contextlib.contextmanager
def user_errors():
    """Turn TensorFlow's errors that a user can mend into one clear line."""
    try:
        yield
    except tf.errors.DataLossError as error:
        raise UserError(
            "a file is damaged ({}): make the records, or fetch the checkpoint, again".format(
                _first_line(error)
            )
        ) from error
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            "out of memory ({}): lower --train_batch_size or --max_seq_length".format(
                _first_line(error)
            )
        ) from error


def _first_line(error):
    return str(error.message).strip().split("\n")[0]


def write_results(output_dir, name, results):
    """Write `NAME.json` for programs and `NAME.txt`, a table, for people; both by rename.

    Args:
        output_dir: str, the folder.
        name: str, such as `eval_results`.
        results: dict of str to number or str.
    """
    width = max(len(key) for key in results)
    table = "".join("{:<{}}  {}\n".format(key, width, _cell(results[key])) for key in results)
    files.write_text("{}/{}.txt".format(output_dir, name), table)
    files.write_text("{}/{}.json".format(output_dir, name), json.dumps(results, indent=2) + "\n")
    tf.logging.info("Results in %s/%s.json:\n%s", output_dir, name, table)


def _cell(value):
    return "{:.6g}".format(value) if isinstance(value, float) else value
