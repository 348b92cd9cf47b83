"""What the run scripts share: flags, devices, the TPUEstimator and the one `model_fn`."""

import contextlib
import functools
from typing import Callable, NamedTuple, Optional

import tensorflow.compat.v1 as tf

from checkpointing import arrays
from checkpointing.restore import check_same_run, log_restore, shapes_of, warm_start
from common.errors import UserError
from training import cluster, devices, hooks

# Steps from one point of TensorBoard's curves to the next.
SUMMARY_STEPS = 10


class ModelOutputs(NamedTuple):
    """What a script's `forward(features, mode, share)` returns.

    Where there is a share, `loss`, `scalars` and `tokens` are those of a part of the batch and add
    up to the whole batch's.
    """

    loss: Optional[tf.Tensor]  # float32 []; None when predicting
    predictions: Optional[dict]  # name -> tensor [B, ...]
    eval_metrics: Optional[tuple]  # (metric_fn, list of tensors)
    scalars: dict = {}  # name -> float32 [], shown while training
    tokens: Optional[tf.Tensor] = None  # float32 [], pieces that are not padding


class BatchShare(NamedTuple):
    """What a part of a training batch must know of the whole: None when it is not training."""

    totals: dict  # name -> float32 [], what a loss is divided by, over all parts
    dropout_seed: tf.Tensor  # int32 [2], another one for each part and step


class Training(NamedTuple):
    """What `make_model_fn` needs for training."""

    create_train_op: Callable  # `optimization.create_train_op` with its config
    loss_weights: Callable  # of features: name -> float32 [], the sums behind BatchShare.totals
    placement: devices.Placement
    num_steps: int  # the global step that training ends at, for the ETA


def make_runner(model_fn, settings, placement=None):
    """Return the `cluster.Runner` that trains and evaluates `model_fn`.

    Args:
        model_fn: as `make_model_fn` makes it.
        settings: `RunSettings`.
        placement: `devices.Placement` where there is training.
    """
    task = cluster.read_task() if settings.strategy == "multi_worker" else None
    with cluster.alone():
        local = _make_estimator(model_fn, settings)
    if not (placement and placement.strategy):
        return cluster.Runner(local, local, task)
    with contextlib.nullcontext() if task else cluster.alone():
        trainer = _make_estimator(model_fn, settings, placement.strategy)
    return cluster.Runner(local, trainer, task)


def _make_estimator(model_fn, settings, strategy=None):
    """Return the TPUEstimator that runs `model_fn` on TPU, GPU or CPU."""
    resolver = None
    if settings.use_tpu and settings.tpu_name:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            settings.tpu_name, zone=settings.tpu_zone, project=settings.gcp_project
        )
    tpu = tf.estimator.tpu
    config = tpu.RunConfig(
        cluster=resolver,
        master=settings.master,
        model_dir=settings.output_dir,
        save_checkpoints_steps=None,  # hooks.CheckpointHook saves
        save_checkpoints_secs=None,
        save_summary_steps=SUMMARY_STEPS,
        keep_checkpoint_max=settings.keep_checkpoint_max,
        tf_random_seed=settings.random_seed,
        log_step_count_steps=None,  # hooks.ProgressHook tells more
        session_config=None if settings.use_tpu else devices.session_config(settings),
        train_distribute=strategy,
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


def make_model_fn(forward, settings, training=None, new_variables=None):
    """Wrap a script's forward pass into the `model_fn` that TPUEstimator asks for.

    Args:
        forward: function of (features, mode, share) that returns `ModelOutputs`; share is a
            `BatchShare` when training, else None.
        settings: `RunSettings`.
        training: `Training`; needed for training only.
        new_variables: str, pattern of the variables that `init_checkpoint` need not have, or None.

    Returns:
        Function of (features, labels, mode, params).
    """

    def model_fn(features, labels, mode, params):
        del labels, params
        spec = tf.estimator.tpu.TPUEstimatorSpec
        if mode == tf.estimator.ModeKeys.TRAIN:
            train_op, sums = _train_op(features, forward, settings, training)
            return spec(
                mode,
                # Estimator adds the replicas' losses of a strategy up by itself.
                loss=sums["loss"] if settings.use_tpu else train_op.sums["loss"],
                train_op=train_op.op,
                training_hooks=_training_hooks(sums, train_op, settings, training.num_steps),
                host_call=_host_call(sums, train_op, settings),
                scaffold_fn=_restore(settings, new_variables, is_training=True),
            )
        outputs = forward(features, mode, None)
        scaffold_fn = _restore(settings, new_variables, is_training=False)
        if mode == tf.estimator.ModeKeys.EVAL:
            return spec(
                mode,
                loss=outputs.loss,
                eval_metrics=outputs.eval_metrics,
                scaffold_fn=scaffold_fn,
            )
        return spec(mode, predictions=outputs.predictions, scaffold_fn=scaffold_fn)

    return model_fn


def _train_op(features, forward, settings, training):
    """Build one training step of a replica.

    Returns:
        (what `Training.create_train_op` returns, dict of name to float32 []: loss, tokens and the
        scalars of the forward pass, of the whole batch).
    """
    num_parts = training.placement.num_micro_batches
    totals = devices.sum_over_replicas(training.loss_weights(features), settings.use_tpu)

    def forward_part(index):
        share = BatchShare(totals, _dropout_seed(index, settings, training.placement))
        part = micro_batch(features, index, num_parts)
        outputs = forward(part, tf.estimator.ModeKeys.TRAIN, share)
        return dict(outputs.scalars, loss=outputs.loss, tokens=outputs.tokens)

    train_op = training.create_train_op(
        forward_part,
        num_micro_batches=num_parts,
        use_tpu=settings.use_tpu,
        scale_loss=settings.precision == "float16",
        compiled=settings.use_xla and not settings.use_tpu,  # a TPU compiles everything
        fused=devices.execution_fields(settings)["fused"],
    )
    return train_op, devices.sum_over_replicas(train_op.sums, settings.use_tpu)


def micro_batch(features, index, count):
    """Return one of the `count` equal parts of a batch.

    Args:
        features: dict of name to tensor [B, ...], B static; one other dimension need not be.
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
        # No slice: in a loop XLA of TensorFlow 1 asks for one that is known beforehand.
        parts[name] = tf.gather(tf.reshape(value, [count, size // count] + others), index)
    return parts


def _dropout_seed(micro_batch_index, settings, placement):
    """Return int32 [2], a pure function of seed, step, replica and micro-batch."""
    num_cores = settings.num_tpu_cores if settings.use_tpu else 0
    part = devices.replica_index(num_cores) * placement.num_micro_batches + micro_batch_index
    parts = placement.num_replicas * placement.num_micro_batches
    step = tf.cast(tf.train.get_or_create_global_step(), tf.int32)
    # Drawn, not counted: what adds small numbers to it, layer by layer, meets no other part's.
    return tf.random.stateless_uniform(
        [2], [settings.random_seed, step * parts + part], 0, tf.int32.max, tf.int32
    )


def _restore(settings, new_variables, is_training):
    """Start from `init_checkpoint` where output_dir has no checkpoint; returns a scaffold_fn."""
    variables = tf.trainable_variables()
    own = tf.train.latest_checkpoint(settings.output_dir)
    if own:
        plan = check_same_run(shapes_of(tf.global_variables()), own, settings.output_dir)
        if is_training:
            log_restore(plan, own)
        return None
    if not settings.init_checkpoint:
        return None

    def restore():
        prefix = arrays.fit(
            shapes_of(variables),
            settings.init_checkpoint,
            settings.output_dir,
            settings.allow_vocab_resize,
        )
        warm_start(variables, prefix, new_variables, settings.allow_missing)
        return tf.train.Scaffold()

    if settings.use_tpu:  # must run on the host, after the model is built
        return restore
    restore()
    return None


def _training_hooks(sums, train_op, settings, num_train_steps):
    """Show and watch the scalars; of a TPU only the steps are seen between two of its loops."""
    shown, tokens = {}, None
    if not settings.use_tpu:
        hooks.watch(dict(train_op.watched, loss=sums["loss"]))
        shown, tokens = _shown_scalars(sums, train_op), sums["tokens"]
        for name, scalar in shown.items():
            tf.summary.scalar(name, scalar)
    return [hooks.ProgressHook(shown, num_train_steps, settings.train_batch_size, tokens)]


def _shown_scalars(sums, train_op):
    shown = {name: sums[name] for name in sorted(sums) if name != "tokens"}
    shown.update(train_op.scalars)
    return shown


def _host_call(sums, train_op, settings):
    """Return what sends the scalars of a TPU's steps to its host, which writes them."""
    if not settings.use_tpu:
        return None
    scalars = dict(_shown_scalars(sums, train_op), step=tf.train.get_or_create_global_step())
    # Tensors of all cores are joined along their first axis.
    tensors = {name: tf.reshape(tf.cast(x, tf.float32), [1]) for name, x in scalars.items()}
    return functools.partial(write_scalars, settings.output_dir), tensors


def write_scalars(folder, step, **scalars):
    """Write the scalars of every SUMMARY_STEPS-th step for TensorBoard.

    Args:
        folder: str.
        step: float32 [cores], the global step.
        **scalars: float32 [cores], equal on all cores.

    Returns:
        The operation that does so.
    """
    step = tf.cast(step[0], tf.int64)
    summary = tf.compat.v2.summary
    writer = summary.create_file_writer(folder)
    with writer.as_default(), summary.record_if(tf.equal(step % SUMMARY_STEPS, 0)):
        for name in sorted(scalars):
            summary.scalar(name, scalars[name][0], step)
        return tf.group(tf.summary.all_v2_summary_ops())


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
            "out of memory ({}): lower --micro_batch_size, or --max_seq_length".format(
                _first_line(error)
            )
        ) from error


def _first_line(error):
    return str(error.message).strip().split("\n")[0]
