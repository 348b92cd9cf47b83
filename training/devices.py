"""Devices: what is there, strategies to use several, how much of a batch fits, and sums."""

import os
import re
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf
from absl import flags
from tensorflow.python.client import device_lib

from common.errors import UserError
from training import cluster

# What activations may take of a device's free memory: the rest is for the allocator's gaps, the
# input pipeline and the temporary copies of weights and gradients.
USABLE_SHARE = 0.6
# Bytes a weight takes: itself, its gradient, the sum of gradients, and two moments, all float32.
BYTES_PER_WEIGHT = 20
# Of a TPU v2 core; those of v3 have twice as much.
TPU_CORE_BYTES = 8 << 30
# Activations beyond which a larger micro-batch makes a CPU no faster, only the process larger.
CPU_ACTIVATION_BYTES = 2 << 30


PRECISIONS = ("float32", "bfloat16", "float16")


class StepMemory(NamedTuple):
    """What a training step needs of a device's memory."""

    num_weights: int  # of the model
    bytes_per_example: int  # of activations


class Placement(NamedTuple):
    """How the examples of one training step are spread."""

    num_replicas: int
    replica_batch: int  # examples that one replica computes in a step
    micro_batch: int  # of these, the examples that it computes at a time
    strategy: Optional[tf.distribute.Strategy] = None

    @property
    def num_micro_batches(self):
        return self.replica_batch // self.micro_batch

    def describe(self):
        """Return global, per-replica and micro batch in words."""
        return "{} examples a step: {} x {} on each replica, micro-batches of {}".format(
            self.num_replicas * self.replica_batch,
            self.num_replicas,
            self.replica_batch,
            self.micro_batch,
        )


def define_device_flags(options):
    """Define the flags of devices; `options` are keyword arguments of absl's DEFINE functions."""
    flags.DEFINE_enum(
        "strategy",
        "none",
        sorted(STRATEGIES),
        "Devices to train on: one (none), all GPUs of this machine (mirrored), or those of several "
        "machines (multi_worker), which the environment variable TF_CONFIG names.",
        **options,
    )
    flags.DEFINE_bool(
        "require_accelerator", False, "Stop where there is neither GPU nor TPU.", **options
    )
    flags.DEFINE_integer(
        "micro_batch_size",
        0,
        "Examples that a device computes at a time; the gradients of a step are added up. "
        "0: as many as fit its memory, by estimate.",
        lower_bound=0,
        **options,
    )
    flags.DEFINE_enum(
        "precision",
        "float32",
        sorted(PRECISIONS),
        "Type of the activations; weights, LayerNorm, softmax and losses stay float32. float16 is "
        "for GPUs before A100, with a loss scale that finds itself; bfloat16 needs none.",
        **options,
    )
    flags.DEFINE_bool(
        "recompute_activations",
        False,
        "Keep only the inputs of the layers and compute the rest again for the gradient: a "
        "third more time, a fraction of the memory.",
        **options,
    )
    flags.DEFINE_bool(
        "use_xla", False, "Compile whole training steps by XLA: slow to start.", **options
    )
    flags.DEFINE_bool("use_tpu", False, "Run on a TPU instead of GPU or CPU.", **options)
    flags.DEFINE_string(
        "tpu_name",
        None,
        "TPU: its name, an address such as grpc://10.240.1.66:8470, or local on a TPU VM.",
        **options,
    )
    flags.DEFINE_string("tpu_zone", None, "TPU: its zone; found by itself if left out.", **options)
    flags.DEFINE_string("gcp_project", None, "TPU: the Google Cloud project.", **options)
    flags.DEFINE_string("master", None, "Address of a TensorFlow master, if any.", **options)
    flags.DEFINE_integer("num_tpu_cores", 8, "TPU: number of cores.", lower_bound=1, **options)


# ------------------------------------------------------------------------------- strategies


def _mirrored():
    names = [device.name for device in local_gpus()]
    if names:
        return tf.distribute.MirroredStrategy(names)
    names = [device.name for device in tf.config.experimental.list_logical_devices("CPU")]
    # The default, made for GPUs, waits for ever on CPUs.
    return tf.distribute.MirroredStrategy(names, tf.distribute.ReductionToOneDevice())


def _multi_worker():
    cluster.read_task()
    tf.disable_eager_execution()  # or else the strategy starts a server that Estimator cannot use
    return tf.distribute.experimental.MultiWorkerMirroredStrategy()


STRATEGIES = {"none": lambda: None, "mirrored": _mirrored, "multi_worker": _multi_worker}


def check(settings):
    """Hold the flags of devices against each other and against what is there.

    Args:
        settings: `flags.RunSettings`.

    Raises:
        UserError: where they contradict, or an accelerator is required and not found.
    """
    if settings.use_tpu and settings.strategy != "none":
        raise UserError(
            "--strategy={} and --use_tpu=True contradict: a TPU spreads the work over its cores by "
            "itself".format(settings.strategy)
        )
    if settings.use_tpu and settings.precision == "float16":
        raise UserError("--precision=float16 does not exist on a TPU: use bfloat16")
    if settings.strategy == "multi_worker":
        cluster.read_task()
    if settings.require_accelerator and not accelerator(settings):
        raise UserError(
            "--require_accelerator=True, but TensorFlow {} finds no GPU here: look at nvidia-smi, "
            "and install CUDA with pip install 'tensorflow[and-cuda]'".format(tf.version.VERSION)
        )


def accelerator(settings):
    """Return the kind of accelerator that training uses, GPU or TPU, or None for a CPU."""
    if settings.use_tpu:
        return "TPU"
    return "GPU" if tf.config.experimental.list_physical_devices("GPU") else None


def execution_fields(settings):
    """Return how a model is computed on these devices: the fields of `modeling.Execution`."""
    on_cpu = accelerator(settings) is None
    return {
        "dtype": settings.precision,
        "recompute": settings.recompute_activations,
        # TensorFlow 1 cannot; with use_xla everything is compiled.
        "fused": on_cpu and not settings.use_xla and not tf.version.VERSION.startswith("1."),
        "one_hot_embeddings": settings.use_tpu,
    }


def describe(settings):
    """Return the devices of this machine in words, with their memory."""
    if settings.use_tpu:
        return "TPU {}, {} cores".format(
            settings.tpu_name or settings.master, settings.num_tpu_cores
        )
    gpus = ["{} ({})".format(d.name, gigabytes(d.memory_limit)) for d in local_gpus()]
    return ", ".join(gpus) or "CPU with {} cores, {} free".format(
        os.cpu_count(), gigabytes(free_host_memory())
    )


# ------------------------------------------------------------------------------- placement


def place(settings, step_memory):
    """Decide how the examples of a training step are spread over replicas and micro-batches.

    Args:
        settings: `flags.RunSettings`.
        step_memory: `StepMemory`.

    Returns:
        `Placement`.

    Raises:
        UserError: where a batch cannot be divided as the flags say.
    """
    strategy = STRATEGIES[settings.strategy]()
    num_replicas = settings.num_tpu_cores if settings.use_tpu else 1
    if strategy:
        num_replicas = strategy.num_replicas_in_sync
    replica_batch, rest = divmod(settings.train_batch_size, num_replicas)
    if rest:
        raise UserError(
            "--train_batch_size={} cannot be divided among {} replicas: use a multiple of "
            "{}".format(settings.train_batch_size, num_replicas, num_replicas)
        )
    micro_batch = settings.micro_batch_size
    if not micro_batch:
        memory = free_memory(settings.use_tpu)
        micro_batch = largest_micro_batch(replica_batch, step_memory, memory)
    elif replica_batch % micro_batch:
        raise UserError(
            "--micro_batch_size={} does not divide the {} examples of a replica "
            "(--train_batch_size={}, {} replicas)".format(
                micro_batch, replica_batch, settings.train_batch_size, num_replicas
            )
        )
    return Placement(num_replicas, replica_batch, micro_batch, strategy)


# ------------------------------------------------------------------------------- memory


class Memory(NamedTuple):
    """Free memory of the devices that train."""

    device: str  # CPU, GPU or TPU
    free: int  # bytes, of the device that has the least


def largest_micro_batch(replica_batch, step_memory, memory):
    """Return the largest part of a batch that fits: all of it, or a power of two that divides it.

    Args:
        replica_batch: int, examples.
        step_memory: `StepMemory`.
        memory: `Memory`.
    """
    weights = BYTES_PER_WEIGHT * step_memory.num_weights
    fits = max(0, int(USABLE_SHARE * memory.free) - weights)
    usable = min(fits, CPU_ACTIVATION_BYTES) if memory.device == "CPU" else fits
    powers = [2**n for n in range(replica_batch.bit_length()) if replica_batch % 2**n == 0]
    fitting = [
        size
        for size in sorted(set(powers + [replica_batch]))
        if size * step_memory.bytes_per_example <= usable
    ]
    size = fitting[-1] if fitting else 1
    tf.logging.info(
        "Micro-batch of %d: about %s of activations an example; of the %s that are free on the "
        "%s, weights and slots take %s and activations may take %s%s",
        size,
        gigabytes(step_memory.bytes_per_example),
        gigabytes(memory.free),
        memory.device,
        gigabytes(weights),
        gigabytes(fits),
        " (beyond {} a CPU gets no faster)".format(gigabytes(usable)) if usable < fits else "",
    )
    if step_memory.bytes_per_example > fits:
        tf.logging.warning(
            "By this estimate not even one example fits: try --recompute_activations=True, "
            "or a smaller --max_seq_length"
        )
    return size


def gigabytes(count):
    """Write a number of bytes."""
    return "{:.3g} GB".format(count / 1e9)


def free_memory(use_tpu=False):
    """Return the `Memory` that training can use here."""
    if use_tpu:
        return Memory("TPU", TPU_CORE_BYTES)
    limits = [device.memory_limit for device in local_gpus()]
    if limits:
        return Memory("GPU", min(limits))
    return Memory("CPU", free_host_memory())


def local_gpus():
    """Return the GPUs of this machine: objects with `name` and `memory_limit`, in bytes."""
    if not tf.config.experimental.list_physical_devices("GPU"):
        return []
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True  # without it the look alone would take all memory
    found = device_lib.list_local_devices(config)
    return [device for device in found if device.device_type == "GPU"]


def session_config(settings):
    """Return the ConfigProto of the sessions on CPU and GPU.

    TensorFlow's arithmetic optimizer makes one sum of many (AddN) of the sums of two that
    `optimization` builds. AddN begins with the one of its inputs whose memory it can reuse, and
    which one that is depends on timing: the last bits of gradients of shared weights would change.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    rewriting = config.graph_options.rewrite_options
    rewriting.arithmetic_optimization = rewriting.OFF
    if settings.strategy == "mirrored":
        config.device_count["CPU"] = len(tf.config.experimental.list_logical_devices("CPU"))
    elif settings.strategy == "none" and not local_gpus():
        # One operation at a time, on all cores: several at once are slower by 7%.
        config.inter_op_parallelism_threads = 1
    return config


# (limit, usage, statistics) of the memory controller, for cgroup versions 2 and 1.
CGROUP_FILES = tuple(
    tuple(folder + "{}/" + name for name in names)
    for folder, names in (
        ("/sys/fs/cgroup", ("memory.max", "memory.current", "memory.stat")),
        (
            "/sys/fs/cgroup/memory",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
        ),
    )
)


def free_host_memory(read=None):
    """Return the bytes of memory that this process can still get: of the machine or its cgroup.

    Args:
        read: function of a path that returns its text, or None where there is no such file.
    """
    read = read or _read
    found = re.search(r"MemAvailable:\s+(\d+) kB", read("/proc/meminfo") or "")
    free = [1024 * int(found.group(1))] if found else [os.sysconf("SC_PHYS_PAGES") * 4096]
    paths = re.findall(r"^\d+:(?:memory)?:(.*)$", read("/proc/self/cgroup") or "", re.MULTILINE)
    for names in CGROUP_FILES:
        for path in [""] + paths:
            limit, used, statistics = [read(name.format(path.rstrip("/"))) or "" for name in names]
            if limit.strip().isdigit() and used.strip().isdigit():
                # The cache of files counts as used, but is given back.
                free.append(int(limit) - int(used) + _inactive_file(statistics))
    return max(0, min(free))


def _inactive_file(statistics):
    """Return the bytes in a memory.stat: of the whole tree below a group, where both are told."""
    for name in ("total_inactive_file", "inactive_file"):
        found = re.search(r"^{} (\d+)".format(name), statistics, re.MULTILINE)
        if found:
            return int(found.group(1))
    return 0


def _read(path):
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return None


# ------------------------------------------------------------------------------- replicas


def sum_over_replicas(values, use_tpu=False):
    """Add scalars up over the replicas; to be called in each of them.

    Args:
        values: dict of name to float32 [].
        use_tpu: bool.

    Returns:
        Dict of the same names to float32 [].
    """
    names = sorted(values)
    stacked = tf.stack([values[name] for name in names])  # one exchange for all of them
    if use_tpu:
        stacked = tf.tpu.cross_replica_sum(stacked)
    elif tf.distribute.get_strategy().num_replicas_in_sync > 1:

        def reduce(strategy, values):
            return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, values, values)

        stacked = tf.distribute.get_replica_context().merge_call(reduce, args=(stacked,))
    return dict(zip(names, tf.unstack(stacked, num=len(names))))


def replica_index(num_tpu_cores=0):
    """Return the index of the replica that is being built or run: int or int32 [].

    Args:
        num_tpu_cores: int, those of a TPU; 0 where there is none.
    """
    if not num_tpu_cores:
        return tf.distribute.get_replica_context().replica_id_in_sync_group
    # Every core sends the number i to core i.
    numbers = tf.range(num_tpu_cores)
    received = tf.raw_ops.AllToAll(
        input=numbers,
        group_assignment=numbers[tf.newaxis, :],
        concat_dimension=0,
        split_dimension=0,
        split_count=num_tpu_cores,
    )
    return received[0]
