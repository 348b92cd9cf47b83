"""The report of a run: its scores as a text table, and JSON with the data to repeat the run."""

import contextlib
import hashlib
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import tensorflow.compat.v1 as tf

from checkpointing import model_files
from checkpointing.checkpoint_reader import Checkpoint
from common import files
from common.errors import UserError

REPORT = "results.json"
# File of a run -> its field with the vocabulary's sha256. The first file with this field counts.
_VOCABULARY_RECORDS = {model_files.DESCRIPTION: "vocabulary_sha256", REPORT: "vocab_sha256"}
# Split whose file may change before a run continues -> what this change means.
OTHER_DATA = {
    "train": "{} goes on with what it learned from the earlier file, even if that file was wrong",
    "dev": "{}/best was chosen by the scores of the earlier file, which do not compare with the "
    "new ones",
}
# Files up to this size are identified by their content, larger ones by their size.
HASHED_BYTES = 64 << 20


def write(output_dir, report, name=None, metrics=None, tables=""):
    """Write a report to `results.json`, and its new metrics also to `NAME.json` and `NAME.txt`.

    Each file appears only when it is complete, by a rename.

    Args:
        output_dir: str, the folder.
        report: dict that `new_report` returned; gets the metrics.
        name: str, such as `eval_results`; needed with metrics.
        metrics: dict that json can write, or None; `NAME.txt` has only its numbers and texts.
        tables: str, text to append to `NAME.txt`.
    """
    if not report.get("placement"):  # an evaluation keeps the one of the training
        report["placement"] = read(output_dir).get("placement")
    latest = tf.train.latest_checkpoint(output_dir)
    if latest:
        report["parameters"] = Checkpoint(latest).count_weights()
    if metrics:
        report["metrics"].update(metrics)
        cells = {key: _cell(metrics[key]) for key in metrics if not _is_nested(metrics[key])}
        width = max(map(len, cells))
        table = "".join("{:<{}}  {}\n".format(key, width, cells[key]) for key in cells)
        table += tables and "\n" + tables
        files.write_text(os.path.join(output_dir, name + ".txt"), table)
        files.write_json(os.path.join(output_dir, name + ".json"), metrics)
        tf.logging.info("Results in %s/%s.json:\n%s", output_dir, name, table)
    files.write_json(os.path.join(output_dir, REPORT), report)


def read(output_dir):
    """Return the `results.json` of a folder as a dict, an empty one where there is none.

    Raises:
        UserError: if the file is damaged.
    """
    path = os.path.join(output_dir, REPORT)
    if not files.exists(path):
        return {}
    try:
        return files.read_json(path)
    except UserError as error:
        raise UserError("{} is damaged ({}): remove it".format(path, error)) from error


def recorded_vocabulary(prefix):
    """Return (path, sha256) of the file that records a checkpoint's vocabulary, or two None."""
    for name, field in _VOCABULARY_RECORDS.items():
        path = model_files.find(prefix, name)
        with contextlib.suppress(UserError):  # it is damaged
            content = files.read_json(path) if path else None
            if isinstance(content, dict) and content.get(field):
                return path, content[field]
    return None, None


def made_with(folder):
    """Return the settings with which the run in a folder last trained: a dict, perhaps empty."""
    return read(folder).get("made_with") or {}


def changed_settings(folder, settings):
    """Return the settings of a run that differ from the settings of its last start.

    Args:
        folder: str, of the run.
        settings: dict of name to JSON value; names that the last start did not keep are left out.

    Returns:
        list of str such as `learning_rate 0.0001, now 2e-05`; empty if there was no run.
    """
    before, now = made_with(folder), json.loads(json.dumps(settings))
    return [
        "{} {}, now {}".format(name, before[name], now[name])
        for name in sorted(set(before) & set(now))
        if before[name] != now[name]
    ]


def check_settings(folder, settings, must_agree=False):
    """Warn of a run that continues with other settings; raise UserError if they `must_agree`.

    Args:
        folder, settings: as in `changed_settings`.
        must_agree: bool.
    """
    changed = changed_settings(folder, settings)
    if not changed:
        return
    line = "{} was made with other settings: {}".format(folder, "; ".join(changed))
    if must_agree:
        raise UserError(line + ": give another --output_dir, or the same settings as before")
    tf.logging.warning("%s; the run still continues from its checkpoint", line)
    before = made_with(folder)
    if before.get("encoding") != settings.get("encoding"):
        return  # Other flags of the encoding make other rows of the same files.
    for split, consequence in OTHER_DATA.items():
        now, then = [values.get("data", {}).get(split) for values in (settings, before)]
        if now and then and now != then:
            line = "OTHER %s DATA: %s; to start again give another --output_dir"
            tf.logging.warning(line, split.upper(), consequence.format(folder))


def new_report(script, args, start, placement=None, **inputs):
    """Return the report of a run without metrics: everything that is needed to repeat the run.

    Args:
        script: str, name of the entry script.
        args: the parsed `FlagValues`.
        start: `run_folder.Start`.
        placement: `placement.Placement`; None if the run does not train.
        **inputs: lists of paths of the files that the run reads, by name.

    Returns:
        dict that json can write.
    """
    given = [args[name].serialize() for name in args if args[name].present]
    return {
        "command": " ".join(shlex.quote(word) for word in [script] + sorted(given)),
        "versions": _versions(),
        "start": dict(mode=start.mode, step=start.step, **identify_checkpoint(start.checkpoint)),
        "inputs": {name: [_fingerprint(path) for path in inputs[name]] for name in sorted(inputs)},
        "placement": placement.sizes if placement else None,
        "metrics": {},
    }


def identify_checkpoint(prefix):
    """Return a dict of a checkpoint's prefix and the hash of its index; both may be None.

    The index holds checksums of all weights, so its hash identifies the weights as well.
    """
    sha256 = prefix and files.sha256(prefix + ".index")
    return {"checkpoint": prefix, "index_sha256": sha256}


def identify_files(paths):
    """Return a hash of the contents of files, or of the sizes of large ones; not of their paths."""
    prints = [_fingerprint(path) for path in paths]
    contents = [str(value) for one in prints for name, value in one.items() if name != "path"]
    return hashlib.sha256(" ".join(sorted(contents)).encode("utf-8")).hexdigest()


def _versions():
    return {
        "python": sys.version.split()[0],
        "tensorflow": tf.version.VERSION,
        "numpy": np.__version__,
        "commit": _commit(),
    }


def _commit():
    """Return the commit of this code, followed by "+changes" where files differ; or None."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        top, commit = _git(root, "rev-parse", "--show-toplevel", "HEAD").split()
        if not os.path.samefile(top, root):  # another repository, which contains this folder
            return None
        return commit + ("+changes" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _git(root, *words):
    command = ["git", "-C", root] + list(words)
    output = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10)
    return output.decode("utf-8").strip()


def _fingerprint(path):
    """Return a dict that identifies a file: by manifest, content or size."""
    manifest = path + files.MANIFEST_SUFFIX
    if files.exists(manifest):
        return {"path": path, "manifest_sha256": files.sha256(manifest)}
    if files.size(path) <= HASHED_BYTES:
        return {"path": path, "sha256": files.sha256(path)}
    return {"path": path, "bytes": files.size(path)}


def _is_nested(value):
    return isinstance(value, (dict, list))


def _cell(value):
    return "{:.6g}".format(value) if isinstance(value, float) else value
