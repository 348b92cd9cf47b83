"""Memory: what a training step needs, what devices have free, and the micro-batch that fits."""

import os
import re
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from training import devices, tpu

# Share of a device's free memory that weights and activations may take. The rest of the free memory
# is for gaps of the allocator, the input pipeline and temporary copies of weights and gradients. On
# a TPU the compiler places every tensor, and the estimate holds them all.
USABLE_SHARE = 0.6
# Bytes of a weight: itself, its gradient and two moments, all float32; and the sum of the gradients
# of micro-batches.
BYTES_PER_WEIGHT, BYTES_PER_SUM = 16, 4
# Bytes of a TPU core that its runtime takes.
TPU_RESERVED_BYTES = 530 << 20
# A tile of a TPU has 8 rows of 32 bits, or 16 of 16 bits.
TPU_TILE_ROWS = 16
# More activations than this do not make training on a CPU faster.
CPU_ACTIVATION_BYTES = 2 << 30
CPU_LIMIT = "; more than {:.2g} GB of activations make it no faster".format(
    CPU_ACTIVATION_BYTES / 1e9
)


class StepMemory(NamedTuple):
    """The memory that a training step needs."""

    num_weights: int  # number of the model's weights
    bytes_per_example: int  # bytes of an example's activations

    def weight_bytes(self, in_parts):
        """Return the bytes of weights, gradients and slots; `in_parts`: with micro-batches."""
        return (BYTES_PER_WEIGHT + BYTES_PER_SUM * in_parts) * self.num_weights


class FreeMemory(NamedTuple):
    """The free memory of the devices that train."""

    device: str  # CPU, GPU or TPU
    num_bytes: int  # free bytes of the device that has the fewest

    @property
    def usable(self):
        """The bytes that weights and activations may take."""
        return self.num_bytes if self.device == "TPU" else int(USABLE_SHARE * self.num_bytes)


def activation_bytes(config, execution, sequence_length, num_predictions=0, num_chunks=1):
    """Estimate the memory that one example of a pre-training step takes, in bytes.

    The tensors that the forward pass keeps for the backward pass count, and twice the largest
    tensor, for a value and its gradient. With recomputation one layer is kept at a time.

    Args:
        config: `AlbertConfig`.
        execution: `modeling.Execution`.
        sequence_length: int, S.
        num_predictions: int, P; 0 for a model without the head for masked pieces.
        num_chunks: int, K, the chunks of a packed row; 1 without packing.
    """
    if execution.for_tpu:
        sizes = sequence_length, num_predictions, num_chunks
        return tpu_activation_bytes(config, execution, *sizes)
    width, inner = config.hidden_size, config.intermediate_size
    scores = config.num_attention_heads * sequence_length
    # A layer keeps for each piece: input, QKV as product and as heads, context, two residual sums
    # and their normalized values, the inner activation before and after gelu, scores.
    layer = sequence_length * (14 * width + 2 * inner + 2 * scores)
    temporary = sequence_length * 2 * max(inner, scores)
    depth = config.num_hidden_layers * config.inner_group_num
    kept = layer + depth * sequence_length * width if execution.recompute else depth * layer
    # Logits, their softmax and their gradient, always in float32.
    logits = 3 * num_predictions * config.vocab_size * 4
    # The attention mask: float32, one tensor for all layers.
    mask = 4 * sequence_length**2 if num_chunks > 1 else 0
    return (kept + temporary) * tf.as_dtype(execution.dtype).size + logits + mask


def tpu_activation_bytes(config, execution, sequence_length, num_predictions=0, num_chunks=1):
    """Estimate the same as `activation_bytes` for the program that a TPU's compiler makes.

    The estimate counts the tensors that the compiler keeps, by its own lists. benchmarks/README.md
    compares the estimates with the compiler's figures: the estimates are up to 15% larger.
    """
    size = tf.as_dtype(execution.dtype).size
    width, inner, length = config.hidden_size, config.intermediate_size, sequence_length
    heads = config.num_attention_heads
    outputs = num_chunks + num_predictions  # positions of the last layer
    projected = heads * _tiled(width // heads)  # Q, K or V of a position
    # A layer keeps scores, Q, K, V, the inner activation before gelu, and, in float32, the
    # normalized values of both LayerNorms.
    scores = heads * length * length
    layer = size * (scores + length * (inner + 3 * projected)) + 4 * 2 * length * width
    if size == 4:  # copies for the products, by the compiler's figures
        layer += int(1.4 * 4 * length * width)
    last = size * (heads * outputs * length + outputs * (inner + width) + 2 * length * projected)
    last += 4 * 2 * outputs * width
    logits = size * num_predictions * config.vocab_size
    temporary = size * (scores + length * (inner + 2 * width))
    depth = config.num_hidden_layers * config.inner_group_num - 1
    # With recomputation the logits, their powers and their gradient are freed before the other
    # tensors of a layer exist again.
    if execution.recompute:
        return size * depth * length * width + max(layer + temporary, 3 * logits)
    return depth * layer + last + temporary + logits


def _tiled(size):
    """Round the size of a head up to the rows of a TPU's tile."""
    return -(-size // TPU_TILE_ROWS) * TPU_TILE_ROWS


def largest_micro_batch(replica_batch, step_memory, free):
    """Return the largest part of a batch that fits: all of it, or a power of two that divides it.

    Args:
        replica_batch: int, examples.
        step_memory: `StepMemory`.
        free: `FreeMemory`.
    """
    powers = [2**n for n in range(replica_batch.bit_length()) if replica_batch % 2**n == 0]
    sizes = sorted(set(powers + [replica_batch]))
    fitting = [n for n in sizes if _fits(n, replica_batch, step_memory, free)]
    size = fitting[-1] if fitting else 1
    tf.logging.info(
        "Micro-batch of %d: an example has about %s of activations; the %s has %s free, of which "
        "%s may be used, and weights, gradients and slots take %s%s",
        size,
        gigabytes(step_memory.bytes_per_example),
        free.device,
        gigabytes(free.num_bytes),
        gigabytes(free.usable),
        gigabytes(step_memory.weight_bytes(size < replica_batch)),
        CPU_LIMIT if free.device == "CPU" else "",
    )
    if not fitting:
        tf.logging.warning(
            "By this estimate not even one example fits: try --recompute_activations=True, "
            "or a smaller --max_seq_length"
        )
    return size


def _fits(size, replica_batch, step_memory, free):
    activations = size * step_memory.bytes_per_example
    if free.device == "CPU" and size > 1 and activations > CPU_ACTIVATION_BYTES:
        return False  # A larger micro-batch would be no faster.
    return activations + step_memory.weight_bytes(size < replica_batch) <= free.usable


def gigabytes(count):
    """Return a number of bytes as text."""
    return "{:.3g} GB".format(count / 1e9)


def free_memory(settings):
    """Return the `FreeMemory` that training can use by these `flags.RunSettings`."""
    if settings.use_tpu:
        return FreeMemory("TPU", tpu.CORE_BYTES[settings.tpu_generation] - TPU_RESERVED_BYTES)
    limits = [device.memory_limit for device in devices.local_gpus()]
    if limits:
        return FreeMemory("GPU", min(limits))
    return FreeMemory("CPU", free_host_memory())


def describe_devices(settings):
    """Return the devices of this machine and their memory as text, for the log."""
    if settings.use_tpu:
        return "TPU {}, {} cores".format(
            settings.tpu_name or settings.master, settings.num_tpu_cores
        )
    gpus = ["{} ({})".format(d.name, gigabytes(d.memory_limit)) for d in devices.local_gpus()]
    return ", ".join(gpus) or "CPU with {} cores, {} free".format(
        os.cpu_count(), gigabytes(free_host_memory())
    )


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
    """Return the bytes of memory that this process can still use on the machine and in its cgroup.

    Args:
        read: function of a path that returns its text, or None where there is no such file.
    """
    read = read or _read
    available = re.search(r"MemAvailable:\s+(\d+) kB", read("/proc/meminfo") or "")
    free = [1024 * int(available.group(1)) if available else os.sysconf("SC_PHYS_PAGES") * 4096]
    paths = re.findall(r"^\d+:(?:memory)?:(.*)$", read("/proc/self/cgroup") or "", re.MULTILINE)
    for names in CGROUP_FILES:
        for path in [""] + paths:
            limit, used, statistics = [read(name.format(path.rstrip("/"))) or "" for name in names]
            if limit.strip().isdigit() and used.strip().isdigit():
                # The cache of files counts as used, but the kernel frees it when needed.
                free.append(int(limit) - int(used) + _inactive_file(statistics))
    return max(0, min(free))


def _inactive_file(statistics):
    """Return the inactive_file bytes of a memory.stat, if possible with those of child cgroups."""
    for name in ("total_inactive_file", "inactive_file"):
        entry = re.search(r"^{} (\d+)".format(name), statistics, re.MULTILINE)
        if entry:
            return int(entry.group(1))
    return 0


def _read(path):
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return None
