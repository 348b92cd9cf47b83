"""What tests share: a model small enough to train in seconds, a host of a TPU pod."""

import os
import subprocess
import sys
from typing import NamedTuple

import modeling
from common import cli

# The command line of a run script on so many logical CPU devices.
ON_CPUS = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
devices = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1))
tf.config.set_logical_device_configuration(cpu, devices)
import {script}
from common import cli
cli.run({script}.main, {script}.define_flags)
"""


class TPUContext(NamedTuple):
    """What TPUEstimator tells the input function of a host of a pod."""

    num_hosts: int
    current_host: int
    num_of_replicas_per_host: int


def write_config(folder, vocab_size, length, **fields):
    """Write the config of the small model to `config.json`."""
    config = modeling.AlbertConfig(
        vocab_size=vocab_size,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=length,
        **fields,
    )
    (folder / "config.json").write_text(config.to_json_string())


def arguments(values):
    """Return the words of a command line for a dict of flags; None leaves a flag out."""
    return ["--{}={}".format(key, value) for key, value in values.items() if value is not None]


def run(script, values):
    """Run a script in this process with a dict of flags."""
    script.main(cli.parse(script.define_flags, [script.__name__ + ".py"] + arguments(values)))


def start(script, root, values, num_cpus, **environment):
    """Start a run script, named without ".py", in a process of so many logical CPU devices."""
    command = [sys.executable, "-c", ON_CPUS.format(script=script), str(num_cpus)]
    return subprocess.Popen(
        command + arguments(values),
        cwd=str(root),
        env=dict(os.environ, **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
