"""A fine-tuned model's folder says what it needs, and notices what is missing or was changed."""

import dataclasses
import json
import re

import pytest

import modeling
from checkpointing import model_files
from common.errors import UserError

CONFIG = {"vocab_size": 7, "hidden_size": 8, "embedding_size": None}
LABELS = ["否", "是"]


def write(folder, **changes):
    values = {
        "config": CONFIG,
        "task": "pairs",
        "labels": LABELS,
        "max_seq_length": 32,
        "vocab_file": str(folder / "given.txt"),
        "do_lower_case": False,
    }
    described = model_files.Description(**dict(values, **changes))
    model_files.write(str(folder / "out"), described)
    return folder / "out"


@pytest.fixture
def given(tmp_path):
    (tmp_path / "given.txt").write_bytes("天\r\n地\n".encode("utf-8"))
    return tmp_path


def test_what_is_written_is_read_wherever_the_folder_is(given):
    out = write(given)
    (given / "given.txt").unlink()
    out = out.rename(given / "moved")
    found = model_files.read(str(out))
    assert found == model_files.Description(
        task="pairs",
        labels=("否", "是"),
        max_seq_length=32,
        do_lower_case=False,
        config=CONFIG,
        vocab_file=str(out / "vocab.txt"),
        spm_model_file=None,
    )
    assert (out / "vocab.txt").read_bytes() == "天\r\n地\n".encode("utf-8")
    assert sorted(path.name for path in out.iterdir()) == ["classifier.json", "vocab.txt"]
    assert '"否"' in (out / "classifier.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("start", ["{}", "{}/model.ckpt-3", "{}/best/model.ckpt-2"])
def test_a_description_is_found_from_any_path_of_its_run(given, monkeypatch, start):
    out = write(given)
    found = model_files.find_description([], start.format(out))
    assert found.labels == ("否", "是") and found.vocab_file == str(out / "vocab.txt")
    monkeypatch.chdir(out)
    found = model_files.find_description([], start.format(".")[2:] or ".")
    assert found.labels == ("否", "是") and (out / "vocab.txt").samefile(found.vocab_file)
    assert model_files.find_description([str(given)], None) is None


def test_a_sentencepiece_model_takes_the_place_of_a_vocabulary(given):
    (given / "model").write_bytes(b"\x00\x01")
    out = write(given, spm_model_file=str(given / "model"))
    found = model_files.read(str(out))
    assert found.vocab_file is None
    assert found.spm_model_file == str(out / "spiece.model")


def test_the_copy_may_be_what_is_given(given):
    out = write(given)
    write(given, vocab_file=str(out / "vocab.txt"))
    assert model_files.read(str(out)).vocab_file


def damage(out, **changes):
    path = out / "classifier.json"
    found = dict(json.loads(path.read_text(encoding="utf-8")), **changes)
    path.write_text(json.dumps({key: found[key] for key in found if found[key] != "gone"}))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda out: (out / "classifier.json").unlink(), "same flags"),
        (lambda out: (out / "classifier.json").write_text("{"), "classifier.json: not a readable"),
        (lambda out: (out / "classifier.json").write_text("[]"), "json: expected a JSON object"),
        (lambda out: (out / "classifier.json").write_bytes(b"\xff"), "json, row 1: not UTF-8"),
        (lambda out: damage(out, labels="gone"), "labels is None"),
        (lambda out: damage(out, max_seq_length="32"), "max_seq_length is '32'"),
        (lambda out: (out / "vocab.txt").unlink(), "vocab.txt is missing or not"),
        (lambda out: (out / "vocab.txt").write_text("another"), "or not the vocabulary"),
        (lambda out: out.rename(out.parent / "away"), "classifier.json does not exist"),
    ],
    ids=["older", "cut", "list", "binary", "absent", "type", "no-vocab", "vocab", "no-folder"],
)
def test_mistakes_say_what_is_missing(given, change, message):
    out = write(given)
    change(out)
    with pytest.raises(UserError, match=message) as error:
        model_files.read(str(out))
    assert str(out) in str(error.value)


def test_the_folder_of_the_best_checkpoint_stands_for_its_run(given):
    out = write(given)
    (out / "best").mkdir()
    best = model_files.read(str(out / "best"))
    assert best == model_files.read(str(out))


def test_a_damaged_description_is_written_anew(given):
    out = write(given)
    (out / "classifier.json").write_text("{")
    write(given)
    assert model_files.read(str(out)).labels == ("否", "是")


# ------------------------------------------------------------------- beside a checkpoint


def config(**changes):
    return modeling.AlbertConfig(
        vocab_size=7, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, **changes
    )


def test_a_config_that_contradicts_the_one_beside_the_checkpoint(tmp_path):
    name = "albert_config.json"
    (tmp_path / name).write_text(config().to_json_string(), encoding="utf-8")
    prefix = str(tmp_path / "model.ckpt")
    model_files.check_config(config(initializer_range=0.5), prefix)
    for field, value in (
        ("num_attention_heads", 4),
        ("num_hidden_layers", 3),
        ("ln_type", "preln"),
        ("hidden_act", "relu"),
    ):
        given = dataclasses.replace(config(), **{field: value})
        with pytest.raises(UserError, match="{}.* says {}=".format(name, field)):
            model_files.check_config(given, prefix)


def test_the_best_checkpoint_of_a_run_has_its_config_and_labels(given):
    out = write(given, config=config().to_dict())
    for prefix in (out / "model.ckpt-3", out / "best" / "model.ckpt-3"):
        model_files.check_config(config(), str(prefix))
        model_files.check_labels(LABELS, str(prefix))
        with pytest.raises(UserError, match="classifier.json says hidden_act='gelu'"):
            model_files.check_config(config(hidden_act="relu"), str(prefix))
        with pytest.raises(UserError, match=r"says labels=.'否', '是'., the task .'是', '否'."):
            model_files.check_labels(LABELS[::-1], str(prefix))
        with pytest.raises(UserError, match=r"the task .'是'.: 2 and 1 labels; use what") as error:
            model_files.check_labels(LABELS[1:], str(prefix))
        assert "fit both" not in str(error.value)
    model_files.check_labels(LABELS[::-1], str(out / "other" / "model.ckpt-3"))
    out.rename(given / "best")  # a run's folder may have this name, and then its own files count
    with pytest.raises(UserError, match="says labels="):
        model_files.check_labels(LABELS[::-1], str(given / "best" / "model.ckpt-3"))


@pytest.mark.parametrize(
    "name, damaged",
    [
        ("albert_config.json", "{"),
        ("albert_config.json", "[3]"),
        ("classifier.json", "{"),
        ("classifier.json", '{"config": 3, "labels": 5}'),
    ],
)
def test_damaged_files_and_configs_of_other_shapes_are_not_compared(tmp_path, name, damaged):
    theirs = dict(config().to_dict(), num_attention_heads=4)
    others = {"config.json": {"hidden_size": 16}, "my_config.json": {"parameter_sharing": "none"}}
    for other, fields in others.items():
        (tmp_path / other).write_text(json.dumps(dict(theirs, **fields)), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / name).write_text(damaged, encoding="utf-8")
    model_files.check_config(config(), str(tmp_path / "model.ckpt"))
    model_files.check_labels(LABELS, str(tmp_path / "model.ckpt"))


@pytest.mark.parametrize(
    "names",
    [
        ["bert_config.json"],
        ["albert_config_tiny.json"],
        ["albert_config_tiny.json", "albert_config_old.json"],
        ["config.json", "albert_config.json"],
    ],
)
@pytest.mark.parametrize("field, value", [("num_attention_heads", 4), ("ln_type", "preln")])
def test_every_config_of_these_shapes_belongs_to_the_checkpoint(tmp_path, names, field, value):
    """A config with fewer positions or more pieces than the checkpoint still belongs to it."""
    theirs = dict(config().to_dict(), hidden_act="gelu_new", **{field: value})
    for name in names:
        (tmp_path / name).write_text(json.dumps(theirs), encoding="utf-8")
    other = json.dumps(dict(theirs, hidden_size=16))
    (tmp_path / "albert_config_other.json").write_text(other, encoding="utf-8")
    prefix = str(tmp_path / "model.ckpt")
    given = dataclasses.replace(config(), vocab_size=9, max_position_embeddings=9)
    message = "json says {}={!r}, the given config .*; give --bert_config_file=(.*), which is what"
    with pytest.raises(UserError, match=message.format(field, value)) as error:
        model_files.check_config(given, prefix)
    named = re.search("file=(.*), which", str(error.value)).group(1)
    model_files.check_config(modeling.AlbertConfig.from_json_file(named), prefix)


def test_configs_of_a_folder_that_contradict_each_other(tmp_path):
    for name, heads in (("bert_config.json", 4), ("my_config.json", 2)):
        theirs = dict(config().to_dict(), num_attention_heads=heads)
        (tmp_path / name).write_text(json.dumps(theirs), encoding="utf-8")
    prefix = str(tmp_path / "model.ckpt")
    for given in (config(), dataclasses.replace(config(), num_attention_heads=4)):
        with pytest.raises(UserError, match="move the one that is wrong out of this folder"):
            model_files.check_config(given, prefix)
    with pytest.raises(UserError, match="they are not of one model"):
        model_files.check_same([prefix])
    (tmp_path / "my_config.json").unlink()
    model_files.check_config(given, prefix)


def test_the_user_s_own_config_and_vocabulary_are_not_replaced(tmp_path):
    config = modeling.AlbertConfig(vocab_size=60)
    given = tmp_path / "given.txt"
    given.write_text("天\n地\n", encoding="utf-8")
    model_files.refuse_to_replace(str(tmp_path), config, str(given))  # there is none
    own = tmp_path / "albert_config.json"
    own.write_text(dataclasses.replace(config, hidden_dropout_prob=0.5).to_json_string())
    (tmp_path / "vocab.txt").write_bytes(
        "天\r\n地\r\n".encode("utf-8")
    )  # the same pieces with other line ends
    model_files.refuse_to_replace(str(tmp_path), config, str(given))
    (tmp_path / "vocab.txt").write_text("地\n天\n", encoding="utf-8")
    with pytest.raises(UserError, match="vocab.txt is not .*given.txt, .* give --vocab_file="):
        model_files.refuse_to_replace(str(tmp_path), config, str(given))
    own.write_text(dataclasses.replace(config, num_hidden_layers=3).to_json_string())
    with pytest.raises(UserError, match="albert_config.json is not .* give --bert_config_file="):
        model_files.refuse_to_replace(str(tmp_path), config)
