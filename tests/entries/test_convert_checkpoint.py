"""convert_checkpoint.py: its commands as a user types them, and what they leave behind."""

import json
import os
import pathlib
import re
import shutil

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from sentencepiece_model import train_sentencepiece

import convert_checkpoint
import modeling
import tokenization
from checkpointing import arrays as weights
from checkpointing import find, model_files, run_folder
from checkpointing.checkpoint_reader import Checkpoint
from common import files
from common.errors import UserError
from huggingface import check, configs
from serving import predictor

LAYOUTS = ("albert_zh_postln", "google_one_group", "google_groups")
# (folder of the fixtures, architecture)
WAYS = [(name, None) for name in LAYOUTS] + [("albert_zh_postln", "albert")]


def call(*words, **values):
    """Run a command in this process."""
    helpers.run(convert_checkpoint, values, *words)


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [chr(0x4E00 + i) for i in range(100)]
    path.write_text("".join(piece + "\n" for piece in pieces), encoding="utf-8")
    return str(path)


def to_huggingface(fixtures, name, vocabulary, folder, architecture=None):
    call(
        "to-huggingface",
        str(fixtures / name),
        output_dir=folder,
        bert_config_file=fixtures / name / "config.json",
        vocab_file=vocabulary,
        architecture=architecture,
    )


def random_weights(config, num_labels):
    rng = np.random.RandomState(0)
    return {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in modeling.parameter_shapes(config, num_labels).items()
    }


def assert_same_weights(one, two):
    first, second = weights.read(one), weights.read(two)
    assert sorted(first) == sorted(second)
    for name, array in first.items():
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(array, second[name])


# ------------------------------------------------------------------------- Hugging Face


@pytest.mark.parametrize("name, architecture", WAYS)
def test_there_and_back_is_the_same_to_the_last_bit(
    name, architecture, fixtures, vocabulary, tmp_path, capsys
):
    pytest.importorskip("safetensors")
    to_huggingface(fixtures, name, vocabulary, tmp_path / "there", architecture)
    call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    original = find.find_checkpoint(str(fixtures / name))
    assert_same_weights(original, find.find_checkpoint(str(tmp_path / "back")))
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "back" / "albert_config.json"))
    assert config == modeling.AlbertConfig.from_json_file(str(fixtures / name / "config.json"))
    settings = json.loads((tmp_path / "there" / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "BertTokenizer"
    told = "sequence_output: largest difference" if has_torch() else "NOT VERIFIED"
    assert told in capsys.readouterr().out


def has_torch():
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def test_without_torch_it_says_so(fixtures, vocabulary, tmp_path, capsys, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setattr(check, "their_logits", lambda *_: None)
    to_huggingface(fixtures, "google_one_group", vocabulary, tmp_path / "there")
    assert "NOT VERIFIED" in capsys.readouterr().out


def test_a_difference_leaves_nothing_behind(fixtures, vocabulary, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    wrong = {"masked_lm": 9.0, "sequence_output": 0.0, "sentence_order": 0.0}
    monkeypatch.setattr(check, "their_logits", lambda *_: wrong)
    with pytest.raises(UserError, match="differ by up to .* more than 0.0001"):
        to_huggingface(fixtures, "google_one_group", vocabulary, tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]


def test_a_preln_model_is_refused_and_leaves_nothing(fixtures, vocabulary, tmp_path):
    with pytest.raises(UserError, match="'preln' has no counterpart"):
        to_huggingface(fixtures, "albert_zh_preln", vocabulary, tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]


@pytest.mark.parametrize("layout", ["albert_zh", "google"])
def test_a_classifier_keeps_its_labels(layout, vocabulary, tmp_path):
    pytest.importorskip("safetensors")
    config = modeling.AlbertConfig(105, 8, 12, 2, 2, intermediate_size=20, layout=layout)
    arrays = random_weights(config, 2)
    run = tmp_path / "run"
    described = ("sentence", ["bad", "good"], 20, config.to_dict(), vocabulary)
    model_files.write(str(run), model_files.Description(*described))
    weights.write(str(run / "best" / "model.ckpt-7"), arrays)
    files.write_text(str(run / "best" / "checkpoint"), 'model_checkpoint_path: "model.ckpt-7"\n')
    call("to-huggingface", str(run), output_dir=tmp_path / "there")
    values = json.loads((tmp_path / "there" / "config.json").read_text())
    assert values["id2label"] == {"0": "bad", "1": "good"}
    call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    back = str(tmp_path / "back")
    assert_same_weights(str(run / "best" / "model.ckpt-7"), find.find_checkpoint(back))
    again = predictor.Predictor(back)
    before = predictor.Predictor(str(run), str(run / "best" / "model.ckpt-7"))
    assert again.predict(["一丁"]) == before.predict(["一丁"])


@pytest.mark.parametrize(
    "scope, number, labels, task, example",
    [
        ("", 1, [], "c3", ("一", "丁", ["七", "万"])),
        ("cls/squad/", 2, [], "drcd", ("一", "丁七万" * 9)),
        ("cls/labels/", 3, ["O", "B-name", "I-name"], "ner", "一丁七万" * 9),
    ],
)
def test_models_of_other_tasks_keep_descriptions_and_predictions(
    scope, number, labels, task, example, vocabulary, tmp_path
):
    pytest.importorskip("safetensors")
    config = modeling.AlbertConfig(105, 8, 12, 2, 2, intermediate_size=20)
    arrays = random_weights(config, number)
    for name in ("output_weights", "output_bias"):
        arrays[scope + name] = arrays.pop(name)
    run = tmp_path / "run"
    settings = {"doc_stride": 5, "allow_no_answer": True} if task == "drcd" else {}
    described = model_files.Description(
        task, labels, 20, config.to_dict(), vocabulary, settings=settings
    )
    model_files.write(str(run), described)
    weights.write(str(run / "model.ckpt-7"), arrays)
    call("to-huggingface", str(run / "model.ckpt-7"), output_dir=tmp_path / "there")
    call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    found = model_files.read(str(tmp_path / "back"))
    assert (found.task, list(found.labels), found.settings) == (task, labels, settings)
    back = weights.read(find.find_checkpoint(str(tmp_path / "back")))
    lost = {name for name in arrays if name.startswith("bert/pooler/") and scope}
    assert set(arrays) == set(back) | lost
    for name in back:
        np.testing.assert_array_equal(back[name], arrays[name])
    before, again = (predictor.Predictor(str(folder)) for folder in (run, tmp_path / "back"))
    assert again.predict([example]) == before.predict([example])


def test_a_sentencepiece_model_comes_back(tmp_path):
    pytest.importorskip("safetensors")
    train_sentencepiece(tmp_path / "given", ["[CLS]", "[SEP]", "[MASK]"])
    size = len(tokenization.FullTokenizer(None, spm_model_file=str(tmp_path / "given")).vocab)
    config = modeling.AlbertConfig(size, 8, 12, 2, 2, intermediate_size=20)
    described = model_files.Description(
        "sentence", ["a", "b"], 20, config.to_dict(), spm_model_file=str(tmp_path / "given")
    )
    model_files.write(str(tmp_path / "run"), described)
    weights.write(str(tmp_path / "run" / "model.ckpt"), random_weights(config, 2))
    call("to-huggingface", str(tmp_path / "run" / "model.ckpt"), output_dir=tmp_path / "there")
    call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    back = model_files.read(str(tmp_path / "back"))
    assert back.spm_model_file == str(tmp_path / "back" / "spiece.model") and not back.vocab_file


def test_weights_in_several_files(fixtures, vocabulary, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    to_huggingface(fixtures, "google_groups", vocabulary, tmp_path / "there")
    parameters = numpy.load_file(str(tmp_path / "there" / "model.safetensors"))
    (tmp_path / "there" / "model.safetensors").unlink()
    places = {name: "model-{}.safetensors".format(i % 2) for i, name in enumerate(parameters)}
    for place in set(places.values()):
        part = {name: parameters[name] for name in parameters if places[name] == place}
        numpy.save_file(part, str(tmp_path / "there" / place), metadata={"format": "pt"})
    index = tmp_path / "there" / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    original = find.find_checkpoint(str(fixtures / "google_groups"))
    assert_same_weights(original, find.find_checkpoint(str(tmp_path / "back")))


def test_names_of_a_hub_module_are_those_of_the_model(fixtures, vocabulary, tmp_path, capsys):
    pytest.importorskip("safetensors")
    arrays = weights.read(str(fixtures / "google_groups" / "model.ckpt"))
    prefix = str(tmp_path / "hub" / "model.ckpt")
    weights.write(prefix, {"module/" + name: array for name, array in arrays.items()})
    call("inspect", prefix, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["heads"], found["fields"]["hidden_size"]) == (["masked_lm", "sentence_order"], 24)
    config = {"bert_config_file": fixtures / "google_groups" / "config.json"}
    call("to-huggingface", prefix, output_dir=tmp_path / "there", vocab_file=vocabulary, **config)
    call("slim", prefix, output_dir=tmp_path / "slim")
    assert sorted(weights.read(str(tmp_path / "slim" / "model.ckpt"))) == sorted(arrays)


def test_a_training_there_that_parts_the_layers_comes_back_as_layers_of_their_own(
    fixtures, vocabulary, tmp_path, caplog
):
    numpy = pytest.importorskip("safetensors.numpy")
    to_huggingface(fixtures, "albert_zh_postln", vocabulary, tmp_path / "there")
    path = str(tmp_path / "there" / "model.safetensors")
    parameters = numpy.load_file(path)
    parameters["bert.encoder.layer.1.output.dense.bias"] += 1
    parameters["bert.embeddings.word_embeddings.weight"][5] += 1
    numpy.save_file(parameters, path, metadata={"format": "pt"})
    call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "back" / "albert_config.json"))
    assert (config.embedding_size, config.parameter_sharing) == (None, "none")


# ------------------------------------------------------------------------- torch itself


@pytest.mark.parametrize("name, architecture", WAYS)
def test_transformers_reads_it_with_the_right_tokenizer(
    name, architecture, fixtures, vocabulary, tmp_path
):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    to_huggingface(fixtures, name, vocabulary, tmp_path / "there", architecture)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "there"))
    assert tokenizer.tokenize("一丁[MASK]") == ["一", "丁", "[MASK]"]
    assert transformers.AutoModel.from_pretrained(str(tmp_path / "there")).config.hidden_size == 24


@pytest.mark.parametrize("is_half", [False, True])
def test_what_transformers_saves_again_comes_back(classifier, tmp_path, vocabulary, is_half):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(classifier))
    assert model.config.id2label == {0: "bad", 1: "good"}
    again = str(tmp_path / "again")
    (model.half() if is_half else model).save_pretrained(again)
    transformers.AutoTokenizer.from_pretrained(str(classifier)).save_pretrained(again)
    call("from-huggingface", again, output_dir=tmp_path / "back")
    found = model_files.read(str(tmp_path / "back"))
    assert (found.labels, found.max_seq_length) == (("bad", "good"), 20)
    assert files.sha256(found.vocab_file) == files.sha256(vocabulary)
    if not is_half:
        prefix = find.find_checkpoint(str(tmp_path / "back"))
        assert_same_weights(str(tmp_path / "run" / "model.ckpt"), prefix)


@pytest.mark.parametrize("kind", ["Albert", "Bert"])
@pytest.mark.parametrize("head", [end for heads, end in configs.CLASSES.items() if heads])
def test_foreign_models_come_in(kind, head, tmp_path, capsys):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, kind + "Config")(
        vocab_size=50,
        hidden_size=12,
        embedding_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        hidden_act="gelu_new",
    )
    model = getattr(transformers, kind + head)(config)
    model.save_pretrained(str(tmp_path / "there"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [chr(0x4E00 + i) for i in range(45)]
    (tmp_path / "there" / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    assert "largest difference" in capsys.readouterr().out


# ------------------------------------------------------------------------- the others


def test_slim_drops_all_but_weights(tmp_path):
    arrays = {"bert/a": np.ones(3, np.float32), "bert/a/adam_m": np.ones(3, np.float32)}
    arrays.update({"bert/a/any_slot": np.ones(3, np.float32), "global_step": np.int64(7)})
    weights.write(str(tmp_path / "model.ckpt-7"), arrays)
    call("slim", str(tmp_path / "model.ckpt-7"), output_dir=tmp_path / "slim")
    prefix = find.find_checkpoint(str(tmp_path / "slim"))
    assert prefix == str(tmp_path / "slim" / "model.ckpt-7")
    assert sorted(Checkpoint(prefix).shapes) == ["bert/a"]


def test_what_belongs_to_a_run_s_checkpoint_comes_along(vocabulary, tmp_path):
    config = modeling.AlbertConfig(105, 8, 12, 2, 2, intermediate_size=20)
    described = ("sentence", ["a", "b"], 20, config.to_dict(), vocabulary)
    model_files.write(str(tmp_path / "run"), model_files.Description(*described))
    prefix = str(tmp_path / "run" / "best" / "model.ckpt-7")
    for path, value in ((prefix, 1), (str(tmp_path / "run" / "model.ckpt-9"), 2)):
        weights.write(path, {"a": np.full(3, value, np.float32)})
        run_folder.write_state(os.path.dirname(path), [path])
    call("slim", str(tmp_path / "run"), output_dir=tmp_path / "slim")
    assert weights.read(str(tmp_path / "slim" / "model.ckpt-7"))["a"][0] == 1  # the best one
    call("average", prefix, prefix, output_dir=tmp_path / "average")
    for name in ("slim", "average"):
        assert model_files.read(str(tmp_path / name)).labels == ("a", "b")


@pytest.mark.parametrize(
    "labels, heads, task, message",
    [
        ("ba", 2, "sentence", "labels"),
        ("ab", 4, "sentence", "num_attention_heads=4, .* 2"),
        ("ab", 2, "chnsenticorp", "task='chnsenticorp', .* 'sentence'"),
    ],
)
def test_models_that_are_not_one_have_no_average(
    vocabulary, tmp_path, labels, heads, task, message
):
    for name, *described in (("one", "ab", 2, "sentence"), ("two", labels, heads, task)):
        config = modeling.AlbertConfig(105, 8, 12, 2, described[1], intermediate_size=20).to_dict()
        folder = str(tmp_path / name)
        task = described[2]
        found = model_files.Description(task, list(described[0]), 20, config, vocabulary)
        model_files.write(folder, found)
        weights.write(os.path.join(folder, "model.ckpt"), {"a": np.ones(3, np.float32)})
    prefixes = [str(tmp_path / name / "model.ckpt") for name in ("none", "one", "two")]
    weights.write(prefixes[0], {"a": np.ones(3, np.float32)})
    (tmp_path / "none" / "albert_config.json").write_text("{}")  # a config without fields
    with pytest.raises(UserError, match="says {}.*: they are not of one model".format(message)):
        call("average", *prefixes, output_dir=tmp_path / "average")
    assert not (tmp_path / "average").exists()


def test_half_precision_becomes_float32(tmp_path):
    weights.write(str(tmp_path / "model.ckpt"), {"a": np.ones(3, np.float16)})
    call("slim", str(tmp_path / "model.ckpt"), output_dir=tmp_path / "slim")
    [array] = weights.read(str(tmp_path / "slim" / "model.ckpt")).values()
    assert array.dtype == np.float32


def test_weights_that_are_not_finite_are_not_converted(fixtures, vocabulary, tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    there, prefix = tmp_path / "there", str(tmp_path / "model.ckpt")
    to_huggingface(fixtures, "google_groups", vocabulary, there)
    parameters = library.load_file(str(there / "model.safetensors"))
    parameters["albert.pooler.bias"][0] = np.nan
    library.save_file(parameters, str(there / "model.safetensors"))
    weights.write(prefix, {"a": np.array([np.inf], np.float32)})
    for words in (["from-huggingface", str(there)], ["slim", prefix], ["average", prefix, prefix]):
        with pytest.raises(UserError, match="has values that are not finite numbers"):
            call(*words, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_in_a_folder_that_tensorflow_takes_for_a_pattern(fixtures, tmp_path):
    shutil.copytree(str(fixtures / "google_groups"), str(tmp_path / "run [1]"))
    with pytest.raises(UserError, match=r"run \[1\].*as a pattern: give another name"):
        Checkpoint(str(tmp_path / "run [1]" / "model.ckpt"))


def test_slim_in_half_precision(tmp_path):
    arrays = {"a": np.array([0.1, -3.0], np.float32), "number": np.int64(7)}
    weights.write(str(tmp_path / "model.ckpt"), arrays)
    call("slim", str(tmp_path / "model.ckpt"), output_dir=tmp_path / "slim", float16=True)
    checkpoint = Checkpoint(str(tmp_path / "slim" / "model.ckpt"))
    assert checkpoint.dtypes == {"a": tf.float16, "number": tf.int64}
    np.testing.assert_array_equal(checkpoint.read_weight("a"), arrays["a"].astype(np.float16))
    weights.write(str(tmp_path / "model.ckpt"), {"a": np.array([7e4], np.float32)})
    with pytest.raises(UserError, match="a: 7e.04 is too large for float16: leave --float16 out"):
        call("slim", str(tmp_path / "model.ckpt"), output_dir=tmp_path / "other", float16=True)
    call("slim", str(tmp_path / "model.ckpt"), output_dir=tmp_path / "other")


def test_average_is_the_mean(tmp_path):
    for number in (1, 2, 6):
        arrays = {"a": np.full(3, number, np.float32), "global_step": np.int64(number)}
        weights.write(str(tmp_path / "model.ckpt-{}".format(number)), arrays)
    paths = [str(tmp_path / "model.ckpt-{}".format(number)) for number in (1, 2, 6)]
    call("average", *paths, output_dir=tmp_path / "average")
    found = weights.read(find.find_checkpoint(str(tmp_path / "average")))
    np.testing.assert_array_equal(found["a"], np.full(3, 3, np.float32))
    weights.write(str(tmp_path / "other"), {"b": np.ones(3, np.float32)})
    with pytest.raises(UserError, match="are not of one model: a differs"):
        call("average", paths[0], str(tmp_path / "other"), output_dir=tmp_path / "odd")


@pytest.mark.parametrize(
    "name, layout, config",
    [
        ("albert_config_tiny.json", "albert_zh", "albert_config_tiny.json"),
        ("albert_config_tiny_google.json", "google", "albert_config_tiny_google.json"),
        ("bert_config.json", "bert", "bert_config.json"),
    ],
)
def test_inspect_names_layout_config_and_what_it_cannot_know(
    name, layout, config, root, tmp_path, capsys
):
    made = modeling.AlbertConfig.from_json_file(str(root / "albert_config" / name))
    shapes = modeling.parameter_shapes(made)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    arrays["bert/pooler/dense/bias/adam_m"] = np.zeros(made.hidden_size, np.float32)
    arrays["global_step"] = np.int64(12)
    weights.write(str(tmp_path / "model.ckpt"), arrays)
    call("inspect", str(tmp_path), json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["layout"], found["step"], found["slots"]) == (layout, 12, ["adam_m"])
    assert found["configs"] == ["albert_config/" + config]
    assert found["heads"] == ["masked_lm", "sentence_order"]
    assert found["dtypes"] == ["float32"]
    assert found["bytes"] == sum(
        files.size(str(path)) for path in tmp_path.iterdir() if path.name != "checkpoint"
    )
    for field, value in found["fields"].items():
        assert getattr(made, field) == value, field
    call("inspect", str(tmp_path))
    assert "layout                    {}\n".format(layout) in capsys.readouterr().out
    assert "num_attention_heads" in found["unknown"]
    assert ("num_hidden_layers" in found["unknown"]) == (layout != "bert")


@pytest.mark.parametrize(
    "fields, layout",
    [
        ({"embedding_size": None, "parameter_sharing": "none"}, "bert"),
        ({"layout": "google", "num_hidden_groups": 1}, "google"),
        ({}, "albert_zh"),
    ],
)
def test_inspect_of_an_unusual_size_tells_one_layout_and_fields_that_work(
    fields, layout, tmp_path, capsys
):
    helpers.write_config(tmp_path, 33, 20, **fields)
    made = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    shapes = modeling.parameter_shapes(made)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights.write(str(tmp_path / "model" / "bert_model.ckpt"), arrays)
    call("inspect", str(tmp_path / "model"), json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["fields"].get("layout", layout) == found["layout"] == layout
    assert found["configs"] == []
    call("inspect", str(tmp_path / "model"))
    assert re.search("configs +none here fits: write one with the fields", capsys.readouterr().out)
    known = {field: getattr(made, field) for field in found["unknown"]}
    config = tmp_path / "model" / "my_config.json"
    config.write_text(json.dumps(dict(found["fields"], **known)))
    assert modeling.parameter_shapes(modeling.AlbertConfig.from_json_file(str(config))) == shapes
    call("inspect", str(tmp_path / "model"), json=True)
    assert json.loads(capsys.readouterr().out)["configs"] == [str(config)]


def test_the_config_of_a_run_belongs_to_its_best_checkpoint(tmp_path, capsys):
    helpers.write_config(tmp_path, 33, 20)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    arrays = {
        name: np.zeros(shape, np.float32)
        for name, shape in modeling.parameter_shapes(config).items()
    }
    run, prefix = tmp_path / "run", tmp_path / "run" / "best" / "model.ckpt-1"
    weights.write(str(prefix), arrays)
    model_files.write_config(str(run), config)
    call("inspect", str(prefix), json=True)
    assert json.loads(capsys.readouterr().out)["configs"] == [str(run / model_files.CONFIG)]
    with pytest.raises(UserError, match="has no vocab.txt beside it: give --vocab_file$"):
        call("to-huggingface", str(prefix), output_dir=str(tmp_path / "theirs"))


@pytest.mark.parametrize(
    "words, values, message",
    [
        ([], {}, "'': give one of inspect"),
        (["turn", "x"], {}, "'turn': give one of inspect"),
        (["inspect"], {}, "inspect: give one path, found 0"),
        (["slim", "a", "b"], {}, "found 2: to make the folder b, give --output_dir=b"),
        (["average"], {}, "average: give two checkpoints or more, found 0"),
        (["average", "a"], {}, "average: give two checkpoints or more, found 1"),
        (["slim", "a"], {}, "--output_dir is needed"),
        (["inspect", "a"], {"output_dir": "out"}, "--output_dir is for to-huggingface and from-"),
        (["slim", "a"], {"json": True}, "--json is for inspect, so this run ignores it: leave it"),
        (["to-huggingface", "a"], {"float16": True}, "--float16 is for slim, so this run ignores"),
        (["inspect", "nowhere"], {}, "no checkpoint at nowhere"),
        (["slim", "a"], {"output_dir": "out [1]"}, "TensorFlow reads .* as a pattern: give anoth"),
        (
            ["from-huggingface", "nowhere"],
            {"output_dir": "out"},
            "nowhere does not exist",
        ),
    ],
)
def test_mistakes_are_one_clear_line(words, values, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call(*words, **values)
    assert not list(tmp_path.iterdir())


def test_the_config_of_another_layout_is_named(fixtures, vocabulary, tmp_path):
    values = {"bert_config_file": fixtures / "google_one_group" / "config.json"}
    with pytest.raises(UserError, match="of layout 'albert_zh' but the config .* 'google'"):
        call(
            "to-huggingface",
            str(fixtures / "albert_zh_postln"),
            vocab_file=vocabulary,
            output_dir=tmp_path / "out",
            **values,
        )


def test_what_is_no_folder_of_hugging_face_is_named(fixtures, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    own = str(fixtures / "google_groups")
    (tmp_path / "snapshots" / "b").mkdir(parents=True)
    (tmp_path / "snapshots" / "b" / "config.json").write_text("{}")
    for path, words in (
        ("clue/albert_chinese_tiny", "tiny does not exist: give the folder of a model; one on a"),
        (str(tmp_path / "model.safetensors"), "is a file: give its folder, " + str(tmp_path)),
        (str(tmp_path), "{0} has no config.json: .*, {0}/snapshots/b$".format(tmp_path)),
        (str(tmp_path / "snapshots"), "snapshots has no config.json: give the folder .* weights$"),
        (own, "is a checkpoint of TensorFlow already; .*to-huggingface"),
        (own + "/model.ckpt", "is a checkpoint of TensorFlow already"),
    ):
        with pytest.raises(UserError, match=words):
            call("from-huggingface", path, output_dir=tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_what_is_beside_a_new_folder_is_left_alone(tmp_path):
    weights.write(str(tmp_path / "model.ckpt"), {"a": np.ones(3, np.float32)})
    (tmp_path / "slim.tmp").mkdir()
    (tmp_path / "slim.unfinished.tmp" / "a").mkdir(parents=True)  # a killed process has left it
    (tmp_path / "slim.unfinished.tmp" / "b").touch()
    call("slim", str(tmp_path / "model.ckpt"), output_dir=tmp_path / "slim")
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith("model.ckpt")}
    assert names == {"slim", "slim.tmp"}
    assert not {"a", "b"} & {path.name for path in (tmp_path / "slim").iterdir()}


def test_nothing_is_overwritten(fixtures, tmp_path):
    with pytest.raises(UserError, match="exists: give another"):
        call("slim", str(fixtures / "google_groups"), output_dir=tmp_path)


def changed(folder, name, **values):
    """Change fields of a JSON file; None removes one."""
    path = folder / name
    found = dict(json.loads(path.read_text(encoding="utf-8")), **values)
    left = {key: value for key, value in found.items() if value is not None}
    path.write_text(json.dumps(left), encoding="utf-8")


@pytest.fixture
def classifier(vocabulary, tmp_path):
    """The folder of a converted classifier with the labels bad and good."""
    pytest.importorskip("safetensors")
    config = modeling.AlbertConfig(105, 8, 12, 2, 2, intermediate_size=20, layout="google")
    described = ("sentence", ["bad", "good"], 20, config.to_dict(), vocabulary)
    model_files.write(str(tmp_path / "run"), model_files.Description(*described))
    weights.write(str(tmp_path / "run" / "model.ckpt"), random_weights(config, 2))
    call("to-huggingface", str(tmp_path / "run" / "model.ckpt"), output_dir=tmp_path / "there")
    return tmp_path / "there"


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"vocab_size": 106},
            r"word_embeddings has shape \[105, 8\], but by the config \[106, 8\]",
        ),
        ({"hidden_size": 24}, "but by the config"),
        ({"id2label": {"0": "bad"}}, "id2label does not give each of the 2 labels"),
        ({"id2label": ["bad", "good"]}, "id2label does not give each of the 2 labels"),
        (
            {"id2label": {"0": "bad", "1": "bad"}},
            "id2label does not give each",
        ),
        ({"id2label": {"0": "bad", "1": "go\nod"}}, "a label is one line"),
        (
            {"architectures": ["AlbertForNextSentencePrediction"]},
            "NextSentence.*here there are Albert",
        ),
        ({"problem_type": "regression"}, "problem_type 'regression'"),
        (
            {"hidden_act": "silu"},
            "hidden_act 'silu' does not exist here: there is gelu_fast, gelu_new",
        ),
    ],
)
def test_configs_that_are_not_of_the_weights(classifier, tmp_path, values, message):
    (classifier / "albert_config.json").unlink()
    changed(classifier, "config.json", **values)
    with pytest.raises(UserError, match=message):
        call("from-huggingface", str(classifier), output_dir=tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_model_saved_over_ours_is_taken_as_it_is(classifier, tmp_path, caplog):
    changed(classifier, "config.json", num_attention_heads=4, architectures=None)
    call("from-huggingface", str(classifier), output_dir=tmp_path / "back")
    assert "num_attention_heads is 4 in its config.json and was 2" in caplog.text
    path = str(tmp_path / "back" / "albert_config.json")
    assert modeling.AlbertConfig.from_json_file(path).num_attention_heads == 4


@pytest.mark.parametrize(
    "settings, length, lower",
    [
        ({"model_max_length": 16.0}, 16, True),
        ({"model_max_length": 10**30}, 512, True),
        ({"model_max_length": None, "do_lower_case": None}, 128, True),
        ({"model_max_length": "x", "do_lower_case": "False"}, 128, True),
        ({"model_max_length": 2, "do_lower_case": False}, 128, False),
    ],
)
def test_settings_of_foreign_tokenizers(classifier, tmp_path, settings, length, lower):
    changed(classifier, "tokenizer_config.json", **settings)
    changed(classifier, "config.json", finetuning_task="mrpc")
    call("from-huggingface", str(classifier), output_dir=tmp_path / "back")
    found = model_files.read(str(tmp_path / "back"))
    assert (found.max_seq_length, found.do_lower_case) == (length, lower)
    assert (found.task, found.labels) == ("sentence_pair", ("bad", "good"))


def test_a_vocabulary_in_tokenizer_json(classifier, tmp_path):
    text = (classifier / "vocab.txt").read_text(encoding="utf-8")
    (classifier / "vocab.txt").unlink()
    with pytest.raises(UserError, match="has no vocabulary: put its vocab.txt there"):
        call("from-huggingface", str(classifier), output_dir=tmp_path / "back")
    model = {
        "type": "WordPiece",
        "vocab": {piece: i for i, piece in enumerate(text.split("\n")[:-1])},
    }
    content = json.dumps({"model": model, "normalizer": {"lowercase": False}})
    (classifier / "tokenizer.json").write_text(content, encoding="utf-8")
    changed(classifier, "tokenizer_config.json", do_lower_case=None)
    call("from-huggingface", str(classifier), output_dir=tmp_path / "back")
    assert (tmp_path / "back" / "vocab.txt").read_text(encoding="utf-8") == text
    assert model_files.read(str(tmp_path / "back")).do_lower_case is False


def write_tokenizer_json(folder, pieces):
    """Write tokenizer.json as transformers 5 does from a vocab.txt: blanks are stripped."""
    vocab = {piece.strip(): i for i, piece in enumerate(pieces)}
    content = {"model": {"type": "WordPiece", "vocab": vocab}, "normalizer": {"lowercase": True}}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def test_the_chinese_vocabulary_comes_back_from_tokenizer_json(root, tmp_path):
    pytest.importorskip("safetensors")
    vocabulary = root / "albert_config" / "vocab.txt"
    config = modeling.AlbertConfig(21128, 8, 12, 2, 2, intermediate_size=20, layout="google")
    described = ("sentence", ["bad", "good"], 20, config.to_dict(), str(vocabulary))
    model_files.write(str(tmp_path / "run"), model_files.Description(*described))
    weights.write(str(tmp_path / "run" / "model.ckpt"), random_weights(config, 2))
    there = tmp_path / "there"
    call("to-huggingface", str(tmp_path / "run" / "model.ckpt"), output_dir=there)
    (there / "vocab.txt").unlink()
    write_tokenizer_json(there, vocabulary.read_bytes().decode("utf-8").split("\n")[:-1])
    call("from-huggingface", str(there), output_dir=tmp_path / "back")
    assert (tmp_path / "back" / "vocab.txt").read_bytes() == vocabulary.read_bytes()


@pytest.mark.parametrize("odd", ["\u3000", "b\u3000"])
def test_a_vocabulary_that_tokenizer_json_has_lost_is_named(odd, classifier, tmp_path):
    text = (classifier / "vocab.txt").read_text(encoding="utf-8")
    pieces = text.replace(chr(0x4E07), odd).replace(chr(0x4E08), "b").split("\n")[:-1]
    (classifier / "vocab.txt").unlink()
    write_tokenizer_json(classifier, pieces)
    with pytest.raises(UserError, match="tokenizer.json: the piece with id 12 is empty or missing"):
        call("from-huggingface", str(classifier), output_dir=tmp_path / "back")
    (classifier / "vocab.txt").write_text(text, encoding="utf-8")  # the remedy
    call("from-huggingface", str(classifier), output_dir=tmp_path / "back")


def test_a_vocabulary_larger_than_the_model(classifier, tmp_path):
    with open(str(classifier / "vocab.txt"), "a", encoding="utf-8") as stream:
        stream.write("more\n")
    with pytest.raises(UserError, match="vocab.txt has 106 pieces, the model 105"):
        call("from-huggingface", str(classifier), output_dir=tmp_path / "back")


def test_a_vocabulary_without_its_last_pieces_is_told(classifier, tmp_path, caplog):
    path = classifier / "vocab.txt"
    pieces = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(pieces[:-5]), encoding="utf-8")
    with caplog.at_level("WARNING", logger="absl"):
        call("from-huggingface", str(classifier), output_dir=tmp_path / "back")
    assert "vocab.txt has 100 pieces, the model 105: if lines are missing" in caplog.text


def test_what_a_run_has_is_not_given_again(classifier, tmp_path, vocabulary):
    prefix = str(tmp_path / "run" / "model.ckpt")
    with pytest.raises(UserError, match="classifier.json has it: leave --vocab_file out"):
        call("to-huggingface", prefix, output_dir=tmp_path / "again", vocab_file=vocabulary)


def test_another_vocabulary_than_the_one_beside_the_checkpoint(fixtures, tmp_path, vocabulary):
    """With the flag that the message names, the command succeeds."""
    pytest.importorskip("safetensors")
    source = tmp_path / "archive"
    shutil.copytree(str(fixtures / "google_one_group"), str(source))
    size = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    pieces = pathlib.Path(vocabulary).read_text(encoding="utf-8").split()[:size]
    given = tmp_path / "given.txt"
    (source / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    given.write_text("\n".join(pieces[:5] + pieces[:4:-1]), encoding="utf-8")
    values = {"output_dir": tmp_path / "there", "bert_config_file": source / "config.json"}
    with pytest.raises(UserError, match="given.txt is not the vocabulary of .*: give --") as error:
        call("to-huggingface", str(source), vocab_file=given, **values)
    assert not (tmp_path / "there").exists()
    named = str(error.value).rpartition("--vocab_file=")[2]
    call("to-huggingface", str(source), vocab_file=named, **values)


@pytest.mark.parametrize("content", ["", "[1]", '"albert"', "3"])
def test_a_config_that_is_none_is_one_clear_line(content, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text(content)
    with pytest.raises(
        UserError, match="there.config.json(: not a readable JSON|: expected a JSON| is empty)"
    ):
        call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_damaged_safetensors_are_one_clear_line(content, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text('{"model_type": "albert"}')
    (tmp_path / "there" / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="model.safetensors is not readable"):
        call("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")


def test_data_of_a_checkpoint_cut_short(fixtures, tmp_path):
    prefix = str(fixtures / "google_groups" / "model.ckpt")
    for part in (".index", ".data-00000-of-00001"):
        tf.io.gfile.copy(prefix + part, str(tmp_path / "model.ckpt") + part)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    for words, values in ((["slim"], {"output_dir": tmp_path / "slim"}), (["inspect"], {})):
        with pytest.raises(UserError, match="model.ckpt is damaged .*: fetch or make it again"):
            call(*words, str(tmp_path / "model.ckpt"), **values)
