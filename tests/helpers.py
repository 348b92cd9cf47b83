"""Helpers of several tests: a small model that trains in seconds, runs, a host of a TPU pod."""

import contextlib
import json
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from tensorflow.python.client.session import BaseSession
from tensorflow.python.eager import context

import modeling
from common import cli

# Has an element while a context of `optimized` is open.
_OPTIMIZED = []


class TPUContext(NamedTuple):
    """The values that TPUEstimator gives to the input function of a host of a pod."""

    num_hosts: int
    current_host: int
    num_of_replicas_per_host: int


def write_config(folder, vocab_size, length, **fields):
    """Write the config of the small model to `config.json`."""
    sizes = {
        "vocab_size": vocab_size,
        "embedding_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": length,
    }
    config = modeling.AlbertConfig(**dict(sizes, **fields))
    (folder / "config.json").write_text(config.to_json_string())


def write_learner(folder, pieces, length):
    """Write `config.json` and `vocab.txt` of a model that learns simple tasks at once."""
    write_config(
        folder,
        len(pieces),
        length,
        num_hidden_layers=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,  # with this value the model learns at once for every seed
    )
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")


def finetuning_flags(folder, length, **changes):
    """Return the flags of a run of fine-tuning, a dict, on what `write_learner` wrote."""
    values = {
        "data_dir": folder / "data",
        "bert_config_file": folder / "config.json",
        "vocab_file": folder / "vocab.txt",
        "output_dir": folder / "out",
        "max_seq_length": length,
        "train_batch_size": 4,
        "eval_batch_size": 4,
        "predict_batch_size": 4,
    }
    return dict(values, **changes)


def arguments(values):
    """Return the words of a command line for a dict of flags; None leaves a flag out."""
    return ["--{}={}".format(key, value) for key, value in values.items() if value is not None]


def run(script, values, *words):
    """Run a script in this process with a dict of flags, and with words where it takes some."""
    command = [script.__name__ + ".py"] + arguments(values) + list(words)
    if hasattr(script, "WORDS"):
        script.main(cli.parse(script.define_flags, command, script.WORDS), list(words))
    else:
        script.main(cli.parse(script.define_flags, command))


def read_json(path):
    """Return the value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_batches(input_fn, params, count=None):
    """Return the batches of an input function, all or `count`: a list of dicts of arrays."""
    batches = []
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(input_fn(params)).get_next()
        with contextlib.suppress(tf.errors.OutOfRangeError):
            while count is None or len(batches) < count:
                batches.append(session.run(batch))
    return batches


def variables_of(folder):
    """Return the variables of the latest checkpoint of a folder: dict of name to array."""
    reader = tf.train.load_checkpoint(str(folder))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_bits(folder, expected):
    """Compare all variables of the latest checkpoints of two folders."""
    found, wanted = (
        tf.train.load_checkpoint(tf.train.latest_checkpoint(str(path)))
        for path in (folder, expected)
    )
    names = wanted.get_variable_to_shape_map()
    assert found.get_variable_to_shape_map() == names
    for name in names:
        assert found.get_tensor(name).tobytes() == wanted.get_tensor(name).tobytes(), name


def optimize_on_demand(devices):
    """Outside of `optimized`, turn off TensorFlow's graph optimizers and the functions of XLA.

    Args:
        devices: the module training/devices.py.
    """
    fields, start = devices.execution_fields, BaseSession.__init__

    def execution_fields(settings):
        found = fields(settings)
        return dict(found, fused=found["fused"] and bool(_OPTIMIZED))

    def start_plain(session, target="", graph=None, config=None):
        if not _OPTIMIZED:
            plain = tf.ConfigProto()
            plain.CopyFrom(config or context.context().config)
            plain.graph_options.rewrite_options.disable_meta_optimizer = True
            plain.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
            config = plain
        start(session, target, graph, config)

    devices.execution_fields, BaseSession.__init__ = execution_fields, start_plain


@contextlib.contextmanager
def optimized():
    """A context in which sessions optimize graphs and training steps use functions of XLA.

    Inside it results have the same bits as the results of a script that is run as a program.
    """
    _OPTIMIZED.append(True)
    try:
        yield
    finally:
        _OPTIMIZED.pop()


def files_of(folder):
    """Return the contents of the files in a folder, a `pathlib.Path`, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
