"""The files in a folder of Hugging Face.

config.json, model.safetensors      the model there
vocab.txt, tokenizer_config.json    its tokenizer
albert_config.json                  our config, and
factors.safetensors                 the two tables whose product are the word embeddings: with
                                    both files the way back gives the same names and bits
"""

import json
import os
import shutil

import numpy as np
from absl import logging

import modeling
import tokenization
from checkpointing import inspection, model_files
from common import files
from common.errors import UserError
from finetuning import encoding, tasks
from huggingface import configs, mapping

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
FAST_TOKENIZER = "tokenizer.json"
FACTORS = "factors.safetensors"
INDEX_SUFFIX = ".index.json"  # of the list of files, where there are several with weights
VOCABULARIES = (model_files.WORDPIECE, model_files.SENTENCEPIECE)
MAX_SEQ_LENGTH = 128  # of a model whose tokenizer_config.json has no length


# ------------------------------------------------------------------------------------ model


def write_model(folder, family, config, arrays, model):
    """Write a model of ours as a folder of Hugging Face.

    Args:
        folder: str, an empty one.
        family: str, key of `configs.FAMILIES`.
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to array, the weights.
        model: `model_files.Description`.

    Returns:
        str, the class of the model there.

    Raises:
        UserError: as `mapping.to_parameters`, and for a vocabulary that does not fit.
    """
    class_name, parameters = mapping.to_parameters(config, family, arrays)
    _save(os.path.join(folder, WEIGHTS), parameters, {"format": "pt"})
    if configs.is_factorized(config):
        factors = {name: arrays[name] for name in mapping.FACTORS}
        sha256 = mapping.words_sha256(family, parameters)
        _save(os.path.join(folder, FACTORS), factors, {"word_embeddings_sha256": sha256})
    theirs = configs.to_config(config, family, class_name, model.labels, model.task)
    _write_json(folder, CONFIG, theirs)
    _write_tokenizer(folder, model)
    model_files.write_config(folder, config)
    return class_name


def read_model(folder):
    """Return (config, arrays, class name): our config and weights of a folder's model.

    They are those from which `write_model` made the folder, unless a training has changed it since:
    layers that shared weights may differ now, or the word embeddings are another product.
    """
    theirs, source = read_json(folder, CONFIG), os.path.join(folder, CONFIG)
    family = configs.family_of(theirs, source)
    parameters = read_parameters(folder)
    config, arrays = _original_weights(folder, family, theirs, parameters)
    if arrays is None:
        config = configs.from_config(theirs, source)
        arrays = mapping.from_parameters(config, family, parameters)
    return config, arrays, configs.class_name(family, inspection.find_heads(arrays))


def _original_weights(folder, family, theirs, parameters):
    """Return config and weights as they were before `write_model`, or (None, None)."""
    path = os.path.join(folder, model_files.CONFIG)
    if not os.path.exists(path):
        return None, None
    config = modeling.AlbertConfig.from_json_file(path)
    try:
        configs.check_same_model(config, family, theirs)
        factors = None
        if configs.is_factorized(config):
            factors = _read_factors(folder, family, parameters)
        return config, mapping.from_parameters(config, family, parameters, factors)
    except UserError as error:
        logging.warning(
            "%s is no longer the model that %s describes (%s): it is taken as the %s that it has "
            "become",
            folder,
            model_files.CONFIG,
            error,
            configs.FAMILIES[family],
        )
        return None, None


def _read_factors(folder, family, parameters):
    """Return the dict of `mapping.FACTORS`; raises UserError if their product is another."""
    path = os.path.join(folder, FACTORS)
    factors, metadata = _load_safetensors(path)
    if metadata.get("word_embeddings_sha256") != mapping.words_sha256(family, parameters):
        raise UserError("{} are not the factors of its word embeddings".format(path))
    return factors


# ---------------------------------------------------------------------------------- weights


def read_parameters(folder):
    """Return a dict of parameter name to float32 array, from safetensors or else from a pickle.

    Raises:
        UserError: where there are no weights, for a damaged file, and for a pickle without torch.
    """
    for name, load in ((WEIGHTS, lambda path: _load_safetensors(path)[0]), (PICKLE, _load_pickle)):
        paths = [os.path.join(folder, part) for part in _parts(folder, name)]
        if paths:
            arrays = {key: value for path in paths for key, value in load(path).items()}
            return {key: np.asarray(array, np.float32) for key, array in arrays.items()}
    raise UserError("{} has neither {} nor {}".format(folder, WEIGHTS, PICKLE))


def _parts(folder, name):
    """Return the names of the files with the weights of `name`, an empty list if there are none."""
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
            "{}: only torch reads it (pip install torch); safetensors files need none".format(path)
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        return {name: tensor.float().numpy() for name, tensor in state.items()}
    except Exception as error:  # torch and pickle raise errors of many types
        raise UserError("{} is not readable: {}".format(path, str(error).split("\n")[0])) from error


# ------------------------------------------------------------------------------- JSON files


def _write_json(folder, name, values):
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


def _write_tokenizer(folder, model):
    """Write the vocabulary of a `model_files.Description`, and the class of its tokenizer.

    Without the class, transformers would use its SentencePiece tokenizer for every ALBERT.
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
    _write_json(folder, TOKENIZER, settings)


def copy_vocabulary(source, folder):
    """Copy the vocabulary, or write vocab.txt from tokenizer.json where that alone has it.

    Returns:
        str, the path of the copy, or None where there is no vocabulary.
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
    """Raise UserError where a `model_files.Description` has more pieces than its config allows."""
    vocabulary = model.spm_model_file or model.vocab_file
    pieces = tokenization.FullTokenizer(
        model.vocab_file, model.do_lower_case, model.spm_model_file
    ).vocab
    if len(pieces) > model.config["vocab_size"]:
        raise UserError(
            "{} has {} pieces, the model {}: use the vocabulary that it was pre-trained "
            "with".format(vocabulary, len(pieces), model.config["vocab_size"])
        )


def read_description(folder, config, num_labels, vocabulary):
    """Return the `model_files.Description` of a folder's model.

    Args:
        folder: str.
        config: `modeling.AlbertConfig`.
        num_labels: int, 0 where it is no classifier.
        vocabulary: str, path of its vocabulary.

    Raises:
        UserError: where config.json has another number of labels, or one label twice.
    """
    theirs, settings = read_json(folder, CONFIG), read_json(folder, TOKENIZER, {})
    is_sentencepiece = os.path.basename(vocabulary) == model_files.SENTENCEPIECE
    length = settings.get("model_max_length")
    if not isinstance(length, (int, float)) or length < encoding.SHORTEST_SEQUENCE:
        length = MAX_SEQ_LENGTH
    task = theirs.get("finetuning_task")
    return model_files.Description(
        task=task if task in tasks.TASKS else "sentence_pair",
        labels=_labels(os.path.join(folder, CONFIG), theirs.get("id2label"), num_labels),
        max_seq_length=int(min(length, config.max_position_embeddings)),
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
    fast = read_json(folder, FAST_TOKENIZER, {}).get("normalizer") or {}
    values = (settings.get("do_lower_case"), fast.get("lowercase"))
    return next((value for value in values if isinstance(value, bool)), True)
