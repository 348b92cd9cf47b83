"""checkpointing/restore.py: naming and restoring checkpoints of both layouts."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from checkpointing import arrays as weights
from checkpointing import find, restore
from checkpointing.checkpoint_reader import Checkpoint, detect_layout
from common.errors import UserError

NEW_VARIABLES = r"^output_(weights|bias)$"  # as run_classifier.py gives it
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
    assert detect_layout(Checkpoint(prefix).shapes) == LAYOUTS[name]
    with tf.Graph().as_default(), tf.Session() as session:
        variables = build(config_of(fixtures, name))
        plan = restore.warm_start(variables, prefix)
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
            restore.warm_start(variables, prefix_of(fixtures, "albert_zh_postln"))


def test_other_size_is_refused(fixtures):
    config = config_of(fixtures, "albert_zh_postln")
    config.intermediate_size = 48
    with tf.Graph().as_default(), pytest.raises(UserError, match=r"\[40\].*\[48\].*3 variables"):
        restore.warm_start(build(config), prefix_of(fixtures, "albert_zh_postln"))


def test_missing_variables_fail_unless_allowed(fixtures):
    prefix = prefix_of(fixtures, "albert_zh_postln")
    with tf.Graph().as_default():
        tf.get_variable("output_bias", [3])
        variables = build(config_of(fixtures, "albert_zh_postln")) + tf.trainable_variables()[:1]
        with pytest.raises(UserError, match="lacks 1 .*output_bias"):
            restore.warm_start(variables, prefix)
        for allowed in ({"allow_missing": True}, {"new_variables": r"^output_bias$"}):
            assert restore.warm_start(variables, prefix, **allowed).missing == ["output_bias"]


def test_a_classifier_of_other_labels_is_replaced_if_that_is_allowed(fixtures, tmp_path):
    config = config_of(fixtures, "albert_zh_postln")
    shapes = modeling.parameter_shapes(config, 3)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights.write(str(tmp_path / "model.ckpt"), arrays)
    shapes = modeling.parameter_shapes(config, 2)
    start = (shapes, str(tmp_path / "model.ckpt"), NEW_VARIABLES)
    with pytest.raises(UserError, match="other labels; --allow_missing=True starts a new head$"):
        restore.check_warm_start(*start)
    found = restore.check_warm_start(*start, allow_missing=True)
    assert found.missing == ["output_bias", "output_weights"] and not found.unequal


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_another_precision_becomes_float32(fixtures, tmp_path, dtype):
    shapes = modeling.parameter_shapes(config_of(fixtures, "google_groups"))
    other = str(tmp_path / "other.ckpt")
    weights.write(other, {name: np.full(shape, 0.1, dtype) for name, shape in shapes.items()})
    assert not restore.check_warm_start(shapes, other).missing
    fitted = weights.fit(shapes, other, str(tmp_path / "run"))
    with tf.Graph().as_default(), tf.Session() as session:
        for name, shape in shapes.items():
            tf.get_variable(name, shape)
        restore.load_weights(session, Checkpoint(other))
        loaded = session.run(tf.trainable_variables())
    for array in loaded + list(weights.read(fitted).values()):
        assert array.dtype == np.float32 and (array == np.float32(dtype(0.1))).all()
    assert Checkpoint(fitted).is_float32() and not Checkpoint(other).is_float32()


def test_more_positions_repeat_the_rows_of_the_checkpoint(fixtures, tmp_path):
    config, name = config_of(fixtures, "google_groups"), "bert/embeddings/position_embeddings"
    shapes = modeling.parameter_shapes(config)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    arrays[name] = np.random.RandomState(0).rand(*shapes[name]).astype(np.float32)
    prefix, number = str(tmp_path / "model.ckpt"), len(arrays[name])
    weights.write(prefix, arrays)
    longer = dict(shapes, **{name: [2 * number + 3, shapes[name][1]]})
    with pytest.raises(UserError, match="or --allow_more_positions=True to repeat the rows"):
        restore.check_warm_start(longer, prefix)
    allowed = (restore.FEWER_POSITIONS, restore.MORE_POSITIONS)
    assert restore.check_warm_start(longer, prefix, may_resize=allowed).resized == {name: name}
    table = weights.read(weights.fit(longer, prefix, str(tmp_path / "run"), allowed))[name]
    np.testing.assert_array_equal(table[:number], arrays[name])
    np.testing.assert_array_equal(table[number : 2 * number], arrays[name])
    np.testing.assert_array_equal(table[2 * number :], arrays[name][:3])


def test_weights_that_are_not_finite_are_named(fixtures, tmp_path):
    shapes = modeling.parameter_shapes(config_of(fixtures, "google_groups"))
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    arrays["bert/pooler/dense/bias"][0] = np.nan
    weights.write(str(tmp_path / "model.ckpt"), arrays)
    with pytest.raises(UserError, match="pooler/dense/bias has values that are not finite"):
        restore.check_warm_start(shapes, str(tmp_path / "model.ckpt"))


def test_what_holds_no_model_of_ours_is_named(fixtures, tmp_path):
    shapes = modeling.parameter_shapes(config_of(fixtures, "google_groups"))
    weights.write(str(tmp_path / "other.ckpt"), {"kernel": np.ones(3, np.float32)})
    with pytest.raises(UserError, match="other.ckpt holds no ALBERT"):
        restore.check_warm_start(shapes, str(tmp_path / "other.ckpt"))


@pytest.mark.parametrize("part", ["data-00000-of-00001", "index"])
def test_files_cut_short_or_gone_are_named_before_a_run(fixtures, tmp_path, part):
    prefix = str(tmp_path / "model.ckpt")
    for name in ("data-00000-of-00001", "index"):
        shutil.copy(prefix_of(fixtures, "google_groups") + "." + name, prefix + "." + name)
    shapes = modeling.parameter_shapes(config_of(fixtures, "google_groups"))
    restore.check_warm_start(shapes, prefix)
    path = pathlib.Path(prefix + "." + part)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="model.ckpt is damaged") as raised:
        restore.check_warm_start(shapes, prefix)
    assert "\n" not in str(raised.value)
    path.unlink()
    with pytest.raises(UserError, match="model.ckpt"):
        restore.check_warm_start(shapes, find.find_checkpoint(prefix))


def test_layers_beyond_the_model_s_are_refused(fixtures):
    config = config_of(fixtures, "google_groups")
    fewer = dataclasses.replace(config, num_hidden_groups=2)
    with pytest.raises(UserError, match="variables of layers that the model lacks"):
        restore.check_warm_start(
            modeling.parameter_shapes(fewer), prefix_of(fixtures, "google_groups")
        )


def test_slots_and_step_are_no_unused_weights(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        kernel = tf.get_variable("dense/kernel", [2])
        tf.get_variable("dense/kernel/lamb_m", [2])
        tf.get_variable("dense/kernel/adam_v", [2])
        tf.get_variable("other", [2])
        tf.train.create_global_step()
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        plan = restore.plan_restore(restore.shapes_of([kernel]), Checkpoint(prefix))
    assert plan.unused == ["other"] and list(plan.assignment) == ["dense/kernel"]


def test_damaged_index(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="model.ckpt is damaged"):
        Checkpoint(find.find_checkpoint(str(tmp_path / "model.ckpt")))


def test_an_index_without_its_data_names_the_missing_file(tmp_path):
    weights.write(str(tmp_path / "model.ckpt"), {"kernel": np.ones(64, np.float32)})
    data = "model.ckpt.data-00000-of-00001"
    (tmp_path / data).rename(tmp_path / "model (1).ckpt.data-00000-of-00001")
    with pytest.raises(UserError, match="lies there without .*model.ckpt.data-.: .* give it this"):
        Checkpoint(str(tmp_path / "model.ckpt")).check_whole()
    (tmp_path / "model (1).ckpt.data-00000-of-00001").rename(tmp_path / data)
    Checkpoint(str(tmp_path / "model.ckpt")).check_whole()


def test_resuming_with_another_optimizer_is_refused(tmp_path):
    prefix = str(tmp_path / "model.ckpt-3")
    weights.write(prefix, {"kernel": np.ones(64, np.float32), "global_step": np.int64(3)})
    shapes = {"kernel": [64], "kernel/adam_m": [64]}
    with pytest.raises(UserError, match="another optimizer, without kernel/adam_m"):
        restore.check_same_run(shapes, prefix, str(tmp_path))
