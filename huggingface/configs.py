"""Configs of the same model here and at Hugging Face, and which models there equal ours.

In this module, "there" and "their" refer to Hugging Face.

The google layout is Hugging Face's ALBERT. The albert_zh layout with LayerNorm after each sublayer
is Hugging Face's BERT with equal weights in all layers that share them, and with the product of
`word_embeddings` and `word_embeddings_2` as word embeddings. The same layout is also Hugging Face's
ALBERT with E = H and an identity matrix as projection.
"""

import dataclasses

import modeling
from common.config_fields import FIXED
from common.errors import UserError

LAYER_NORM_EPSILON = 1e-12
CLASSIFIER_DROPOUT = 0.1
# model_type, with which parameter names begin -> beginning of the names of classes.
FAMILIES = {"albert": "Albert", "bert": "Bert"}
# Layout -> families that compute the same, the default first.
ARCHITECTURES = {"google": ("albert",), "albert_zh": ("bert", "albert")}
# Heads -> end of the class's name.
CLASSES = {
    (): "Model",
    ("masked_lm", "sentence_order"): "ForPreTraining",
    ("masked_lm",): "ForMaskedLM",
    ("classifier",): "ForSequenceClassification",
    ("choice",): "ForMultipleChoice",
    ("spans",): "ForQuestionAnswering",
    ("labels",): "ForTokenClassification",
}
# Classes that have no pooler there: their heads do not read it.
WITHOUT_POOLER = ("ForMaskedLM", "ForQuestionAnswering", "ForTokenClassification")
# hidden_act here -> there.
ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "tanh": "tanh", "linear": "linear"}
# Fields of equal name and meaning: the sizes of the model, and others.
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
SAME_FIELDS = SIZES + ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
# Fields of a config.json on which the model's outputs and weights depend.
MODEL_FIELDS = SIZES + (
    "embedding_size",
    "num_hidden_groups",
    "inner_group_num",
    "hidden_act",
    "layer_norm_eps",
)


def is_factorized(config):
    """Return whether our word embeddings are a product of two tables; there they are one table."""
    return config.layout == "albert_zh" and config.embedding_size is not None


def has_identity(config, family):
    """Return whether their model has a projection from H to H where ours has none."""
    return family == "albert" and (
        config.layout == "albert_zh" or config.embedding_width == config.hidden_size
    )


def num_groups(config):
    """Return the number of layer groups of their ALBERT: one for each layer if any weight differs.

    The layers of Hugging Face's ALBERT share all weights or none.
    """
    if config.parameter_sharing == "all":
        return config.num_hidden_groups
    return config.num_hidden_layers


def check_exact(config, family):
    """Raise UserError for a model that a family does not compute."""
    if family not in ARCHITECTURES[config.layout]:
        raise UserError(
            "a model of layout {!r} is not a {}: embeddings there are normalized after they are "
            "projected to H, here before".format(config.layout, family)
        )
    if config.ln_type == "preln":
        raise UserError(
            "ln_type 'preln' has no counterpart: the BERT and ALBERT of Hugging Face normalize "
            "after each sublayer, this model before it"
        )


def to_config(config, family, name, labels=(), task=None, settings=()):
    """Return the `config.json` of a model, a dict.

    Args:
        config: `modeling.AlbertConfig`.
        family: str, key of `FAMILIES`.
        name: str, of the class there.
        labels: sequence of str, of a head with labels, in the order of its outputs.
        task: str, the task for which the head was trained.
        settings: dict, other values on which predictions depend.
    """
    theirs = {field: getattr(config, field) for field in SAME_FIELDS}
    theirs.update(
        architectures=[name],
        model_type=family,
        hidden_act=ACTIVATIONS[config.hidden_act],
        layer_norm_eps=LAYER_NORM_EPSILON,
        pad_token_id=0,
        dtype="float32",
        torch_dtype="float32",  # the name of `dtype` before transformers 4.56
        tie_word_embeddings=True,
    )
    if family == "albert":
        is_square = has_identity(config, family)
        theirs.update(
            embedding_size=config.hidden_size if is_square else config.embedding_width,
            num_hidden_groups=num_groups(config),
            inner_group_num=config.inner_group_num,
            classifier_dropout_prob=CLASSIFIER_DROPOUT,
        )
    else:
        theirs.update(classifier_dropout=CLASSIFIER_DROPOUT)
    if labels:
        theirs.update(
            id2label={str(i): label for i, label in enumerate(labels)},
            label2id={label: i for i, label in enumerate(labels)},
        )
    if labels or (name or "").endswith(("ForMultipleChoice", "ForQuestionAnswering")):
        theirs.update(finetuning_task=task)
    if settings:
        theirs.update(task_specific_params={task: settings})
    return theirs


def family_of(values, source):
    """Return the family of a config.json, a key of `FAMILIES`.

    Args:
        values: dict, of the config.json.
        source: str, path of the config.json, for messages.

    Raises:
        UserError: for another family, and for heads that models here do not have.
    """
    family = values.get("model_type") or _family_of_old(values)
    if family not in FAMILIES:
        raise UserError("{}: model_type {!r}, not albert or bert".format(source, family))
    known = [FAMILIES[family] + end for end in CLASSES.values()]
    unknown = set(values.get("architectures") or ()).difference(known)
    problem = values.get("problem_type")
    if unknown or problem not in (None, "single_label_classification"):
        raise UserError(
            "{}: architectures {} and problem_type {!r}, but here there are {}, and classifiers "
            "choose one label of several".format(
                source, values.get("architectures"), problem, ", ".join(known)
            )
        )
    return family


def _family_of_old(values):
    """Return the family of a config.json of 2019, which has no model_type."""
    is_albert = "num_hidden_groups" in values or "embedding_size" in values
    return "albert" if is_albert else "bert"


def check_same_model(config, family, values):
    """Raise UserError where a config.json no longer describes the model of a config of ours.

    Args:
        config: `modeling.AlbertConfig`.
        family: str, key of `FAMILIES`.
        values: dict, of the config.json.
    """
    expected = to_config(config, family, None)
    for name in MODEL_FIELDS:
        if expected.get(name) != values.get(name, expected.get(name)):
            change = "{} is {!r} in its config.json and was {!r}"
            raise UserError(change.format(name, values[name], expected.get(name)))


def from_config(values, source):
    """Return the `modeling.AlbertConfig` of a config.json.

    A BERT becomes the albert_zh layout with one table of words and layers that share nothing.

    Args:
        values, source: as in `family_of`.

    Raises:
        UserError: as in `family_of`, and for computations that do not exist here.
    """
    known = {field.name for field in dataclasses.fields(modeling.AlbertConfig)}
    fields = {name: value for name, value in values.items() if name in known | set(FIXED)}
    return modeling.AlbertConfig.from_dict(
        dict(fields, model_type=family_of(values, source)), source
    )
