"""Look at all that a run needs before it starts; `--check_only` looks and does no more.

A check is a function of the `Plan`. It puts what it made on the plan, for the run and for later
checks, returns in a few words what it found, and raises `UserError` where the run cannot work.
What is odd but no error it logs as a warning. The same checks open every run: there the first
error ends the program, here all of them are told, a line each.
"""

import contextlib
import logging
import math
import os
import shutil
import sys
import time
import types

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags
from absl import logging as absl_logging

from checkpointing import model_files, restore, run_folder
from common import cli, files
from common.errors import UserError
from tfrecords import manifest
from training import devices


class Missing(AttributeError):
    """A check looks for what an earlier one failed to put on the plan."""


class Plan(types.SimpleNamespace):
    """What the checks have found so far, as attributes; `args` is there from the beginning.

    Attributes:
        settings: `flags.RunSettings`; folders: list of str, those in output_dir that runs save
            in; keeps_best: bool, whether they keep the best checkpoint, too. By `flags`.
        config: `modeling.AlbertConfig`; num_weights: int. By `config`.
        shapes: dict of name to list of int, of the model's weights. By `config` or `start`.
        optimizer: `optimization.OptimizerConfig`; slot_names: list of str. By `optimizer`.
        execution: `modeling.Execution`; step_memory: `devices.StepMemory`; placement:
            `devices.Placement`, or None without training. By `devices`.
        start: `run_folder.Start`, or starts: dict of folder to it. By `start`.

    Pre-training has `files`, `train_files` and `eval_files`, lists of str, too; fine-tuning has
    `splits`, `runs`, `task`, `examples`, `data_files`, `data_findings`, `tokenizer`, `encoded` and
    `eval_every_steps`: see its checks.
    """

    def __getattr__(self, name):
        raise Missing(name)


def define_flags(flag_values):
    """Define the flag of `run`."""
    flags.DEFINE_bool(
        "check_only",
        False,
        "Look at flags, config, data, checkpoint and devices, print a line for each, and end: "
        "exit status 2 if the run could not work.",
        flag_values=flag_values,
    )


def run(checks, args):
    """Look at everything in turn.

    Args:
        checks: sequence of pairs (name, function of the `Plan`).
        args: the parsed flags.

    Returns:
        `Plan`.

    Raises:
        UserError: the first one of a check, without `--check_only`.
        SystemExit: with `--check_only`, always: status 2 if a check failed, else 0.
    """
    plan = Plan(args=args)
    if not args.check_only:
        tf.logging.set_verbosity(tf.logging.INFO)
        absl_logging.set_verbosity(absl_logging.INFO)  # of what knows no TensorFlow
        for _, look in checks:
            look(plan)
        return plan
    start = time.time()
    failed = [name for name, look in checks if not _print_check(name, look, plan)]
    seconds = "{:.1f} seconds".format(time.time() - start)
    if failed:
        print("{} of {} checks failed in {}".format(len(failed), len(checks), seconds))
        raise SystemExit(cli.USER_ERROR_STATUS)
    print("All {} checks passed in {}".format(len(checks), seconds))
    raise SystemExit(0)


def _print_check(name, look, plan):
    """Print what a check finds, after its warnings; returns whether it passed."""
    with _collected_warnings() as warnings:
        try:
            status, text = "ok", look(plan)
        except UserError as error:
            status, text = "FAIL", error
        except Missing as error:
            status, text = "FAIL", "not looked at: {} is missing, see above".format(error)
    for line in dict.fromkeys(warnings):  # each once
        print("warn  {:<11} {}".format(name, line))
    print("{:<5} {:<11} {}".format(status, name, text), flush=True)
    return status == "ok"


@contextlib.contextmanager
def _collected_warnings():
    """Collect log lines from warnings up, TensorFlow's and absl's, in place of showing any."""
    lines = []

    class Collector(logging.Handler):
        def emit(self, record):
            lines.append(" ".join(record.getMessage().split()))

    with contextlib.ExitStack() as stack:
        for name in ("tensorflow", "absl"):
            logger = logging.getLogger(name)
            for field in ("handlers", "propagate"):
                stack.callback(setattr, logger, field, getattr(logger, field))
            logger.handlers, logger.propagate = [Collector(logging.WARNING)], False
        yield lines


# ------------------------------------------------------------------------------- checks


def config_line(path, config, num_weights):
    """Return a model in words: its file, layout, L, H and weights."""
    return "{}: layout {}, L = {}, H = {}, {:,} weights".format(
        path, config.layout, config.num_hidden_layers, config.hidden_size, num_weights
    )


def look_at_vocabulary(plan):
    """Tell the vocabulary of the records, and warn if the one beside the model is another.

    Needs `files`, the records, and `args.bert_config_file`.
    """
    for path in plan.files:
        made = manifest.read_manifest(path)
        if made and made.get("vocab_sha256"):
            break
    else:
        return "not known: there is no {} beside the records".format(files.MANIFEST_SUFFIX)
    for folder in {os.path.dirname(plan.args.bert_config_file), _folder(plan.args.init_checkpoint)}:
        beside = files.glob(os.path.join(folder, "vocab*.txt")) if folder else []
        if beside and made["vocab_sha256"] not in map(files.sha256, beside):
            tf.logging.warning(
                "%s was made with another vocabulary than %s: pieces would have other numbers than "
                "the model's",
                path,
                beside[0],
            )
    return "{} pieces, sha256 {}...".format(made.get("vocab_size"), made["vocab_sha256"][:12])


def _folder(checkpoint_path):
    if checkpoint_path and not tf.io.gfile.isdir(checkpoint_path):
        return os.path.dirname(checkpoint_path)
    return checkpoint_path


# Rates that are known to work for a model of H = 768: optimizer -> (rate, batch).
KNOWN_RATES = {
    "lamb": (0.00176, 4096),  # albert_zh's and Google's ALBERT
    "adamw": (1e-4, 256),  # BERT
}
SUITED_FACTOR = 16


def warn_of_learning_rate(optimizer, learning_rate, batch_size, hidden_size):
    """Warn of a learning rate that is far from what is known to work.

    The rate grows with the root of the batch (arXiv 1904.00962, section 3) and falls with the
    width (arXiv 2203.03466, table 8). Short runs bear more, so only a factor of 16 counts.

    Args:
        optimizer: str; without an entry in `KNOWN_RATES` nothing is said.
        learning_rate: float, the highest.
        batch_size: int, the global one.
        hidden_size: int, H.
    """
    if optimizer not in KNOWN_RATES:
        return
    rate, batch = KNOWN_RATES[optimizer]
    suited = rate * math.sqrt(batch_size / batch) * 768 / hidden_size
    if not suited / SUITED_FACTOR <= learning_rate <= suited * SUITED_FACTOR:
        tf.logging.warning(
            "--learning_rate=%g is far from %.2g, about what suits %s with a batch of %d and "
            "H = %d: %s",
            learning_rate,
            suited,
            optimizer,
            batch_size,
            hidden_size,
            "training may diverge" if learning_rate > suited else "training may take very long",
        )


def look_at_placement(plan):
    """Decide how a batch is spread over devices and micro-batches; sets `placement`.

    Needs `settings` and `step_memory`.
    """
    settings = plan.settings
    plan.placement = devices.place(settings, plan.step_memory) if plan.args.do_train else None
    # The first line to look for in a log.
    tf.logging.info(
        "TensorFlow %s, numpy %s, Python %s; %s; %s",
        tf.version.VERSION,
        np.__version__,
        sys.version.split()[0],
        devices.describe(settings),
        plan.placement.describe() if plan.placement else "no training",
    )
    if devices.accelerator(settings) is None:
        tf.logging.warning("No GPU found: running on the CPU")
    if not plan.placement:
        return "no training"
    return "batch {} = {} replicas x {} micro-batches of {}".format(
        plan.settings.train_batch_size,
        plan.placement.num_replicas,
        plan.placement.num_micro_batches,
        plan.placement.micro_batch,
    )


def look_at_memory(plan):
    """Hold an estimate of what training takes against what the device has.

    Needs `settings`, `step_memory` and `placement`.
    """
    if not plan.placement:
        return "no training"
    memory = devices.free_memory(plan.settings.use_tpu)
    weights = devices.BYTES_PER_WEIGHT * plan.step_memory.num_weights
    activations = plan.placement.micro_batch * plan.step_memory.bytes_per_example
    if weights + activations > memory.free:
        tf.logging.warning(
            "By estimate this does not fit: try --recompute_activations=True, a smaller "
            "--micro_batch_size or a smaller --max_seq_length"
        )
    return (
        "about {} for weights, gradients and slots, {} for the activations of {} at a time; {} are "
        "free on the {}".format(
            devices.gigabytes(weights),
            devices.gigabytes(activations),
            "one example" if plan.placement.micro_batch == 1 else "{} examples".format(
                plan.placement.micro_batch
            ),
            devices.gigabytes(memory.free),
            memory.device,
        )
    )  # fmt: skip


def look_at_disk(plan):
    """See that output_dir can be written to and has room for the checkpoints.

    Needs `settings`, `folders` (those in output_dir that runs save in), `keeps_best` (bool),
    `num_weights` and `slot_names`.

    Raises:
        UserError: names the folder, and what is free and needed.
    """
    folder = plan.settings.output_dir
    if not files.is_local(folder):
        return "{} is remote: not looked at".format(folder)
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if not (os.path.isdir(place) and os.access(place, os.W_OK)):
        raise UserError(
            "--output_dir={} cannot be written to: {} is {}".format(
                folder, place, "read-only for you" if os.path.isdir(place) else "a file"
            )
        )
    size = 4 * plan.num_weights * (1 + len(plan.slot_names))  # float32
    # One more while it is written, and the best one.
    number = len(plan.folders) * (plan.settings.keep_checkpoint_max + 1 + plan.keeps_best)
    saved = [files.glob(os.path.join(run, "*.data-*")) for run in plan.folders]
    there = sum(files.size(path) for paths in saved for path in paths)
    free = shutil.disk_usage(place).free
    needed = max(0, number * size - there)
    if plan.args.do_train and free < needed:
        raise UserError(
            "--output_dir={} has {} free but {} checkpoints of {} need {}: make room, or lower "
            "--keep_checkpoint_max={}".format(
                folder,
                devices.gigabytes(free),
                number,
                devices.gigabytes(size),
                devices.gigabytes(needed),
                plan.settings.keep_checkpoint_max,
            )
        )
    return "{}: {} free, a checkpoint takes {}, {} at most".format(
        folder, devices.gigabytes(free), devices.gigabytes(size), number
    )


def look_at_start(plan):
    """Find out whether the run resumes, starts from a checkpoint's weights or afresh.

    Needs `settings`, `config`, `shapes` (of the model's weights, by name) and `slot_names`; sets
    `start`, and in `settings` the checkpoint that was found.
    """
    folder = plan.settings.output_dir
    plan.start = find_start(plan, folder)
    plan.settings = plan.settings._replace(init_checkpoint=plan.start.checkpoint)
    return compare_start(plan, plan.start, folder)


def find_start(plan, folder):
    """Return the `run_folder.Start` of the run in a folder. Needs `settings`."""
    return run_folder.find_start(
        folder,
        plan.settings.init_checkpoint,
        plan.args.do_train,
        mend=not plan.args.check_only,
    )


def compare_start(plan, start, folder, new_variables=None):
    """Hold what a run starts from against the model; returns what was found in words.

    Args:
        plan: `Plan` with `settings`, `config`, `shapes` and `slot_names`.
        start: `run_folder.Start`.
        folder: str, of the run.
        new_variables: str, pattern of the variables that a checkpoint of another run need not
            have, or None.
    """
    settings, do_train = plan.settings, plan.args.do_train
    if start.mode == "fresh":
        return "fresh: random weights, step 0"
    if start.is_own:
        slots = plan.slot_names if do_train else ()
        shapes = dict(plan.shapes)
        for name, shape in plan.shapes.items():
            shapes.update((name + "/" + slot, shape) for slot in slots)
        found = restore.check_same_run(shapes, start.checkpoint, folder)
    else:
        found = restore.check_warm_start(
            plan.shapes,
            start.checkpoint,
            new_variables,
            settings.allow_missing,
            fewer_positions=True,
            more_pieces=settings.allow_vocab_resize,
        )
    model_files.check_config(plan.config, start.checkpoint)
    return "{}: {}, step {}; {} variables loaded, {} missing, {} unused".format(
        start.mode, start.checkpoint, start.step, *[len(names) for names in found[:3]]
    )
