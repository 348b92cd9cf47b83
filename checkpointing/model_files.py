"""The files that a model needs beside its checkpoints, in the same folder.

    albert_config.json config of a model that was pre-trained only
    classifier.json    a fine-tuned model's task, labels, length, config and vocabulary
    vocab.txt          copy of its WordPiece vocabulary, or
    spiece.model       copy of its SentencePiece model
    best/              the best checkpoint of the run, and best.json

With these files the folder can be moved, and prediction needs no flags of the training. The files
also say what the variables of a checkpoint cannot show: labels, the number of attention heads, and
the number of layers that share weights.
"""

import contextlib
import os
import re
from typing import Dict, NamedTuple, Optional, Sequence

from common import files
from common.albert_config import AlbertConfig
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
# Fields of a config that no variable's shape shows in a model whose layers share weights.
NOT_IN_VARIABLES = ("num_attention_heads", "num_hidden_layers", "ln_type", "hidden_act")
# Fields of a fine-tuning run that say what its classifier computes.
OF_RUNS = ("labels", "task", "vocabulary_sha256")
# Fields that decide the names and shapes of the encoder's variables, and the width of the word
# table. A run may have fewer positions or more pieces than its checkpoint.
SHAPES = (
    "layout",
    "embedding_size",
    "hidden_size",
    "intermediate_size",
    "type_vocab_size",
    "parameter_sharing",
    "num_hidden_groups",
    "inner_group_num",
)
GIVEN = "the given config"


class Description(NamedTuple):
    """A fine-tuned model, as the file `classifier.json` describes it."""

    task: str
    labels: Sequence[str]  # in the order of the classifier's outputs
    max_seq_length: int
    config: Dict[str, object]  # fields of the model's config
    vocab_file: Optional[str] = None  # path of the WordPiece vocabulary, if it has one
    do_lower_case: bool = True
    spm_model_file: Optional[str] = None  # path of the SentencePiece model, if it has one
    settings: Dict[str, object] = {}  # name -> other values on which predictions depend


def write(folder, model):
    """Write a model's description and a copy of its vocabulary; files appear when complete.

    Args:
        folder: str, made where it is missing.
        model: `Description`; of its two vocabularies the SentencePiece model is copied, if given.

    Raises:
        UserError: where a file cannot be written, and for a label that no table can hold.
    """
    odd = [label for label in model.labels if re.search(r"[\t\r\n]", label)]
    if odd:
        raise UserError("label {!r}: a label is one line without tabs".format(odd[0]))
    name = SENTENCEPIECE if model.spm_model_file else WORDPIECE
    vocabulary = files.read_bytes(model.spm_model_file or model.vocab_file)
    with files.WholeFile(os.path.join(folder, name)) as whole:
        whole.write(vocabulary)
    description = {field: value for field, value in model._asdict().items() if field in FIELDS}
    if model.settings:
        description.update(settings=model.settings)
    description.update(
        labels=list(model.labels),
        vocabulary=name,
        vocabulary_sha256=files.vocabulary_sha256(os.path.join(folder, name)),
    )
    files.write_json(os.path.join(folder, DESCRIPTION), dict(sorted(description.items())))


def read(folder):
    """Return the `Description` that `write` put into a folder.

    Args:
        folder: str, the --output_dir of a fine-tuning run, or the folder of its best checkpoint.

    Raises:
        UserError: where the description is missing or damaged, and where the vocabulary is missing
            or is not the one with which the model was trained.
    """
    path = os.path.join(folder, DESCRIPTION)
    if not files.exists(path):
        found = find(path, DESCRIPTION)
        if not found:
            raise UserError(
                "{} does not exist: give the --output_dir of a fine-tuning run; a run that ended "
                "before it wrote this file adds it if started again with the same flags".format(
                    path
                )
            )
        folder, path = os.path.dirname(found), found
    fields = _load_description(path)
    vocabulary = os.path.join(folder, fields.pop("vocabulary"))
    sha256 = fields.pop("vocabulary_sha256")
    if files.exists(vocabulary):
        files.refuse_pointer(vocabulary)
    if not files.exists(vocabulary) or files.vocabulary_sha256(vocabulary) != sha256:
        message = "{} is missing or not the vocabulary of the training (sha256 {}...): put it there"
        raise UserError(message.format(vocabulary, sha256[:12]))
    is_sentencepiece = os.path.basename(vocabulary) == SENTENCEPIECE
    return Description(
        **dict(fields, labels=tuple(fields["labels"])),
        vocab_file=None if is_sentencepiece else vocabulary,
        spm_model_file=vocabulary if is_sentencepiece else None,
    )


def find_description(folders, start):
    """Return the `Description` of a fine-tuned model, or None where no folder has one.

    Args:
        folders: list of str; the description is looked for in these folders first.
        start: str, a folder or the prefix of a checkpoint, or None.
    """
    folders = list(folders)
    if start:
        folders += [start, os.path.dirname(find(start, DESCRIPTION) or start)]
    for folder in folders:
        if files.exists(os.path.join(folder, DESCRIPTION)):
            return read(folder)
    return None


def write_config(folder, config):
    """Write a model's config, a `modeling.AlbertConfig`, to the folder of its pre-training."""
    files.write_text(os.path.join(folder, CONFIG), config.to_json_string())


def refuse_to_replace(folder, config, vocab_file=None):
    """Refuse a new run in a folder into which a user put another config or vocabulary.

    Args:
        folder: str, of the run.
        config: `modeling.AlbertConfig` of the run.
        vocab_file: str, the WordPiece vocabulary of the run, or None where it is not known.

    Raises:
        UserError: names the file that the run would replace.
    """
    message = "{} is not {}, and the run would replace it: give {}, or another --output_dir"
    path = os.path.join(folder, CONFIG)
    if files.exists(path):
        given, found = config.to_dict(), _complete(files.read_json(path))
        if any(given[name] != found.get(name) for name in given if "dropout" not in name):
            remedy = "--bert_config_file=" + path
            raise UserError(message.format(path, "the config of the run", remedy))
    path = os.path.join(folder, WORDPIECE)
    both = [path, vocab_file] if vocab_file and files.exists(path) else []
    if len(set(map(files.vocabulary_sha256, both))) > 1:
        raise UserError(message.format(path, vocab_file, "--vocab_file=" + path))


def find(prefix, name):
    """Return the path of a file that belongs to a checkpoint, or None.

    Args:
        prefix: str, in the folder of a run or in its subfolder of the best checkpoint.
        name: str, of the file.
    """
    paths = [os.path.join(folder, name) for folder in _folders(prefix)]
    return next(filter(files.exists, paths), None)


def _folders(prefix):
    """Return the folder of a checkpoint and, for a best checkpoint, the folder of its run."""
    folder = os.path.dirname(os.path.abspath(prefix) if files.is_local(prefix) else prefix)
    return [folder] + [os.path.dirname(folder)] * (os.path.basename(folder) == BEST)


def check_config(config, prefix, may_differ=()):
    """Check a config against the files of a checkpoint, in the fields of NOT_IN_VARIABLES.

    Args:
        config: `modeling.AlbertConfig`.
        prefix: str, of the checkpoint.
        may_differ: names of fields that are not compared.

    Raises:
        UserError: where a field differs.
    """
    names = set(NOT_IN_VARIABLES) - set(may_differ)
    given = {name: (getattr(config, name), GIVEN) for name in sorted(names)}
    check_same([prefix], given, config.to_dict())


def check_labels(labels, prefix):
    """Check labels against those for which the classifier in a checkpoint was trained.

    Args:
        labels: list of str, in the order of the classifier's outputs.
        prefix: str, of the checkpoint. Without a description beside it nothing is checked.

    Raises:
        UserError: where the labels or their order differ.
    """
    check_same([prefix], {"labels": (list(labels), "the task")})


def check_same(prefixes, given=None, config=None):
    """Check the files of checkpoints against each other, in OF_RUNS and NOT_IN_VARIABLES.

    Args:
        prefixes: list of str.
        given: dict of field to (value, its source, for messages), to compare these fields alone.
        config: dict of a config that has the shapes of the checkpoints, if one is known.

    Raises:
        UserError: where a field differs.
    """
    known = dict(given or {})
    compared = set(known or NOT_IN_VARIABLES + OF_RUNS)
    for prefix in prefixes:
        beside = list(_fields_beside(prefix, config))
        for path, fields in beside:
            for field in sorted(compared.intersection(fields)):
                value, source = known.setdefault(field, (fields[field], path))
                if value != fields[field]:
                    raise _difference(field, known[field], (fields[field], path), beside)


def _difference(field, known, other, beside):
    """Return the `UserError` of a field with two values, each a pair (value, source)."""
    (value, source), (wanted, path) = known, other
    reason = "they are not of one model, though the variables of the checkpoint fit both"
    if field == "labels" and len(value) != len(wanted):
        reason = "{} and {} labels".format(len(wanted), len(value))
    trained = "what the checkpoint was trained with, or another checkpoint"
    remedy = "use " + trained
    if source == GIVEN and os.path.basename(path) != DESCRIPTION:
        remedy = "give --bert_config_file={}, which is {}".format(path, trained)
        agreeing = [name for name, fields in beside if fields.get(field) == value]
        if agreeing:  # two files beside the checkpoint disagree, so another flag cannot help
            source, remedy = agreeing[0], "move the one that is wrong out of this folder"
    return UserError(
        "{} says {}={!r}, {} {!r}: {}; {}".format(
            path, field, wanted, source, value, reason, remedy
        )
    )


def _fields_beside(prefix, config):
    """Yield (path, fields) of the readable files of a checkpoint: its configs and labels.

    A config of any other name than `CONFIG`, such as bert_config.json or albert_config_tiny.json,
    counts if it has the shapes of `config` or, without `config`, of the checkpoint's other files.
    """
    own, description = find(prefix, CONFIG), find(prefix, DESCRIPTION)
    known = []
    with contextlib.suppress(UserError):
        if own:
            known.append((own, _complete(files.read_json(own))))
    with contextlib.suppress(UserError):
        if description:
            fields = _load_description(description)
            of_run = {name: fields[name] for name in OF_RUNS}
            known.append((description, dict(_complete(fields["config"]), **of_run)))
    yield from known
    others = [(path, fields) for path, fields in _configs_beside(prefix) if path != own]
    shapes = [_shapes(fields) for fields in [config] * bool(config) + [one for _, one in known]]
    shapes = shapes or [_shapes(fields) for _, fields in others]
    if shapes and (config or shapes.count(shapes[0]) == len(shapes)):
        yield from ((path, fields) for path, fields in others if _shapes(fields) == shapes[0])


def _configs_beside(prefix):
    """Yield (path, fields) of every file of a checkpoint's folder that is a config of a model."""
    for folder in _folders(prefix):
        for path in sorted(files.glob(os.path.join(folder, "*config*.json"))):
            with contextlib.suppress(UserError):
                yield path, AlbertConfig.from_dict(files.read_json(path)).to_dict()


def _shapes(fields):
    """Return the values of SHAPES, and the number of layers if every layer has its own weights."""
    is_shared = fields.get("parameter_sharing") == "all"
    return [fields.get(name) for name in SHAPES] + [is_shared or fields.get("num_hidden_layers")]


def _complete(fields):
    """Return the fields of a config under our names, those with default values included."""
    try:
        return AlbertConfig.from_dict(fields).to_dict()
    except UserError:
        return fields


def _load_description(path):
    """Return the fields of a description, without any others."""
    content = files.read_json(path)
    for name, wanted_type in FIELDS.items():
        if not isinstance(content.get(name), wanted_type):
            raise UserError(
                "{} is damaged ({} is {!r}): start the run that made it again, with the same "
                "flags, or take it from a copy".format(path, name, content.get(name))
            )
    fields = {name: content[name] for name in FIELDS}
    if isinstance(content.get("settings"), dict):
        fields.update(settings=content["settings"])
    return fields
