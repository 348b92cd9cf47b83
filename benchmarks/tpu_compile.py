"""Compiles a pre-training step for a TPU, without a TPU, and prints the compiler's figures.

    bash make_venv.sh --tpu-compile
    python benchmarks/tpu_compile.py --config=albert_config/albert_config_base.json \
        --batch_size=16 --max_seq_length=512 [--chunks_per_row=8] [--recompute] \
        [--topology=v3:2x2] [--text=FILE]

The step is the one that run_pretraining.py --use_tpu=True builds for a core: forward and backward
pass, sums over the cores, clipping, LAMB. TensorFlow lowers it in this process, and compile_hlo.py
compiles it in a second one. Only one process of a machine can use the compiler at a time. The last
line is a JSON object:

    temp_gb           memory of a core for the tensors of a step
    argument_gb       memory for weights, slots and the batch
    bytes_gb          memory traffic of a step
    tflop             arithmetic of a step
    roofline_ms       time of a step if memory or arithmetic alone limits it; null if the compiler
                      does not know the time of some operation
    mcycles           sum of the estimated cycles of all instructions, in millions
    cycles_ms         the same as time, at the clock of the TPU
    top               the instructions that take most, added up by kind: millions of cycles
    random            number of random operations, whose time the compiler does not know
    error             instead of the lines above: the compiler's message, if the step does not fit
    estimate          memory and micro-batch as run_pretraining.py estimates and chooses them
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import tensorflow_settings

tensorflow_settings.set_environment()

import tensorflow.compat.v1 as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.compiler.xla.service import hlo_pb2
from tensorflow.python.eager.polymorphic_function import compiler_ir

import modeling
import optimization
import run_pretraining
from common import cli
from pretraining.model import loss_divisors, make_forward
from pretraining.run_checks import check_config, check_optimizer
from tfrecords.wire import pretraining_schema
from training import devices, memory, model_fn, placement
from training.flags import run_settings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMPILER = os.path.join(ROOT, "benchmarks", "compile_hlo.py")
FLOAT32 = 11  # xla.PrimitiveType
PYTHON = os.path.join(ROOT, ".venv-tpu-compile", "bin", "python")


def main():
    """Lower the step, compile it, print the figures."""
    args = parse_arguments()
    build, specs = make_step(args)
    module = lower(build, specs, args.replicas)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "step.hlo")
        with open(path, "wb") as stream:
            stream.write(module.SerializeToString())
        command = [PYTHON, COMPILER, path, args.topology, str(args.replicas), str(len(specs))]
        command += [args.text] if args.text else []
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    figures = json.loads(output.decode().splitlines()[-1])
    print(json.dumps(dict(figures, estimate=estimate(args))))


def parse_arguments(words=None):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="JSON file of the model")
    parser.add_argument("--batch_size", type=int, default=16, help="examples of a core")
    parser.add_argument("--max_seq_length", type=int, default=512)
    parser.add_argument("--max_predictions_per_seq", type=int, help="default: 15%% of the length")
    parser.add_argument(
        "--chunks_per_row", type=int, default=1, help="chunks that share a row; 1: no packing"
    )
    parser.add_argument("--micro_batch_size", type=int, help="default: the whole batch at a time")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--recompute", action="store_true", help="recompute the activations")
    parser.add_argument("--gradients_only", action="store_true", help="without the optimizer")
    parser.add_argument("--topology", default="v3:2x2", help="TPU generation and its chips")
    parser.add_argument("--replicas", type=int, default=1, help="number of cores")
    parser.add_argument("--text", help="file for the compiled program")
    args = parser.parse_args(words)
    if args.max_predictions_per_seq is None:
        args.max_predictions_per_seq = max(1, round(0.15 * args.max_seq_length))
    args.micro_batch_size = args.micro_batch_size or args.batch_size
    return args


def make_step(args):
    """Return (build, specs) of the step that run_pretraining.py builds for a core.

    Args:
        args: the parsed command line.

    Returns:
        (function of the features, as tensors in the order of specs, that returns tensors; list of
        tf.TensorSpec).
    """
    flags, settings = run_flags(args)
    model = check_config(flags)[0]
    optimizer = check_optimizer(flags, model)[0].optimizer
    execution = modeling.Execution(**devices.execution_fields(settings))
    forward = make_forward(model.config, execution)
    placed = placement.Placement(args.replicas, args.batch_size, args.micro_batch_size)
    step = model_fn.TrainingStep(
        functools.partial(optimization.create_train_op, config=optimizer),
        loss_divisors,
        placed,
        flags.num_train_steps,
    )
    names, specs = feature_specs(args)

    def build(*tensors):
        features = dict(zip(names, tensors))
        if args.gradients_only:
            totals = loss_divisors(features)
            share = model_fn.BatchShare(totals, tf.constant([1, 2]))
            loss = forward(features, tf.estimator.ModeKeys.TRAIN, share).loss
            return [loss] + optimization.dense_gradients(loss, tf.trainable_variables())[0]
        train_op, sums = model_fn.make_train_op(features, forward, settings, step)
        with tf.control_dependencies([train_op.op]):
            return [tf.identity(value) for value in sums.values()]

    return build, specs


def run_flags(args):
    """Return the flags of run_pretraining.py and the `RunSettings` of a step."""
    values = {
        "output_dir": "gs://bucket/run",
        "bert_config_file": args.config,
        "use_tpu": True,
        "tpu_name": "local",
        "num_tpu_cores": args.replicas,
        "precision": args.precision,
        "recompute_activations": args.recompute,
        "train_batch_size": args.batch_size * args.replicas,
        "micro_batch_size": args.micro_batch_size,
        "max_seq_length": args.max_seq_length,
        "max_predictions_per_seq": args.max_predictions_per_seq,
    }
    words = ["--{}={}".format(name, value) for name, value in values.items()]
    flags = cli.parse(run_pretraining.define_flags, ["run_pretraining.py"] + words)
    settings = run_settings(flags)._replace(tpu_generation=args.topology.split(":")[0])
    return flags, settings


def feature_specs(args):
    """Return the names and the tf.TensorSpec of the features of a batch."""
    schema = pretraining_schema(args.max_seq_length, args.max_predictions_per_seq)
    shapes = {field.name: ([args.batch_size, field.length], field.dtype) for field in schema}
    rows, length, chunks = args.batch_size, args.max_seq_length, args.chunks_per_row
    shapes["next_sentence_labels"] = ([rows, chunks], "int64")
    shapes["next_sentence_weights"] = ([rows, chunks], "float32")
    if chunks > 1:
        del shapes["input_mask"]
        shapes["chunk_ids"] = shapes["position_ids"] = ([rows, length], "int64")
        shapes["chunk_starts"] = ([rows, chunks], "int64")
    types = {"int64": tf.int32}
    specs = [tf.TensorSpec(size, types.get(dtype, dtype)) for size, dtype in shapes.values()]
    return list(shapes), specs


def estimate(args):
    """Return the memory that run_pretraining.py estimates and the micro-batch that it chooses."""
    flags, settings = run_flags(args)
    model = check_config(flags)[0]
    execution = modeling.Execution(**devices.execution_fields(settings))
    sizes = args.max_seq_length, args.max_predictions_per_seq, args.chunks_per_row
    step_memory = memory.StepMemory(
        model.num_weights, memory.activation_bytes(model.config, execution, *sizes)
    )
    free = memory.free_memory(settings)
    total = args.micro_batch_size * step_memory.bytes_per_example
    total += step_memory.weight_bytes(args.micro_batch_size < args.batch_size)
    return {
        "total_gb": round(total / 1e9, 3),
        "usable_gb": round(free.usable / 1e9, 3),
        "micro_batch": memory.largest_micro_batch(args.batch_size, step_memory, free),
    }


# ------------------------------------------------------------------------------- lowering


def lower(build, specs, replicas=1):
    """Lower a step to HLO as for a TPU.

    Args:
        build: function of tensors that returns tensors.
        specs: list of tf.TensorSpec of the function's arguments.
        replicas: int, cores that sum their gradients.

    Returns:
        hlo_pb2.HloModuleProto, whose parameters are the arguments, then the variables, and whose
        outputs are the outputs of `build`, then the new values of the variables.
    """
    original = tf.tpu.cross_replica_sum
    tf.tpu.cross_replica_sum = tf.identity if replicas == 1 else _marked_sum
    try:
        step = tf.wrap_function(build, specs)
    finally:
        tf.tpu.cross_replica_sum = original
    text = compiler_ir.from_concrete_function(step)("hlo_serialized", device_name="/CPU:0")
    module = hlo_pb2.HloModuleProto.FromString(text)
    for computation in module.computations:
        for instruction in computation.instructions:
            _as_on_tpu(instruction, module, replicas)
    return module


def _marked_sum(tensor):
    # XLA for CPU has no sum over replicas, so this operation marks the place of the sum, and
    # `_as_on_tpu` replaces it by the sum. The operation changes no number: float32 has 8 exponent
    # bits and 23 mantissa bits. No other operation of a step is of this kind.
    return gen_xla_ops.xla_reduce_precision(tensor, exponent_bits=8, mantissa_bits=23)


def _as_on_tpu(instruction, module, replicas):
    """Change an instruction that XLA for CPU writes in another way than XLA for TPU."""
    if instruction.opcode == "copy":  # copy of a variable's new value; StableHLO has no copies
        instruction.opcode = "reshape"
    elif instruction.opcode == "reduce-precision":
        instruction.opcode = "all-reduce"
        instruction.called_computation_ids.append(_sum_of_two(module))
        instruction.replica_groups.add().replica_ids.extend(range(replicas))


def _sum_of_two(module):
    """Return the id of the computation that adds two float32 scalars."""
    for computation in module.computations:
        codes = [instruction.opcode for instruction in computation.instructions]
        root = computation.instructions[-1]
        is_scalar = root.shape.element_type == FLOAT32 and not root.shape.dimensions
        if codes == ["parameter", "parameter", "add"] and is_scalar:
            return computation.id
    raise ValueError("the step has no sum")


if __name__ == "__main__":
    main()
