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

import huggingface
from pipeline import files, model_folder
from pipeline.errors import UserError

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
FACTORS = "factors.safetensors"
INDEX_SUFFIX = ".index.json"  # of weights that are in several files
VOCABULARIES = (model_folder.WORDPIECE, model_folder.SENTENCEPIECE)


# ---------------------------------------------------------------------------------- weights


def write_parameters(folder, family, parameters, factors=None):
    """Write the weights of a model there.

    Args:
        folder: str.
        family: str, key of `huggingface.FAMILIES`.
        parameters: dict of parameter name to float32 array.
        factors: dict of the arrays of `huggingface.FACTORS`, or None.
    """
    _save(os.path.join(folder, WEIGHTS), parameters, {"format": "pt"})
    if factors:
        sha256 = huggingface.words_sha256(family, parameters)
        _save(os.path.join(folder, FACTORS), factors, {"word_embeddings_sha256": sha256})


def read_factors(folder, family, parameters):
    """Return the two matrices that the word embeddings are the product of; raises UserError."""
    path = os.path.join(folder, FACTORS)
    factors, metadata = _load_safetensors(path)
    if metadata.get("word_embeddings_sha256") != huggingface.words_sha256(family, parameters):
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
    except Exception as error:  # pickle and torch raise many kinds
        raise UserError("{} is not readable: {}".format(path, str(error).split("\n")[0])) from error
    return {name: tensor.float().numpy() for name, tensor in state.items()}


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
    """Write the vocabulary of a `model_folder.ModelFolder`, and which tokenizer reads it.

    The class is named, for transformers would take its SentencePiece tokenizer for every ALBERT.
    """
    source = model.spm_model_file or model.vocab_file
    if not os.path.exists(source):
        raise UserError("{} does not exist: name the model's vocabulary".format(source))
    name = model_folder.SENTENCEPIECE if model.spm_model_file else model_folder.WORDPIECE
    shutil.copyfile(source, os.path.join(folder, name))
    settings = {
        "tokenizer_class": "AlbertTokenizer" if model.spm_model_file else "BertTokenizer",
        "do_lower_case": model.do_lower_case,
        "model_max_length": model.max_seq_length,
    }
    write_json(folder, TOKENIZER, settings)


def find_vocabulary(folder):
    """Return the path of the vocabulary, or None."""
    paths = [os.path.join(folder, name) for name in VOCABULARIES]
    return next(filter(os.path.exists, paths), None)


def describe(folder, config, num_labels):
    """Return the `model_folder.ModelFolder` of a classifier there.

    Args:
        folder: str; there is a vocabulary in it.
        config: `modeling.AlbertConfig`.
        num_labels: int.
    """
    theirs, settings = read_json(folder, CONFIG), read_json(folder, TOKENIZER, {})
    names = theirs.get("id2label") or {}
    vocabulary = find_vocabulary(folder)
    is_sentencepiece = os.path.basename(vocabulary) == model_folder.SENTENCEPIECE
    return model_folder.ModelFolder(
        task=theirs.get("finetuning_task") or "sentence_pair",
        labels=[names.get(str(i), str(i)) for i in range(num_labels)],
        max_seq_length=min(settings.get("model_max_length", 128), config.max_position_embeddings),
        config=config.to_dict(),
        vocab_file=None if is_sentencepiece else vocabulary,
        do_lower_case=settings.get("do_lower_case", True),
        spm_model_file=vocabulary if is_sentencepiece else None,
    )
