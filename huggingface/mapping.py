"""Converts the weights of a model to Hugging Face and back, by tables of names.

`configs` says which models are the same. Hugging Face stores kernels transposed. In this module,
"there" means "at Hugging Face".

Dimension letters as in modeling.py: V, E, H, L.
"""

import difflib
import hashlib
import re
from typing import NamedTuple, Tuple

import numpy as np

import modeling
from checkpointing import inspection
from common.errors import UserError
from huggingface import configs

# Kinds of modules: (end of the variable's name, end of the parameter's name) of each weight.
DENSE = (("kernel", "weight"), ("bias", "bias"))
NORM = (("gamma", "weight"), ("beta", "bias"))
OUTPUT = (("output_weights", "weight"), ("output_bias", "bias"))
EMBEDDINGS = (
    ("word_embeddings", "word_embeddings.weight"),
    ("position_embeddings", "position_embeddings.weight"),
    ("token_type_embeddings", "token_type_embeddings.weight"),
    ("LayerNorm/gamma", "LayerNorm.weight"),
    ("LayerNorm/beta", "LayerNorm.bias"),
)


class Module(NamedTuple):
    """A group of weights: its scope here, and its names in the two families there."""

    scope: str  # with fields of `modeling.LayerScopes` in a layer
    albert: str
    bert: str
    ends: Tuple[Tuple[str, str], ...]  # ends of the names of variables and parameters


BODY = (Module("embeddings/", "embeddings", "embeddings", EMBEDDINGS),)
PROJECTION = "encoder/embedding_hidden_mapping_in/"  # from E to H
PROJECTIONS = (Module(PROJECTION, "encoder.embedding_hidden_mapping_in", "", DENSE),)
POOLER = Module("pooler/dense/", "pooler", "pooler.dense", DENSE)
# Sublayer -> its modules.
SUBLAYERS = {
    "attention": (
        Module("{self_attention}/query/", "attention.query", "attention.self.query", DENSE),
        Module("{self_attention}/key/", "attention.key", "attention.self.key", DENSE),
        Module("{self_attention}/value/", "attention.value", "attention.self.value", DENSE),
        Module("{attention_output}/", "attention.dense", "attention.output.dense", DENSE),
        Module("{attention_norm}/", "attention.LayerNorm", "attention.output.LayerNorm", NORM),
    ),
    "ffn": (
        Module("{intermediate}/", "ffn", "intermediate.dense", DENSE),
        Module("{output}/", "ffn_output", "output.dense", DENSE),
        Module("{output_norm}/", "full_layer_layer_norm", "output.LayerNorm", NORM),
    ),
}
TRANSFORM, THEIR_TRANSFORM = "cls/predictions/transform/", "cls.predictions.transform."
# Head -> its modules.
HEADS = {
    "masked_lm": (
        Module(TRANSFORM + "dense/", "predictions.dense", THEIR_TRANSFORM + "dense", DENSE),
        Module(
            TRANSFORM + "LayerNorm/", "predictions.LayerNorm", THEIR_TRANSFORM + "LayerNorm", NORM
        ),
        Module("cls/predictions/", "predictions", "cls.predictions", (("output_bias", "bias"),)),
    ),
    "sentence_order": (
        Module(
            "cls/seq_relationship/", "sop_classifier.classifier", "cls.seq_relationship", OUTPUT
        ),
    ),
    "classifier": (Module("", "classifier", "classifier", OUTPUT),),
    "choice": (Module("", "classifier", "classifier", OUTPUT),),
    "spans": (Module("cls/squad/", "qa_outputs", "qa_outputs", OUTPUT),),
    "labels": (Module("cls/labels/", "classifier", "classifier", OUTPUT),),
}
# Scores of neighbouring labels, which no model there has.
OTHER_HEADS = (
    "heads {}: neither the heads of pre-training (masked_lm and sentence_order) nor a classifier "
    "alone"
)
CHAIN = "cls/labels/transitions"
# Other parameters that a folder may hold: (end of the name, end of the name of the parameter
# to which it is tied; None for a buffer).
COPIES = (
    ("predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    ("predictions.decoder.bias", "predictions.bias"),
    ("embeddings.position_ids", None),
    ("embeddings.token_type_ids", None),
)
# The two tables whose product is the word embeddings of albert_zh. The tables cannot be found from
# the product, so a folder keeps them in a file of their own.
FACTORS = ("bert/embeddings/word_embeddings", "bert/embeddings/word_embeddings_2")
WORDS = "{}.embeddings.word_embeddings.weight"


def _parameter_names(config, family, heads, has_pooler):
    """Return a dict of parameter name to variable name of a model with some heads.

    The parameters of layers that share weights have the same variable. The word embeddings of a
    factorized albert_zh are left out: `to_parameters` multiplies its two tables.
    """
    prefix = family + "."
    names = _names(BODY, family, "bert/", prefix)
    if configs.is_factorized(config):
        del names[WORDS.format(family)]
    if family == "albert":
        names.update(_names(PROJECTIONS, family, "bert/", prefix))
    scopes = modeling.LAYER_SCOPES[config.layout]._asdict()
    for layer, inner, place in _layers(config, family):
        for sublayer, modules in SUBLAYERS.items():
            scope = "bert/encoder/{}/".format(modeling.layer_scope(config, layer, inner, sublayer))
            names.update(_names(modules, family, scope, prefix + place + ".", scopes))
    if has_pooler:
        names.update(_names([POOLER], family, "bert/", prefix))
    for head in heads:
        names.update(_names(HEADS[head], family))
    return names


def _names(modules, family, scope="", prefix="", scopes=None):
    """Return a dict of parameter name to variable name of some modules."""
    names = {}
    for module in modules:
        place = prefix + getattr(module, family) + "."
        ours = scope + module.scope.format(**scopes or {})
        names.update((place + parameter, ours + variable) for variable, parameter in module.ends)
    return names


def _layers(config, family):
    """Yield (layer, inner, name there) of each layer that is stored there."""
    if family == "bert":
        for layer in range(config.num_hidden_layers):
            yield layer, 0, "encoder.layer.{}".format(layer)
        return
    groups = configs.num_groups(config)
    for group in range(groups):
        layer = -(-group * config.num_hidden_layers // groups)  # the first one of the group
        for inner in range(config.inner_group_num):
            name = "encoder.albert_layer_groups.{}.albert_layers.{}".format(group, inner)
            yield layer, inner, name


# ------------------------------------------------------------------------------------ weights


def to_parameters(config, family, arrays):
    """Return the parameters of a model of Hugging Face that computes the same as ours.

    Args:
        config: `modeling.AlbertConfig`.
        family: str, one of the `configs.ARCHITECTURES` of the config's layout.
        arrays: dict of variable name to float array, the weights of one checkpoint.

    Returns:
        (class name, dict of parameter name to array).

    Raises:
        UserError: where no model there computes the same, and where variables are missing or
            unknown.
    """
    configs.check_exact(config, family)
    heads = inspection.find_heads(inspection.shapes_of_arrays(arrays))
    if heads not in configs.CLASSES:
        raise UserError(OTHER_HEADS.format(", ".join(heads)))
    has_pooler = configs.CLASSES[heads] not in configs.WITHOUT_POOLER
    names = _parameter_names(config, family, heads, has_pooler)
    if CHAIN in arrays:
        raise UserError("{}: Hugging Face has no conditional random field".format(CHAIN))
    if not has_pooler:
        arrays = {name: arrays[name] for name in arrays if not name.startswith("bert/pooler/")}
    if configs.has_identity(config, family):
        arrays = dict(arrays)
        arrays["bert/" + PROJECTION + "kernel"] = np.eye(config.hidden_size, dtype=np.float32)
        arrays["bert/" + PROJECTION + "bias"] = np.zeros(config.hidden_size, np.float32)
    factors = FACTORS if configs.is_factorized(config) else ()
    _check_all_used(set(names.values()).union(factors), arrays, "the checkpoint")
    _check_shapes(config, arrays)
    parameters = {theirs: _transposed(arrays[ours], ours) for theirs, ours in names.items()}
    if factors:
        words, projection = (arrays[name].astype(np.float64) for name in factors)
        parameters[WORDS.format(family)] = (words @ projection).astype(np.float32)  # [V, H]
    return configs.FAMILIES[family] + configs.CLASSES[heads], parameters


def from_parameters(config, family, parameters, factors=None, class_name=""):
    """Return the weights of our model that computes the same as a model of Hugging Face.

    Args:
        config: `modeling.AlbertConfig`, as `configs.from_config` made it or, with `factors`, the
            original.
        family: str, key of `configs.FAMILIES`.
        parameters: dict of parameter name to array.
        factors: dict of the arrays of `FACTORS`, or None.
        class_name: str, class of the model there, or "" if it is not known.

    Returns:
        dict of variable name to array. A model of a class that has no pooler has none here.

    Raises:
        UserError: where parameters are missing or unknown, and where two parameters become one
            variable here but are not equal.
    """
    parameters = _with_full_names(family, _without_copies(parameters))
    pooler = "{}.{}.weight".format(family, getattr(POOLER, family))
    heads = _heads_of(family, parameters, class_name, pooler in parameters)
    needs_pooler = configs.CLASSES.get(heads) not in configs.WITHOUT_POOLER
    names = _parameter_names(config, family, heads, needs_pooler or pooler in parameters)
    expected = set(names).union([WORDS.format(family)] if configs.is_factorized(config) else [])
    _check_all_used(expected, parameters, "the folder")
    arrays = dict(factors or {})
    for theirs, ours in names.items():
        array = _transposed(parameters[theirs], ours)
        if ours in arrays and not np.array_equal(arrays[ours], array):
            raise UserError(
                "{} differs from the same parameter of other layers, which share it here: change "
                "parameter_sharing in the config".format(theirs)
            )
        arrays[ours] = array
    if configs.has_identity(config, family):
        kernel, bias = (arrays.pop("bert/" + PROJECTION + part) for part in ("kernel", "bias"))
        if not np.array_equal(kernel, np.eye(len(kernel))) or bias.any():
            raise UserError(
                "encoder.embedding_hidden_mapping_in projects {0} to {0} and is not an identity: "
                "an ALBERT of Hugging Face with embedding_size = hidden_size has this projection, "
                "a model of this code does not, so it cannot be converted; if to-huggingface made "
                "the folder with --architecture=albert and you then trained it, "
                "train the folder of --architecture=bert instead".format(len(kernel))
            )
    _check_shapes(config, arrays)
    return arrays


def _heads_of(family, parameters, class_name, has_pooler):
    """Return the heads of a model of Hugging Face, a tuple in the order of `HEADS`.

    Three heads have the same names at Hugging Face. The model's class decides which of the three a
    model has. If the class is not known, the shape of the head and the presence of a pooler decide.
    """
    heads = [head for head in HEADS if parameters.keys() & _names(HEADS[head], family)]
    same = [head for head in ("classifier", "choice", "labels") if head in heads]
    if same:
        of_class = [h for h in same if class_name.endswith(configs.CLASSES[(h,)])]
        is_choice = len(parameters["classifier.weight"]) == 1
        guess = "choice" if is_choice else "classifier" if has_pooler else "labels"
        (kept,) = of_class or [guess]
        heads = [head for head in heads if head not in same or head == kept]
    return tuple(heads)


def _transposed(array, variable):
    """Return a kernel [in, out] as [out, in], or back; other weights unchanged."""
    return np.ascontiguousarray(array.T if variable.endswith("/kernel") else array)


def _without_copies(parameters):
    """Return parameters without `COPIES`; raises UserError where tied parameters differ."""
    kept = dict(parameters)
    for end, original in COPIES:
        for name in [name for name in kept if name.endswith(end)]:
            copy = kept.pop(name)
            equal = [other for other in kept if original and other.endswith(original)]
            if equal and not np.array_equal(copy, kept[equal[0]]):
                text = "{} differs from {}, but the models here use one tensor for both"
                raise UserError(text.format(name, equal[0]))
    return kept


def _with_full_names(family, parameters):
    """Return parameters under today's names.

    A prefix around the whole model, such as `module.` of DataParallel, is left out. The prefix of
    the family is added to names that lack it, such as the names of a model without heads.
    """
    words = re.compile(r"^((?:.+?\.)??)({}\.)?embeddings\.word_embeddings".format(family))
    match = next(filter(None, map(words.match, parameters)), None)
    outer, has_prefix = (match.group(1), bool(match.group(2))) if match else ("", True)
    renamed = {}
    for name, array in parameters.items():
        name = name[len(outer) :] if name.startswith(outer) else name
        # In files written before 2019 names end with gamma and beta.
        name = re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", name))
        renamed[name if has_prefix else family + "." + name] = array
    return renamed


def _check_all_used(expected, actual, where):
    """Raise UserError where names are missing or unknown."""
    missing, unknown = set(expected) - set(actual), set(actual) - set(expected)
    unnumbered = [{re.sub(r"\d+", "", name) for name in names} for names in (unknown, expected)]
    # If only the number of layers differs, the names are known when their numbers are left out.
    is_foreign = missing and not unnumbered[0] <= unnumbered[1]
    remedy = "it was made by other code" if is_foreign else "use the config that belongs to it"
    if missing and not unknown and all("pooler" in name for name in missing):
        remedy = "it was saved without the pooler, which only a model for masks alone can lack"
    for names, problem, others in (
        (missing, "lacks", unknown),
        (unknown, "has, unknown to this config,", missing),
    ):
        if names:
            near = difflib.get_close_matches(min(names), others, 1)
            hint = " (it has {})".format(near[0]) if near else ""
            message = "{} {} {} names, {} first{}: {}"
            raise UserError(message.format(where, problem, len(names), min(names), hint, remedy))


def _check_shapes(config, arrays):
    """Raise UserError where the shape of an array contradicts a config."""
    num_labels = len(arrays["output_weights"]) if "output_weights" in arrays else None
    expected = modeling.parameter_shapes(config, num_labels)
    for name in sorted(set(arrays) & set(expected)):
        if list(arrays[name].shape) != expected[name]:
            message = "{} has shape {}, but by the config {}: use the config that belongs to it"
            raise UserError(message.format(name, list(arrays[name].shape), expected[name]))


def words_sha256(family, parameters):
    """Return the hash of the word embeddings; it shows whether the two stored tables still fit."""
    words = np.ascontiguousarray(parameters[WORDS.format(family)])
    return hashlib.sha256(words.tobytes()).hexdigest()
