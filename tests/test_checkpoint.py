"""pipeline/checkpoint.py: finding, naming and restoring checkpoints of both layouts."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
import run_classifier
from pipeline import checkpoint, files, weights
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


def test_a_classifier_of_other_labels_is_replaced_if_that_is_allowed(fixtures, tmp_path):
    config = config_of(fixtures, "albert_zh_postln")
    shapes = modeling.parameter_shapes(config, 3)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights.write(str(tmp_path / "model.ckpt"), arrays)
    shapes = modeling.parameter_shapes(config, 2)
    start = (shapes, str(tmp_path / "model.ckpt"), run_classifier.NEW_VARIABLES)
    with pytest.raises(UserError, match="other labels; --allow_missing=True"):
        checkpoint.check_warm_start(*start)
    found = checkpoint.check_warm_start(*start, allow_missing=True)
    assert found.missing == ["output_bias", "output_weights"] and not found.unequal


@pytest.mark.parametrize("part", ["data-00000-of-00001", "index"])
def test_files_cut_short_or_gone_are_named_before_a_run(fixtures, tmp_path, part):
    prefix = str(tmp_path / "model.ckpt")
    for name in ("data-00000-of-00001", "index"):
        shutil.copy(prefix_of(fixtures, "google_groups") + "." + name, prefix + "." + name)
    shapes = modeling.parameter_shapes(config_of(fixtures, "google_groups"))
    checkpoint.check_warm_start(shapes, prefix)
    path = pathlib.Path(prefix + "." + part)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="model.ckpt is (damaged|not a readable)") as raised:
        checkpoint.check_warm_start(shapes, prefix)
    assert "\n" not in str(raised.value)
    path.unlink()
    with pytest.raises(UserError, match="model.ckpt"):
        checkpoint.check_warm_start(shapes, checkpoint.find_checkpoint(prefix))


def test_layers_beyond_the_model_s_are_refused(fixtures):
    config = config_of(fixtures, "google_groups")
    fewer = dataclasses.replace(config, num_hidden_groups=2)
    with pytest.raises(UserError, match="variables of layers that the model lacks"):
        checkpoint.check_warm_start(
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
        plan = checkpoint.plan_restore(checkpoint.shapes_of([kernel]), prefix)
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
        ("pytorch_model.bin", "no TensorFlow checkpoint.*from-huggingface"),
        ("", "no checkpoints in this folder"),
        ("half", "half is half a checkpoint: .*half.data-00000-of-00001 is there, .*half.index"),
        ("theirs", "theirs is a model of Hugging Face .model.safetensors.: .*from-huggingface"),
        ("run/checkpoint", "only names the checkpoints of its folder"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, name, words):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_bytes(b"")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint").write_text('model_checkpoint_path: "gone"')
    (tmp_path / "half.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(UserError, match=words):
        checkpoint.find_checkpoint(str(tmp_path / name))


def test_damaged_index(tmp_path):
    (tmp_path / "model.ckpt.index").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoint.read_shapes(checkpoint.find_checkpoint(str(tmp_path / "model.ckpt")))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run's folder with whole checkpoints of the steps 1, 2 and 3; not to be written to."""
    folder = tmp_path_factory.mktemp("saved")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("kernel", [64])
        step = tf.train.create_global_step()
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(sharded=True, save_relative_paths=True)
        for _ in range(3):
            session.run(step.assign_add(1))
            saver.save(session, str(folder / "model.ckpt"), step, write_meta_graph=False)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return pathlib.Path(shutil.copytree(str(saved), str(tmp_path / "out")))


def cut(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def data(folder, step):
    return folder / "model.ckpt-{}.data-00000-of-00001".format(step)


def index(folder, step):
    return folder / "model.ckpt-{}.index".format(step)


DAMAGES = {
    "data cut": (2, lambda folder: cut(data(folder, 3))),
    "data empty": (2, lambda folder: cut(data(folder, 3), 0)),
    "data lost": (2, lambda folder: data(folder, 3).unlink()),
    "data flipped": (2, lambda folder: flip(data(folder, 3))),
    "index lost": (2, lambda folder: index(folder, 3).unlink()),
    "index cut": (2, lambda folder: cut(index(folder, 3))),
    "index empty": (2, lambda folder: cut(index(folder, 3), 0)),
    "two lost": (1, lambda folder: [cut(data(folder, 3)), index(folder, 2).unlink()]),
    "state lost": (3, lambda folder: (folder / "checkpoint").unlink()),
    "state empty": (3, lambda folder: cut(folder / "checkpoint", 0)),
    "state cut": (3, lambda folder: cut(folder / "checkpoint", 0.1)),
    "state no text": (3, lambda folder: (folder / "checkpoint").write_bytes(b"\xff\x00\x80")),
    "state wrong": (
        3,
        lambda folder: (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"'),
    ),
}


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_a_run_goes_on_from_its_last_whole_checkpoint(folder, name, caplog):
    step, damage = DAMAGES[name]
    damage(folder)
    with caplog.at_level("WARNING", logger="tensorflow"):
        start = checkpoint.find_start(str(folder), None)
    assert start == ("resume", str(folder / "model.ckpt-{}".format(step)), step, True)
    assert "goes on from the last whole checkpoint" in caplog.text
    # TensorFlow itself now sees the same, and goes on deleting the oldest.
    state = tf.train.get_checkpoint_state(str(folder))
    assert state.model_checkpoint_path == start.checkpoint
    assert [path.rpartition("-")[2] for path in state.all_model_checkpoint_paths] == [
        str(i) for i in range(1, step + 1)
    ]
    assert checkpoint.latest_step(str(folder)) == step


def test_a_whole_checkpoint_is_left_alone(folder, caplog):
    """Also one that somebody went back to, by hand."""
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-2"\n')
    with caplog.at_level("INFO", logger="tensorflow"):
        assert checkpoint.find_start(str(folder), None).step == 2
    assert (folder / "checkpoint").read_text() == 'model_checkpoint_path: "model.ckpt-2"\n'
    assert "of no use" not in caplog.text


def test_a_look_changes_nothing(folder, caplog):
    cut(data(folder, 3))
    before = (folder / "checkpoint").read_text()
    with caplog.at_level("INFO", logger="tensorflow"):
        assert checkpoint.find_start(str(folder), None, mend=False).step == 2
    assert (folder / "checkpoint").read_text() == before
    assert "goes on from the last whole checkpoint" in caplog.text


def test_what_an_unfinished_save_left_is_removed(folder):
    before = sorted(folder.iterdir())
    (folder / "model.ckpt-4_temp").mkdir()
    (folder / "model.ckpt-4_temp" / "part-00000-of-00001.data-00000-of-00001").write_text("")
    checkpoint.remove_unfinished(str(folder))
    assert sorted(folder.iterdir()) == before


def test_a_run_is_never_started_over_damaged_checkpoints(folder):
    for step in (1, 2, 3):
        cut(data(folder, step))
    with pytest.raises(UserError, match="no whole checkpoint; .*ckpt-3 is damaged.*ckpt-1 is"):
        checkpoint.find_start(str(folder), None)


def test_a_kill_during_the_very_first_save_starts_again(folder):
    for path in list(folder.glob("*-2*")) + list(folder.glob("*-3*")) + [folder / "checkpoint"]:
        path.unlink()
    cut(index(folder, 1))
    assert checkpoint.find_start(str(folder), None).mode == "fresh"


def test_three_modes_are_told_apart(folder, tmp_path, caplog):
    empty, prefix = str(tmp_path / "empty"), str(folder / "model.ckpt-3")
    with caplog.at_level("INFO", logger="tensorflow"):
        assert checkpoint.find_start(empty, None) == ("fresh", None, 0, False)
        assert checkpoint.find_start(empty, str(folder)) == ("warm start", prefix, 0, False)
        assert checkpoint.find_start(str(folder), "gone.ckpt") == ("resume", prefix, 3, True)
        start = checkpoint.find_start(str(folder), None, do_train=False)
    assert start == ("evaluation", prefix, 3, True)
    fresh, warm, resume, evaluation = caplog.messages
    assert fresh.startswith("FRESH START at step 0")
    assert warm.startswith("WARM START at step 0 from " + prefix)
    assert resume.startswith("RESUME at step 3 from " + prefix)
    assert "--init_checkpoint=gone.ckpt is ignored" in resume
    assert evaluation == "NO TRAINING: {} as it is".format(prefix)
    with pytest.raises(UserError, match="holds no checkpoint: train"):
        checkpoint.find_start(empty, None, do_train=False)


def test_a_published_checkpoint_is_no_run_to_go_on_with(fixtures, tmp_path):
    prefix = prefix_of(fixtures, "google_groups")
    checkpoint.copy(prefix, str(tmp_path))
    with pytest.raises(UserError, match="no global_step.*--init_checkpoint"):
        checkpoint.find_start(str(tmp_path), None)


def test_copies_take_the_place_of_the_former_one(folder, tmp_path):
    best = tmp_path / "best"
    for step in (1, 3):
        checkpoint.copy(str(folder / "model.ckpt-{}".format(step)), str(best))
        assert checkpoint.find_checkpoint(str(best)).endswith("model.ckpt-{}".format(step))
        names = ["checkpoint", data(best, step).name, index(best, step).name]
        assert sorted(path.name for path in best.iterdir()) == names


@pytest.mark.parametrize("renames", range(3))
def test_a_copy_that_is_cut_short_leaves_the_former_one(folder, tmp_path, renames, monkeypatch):
    """Killed before the first, second and third rename, those of data, index and state."""
    best = tmp_path / "best"
    checkpoint.copy(str(folder / "model.ckpt-1"), str(best))
    left = iter(range(renames))
    rename = files.rename

    def rename_or_die(old, new):
        if next(left, None) is None:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(files, "rename", rename_or_die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.copy(str(folder / "model.ckpt-3"), str(best))
    assert checkpoint.recover(str(best)).endswith("model.ckpt-1")
    monkeypatch.undo()
    checkpoint.copy(str(folder / "model.ckpt-3"), str(best))
    assert sorted(best.iterdir()) == [best / "checkpoint", data(best, 3), index(best, 3)]


def test_resuming_with_another_optimizer_is_refused(folder):
    shapes = {"kernel": [64], "kernel/adam_m": [64]}
    with pytest.raises(UserError, match="another optimizer, without kernel/adam_m"):
        checkpoint.check_same_run(shapes, str(folder / "model.ckpt-3"), str(folder))
