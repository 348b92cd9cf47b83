"""The devices of a machine, strategies for several of them, precisions, sums over replicas."""

import tensorflow.compat.v1 as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.client import device_lib

from common.errors import UserError
from training import cluster

PRECISIONS = ("float32", "bfloat16", "float16")


# ------------------------------------------------------------------------------- strategies


def _mirrored():
    names = [device.name for device in local_gpus()]
    if names:
        return tf.distribute.MirroredStrategy(names)
    names = [device.name for device in tf.config.experimental.list_logical_devices("CPU")]
    # The default reduction is made for GPUs and waits for ever on CPUs.
    return tf.distribute.MirroredStrategy(names, tf.distribute.ReductionToOneDevice())


def _multi_worker():
    cluster.read_member()
    tf.disable_eager_execution()  # Eager strategies start a server that Estimator cannot use.
    return tf.distribute.experimental.MultiWorkerMirroredStrategy()


STRATEGIES = {"none": lambda: None, "mirrored": _mirrored, "multi_worker": _multi_worker}


def check_device_flags(settings):
    """Check the flags of devices against each other and against the devices of this machine.

    Args:
        settings: `flags.RunSettings`.

    Raises:
        UserError: if the flags contradict, or if an accelerator is required and not found.
    """
    if settings.use_tpu and settings.strategy != "none":
        raise UserError(
            "--strategy={} and --use_tpu=True contradict: a TPU spreads the work over its cores by "
            "itself".format(settings.strategy)
        )
    if settings.strategy != "none" and tf.version.VERSION.startswith("1."):
        raise UserError("--strategy={} needs TensorFlow 2".format(settings.strategy))
    if settings.use_tpu and settings.precision == "float16":
        raise UserError("--precision=float16 does not exist on a TPU: use bfloat16")
    if settings.recompute_activations:
        _check_recomputation(settings)
    if settings.strategy == "multi_worker":
        cluster.read_member()
    if settings.require_accelerator and not accelerator(settings):
        raise UserError(
            "--require_accelerator=True, but TensorFlow {} finds no GPU: run nvidia-smi to check "
            "it, and install CUDA: pip install 'tensorflow[and-cuda]'".format(tf.version.VERSION)
        )


def _check_recomputation(settings):
    """Raise `UserError` where XLA would undo the recomputation, see `ops.xla.barrier`."""
    if not (settings.use_tpu or settings.use_xla):
        return
    if tf.version.VERSION.startswith("1."):
        raise UserError(
            "--recompute_activations=True does nothing if XLA of TensorFlow 1 compiles the step: "
            "use TensorFlow 2, or a smaller --micro_batch_size"
        )
    if accelerator(settings) is None:
        raise UserError(
            "--recompute_activations=True does nothing if XLA compiles the step for a CPU: leave "
            "--use_xla out"
        )


def accelerator(settings):
    """Return the kind of accelerator that training uses, GPU or TPU, or None for a CPU."""
    if settings.use_tpu:
        return "TPU"
    return "GPU" if tf.config.experimental.list_physical_devices("GPU") else None


def execution_fields(settings):
    """Return the fields of `modeling.Execution` for these devices."""
    on_cpu = accelerator(settings) is None
    return {
        "dtype": settings.precision,
        "recompute": settings.recompute_activations,
        # TensorFlow 1 cannot compile single functions; with use_xla the whole step is compiled.
        "fused": on_cpu and not settings.use_xla and not tf.version.VERSION.startswith("1."),
        "compiled": settings.use_tpu or settings.use_xla,
        "for_tpu": settings.use_tpu,
    }


def local_gpus():
    """Return the GPUs of this machine: objects with `name` and `memory_limit`, in bytes."""
    if not tf.config.experimental.list_physical_devices("GPU"):
        return []
    config = tf.ConfigProto()
    # Without this option TensorFlow takes all memory when it lists the devices.
    config.gpu_options.allow_growth = True
    local = device_lib.list_local_devices(config)
    return [device for device in local if device.device_type == "GPU"]


def session_config(settings):
    """Return the ConfigProto of the sessions on CPU and GPU.

    The gradients of shared weights are summed two at a time, in a fixed order. TensorFlow's
    arithmetic optimizer would join these sums into one AddN, which starts with an input whose
    memory it can reuse. Timing decides with which input an AddN starts, so the last bits would
    change from run to run.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    rewriting = config.graph_options.rewrite_options
    rewriting.arithmetic_optimization = rewriting.OFF
    if settings.strategy == "mirrored":
        config.device_count["CPU"] = len(tf.config.experimental.list_logical_devices("CPU"))
    elif settings.strategy == "none" and not local_gpus():
        # One operation at a time uses all cores; several at the same time are 7% slower.
        config.inter_op_parallelism_threads = 1
    return config


# ------------------------------------------------------------------------------- replicas


def sum_over_replicas(values, use_tpu):
    """Sum scalars over the replicas; each replica calls this.

    Args:
        values: dict of name to float32 [].
        use_tpu: bool.

    Returns:
        Dict of the same names to float32 [].
    """
    names = sorted(values)
    stacked = tf.stack([values[name] for name in names])  # one exchange for all values
    if use_tpu:
        stacked = tf.tpu.cross_replica_sum(stacked)
    elif tf.distribute.get_strategy().num_replicas_in_sync > 1:

        def reduce(strategy, values):
            return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, values, values)

        stacked = tf.distribute.get_replica_context().merge_call(reduce, args=(stacked,))
    return dict(zip(names, tf.unstack(stacked, num=len(names))))


def replica_index(use_tpu):
    """Return the index of the replica that is being built or run: int or int32 []."""
    if use_tpu:
        return xla.replica_id()
    return tf.distribute.get_replica_context().replica_id_in_sync_group
