"""The checkpoints in a run's folder: which one the run starts from, also after a kill."""

import contextlib
import os
import re
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

from checkpointing import find, model_files
from checkpointing.checkpoint_reader import Checkpoint, find_damage
from checkpointing.eval_history import read_history
from common import files
from common.errors import UserError

BASENAME = "model.ckpt"
_OWN = re.compile(re.escape(BASENAME) + r"-\d+$")  # end of the prefix of a run's own checkpoint
# Files that runs write into their folders beside checkpoints: report, labels, index of records.
RUN_FILES = ("results.json", model_files.DESCRIPTION, "record_index.json")


class Start(NamedTuple):
    """Where a run starts from."""

    mode: str  # key of START_LINES
    checkpoint: Optional[str]  # prefix
    step: int
    is_own: bool = False  # whether the checkpoint is in the run's folder


START_LINES = {
    "resume": "RESUME at step {0.step} from {0.checkpoint}: weights, optimizer, place in the data",
    "warm start": "WARM START at step 0 from {0.checkpoint}: its weights alone",
    "fresh": "FRESH START at step 0 from random weights",
    "evaluation": "NO TRAINING: {0.checkpoint} as it is",
}
IGNORED = "; --init_checkpoint={} is ignored, because --output_dir has checkpoints"


def find_start(output_dir, init_checkpoint, do_train=True, mend=True):
    """Decide which mode a run is in, and log it in one line.

    Args:
        output_dir: str, the run's folder.
        init_checkpoint: str, a checkpoint or a folder with one, for a warm start if output_dir
            holds no checkpoint; or None.
        do_train: bool; without training there is only the mode "evaluation".
        mend: bool, as in `recover`.

    Returns:
        `Start`.

    Raises:
        UserError: as in `recover` and `find.find_checkpoint`; if there is nothing to evaluate.
    """
    own = recover(output_dir, mend)
    if own:
        start = Start("resume", own, step_of(own), is_own=True)
    elif init_checkpoint:
        start = Start("warm start", find.find_checkpoint(init_checkpoint), 0)
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
        line += IGNORED.format(init_checkpoint)
    tf.logging.info(line)
    return start


def holds_run_files(folder):
    """Return whether a run of this code has written into a folder: one of `RUN_FILES` is there."""
    if any(files.exists(os.path.join(folder, name)) for name in RUN_FILES):
        return True
    # The config of a published archive lacks the field `layout`, which is our own.
    config = os.path.join(folder, model_files.CONFIG)
    with contextlib.suppress(UserError):
        return files.exists(config) and "layout" in files.read_json(config)
    return False


def find_best(path):
    """Return the best checkpoint of a run's folder, or the checkpoint that any other path names."""
    best = best_checkpoint(path)
    if not best:
        return find.find_checkpoint(path)
    warn_of_old_best(path, best)
    return best


def warn_of_old_best(folder, best):
    """Warn if a run has gone on with training since the evaluations that chose its best checkpoint.

    Args:
        folder: str, of the run.
        best: str, the prefix of the best checkpoint.
    """
    latest = find.latest(folder)
    evaluated = Checkpoint(best).step() or 0  # 0 for a slimmed checkpoint
    with contextlib.suppress(UserError):  # the history is damaged
        evaluated = max([evaluated, *read_history(folder)])
    if latest and (Checkpoint(latest).step() or 0) > evaluated:
        tf.logging.warning(
            "OLD BEST: %s is read, and the run has trained on to %s, which was not evaluated: the "
            "training command with --do_eval=True compares them",
            best,
            latest,
        )


def best_checkpoint(folder):
    """Return the prefix of a run's best checkpoint, or None where none was kept."""
    return find.latest(os.path.join(folder, model_files.BEST))


def step_of(prefix):
    """Return the global step of a checkpoint; raises UserError if no run saved it."""
    step = Checkpoint(prefix).step()
    if step is None:
        raise UserError(
            "{} has no global_step, so no run goes on from it: give it to --init_checkpoint, and "
            "another --output_dir".format(prefix)
        )
    return step


def latest_step(output_dir):
    """Return the global step of the latest checkpoint in a folder, or 0 if there is none."""
    latest = tf.train.latest_checkpoint(output_dir)
    return step_of(latest) if latest else 0


def recover(output_dir, mend=True):
    """Find the latest whole checkpoint, also after a kill or a full disk has damaged the last one.

    TensorFlow lists a folder's checkpoints in a file there that is called `checkpoint`. If the file
    `checkpoint` is damaged or names a damaged checkpoint, TensorFlow starts a new training over the
    old checkpoints. This function takes the newest whole checkpoint instead and logs a warning.

    Args:
        output_dir: str, the run's folder; it need not exist.
        mend: bool, whether to write a new file `checkpoint` where the old one is of no use.

    Returns:
        str, the prefix of the checkpoint, or None where no save was ever completed.

    Raises:
        UserError: if a save was completed once but no checkpoint is whole.
    """
    state = os.path.join(output_dir, find.STATE)
    named = find.latest(output_dir)
    prefixes = _prefixes(output_dir)
    damages = []
    for prefix in ([named] if named else []) + [p for p in prefixes if p != named]:
        damage = find_damage(prefix)
        if not damage:
            break
        damages.append("; {} is damaged ({})".format(prefix, damage))
    else:
        if not files.exists(state):  # TensorFlow writes this file after the first checkpoint
            return None
        raise UserError(
            "{} holds no whole checkpoint{}: restore one from a copy, or give another --output_dir "
            "to start again".format(output_dir, "".join(damages))
        )
    is_other = prefix != named or prefix != find.state_path(output_dir)
    if is_other or _names_others(output_dir):
        if mend:
            _make_latest(output_dir, prefix)
        if is_other:
            line = "%s is of no use%s: the run goes on from the last whole checkpoint, %s"
            tf.logging.warning(line, state, "".join(damages), prefix)
    return prefix


def _names_others(output_dir):
    """Return whether TensorFlow would delete checkpoints that no run saved in this folder.

    A run deletes old checkpoints that the state file lists. The state file of a copied folder lists
    the checkpoints of the original.
    """
    state = tf.train.get_checkpoint_state(output_dir)
    listed = set(map(os.path.abspath, state.all_model_checkpoint_paths))
    return not listed <= set(map(os.path.abspath, _prefixes(output_dir)))


def remove_unfinished(output_dir):
    """Remove the temporary folders of killed saves; not while another process saves there."""
    for folder in files.glob(os.path.join(output_dir, BASENAME + "-*_temp*")):
        tf.io.gfile.rmtree(folder)


def go_back(output_dir, last_step):
    """Make a run continue from its newest checkpoint up to a step; removes no checkpoint.

    Returns:
        str, the prefix of the newest checkpoint up to the step. If none exists, nothing changes and
        None is returned.
    """
    older = [prefix for prefix in _prefixes(output_dir) if _step(prefix) <= last_step]
    if not older:
        return None
    _make_latest(output_dir, older[0])
    return older[0]


def _prefixes(output_dir):
    """Return the prefixes of a run's own checkpoints, the latest first."""
    indexes = files.glob(os.path.join(output_dir, BASENAME + "-*.index"))
    prefixes = [path[: -len(".index")] for path in indexes]
    return sorted(filter(_OWN.search, prefixes), key=_step, reverse=True)


def _step(prefix):
    return int(prefix.rpartition("-")[2])


def _make_latest(folder, prefix):
    """Write a state file that names a checkpoint as the latest and no later one of the run."""
    prefixes = _prefixes(folder)[::-1]
    is_own = prefix in prefixes  # an archive's checkpoint may have any name
    older = [other for other in prefixes if _step(other) <= _step(prefix)] if is_own else [prefix]
    write_state(folder, older)


def write_state(folder, prefixes):
    """Write the file that names a folder's checkpoints.

    Args:
        folder: str.
        prefixes: list of str, of checkpoints, the latest one last; it may lie elsewhere.
    """
    names = [("model_checkpoint_path", prefixes[-1])]
    # TensorFlow deletes those that are listed here. An archive's own checkpoint stays.
    own = [prefix for prefix in prefixes if _OWN.search(prefix)]
    names += [("all_model_checkpoint_paths", prefix) for prefix in own]
    here = os.path.abspath(folder)
    lines = []
    for key, prefix in names:
        is_here = os.path.dirname(os.path.abspath(prefix)) == here
        lines.append('{}: "{}"\n'.format(key, os.path.basename(prefix) if is_here else prefix))
    files.write_text(os.path.join(folder, find.STATE), "".join(lines))


def copy(prefix, folder):
    """Copy a checkpoint into a folder that holds one checkpoint, in place of the older one.

    The older checkpoint stays there, and the folder's state file names it, until the copy is whole.

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
