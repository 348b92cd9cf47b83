"""modeling.py against recorded outputs of the published code, and its promises about graphs."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from pipeline.errors import UserError

LAYOUTS = ["albert_zh_postln", "albert_zh_preln", "google_one_group", "google_groups"]


def build(config, inputs, is_training=False, **options):
    """Build the model with both pre-training heads; returns (model, masked LM, order)."""
    model = modeling.AlbertModel(
        config,
        is_training,
        tf.constant(inputs["input_ids"], tf.int32),
        tf.constant(inputs["input_mask"], tf.int32),
        tf.constant(inputs["segment_ids"], tf.int32),
        **options,
    )
    masked_lm = modeling.masked_lm_head(
        model,
        tf.constant(inputs["masked_lm_positions"], tf.int32),
        tf.constant(inputs["masked_lm_ids"], tf.int32),
        tf.constant(inputs["masked_lm_weights"], tf.float32),
    )
    order = modeling.sentence_order_head(
        model, tf.constant(inputs["next_sentence_labels"], tf.int32)
    )
    return model, masked_lm, order


def all_outputs(model, masked_lm, order):
    outputs = {
        "embedding_output": model.get_embedding_output(),
        "sequence_output": model.get_sequence_output(),
        "pooled_output": model.get_pooled_output(),
        "masked_lm_log_probs": tf.nn.log_softmax(masked_lm.logits),
        "masked_lm_example_loss": masked_lm.example_loss,
        "masked_lm_loss": masked_lm.loss,
        "sentence_order_log_probs": tf.nn.log_softmax(order.logits),
        "sentence_order_loss": order.loss,
    }
    for index, layer in enumerate(model.get_all_encoder_layers()):
        outputs["layer_{}".format(index)] = layer
    variables = tf.trainable_variables()
    gradients = tf.gradients(masked_lm.loss + order.loss, variables)
    for variable, gradient in zip(variables, gradients):
        outputs["grad/" + variable.op.name] = tf.convert_to_tensor(gradient)
    return outputs


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_agrees_with_recorded_outputs_and_gradients(fixtures, name, one_hot):
    folder = fixtures / name
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    expected = np.load(str(folder / "expected.npz"))
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = all_outputs(
            *build(config, np.load(str(folder / "inputs.npz")), use_one_hot_embeddings=one_hot)
        )
        tf.train.Saver().restore(session, str(folder / "model.ckpt"))
        found = session.run(outputs)
    assert sorted(found) == sorted(expected.files)
    largest = max(np.abs(expected[key]).max() for key in found if key.startswith("grad/"))
    for key in expected.files:
        if key.startswith("grad/"):
            # The gradient of a key's bias is zero but for rounding, hence the floor.
            scale = max(np.abs(expected[key]).max(), 1e-4 * largest)
            np.testing.assert_allclose(found[key] / scale, expected[key] / scale, 0, 1e-4, key)
        else:
            np.testing.assert_allclose(found[key], expected[key], 0, 1e-5, err_msg=key)


@pytest.mark.parametrize("name", LAYOUTS)
def test_variables_are_those_of_the_published_checkpoint(fixtures, name):
    folder = fixtures / name
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    published = tf.train.load_checkpoint(str(folder / "model.ckpt")).get_variable_to_shape_map()
    assert {key: int(np.prod(shape)) for key, shape in published.items()} == (
        modeling.count_parameters(config)
    )


def small_config(**changes):
    values = {
        "vocab_size": 50,
        "embedding_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 20,
    }
    values.update(changes)
    return modeling.AlbertConfig(**values)


@pytest.mark.parametrize("layout", ["albert_zh", "google"])
@pytest.mark.parametrize(
    "sharing,attentions,feed_forwards",
    [("all", 1, 1), ("attention", 1, 3), ("ffn", 3, 1), ("none", 3, 3)],
)
def test_parameter_sharing_makes_that_many_sublayers(layout, sharing, attentions, feed_forwards):
    names = modeling.count_parameters(small_config(layout=layout, parameter_sharing=sharing))
    assert sum("self/query/kernel" in name for name in names) == attentions
    assert sum("intermediate/dense/kernel" in name for name in names) == feed_forwards
    assert sum("LayerNorm" in name and "encoder" in name for name in names) == 2 * (
        attentions + feed_forwards
    )


def test_bert_names_when_nothing_is_shared_or_factorized():
    names = modeling.count_parameters(small_config(embedding_size=None, parameter_sharing="none"))
    assert names["bert/embeddings/word_embeddings"] == 50 * 16
    assert "bert/embeddings/word_embeddings_2" not in names
    assert "bert/encoder/layer_2/attention/output/LayerNorm/gamma" in names


def graph_ops(is_training, **changes):
    with tf.Graph().as_default() as graph:
        ids = tf.zeros([2, 6], tf.int32)
        model = modeling.AlbertModel(small_config(**changes), is_training, ids)
        head = modeling.masked_lm_head(model, ids, ids, tf.ones([2, 6]))
        tf.gradients(head.loss, tf.trainable_variables())
        return graph.get_operations()


def test_dropout_zero_adds_no_op():
    random_ops = {"RandomUniform", "RandomStandardNormal", "StatelessRandomUniformV2"}
    off = graph_ops(True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    on = graph_ops(True, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0)
    assert not [op for op in off if op.type in random_ops]
    assert [op for op in on if op.type in random_ops]
    evaluating = graph_ops(False, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    assert len(evaluating) == len(off)


def test_masked_lm_loss_builds_no_one_hot():
    for op in graph_ops(True):
        assert not (op.type == "OneHot" and op.outputs[0].shape.as_list()[-1] == 50), op.name


def test_padding_changes_nothing():
    generator = np.random.RandomState(0)
    ids = generator.randint(1, 50, [2, 7])
    padded = np.concatenate([ids, generator.randint(1, 50, [2, 4])], axis=1)
    mask = np.concatenate([np.ones([2, 7]), np.zeros([2, 4])], axis=1)
    config = small_config(initializer_range=0.2)
    with tf.Graph().as_default(), tf.Session() as session:
        input_ids = tf.placeholder(tf.int32, [2, None])
        input_mask = tf.placeholder(tf.int32, [2, None])
        output = modeling.AlbertModel(config, False, input_ids, input_mask).get_sequence_output()
        session.run(tf.global_variables_initializer())
        found = [
            session.run(output, {input_ids: ids, input_mask: np.ones_like(ids)}),
            session.run(output, {input_ids: padded, input_mask: mask}),
        ]
    np.testing.assert_allclose(found[0], found[1][:, :7], atol=1e-5)


def test_gelu_and_its_gradient_against_numpy():
    x = np.linspace(-6, 6, 201)

    def reference(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    slope = (reference(x + 1e-5) - reference(x - 1e-5)) / 2e-5
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = tf.constant(x, tf.float32)
        outputs = modeling.gelu(inputs)
        found = session.run([outputs, tf.gradients(outputs, inputs)[0]])
    np.testing.assert_allclose(found[0], reference(x), atol=1e-6)
    np.testing.assert_allclose(found[1], slope, atol=1e-5)


def test_dynamic_shapes():
    with tf.Graph().as_default(), tf.Session() as session:
        ids = tf.placeholder(tf.int32, [None, None])
        model = modeling.AlbertModel(small_config(), False, ids)
        session.run(tf.global_variables_initializer())
        for shape in [(1, 3), (4, 20)]:
            output = session.run(model.get_sequence_output(), {ids: np.zeros(shape)})
            assert output.shape == shape + (16,)


def test_config_round_trip(fixtures):
    config = small_config(layout="google", num_hidden_groups=3)
    assert modeling.AlbertConfig.from_dict(json.loads(config.to_json_string())) == config


@pytest.mark.parametrize(
    "values,words",
    [
        ({}, "vocab_size"),
        ({"vocab_size": 5, "hiden_size": 8}, "did you mean 'hidden_size'"),
        ({"vocab_size": 0}, "positive whole number"),
        ({"vocab_size": 5, "hidden_size": 10, "num_attention_heads": 3}, "multiple"),
        ({"vocab_size": 5, "hidden_act": "swish"}, "one of gelu"),
        ({"vocab_size": 5, "hidden_dropout_prob": 1.0}, "below 1"),
        ({"vocab_size": 5, "layout": "google", "ln_type": "preln"}, "albert_zh"),
        ({"vocab_size": 5, "layout": "albert_zh", "num_hidden_groups": 2}, "google"),
        ({"vocab_size": 5, "num_hidden_groups": 13}, "num_hidden_layers"),
        ({"vocab_size": 5, "num_hidden_groups": 2, "parameter_sharing": "none"}, "contradict"),
    ],
)
def test_config_mistakes_are_named(values, words):
    with pytest.raises(UserError, match=words) as raised:
        modeling.AlbertConfig.from_dict(values, source="model.json")
    assert str(raised.value).startswith("model.json: ")


@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_unreadable_config_files(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="config.json"):
        modeling.AlbertConfig.from_json_file(str(path))


def test_sequence_longer_than_the_position_table():
    with tf.Graph().as_default(), pytest.raises(UserError, match="max_position_embeddings=20"):
        modeling.AlbertModel(small_config(), False, tf.zeros([1, 21], tf.int32))
