"""The files in a folder of Hugging Face: weights, configs, tokenizer; and ours beside them.

config.json, model.safetensors      the model there
vocab.txt, tokenizer_config.json    its tokenizer
albert_config.json                  the config here, and
factors.safetensors                 what the word embeddings are the product of, so that the
                                    way back gives every bit and the same names
"""

import json
import os
import shutil

import numpy as np
from absl import logging

import tokenization
from checkpointing import model_files
from common import files
from common.errors import UserError
from finetuning import encoding, tasks
from huggingface import mapping

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
FAST_TOKENIZER = "tokenizer.json"
FACTORS = "factors.safetensors"
INDEX_SUFFIX = ".index.json"  # of weights that are in several files
VOCABULARIES = (model_files.WORDPIECE, model_files.SENTENCEPIECE)
MAX_SEQ_LENGTH = 128  # where a folder names none


# ---------------------------------------------------------------------------------- weights


def write_parameters(folder, family, parameters, factors=None):
    """Write the weights of a model there.

    Args:
        folder: str.
        family: str, key of `mapping.FAMILIES`.
        parameters: dict of parameter name to float32 array.
        factors: dict of the arrays of `mapping.FACTORS`, or None.
    """
    _save(os.path.join(folder, WEIGHTS), parameters, {"format": "pt"})
    if factors:
        sha256 = mapping.words_sha256(family, parameters)
        _save(os.path.join(folder, FACTORS), factors, {"word_embeddings_sha256": sha256})


def read_factors(folder, family, parameters):
    """Return the two matrices that the word embeddings are the product of; raises UserError."""
    path = os.path.join(folder, FACTORS)
    factors, metadata = _load_safetensors(path)
    if metadata.get("word_embeddings_sha256") != mapping.words_sha256(family, parameters):
        raise UserError("{} are not the factors of its word embeddings".format(path))
    return factors


def read_parameters(folder):
    """Return a dict of parameter name to float32 array, of whatever file or files are there.

    Raises:
        UserError: where there is none, and for one that is damaged or that only torch reads.
    """
    for name, load in ((WEIGHTS, lambda path: _load_safetensors(path)[0]), (PICKLE, _load_pickle)):
        paths = [os.path.join(folder, part) for part in _parts(folder, name)]
        if paths:
            arrays = {key: value for path in paths for key, value in load(path).items()}
            return {key: np.asarray(array, np.float32) for key, array in arrays.items()}
    raise UserError("{} has neither {} nor {}".format(folder, WEIGHTS, PICKLE))


def _parts(folder, name):
    """Return the names of the files that weights are in."""
    if os.path.exists(os.path.join(folder, name)):
        return [name]
    index = read_json(folder, name + INDEX_SUFFIX, {"weight_map": {}})
    return sorted(set(index["weight_map"].values()))


def _save(path, arrays, metadata):
    _safetensors().numpy.save_file(arrays, path, metadata=metadata)


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise UserError("safetensors is not installed: pip install safetensors") from None
    return safetensors


def _load_safetensors(path):
    """Return the arrays and the metadata of a file."""
    library = _safetensors()
    try:
        with library.safe_open(path, framework="np") as reader:
            arrays = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
            return arrays, reader.metadata() or {}
    except (OSError, TypeError, library.SafetensorError) as error:
        raise UserError("{} is not readable: {}".format(path, error)) from error


def _load_pickle(path):
    try:
        import torch
    except ImportError:
        raise UserError(
            "{}: only torch reads it (pip install torch), safetensors it need not".format(path)
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        return {name: tensor.float().numpy() for name, tensor in state.items()}
    except Exception as error:  # pickle and torch raise many kinds, and anything may be in it
        raise UserError("{} is not readable: {}".format(path, str(error).split("\n")[0])) from error


# ---------------------------------------------------------------------------------- configs


def write_json(folder, name, values):
    """Write a file of the folder."""
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    files.write_text(os.path.join(folder, name), text)


def read_json(folder, name, default=None):
    """Return the object in a file of the folder, or the default where there is no such file.

    Raises:
        UserError: where it is missing without a default, or no JSON object.
    """
    path = os.path.join(folder, name)
    if default is not None and not os.path.exists(path):
        return default
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(json.load(stream))
    except (OSError, TypeError, ValueError) as error:
        raise UserError("{} is not a folder of Hugging Face: {}".format(folder, error)) from error


# -------------------------------------------------------------------------------- tokenizer


def write_tokenizer(folder, model):
    """Write the vocabulary of a `model_files.ModelFolder`, and which tokenizer reads it.

    The class is named, for transformers would take its SentencePiece tokenizer for every ALBERT.
    """
    check_vocabulary(model)
    source = model.spm_model_file or model.vocab_file
    name = model_files.SENTENCEPIECE if model.spm_model_file else model_files.WORDPIECE
    shutil.copyfile(source, os.path.join(folder, name))
    settings = {
        "tokenizer_class": "AlbertTokenizer" if model.spm_model_file else "BertTokenizer",
        "do_lower_case": model.do_lower_case,
        "model_max_length": model.max_seq_length,
    }
    write_json(folder, TOKENIZER, settings)


def copy_vocabulary(source, folder):
    """Copy the vocabulary; where it is only in tokenizer.json, written as vocab.txt.

    Returns:
        str, the path of the copy, or None where there is none.
    """
    for name in VOCABULARIES:
        if os.path.exists(os.path.join(source, name)):
            return shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
    model = read_json(source, FAST_TOKENIZER, {}).get("model") or {}
    if model.get("type") != "WordPiece":
        logging.warning("%s has none of %s: no vocabulary", source, ", ".join(VOCABULARIES))
        return None
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    path = os.path.join(folder, model_files.WORDPIECE)
    files.write_text(path, "".join(piece + "\n" for piece in pieces))
    return path


def check_vocabulary(model):
    """Raise UserError where the vocabulary of a `model_files.ModelFolder` is not one of its."""
    vocabulary = model.spm_model_file or model.vocab_file
    pieces = tokenization.FullTokenizer(
        model.vocab_file, model.do_lower_case, model.spm_model_file
    ).vocab
    if len(pieces) > model.config["vocab_size"]:
        raise UserError(
            "{} has {} pieces, the model {}: use the vocabulary that it was pre-trained "
            "with".format(vocabulary, len(pieces), model.config["vocab_size"])
        )


def describe(folder, config, num_labels, vocabulary):
    """Return the `model_files.ModelFolder` of a model there.

    Args:
        folder: str.
        config: `modeling.AlbertConfig`.
        num_labels: int, 0 where it is no classifier.
        vocabulary: str, path of its vocabulary.

    Raises:
        UserError: where it names another number of labels, or one label twice.
    """
    theirs, settings = read_json(folder, CONFIG), read_json(folder, TOKENIZER, {})
    is_sentencepiece = os.path.basename(vocabulary) == model_files.SENTENCEPIECE
    length = settings.get("model_max_length")
    longest = config.max_position_embeddings
    if not isinstance(length, (int, float)) or length < encoding.SHORTEST_SEQUENCE:
        length = MAX_SEQ_LENGTH
    task = theirs.get("finetuning_task")
    return model_files.ModelFolder(
        task=task if task in tasks.TASKS else "sentence_pair",
        labels=_labels(os.path.join(folder, CONFIG), theirs.get("id2label"), num_labels),
        max_seq_length=int(min(length, longest)),
        config=config.to_dict(),
        vocab_file=None if is_sentencepiece else vocabulary,
        do_lower_case=_is_lower_case(folder, settings),
        spm_model_file=vocabulary if is_sentencepiece else None,
    )


def _labels(path, names, num_labels):
    if not num_labels:
        return []
    names = names or {str(i): str(i) for i in range(num_labels)}
    wanted = [str(i) for i in range(num_labels)]
    if not isinstance(names, dict) or sorted(names) != sorted(wanted):
        raise UserError(
            "{}: id2label does not name the {} labels of the classifier".format(path, num_labels)
        )
    labels = [str(names[number]) for number in wanted]
    if len(set(labels)) < num_labels:
        raise UserError("{}: id2label has a label twice: {}".format(path, ", ".join(labels)))
    return labels


def _is_lower_case(folder, settings):
    found = settings.get("do_lower_case")
    if not isinstance(found, bool):
        found = (read_json(folder, FAST_TOKENIZER, {}).get("normalizer") or {}).get("lowercase")
    return found if isinstance(found, bool) else True
