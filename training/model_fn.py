"""Makes the `model_fn` that TPUEstimator trains and evaluates from a script's forward pass."""

import functools
from typing import Callable, NamedTuple, Optional

import tensorflow.compat.v1 as tf
from tensorflow.compat import v2 as tf2

from checkpointing import arrays
from checkpointing.restore import shapes_of, warm_start
from ops import dropout
from training import devices, hooks
from training.placement import Placement


class ModelOutputs(NamedTuple):
    """The outputs of a script's `forward(features, mode, share)`.

    With a share, `loss` and `scalars` belong to a part of the batch. The sums of both over the
    parts are the values of the whole batch.
    """

    loss: Optional[tf.Tensor]  # float32 []; None when predicting
    predictions: Optional[dict]  # name -> tensor [B, ...]
    eval_metrics: Optional[tuple]  # (metric_fn, list of tensors)
    scalars: dict = {}  # name -> float32 [], shown while training
    is_piece: Optional[tf.Tensor] = None  # bool [B, S], False for padding; needed for training


class BatchShare(NamedTuple):
    """Values of the whole training batch that a part of it needs."""

    totals: dict  # name -> float32 [], the divisor of a loss, over all parts
    dropout_seed: tf.Tensor  # int32 [2], different for each part and step


class TrainingStep(NamedTuple):
    """The arguments of `make_model_fn` for a training step."""

    create_train_op: Callable  # `optimization.create_train_op` with its config
    loss_divisors: Callable  # from features to a dict like BatchShare.totals, for one replica
    placement: Placement
    num_steps: int  # the global step at which training ends, for the ETA


def make_model_fn(forward, settings, step=None, new_variables=None):
    """Return the `model_fn` that TPUEstimator asks for.

    Args:
        forward: function of (features, mode, share) that returns `ModelOutputs`; share is a
            `BatchShare` when training, else None.
        settings: `flags.RunSettings`.
        step: `TrainingStep`; needed for training only.
        new_variables: str, pattern of the variables that `init_checkpoint` may lack, or None.

    Returns:
        Function of (features, labels, mode, params).
    """

    def model_fn(features, labels, mode, params):
        del labels, params
        spec = tf.estimator.tpu.TPUEstimatorSpec
        if mode == tf.estimator.ModeKeys.TRAIN:
            train_op, sums = make_train_op(features, forward, settings, step)
            return spec(
                mode,
                # Estimator itself sums the losses of a strategy's replicas.
                loss=sums["loss"] if settings.use_tpu else train_op.sums["loss"],
                train_op=train_op.op,
                training_hooks=_training_hooks(sums, train_op, settings, step.num_steps),
                host_call=_host_call(sums, train_op, settings),
                scaffold_fn=_restore(settings, new_variables),
            )
        outputs = forward(features, mode, None)
        scaffold_fn = _restore(settings, new_variables)
        if mode == tf.estimator.ModeKeys.EVAL:
            return spec(
                mode,
                loss=outputs.loss,
                eval_metrics=outputs.eval_metrics,
                scaffold_fn=scaffold_fn,
            )
        return spec(mode, predictions=outputs.predictions, scaffold_fn=scaffold_fn)

    return model_fn


def make_train_op(features, forward, settings, step):
    """Build one training step of a replica.

    Args:
        features: dict of name to tensor [B, ...], the replica's part of a batch.
        forward: as in `make_model_fn`.
        settings: `flags.RunSettings`.
        step: `TrainingStep`.

    Returns:
        (`optimization.TrainOp`; dict of name to float32 []: loss, scalars of the forward pass,
        and `hooks.COUNTS`, of the whole batch).
    """
    num_parts = step.placement.num_micro_batches
    totals = devices.sum_over_replicas(step.loss_divisors(features), settings.use_tpu)

    def forward_part(index):
        share = BatchShare(totals, _dropout_seed(index, settings, step.placement))
        part = micro_batch(features, index, num_parts)
        outputs = forward(part, tf.estimator.ModeKeys.TRAIN, share)
        counts = hooks.counts(outputs.is_piece)
        return dict(outputs.scalars, loss=outputs.loss, **counts)

    train_op = step.create_train_op(
        forward_part,
        num_micro_batches=num_parts,
        use_tpu=settings.use_tpu,
        scale_loss=settings.precision == "float16",
        use_xla=settings.use_xla and not settings.use_tpu,  # a TPU compiles everything
        fused=devices.execution_fields(settings)["fused"],
    )
    return train_op, devices.sum_over_replicas(train_op.sums, settings.use_tpu)


def micro_batch(features, index, count):
    """Return one of the `count` equal parts of a batch.

    Args:
        features: dict of name to tensor [B, ...]; B is static, and at most one other
            dimension is not.
        index: int or int32 [], the part.
        count: int that divides B.

    Returns:
        Dict of name to tensor [B / count, ...].
    """
    if count == 1:
        return features
    parts = {}
    for name, value in features.items():
        size, *others = (-1 if size is None else size for size in value.shape.as_list())
        # A gather: XLA of TensorFlow 1 refuses a slice whose start is computed in a loop.
        parts[name] = tf.gather(tf.reshape(value, [count, size // count] + others), index)
    return parts


def _dropout_seed(micro_batch_index, settings, placement):
    """Return int32 [2], a pure function of seed, step, replica and micro-batch."""
    part = devices.replica_index(settings.use_tpu) * placement.num_micro_batches + micro_batch_index
    parts = placement.num_replicas * placement.num_micro_batches
    step = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
    # The layers combine this seed with small numbers to get their own seeds. If two parts had
    # consecutive seeds, two of their layers could get equal seeds, so the seed is a random number.
    counted = tf.stack([settings.random_seed, step * parts + part])
    return dropout.draw([2], counted, is_hashed=devices.execution_fields(settings)["compiled"])


def _restore(settings, new_variables):
    """Start from `init_checkpoint` where output_dir has no checkpoint; returns a scaffold_fn."""
    variables = tf.trainable_variables()
    if not settings.init_checkpoint or tf.train.latest_checkpoint(settings.output_dir):
        return None  # Estimator itself restores the run's own checkpoint

    def restore():
        prefix = arrays.fit(
            shapes_of(variables),
            settings.init_checkpoint,
            settings.output_dir,
            settings.may_resize,
        )
        warm_start(variables, prefix, new_variables, settings.allow_missing)
        return tf.train.Scaffold()

    if settings.use_tpu:  # the host must run it, after the model is built
        return restore
    restore()
    return None


def _training_hooks(sums, train_op, settings, num_train_steps):
    """Return the hooks that log and watch scalars; on a TPU they see only the step number."""
    shown, counts = {}, {}
    if settings.strategy == "multi_worker":
        hooks.share_signals(functools.partial(devices.sum_over_replicas, use_tpu=False))
    if not settings.use_tpu:
        hooks.watch(dict(train_op.watched, loss=sums["loss"]))
        shown = _shown_scalars(sums, train_op)
        counts = {name: sums[name] for name in hooks.COUNTS}
        hooks.plot(shown)
    return [hooks.ProgressHook(shown, num_train_steps, settings.train_batch_size, counts)]


def _shown_scalars(sums, train_op):
    shown = {name: sums[name] for name in sorted(sums) if name not in hooks.COUNTS}
    shown.update(train_op.scalars)
    return shown


def _host_call(sums, train_op, settings):
    """Return the `host_call` that writes the scalars of a TPU's steps on its host."""
    if not settings.use_tpu:
        return None
    scalars = dict(_shown_scalars(sums, train_op), step=tf.train.get_or_create_global_step())
    # Tensors of all cores are joined along their first axis.
    tensors = {name: tf.reshape(tf.cast(x, tf.float32), [1]) for name, x in scalars.items()}
    return functools.partial(write_scalars, settings.output_dir), tensors


def write_scalars(folder, step, **scalars):
    """Write the scalars of every `hooks.SUMMARY_STEPS`-th step for TensorBoard.

    Args:
        folder: str.
        step: float32 [cores], the global step.
        **scalars: float32 [cores], equal on all cores.

    Returns:
        The operation that writes them.
    """
    step = tf.cast(step[0], tf.int64)
    summary = tf2.summary
    writer = summary.create_file_writer(folder)
    with writer.as_default(), summary.record_if(tf.equal(step % hooks.SUMMARY_STEPS, 0)):
        for name in sorted(scalars):
            summary.scalar(name, scalars[name][0], step)
        return tf.group(tf.summary.all_v2_summary_ops())
