"""The model that a run of fine-tuning trains: the encoder with the head of a kind of task."""

import functools

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
import optimization
from training import model_fn

# Sizes of a batch that shows the shapes of the variables, which do not depend on them.
ANY_LENGTH = 2


def make_model_fn(run, settings):
    """Return the `model_fn` of a `FinetuningRun` with the `RunSettings` of a seed."""
    step = model_fn.TrainingStep(
        functools.partial(optimization.create_train_op, config=run.schedule.optimizer),
        run.kind.loss_divisors,
        run.computation.placement,
        run.schedule.optimizer.num_train_steps,
    )
    forward = make_forward(
        run.kind, run.model.config, run.data.task, run.args, run.computation.execution
    )
    return model_fn.make_model_fn(forward, settings, step, new_variables(run.kind, run.args))


def new_variables(kind, args):
    """Return the pattern of variables that an initial checkpoint may lack.

    A checkpoint may lack the variables of the head, if the head is trained, and the variables on
    which the head does not depend, because a converted model may lack them.
    """
    return "|".join([kind.variables.untrained] + [kind.variables.pattern] * bool(args.do_train))


def make_forward(kind, config, task, settings, execution=modeling.PLAIN):
    """Return the forward pass of a kind of task, a function of (features, mode, share).

    Evaluation makes predictions and compares them with the answers outside of the graph.

    Args:
        kind: `kind.Kind`.
        config: `modeling.AlbertConfig`.
        task: of the kind, with its labels.
        settings: object with the attributes `kind.head_flags`.
        execution: `modeling.Execution`.
    """

    def forward(features, mode, share=None):
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        pieces = _sequences(features)
        # Without gradients XLA's functions gain nothing, and each length costs a compilation.
        fused = execution.fused and is_training
        model = modeling.AlbertModel(
            config,
            is_training,
            pieces["input_ids"],
            pieces["input_mask"],
            pieces["segment_ids"],
            execution._replace(fused=fused),
            dropout_seed=share.dropout_seed if share else None,
            output_positions=kind.output_positions(dict(features, **pieces)),
            scope="bert",  # a default name would differ between micro-batches
        )
        totals = share.totals if share else None
        head = kind.build_head(model, features, task, settings, is_training, totals)
        if is_training:
            is_piece = tf.not_equal(pieces["input_mask"], 0)
            return model_fn.ModelOutputs(head.loss, None, None, head.scalars, is_piece)
        outputs = dict(head.outputs, row_index=features["row_index"])
        return model_fn.ModelOutputs(None, outputs, None)

    return forward


def _sequences(features):
    """Return the features of pieces as sequences: [B, S] unchanged, [b, C, S] as [b*C, S]."""
    names = ("input_ids", "input_mask", "segment_ids")
    if features["input_ids"].shape.ndims == 2:
        return {name: features[name] for name in names}
    size, count, length = features["input_ids"].shape.as_list()
    is_known = size is not None and count is not None
    shape = [size * count if is_known else -1, length or tf.shape(features["input_ids"])[2]]
    return {name: tf.reshape(features[name], shape) for name in names}


def variable_shapes(kind, config, task, settings):
    """Return the shapes of the trainable weights of a model with its head.

    Returns:
        dict of variable name to list of int, in the order of creation.
    """
    with tf.Graph().as_default():
        row = [1, ANY_LENGTH] if kind.num_sequences(()) is None else [1, 1, ANY_LENGTH]
        features = {name: tf.zeros(row, tf.int32) for name in ("input_ids", "segment_ids")}
        features["input_mask"] = tf.ones(row, tf.int32)
        for column in kind.columns:
            shape = row if column.per_piece else (1,) + column.shape
            features[column.name] = tf.zeros(shape, np.dtype(column.dtype))
        features.update(row_index=tf.zeros([1], tf.int32), is_real_row=tf.ones([1]))
        forward = make_forward(kind, config, task, settings)
        forward(features, tf.estimator.ModeKeys.PREDICT)
        return {variable.op.name: variable.shape.as_list() for variable in tf.trainable_variables()}
