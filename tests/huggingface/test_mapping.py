"""huggingface/: a converted model has equal outputs; converted back it has equal weights."""

import functools

import numpy as np
import pytest

import modeling
from common.errors import UserError
from huggingface import check, configs, mapping
from tests.numpy_huggingface import Model

SMALL = {
    "vocab_size": 60,
    "embedding_size": 8,
    "hidden_size": 12,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
CONFIGS = {
    "google": {"layout": "google"},
    "google_groups": {"layout": "google", "num_hidden_groups": 2, "inner_group_num": 2},
    "google_uneven_groups": {"layout": "google", "num_hidden_groups": 3},
    "google_attention": {"layout": "google", "parameter_sharing": "attention"},
    "google_ffn": {"layout": "google", "parameter_sharing": "ffn"},
    "google_none": {"layout": "google", "parameter_sharing": "none"},
    "google_not_factorized": {"layout": "google", "embedding_size": None},
    "albert_zh": {"layout": "albert_zh"},
    "albert_zh_attention": {"layout": "albert_zh", "parameter_sharing": "attention"},
    "albert_zh_ffn": {"layout": "albert_zh", "parameter_sharing": "ffn"},
    "albert_zh_none": {"layout": "albert_zh", "parameter_sharing": "none"},
    "albert_zh_relu": {"layout": "albert_zh", "hidden_act": "relu"},
    "bert": {"layout": "albert_zh", "embedding_size": None, "parameter_sharing": "none"},
}


@functools.lru_cache(maxsize=None)
def config_and_shapes(name, num_labels, **fields):
    """Return a config and the shapes of its model, whose graph is built once for all tests."""
    config = modeling.AlbertConfig(**dict(SMALL, **CONFIGS[name], **fields))
    return config, modeling.parameter_shapes(config, num_labels)


def make(name, num_labels=None, **fields):
    """Return config and random weights; biases are not 0, scales of LayerNorm are not 1."""
    config, shapes = config_and_shapes(name, num_labels, **fields)
    rng = np.random.RandomState(1)
    arrays = {
        name: (rng.normal(0, 0.3, shape) + name.endswith("gamma")).astype(np.float32)
        for name, shape in shapes.items()
    }
    return config, arrays


@functools.lru_cache(maxsize=None)
def our_logits(name, num_labels=None):
    """Return the outputs of the model that `make` returns, computed once for all tests."""
    config, arrays = make(name, num_labels)
    return check.our_logits(config, arrays, check.fixed_inputs(config))


LAYOUTS = ("google", "albert_zh", "bert")  # each has tests with classifiers
# All pairs (config, architecture) that can be converted.
WAYS = [
    (name, family)
    for name in sorted(CONFIGS)
    for family in configs.ARCHITECTURES[CONFIGS[name]["layout"]]
]


def convert(config, arrays, labels=(), family=None):
    """Return config.json, parameters and factors of the folder that would be written."""
    family = family or configs.ARCHITECTURES[config.layout][0]
    class_name, parameters = mapping.to_parameters(config, family, arrays)
    is_factorized = configs.is_factorized(config)
    factors = {name: arrays[name] for name in mapping.FACTORS} if is_factorized else None
    return configs.to_config(config, family, class_name, labels), parameters, factors


@pytest.mark.parametrize(
    "name, family, num_labels",
    [(*way, None) for way in WAYS] + [(*way, 3) for way in WAYS if way[0] in LAYOUTS],
)
def test_same_outputs_there_and_every_bit_back(name, family, num_labels):
    config, arrays = make(name, num_labels)
    theirs, parameters, factors = convert(config, arrays, family=family)
    assert theirs["model_type"] == family
    inputs = check.fixed_inputs(config)
    expected = Model(theirs, parameters)(*inputs)
    found = our_logits(name, num_labels)
    assert sorted(found) == sorted(expected)
    for head, logits in found.items():
        np.testing.assert_allclose(logits, expected[head], atol=2e-5)
    back = mapping.from_parameters(config, family, parameters, factors)
    assert sorted(back) == sorted(arrays)
    for variable, array in arrays.items():
        np.testing.assert_array_equal(back[variable], array)


# Head -> (scope, outputs, end of the class's name there).
OTHER_HEADS = {
    "choice": ("", 1, "ForMultipleChoice"),
    "spans": ("cls/squad/", 2, "ForQuestionAnswering"),
    "labels": ("cls/labels/", 5, "ForTokenClassification"),
}


def with_head(arrays, head):
    """Return the weights of a classifier whose head is replaced by another one."""
    scope, number, _ = OTHER_HEADS[head]
    rng = np.random.RandomState(2)
    width = arrays["output_weights"].shape[1]
    body = {name: x for name, x in arrays.items() if not name.startswith("output_")}
    body[scope + "output_weights"] = rng.normal(0, 0.3, [number, width]).astype(np.float32)
    body[scope + "output_bias"] = rng.normal(0, 0.3, [number]).astype(np.float32)
    return body


@pytest.mark.parametrize("head", OTHER_HEADS)
@pytest.mark.parametrize("name, family", [way for way in WAYS if way[0] in LAYOUTS])
def test_heads_of_other_tasks(name, family, head):
    config, arrays = make(name, 3)
    arrays = with_head(arrays, head)
    theirs, parameters, factors = convert(config, arrays, family=family)
    [class_name] = theirs["architectures"]
    assert class_name.endswith(OTHER_HEADS[head][-1])
    inputs = check.fixed_inputs(config)
    expected, found = Model(theirs, parameters)(*inputs), check.our_logits(config, arrays, inputs)
    assert sorted(found) == sorted(expected) == sorted(["sequence_output", head])
    for key, logits in found.items():
        np.testing.assert_allclose(logits, expected[key], atol=2e-5)
    kept = [x for x in arrays if head == "choice" or not x.startswith("bert/pooler/")]
    for known in ("", class_name):  # without a class, the shapes decide the head
        back = mapping.from_parameters(config, family, parameters, factors, known)
        assert sorted(back) == sorted(kept)
        for variable, array in back.items():
            np.testing.assert_array_equal(array, arrays[variable])


def test_a_conditional_random_field_has_no_counterpart():
    config, arrays = make("google", 3)
    arrays = dict(with_head(arrays, "labels"), **{mapping.CHAIN: np.zeros([5, 5])})
    with pytest.raises(UserError, match="no conditional random field"):
        mapping.to_parameters(config, "albert", arrays)


@pytest.mark.parametrize("name, family", WAYS)
def test_without_our_config_the_model_is_still_the_same(name, family):
    config, arrays = make(name)
    theirs, parameters, _ = convert(config, arrays, family=family)
    foreign = configs.from_config(theirs, "config.json")
    back = mapping.from_parameters(foreign, family, parameters)
    inputs = check.fixed_inputs(config)
    expected = our_logits(name)
    for head, logits in check.our_logits(foreign, back, inputs).items():
        np.testing.assert_allclose(logits, expected[head], atol=1e-5)


def test_layers_that_share_here_must_be_equal_there():
    config, arrays = make("albert_zh")
    _, parameters, factors = convert(config, arrays)
    parameters["bert.encoder.layer.2.output.dense.bias"] = np.ones(12, np.float32)
    with pytest.raises(UserError, match="layer.2.output.dense.bias differs from"):
        mapping.from_parameters(config, "bert", parameters, factors)


def test_tied_parameters_may_be_there_and_must_be_equal():
    config, arrays = make("google")
    _, parameters, _ = convert(config, arrays)
    words = parameters["albert.embeddings.word_embeddings.weight"]
    parameters["predictions.decoder.weight"] = words.copy()
    parameters["predictions.decoder.bias"] = parameters["predictions.bias"].copy()
    parameters["albert.embeddings.position_ids"] = np.arange(16)[np.newaxis]
    mapping.from_parameters(config, "albert", parameters)
    parameters["predictions.decoder.weight"][3] += 1
    with pytest.raises(
        UserError, match="predictions.decoder.weight differs from .*word_embeddings"
    ):
        mapping.from_parameters(config, "albert", parameters)


def test_a_model_without_heads_and_prefix():
    config, arrays = make("google")
    body = {name: array for name, array in arrays.items() if name.startswith("bert/")}
    class_name, parameters = mapping.to_parameters(config, "albert", body)
    assert class_name == "AlbertModel"
    bare = {name[len("albert.") :]: array for name, array in parameters.items()}
    assert sorted(mapping.from_parameters(config, "albert", bare)) == sorted(body)


def test_layernorm_before_sublayers_is_refused_with_the_reason():
    config, arrays = make("albert_zh", ln_type="preln")
    for family in configs.FAMILIES:
        with pytest.raises(UserError, match="'preln' has no counterpart.*normalize"):
            mapping.to_parameters(config, family, arrays)


def test_the_google_layout_is_no_bert():
    config, arrays = make("google")
    with pytest.raises(UserError, match="layout 'google' is not a bert: .*after they are proj"):
        mapping.to_parameters(config, "bert", arrays)


def test_an_albert_stores_shared_layers_once():
    config, arrays = make("albert_zh")
    numbers = {
        family: sum(array.size for array in convert(config, arrays, family=family)[1].values())
        for family in configs.FAMILIES
    }
    layer = sum(x.size for name, x in arrays.items() if "/layer_shared/" in name)
    identity = config.hidden_size * (config.hidden_size + 1)
    assert (
        numbers["bert"] - numbers["albert"] == (SMALL["num_hidden_layers"] - 1) * layer - identity
    )


@pytest.mark.parametrize("name, family", [("google", "albert"), ("bert", "bert")])
def test_what_only_fills_masks_and_has_old_names(name, family):
    config, arrays = make(name)
    for variable in list(arrays):
        if "pooler" in variable or "seq_relationship" in variable:
            del arrays[variable]
    class_name, parameters = mapping.to_parameters(config, family, arrays)
    assert class_name.endswith("ForMaskedLM")
    old = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): array
        for name, array in parameters.items()
    }
    back = mapping.from_parameters(config, family, old)
    assert sorted(back) == sorted(arrays)
    inputs = check.fixed_inputs(config)
    assert "masked_lm" in check.our_logits(config, back, inputs)


def test_a_projection_that_was_trained_there_is_not_thrown_away():
    config, arrays = make("albert_zh")
    _, parameters, factors = convert(config, arrays, family="albert")
    parameters["albert.encoder.embedding_hidden_mapping_in.bias"][3] = 1e-3
    with pytest.raises(UserError, match="projects 12 to 12 and is not an identity"):
        mapping.from_parameters(config, "albert", parameters, factors)


@pytest.mark.parametrize("family", ["albert", "bert"])
@pytest.mark.parametrize("outer", ["module.", "module.{}.", "model.encoder."])
def test_prefixes_around_the_whole_model_are_left_out(family, outer):
    config, arrays = make("google" if family == "albert" else "bert")
    _, parameters, _ = convert(config, arrays, family=family)
    renamed = {outer.format(family) + name: array for name, array in parameters.items()}
    back = mapping.from_parameters(config, family, renamed)
    assert sorted(back) == sorted(arrays)


def test_names_of_other_code_are_not_the_config_s_fault():
    config, arrays = make("google")
    _, parameters, _ = convert(config, arrays)
    parameters["albert.pool.weight"] = parameters.pop("albert.pooler.weight")
    message = "lacks 1 names, albert.pooler.weight first .it has albert.pool.weight.: .*other code"
    with pytest.raises(UserError, match=message):
        mapping.from_parameters(config, "albert", parameters)


@pytest.mark.parametrize("name", ["google", "bert"])
def test_a_config_of_2019_has_no_model_type(name):
    config, arrays = make(name)
    theirs, _, _ = convert(config, arrays)
    kind = theirs.pop("model_type")
    assert configs.family_of(theirs, "config.json") == kind
    assert configs.from_config(theirs, "config.json").layout == config.layout


@pytest.mark.parametrize("extra", ["bert/encoder/layer_9/odd/bias", "bert/odd"])
def test_nothing_is_left_over_or_missing(extra):
    config, arrays = make("google")
    with pytest.raises(UserError, match="has, unknown to this config, 1 names, " + extra):
        mapping.to_parameters(config, "albert", dict(arrays, **{extra: np.ones(2)}))
    del arrays["bert/pooler/dense/bias"]
    message = "lacks 1 names, bert/pooler/dense/bias first: it was saved without the pooler"
    with pytest.raises(UserError, match=message):
        mapping.to_parameters(config, "albert", arrays)


def test_heads_that_no_class_has():
    config, arrays = make("google")
    arrays["output_weights"], arrays["output_bias"] = np.ones([2, 12]), np.ones(2)
    with pytest.raises(UserError, match="heads masked_lm, sentence_order, classifier"):
        mapping.to_parameters(config, "albert", arrays)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' does not exist here.*gelu_new"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps=1e-05 .the number added"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"model_type": "roberta"}, "model_type 'roberta', not albert or bert"),
    ],
)
def test_configs_of_other_computations_are_refused(changes, words):
    config, arrays = make("google")
    theirs, _, _ = convert(config, arrays)
    with pytest.raises(UserError, match=words):
        configs.from_config(dict(theirs, **changes), "config.json")


def test_labels_are_named():
    config, arrays = make("google", 2)
    theirs, _, _ = convert(config, arrays, ["bad", "good"])
    assert theirs["id2label"] == {"0": "bad", "1": "good"}
    assert theirs["label2id"] == {"bad": 0, "good": 1}
    assert theirs["architectures"] == ["AlbertForSequenceClassification"]
