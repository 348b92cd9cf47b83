"""The same models in the files of Hugging Face: names, configs, and what is exactly what.

The google layout is Hugging Face's ALBERT. The albert_zh layout with LayerNorm after each sublayer
is its BERT, with layers that share weights, and with the product of `word_embeddings` and
`word_embeddings_2` as word embeddings. All of it is tables of names; kernels are transposed.

Dimension letters as in modeling.py: V, E, H, L.
"""

import dataclasses
import hashlib

import numpy as np

import modeling
from pipeline import inspection
from pipeline.errors import UserError

LAYER_NORM_EPSILON = 1e-12
CLASSIFIER_DROPOUT = 0.1
# Layout -> how the names of its counterpart begin, and what its classes and model_type are called.
PREFIXES = {"google": "albert", "albert_zh": "bert"}
FAMILIES = {"albert": "Albert", "bert": "Bert"}
# Heads -> end of the class's name.
CLASSES = {
    (): "Model",
    ("masked_lm", "sentence_order"): "ForPreTraining",
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

# Kinds of modules -> (name of the variable, of the parameter).
DENSE = (("kernel", "weight"), ("bias", "bias"))
NORM = (("gamma", "weight"), ("beta", "bias"))
# What a layer's sublayers are made of: (variable scope, module, kind).
SUBLAYERS = {
    "google": {
        "attention": (
            ("attention_1/self/query", "attention.query", DENSE),
            ("attention_1/self/key", "attention.key", DENSE),
            ("attention_1/self/value", "attention.value", DENSE),
            ("attention_1/output/dense", "attention.dense", DENSE),
            ("LayerNorm", "attention.LayerNorm", NORM),
        ),
        "ffn": (
            ("ffn_1/intermediate/dense", "ffn", DENSE),
            ("ffn_1/intermediate/output/dense", "ffn_output", DENSE),
            ("LayerNorm_1", "full_layer_layer_norm", NORM),
        ),
    },
    "albert_zh": {
        "attention": (
            ("attention/self/query", "attention.self.query", DENSE),
            ("attention/self/key", "attention.self.key", DENSE),
            ("attention/self/value", "attention.self.value", DENSE),
            ("attention/output/dense", "attention.output.dense", DENSE),
            ("attention/output/LayerNorm", "attention.output.LayerNorm", NORM),
        ),
        "ffn": (
            ("intermediate/dense", "intermediate.dense", DENSE),
            ("output/dense", "output.dense", DENSE),
            ("output/LayerNorm", "output.LayerNorm", NORM),
        ),
    },
}
EMBEDDINGS = (
    ("word_embeddings", "word_embeddings.weight"),
    ("position_embeddings", "position_embeddings.weight"),
    ("token_type_embeddings", "token_type_embeddings.weight"),
    ("LayerNorm/gamma", "LayerNorm.weight"),
    ("LayerNorm/beta", "LayerNorm.bias"),
)
PROJECTION = "encoder/embedding_hidden_mapping_in"
POOLER = {"google": "pooler", "albert_zh": "pooler.dense"}
# Head -> (variable, parameter), for each layout.
HEAD_NAMES = {
    "google": {
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
    "albert_zh": {
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
# Of the product of albert_zh's two matrices the factors cannot be told: they are kept beside it.
FACTORS = ("bert/embeddings/word_embeddings", "bert/embeddings/word_embeddings_2")
WORDS = "bert.embeddings.word_embeddings.weight"


# ------------------------------------------------------------------------------------ names


def is_factorized(config):
    """Tell whether word embeddings are a product here and one table there."""
    return config.layout == "albert_zh" and config.embedding_size is not None


def parameter_names(config, heads):
    """Return a dict of parameter name to variable name of a model with some heads.

    Parameters of layers that share weights name the same variables. The word embeddings of a
    factorized albert_zh are not among them: see `to_parameters`.

    Args:
        config: `modeling.AlbertConfig`.
        heads: iterable of keys of `inspection.HEADS`.
    """
    layout, prefix = config.layout, PREFIXES[config.layout] + "."
    scopes = ("bert/embeddings/", prefix + "embeddings.")
    names = {scopes[1] + theirs: scopes[0] + ours for ours, theirs in EMBEDDINGS}
    if is_factorized(config):
        del names[WORDS]
    if layout == "google":
        module = prefix + PROJECTION.replace("/", ".")
        _add(names, module, "bert/" + PROJECTION, DENSE)
    for layer, inner, module in _layers(config):
        for sublayer, parts in SUBLAYERS[layout].items():
            scope = "bert/encoder/" + modeling.layer_scope(config, layer, inner, sublayer)
            for ours, theirs, kind in parts:
                _add(names, "{}{}.{}".format(prefix, module, theirs), scope + "/" + ours, kind)
    _add(names, prefix + POOLER[layout], "bert/pooler/dense", DENSE)
    for head in heads:
        names.update((theirs, ours) for ours, theirs in _head(config, head))
    return names


def _head(config, head):
    return HEAD_NAMES[config.layout].get(head, CLASSIFIER)


def _add(names, module, scope, kind):
    names.update((module + "." + theirs, scope + "/" + ours) for ours, theirs in kind)


def _layers(config):
    """Yield (layer, inner, module) of each layer that is stored there."""
    if config.layout == "albert_zh":
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


def to_parameters(config, arrays):
    """Return the parameters of a model there that computes what ours does.

    Args:
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to float array, the weights of one checkpoint.

    Returns:
        (class name, dict of parameter name to array).

    Raises:
        UserError: where there is no such model, or variables are missing or left over.
    """
    check_exact(config)
    heads = inspection.find_heads(arrays)
    if heads not in CLASSES:
        raise UserError(
            "heads {}: neither those of pre-training (masked_lm and sentence_order) nor a "
            "classifier alone".format(", ".join(heads))
        )
    names = parameter_names(config, heads)
    arrays = dict(arrays)
    if config.layout == "google" and config.embedding_width == config.hidden_size:
        # Without a projection here, with one there: the one that changes nothing.
        arrays["bert/" + PROJECTION + "/kernel"] = np.eye(config.hidden_size, dtype=np.float32)
        arrays["bert/" + PROJECTION + "/bias"] = np.zeros(config.hidden_size, np.float32)
    factors = FACTORS if is_factorized(config) else ()
    check_all_used(set(names.values()).union(factors), arrays, "the checkpoint")
    parameters = {theirs: _turned(arrays[ours], ours) for theirs, ours in names.items()}
    if factors:
        words, projection = (arrays[name].astype(np.float64) for name in factors)
        parameters[WORDS] = (words @ projection).astype(np.float32)  # [V, H]
    return FAMILIES[PREFIXES[config.layout]] + CLASSES[heads], parameters


def from_parameters(config, parameters, factors=None):
    """Return the weights of our model that computes what a model there does.

    Args:
        config: `modeling.AlbertConfig`, as `from_config` made it or, with `factors`, the original.
        parameters: dict of parameter name to array.
        factors: dict of the arrays of `FACTORS`, or None.

    Returns:
        dict of variable name to array.

    Raises:
        UserError: where parameters are missing or left over, or differ though they are one here.
    """
    parameters = with_prefix(config, without_copies(parameters))
    heads = [
        head
        for head in inspection.HEADS
        if any(theirs in parameters for _, theirs in _head(config, head))
    ]
    names = parameter_names(config, heads)
    expected = set(names).union([WORDS] if is_factorized(config) else [])
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
    return _without_identity(config, arrays)


def _without_identity(config, arrays):
    if config.layout != "google" or config.embedding_width != config.hidden_size:
        return arrays
    kernel, bias = (arrays.pop("bert/" + PROJECTION + "/" + part) for part in ("kernel", "bias"))
    if not np.array_equal(kernel, np.eye(len(kernel))) or bias.any():
        raise UserError(
            "embedding_hidden_mapping_in projects {0} to {0}: there is no such projection in a "
            "model whose E is H".format(len(kernel))
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


def with_prefix(config, parameters):
    """Return parameters under full names: those of a model without any head lack the prefix."""
    prefix = PREFIXES[config.layout] + "."
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


def words_sha256(parameters):
    """Return the hash of the word embeddings, which tells whether kept factors are still theirs."""
    return hashlib.sha256(np.ascontiguousarray(parameters[WORDS]).tobytes()).hexdigest()


# ------------------------------------------------------------------------------------ configs


def check_exact(config):
    """Raise UserError for a model that Hugging Face has no counterpart of."""
    if config.ln_type == "preln":
        raise UserError(
            "ln_type 'preln' has no counterpart: the BERT and ALBERT of Hugging Face normalize "
            "after each sublayer, this model before it and nowhere at its end; another code of "
            "the encoder would be needed, other names are not enough"
        )


def to_config(config, class_name, labels=None, task=None):
    """Return the `config.json` of a model there, a dict.

    Args:
        config: `modeling.AlbertConfig`.
        class_name: str, as `to_parameters` returned it.
        labels: list of str, of a classifier, in the order of its outputs; None for another model.
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
        architectures=[class_name],
        model_type=PREFIXES[config.layout],
        hidden_act=ACTIVATIONS[config.hidden_act],
        layer_norm_eps=LAYER_NORM_EPSILON,
        pad_token_id=0,
        dtype="float32",
        torch_dtype="float32",  # the same, for transformers before 4.56
        tie_word_embeddings=True,
    )
    if config.layout == "google":
        made.update(
            embedding_size=config.embedding_width,
            num_hidden_groups=num_groups(config),
            inner_group_num=config.inner_group_num,
            classifier_dropout_prob=CLASSIFIER_DROPOUT,
        )
    else:
        made.update(classifier_dropout=CLASSIFIER_DROPOUT)
    if labels is not None:
        made.update(
            id2label={str(i): label for i, label in enumerate(labels)},
            label2id={label: i for i, label in enumerate(labels)},
            finetuning_task=task,
        )
    return made


def from_config(values, source):
    """Return the `modeling.AlbertConfig` of a model there.

    A BERT becomes the albert_zh layout with one table of words and layers that share nothing.

    Args:
        values: dict, of its config.json.
        source: str, path of that, for messages.

    Raises:
        UserError: for another kind of model, and for what cannot be computed here.
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise UserError("{}: model_type {!r}, not albert or bert".format(source, family))
    act = values.get("hidden_act")
    if act not in ACTIVATIONS_BACK:
        raise UserError(
            "{}: hidden_act {!r} does not exist here, where gelu is the tanh approximation: if the "
            'model was trained with that, as all published ALBERT were, write "gelu_new" '
            "there".format(source, act)
        )
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
    else:
        fields.update(layout="albert_zh", embedding_size=None, parameter_sharing="none")
    return modeling.AlbertConfig.from_dict(fields, source)
