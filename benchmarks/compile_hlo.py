"""Compiles an HLO module by the compiler of libtpu; prints its figures as one JSON object.

    .venv-tpu-compile/bin/python compile_hlo.py MODULE TOPOLOGY REPLICAS ARGUMENTS [TEXT]

tpu_compile.py runs this file in an environment of its own, because JAX and TensorFlow 2.15 need
different versions of NumPy. MODULE is a serialized HloModuleProto: its first ARGUMENTS parameters
are a batch, the others are variables, whose new values are its last outputs. TEXT is a file for the
compiled program.
"""

import collections
import json
import os
import re
import sys

# Without these variables the compiler would look for a TPU of this machine.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from jax._src.interpreters import mlir
from jax.experimental import topologies
from jaxlib import _jax, xla_client
from jaxlib.mlir import ir

# Figures of a core, from https://cloud.google.com/tpu/docs/system-architecture-tpu-vm and arXiv
# 2304.01433
CLOCK_MHZ = {"v2": 700, "v3": 940, "v4": 1050, "v5e": 1500}
CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
NAME = re.compile(r"\s*(?:ROOT )?%?([\w-]+?)[.\d]* = (.*?) ([\w-]+)\(")
OPERATION = re.compile(r'op_name="(?:[^"]*/)?([^"/]*?)(?:_\d+)?"')
# Operations whose time the compiler does not know: for each, it adds minus one second.
OPAQUE = re.compile(r" (rng[a-z-]*)\(| custom-call\(.*custom_call_target=\"X64")


def main():
    """Compile the module that the command line names."""
    path, topology, replicas, num_arguments = sys.argv[1:5]
    text_path = sys.argv[5] if len(sys.argv) > 5 else None
    with open(path, "rb") as stream, mlir.make_ir_context():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(stream.read()))
        donate_variables(module, int(num_arguments))
        try:
            executable = compile_for(module, topology, int(replicas))
        except _jax.JaxRuntimeError as error:
            print(json.dumps({"error": str(error)[:2000]}))
            return
    text = executable.hlo_modules()[0].to_string()
    if text_path:
        with open(text_path, "w") as stream:
            stream.write(text)
    print(json.dumps(figures(executable, text, CLOCK_MHZ[topology.split(":")[0]])))


def donate_variables(module, num_arguments):
    """Let the new value of every variable take the place of the old one, as on a TPU."""
    functions = {one.attributes["sym_name"].value: one for one in module.body.operations}
    function = functions["main"]  # other functions are parts of reductions
    inputs, outputs = function.type.inputs, function.type.results
    attributes = [dict(x) for x in _attributes(function, len(inputs))]
    output = len(outputs)
    for index in reversed(range(num_arguments, len(inputs))):
        if output and inputs[index] == outputs[output - 1]:
            output -= 1
            number = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), output)
            attributes[index]["tf.aliasing_output"] = number
    function.attributes["arg_attrs"] = ir.ArrayAttr.get(
        [ir.DictAttr.get(attribute) for attribute in attributes]
    )


def _attributes(function, count):
    if "arg_attrs" not in function.attributes:
        return [{}] * count
    given = function.attributes["arg_attrs"]
    return [{entry.name: entry.attr for entry in attribute} for attribute in given]


def compile_for(module, topology, replicas):
    """Compile a module for some cores of a topology, such as v3:2x2; returns the executable."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    devices = list(devices)[:replicas]
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = replicas, 1
    numbers = np.array([[device.id] for device in devices])
    options.device_assignment = xla_client.DeviceAssignment.create(numbers)
    return devices[0].client.compile(module, _jax.DeviceList(tuple(devices)), options)


def figures(executable, text, clock_mhz):
    """Return the figures that tpu_compile.py explains, as a dict."""
    memory, costs = executable.get_compiled_memory_stats(), executable.cost_analysis()
    cycles = collections.Counter()
    for line in text.splitlines():
        found, name = CYCLES.search(line), NAME.match(line)
        if found and name:
            operation = OPERATION.search(line)
            group = "{} ({})".format(name.group(1), operation.group(1) if operation else "")
            cycles[group] += int(found.group(1))
    total = sum(cycles.values())
    opaque = [match.group(1) or "custom-call" for match in OPAQUE.finditer(text)]
    # The sum is negative if the compiler does not know the time of other operations either.
    seconds = costs["optimal_seconds"] + len(opaque)
    return {
        "temp_gb": round(memory.temp_size_in_bytes / 1e9, 4),
        "argument_gb": round(memory.argument_size_in_bytes / 1e9, 4),
        "bytes_gb": round(costs["bytes accessed"] / 1e9, 3),
        "tflop": float("{:.4g}".format(costs["flops"] / 1e12)),
        "roofline_ms": round(1e3 * seconds, 2) if seconds > 0 else None,
        "mcycles": round(total / 1e6, 3),
        "cycles_ms": round(total / clock_mhz / 1e3, 2),
        "top": {group: round(count / 1e6, 2) for group, count in cycles.most_common(10)},
        "random": len(opaque) - opaque.count("custom-call"),
    }


if __name__ == "__main__":
    main()
