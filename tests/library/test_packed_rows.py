"""Packed rows against the same chunks in rows of their own: losses, gradients, outputs."""

import numpy as np
import packed_rows
import pytest
import tensorflow.compat.v1 as tf

import modeling
from ops import xla
from pretraining.model import loss_divisors, make_forward, packing_of
from training import model_fn

SIZES = packed_rows.Sizes(rows=4, length=26, chunks=5, predictions=9, vocabulary=50)
DRAWS = 3


def small_config(**changes):
    values = {
        "vocab_size": SIZES.vocabulary,
        "embedding_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": SIZES.length + 3,
        "initializer_range": 0.2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return modeling.AlbertConfig(**dict(values, **changes))


def placeholders(batch):
    return {name: tf.placeholder(values.dtype, values.shape) for name, values in batch.items()}


def build_step(config, features, execution, num_parts=1):
    """Return a dict of name to tensor: the losses, and the gradient of every variable."""
    forward = make_forward(config, execution)
    totals = loss_divisors(features)

    def compute():
        found = []
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            for index in range(num_parts):
                part = model_fn.micro_batch(features, index, num_parts)
                share = model_fn.BatchShare(totals, tf.constant([1, 2]))
                found.append(forward(part, tf.estimator.ModeKeys.TRAIN, share).scalars)
        outputs = {name: tf.add_n([losses[name] for losses in found]) for name in found[0]}
        variables = tf.trainable_variables()
        gradients = tf.gradients(tf.add_n(list(outputs.values())), variables)
        for variable, gradient in zip(variables, gradients):
            outputs[variable.op.name] = tf.convert_to_tensor(gradient)
        return outputs

    return compute


def losses_and_gradients(config, execution=modeling.PLAIN, num_parts=1, is_compiled=False):
    """Yield (results of packed rows, results of single chunks) for some random batches."""
    rng = np.random.RandomState(0)
    batches = [packed_rows.draw_batches(rng, SIZES) for _ in range(DRAWS)]
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        features = [placeholders(batch) for batch in batches[0]]
        steps = [
            build_step(config, features[0], execution, num_parts),
            build_step(config, features[1], execution._replace(for_tpu=False)),
        ]
        outputs = [xla.compile_whole(step) if is_compiled else step() for step in steps]
        session.run(tf.global_variables_initializer())
        for pair in batches:
            feed = {
                inputs[name]: batch[name] for inputs, batch in zip(features, pair) for name in batch
            }
            yield session.run(outputs, feed)


def assert_equal_steps(packed, single):
    assert sorted(packed) == sorted(single)
    names = [name for name in packed if "/" in name]
    largest = max(np.abs(single[name]).max() for name in names)
    for name in packed:
        if name not in names:
            np.testing.assert_allclose(packed[name], single[name], rtol=1e-5, err_msg=name)
            continue
        # The gradient of a key's bias is zero, because adding a constant to all scores of a query
        # does not change their softmax.
        floor = 0.01 if name.endswith("/key/bias") else 1e-4
        scale = max(np.abs(single[name]).max(), floor * largest)
        np.testing.assert_allclose(packed[name] / scale, single[name] / scale, 0, 1e-4, name)


LAYOUTS = {
    "albert_zh_postln": {"layout": "albert_zh", "ln_type": "postln"},
    "albert_zh_preln": {"layout": "albert_zh", "ln_type": "preln"},
    "google": {"layout": "google"},
}


@pytest.mark.parametrize(
    "layout, sharing",
    [
        ("albert_zh_postln", "all"),
        ("albert_zh_postln", "none"),
        ("albert_zh_preln", "ffn"),
        ("google", "all"),
        ("google", "attention"),
    ],
)
def test_packing_changes_no_loss_and_no_gradient(layout, sharing):
    config = small_config(parameter_sharing=sharing, **LAYOUTS[layout])
    for packed, single in losses_and_gradients(config):
        assert_equal_steps(packed, single)


WAYS = {
    "recomputed": {"execution": modeling.Execution(recompute=True)},
    "fused": {"execution": modeling.Execution(fused=True)},
    "fused-recomputed": {"execution": modeling.Execution(fused=True, recompute=True)},
    "for_tpu": {"execution": modeling.Execution(compiled=True, for_tpu=True)},
    "in_parts": {"num_parts": 2},
}


@pytest.mark.parametrize(
    "layout, way",
    [
        ("albert_zh", "recomputed"),
        ("google", "fused"),
        ("albert_zh", "fused-recomputed"),
        ("google", "fused-recomputed"),
        ("albert_zh", "for_tpu"),
        ("google", "for_tpu"),
        ("google", "in_parts"),
    ],
)
def test_packing_changes_nothing_however_a_step_is_computed(layout, way):
    for packed, single in losses_and_gradients(small_config(layout=layout), **WAYS[way]):
        assert_equal_steps(packed, single)


@pytest.mark.skipif(tf.__version__ < "2", reason="XLA of TensorFlow 1 computes tanh less exactly")
def test_packing_changes_nothing_in_a_step_compiled_by_xla():
    """The layout is google; test_precision.py compiles packed rows in the layout albert_zh."""
    execution = modeling.Execution(compiled=True, for_tpu=True)
    config = small_config(layout="google")
    for packed, single in losses_and_gradients(config, execution, is_compiled=True):
        assert_equal_steps(packed, single)


@pytest.mark.parametrize("dtype, error", [("bfloat16", 0.01), ("float16", 0.005)])
def test_packing_in_other_precisions(dtype, error):
    execution = modeling.Execution(dtype=dtype)
    for packed, single in losses_and_gradients(small_config(), execution):
        floor = 0.01 * max(np.linalg.norm(value) for value in single.values())
        for name in packed:
            bound = error * max(np.linalg.norm(single[name]), floor)
            assert np.linalg.norm(packed[name] - single[name]) <= bound, name


@pytest.mark.parametrize("for_tpu", [False, True], ids=["gather", "one_hot"])
@pytest.mark.parametrize("layout", ["albert_zh", "google"])
def test_a_chunk_has_the_outputs_that_it_has_alone(layout, for_tpu):
    """Compares all layers and the pooler with each chunk alone in a sequence without padding."""
    rng = np.random.RandomState(1)
    lengths = packed_rows.draw_lengths(rng, SIZES)
    batch, _ = packed_rows.draw_batches(rng, SIZES, lengths)
    with tf.Graph().as_default(), tf.Session() as session:
        execution = modeling.Execution(for_tpu=for_tpu)
        config = small_config(layout=layout)

        def outputs(ids, segments, packing=None):
            with tf.variable_scope("bert", reuse=tf.AUTO_REUSE) as scope:
                model = modeling.AlbertModel(
                    config, False, ids, None, segments, execution, packing=packing, scope=scope
                )
            return model.get_all_encoder_layers(), model.get_pooled_output()

        inputs = placeholders(batch)
        packing, _ = packing_of(inputs)
        together = outputs(inputs["input_ids"], inputs["segment_ids"], packing)
        ids, segments = [tf.placeholder(tf.int32, [1, None]) for _ in range(2)]
        alone = outputs(ids, segments)
        session.run(tf.global_variables_initializer())
        layers, pooled = session.run(together, {inputs[name]: batch[name] for name in batch})
        for row, of_row in enumerate(lengths):
            for chunk, length in enumerate(of_row):
                begin = sum(of_row[:chunk])
                span = slice(begin, begin + length)
                feed = {
                    ids: batch["input_ids"][row : row + 1, span],
                    segments: batch["segment_ids"][row : row + 1, span],
                }
                expected_layers, expected = session.run(alone, feed)
                for layer, other in zip(layers, expected_layers):
                    np.testing.assert_allclose(layer[row, span], other[0], atol=1e-5)
                found = pooled.reshape([SIZES.rows, SIZES.chunks, -1])[row, chunk]
                np.testing.assert_allclose(found, expected[0], atol=1e-5)


def test_the_batches_of_these_tests_have_what_they_should():
    rng = np.random.RandomState(0)
    packed, single = packed_rows.draw_batches(rng, SIZES)
    counts = packed["next_sentence_weights"].sum(axis=1)
    assert counts[0] == SIZES.chunks and counts[1] == 1
    assert (packed["chunk_ids"] == 0).any() and (packed["masked_lm_weights"] == 0).any()
    for name in ("masked_lm_weights", "next_sentence_weights"):
        assert packed[name].sum() == single[name].sum() > 0
    np.testing.assert_array_equal(
        packed["input_ids"][packed["chunk_ids"] > 0], single["input_ids"][single["input_mask"] > 0]
    )


def test_chunks_do_not_touch_each_other():
    """After a change of one piece, the outputs of its chunk differ, and no others do."""
    rng = np.random.RandomState(2)
    batch, _ = packed_rows.draw_batches(rng, SIZES._replace(rows=1), [[6, 8, 9]])
    config = small_config()
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = placeholders(batch)
        packing, is_piece = packing_of(inputs)
        model = modeling.AlbertModel(config, False, inputs["input_ids"], packing=packing)
        session.run(tf.global_variables_initializer())
        feed = {inputs[name]: batch[name] for name in batch}
        before, pieces = session.run([model.get_sequence_output(), is_piece], feed)
        feed[inputs["input_ids"]] = np.where(np.arange(SIZES.length) == 7, 1, batch["input_ids"])
        if batch["input_ids"][0, 7] == 1:
            feed[inputs["input_ids"]][0, 7] = 2
        after = session.run(model.get_sequence_output(), feed)
    changed = np.abs(before - after).max(axis=(0, 2)) > 0
    assert changed[6:14].all() and not changed[:6].any() and not changed[14:].any()
    assert pieces.sum() == 23
