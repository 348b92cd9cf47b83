"""A training step keeps its large tensors on a GPU: TensorFlow's table of kernels says where.

TensorFlow has kernels for GPUs that read or write some tensors in the memory of the host, mostly
int32 ones, and computes an operation without a kernel for GPUs on the CPU. A large tensor there
costs a copy each way and the speed of one CPU: the comparison of int32 draws made a step of base on
an H100 nine times slower than the same step compiled by XLA.
"""

import functools
import types

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import kernels

import modeling
import optimization
from benchmarks import train_step
from pretraining.model import make_forward

BATCH, LENGTH = 4, 32
LARGE = BATCH * LENGTH * 2  # elements; ids and masks of a batch have fewer
SHAPES = types.SimpleNamespace(
    batch_size=BATCH, max_seq_length=LENGTH, max_predictions_per_seq=6, chunks_per_row=3
)


@functools.lru_cache(maxsize=None)
def gpu_kernels(op_type):
    """Return the KernelDefs of a type of operation for GPUs."""
    found = kernels.get_registered_kernels_for_op(op_type).kernel
    return [x for x in found if x.device_type in ("GPU", "DEFAULT") and not x.label]


def gpu_kernel(op):
    """Return the KernelDef with which a GPU computes an operation, or None."""
    return next((kernel for kernel in gpu_kernels(op.type) if fits(kernel, op)), None)


def fits(kernel, op):
    """Return whether a kernel supports the attributes of an operation."""
    for constraint in kernel.constraint:
        found = op.get_attr(constraint.name)
        found = [x.as_datatype_enum for x in (found if isinstance(found, list) else [found])]
        if not set(found) <= set(constraint.allowed_values.list.type):
            return False
    return True


def argument_names(op, arguments, tensors):
    """Return the name of the argument of each tensor, for the inputs or the outputs."""
    names = []
    for argument in arguments:
        count = 1
        if argument.number_attr:
            count = op.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            count = len(op.get_attr(argument.type_list_attr))
        names += [argument.name] * count
    assert len(names) == len(tensors), op
    return names


def large_on_host(graph):
    """Return lines that name the operations which a GPU would compute on large host tensors."""
    lines = set()
    for op in graph.get_operations():
        tensors = list(op.inputs) + op.outputs
        sizes = [tensor.shape.num_elements() for tensor in tensors]
        assert None not in sizes, "a tensor of {} has no static shape".format(op)
        if max(sizes, default=0) <= LARGE:
            continue  # most operations: reading their attributes takes long
        kernel = gpu_kernel(op)
        names = argument_names(op, op.op_def.input_arg, op.inputs)
        names += argument_names(op, op.op_def.output_arg, op.outputs)
        for name, tensor, size in zip(names, tensors, sizes):
            if size > LARGE and (kernel is None or name in kernel.host_memory_arg):
                lines.add("{} {} {}".format(op.type, tensor.dtype.name, tensor.shape))
    return sorted(lines)


def training_graph(precision, make_batch):
    """Return the graph of a training step as `--use_xla=False` builds it on a GPU."""
    config = modeling.AlbertConfig(
        vocab_size=1000,
        embedding_size=128,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    with tf.Graph().as_default() as graph:
        batch = make_batch(SHAPES, config.vocab_size)
        features = {name: tf.placeholder(x.dtype, x.shape) for name, x in batch.items()}
        forward = make_forward(config, modeling.Execution(dtype=precision))
        optimization.create_train_op(
            lambda _: {"loss": forward(features, tf.estimator.ModeKeys.TRAIN).loss},
            optimization.OptimizerConfig("lamb", 1e-3, num_train_steps=10),
            scale_loss=precision == "float16",
        )
    return graph


@pytest.mark.parametrize(
    "precision, make_batch",
    [
        ("float32", train_step.random_batch),
        ("bfloat16", train_step.packed_batch),
        ("float16", train_step.packed_batch),
    ],
)
def test_a_training_step_keeps_large_tensors_on_the_gpu(precision, make_batch):
    found = large_on_host(training_graph(precision, make_batch))
    assert not found, "\n".join(found)


def test_the_table_of_kernels_knows_that_int32_numbers_are_compared_on_the_host():
    with tf.Graph().as_default() as graph:
        numbers = tf.placeholder(tf.int32, [LARGE + 1])
        tf.greater_equal(numbers, 3)
    lines = ["GreaterEqual bool (257,)", "GreaterEqual int32 (257,)"]  # output and input
    assert large_on_host(graph) == lines
