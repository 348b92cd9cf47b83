"""A run goes on from the last whole checkpoint, and the best checkpoint is kept."""

import pathlib
import shutil

import pytest
import tensorflow.compat.v1 as tf

from checkpointing import find, run_folder
from common import files
from common.errors import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run's folder with whole checkpoints of the steps 1, 2 and 3. Tests must not write to it."""
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
        start = run_folder.find_start(str(folder), None)
    assert start == ("resume", str(folder / "model.ckpt-{}".format(step)), step, True)
    assert "goes on from the last whole checkpoint" in caplog.text
    # TensorFlow itself now finds the same checkpoints, and continues to delete the oldest.
    state = tf.train.get_checkpoint_state(str(folder))
    assert state.model_checkpoint_path == start.checkpoint
    assert [path.rpartition("-")[2] for path in state.all_model_checkpoint_paths] == [
        str(i) for i in range(1, step + 1)
    ]
    assert run_folder.latest_step(str(folder)) == step


def test_a_whole_checkpoint_is_left_alone(folder, caplog):
    """A run does not replace an earlier checkpoint that a user chose by hand, either."""
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-2"\n')
    with caplog.at_level("INFO", logger="tensorflow"):
        assert run_folder.find_start(str(folder), None).step == 2
    assert (folder / "checkpoint").read_text() == 'model_checkpoint_path: "model.ckpt-2"\n'
    assert "of no use" not in caplog.text


def test_a_copied_folder_goes_on_alone(folder, tmp_path):
    """TensorFlow deletes the old checkpoints that the state file lists, also those elsewhere."""
    names = ["model_checkpoint_path"] + ["all_model_checkpoint_paths"] * 3
    steps = (3, 1, 2, 3)
    lines = [
        '{}: "{}"\n'.format(name, folder / "model.ckpt-{}".format(step))
        for name, step in zip(names, steps)
    ]
    (folder / "checkpoint").write_text("".join(lines))
    copy = tmp_path / "copy"
    shutil.copytree(str(folder), str(copy))
    assert run_folder.find_start(str(copy), None).checkpoint == str(copy / "model.ckpt-3")
    state = tf.train.get_checkpoint_state(str(copy))
    assert all(path.startswith(str(copy)) for path in state.all_model_checkpoint_paths)
    assert len(state.all_model_checkpoint_paths) == 3


def test_a_look_changes_nothing(folder, caplog):
    cut(data(folder, 3))
    before = (folder / "checkpoint").read_text()
    with caplog.at_level("INFO", logger="tensorflow"):
        assert run_folder.find_start(str(folder), None, mend=False).step == 2
    assert (folder / "checkpoint").read_text() == before
    assert "goes on from the last whole checkpoint" in caplog.text


def test_what_an_unfinished_save_left_is_removed(folder):
    before = sorted(folder.iterdir())
    (folder / "model.ckpt-4_temp").mkdir()
    (folder / "model.ckpt-4_temp" / "part-00000-of-00001.data-00000-of-00001").write_text("")
    run_folder.remove_unfinished(str(folder))
    assert sorted(folder.iterdir()) == before


def test_a_run_is_never_started_over_damaged_checkpoints(folder):
    for step in (1, 2, 3):
        cut(data(folder, step))
    with pytest.raises(UserError, match="no whole checkpoint; .*ckpt-3 is damaged.*ckpt-1 is"):
        run_folder.find_start(str(folder), None)


def test_a_kill_during_the_very_first_save_starts_again(folder):
    for path in list(folder.glob("*-2*")) + list(folder.glob("*-3*")) + [folder / "checkpoint"]:
        path.unlink()
    cut(index(folder, 1))
    assert run_folder.find_start(str(folder), None).mode == "fresh"


def test_three_modes_are_told_apart(folder, tmp_path, caplog):
    empty, prefix = str(tmp_path / "empty"), str(folder / "model.ckpt-3")
    with caplog.at_level("INFO", logger="tensorflow"):
        assert run_folder.find_start(empty, None) == ("fresh", None, 0, False)
        assert run_folder.find_start(empty, str(folder)) == ("warm start", prefix, 0, False)
        assert run_folder.find_start(str(folder), "gone.ckpt") == ("resume", prefix, 3, True)
        start = run_folder.find_start(str(folder), None, do_train=False)
    assert start == ("evaluation", prefix, 3, True)
    fresh, warm, resume, evaluation = caplog.messages
    assert fresh.startswith("FRESH START at step 0")
    assert warm.startswith("WARM START at step 0 from " + prefix)
    assert resume.startswith("RESUME at step 3 from " + prefix)
    assert "--init_checkpoint=gone.ckpt is ignored" in resume
    assert evaluation == "NO TRAINING: {} as it is".format(prefix)
    with pytest.raises(UserError, match="holds no checkpoint: train"):
        run_folder.find_start(empty, None, do_train=False)


def test_a_published_checkpoint_is_no_run_to_go_on_with(fixtures, tmp_path):
    prefix = str(fixtures / "google_groups" / "model.ckpt")
    run_folder.copy(prefix, str(tmp_path))
    with pytest.raises(UserError, match="no global_step.*--init_checkpoint"):
        run_folder.find_start(str(tmp_path), None)


def test_copies_take_the_place_of_the_former_one(folder, tmp_path):
    best = tmp_path / "best"
    for step in (1, 3):
        run_folder.copy(str(folder / "model.ckpt-{}".format(step)), str(best))
        assert find.find_checkpoint(str(best)).endswith("model.ckpt-{}".format(step))
        names = ["checkpoint", data(best, step).name, index(best, step).name]
        assert sorted(path.name for path in best.iterdir()) == names


@pytest.mark.parametrize("renames", range(3))
def test_a_copy_that_is_cut_short_leaves_the_former_one(folder, tmp_path, renames, monkeypatch):
    """The process ends before the rename of the data, of the index or of the state."""
    best = tmp_path / "best"
    run_folder.copy(str(folder / "model.ckpt-1"), str(best))
    left = iter(range(renames))
    rename = files.rename

    def rename_or_die(old, new):
        if next(left, None) is None:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(files, "rename", rename_or_die)
    with pytest.raises(KeyboardInterrupt):
        run_folder.copy(str(folder / "model.ckpt-3"), str(best))
    assert run_folder.recover(str(best)).endswith("model.ckpt-1")
    monkeypatch.undo()
    run_folder.copy(str(folder / "model.ckpt-3"), str(best))
    assert sorted(best.iterdir()) == [best / "checkpoint", data(best, 3), index(best, 3)]
