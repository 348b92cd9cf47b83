"""The checkpoints in a run's own folder: which one it goes on from, whatever a kill has left."""

import os
import re
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

from checkpointing import model_files, restore
from common import files
from common.errors import UserError

BASENAME = "model.ckpt"


class Start(NamedTuple):
    """Where a run starts from."""

    mode: str  # A key of START_LINES.
    checkpoint: Optional[str]  # prefix
    step: int
    is_own: bool = False  # Whether the checkpoint is one of the run's folder.


START_LINES = {
    "resume": "RESUME at step {0.step} from {0.checkpoint}: weights, optimizer, place in the data",
    "warm start": "WARM START at step 0 from {0.checkpoint}: its weights alone",
    "fresh": "FRESH START at step 0 from random weights",
    "evaluation": "NO TRAINING: {0.checkpoint} as it is",
}


def find_start(output_dir, init_checkpoint, do_train=True, mend=True):
    """Decide which mode a run is in, and say so in one line of the log.

    Args:
        output_dir: str, the run's folder.
        init_checkpoint: str, a checkpoint or a folder with one, for a warm start; or None. It
            counts only where output_dir holds no checkpoint.
        do_train: bool; without training there is only the mode "evaluation".
        mend: bool, as `recover`.

    Returns:
        `Start`.

    Raises:
        UserError: as `recover` and `restore.find_checkpoint`; if there is nothing to evaluate.
    """
    own = recover(output_dir, mend)
    if own:
        start = Start("resume", own, step_of(own), is_own=True)
    elif init_checkpoint:
        start = Start("warm start", restore.find_checkpoint(init_checkpoint), 0)
    elif do_train:
        start = Start("fresh", None, 0)
    else:
        raise UserError(
            "--output_dir={} holds no checkpoint: train with --do_train=True, or name one with "
            "--init_checkpoint".format(output_dir)
        )
    if not do_train:
        start = start._replace(mode="evaluation")
    line = START_LINES[start.mode].format(start)
    if own and init_checkpoint:
        line += "; --init_checkpoint={} is ignored, for --output_dir has checkpoints".format(
            init_checkpoint
        )
    tf.logging.info(line)
    return start


def find_best(path):
    """Return the prefix of the best checkpoint of a run, if one was kept; else of what is there.

    Args:
        path: str, the folder of a run, or what `restore.find_checkpoint` takes.

    Raises:
        UserError: as `restore.find_checkpoint`.
    """
    return best_checkpoint(path) or restore.find_checkpoint(path)


def best_checkpoint(folder):
    """Return the prefix of the best checkpoint of a run, or None where none was kept."""
    return restore.latest(os.path.join(folder, model_files.BEST))


def step_of(prefix):
    """Return the global step that a run's own checkpoint was saved at.

    Raises:
        UserError: if it was not saved by a run.
    """
    reader = tf.train.load_checkpoint(prefix)
    if not reader.has_tensor(tf.GraphKeys.GLOBAL_STEP):
        raise UserError(
            "{} has no global_step, so no run goes on from it: give it to --init_checkpoint, and "
            "another --output_dir".format(prefix)
        )
    return int(reader.get_tensor(tf.GraphKeys.GLOBAL_STEP))


def latest_step(output_dir):
    """Return the global step of the latest checkpoint in a folder, 0 where there is none."""
    latest = tf.train.latest_checkpoint(output_dir)
    return step_of(latest) if latest else 0


def recover(output_dir, mend=True):
    """Find the checkpoint to go on from, whatever a kill or a full disk has left of the last one.

    TensorFlow keeps the names of a folder's checkpoints in the file `checkpoint` there and starts
    anew, over the old ones, where that file is of no use. Here the newest whole checkpoint takes
    its place, with a warning: a run that is killed while it saves needs nobody's help.

    Args:
        output_dir: str, the run's folder; it need not exist.
        mend: bool, whether to write that file anew where it is of no use.

    Returns:
        str, the prefix of the latest whole checkpoint, or None where no save was ever completed.

    Raises:
        UserError: if a save was completed once but no checkpoint is whole.
    """
    state = os.path.join(output_dir, restore.STATE)
    named = _named_checkpoint(output_dir)
    prefixes = _prefixes(output_dir)
    damages = []
    for prefix in ([named] if named else []) + [p for p in prefixes if p != named]:
        damage = restore.find_damage(prefix)
        if not damage:
            break
        damages.append("; {} is damaged ({})".format(prefix, damage))
    else:
        if not tf.io.gfile.exists(state):  # It is written after the first checkpoint.
            return None
        raise UserError(
            "{} holds no whole checkpoint{}: restore one from a copy, or remove {} to start "
            "again".format(output_dir, "".join(damages), state)
        )
    if prefix != named:
        if mend:
            _make_latest(output_dir, prefix)
        tf.logging.warning(
            "%s is of no use%s: the run goes on from the last whole checkpoint, %s",
            state,
            "".join(damages),
            prefix,
        )
    return prefix


def remove_unfinished(output_dir):
    """Remove what a save that was killed has left; not while another process saves there."""
    for left in files.glob(os.path.join(output_dir, BASENAME + "-*_temp*")):
        tf.io.gfile.rmtree(left)


def go_back(output_dir, last_step):
    """Make the newest checkpoint up to a step the one that a run goes on from; removes nothing.

    Returns:
        str, its prefix; where there is none, that of the latest checkpoint, or None.
    """
    older = [prefix for prefix in _prefixes(output_dir) if _step(prefix) <= last_step]
    if not older:
        return tf.train.latest_checkpoint(output_dir)
    _make_latest(output_dir, older[0])
    return older[0]


def _named_checkpoint(output_dir):
    """Return the prefix that the folder's state file names as the latest one, or None."""
    try:
        state = tf.train.get_checkpoint_state(output_dir)
    except (tf.errors.OpError, ValueError):  # not text
        return None
    return state.model_checkpoint_path if state and state.model_checkpoint_path else None


def _prefixes(output_dir):
    """Return the prefixes of a run's own checkpoints, the latest first."""
    found = files.glob(os.path.join(output_dir, BASENAME + "-*.index"))
    prefixes = [path[: -len(".index")] for path in found]
    return sorted((path for path in prefixes if _step(path) is not None), key=_step, reverse=True)


def _step(prefix):
    match = re.search(r"-(\d+)$", prefix)
    return int(match.group(1)) if match else None


def _make_latest(folder, prefix):
    """Make a run's checkpoint the latest one; later ones are passed over."""
    prefixes = [other for other in _prefixes(folder)[::-1] if _step(other) <= _step(prefix)]
    write_state(folder, prefixes)


def write_state(folder, prefixes):
    """Write the file that names a folder's checkpoints.

    Args:
        folder: str.
        prefixes: list of str, of checkpoints in it, the latest one last.
    """
    names = [("model_checkpoint_path", prefixes[-1])]
    names += [("all_model_checkpoint_paths", prefix) for prefix in prefixes]
    lines = ['{}: "{}"\n'.format(key, os.path.basename(prefix)) for key, prefix in names]
    files.write_text(os.path.join(folder, restore.STATE), "".join(lines))


def copy(prefix, folder):
    """Copy a checkpoint into a folder of its own, in place of the one there.

    The folder names the former one until the new one is whole, and keeps it as long.

    Args:
        prefix: str.
        folder: str; made where it does not exist.
    """
    tf.io.gfile.makedirs(folder)
    target = os.path.join(folder, os.path.basename(prefix))
    parts = [path[len(prefix) :] for path in files.glob(prefix + ".data-*")]
    for part in parts + [".index"]:
        tf.io.gfile.copy(prefix + part, target + part + files.TEMPORARY_SUFFIX, overwrite=True)
        files.rename(target + part + files.TEMPORARY_SUFFIX, target + part)
    write_state(folder, [target])
    for path in files.glob(os.path.join(folder, BASENAME + "-*")):
        if not path.startswith(target + "."):
            tf.io.gfile.remove(path)
