"""What a model needs beside its checkpoints, kept in the folder that they are in.

    albert_config.json config of a model that was pre-trained only
    classifier.json    of a fine-tuned one: task, labels, length, config, which vocabulary
    vocab.txt          copy of its WordPiece vocabulary, or
    spiece.model       copy of its SentencePiece model
    best/              the best checkpoint of the run, and best.json

So the folder can be moved, and predicts without the flags that it was trained with. And what the
variables of a checkpoint do not tell can be held against what is said beside it.
"""

import json
import os
import re
from typing import Dict, NamedTuple, Optional, Sequence

from absl import logging

from common import files
from common.errors import UserError

DESCRIPTION, CONFIG = "classifier.json", "albert_config.json"
BEST = "best"
WORDPIECE, SENTENCEPIECE = "vocab.txt", "spiece.model"
NAMES = (DESCRIPTION, CONFIG, WORDPIECE, SENTENCEPIECE)
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
# Fields of a config that do not change the shape of any variable, if layers share theirs...
UNTOLD = ("num_attention_heads", "num_hidden_layers", "ln_type", "hidden_act")
# ...and those by which a config is known to be of the same model.
SIZES = ("layout", "vocab_size", "hidden_size", "embedding_size", "intermediate_size")
# Fields of Hugging Face's configs; the oldest have the last one alone.
FOREIGN = ("model_type", "architectures", "layer_norm_eps")


class ModelFolder(NamedTuple):
    """What a folder says of the model in it."""

    task: str
    labels: Sequence[str]  # in the order of the classifier's outputs
    max_seq_length: int
    config: Dict[str, object]  # fields of the model's config
    vocab_file: Optional[str] = None  # path of the WordPiece vocabulary, if it has one
    do_lower_case: bool = True
    spm_model_file: Optional[str] = None  # path of the SentencePiece model, if it has one


def write(folder, model):
    """Write what `read` needs, each file by rename; warns of what a folder said otherwise before.

    Args:
        folder: str, made where it is missing.
        model: `ModelFolder`; its vocabulary is copied, the SentencePiece model if there are both.

    Raises:
        UserError: where a file cannot be written, and for a label that no table can hold.
    """
    odd = [label for label in model.labels if re.search(r"[\t\r\n]", label)]
    if odd:
        raise UserError("label {!r}: a label is one line without tabs".format(odd[0]))
    name = SENTENCEPIECE if model.spm_model_file else WORDPIECE
    with files.open_file(model.spm_model_file or model.vocab_file) as stream:
        vocabulary = stream.read()
    with files.WholeFile(os.path.join(folder, name)) as whole:
        whole.write(vocabulary)
    description = {
        "task": model.task,
        "labels": list(model.labels),
        "max_seq_length": model.max_seq_length,
        "do_lower_case": model.do_lower_case,
        "vocabulary": name,
        "vocabulary_sha256": files.sha256(os.path.join(folder, name)),
        "config": model.config,
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


def write_config(folder, config):
    """Write the `modeling.AlbertConfig` of a model that is pre-trained in a folder."""
    files.write_text(os.path.join(folder, CONFIG), config.to_json_string())


def find(prefix, name):
    """Return the path of a file that belongs to a checkpoint, or None.

    Args:
        prefix: str, in the folder of a run, or in the one there of its best checkpoint.
        name: str, of the file.
    """
    folder = _folder(prefix)
    folders = [folder]
    if os.path.basename(folder) == BEST:
        folders.append(os.path.dirname(folder))
    return next(filter(files.exists, [os.path.join(place, name) for place in folders]), None)


def _folder(prefix):
    return os.path.dirname(os.path.abspath(prefix) if files.is_local(prefix) else prefix)


def check_config(config, prefix):
    """Hold a config against those beside a checkpoint, in what its variables do not tell.

    Args:
        config: `modeling.AlbertConfig`.
        prefix: str, of the checkpoint.

    Raises:
        UserError: where there are configs of a model of this size, and none of them agrees.
    """
    contradictions, sizes = [], {name: getattr(config, name) for name in SIZES}
    for path in _configs_beside(prefix):
        fields = _config_fields(path)
        known = [name for name in UNTOLD if type(fields.get(name)) is type(getattr(config, name))]
        if not known or any(fields.get(name, sizes[name]) != sizes[name] for name in sizes):
            continue
        odd = [name for name in known if fields[name] != getattr(config, name)]
        if not odd:
            return
        contradictions.append((path, odd[0], fields[odd[0]], getattr(config, odd[0])))
    if contradictions:
        raise UserError(
            "{} says {}={!r}, the config that was given {!r}: the variables of the checkpoint fit "
            "either, but what is beside it was trained; give that config, or move the checkpoint "
            "away from it".format(*contradictions[0])
        )


def _configs_beside(prefix):
    beside = files.glob(os.path.join(_folder(prefix), "*config*.json"))
    belonging = [find(prefix, name) for name in (CONFIG, DESCRIPTION)]
    return sorted(set(beside).union(filter(None, belonging)))


def _config_fields(path):
    """Return the fields of a config; none of a file that holds no config of this kind."""
    found = _read_fields(path)
    if os.path.basename(path) == DESCRIPTION:
        found = found.get("config")
    is_ours = isinstance(found, dict) and not any(name in found for name in FOREIGN)
    return found if is_ours else {}


def _read_fields(path):
    """Return the object in a JSON file; an empty one where there is none, or it is damaged."""
    try:
        with files.open_file(path) as stream:
            found = json.loads(stream.read().decode("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_labels(labels, prefix):
    """Hold labels against those that the classifier in a checkpoint was trained for.

    Args:
        labels: list of str, in the order of the classifier's outputs.
        prefix: str, of the checkpoint; nothing is known where no description is beside it.

    Raises:
        UserError: where they differ, or their order does.
    """
    path = find(prefix, DESCRIPTION)
    trained = _read_fields(path).get("labels") if path else None
    if isinstance(trained, list) and trained != list(labels):
        raise UserError(
            "{}: the classifier was trained for the labels {}, in this order, and not for {}: give "
            "those, or another checkpoint".format(
                path, ",".join(map(str, trained)), ",".join(labels)
            )
        )


def check_same(prefixes):
    """Raise UserError where what is beside several checkpoints contradicts each other."""
    known = {}  # field -> (value, path)
    for prefix in prefixes:
        for path in filter(None, (find(prefix, name) for name in (CONFIG, DESCRIPTION))):
            fields = dict(_config_fields(path), labels=_read_fields(path).get("labels"))
            for field in UNTOLD + ("labels",):
                if fields.get(field) is None:
                    continue
                value = fields[field]
                first, source = known.setdefault(field, (value, path))
                if first != value:
                    raise UserError(
                        "{} and {} are not of one model: {} is {!r} and {!r}".format(
                            source, path, field, first, value
                        )
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
