"""The same models in the files of Hugging Face: names, configs, and what is exactly what.

The google layout is Hugging Face's ALBERT. The albert_zh layout with LayerNorm after each sublayer
is its BERT, with layers that share weights, and with the product of `word_embeddings` and
`word_embeddings_2` as word embeddings. It is an ALBERT as well, one with E = H whose projection
changes nothing. All of it is tables of names; kernels are transposed.

Dimension letters as in modeling.py: V, E, H, L.
"""

import dataclasses
import hashlib
from typing import NamedTuple, Tuple

import numpy as np

import modeling
from checkpointing import inspection
from common.errors import UserError

LAYER_NORM_EPSILON = 1e-12
CLASSIFIER_DROPOUT = 0.1
# Architectures there: how names begin, which is their model_type, and what classes are called.
FAMILIES = {"albert": "Albert", "bert": "Bert"}
# Layout -> architectures that compute the same, the usual one first.
ARCHITECTURES = {"google": ("albert",), "albert_zh": ("bert", "albert")}
# Heads -> end of the class's name.
CLASSES = {
    (): "Model",
    ("masked_lm", "sentence_order"): "ForPreTraining",
    ("masked_lm",): "ForMaskedLM",
    ("classifier",): "ForSequenceClassification",
}
ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "tanh": "tanh", "linear": "linear"}
ACTIVATIONS_BACK = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
# What a config there means that does not say it.
DEFAULT_ACTIVATIONS = {"albert": "gelu_new", "bert": "gelu"}
DEFAULT_EMBEDDING_SIZE = 128
# Fields of a config there that say what is computed.
MODEL_FIELDS = (
    "vocab_size",
    "hidden_size",
    "embedding_size",
    "num_hidden_layers",
    "num_hidden_groups",
    "inner_group_num",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_eps",
)

# Kinds of modules -> (name of the variable, of the parameter).
DENSE = (("kernel", "weight"), ("bias", "bias"))
NORM = (("gamma", "weight"), ("beta", "bias"))


class Module(NamedTuple):
    """A module of a layer: where it is here, in any layout, and what it is called there."""

    part: str  # field of `modeling.LayerScopes`
    albert: str
    bert: str
    kind: Tuple[Tuple[str, str], ...]
    below: str = ""  # scope below that of the part


# Sublayer -> its modules.
SUBLAYERS = {
    "attention": (
        Module("self_attention", "attention.query", "attention.self.query", DENSE, "/query"),
        Module("self_attention", "attention.key", "attention.self.key", DENSE, "/key"),
        Module("self_attention", "attention.value", "attention.self.value", DENSE, "/value"),
        Module("attention_output", "attention.dense", "attention.output.dense", DENSE),
        Module("attention_norm", "attention.LayerNorm", "attention.output.LayerNorm", NORM),
    ),
    "ffn": (
        Module("intermediate", "ffn", "intermediate.dense", DENSE),
        Module("output", "ffn_output", "output.dense", DENSE),
        Module("output_norm", "full_layer_layer_norm", "output.LayerNorm", NORM),
    ),
}
EMBEDDINGS = (
    ("word_embeddings", "word_embeddings.weight"),
    ("position_embeddings", "position_embeddings.weight"),
    ("token_type_embeddings", "token_type_embeddings.weight"),
    ("LayerNorm/gamma", "LayerNorm.weight"),
    ("LayerNorm/beta", "LayerNorm.bias"),
)
PROJECTION = "encoder/embedding_hidden_mapping_in"
POOLER = {"albert": "pooler", "bert": "pooler.dense"}
# Head -> (variable, parameter), for each architecture.
HEAD_NAMES = {
    "albert": {
        "masked_lm": (
            ("cls/predictions/transform/dense/kernel", "predictions.dense.weight"),
            ("cls/predictions/transform/dense/bias", "predictions.dense.bias"),
            ("cls/predictions/transform/LayerNorm/gamma", "predictions.LayerNorm.weight"),
            ("cls/predictions/transform/LayerNorm/beta", "predictions.LayerNorm.bias"),
            ("cls/predictions/output_bias", "predictions.bias"),
        ),
        "sentence_order": (
            ("cls/seq_relationship/output_weights", "sop_classifier.classifier.weight"),
            ("cls/seq_relationship/output_bias", "sop_classifier.classifier.bias"),
        ),
    },
    "bert": {
        "masked_lm": (
            ("cls/predictions/transform/dense/kernel", "cls.predictions.transform.dense.weight"),
            ("cls/predictions/transform/dense/bias", "cls.predictions.transform.dense.bias"),
            (
                "cls/predictions/transform/LayerNorm/gamma",
                "cls.predictions.transform.LayerNorm.weight",
            ),
            (
                "cls/predictions/transform/LayerNorm/beta",
                "cls.predictions.transform.LayerNorm.bias",
            ),
            ("cls/predictions/output_bias", "cls.predictions.bias"),
        ),
        "sentence_order": (
            ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
            ("cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
        ),
    },
}
CLASSIFIER = (("output_weights", "classifier.weight"), ("output_bias", "classifier.bias"))
# Parameters that are others once more (tied), and buffers: (end of the name, name it equals).
COPIES = (
    ("predictions.decoder.weight", "embeddings.word_embeddings.weight"),
    ("predictions.decoder.bias", "predictions.bias"),
    ("embeddings.position_ids", None),
    ("embeddings.token_type_ids", None),
)
# Ends of names as they were before 2019.
OLD_ENDS = {".gamma": ".weight", ".beta": ".bias"}
# Of the product of albert_zh's two matrices the factors cannot be told: they are kept beside it.
FACTORS = ("bert/embeddings/word_embeddings", "bert/embeddings/word_embeddings_2")
WORDS = "{}.embeddings.word_embeddings.weight"


# ------------------------------------------------------------------------------------ names


def is_factorized(config):
    """Tell whether word embeddings are a product here and one table there."""
    return config.layout == "albert_zh" and config.embedding_size is not None


def has_identity(config, family):
    """Tell whether there is a projection there, from H to H, and none here."""
    return family == "albert" and (
        config.layout == "albert_zh" or config.embedding_width == config.hidden_size
    )


def parameter_names(config, family, heads, has_pooler=True):
    """Return a dict of parameter name to variable name of a model with some heads.

    Parameters of layers that share weights name the same variables. The word embeddings of a
    factorized albert_zh are not among them: see `to_parameters`.

    Args:
        config: `modeling.AlbertConfig`.
        family: key of `FAMILIES`.
        heads: iterable of keys of `inspection.HEADS`.
        has_pooler: bool.
    """
    prefix = family + "."
    names = {
        prefix + "embeddings." + theirs: "bert/embeddings/" + ours for ours, theirs in EMBEDDINGS
    }
    if is_factorized(config):
        del names[WORDS.format(family)]
    if family == "albert":
        _add(names, prefix + PROJECTION.replace("/", "."), "bert/" + PROJECTION, DENSE)
    for layer, inner, place in _layers(config, family):
        for sublayer, modules in SUBLAYERS.items():
            scope = "bert/encoder/" + modeling.layer_scope(config, layer, inner, sublayer)
            for module in modules:
                ours = getattr(modeling.LAYER_SCOPES[config.layout], module.part) + module.below
                theirs = prefix + place + "." + getattr(module, family)
                _add(names, theirs, scope + "/" + ours, module.kind)
    if has_pooler:
        _add(names, prefix + POOLER[family], "bert/pooler/dense", DENSE)
    for head in heads:
        names.update((theirs, ours) for ours, theirs in _head(family, head))
    return names


def _head(family, head):
    return HEAD_NAMES[family].get(head, CLASSIFIER)


def _add(names, module, scope, kind):
    names.update((module + "." + theirs, scope + "/" + ours) for ours, theirs in kind)


def _layers(config, family):
    """Yield (layer, inner, place) of each layer that is stored there."""
    if family == "bert":
        for layer in range(config.num_hidden_layers):
            yield layer, 0, "encoder.layer.{}".format(layer)
        return
    groups = num_groups(config)
    for group in range(groups):
        layer = -(-group * config.num_hidden_layers // groups)  # the first one of the group
        for inner in range(config.inner_group_num):
            name = "encoder.albert_layer_groups.{}.albert_layers.{}".format(group, inner)
            yield layer, inner, name


def num_groups(config):
    """Return the groups of layers that ALBERT there needs: as many as differ in any weight."""
    if config.parameter_sharing == "all":
        return config.num_hidden_groups
    return config.num_hidden_layers


# ------------------------------------------------------------------------------------ weights


def to_parameters(config, family, arrays):
    """Return the parameters of a model there that computes what ours does.

    Args:
        config: `modeling.AlbertConfig`.
        family: str, one of the `ARCHITECTURES` of its layout.
        arrays: dict of variable name to float array, the weights of one checkpoint.

    Returns:
        (class name, dict of parameter name to array).

    Raises:
        UserError: where there is no such model, or variables are missing or left over.
    """
    check_exact(config, family)
    heads = inspection.find_heads(arrays)
    if heads not in CLASSES:
        raise UserError(
            "heads {}: neither those of pre-training (masked_lm and sentence_order) nor a "
            "classifier alone".format(", ".join(heads))
        )
    names = parameter_names(config, family, heads, CLASSES[heads] != "ForMaskedLM")
    if has_identity(config, family):
        arrays = dict(arrays)
        arrays["bert/" + PROJECTION + "/kernel"] = np.eye(config.hidden_size, dtype=np.float32)
        arrays["bert/" + PROJECTION + "/bias"] = np.zeros(config.hidden_size, np.float32)
    factors = FACTORS if is_factorized(config) else ()
    check_all_used(set(names.values()).union(factors), arrays, "the checkpoint")
    check_shapes(config, arrays)
    parameters = {theirs: _turned(arrays[ours], ours) for theirs, ours in names.items()}
    if factors:
        words, projection = (arrays[name].astype(np.float64) for name in factors)
        parameters[WORDS.format(family)] = (words @ projection).astype(np.float32)  # [V, H]
    return class_name(family, heads), parameters


def from_parameters(config, family, parameters, factors=None):
    """Return the weights of our model that computes what a model there does.

    Args:
        config: `modeling.AlbertConfig`, as `from_config` made it or, with `factors`, the original.
        family: str, key of `FAMILIES`.
        parameters: dict of parameter name to array.
        factors: dict of the arrays of `FACTORS`, or None.

    Returns:
        dict of variable name to array. A model that only fills masks has no pooler.

    Raises:
        UserError: where parameters are missing or left over, or differ though they are one here.
    """
    parameters = with_full_names(family, without_copies(parameters))
    heads = tuple(
        head
        for head in inspection.HEADS
        if any(theirs in parameters for _, theirs in _head(family, head))
    )
    pooler = "{}.{}.weight".format(family, POOLER[family])
    names = parameter_names(config, family, heads, heads != ("masked_lm",) or pooler in parameters)
    expected = set(names).union([WORDS.format(family)] if is_factorized(config) else [])
    check_all_used(expected, parameters, "the folder")
    arrays = dict(factors or {})
    for theirs, ours in names.items():
        array = _turned(parameters[theirs], ours)
        if ours in arrays and not np.array_equal(arrays[ours], array):
            raise UserError(
                "{} is not equal to that of the other layers, which share it here: change "
                "parameter_sharing in the config".format(theirs)
            )
        arrays[ours] = array
    arrays = _without_identity(arrays) if has_identity(config, family) else arrays
    check_shapes(config, arrays)
    return arrays


def _without_identity(arrays):
    kernel, bias = (arrays.pop("bert/" + PROJECTION + "/" + part) for part in ("kernel", "bias"))
    if not np.array_equal(kernel, np.eye(len(kernel))) or bias.any():
        raise UserError(
            "embedding_hidden_mapping_in projects {0} to {0} and is no identity: there is no such "
            "projection in a model whose E is H; if it was trained after --architecture=albert, "
            "train what --architecture=bert makes".format(len(kernel))
        )
    return arrays


def _turned(array, variable):
    """Return a kernel transposed, [in, out] to [out, in] and back; anything else as it is."""
    return np.ascontiguousarray(array.T if variable.endswith("/kernel") else array)


def without_copies(parameters):
    """Return parameters without tied ones and buffers; raises UserError where the former differ."""
    kept = dict(parameters)
    for end, original in COPIES:
        for name in [name for name in kept if name.endswith(end)]:
            copy = kept.pop(name)
            equal = [other for other in kept if original and other.endswith(original)]
            if equal and not np.array_equal(copy, kept[equal[0]]):
                raise UserError("{} is not {}: they are one here".format(name, equal[0]))
    return kept


def with_full_names(family, parameters):
    """Return parameters under today's names; those of a model without heads lack the prefix."""
    for old, new in OLD_ENDS.items():
        parameters = {
            name[: -len(old)] + new if name.endswith(old) else name: array
            for name, array in parameters.items()
        }
    prefix = family + "."
    if any(name.startswith(prefix) for name in parameters):
        return parameters
    return {prefix + name: array for name, array in parameters.items()}


def check_all_used(expected, found, where):
    """Raise UserError where names are missing or left over."""
    missing, left = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    for names, problem in ((missing, "lacks"), (left, "has, unknown to this config,")):
        if names:
            raise UserError(
                "{} {} {} names, {} first: use the config that belongs to it".format(
                    where, problem, len(names), names[0]
                )
            )


def check_shapes(config, arrays):
    """Raise UserError where an array has not the shape that a config says."""
    is_classifier = "classifier" in inspection.find_heads(arrays)
    num_labels = len(arrays["output_weights"]) if is_classifier else None
    expected = modeling.parameter_shapes(config, num_labels)
    for name in sorted(set(arrays) & set(expected)):
        if list(arrays[name].shape) != expected[name]:
            raise UserError(
                "{} has shape {}, but by the config {}: use the config that belongs to it".format(
                    name, list(arrays[name].shape), expected[name]
                )
            )


def words_sha256(family, parameters):
    """Return the hash of the word embeddings, which tells whether kept factors are still theirs."""
    words = np.ascontiguousarray(parameters[WORDS.format(family)])
    return hashlib.sha256(words.tobytes()).hexdigest()


# ------------------------------------------------------------------------------------ configs


def check_exact(config, family):
    """Raise UserError for a model that an architecture of Hugging Face does not compute."""
    if family not in ARCHITECTURES[config.layout]:
        raise UserError(
            "a model of layout {!r} is no {}: embeddings there are normalized after they are "
            "projected to H, here before".format(config.layout, family)
        )
    if config.ln_type == "preln":
        raise UserError(
            "ln_type 'preln' has no counterpart: the BERT and ALBERT of Hugging Face normalize "
            "after each sublayer, this model before it and nowhere at its end; another code of "
            "the encoder would be needed, other names are not enough"
        )


def class_name(family, heads):
    """Return the name of the class there of a model with some heads, a key of `CLASSES`."""
    return FAMILIES[family] + CLASSES[heads]


def to_config(config, family, name, labels=(), task=None):
    """Return the `config.json` of a model there, a dict.

    Args:
        config: `modeling.AlbertConfig`.
        family: str, key of `FAMILIES`.
        name: str, of the class there.
        labels: sequence of str, of a classifier, in the order of its outputs.
        task: str, what the classifier was trained for.
    """
    same = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "max_position_embeddings",
        "type_vocab_size",
        "initializer_range",
    )
    made = {name: getattr(config, name) for name in same}
    made.update(
        architectures=[name],
        model_type=family,
        hidden_act=ACTIVATIONS[config.hidden_act],
        layer_norm_eps=LAYER_NORM_EPSILON,
        pad_token_id=0,
        dtype="float32",
        torch_dtype="float32",  # the same, for transformers before 4.56
        tie_word_embeddings=True,
    )
    if family == "albert":
        is_projected = not has_identity(config, family)
        made.update(
            embedding_size=config.embedding_width if is_projected else config.hidden_size,
            num_hidden_groups=num_groups(config),
            inner_group_num=config.inner_group_num,
            classifier_dropout_prob=CLASSIFIER_DROPOUT,
        )
    else:
        made.update(classifier_dropout=CLASSIFIER_DROPOUT)
    if labels:
        made.update(
            id2label={str(i): label for i, label in enumerate(labels)},
            label2id={label: i for i, label in enumerate(labels)},
            finetuning_task=task,
        )
    return made


def family_of(values, source):
    """Return the architecture of a config.json, a key of `FAMILIES`.

    Raises:
        UserError: for another one, and for heads that there are none of here.
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise UserError("{}: model_type {!r}, not albert or bert".format(source, family))
    known = [FAMILIES[family] + end for end in CLASSES.values()]
    unknown = [name for name in values.get("architectures") or () if name not in known]
    if unknown:
        raise UserError(
            "{}: {} has a head that there is none of here, where there are {}".format(
                source, unknown[0], ", ".join(known)
            )
        )
    if values.get("problem_type") not in (None, "single_label_classification"):
        raise UserError(
            "{}: problem_type {!r}: classifiers here tell one label of several".format(
                source, values["problem_type"]
            )
        )
    return family


def check_same_model(config, family, values):
    """Raise UserError where a config.json is no longer that of a model of ours.

    Args:
        config: `modeling.AlbertConfig`.
        family: str, key of `FAMILIES`.
        values: dict, the config.json.
    """
    made = to_config(config, family, None)
    for name in MODEL_FIELDS:
        if made.get(name) != values.get(name, made.get(name)):
            raise UserError(
                "{} is {!r} in its config.json and was {!r}".format(
                    name, values[name], made.get(name)
                )
            )


def from_config(values, source):
    """Return the `modeling.AlbertConfig` of a model there.

    A BERT becomes the albert_zh layout with one table of words and layers that share nothing.

    Args:
        values: dict, of its config.json.
        source: str, path of that, for messages.

    Raises:
        UserError: for another kind of model, and for what cannot be computed here.
    """
    family = family_of(values, source)
    act = values.get("hidden_act", DEFAULT_ACTIVATIONS[family])
    if act not in ACTIVATIONS_BACK:
        remedy = "there is {} only".format(", ".join(sorted(ACTIVATIONS_BACK)))
        if act == "gelu":
            remedy = (
                "gelu is the tanh approximation: if the model was trained with that, as all "
                'published ALBERT were, write "gelu_new" there'
            )
        raise UserError("{}: hidden_act {!r} does not exist here: {}".format(source, act, remedy))
    epsilon = values.get("layer_norm_eps", LAYER_NORM_EPSILON)
    position = values.get("position_embedding_type", "absolute")
    if epsilon != LAYER_NORM_EPSILON or position != "absolute":
        raise UserError(
            "{}: layer_norm_eps {} and position_embedding_type {!r}, but here they are {} and "
            "'absolute'".format(source, epsilon, position, LAYER_NORM_EPSILON)
        )
    known = [field.name for field in dataclasses.fields(modeling.AlbertConfig)]
    fields = {name: values[name] for name in known if name in values}
    fields["hidden_act"] = ACTIVATIONS_BACK[act]
    if family == "albert":
        fields["layout"] = "google"
        fields.setdefault("embedding_size", DEFAULT_EMBEDDING_SIZE)
    else:
        fields.update(layout="albert_zh", embedding_size=None, parameter_sharing="none")
    return modeling.AlbertConfig.from_dict(fields, source)
