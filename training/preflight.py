"""Checks before any run, see `common.checks`: vocabulary of records, devices, disk, checkpoint."""

import math
import os
import re
import shutil
import sys
from typing import Dict, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from checkpointing import find, model_files, new_pieces, restore, run_folder
from checkpointing.checkpoint_reader import Checkpoint
from common import files
from common.errors import UserError
from tfrecords import manifest
from training import best_checkpoint, devices, memory, placement, run_report, tpu

RUN_CHECKPOINT = re.compile(re.escape(run_folder.BASENAME) + r"-\d+\.index$")


class Model(NamedTuple):
    """A model's config and the shapes of its weights."""

    config: NamedTuple  # `AlbertConfig`
    shapes: dict  # variable name -> list of int

    @property
    def num_weights(self):
        return sum(int(np.prod(shape)) for shape in self.shapes.values())


class Schedule(NamedTuple):
    """How the weights are trained."""

    optimizer: NamedTuple  # `optimization.OptimizerConfig`
    slot_names: Tuple[str, ...]  # names of the optimizer's variables for each weight
    other_variables: Dict[str, list]  # name -> shape, of the other variables of training
    train_batch_size: int
    eval_every_steps: int = 0  # 0: only at the end
    untrained: str = "$^"  # pattern of the weights that the loss does not depend on

    def made_with(self, model, settings, **others):
        """Return the settings that the weights depend on: a dict of name to JSON value.

        Args:
            model: `Model`.
            settings: `flags.RunSettings`.
            **others: further settings, such as those that decide `OptimizerConfig.rate_factors`.
        """
        values = dict(self.optimizer._asdict(), train_batch_size=self.train_batch_size)
        return dict(model.config.to_dict(), **dict(values, precision=settings.precision, **others))


# ------------------------------------------------------------------------------- checks


def model_line(path, model):
    """Return the line of a model: its file, layout, L, H and number of weights."""
    config = model.config
    return "{}: layout {}, L = {}, H = {}, {:,} weights".format(
        path, config.layout, config.num_hidden_layers, config.hidden_size, model.num_weights
    )


def check_records_vocabulary(args, records):
    """Compare the vocabularies of the records, of the run and of the model.

    Args:
        args: has `output_dir`, `bert_config_file` and `init_checkpoint`.
        records: has `paths`, of record files.

    Returns:
        (sha256 of the vocabulary or None, line).

    Raises:
        UserError: if the run in output_dir was trained with another vocabulary.
    """
    manifests = manifest.find_manifests(records.paths)
    known = [path for path in records.paths if (manifests[path] or {}).get("vocab_sha256")]
    if not known:
        return None, "not known: there is no {} beside the records".format(files.MANIFEST_SUFFIX)
    path, contents = known[0], manifests[known[0]]
    sha256 = contents["vocab_sha256"]
    before = run_report.read(args.output_dir).get("vocab_sha256")
    if before not in (None, sha256):
        raise UserError(
            "{} was made with another vocabulary (sha256 {}...) than the records that {} was "
            "trained on ({}...): give those, or another --output_dir".format(
                path, sha256[:12], args.output_dir, before[:12]
            )
        )
    for source, expected in _vocabularies_of_model(args, contents.get("vocab_size")):
        if sha256 not in expected:
            tf.logging.warning(
                "%s was made with another vocabulary than %s: its ids mean other pieces here",
                path,
                source,
            )
    return sha256, "{} pieces, sha256 {}...".format(contents.get("vocab_size"), sha256[:12])


def _vocabularies_of_model(args, vocab_size):
    """Yield (file, set of sha256) of the files that show the vocabulary of the model.

    The files are beside the config or the initial checkpoint. The sha256 that a run recorded is
    left out if the model has another number of pieces, because a larger vocabulary may have new
    pieces.
    """
    for folder in {os.path.dirname(args.bert_config_file), _folder(args.init_checkpoint)}:
        vocabularies = files.glob(os.path.join(folder, "vocab*.txt")) if folder else []
        if vocabularies:
            yield vocabularies[0], set(map(files.vocabulary_sha256, vocabularies))
    prefix = os.path.join(_folder(args.init_checkpoint) or "", "model.ckpt")
    config = args.init_checkpoint and model_files.find(prefix, model_files.CONFIG)
    if config and files.read_json(config).get("vocab_size") == vocab_size:
        source, recorded = run_report.recorded_vocabulary(prefix)
        if recorded:
            yield source, {recorded}


def vocabulary_of_records(records, sha256):
    """Return the path of the vocabulary with which records were made, or None if it is gone."""
    for _, contents in manifest.first_of_each(manifest.find_manifests(records.paths)):
        path = contents.get("flags", {}).get("vocab_file")
        if path and files.exists(path) and files.vocabulary_sha256(path) == sha256:
            return path
    return None


def _folder(checkpoint_path):
    if checkpoint_path and not files.is_folder(checkpoint_path):
        return os.path.dirname(checkpoint_path)
    return checkpoint_path


# Rates that are known to work for a model of H = 768: optimizer -> (rate, batch).
KNOWN_RATES = {
    "lamb": (0.00176, 4096),  # albert_zh's and Google's ALBERT
    "adamw": (1e-4, 256),  # BERT
}
SUITED_FACTOR = 16


def warn_of_learning_rate(optimizer, learning_rate, batch_size, hidden_size):
    """Warn of a learning rate that is far from the rates that are known to work.

    The rate grows with the root of the batch (arXiv 1904.00962, section 3) and falls with the
    width (arXiv 2203.03466, table 8). Short runs work with higher rates too, so only rates that
    are 16 times too high or too low get a warning.

    Args:
        optimizer: str; one without an entry in `KNOWN_RATES` gets no warning.
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
            "--learning_rate=%g is far from %.2g, a usual rate for %s with a batch of %d and "
            "H = %d: %s",
            learning_rate,
            suited,
            optimizer,
            batch_size,
            hidden_size,
            "training may diverge" if learning_rate > suited else "training may take very long",
        )


def check_tpu(settings, predicts=False):
    """Find the cores of the TPU and fit the batches of evaluation and prediction to them.

    Args:
        settings: `flags.RunSettings`.
        predicts: bool, whether the run predicts.

    Returns:
        (`flags.RunSettings`, line).

    Raises:
        UserError: if no TPU answers, or if the run predicts and the TPU has several hosts.
    """
    if not settings.use_tpu:
        return settings, "none"
    found = tpu.find(settings)
    if predicts and found.num_hosts > 1:
        raise UserError(
            "this TPU has {} hosts, and TPUEstimator scores and predicts on one host only: train "
            "here with --do_eval=False --do_predict=False, then repeat the command on one host or "
            "a CPU with --do_train=False --do_eval=True".format(found.num_hosts)
        )
    sizes = {}
    for name in ("eval_batch_size", "predict_batch_size"):
        size = getattr(settings, name)
        if size and size % found.num_cores:
            sizes[name] = found.num_cores * math.ceil(size / found.num_cores)
            tf.logging.info(
                "--%s=%d becomes %d, a multiple of %d cores",
                name,
                size,
                sizes[name],
                found.num_cores,
            )
    line = "{} cores on {} hosts, generation {}{}".format(
        found.num_cores,
        found.num_hosts,
        found.generation,
        "" if settings.tpu_generation else " (assumed; --tpu_generation changes it)",
    )
    return settings._replace(
        num_tpu_cores=found.num_cores, tpu_generation=found.generation, **sizes
    ), line


def check_placement(settings, execution, step_memory, train_batch_size, resumed=None):
    """Decide how a batch is divided among devices and micro-batches.

    Args:
        settings: `flags.RunSettings`.
        execution: `modeling.Execution`.
        step_memory: `memory.StepMemory`.
        train_batch_size: int, or None if the run does not train.
        resumed: str, folder of the run that goes on, or None.

    Returns:
        (`placement.Computation`, line).
    """
    before = run_report.read(resumed).get("placement") if resumed else None
    placed = train_batch_size and placement.place(settings, train_batch_size, step_memory, before)
    line = "no training"
    if placed:
        line = "batch {} = {} replicas x {} micro-batches of {}".format(
            placed.batch_size, placed.num_replicas, placed.num_micro_batches, placed.micro_batch
        )
    tf.logging.info(
        "TensorFlow %s, numpy %s, Python %s; %s; %s",
        tf.version.VERSION,
        np.__version__,
        sys.version.split()[0],
        memory.describe_devices(settings),
        line,
    )
    if devices.accelerator(settings) is None:
        tf.logging.warning("No GPU found: running on the CPU")
    return placement.Computation(execution, step_memory, placed or None), line


def check_memory(settings, computation):
    """Compare an estimate of the memory of training with the memory of the device.

    Args:
        settings: `flags.RunSettings`.
        computation: `placement.Computation`.

    Returns:
        (None, line).
    """
    if not computation.placement:
        return None, "no training"
    free = memory.free_memory(settings)
    step_memory, micro_batch = computation.step_memory, computation.placement.micro_batch
    weights = step_memory.weight_bytes(computation.placement.num_micro_batches > 1)
    activations = micro_batch * step_memory.bytes_per_example
    if weights + activations > free.num_bytes:
        tf.logging.warning(
            "By estimate this step does not fit into memory: try --recompute_activations=True, a "
            "smaller --micro_batch_size or a smaller --max_seq_length"
        )
    line = "about {} for weights, gradients and slots, {} for the activations of {} at a time; "
    line += "{} are free on the {}"
    return None, line.format(
        memory.gigabytes(weights),
        memory.gigabytes(activations),
        "one example" if micro_batch == 1 else "{} examples".format(micro_batch),
        memory.gigabytes(free.num_bytes),
        free.device,
    )


def check_disk(settings, folders, num_kept, model, schedule):
    """Check that output_dir can be written to and has room for the checkpoints.

    Args:
        settings: `flags.RunSettings`.
        folders: list of str, output_dir or the folders in it where runs save checkpoints.
        num_kept: int, most checkpoints in a folder; 0 without training.
        model: `Model`.
        schedule: `Schedule`.

    Returns:
        (None, line).

    Raises:
        UserError: names the folder, its free bytes and the bytes that it needs.
    """
    folder = settings.output_dir
    if not files.is_local(folder):
        return None, "{} is remote: not checked".format(folder)
    parent = os.path.abspath(folder)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not (os.path.isdir(parent) and os.access(parent, os.W_OK)):
        raise UserError(
            "--output_dir={} cannot be written to: {} is {}".format(
                folder, parent, "read-only for you" if os.path.isdir(parent) else "a file"
            )
        )
    size = 4 * model.num_weights * (1 + len(schedule.slot_names))  # float32
    number = len(folders) * num_kept
    saved = [files.glob(os.path.join(run, "*.data-*")) for run in folders]
    used = sum(files.size(path) for paths in saved for path in paths)
    free, needed = shutil.disk_usage(parent).free, max(0, number * size - used)
    if free < needed:
        raise UserError(
            "--output_dir={} has {} free but {} checkpoints of {} need {}: make room, or lower "
            "--keep_checkpoint_max={}".format(
                folder,
                memory.gigabytes(free),
                number,
                memory.gigabytes(size),
                memory.gigabytes(needed),
                settings.keep_checkpoint_max,
            )
        )
    return None, "{}: {} free, a checkpoint takes {}, {} at most".format(
        folder, memory.gigabytes(free), memory.gigabytes(size), number
    )


def refuse_archive(folder, resume_foreign=False):
    """Raise `UserError` if a folder holds checkpoints and no run of this code saved any of them.

    Every run writes one of `run_folder.RUN_FILES` and then checkpoints that are called
    `model.ckpt-STEP`. A run in the folder of an archive would write its results, its best
    checkpoint and its config beside the files of the archive.

    Args:
        folder: str.
        resume_foreign: bool, whether a flag allows it.
    """
    names = [os.path.basename(path) for path in files.glob(os.path.join(folder, "*.index"))]
    has_steps = any(map(RUN_CHECKPOINT.match, names))
    if not names or (has_steps and run_folder.holds_run_files(folder)):
        return
    can_resume = has_steps or find.latest(folder)
    if resume_foreign and can_resume:
        return
    prefix = os.path.join(folder, names[0][: -len(".index")])
    message = (
        "--output_dir={} holds {}, which no run saved, so it is not continued: give "
        "--init_checkpoint={}, and another --output_dir"
    ).format(folder, os.path.basename(prefix), prefix)
    if can_resume:
        message += "; or, to go on at its step with its optimizer's slots, --resume_foreign=True"
    raise UserError(message)


def warn_of_finished_run(start, num_train_steps, flag):
    """Warn if training would resume at or after its last step.

    Args:
        start: `run_folder.Start`.
        num_train_steps: int.
        flag: str, the flag that decides `num_train_steps`.
    """
    if start.mode == "resume" and start.step >= num_train_steps:
        tf.logging.warning(
            "NOTHING TO TRAIN: %s is at step %d, and training ends at step %d: raise %s to go on, "
            "or give another --output_dir to start again",
            start.checkpoint,
            start.step,
            num_train_steps,
            flag,
        )


def check_start(args, folder):
    """Find the checkpoint that the run in a folder starts from.

    Args:
        args: has `output_dir`, `do_train`, `init_checkpoint`, `resume_foreign` and `check_only`;
            with `check_only` a damaged folder is not repaired.
        folder: str, of the run.

    Returns:
        (`run_folder.Start`, line).

    Raises:
        UserError: as in `refuse_archive` and `run_folder.find_start`.
    """
    for place in sorted({args.output_dir, folder}):  # runs of several seeds have subfolders
        refuse_archive(place, args.resume_foreign)
    start = run_folder.find_start(
        folder, args.init_checkpoint, args.do_train, mend=not args.check_only
    )
    if args.do_train and not start.is_own:
        _refuse_remains(folder)
    if start.mode == "fresh":
        return start, "fresh: random weights, step 0"
    ignored = start.is_own and args.init_checkpoint
    line = "{}: {}, step {}".format(start.mode, start.checkpoint, start.step)
    return start, line + (run_folder.IGNORED.format(ignored) if ignored else "")


def _refuse_remains(folder):
    """Raise `UserError` if a folder has only the scores or the best checkpoint of a run.

    A new run in the folder would take the scores or the checkpoint for its own. The scores of step
    0 do not count: a run evaluates step 0 before it saves a checkpoint.
    """
    best = os.path.join(folder, model_files.BEST)
    history = os.path.join(folder, best_checkpoint.HISTORY)
    remains = [best] * bool(run_folder.best_checkpoint(folder))
    remains += [history] * any(best_checkpoint.read_history(folder))
    if remains:
        raise UserError(
            "{} is left of an earlier run, whose checkpoints are gone: remove it, or give another "
            "--output_dir".format(" and ".join(remains))
        )


def check_weights(
    settings, folder, start, model, schedule=None, new_variables=None, vocab_file=None
):
    """Compare the checkpoint that a run starts from with the model.

    Args:
        settings: `flags.RunSettings`.
        folder: str, of the run.
        start: `run_folder.Start`.
        model: `Model`.
        schedule: `Schedule`, or None if the run does not train.
        new_variables: str, pattern of the variables that a checkpoint of another run may lack, or
            None.
        vocab_file: str, path of the WordPiece vocabulary, or None where it is not known.

    Returns:
        (None, line).

    Raises:
        UserError: if the checkpoint does not fit the model or the optimizer.
    """
    if schedule and not start.is_own:
        model_files.refuse_to_replace(folder, model.config, vocab_file)
    if start.mode == "fresh":
        return None, "random"
    if start.is_own:
        shapes = _saved_shapes(model, schedule) if schedule else model.shapes
        optimizer = run_report.made_with(folder).get("optimizer")
        is_same = not schedule or optimizer == schedule.optimizer.optimizer
        other = None if is_same else optimizer
        matched = restore.check_same_run(shapes, start.checkpoint, folder, other)
        restore.log_restore(matched, start.checkpoint)
    else:
        matched = restore.check_warm_start(
            model.shapes,
            start.checkpoint,
            new_variables,
            settings.allow_missing,
            may_resize=settings.may_resize,
        )
    _check_config(settings, start, model.config, schedule)
    line = "{} variables loaded, {} missing, {} unused".format(
        len(matched.assignment), len(matched.missing), len(matched.unused)
    )
    if new_pieces.WORD_TABLE in matched.resized.values():
        num_pieces = Checkpoint(start.checkpoint).model_shapes()[new_pieces.WORD_TABLE][0]
        if vocab_file:
            new_pieces.check(vocab_file, start.checkpoint, num_pieces)
        line += "; pieces after the first {:,} start with random weights".format(num_pieces)
    return None, line


def _check_config(settings, start, config, schedule):
    """Compare a config with a checkpoint's config; flags may allow more layers in training."""
    layers = ["num_hidden_layers"]
    try:
        is_deeper = settings.allow_more_layers and not start.is_own
        model_files.check_config(config, start.checkpoint, layers * is_deeper)
    except UserError as error:
        if is_deeper or start.is_own or not schedule:
            raise
        model_files.check_config(config, start.checkpoint, layers)
        text = "{}; to train from it with another number of layers, --allow_more_layers=True"
        raise UserError(text.format(error)) from error


def _saved_shapes(model, schedule):
    """Return the shapes of all variables in a checkpoint of training, by name."""
    shapes = dict(model.shapes, **schedule.other_variables)
    for name, shape in model.shapes.items():
        if not re.search(schedule.untrained, name):
            shapes.update((name + "/" + slot, shape) for slot in schedule.slot_names)
    return shapes
