"""modeling.py against recorded outputs of the published code, and its promises about graphs."""

import itertools
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from common.errors import UserError
from ops import dropout
from ops.layers import Layers

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
        tf.convert_to_tensor(inputs["masked_lm_positions"], tf.int32),
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


EXECUTIONS = {
    "plain": modeling.PLAIN,
    "one_hot": modeling.Execution(for_tpu=True),
    "fused": modeling.Execution(fused=True),
    "recompute": modeling.Execution(recompute=True),
    "compiled": modeling.Execution(compiled=True),
}


def recorded(fixtures, name):
    """Return a fixture's config, inputs, expected outputs and the prefix of its checkpoint."""
    folder = fixtures / name
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    inputs, expected = [dict(np.load(str(folder / (x + ".npz")))) for x in ("inputs", "expected")]
    return config, inputs, expected, str(folder / "model.ckpt")


def assert_as_recorded(found, expected):
    largest = max(np.abs(expected[key]).max() for key in found if key.startswith("grad/"))
    for key in found:
        if key.startswith("grad/") and key.endswith("/key/bias"):
            # This gradient is zero, because softmax does not see what all keys have in common. Both
            # values are rounding errors of sums whose terms are as large as the other gradients.
            for value in (found[key], expected[key]):
                np.testing.assert_allclose(value / largest, 0, 0, 1e-6, key)
        elif key.startswith("grad/"):
            scale = max(np.abs(expected[key]).max(), 1e-4 * largest)
            np.testing.assert_allclose(found[key] / scale, expected[key] / scale, 0, 1e-4, key)
        else:
            np.testing.assert_allclose(found[key], expected[key], 0, 1e-5, err_msg=key)


@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=list(EXECUTIONS))
@pytest.mark.parametrize("name", LAYOUTS)
def test_agrees_with_recorded_outputs_and_gradients(fixtures, name, execution):
    config, inputs, expected, checkpoint = recorded(fixtures, name)
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = all_outputs(*build(config, inputs, execution=execution))
        tf.train.Saver().restore(session, checkpoint)
        found = session.run(outputs)
    assert sorted(found) == sorted(expected)
    assert_as_recorded(found, expected)


@pytest.mark.parametrize(
    "name, execution",
    [(name, "plain") for name in LAYOUTS]
    + [("albert_zh_postln", "recompute"), ("google_groups", "recompute")]
    + [("albert_zh_preln", "fused"), ("google_one_group", "fused")],
)
def test_last_layer_at_output_positions_only_changes_no_loss_and_no_gradient(
    fixtures, name, execution
):
    config, inputs, expected, checkpoint = recorded(fixtures, name)
    with tf.Graph().as_default(), tf.Session() as session:
        positions = tf.constant(inputs["masked_lm_positions"], tf.int32)
        outputs = all_outputs(
            *build(
                config,
                dict(inputs, masked_lm_positions=positions),
                execution=EXECUTIONS[execution],
                output_positions=positions,
            )
        )
        tf.train.Saver().restore(session, checkpoint)
        found = session.run(outputs)
    batch, predictions = inputs["masked_lm_positions"].shape
    last = "layer_{}".format(sum(key.startswith("layer_") for key in found) - 1)
    for key in (last, "sequence_output"):
        assert found[key].shape == (batch, 1 + predictions, config.hidden_size)
        places = np.pad(inputs["masked_lm_positions"], [[0, 0], [1, 0]])
        expected[key] = np.take_along_axis(expected[key], places[:, :, None], axis=1)
    assert_as_recorded(found, expected)


def test_outputs_at_other_positions_than_computed_are_refused():
    with tf.Graph().as_default():
        ids = tf.zeros([1, 4], tf.int32)
        model = modeling.AlbertModel(small_config(), False, ids, output_positions=ids[:, :2])
        with pytest.raises(ValueError, match="other positions"):
            model.outputs_at(ids[:, 2:])


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
    def draws(ops):
        return [op for op in ops if "Uniform" in op.type and "dropout_seeds" not in op.name]

    off = graph_ops(True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    on = graph_ops(True, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0)
    assert not draws(off)
    assert len(draws(on)) == 2 * (1 + 2 * 3)  # the gradient draws each mask again
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
        outputs = Layers().gelu(inputs)
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


def trained_outputs(execution=modeling.PLAIN, seeds=((1, 2),), **changes):
    """Return, for each seed, a loss over all outputs and its gradients, with dropout."""
    config = small_config(**changes)
    with tf.Graph().as_default(), tf.Session() as session:
        seed = tf.placeholder(tf.int32, [2])
        ids = tf.constant(np.arange(40).reshape(4, 10), tf.int32)
        model = modeling.AlbertModel(config, True, ids, execution=execution, dropout_seed=seed)
        weights = tf.constant(np.random.RandomState(0).normal(size=[4, 10, 16]), tf.float32)
        loss = tf.reduce_sum(weights * tf.cast(model.get_sequence_output(), tf.float32))
        gradients = tf.gradients(loss, tf.trainable_variables("bert/e"))
        session.run(tf.global_variables_initializer())
        draws = np.random.RandomState(1)
        for variable in tf.trainable_variables():
            if variable.shape.ndims == 2:  # The same seed gives other weights in another graph.
                variable.load(0.02 * draws.normal(size=variable.shape.as_list()), session)
        fetched = [loss] + [tf.convert_to_tensor(gradient) for gradient in gradients]
        return [session.run(fetched, {seed: value}) for value in seeds]


def test_dropout_is_a_function_of_its_seed():
    first, again, other = trained_outputs(seeds=[(1, 2), (1, 2), (1, 3)])
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert first[0] != other[0]


def test_every_place_drops_out_on_its_own():
    with tf.Graph().as_default(), tf.Session() as session:
        seeds = modeling.dropout_seeds(small_config(), Layers(), tf.constant([5, 6]))
        flat = [seeds.embedding, seeds.classifier] + sum(seeds.layers, [])
        assert len({tuple(seed) for seed in session.run(flat)}) == 2 + 3 * 3


DRAWN_AND_FUSED = pytest.mark.parametrize("fused", [False, True], ids=["drawn", "fused"])


def dropped_places(rate, seeds, shape, fused):
    """Return a bool array for each seed: whether dropout drops the element."""
    with tf.Graph().as_default(), tf.Session() as session:
        seed = tf.placeholder(tf.int32, [2])
        ones = tf.ones(shape)
        dropped = Layers(fused).dropout(ones, rate, seed)
        (gradient,) = tf.gradients(dropped, ones)
        found = []
        for value in seeds:
            values, slope = session.run([dropped, gradient], {seed: value})
            np.testing.assert_array_equal(values, slope)
            assert set(np.unique(values)) == {np.float32(0.0), np.float32(1.0 / (1.0 - rate))}
            found.append(values == 0.0)
        return found


@DRAWN_AND_FUSED
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_its_share(rate, fused):
    (dropped,) = dropped_places(rate, [[3, 4]], [1000, 100], fused)
    assert np.mean(dropped) == pytest.approx(rate, abs=0.005)
    for axis in (0, 1):  # the shares of rows and columns vary as at random
        shares = np.mean(dropped, axis=axis)
        expected = np.sqrt(rate * (1 - rate) / dropped.shape[axis])
        assert np.std(shares) == pytest.approx(expected, rel=0.25)


@DRAWN_AND_FUSED
def test_dropout_of_neighbours_and_of_other_seeds_is_independent(fused):
    """The places are a power of two apart, and the seeds differ by little."""
    seeds = [[0, 0], [0, 1], [1, 0], [2, 0], [7, -3], [-(2**31), 2**31 - 1]]
    places = [found.ravel() for found in dropped_places(0.5, seeds, [2**16], fused)]
    deviation = 1.0 / np.sqrt(2**16)
    pairs = [(a, b) for i, a in enumerate(places) for b in places[:i]]
    pairs += [(a[: -(2**n)], a[2**n :]) for a in places for n in range(15)]
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in pairs]
    assert np.max(np.abs(correlations)) < 5.5 * deviation
    assert np.sqrt(np.mean(np.square(correlations))) == pytest.approx(deviation, rel=0.3)


def test_fused_draws_of_rows_and_columns_are_independent():
    """The draws of two and of four places in the same rows and columns are independent."""
    seeds = [[number, 7 * number] for number in range(8)]
    for rate in (0.1, 0.5):
        scores = []
        for dropped in dropped_places(rate, seeds, [512, 256], fused=True):
            x = (dropped - rate) / np.sqrt(rate * (1 - rate))
            for down, right in itertools.product([1, 2, 8, 64], repeat=2):
                two = x[:-down, right:] * x[down:, :-right]
                four = two * x[:-down, :-right] * x[down:, right:]
                scores += [product.mean() * np.sqrt(product.size) for product in (two, four)]
        assert np.max(np.abs(scores)) < 5 and np.std(scores) == pytest.approx(1, abs=0.15)


def test_hashed_draws_are_the_same_in_every_process_and_on_every_device():
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(dropout.draw([2, 3], tf.constant([1, -2]), is_hashed=True))
    mask = 2**32 - 1

    def times(bits, shift, factor):
        return ((bits ^ bits >> shift) * factor) & mask

    def finalized(bits):
        bits = times(times(bits, 16, 0x85EBCA6B), 13, 0xC2B2AE35)
        return bits ^ bits >> 16

    first, second = 1, -2 & mask
    rows = [finalized((finalized(row ^ first) + second) & mask) for row in range(2)]
    columns = [finalized((finalized(column ^ second) + first) & mask) for column in range(3)]
    expected = [[(a ^ b) * 0x85EBCA6B & mask for b in columns] for a in rows]
    np.testing.assert_array_equal(found.view(np.uint32), expected)


@pytest.mark.parametrize("layout", ["albert_zh", "google"])
@pytest.mark.parametrize("name", ["fused", "recompute", "fused-compiled"])
def test_execution_does_not_change_a_step_with_dropout(layout, name, monkeypatch):
    if name != "recompute":  # make plain draw the same numbers
        monkeypatch.setattr(Layers, "_hashes", True)
    (plain,) = trained_outputs(layout=layout)
    (other,) = trained_outputs(EXECUTIONS[name.split("-")[-1]], layout=layout)
    largest = max(np.abs(a).max() for a in plain[1:])
    for a, b in zip(plain, other):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("dtype,error", [("bfloat16", 0.06), ("float16", 0.01)])
def test_other_precisions_stay_near_float32(dtype, error):
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (exact,) = trained_outputs(**without)
    (rounded,) = trained_outputs(modeling.Execution(dtype=dtype), **without)
    largest = 0.01 * max(np.linalg.norm(a) for a in exact[1:])
    for a, b in zip(exact, rounded):
        assert b.dtype == np.float32
        assert np.linalg.norm(a - b) <= error * max(np.linalg.norm(a), largest)


def distances(**fields):
    """Return how far from the head each variable of a small classifier of three layers is."""
    config = modeling.AlbertConfig(
        vocab_size=9,
        embedding_size=2,
        hidden_size=4,
        num_attention_heads=2,
        num_hidden_layers=3,
        intermediate_size=8,
        **fields,
    )
    beginnings = modeling.distances_from_head(config)
    found = {}
    for name in modeling.parameter_shapes(config, num_labels=2):
        fitting = [beginnings[start] for start in beginnings if name.startswith(start)]
        assert len(fitting) <= 1, name
        found[name] = fitting[0] if fitting else 0
    in_head = {name for name, distance in found.items() if distance == 0}
    assert in_head == {n for n in found if n.startswith(("bert/pooler", "output_"))}
    return found


def test_distances_of_shared_layers():
    found = distances()
    assert found["bert/encoder/layer_shared/attention/self/query/kernel"] == 1
    assert found["bert/encoder/layer_shared/output/LayerNorm/beta"] == 1
    assert found["bert/embeddings/word_embeddings"] == 2
    assert set(found.values()) == {0, 1, 2}


def test_distances_of_layers_of_their_own():
    found = distances(parameter_sharing="none")
    for layer in range(3):
        assert found["bert/encoder/layer_{}/output/dense/bias".format(layer)] == 3 - layer
    assert found["bert/embeddings/word_embeddings_2"] == 4


@pytest.mark.parametrize("layout", ["albert_zh", "google"])
def test_distances_where_attention_is_shared(layout):
    found = distances(parameter_sharing="attention", layout=layout)
    attention = [name for name in found if "/attention" in name]
    assert attention and {found[name] for name in attention} == {1}
    assert {found[name] for name in found if "intermediate" in name} == {1, 2, 3}
    assert found["bert/embeddings/position_embeddings"] == 4


def test_distances_of_groups():
    found = distances(layout="google", num_hidden_groups=2, inner_group_num=2)
    scope = "bert/encoder/transformer/group_{}/inner_group_{}/LayerNorm_1/gamma"
    for distance, place in enumerate(((1, 1), (1, 0), (0, 1), (0, 0)), 1):
        assert found[scope.format(*place)] == distance
    assert found["bert/encoder/embedding_hidden_mapping_in/kernel"] == 5
