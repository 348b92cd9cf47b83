"""What a fine-tuned model needs beside its checkpoints, kept in the folder that they are in.

    classifier.json    task, labels, length, config of the model, which vocabulary
    vocab.txt          copy of the WordPiece vocabulary, or
    spiece.model       copy of the SentencePiece model

So the folder can be moved, and predicts without the flags that it was trained with.
"""

import json
import os
from typing import Dict, NamedTuple, Optional, Tuple

from absl import logging

from pipeline import files
from pipeline.errors import UserError

DESCRIPTION = "classifier.json"
WORDPIECE, SENTENCEPIECE = "vocab.txt", "spiece.model"
# Field of the description -> its type.
FIELDS = {
    "task": str,
    "labels": list,
    "max_seq_length": int,
    "do_lower_case": bool,
    "vocabulary": str,
    "vocabulary_sha256": str,
    "config": dict,
}


class ModelFolder(NamedTuple):
    """What a folder says of the model in it."""

    task: str
    labels: Tuple[str, ...]  # in the order of the classifier's outputs
    max_seq_length: int
    do_lower_case: bool
    config: Dict[str, object]  # fields of the model's config
    vocab_file: Optional[str]  # path of the copy, if it is a WordPiece vocabulary
    spm_model_file: Optional[str]  # path of the copy, if it is a SentencePiece model


def write(
    folder,
    config,
    task_name,
    labels,
    max_seq_length,
    vocab_file=None,
    do_lower_case=True,
    spm_model_file=None,
):
    """Write what `read` needs, each file by rename; warns of what a folder said otherwise before.

    Args:
        folder: str, made where it is missing.
        config: dict that json can write, the fields of the model's config.
        task_name: str.
        labels: list of str, in the order of the classifier's outputs.
        max_seq_length: int.
        vocab_file: str, a WordPiece vocabulary; not read if `spm_model_file` is given.
        do_lower_case: bool, what the tokenizer was given.
        spm_model_file: str, a SentencePiece model, or None.

    Raises:
        UserError: where a file cannot be written.
    """
    name = SENTENCEPIECE if spm_model_file else WORDPIECE
    with files.open_file(spm_model_file or vocab_file) as stream:
        vocabulary = stream.read()
    with files.WholeFile(os.path.join(folder, name)) as whole:
        whole.write(vocabulary)
    description = {
        "task": task_name,
        "labels": list(labels),
        "max_seq_length": max_seq_length,
        "do_lower_case": do_lower_case,
        "vocabulary": name,
        "vocabulary_sha256": files.sha256(os.path.join(folder, name)),
        "config": config,
    }
    path = os.path.join(folder, DESCRIPTION)
    if files.exists(path):
        _warn_of_changes(path, description)
    text = json.dumps(description, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    files.write_text(path, text)


def _warn_of_changes(path, description):
    try:
        before = _load(path)
    except UserError:  # it is of no use, and a better one is on the way
        return
    changed = sorted(key for key in description if description[key] != before[key])
    if changed:
        logging.warning(
            "%s is written anew: %s differ from the run before", path, ", ".join(changed)
        )


def read(folder):
    """Return the `ModelFolder` that `write` put there.

    Args:
        folder: str, the --output_dir of a fine-tuning run.

    Raises:
        UserError: where there is none, for one of an older run, and where the vocabulary is gone or
            is no longer the one that the model was trained with.
    """
    path = os.path.join(folder, DESCRIPTION)
    if not files.is_folder(folder):
        raise UserError("there is no folder {}: give the --output_dir of a run".format(folder))
    if not files.exists(path):
        raise UserError(
            "{} does not exist: {} is not the --output_dir of a run_classifier.py, or of one that "
            "wrote no such file yet; start that run again, which adds it, with the same "
            "flags".format(path, folder)
        )
    found = _load(path)
    vocabulary = os.path.join(folder, found["vocabulary"])
    _check_vocabulary(vocabulary, found["vocabulary_sha256"])
    is_sentencepiece = found["vocabulary"] == SENTENCEPIECE
    return ModelFolder(
        task=found["task"],
        labels=tuple(found["labels"]),
        max_seq_length=found["max_seq_length"],
        do_lower_case=found["do_lower_case"],
        config=found["config"],
        vocab_file=None if is_sentencepiece else vocabulary,
        spm_model_file=vocabulary if is_sentencepiece else None,
    )


def _load(path):
    """Return the description, with all its fields."""
    with files.open_file(path) as stream:
        content = stream.read()
    try:
        found = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise UserError("{} is damaged ({}): {}".format(path, error, _REMEDY)) from error
    for name, kind in FIELDS.items():
        value = found.get(name) if isinstance(found, dict) else None
        if not isinstance(value, kind):
            raise UserError("{} is damaged ({} is {!r}): {}".format(path, name, value, _REMEDY))
    return found


_REMEDY = "start the run that made it again, with the same flags, or take it from a copy"


def _check_vocabulary(path, sha256):
    if not files.exists(path):
        raise UserError(
            "{} does not exist: copy the vocabulary that the model was trained with there".format(
                path
            )
        )
    found = files.sha256(path)
    if found != sha256:
        raise UserError(
            "{} is not the vocabulary that the model was trained with (sha256 {}..., not {}...): "
            "every piece would be another; put the old one there".format(
                path, found[:12], sha256[:12]
            )
        )
