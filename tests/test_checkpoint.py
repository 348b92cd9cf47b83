"""pipeline/checkpoint.py: finding, naming and restoring checkpoints of both layouts."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from pipeline import checkpoint
from pipeline.errors import UserError

LAYOUTS = {
    "albert_zh_postln": "albert_zh",
    "albert_zh_preln": "albert_zh",
    "google_one_group": "google",
    "google_groups": "google",
}


def build(config):
    """Build a model with its pre-training heads and return its variables."""
    ids = tf.zeros([1, 4], tf.int32)
    model = modeling.AlbertModel(config, False, ids)
    modeling.masked_lm_head(model, ids, ids, tf.ones([1, 4]))
    modeling.sentence_order_head(model, ids[:, 0])
    return tf.trainable_variables()


def config_of(fixtures, name):
    return modeling.AlbertConfig.from_json_file(str(fixtures / name / "config.json"))


def prefix_of(fixtures, name):
    return str(fixtures / name / "model.ckpt")


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_published_layout_is_named_and_loads_whole(fixtures, name):
    prefix = prefix_of(fixtures, name)
    assert checkpoint.detect_layout(checkpoint.read_shapes(prefix)) == LAYOUTS[name]
    with tf.Graph().as_default(), tf.Session() as session:
        variables = build(config_of(fixtures, name))
        plan = checkpoint.warm_start(variables, prefix)
        session.run(tf.global_variables_initializer())
        found = dict(zip([v.op.name for v in variables], session.run(variables)))
    assert (plan.missing, plan.unused, plan.unequal) == ([], [], [])
    reader = tf.train.load_checkpoint(prefix)
    for variable_name, value in found.items():
        np.testing.assert_array_equal(value, reader.get_tensor(variable_name))


def test_other_layout_is_refused_and_both_are_named(fixtures):
    with tf.Graph().as_default():
        variables = build(config_of(fixtures, "google_one_group"))
        with pytest.raises(UserError, match="layout 'albert_zh'.*layout 'google'"):
            checkpoint.warm_start(variables, prefix_of(fixtures, "albert_zh_postln"))


def test_other_size_is_refused(fixtures):
    config = config_of(fixtures, "albert_zh_postln")
    config.intermediate_size = 48
    with tf.Graph().as_default(), pytest.raises(UserError, match=r"\[40\].*\[48\].*3 variables"):
        checkpoint.warm_start(build(config), prefix_of(fixtures, "albert_zh_postln"))


def test_missing_variables_fail_unless_allowed(fixtures):
    prefix = prefix_of(fixtures, "albert_zh_postln")
    with tf.Graph().as_default():
        tf.get_variable("output_bias", [3])
        variables = build(config_of(fixtures, "albert_zh_postln")) + tf.trainable_variables()[:1]
        with pytest.raises(UserError, match="lacks 1 .*output_bias"):
            checkpoint.warm_start(variables, prefix)
        for allowed in ({"allow_missing": True}, {"new_variables": r"^output_bias$"}):
            assert checkpoint.warm_start(variables, prefix, **allowed).missing == ["output_bias"]


def test_slots_and_step_are_no_unused_weights(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        kernel = tf.get_variable("dense/kernel", [2])
        tf.get_variable("dense/kernel/lamb_m", [2])
        tf.get_variable("dense/kernel/adam_v", [2])
        tf.get_variable("other", [2])
        tf.train.create_global_step()
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        plan = checkpoint.plan_restore([kernel], prefix)
    assert plan.unused == ["other"] and list(plan.assignment) == ["dense/kernel"]


def test_finds_a_checkpoint_by_prefix_and_by_folder(fixtures):
    prefix = prefix_of(fixtures, "google_groups")
    assert checkpoint.find_checkpoint(prefix) == prefix
    assert checkpoint.find_checkpoint(str(fixtures / "google_groups")) == prefix


@pytest.mark.parametrize(
    "name,words",
    [
        ("nowhere.ckpt", "nowhere.ckpt.index does not exist"),
        ("model.ckpt.meta", "give the prefix .*model.ckpt$"),
        ("model.ckpt.data-00000-of-00001", "give the prefix .*model.ckpt$"),
        ("pytorch_model.bin", "no TensorFlow checkpoint"),
        ("", "no checkpoints in this folder"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, name, words):
    with pytest.raises(UserError, match=words):
        checkpoint.find_checkpoint(str(tmp_path / name))


def test_damaged_index(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoint.read_shapes(checkpoint.find_checkpoint(str(tmp_path / "model.ckpt")))
