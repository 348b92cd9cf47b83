"""Measures fine-tuning and prediction with batches of similar length, and with full padding.

    python benchmarks/finetune.py --data_dir=LCQMC --config=albert_config/albert_config_tiny.json
    python benchmarks/finetune.py --task_name=drcd --data_dir=DRCD --max_seq_length=512 \\
        --batch_size=16 --config=albert_config/albert_config_tiny.json --peer=hf

The input functions and the graphs are the same as in run_classifier.py, run_mrc.py and run_ner.py,
with random weights. All contestants (train and predict, dynamic and padded) take turns in one
process. With --peer=hf a second process takes turns, too: the loop of Hugging Face's examples.
The first turn of each contestant compiles and does not count. All contestants work on the same
rows: a pool of batches that are drawn from the train file. A long text has several rows. A turn of
a dynamic contestant or of the peer takes the whole pool, so that it has rows of all lengths. A turn
of a padded contestant takes a few steps, because all its steps have the same length. The last line
is a JSON object:

    train_examples_per_second     {"dynamic": medians over the turns, "padded": ..., "hf": ...}
    predict_examples_per_second   the same
    ratio                         {"train": {"padded": dynamic / padded, "hf": ...}, "predict": ...}
    mean_length                   pieces of a row, special ones included
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import tensorflow_settings

tensorflow_settings.set_environment()

import numpy as np
import tensorflow.compat.v1 as tf

import run_classifier
import run_mrc
import run_ner
from common import checks, cli
from finetuning import batching, inputs
from finetuning.model import make_model_fn
from finetuning.run_checks import check_run
from kinds.registry import KINDS, kind_of
from training import devices

SCRIPTS = {"{}.py".format(x.__name__): x for x in (run_classifier, run_mrc, run_ner)}
PEER = os.path.join(sys.path[0], "benchmarks", "finetune_peer.py")
VOCABULARY = os.path.join(sys.path[0], "albert_config", "vocab.txt")
# Steps in a turn of a padded contestant.
PADDED_STEPS = 16
MODES = {"train": tf.estimator.ModeKeys.TRAIN, "predict": tf.estimator.ModeKeys.PREDICT}


def main():
    """Run the contestants in turns and print the result."""
    args = parse_arguments()
    tf.disable_eager_execution()
    with tempfile.TemporaryDirectory() as folder:
        runs = {"dynamic": make_run(args, folder, True), "padded": make_run(args, folder, False)}
        contestants = {
            (part, padding): Contestant(runs[padding], part, padding == "dynamic")
            for part in MODES
            for padding in runs
        }
        if args.peer:
            peer = start_peer(args, runs["dynamic"], folder)
            contestants.update({(part, args.peer): Peer(peer, part) for part in MODES})
        for contestant in contestants.values():
            contestant.warm_up()
        rates = {key: [] for key in contestants}
        for _ in range(args.turns):
            for key, contestant in contestants.items():
                rates[key].append(contestant.rate())
    print(json.dumps(summary(rates, runs["dynamic"])))


def parse_arguments():
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="folder of the task's files")
    parser.add_argument("--config", required=True, help="JSON file of the model")
    parser.add_argument("--task_name", default="lcqmc_pair")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--max_seq_length", type=int, default=128)
    parser.add_argument("--precision", default="float32", help="of float32, bfloat16, float16")
    parser.add_argument("--use_xla", action="store_true", help="compile our whole step by XLA")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peer", choices=["hf"], help="needs bash make_venv.sh interop")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter with PyTorch")
    return parser.parse_args()


def make_run(args, folder, dynamic_padding):
    """Return the `FinetuningRun` of a task's script on one pool of train examples."""
    kind = kind_of(KINDS, args.task_name)
    values = {
        "task_name": args.task_name,
        "data_dir": args.data_dir,
        "bert_config_file": args.config,
        "vocab_file": VOCABULARY,
        "output_dir": folder,
        "max_seq_length": args.max_seq_length,
        "max_train_examples": batching.POOL_BATCHES * args.batch_size,
        "train_batch_size": args.batch_size,
        "dynamic_padding": dynamic_padding,
        "precision": args.precision,
        "use_xla": args.use_xla,
        "do_train": True,
    }
    words = ["--{}={}".format(*item) for item in values.items()]
    run = checks.run_checks(
        functools.partial(check_run, kind),
        cli.parse(SCRIPTS[kind.script].define_flags, ["finetune.py"] + words),
    )
    return run._replace(encoded={split: inputs.encode(run, split) for split in run.work.splits})


class Contestant:
    """A graph with its session and its stream of batches.

    Args:
        run: `run.FinetuningRun`.
        part: `train` or `predict`.
        is_dynamic: bool, whether batches differ in length.
    """

    def __init__(self, run, part, is_dynamic):
        self._batch_size = run.schedule.train_batch_size
        self._turn_steps = batching.POOL_BATCHES if is_dynamic else PADDED_STEPS
        with tf.Graph().as_default():
            if part == "train":
                input_fn = inputs.training_input_fn(run, run.work.seed_runs[0])
            else:
                input_fn = inputs.scoring_input_fn(run, "train")
            dataset = input_fn({"batch_size": self._batch_size}).repeat()
            iterator = tf.data.make_initializable_iterator(dataset)
            settings = run.settings_of(run.work.seed_runs[0])
            model_fn = make_model_fn(run, settings)
            spec = model_fn(iterator.get_next(), None, MODES[part], {})
            self._fetches = spec.predictions or [spec.train_op, spec.loss]
            self._session = tf.Session(config=devices.session_config(settings))
            self._session.run([tf.global_variables_initializer(), iterator.initializer])

    def warm_up(self):
        """Run one turn, so that every length is compiled."""
        self._run(self._turn_steps)

    def rate(self):
        """Return the examples per second of a turn."""
        begin = time.perf_counter()
        self._run(self._turn_steps)
        return self._turn_steps * self._batch_size / (time.perf_counter() - begin)

    def _run(self, steps):
        for _ in range(steps):
            self._session.run(self._fetches)


def start_peer(args, run, folder):
    """Start the process of the peer on the rows of a run; returns the subprocess."""
    folder = tempfile.mkdtemp(dir=folder)
    rows = run.encoded["train"].rows
    arrays = {"ids": rows.ids, "begins": rows.begins, "lengths_a": rows.lengths_a}
    answers = {column.name for column in run.kind.columns if column.in_batch}
    arrays.update({name: rows.columns[name] for name in answers})
    for name, array in arrays.items():
        np.save(os.path.join(folder, name + ".npy"), array)
    numbers = [args.batch_size, len(run.data.task.labels)]
    command = [args.peer_python, PEER, folder, args.config, args.precision]
    command += map(str, numbers)
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
    )


class Peer:
    """Training or prediction of the peer's process; it answers as a `Contestant`."""

    def __init__(self, process, part):
        self._process, self._part = process, part

    def warm_up(self):
        """Run one turn."""
        self.rate()

    def rate(self):
        """Return the examples per second of a turn."""
        self._process.stdin.write("{} {}\n".format(self._part, batching.POOL_BATCHES))
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):
                return float(line.split()[1])
        raise SystemExit("the peer ended with status {}".format(self._process.wait()))


def summary(rates, run):
    """Return the result as a dict."""
    medians = {key: statistics.median(values) for key, values in rates.items()}
    others = list(dict.fromkeys(name for _, name in medians if name != "dynamic"))
    result = {
        "{}_examples_per_second".format(part): {
            name: round(medians[part, name], 1) for name in ["dynamic"] + others
        }
        for part in MODES
    }
    result["ratio"] = {
        part: {name: round(medians[part, "dynamic"] / medians[part, name], 2) for name in others}
        for part in MODES
    }
    result["mean_length"] = round(float(np.mean(run.encoded["train"].rows.full_lengths)), 1)
    return result


if __name__ == "__main__":
    main()
