"""Finds the checkpoint that a path names. If there is none, an error says what is there."""

import os
import re

import tensorflow.compat.v1 as tf

from common import files
from common.errors import UserError

FOREIGN = (
    "{} is not a TensorFlow checkpoint: `python convert_checkpoint.py from-huggingface FOLDER "
    "--output_dir=...` makes one of a folder of Hugging Face"
)
FOREIGN_SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
UNREADABLE = (
    "{} holds weights of Keras or Flax, which nothing here reads: fetch model.safetensors or "
    "pytorch_model.bin of the same model, for `python convert_checkpoint.py from-huggingface`"
)
UNREADABLE_SUFFIXES = (".h5", ".keras", ".msgpack")
# Files that a program computes with, but that hold no variables by name.
EXPORT_SUFFIXES = (".pb", ".tflite", ".onnx")
EXPORTED = "{} is an export, which holds no checkpoint: give the checkpoint that it was made from"
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
# The files of a SavedModel.
EXPORT, EXPORTED_WEIGHTS = "saved_model.pb", "variables/variables"
HUGGINGFACE_FILES = ("model.safetensors", "pytorch_model.bin")
# TensorFlow's name of the file that lists a folder's checkpoints.
STATE = "checkpoint"
PART_SUFFIX = re.compile(r"\.(meta|index|data-\d{5}-of-\d{5})$")


def find_checkpoint(path):
    """Return the prefix of the checkpoint that a flag names.

    Args:
        path: str, a prefix such as `albert_base_zh/bert_model.ckpt`, or a folder with one, or the
            state file `checkpoint` of a folder.

    Returns:
        str, the prefix.

    Raises:
        UserError: for any other path; says what is there and what to give.
    """
    files.refuse_pattern(path)
    if files.exists(path + ".index"):
        return path
    if files.is_folder(path):
        return _only_checkpoint(path)
    if os.path.basename(path) == STATE and files.exists(path):
        return _only_checkpoint(os.path.dirname(path))
    if PART_SUFFIX.search(path):
        prefix = PART_SUFFIX.sub("", path)
        raise UserError("{} is one file of a checkpoint: give the prefix {}".format(path, prefix))
    if path.endswith(ARCHIVE_SUFFIXES):
        raise UserError("{} is an archive: unpack it, and give its folder".format(path))
    if path.endswith(FOREIGN_SUFFIXES):
        raise UserError(FOREIGN.format(path))
    if path.endswith(UNREADABLE_SUFFIXES):
        raise UserError(UNREADABLE.format(path))
    if path.endswith(EXPORT_SUFFIXES):
        raise UserError(EXPORTED.format(path))
    _refuse_data_alone(path)
    others = _prefixes_in(os.path.dirname(path))
    if others:
        raise UserError(
            "no checkpoint at {}, but its folder holds {}: give that name".format(
                path, _shown(others)
            )
        )
    raise UserError(
        "no checkpoint at {0}: the file {0}.index does not exist; give the prefix of a checkpoint "
        "or its folder; training from random weights needs no checkpoint".format(path)
    )


def state_path(folder):
    """Return the prefix that the state file of a folder names, None if it cannot be read."""
    try:
        state = tf.train.get_checkpoint_state(folder)
    except ValueError:  # not text
        return None
    return state.model_checkpoint_path if state else None


def latest(folder):
    """Return the prefix that the state file of a folder names, None if there is none.

    The state file of a published archive, or of a copied folder, names a path elsewhere. So the
    checkpoint of the same name in the folder comes first.
    """
    named = state_path(folder)
    if not named:
        return None
    prefixes = (os.path.join(folder, os.path.basename(named)), named)
    return next((prefix for prefix in prefixes if files.exists(prefix + ".index")), None)


def _only_checkpoint(folder):
    named = latest(folder)
    if named:
        return named
    prefixes = _prefixes_in(folder)
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes and any(files.exists(os.path.join(folder, x)) for x in HUGGINGFACE_FILES):
        raise UserError(FOREIGN.format(folder))
    if not prefixes:
        refuse_unreadable(folder)
        _refuse_data_alone(os.path.join(folder, "*"))
    exports = files.glob(os.path.join(folder, EXPORT)) or files.glob(
        os.path.join(folder, "*", EXPORT)
    )
    if exports and not prefixes:
        raise UserError(
            "{} is an export: give the folder of the run that it was made from; its weights alone "
            "are {}".format(folder, os.path.join(os.path.dirname(exports[0]), EXPORTED_WEIGHTS))
        )
    below = [] if prefixes else _prefixes_in(os.path.join(folder, "*"))
    if below:
        folders = sorted(set(map(os.path.dirname, below)))
        raise UserError(
            "{} holds no checkpoint itself, but below it is {}: give {}".format(
                folder,
                _shown(folders if len(below) > 1 else below),
                "one of these folders" if len(folders) > 1 else "that name",
            )
        )
    message = "{}: {} checkpoints in this folder{}: give the prefix of one"
    shown = ", {}".format(_shown(prefixes)) if prefixes else ""
    raise UserError(message.format(folder, len(prefixes) or "no", shown))


def refuse_unreadable(folder):
    """Raise `UserError` for a folder with weights of Keras or Flax."""
    for path in sorted(files.list_files(folder)):
        if path.endswith(UNREADABLE_SUFFIXES):
            raise UserError(UNREADABLE.format(path))


def _prefixes_in(folder):
    """Return the sorted prefixes of the checkpoints in a folder."""
    indexes = files.glob(os.path.join(folder, "*.index"))
    return sorted(path[: -len(".index")] for path in indexes)


def _refuse_data_alone(pattern):
    """Raise `UserError` for a .data file without its .index; `pattern` matches their prefixes."""
    data = files.glob(pattern + ".data-?????-of-?????")
    if data:
        raise UserError(
            "{}.index is missing: a checkpoint is an .index and its .data files, so put it beside "
            "{}".format(PART_SUFFIX.sub("", data[0]), data[0])
        )


def _shown(prefixes):
    return ", ".join(prefixes[:3]) + (", ..." if len(prefixes) > 3 else "")
