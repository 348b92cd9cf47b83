"""Checkpoints of other programs: known renamings are loaded; other errors name the cause."""

import json
import re
import shutil

import numpy as np
import pytest

import modeling
from checkpointing import arrays as weights
from checkpointing import find, restore, run_folder
from checkpointing.checkpoint_reader import Checkpoint, model_names
from common.errors import UserError

LAYER = "bert/encoder/layer_0/attention/"


def shapes_of(fixtures, name, **changes):
    values = json.loads((fixtures / name / "config.json").read_text())
    return modeling.parameter_shapes(modeling.AlbertConfig.from_dict(dict(values, **changes)))


def renamed(fixtures, tmp_path, name, change):
    """Write a fixture's weights under new names; `change` returns None to leave one out."""
    arrays = weights.read(str(fixtures / name / "model.ckpt"))
    changed = {change(key): array for key, array in arrays.items()}
    changed.pop(None, None)
    weights.write(str(tmp_path / "model.ckpt"), changed)
    return str(tmp_path / "model.ckpt"), arrays


def with_keras_norms(name):
    """Name LayerNorm as Keras does, with numbers that go on from scope to scope."""
    number = {"gamma": 0, "beta": 0}.get(name.rpartition("/")[2], 0)
    number += 3 if "transformer" in name or "encoder" in name else 0
    if "LayerNorm_1" in name:
        return name.replace("LayerNorm_1", "layer_normalization_{}".format(number + 10))
    return name.replace(
        "LayerNorm", "layer_normalization_{}".format(number) if number else "layer_normalization"
    )


@pytest.mark.parametrize("name", ["albert_zh_postln", "google_groups"])
@pytest.mark.parametrize(
    "change",
    [
        "module/{}".format,
        "model/{}".format,
        "a/b/{}".format,
        "bert/{}".format,
        with_keras_norms,
        lambda name: name.replace("/", ".S") + "/.ATTRIBUTES/VARIABLE_VALUE",
    ],
    ids=["hub", "outer", "two", "twice", "keras_norms", "objects"],
)
def test_known_renamings_are_loaded(fixtures, tmp_path, name, change):
    prefix, arrays = renamed(fixtures, tmp_path, name, change)
    found = weights.read(prefix)
    assert sorted(found) == sorted(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
    plan = restore.check_warm_start(shapes_of(fixtures, name), prefix)
    assert (plan.missing, plan.unused, plan.unequal) == ([], [], [])


def test_numbers_of_keras_norms_count_in_each_scope():
    scope = "bert/encoder/transformer/group_0/inner_group_0/"
    names = ["{}layer_normalization_{}/gamma".format(scope, number) for number in (12, 7)]
    expected = [scope + "LayerNorm_1/gamma", scope + "LayerNorm/gamma"]
    assert list(model_names(names).values()) == expected


@pytest.mark.parametrize(
    "name, message",
    [
        ("model/layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE", "names are those of Keras objects"),
        ("bert.encoder.layer.0.attention.self.query.weight", "those of a PyTorch port"),
        ("albert/encoder/albert_layer_groups/0/ffn/kernel", "those of a PyTorch port"),
        ("electra/embeddings/word_embeddings", "it is an ELECTRA"),
        ("lm/lstm/kernel", "names that begin with bert/embeddings/ and bert/encoder/"),
    ],
)
def test_other_schemes_are_named(tmp_path, name, message):
    weights.write(str(tmp_path / "model.ckpt"), {name: np.ones(3, np.float32)})
    expected = "holds no ALBERT or BERT .* but {} .*{}".format(re.escape(name), message)
    with pytest.raises(UserError, match=expected):
        Checkpoint(str(tmp_path / "model.ckpt")).check_known()


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "/attention/output/LayerNorm/gamma",
            "/attention/output/norm/scale",
            "1 variables that no model here has, .*norm/scale first; the nearest name here is "
            ".*LayerNorm/gamma: other code made it, and no config can load it",
        ),
        ("bert/pooler/", None, "saved without the pooler; to train, --allow_missing=True"),
        ("cls/", None, "saved without that head; to train, --allow_missing=True"),
        ("bert/embeddings/Layer", None, "use the config that belongs to it"),
    ],
)
def test_the_cause_of_a_mismatch_is_named(fixtures, tmp_path, old, new, message):
    prefix, _ = renamed(
        fixtures,
        tmp_path,
        "albert_zh_postln",
        lambda name: (new and name.replace(old, new)) if old in name else name,
    )
    shapes = shapes_of(fixtures, "albert_zh_postln")
    with pytest.raises(UserError, match=message) as raised:
        restore.check_warm_start(shapes, prefix)
    if "--allow_missing=True" in str(raised.value):  # the remedy works
        assert restore.check_warm_start(shapes, prefix, allow_missing=True).missing


def test_a_projection_that_the_config_leaves_out_is_the_config_s_mistake(fixtures):
    shapes = shapes_of(fixtures, "google_one_group", embedding_size=24)
    with pytest.raises(UserError, match="use the config that belongs to the checkpoint"):
        restore.check_warm_start(shapes, str(fixtures / "google_one_group" / "model.ckpt"))


@pytest.mark.parametrize(
    "mark, extra, is_refused",
    [
        ("output_weights", "loss/LayerNorm/gamma", True),
        ("output_weights", "output_norm/gamma", True),
        ("output_weights", "cls/predictions/transform/dense/bias", False),
        ("cls/predictions/output_bias", "cls/predictions/more/kernel", True),
        ("cls/predictions/output_bias", "output_weights", False),
        ("bert/a", "loss/LayerNorm/gamma", False),
    ],
)
def test_unused_variables_of_a_loaded_head_are_refused(mark, extra, is_refused, tmp_path):
    arrays = {name: np.ones(3, np.float32) for name in (mark, extra, "bert/encoder/layer_0/a")}
    weights.write(str(tmp_path / "model.ckpt"), arrays)
    checked = ({mark: [3], "bert/encoder/layer_0/a": [3]}, Checkpoint(str(tmp_path / "model.ckpt")))
    if is_refused:
        with pytest.raises(UserError, match="has {}, which the head of this model".format(extra)):
            restore.match_weights(*checked)
    else:
        assert restore.match_weights(*checked).unused == [extra]


# ------------------------------------------------------------------------ which checkpoint


def copy_as(fixtures, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    for part in (".index", ".data-00000-of-00001"):
        shutil.copy(
            str(fixtures / "google_groups" / "model.ckpt") + part, str(folder / name) + part
        )


@pytest.mark.parametrize("prefix", ["albert_model.ckpt", "model.ckpt-best", "bert_model.ckpt"])
def test_an_archive_that_names_a_path_on_another_machine(fixtures, tmp_path, caplog, prefix):
    copy_as(fixtures, tmp_path, prefix)
    copy_as(fixtures, tmp_path, "other.ckpt")
    state = 'model_checkpoint_path: "/cns/tp-d/home/albert/base/{}"\n'.format(prefix)
    (tmp_path / "checkpoint").write_text(state)
    assert find.find_checkpoint(str(tmp_path)) == str(tmp_path / prefix)
    assert run_folder.best_checkpoint(str(tmp_path)) is None
    assert run_folder.recover(str(tmp_path)) == str(tmp_path / prefix)
    assert find.state_path(str(tmp_path)) == str(tmp_path / prefix)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_moved_run_goes_on_where_tensorflow_finds_its_checkpoint(fixtures, tmp_path, caplog):
    copy_as(fixtures, tmp_path, "model.ckpt-7")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-7"\n')
    assert run_folder.recover(str(tmp_path)) == str(tmp_path / "model.ckpt-7")
    assert find.state_path(str(tmp_path)) == str(tmp_path / "model.ckpt-7")


@pytest.mark.parametrize("name", ["albert_model.ckpt", "model.ckpt-best"])
def test_a_prefix_that_does_not_exist_beside_one_that_does(fixtures, tmp_path, name):
    copy_as(fixtures, tmp_path, name)
    with pytest.raises(UserError, match="its folder holds (.*): give that name") as raised:
        find.find_checkpoint(str(tmp_path / "bert_model.ckpt"))
    named = re.search("holds (.*): give", str(raised.value)).group(1)
    assert find.find_checkpoint(named) == str(tmp_path / name)


def test_folders_that_hold_several_or_a_folder_of_their_own_are_named(fixtures, tmp_path):
    copy_as(fixtures, tmp_path / "unpacked" / "albert_tiny", "model.ckpt-best")
    with pytest.raises(UserError, match="below it is .*albert_tiny/model.ckpt-best: give that"):
        find.find_checkpoint(str(tmp_path / "unpacked"))
    for name in ("a.ckpt", "b.ckpt"):
        copy_as(fixtures, tmp_path / "two", name)
    with pytest.raises(UserError, match="2 checkpoints in this folder, .*a.ckpt, .*b.ckpt: give"):
        find.find_checkpoint(str(tmp_path / "two"))
