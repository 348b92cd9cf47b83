"""How the examples of a training step are divided among replicas and micro-batches."""

from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

from common.errors import UserError
from training import devices, memory


class Placement(NamedTuple):
    """How the examples of one training step are divided."""

    num_replicas: int
    replica_batch: int  # examples that one replica computes in a step
    micro_batch: int  # examples that a replica computes at a time
    strategy: Optional[tf.distribute.Strategy] = None

    @property
    def num_micro_batches(self):
        return self.replica_batch // self.micro_batch

    @property
    def batch_size(self):
        """Examples of a step, over all replicas."""
        return self.num_replicas * self.replica_batch

    @property
    def sizes(self):
        """A dict of numbers, for the report of a run."""
        return {name: getattr(self, name) for name in self._fields if name != "strategy"}


class Computation(NamedTuple):
    """How a model is computed and trained on the devices of this run."""

    execution: NamedTuple  # `modeling.Execution`
    step_memory: memory.StepMemory
    placement: Optional[Placement]  # None if the run does not train


def place(settings, train_batch_size, step_memory, before=None):
    """Divide the examples of a training step among replicas and micro-batches.

    Dropout depends on the micro-batches, so a run that goes on keeps those that it has used.

    Args:
        settings: `flags.RunSettings`.
        train_batch_size: int, examples of a step.
        step_memory: `memory.StepMemory`.
        before: dict of the `Placement.sizes` of the run that goes on, or None.

    Returns:
        `Placement`.

    Raises:
        UserError: if the batch cannot be divided as the flags ask.
    """
    strategy = devices.STRATEGIES[settings.strategy]()
    num_replicas = settings.num_tpu_cores if settings.use_tpu else 1
    if strategy:
        num_replicas = strategy.num_replicas_in_sync
    replica_batch, rest = divmod(train_batch_size, num_replicas)
    if rest:
        raise UserError(
            "--train_batch_size={} cannot be divided among {} replicas: use a multiple of "
            "{}".format(train_batch_size, num_replicas, num_replicas)
        )
    micro_batch = settings.micro_batch_size
    if not micro_batch and before and before["replica_batch"] == replica_batch:
        micro_batch = before["micro_batch"]
    elif not micro_batch:
        free = memory.free_memory(settings)
        micro_batch = memory.largest_micro_batch(replica_batch, step_memory, free)
    elif replica_batch % micro_batch:
        raise UserError(
            "--micro_batch_size={} does not divide the {} examples of a replica "
            "(--train_batch_size={}, {} replicas)".format(
                micro_batch, replica_batch, train_batch_size, num_replicas
            )
        )
    placed = Placement(num_replicas, replica_batch, micro_batch, strategy)
    if before and placed.sizes != before:
        tf.logging.warning(
            "OTHER MICRO-BATCHES than before draw other dropout: %s, now %s; "
            "--micro_batch_size=%d keeps those of one device",
            before,
            placed.sizes,
            before["micro_batch"],
        )
    return placed
