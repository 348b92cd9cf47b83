"""The files in a folder of Hugging Face.

config.json, model.safetensors      the model there
vocab.txt, tokenizer_config.json    its tokenizer
albert_config.json                  our config, and
factors.safetensors                 the two tables whose product is the word embeddings. With both
                                    files the conversion back gives the same names and bits
"""

import os
import shutil

import numpy as np
from absl import logging

import modeling
import tokenization
from checkpointing import checkpoint_reader, find, inspection, model_files
from common import files
from common.errors import UserError
from finetuning_data import encoding
from huggingface import configs, mapping
from kinds.registry import OF_HEADS

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
FAST_TOKENIZER = "tokenizer.json"
FACTORS = "factors.safetensors"
INDEX_SUFFIX = ".index.json"  # ends the name of the list of several files with weights
VOCABULARIES = (model_files.WORDPIECE, model_files.SENTENCEPIECE)
# When transformers 5 reads a vocab.txt, it strips blanks and also U+2028, which is a piece of the
# Chinese vocabulary: (id, stripped piece in tokenizer.json) -> the right piece.
STRIPPED = {(343, ""): "\u2028", (13502, "##"): "##\u2028"}
MAX_SEQ_LENGTH = 128  # if tokenizer_config.json has no length


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
        UserError: as in `mapping.to_parameters`, and for a vocabulary that does not fit.
    """
    class_name, parameters = mapping.to_parameters(config, family, arrays)
    save = _safetensors().numpy.save_file
    save(parameters, os.path.join(folder, WEIGHTS), {"format": "pt"})
    if configs.is_factorized(config):
        factors = {name: arrays[name] for name in mapping.FACTORS}
        sha256 = mapping.words_sha256(family, parameters)
        save(factors, os.path.join(folder, FACTORS), {"word_embeddings_sha256": sha256})
    of_task = model.labels, model.task, model.settings
    theirs = configs.to_config(config, family, class_name, *of_task)
    files.write_json(os.path.join(folder, CONFIG), dict(sorted(theirs.items())))
    for name in (WEIGHTS, FACTORS):  # safetensors makes files that only their owner may read
        if os.path.exists(os.path.join(folder, name)):
            shutil.copymode(os.path.join(folder, CONFIG), os.path.join(folder, name))
    _write_tokenizer(folder, model)
    model_files.write_config(folder, config)
    return class_name


def check_folder(path):
    """Raise UserError for a path that is not a folder of a model of Hugging Face."""
    if os.path.isfile(path):
        raise UserError(
            "{} is a file: give its folder, {}".format(path, os.path.dirname(path) or ".")
        )
    has_weights = files.glob(os.path.join(path, "*.safetensors*")) + files.glob(
        os.path.join(path, PICKLE + "*")
    )
    if files.glob(path + ".index") or (
        files.glob(os.path.join(path, "*.index")) and not has_weights
    ):
        raise UserError(
            "{} is a checkpoint of TensorFlow already; `convert_checkpoint.py to-huggingface` "
            "makes a folder of Hugging Face of it".format(path)
        )
    if not os.path.isdir(path):
        text = "{} does not exist: give the folder of a model; one on a hub is downloaded first"
        raise UserError(text.format(path))
    if not os.path.exists(os.path.join(path, CONFIG)):
        # The cache of transformers and huggingface_hub has the files of a model further inside.
        inside = sorted(files.glob(os.path.join(path, "snapshots", "*", CONFIG)))
        text = "{} has no {}: give the folder that holds it and the weights"
        where = ", " + os.path.dirname(inside[-1]) if inside else ""
        raise UserError(text.format(path, CONFIG) + where)


def read_model(folder):
    """Return (config, arrays, class name): our config and weights of a folder's model.

    The function returns the config and weights from which `write_model` made the folder, unless
    training has changed the folder since. After a training, layers that shared weights may differ,
    or the word embeddings are another product.
    """
    source = os.path.join(folder, CONFIG)
    theirs = files.read_json(source)
    family = configs.family_of(theirs, source)
    parameters = _read_parameters(folder)
    config, arrays = _original_weights(folder, family, theirs, parameters)
    if arrays is None:
        config = configs.from_config(theirs, source)
        arrays = mapping.from_parameters(config, family, parameters, None, _class_of(theirs))
    heads = inspection.find_heads(inspection.shapes_of_arrays(arrays))
    if heads not in configs.CLASSES:
        raise UserError(mapping.OTHER_HEADS.format(", ".join(heads)))
    return config, arrays, configs.FAMILIES[family] + configs.CLASSES[heads]


def _class_of(theirs):
    """Return the class of the model that a config.json names, "" where it names none."""
    return next(iter(theirs.get("architectures") or ()), "")


def _original_weights(folder, family, theirs, parameters):
    """Return config and weights as they were before `write_model`, or (None, None)."""
    path = os.path.join(folder, model_files.CONFIG)
    if not os.path.exists(path):
        return None, None
    config = modeling.AlbertConfig.from_json_file(path)
    factors = None
    try:
        configs.check_same_model(config, family, theirs)
        if configs.is_factorized(config):
            factors, metadata = _load_safetensors(os.path.join(folder, FACTORS))
            if metadata.get("word_embeddings_sha256") != mapping.words_sha256(family, parameters):
                raise UserError("{} belongs to other word embeddings".format(FACTORS))
        class_name = _class_of(theirs)
        return config, mapping.from_parameters(config, family, parameters, factors, class_name)
    except UserError as error:
        line = "%s has changed since its %s was written (%s): it is read as a plain %s"
        logging.warning(line, folder, model_files.CONFIG, error, configs.FAMILIES[family])
        return None, None


# ---------------------------------------------------------------------------------- weights


def _read_parameters(folder):
    """Return a dict of parameter name to float32 array, from safetensors or else from a pickle."""
    for name, load in ((WEIGHTS, lambda path: _load_safetensors(path)[0]), (PICKLE, _load_pickle)):
        weight_map = _read_optional(folder, name + INDEX_SUFFIX).get("weight_map", {})
        if not isinstance(weight_map, dict):
            text = "{}: weight_map is not an object: fetch the file again"
            raise UserError(text.format(os.path.join(folder, name + INDEX_SUFFIX)))
        names = set(weight_map.values())
        if os.path.exists(os.path.join(folder, name)):
            names = {name}
        if names:
            paths = [os.path.join(folder, part) for part in sorted(names)]
            for path in filter(os.path.exists, paths):
                files.refuse_pointer(path)
            parts = list(map(load, paths))
            arrays = {key: value for part in parts for key, value in part.items()}
            arrays = {key: np.asarray(array, np.float32) for key, array in arrays.items()}
            for key, array in arrays.items():
                checkpoint_reader.refuse_not_finite(folder, key, array)
            return arrays
    find.refuse_unreadable(folder)
    raise UserError("{} has neither {} nor {}".format(folder, WEIGHTS, PICKLE))


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
            "{}: only torch reads it (pip install torch); a safetensors file needs no torch".format(
                path
            )
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        return {name: tensor.float().numpy() for name, tensor in state.items()}
    except Exception as error:  # torch and pickle raise errors of many types
        raise UserError("{} is not readable: {}".format(path, str(error).split("\n")[0])) from error


def _read_optional(folder, name):
    """Return the object in a JSON file of the folder, an empty one where there is no such file."""
    path = os.path.join(folder, name)
    return files.read_json(path) if os.path.exists(path) else {}


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
        "do_lower_case": model.do_lower_case,
        "model_max_length": model.max_seq_length,
        "tokenizer_class": "AlbertTokenizer" if model.spm_model_file else "BertTokenizer",
    }
    files.write_json(os.path.join(folder, TOKENIZER), settings)


def copy_vocabulary(source, folder):
    """Copy the vocabulary, or write vocab.txt from tokenizer.json if no other file has the pieces.

    Returns:
        str, the path of the copy, or None where there is no vocabulary.
    """
    for name in VOCABULARIES:
        if os.path.exists(os.path.join(source, name)):
            files.refuse_pointer(os.path.join(source, name))
            return shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
    model = _read_optional(source, FAST_TOKENIZER).get("model") or {}
    if model.get("type") != "WordPiece":
        logging.warning("%s has none of %s: no vocabulary", source, ", ".join(VOCABULARIES))
        return None
    pieces = _wordpieces(model.get("vocab"), os.path.join(source, FAST_TOKENIZER))
    path = os.path.join(folder, model_files.WORDPIECE)
    files.write_text(path, "".join(piece + "\n" for piece in pieces))
    return path


def _wordpieces(ids, path):
    """Return the list of pieces of a dict of piece to id."""
    if not isinstance(ids, dict):
        raise UserError("{}: vocab is not an object: fetch the file again".format(path))
    pieces = sorted(ids, key=ids.get)
    pieces = [STRIPPED.get((ids[piece], piece), piece) for piece in pieces]
    odd = [i for i, piece in enumerate(pieces) if not piece.strip("\n\r\t ")]
    gap = [i for i, number in enumerate(sorted(ids.values())) if i != number]
    if odd or gap:
        raise UserError(
            "{}: the piece with id {} is empty or missing: put the model's vocab.txt beside "
            "it".format(path, min(odd + gap))
        )
    return pieces


def check_vocabulary(model):
    """Compare the pieces of a `model_files.Description` with its config; warn if there are fewer.

    Raises:
        UserError: if there are more.
    """
    tokenizer = model.vocab_file, model.do_lower_case, model.spm_model_file
    number = len(tokenization.FullTokenizer(*tokenizer).vocab)
    room, path = model.config["vocab_size"], model.spm_model_file or model.vocab_file
    if number > room:
        raise UserError(
            "{} has {} pieces, the model {}: use the vocabulary that it was pre-trained "
            "with".format(path, number, room)
        )
    if number < room:
        text = "%s has %d pieces, the model %d: if lines are missing, later pieces are wrong"
        logging.warning(text, path, number, room)


def read_description(folder, config, arrays, vocabulary):
    """Return the `model_files.Description` of a folder's model.

    Args:
        folder: str.
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to array, the weights of our model.
        vocabulary: str, path of the model's vocabulary.

    Raises:
        UserError: where config.json has another number of labels, or one label twice.
    """
    theirs = files.read_json(os.path.join(folder, CONFIG))
    settings = _read_optional(folder, TOKENIZER)
    is_sentencepiece = os.path.basename(vocabulary) == model_files.SENTENCEPIECE
    length = settings.get("model_max_length")
    if not isinstance(length, (int, float)) or length < encoding.SHORTEST_SEQUENCE:
        length = MAX_SEQ_LENGTH
    task = theirs.get("finetuning_task")
    head, num_labels = inspection.tuned_head(inspection.shapes_of_arrays(arrays))
    kind = OF_HEADS[head or "classifier"]
    normalizer = _read_optional(folder, FAST_TOKENIZER).get("normalizer") or {}
    lower = (settings.get("do_lower_case"), normalizer.get("lowercase"))
    return model_files.Description(
        task=task if task in kind.tasks else kind.own_task,
        labels=_labels(os.path.join(folder, CONFIG), theirs.get("id2label"), num_labels),
        max_seq_length=int(min(length, config.max_position_embeddings)),
        config=config.to_dict(),
        vocab_file=None if is_sentencepiece else vocabulary,
        do_lower_case=next((value for value in lower if isinstance(value, bool)), True),
        spm_model_file=vocabulary if is_sentencepiece else None,
        settings=_settings(theirs.get("task_specific_params"), task, kind),
    )


def _settings(params, task, kind):
    """Return the settings of our task in `task_specific_params`, which others use, too."""
    found = params.get(task) if isinstance(params, dict) else None
    names = kind.encoding_flags + kind.prediction_flags
    return {name: found[name] for name in names if name in found} if isinstance(found, dict) else {}


def _labels(path, names, num_labels):
    if not num_labels:
        return []
    numbers = [str(i) for i in range(num_labels)]
    names = names or dict(zip(numbers, numbers))
    is_complete = isinstance(names, dict) and sorted(names) == sorted(numbers)
    if not is_complete or len(set(map(str, names.values()))) < num_labels:
        message = "{}: id2label does not give each of the {} labels of the head a name: {}"
        raise UserError(message.format(path, num_labels, names))
    return [str(names[number]) for number in numbers]
