"""AdamW, learning rates, clipping, gradient accumulation, loss scale, and the training step."""

from typing import Dict, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from common.errors import UserError
from lamb_optimizer import (
    EXCLUDE_FROM_WEIGHT_DECAY,
    SCHEMES,
    LAMBOptimizer,
    MomentOptimizer,
    densify,
)
from ops.xla import compile_whole

# XLA accepts only resource variables, also for the global step; TensorFlow 2 has no others.
tf.enable_resource_variables()


class OptimizerConfig(NamedTuple):
    """The settings of an optimizer."""

    optimizer: str  # Key of OPTIMIZERS.
    learning_rate: float  # The peak, at the end of the warm-up.
    num_train_steps: int
    num_warmup_steps: int = 0
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    clip_norm: float = 1.0  # Largest global norm of the gradients; 0 turns clipping off.
    end_learning_rate: float = 0.0
    slots: str = "albert_zh"  # Key of lamb_optimizer.SCHEMES; AdamW has one scheme only.
    exclude_from_weight_decay: Tuple[str, ...] = EXCLUDE_FROM_WEIGHT_DECAY
    # (prefix of a variable's name, factor of its learning rate); the first match counts.
    rate_factors: Tuple[Tuple[str, float], ...] = ()


class TrainOp(NamedTuple):
    """One training step, and its scalars."""

    op: tf.Operation
    sums: Dict[str, tf.Tensor]  # Sums over this replica's micro-batches, including the loss.
    # float32 scalars: learning_rate, grad_norm (before clipping), trust_ratio_min and
    # trust_ratio_max with LAMB, loss_scale if there is one.
    scalars: Dict[str, tf.Tensor]
    # Scalars that stop training when they are not finite. The grad_norm here is 0 for a step that
    # the loss scale skips.
    watched: Dict[str, tf.Tensor]


class AdamWeightDecayOptimizer(MomentOptimizer):
    """AdamW (arXiv 1711.05101, Algorithm 2) as in BERT, with slots `adam_m` and `adam_v`."""


def _lamb(config, learning_rate, **moments):
    return LAMBOptimizer(learning_rate, slots=config.slots, **moments)


def _adamw(config, learning_rate, **moments):
    del config
    return AdamWeightDecayOptimizer(learning_rate, **moments)


OPTIMIZERS = {"lamb": _lamb, "adamw": _adamw}


def checked_config(**fields):
    """Return an `OptimizerConfig`; raises UserError for a field that is out of range."""
    config = OptimizerConfig(**fields)
    rules = [
        ("optimizer", config.optimizer in OPTIMIZERS, "one of " + ", ".join(sorted(OPTIMIZERS))),
        ("slots", config.slots in SCHEMES, "one of " + ", ".join(sorted(SCHEMES))),
        ("learning_rate", config.learning_rate >= 0, "0 or more"),
        ("end_learning_rate", config.end_learning_rate >= 0, "0 or more"),
        ("num_train_steps", config.num_train_steps > 0, "1 or more"),
        (
            "num_warmup_steps",
            0 <= config.num_warmup_steps <= config.num_train_steps,
            "between 0 and num_train_steps (%s)" % config.num_train_steps,
        ),
        ("weight_decay", config.weight_decay >= 0, "0 or more"),
        ("beta1", 0 <= config.beta1 < 1, "at least 0 and below 1"),
        ("beta2", 0 <= config.beta2 < 1, "at least 0 and below 1"),
        ("epsilon", config.epsilon > 0, "above 0"),
        ("clip_norm", config.clip_norm >= 0, "0 (no clipping) or more"),
    ]
    for field, valid, wanted in rules:
        if not valid:
            raise UserError("%s is %r; it must be %s" % (field, getattr(config, field), wanted))
    return config


def create_optimizer(config, learning_rate, fused=False):
    """Make the optimizer that the config names.

    Args:
      config: OptimizerConfig.
      learning_rate: float, scalar float Tensor, or callable that returns one.
      fused: bool, compile the update by XLA, which is faster on a CPU.

    Returns:
      A tf.train.Optimizer.
    """
    return OPTIMIZERS[config.optimizer](
        config,
        learning_rate,
        weight_decay=config.weight_decay,
        beta1=config.beta1,
        beta2=config.beta2,
        epsilon=config.epsilon,
        exclude_from_weight_decay=config.exclude_from_weight_decay,
        fused=fused,
        rate_factors=config.rate_factors,
    )


def learning_rate_schedule(config, global_step):
    """Return BERT's learning rate: linear warm-up, then linear decay.

    1. step < num_warmup_steps: learning_rate * step / num_warmup_steps (0 at step 0).
    2. From then on: the line from learning_rate at step 0 (not at the end of the warm-up) to
       end_learning_rate at num_train_steps. So the rate drops where the warm-up ends.
    3. After num_train_steps: end_learning_rate.

    Args:
      config: OptimizerConfig.
      global_step: integer scalar, the number of finished steps.

    Returns:
      float32 scalar Tensor.
    """
    peak, end = config.learning_rate, config.end_learning_rate
    step = tf.cast(global_step, tf.float32)
    done = tf.minimum(step / config.num_train_steps, 1.0)
    decayed = (peak - end) * (1.0 - done) + end
    if not config.num_warmup_steps:
        return decayed
    warming = peak * (step / config.num_warmup_steps)
    return tf.where(step < config.num_warmup_steps, warming, decayed)


def layer_rate_factors(distances, decay):
    """Return `OptimizerConfig.rate_factors` for a learning rate that decays from layer to layer.

    Args:
        distances: dict of prefix of variable names to int, see `modeling.distances_from_head`.
        decay: float, the factor from one layer to the next one below; 1 for no decay.
    """
    if decay == 1.0:
        return ()
    return tuple((prefix, decay ** distances[prefix]) for prefix in sorted(distances))


def create_train_op(
    forward,
    config,
    num_micro_batches=1,
    use_tpu=False,
    variables=None,
    scale_loss=False,
    use_xla=False,
    fused=False,
):
    """Make the operation of one training step.

    Call it once in each replica of a tf.distribute strategy or in each TPU shard, else once.
    The loss of each micro-batch on each replica is a share of the whole batch's loss. The result
    is the gradient of the sum of these losses.

    Args:
      forward: function of the index of a micro-batch, int or int32 scalar, that returns a dict of
        float32 scalars: `loss`, and others to be summed over the micro-batches. If there are
        several micro-batches, `forward` is called twice: the second call is in a loop's body and
        reuses the variables.
      config: OptimizerConfig.
      num_micro_batches: int, parts that this replica computes one after the other.
      use_tpu: bool, whether the graph is built for TPU shards.
      variables: list of variables to train; default: all trainable ones.
      scale_loss: bool, scale the loss by `LossScale`; only float16 needs it.
      use_xla: bool, compile gradients and update by XLA, each as a whole.
      fused: bool, compile only the element-wise operations of the update.

    Returns:
      A TrainOp, whose op updates the variables, then increments the global step by one.

    Raises:
      ValueError: the loss depends on none of the variables.
    """
    global_step = tf.train.get_or_create_global_step()
    learning_rate = learning_rate_schedule(config, global_step)
    optimizer = create_optimizer(config, learning_rate, fused)
    loss_scale = LossScale() if scale_loss else None
    gradients, sums, variables = _accumulated_gradients(
        forward, num_micro_batches, variables, loss_scale, use_xla
    )
    if use_tpu:
        gradients = [tf.tpu.cross_replica_sum(gradient) for gradient in gradients]

    def reduce_and_update(strategy, gradients):
        pairs = _summed_over_replicas(strategy, gradients, variables)

        def update():
            return _update(strategy, optimizer, pairs, global_step, config.clip_norm, loss_scale)

        is_one_device = strategy.num_replicas_in_sync == 1  # XLA compiles for one device
        return compile_whole(update) if use_xla and is_one_device else update()

    # TensorFlow's default strategy has a single replica, so a sum over its replicas costs nothing.
    replica = tf.distribute.get_replica_context()
    scalars, watched = replica.merge_call(reduce_and_update, args=(gradients,))
    rate = {"learning_rate": learning_rate}
    return TrainOp(scalars["grad_norm"].op, sums, dict(rate, **scalars), dict(rate, **watched))


def _summed_over_replicas(strategy, gradients, variables):
    """Sum the gradients over the replicas; return a list of pairs (gradient, variable)."""
    total = tf.distribute.ReduceOp.SUM
    gradients = strategy.extended.batch_reduce_to(total, list(zip(gradients, variables)))
    return list(zip(gradients, variables))


def _accumulated_gradients(forward, num_micro_batches, variables, loss_scale, use_xla):
    """Return gradients over all micro-batches, the sums of `forward`, and the variables."""
    trained = []

    def differentiate(sums, variables):
        loss = loss_scale.value * sums["loss"] if loss_scale else sums["loss"]
        return dense_gradients(loss, variables)

    def compute(index):
        sums = forward(index)
        return differentiate(sums, trained)[0], sums

    def compute_all():
        first = forward(0)
        gradients, with_gradient = differentiate(first, variables or tf.trainable_variables())
        trained.extend(with_gradient)
        return accumulate((gradients, first), compute, num_micro_batches)

    gradients, sums = compile_whole(compute_all) if use_xla else compute_all()
    return gradients, sums, trained


def _update(strategy, optimizer, grads_and_vars, global_step, clip_norm, loss_scale):
    """Clip the gradients as a whole and apply them.

    Returns:
      (scalars, watched) of `TrainOp` without the learning rate. The values of all scalars are
      available after all variables are updated.
    """
    # Every replica holds the same sum, so the norm of one copy is enough.
    norm = tf.global_norm([strategy.experimental_local_results(g)[0] for g, _ in grads_and_vars])
    is_taken, watched_norm, scalars = None, norm, {}
    if loss_scale:
        norm /= loss_scale.value
        is_taken = tf.is_finite(norm)
        watched_norm = tf.where(loss_scale.may_skip(is_taken), tf.zeros([]), norm)
        scalars["loss_scale"] = loss_scale.value
    scale = _clip_factor(norm, clip_norm)
    if loss_scale:
        scale = (1.0 if scale is None else scale) / loss_scale.value
    op = optimizer.apply_reduced_gradients(strategy, grads_and_vars, global_step, scale, is_taken)
    if loss_scale:
        op = tf.group(op, loss_scale.update(strategy, is_taken))
    scalars["grad_norm"] = norm
    if optimizer.ratios:
        ratios = tf.stack([optimizer.ratios[name] for name in sorted(optimizer.ratios)])
        scalars["trust_ratio_min"] = tf.reduce_min(ratios)
        scalars["trust_ratio_max"] = tf.reduce_max(ratios)
    with tf.control_dependencies([op]):
        return tf.nest.map_structure(tf.identity, (scalars, {"grad_norm": watched_norm}))


class LossScale:
    """The factor of a float16 loss that keeps small gradients from becoming 0 (arXiv 1710.03740).

    When a gradient is not finite, the step is skipped and the factor is halved, but not below
    `LEAST`. After `GROWTH_STEPS` finite steps the factor is doubled. Checkpoints save the factor
    and the number of finite steps.

    Attributes:
      value: float32 scalar Tensor, the scale of this step.
    """

    FIRST = 2.0**15
    # Without scaling, the scale cannot be the cause of a gradient that is not finite.
    LEAST = 1.0
    GROWTH_STEPS = 2000
    VARIABLES = {"loss_scale": [], "good_steps": []}  # name -> shape

    def __init__(self):
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        # A new VariableScope is the root scope, so the names do not depend on the caller's scope.
        with tf.variable_scope(tf.VariableScope(reuse=tf.AUTO_REUSE)):
            self._scale = tf.get_variable(
                "loss_scale", [], tf.float32, tf.constant_initializer(self.FIRST), **options
            )
            self._good_steps = tf.get_variable(
                "good_steps", [], tf.int32, tf.zeros_initializer(), **options
            )
        self.value = tf.identity(self._scale)

    def may_skip(self, is_finite):
        """Return a bool scalar: whether the step is skipped and a smaller scale may help."""
        return tf.logical_and(tf.logical_not(is_finite), self.value > self.LEAST)

    def update(self, strategy, is_finite):
        """Return the operation that sets the scale of the next step."""
        good_steps = tf.identity(self._good_steps) + 1
        grows = good_steps >= self.GROWTH_STEPS
        kept = tf.where(grows, 2.0 * self.value, self.value)
        halved = tf.maximum(0.5 * self.value, self.LEAST)
        keeps_counting = tf.logical_and(is_finite, tf.logical_not(grows))
        scale = tf.where(is_finite, kept, halved)
        good_steps = tf.where(keeps_counting, good_steps, tf.zeros_like(good_steps))
        pairs = ((self._scale, scale), (self._good_steps, good_steps))
        return tf.group(
            *[
                strategy.extended.update(variable, lambda v, value: v.assign(value), args=(value,))
                for variable, value in pairs
            ]
        )


def accumulate(first, compute, count):
    """Add up nested structures of tensors, in a graph whose size does not depend on their number.

    Args:
      first: the structure of index 0, whose graph created the variables. If `count` is above 1,
        only the shapes of `first` are used: the loop computes index 0 again, and TensorFlow never
        runs operations whose results nobody uses.
      compute: function of an int32 scalar, the index, that returns such a structure. `compute` is
        called once, in the body of a loop, with the variable scopes set to reuse.
      count: int, the number of structures; for 1 there is no loop.

    Returns:
      The sum of the structures 0 to count - 1.
    """
    if count == 1:
        return first
    scope = tf.get_variable_scope()
    zeros = tf.nest.map_structure(lambda tensor: tf.zeros(tensor.shape, tensor.dtype), first)

    def add(index, sums):
        with tf.variable_scope(scope, reuse=True):
            return index + 1, tf.nest.map_structure(tf.add, sums, compute(index))

    # Micro-batches save memory only if they run one after the other.
    return tf.while_loop(
        lambda index, sums: index < count, add, (tf.constant(0), zeros), parallel_iterations=1
    )[1]


def dense_gradients(loss, variables):
    """Return the gradients as tensors, and the variables that have one.

    Sparse gradients are made dense first, because the norm would count equal rows one by one and
    not their sum.
    """
    # Gradients of a shared weight are added two at a time, always in the same order.
    in_order = tf.AggregationMethod.EXPERIMENTAL_TREE
    gradients = tf.gradients(loss, variables, aggregation_method=in_order)
    pairs = list(zip(gradients, variables))
    without = [variable.op.name for gradient, variable in pairs if gradient is None]
    if without:
        tf.logging.info("Not trained: the loss does not depend on %s", ", ".join(without))
    pairs = [(densify(g, variable), variable) for g, variable in pairs if g is not None]
    if not pairs:
        raise ValueError("The loss depends on none of the variables: " + ", ".join(without))
    gradients, variables = zip(*pairs)
    return list(gradients), list(variables)


def _clip_factor(norm, clip_norm):
    """Return the factor that clips gradients of this global norm; None for 1.

    The factor is NaN for a norm that is not finite, as in tf.clip_by_global_norm: 0 would hide the
    error.
    """
    if not clip_norm:
        return None
    scale = clip_norm / tf.maximum(norm, clip_norm)
    return tf.where(tf.is_finite(norm), scale, tf.fill([], float("nan")))
