"""Tests of checkpointing/find.py."""

import pytest

from checkpointing import find
from common.errors import UserError


@pytest.mark.parametrize("name", ["out [1]", "a*", "b?"])
def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused(name):
    with pytest.raises(UserError, match="as a pattern: give another name"):
        find.find_checkpoint(name)


def test_a_state_file_that_is_no_text(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"\xff\x00\x80")
    with pytest.raises(UserError, match="no checkpoints in this folder"):
        find.find_checkpoint(str(tmp_path))


def test_finds_a_checkpoint_by_prefix_and_by_folder(fixtures):
    prefix = str(fixtures / "google_groups" / "model.ckpt")
    assert find.find_checkpoint(prefix) == prefix
    assert find.find_checkpoint(str(fixtures / "google_groups")) == prefix


def test_the_state_file_stands_for_its_folder(tmp_path):
    for step in (5, 9):
        (tmp_path / "model.ckpt-{}.index".format(step)).write_bytes(b"")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"')
    assert find.find_checkpoint(str(tmp_path / "checkpoint")) == str(tmp_path / "model.ckpt-9")


@pytest.mark.parametrize(
    "name,words",
    [
        ("nowhere.ckpt", "nowhere.ckpt.index does not exist"),
        ("model.ckpt.meta", "give the prefix .*model.ckpt$"),
        ("model.ckpt.data-00000-of-00001", "give the prefix .*model.ckpt$"),
        ("pytorch_model.bin", "not a TensorFlow checkpoint.*from-huggingface"),
        ("albert_tiny.tar.gz", "is an archive: unpack it, and give its folder"),
        ("", "half.index is missing: a checkpoint is an .index and"),
        ("none", "no checkpoints in this folder"),
        ("half", "half.index is missing: a checkpoint is an .index and its .data files"),
        ("frozen.pb", "frozen.pb is an export, which holds no checkpoint: give the checkpoint"),
        ("theirs", "theirs is not a TensorFlow checkpoint: .*from-huggingface"),
        ("run/checkpoint", "run: no checkpoints in this folder: give the prefix of one"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, name, words):
    (tmp_path / "none").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_bytes(b"")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint").write_text('model_checkpoint_path: "gone"')
    (tmp_path / "half.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(UserError, match=words):
        find.find_checkpoint(str(tmp_path / name))


@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack"])
def test_weights_of_keras_and_flax_are_told(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UserError, match=name + " holds weights of Keras or Flax.*safetensors"):
            find.find_checkpoint(str(path))


def test_the_folder_of_runs_and_an_export_are_named(tmp_path):
    for folder in ("runs/seed_1", "runs/seed_2", "served/1/variables"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("model.ckpt-0", "model.ckpt-3"):
        for seed in ("seed_1", "seed_2"):
            (tmp_path / "runs" / seed / (name + ".index")).write_bytes(b"")
    (tmp_path / "served" / "1" / "variables" / "variables.index").write_bytes(b"")
    (tmp_path / "served" / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match="below it is .*seed_1, .*seed_2: give one of these fol"):
        find.find_checkpoint(str(tmp_path / "runs"))
    for folder in ("served", "served/1"):
        with pytest.raises(UserError, match="is an export: .* alone are .*1/variables/variables$"):
            find.find_checkpoint(str(tmp_path / folder))
