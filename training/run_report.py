"""What came out of a run: a table for people, and JSON with all that is needed to repeat it."""

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import tensorflow.compat.v1 as tf

from checkpointing import restore
from common import files
from common.errors import UserError

RUN = "results.json"
# Files up to this size are told by their content.
HASHED_BYTES = 64 << 20


def write(output_dir, run, name=None, metrics=None, tables=""):
    """Write what a run was to `results.json`, and its metrics, too, to `NAME.json` and `NAME.txt`.

    All appear by rename.

    Args:
        output_dir: str, the folder.
        run: what `describe` returned; the metrics are added to its own.
        name: str, such as `eval_results`; needed where there are metrics.
        metrics: dict that json can write, or None; `NAME.txt` has those that are a number or str.
        tables: str, what `NAME.txt` has below them.
    """
    latest = tf.train.latest_checkpoint(output_dir)
    if latest:
        run["parameters"] = restore.count_weights(latest)
    if metrics:
        run["metrics"].update(metrics)
        cells = {key: _cell(metrics[key]) for key in metrics if not _is_nested(metrics[key])}
        width = max(map(len, cells))
        table = "".join("{:<{}}  {}\n".format(key, width, cells[key]) for key in cells)
        table += tables and "\n" + tables
        files.write_text(os.path.join(output_dir, name + ".txt"), table)
        _write_json(os.path.join(output_dir, name + ".json"), metrics)
        tf.logging.info("Results in %s/%s.json:\n%s", output_dir, name, table)
    _write_json(os.path.join(output_dir, RUN), run)


def read(output_dir):
    """Return the `results.json` of a folder as a dict, an empty one where there is none.

    Raises:
        UserError: if it is damaged.
    """
    path = os.path.join(output_dir, RUN)
    if not files.exists(path):
        return {}
    try:
        with files.open_file(path) as stream:
            return dict(json.loads(stream.read().decode("utf-8")))
    except (TypeError, ValueError) as error:
        raise UserError("{} is damaged ({}): remove it".format(path, error)) from error


def describe(script, args, start, **inputs):
    """Describe a run, so that it can be repeated and told from others.

    Args:
        script: str, name of the entry script.
        args: the parsed `FlagValues`.
        start: `run_folder.Start`.
        **inputs: what it reads: name to list of paths.

    Returns:
        dict that json can write.
    """
    given = [args[name].serialize() for name in args if args[name].present]
    return {
        "command": " ".join(shlex.quote(word) for word in [script] + sorted(given)),
        "versions": _versions(),
        "start": dict(mode=start.mode, step=start.step, **describe_checkpoint(start.checkpoint)),
        "inputs": {name: [_fingerprint(path) for path in inputs[name]] for name in sorted(inputs)},
        "metrics": {},
    }


def describe_checkpoint(prefix):
    """Return the prefix of a checkpoint, or None, and the hash of its index as a dict.

    The index holds checksums of all the weights, so its hash tells them, too.
    """
    sha256 = prefix and files.sha256(prefix + ".index")
    return {"checkpoint": prefix, "index_sha256": sha256}


def _versions():
    return {
        "python": sys.version.split()[0],
        "tensorflow": tf.version.VERSION,
        "numpy": np.__version__,
        "commit": _commit(),
    }


def _commit():
    """Return the commit of this code, "+changes" behind it where files differ, or None."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        top, commit = _git(root, "rev-parse", "--show-toplevel", "HEAD").split()
        if not os.path.samefile(top, root):  # some other repository that this lies in
            return None
        return commit + ("+changes" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _git(root, *words):
    command = ["git", "-C", root] + list(words)
    output = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10)
    return output.decode("utf-8").strip()


def _fingerprint(path):
    """Identify a file: records by their manifest, small files by content, others by size."""
    manifest = path + files.MANIFEST_SUFFIX
    if files.exists(manifest):
        return {"path": path, "manifest_sha256": files.sha256(manifest)}
    if files.size(path) <= HASHED_BYTES:
        return {"path": path, "sha256": files.sha256(path)}
    return {"path": path, "bytes": files.size(path)}


def _write_json(path, values):
    files.write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _is_nested(value):
    return isinstance(value, (dict, list))


def _cell(value):
    return "{:.6g}".format(value) if isinstance(value, float) else value
