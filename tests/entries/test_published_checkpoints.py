"""Every command works on checkpoints and configs with the names that published archives have.

`fixtures/published_checkpoints` has the names and shapes of published checkpoints and the config
beside them. In these tests the shapes are smaller, and the weights are random.
"""

import json
import re

import helpers
import numpy as np
import pytest
import record_files

import convert_checkpoint
import modeling
import run_classifier
import run_pretraining
from checkpointing import arrays as weights
from checkpointing import find, run_folder
from checkpointing.checkpoint_reader import Checkpoint
from common import files
from common.errors import UserError
from serving.predictor import Predictor
from tfrecords.wire import pretraining_schema

NAMES = ("bojone_tiny", "hello_small_google", "jade_google_base", "mars_tiny", "bert_chinese")
PRETRAINED = ("bojone_tiny", "jade_google_base")  # trained by run_pretraining.py
LENGTH, PREDICTIONS = 16, 4
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list("天地玄黄宇宙洪荒日月是否")
SMALL = {
    "vocab_size": len(PIECES),
    "embedding_size": 8,
    "hidden_size": 24,
    "intermediate_size": 32,
    "max_position_embeddings": LENGTH,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
}
# The archive of bojone has no config, the variable names of google's code, and E = H.
BOJONE = {
    "hidden_act": "gelu",
    "hidden_size": 312,
    "embedding_size": 312,
    "intermediate_size": 1248,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 4,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "vocab_size": 21128,
}
# Chinese BERT of google-research/bert: the published config, and names by layer.
BERT = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 21128,
}
BERT_LAYER = {
    "attention/output/LayerNorm/beta": ["hidden_size"],
    "attention/output/LayerNorm/gamma": ["hidden_size"],
    "attention/output/dense/bias": ["hidden_size"],
    "attention/output/dense/kernel": ["hidden_size", "hidden_size"],
    "attention/self/key/bias": ["hidden_size"],
    "attention/self/key/kernel": ["hidden_size", "hidden_size"],
    "attention/self/query/bias": ["hidden_size"],
    "attention/self/query/kernel": ["hidden_size", "hidden_size"],
    "attention/self/value/bias": ["hidden_size"],
    "attention/self/value/kernel": ["hidden_size", "hidden_size"],
    "intermediate/dense/bias": ["intermediate_size"],
    "intermediate/dense/kernel": ["hidden_size", "intermediate_size"],
    "output/LayerNorm/beta": ["hidden_size"],
    "output/LayerNorm/gamma": ["hidden_size"],
    "output/dense/bias": ["hidden_size"],
    "output/dense/kernel": ["intermediate_size", "hidden_size"],
}


def read_published(fixtures, name):
    """Return (prefix, config, shapes, slots, has_step) as published."""
    if name == "bert_chinese":
        _, _, shapes, _, _ = read_published(fixtures, "mars_tiny")
        shapes = {key: shape for key, shape in shapes.items() if "/layer_shared/" not in key}
        del shapes["bert/embeddings/word_embeddings_2"]
        shapes["bert/embeddings/word_embeddings"] = [21128, 312]
        shapes = {key: [768 if n == 312 else n for n in shape] for key, shape in shapes.items()}
        for layer in range(12):
            for key, shape in BERT_LAYER.items():
                place = "bert/encoder/layer_{}/{}".format(layer, key)
                shapes[place] = [BERT[field] for field in shape]
        return "bert_model.ckpt", BERT, shapes, [], False
    path = fixtures / "published_checkpoints" / (name + ".json")
    values = json.loads(path.read_text(encoding="utf-8"))
    config = values["config"] or BOJONE
    return values["prefix"], config, values["shapes"], values["slots"], values["has_step"]


def write_published(folder, fixtures, name, small=SMALL):
    """Write a checkpoint with published names and its config; returns (prefix, config's path)."""
    basename, config, shapes, slots, has_step = read_published(fixtures, name)
    changed = {field: small[field] for field in small if field in config}
    if config.get("embedding_size") == config["hidden_size"] and small:
        changed["embedding_size"] = changed["hidden_size"]
    sizes = {config[field]: value for field, value in changed.items()}
    layers = changed.get("num_hidden_layers", config["num_hidden_layers"])
    rng = np.random.RandomState(0)
    arrays = {}
    for key, shape in shapes.items():
        layer = re.search(r"/layer_(\d+)/", key)
        if layer and int(layer.group(1)) >= layers:
            continue
        shape = [sizes.get(size, size) if size > 2 else size for size in shape]
        arrays[key] = rng.normal(0, 0.1, shape).astype(np.float32)
        arrays.update((key + "/" + slot, np.zeros(shape, np.float32)) for slot in slots)
    if has_step:
        arrays["global_step"] = np.int64(489000)
    weights.write(str(folder / basename), arrays)
    path = folder / ("bert_config.json" if name == "bert_chinese" else "albert_config.json")
    path.write_text(json.dumps(dict(config, **changed)), encoding="utf-8")
    state = 'model_checkpoint_path: "/cns/home/albert/{}"\n'.format(basename)
    (folder / "checkpoint").write_text(state)
    return folder / basename, path


@pytest.fixture(params=NAMES)
def archive(request, fixtures, tmp_path):
    """A published checkpoint in a folder of its name, with files to train on beside it."""
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        rows = "天地\t玄黄\t1\n日月\t洪荒\t0\n" * 2
        (tmp_path / "data" / (split + ".txt")).write_text(rows, encoding="utf-8")
    with record_files.RecordWriter(str(tmp_path / "train.tfrecord")) as writer:
        for _ in range(4):
            schema = pretraining_schema(LENGTH, PREDICTIONS)
            values = {feature.name: np.ones(feature.length, int) for feature in schema}
            values["masked_lm_positions"] = np.arange(1, 1 + PREDICTIONS)
            writer.write(record_files.serialize(schema, values))
    folder = tmp_path / request.param
    folder.mkdir()
    return write_published(folder, fixtures, request.param)


def convert(*words, **values):
    helpers.run(convert_checkpoint, values, *words)


def classifier_flags(folder, prefix, config, **changes):
    values = {
        "task_name": "lcqmc_pair",
        "data_dir": folder / "data",
        "bert_config_file": config,
        "vocab_file": folder / "vocab.txt",
        "output_dir": folder / "classifier",
        "init_checkpoint": prefix,
        "max_seq_length": LENGTH,
        "train_batch_size": 4,
        "num_train_epochs": 1,
    }
    return dict(values, **changes)


def check_only(script, values):
    with pytest.raises(SystemExit) as ended:
        helpers.run(script, dict(values, check_only=True))
    assert ended.value.code == 0


def test_every_command_works_with_the_archive_s_own_config(archive, tmp_path, capsys, caplog):
    prefix, config_file = archive
    config = modeling.AlbertConfig.from_json_file(str(config_file))

    convert("inspect", str(prefix.parent), json=True)
    found = json.loads(capsys.readouterr().out)
    for field, value in found["fields"].items():
        if field != "embedding_size" or config.embedding_size is not None:
            assert getattr(config, field) == value, field

    pretraining = {
        "input_file": tmp_path / "train.tfrecord",
        "bert_config_file": config_file,
        "output_dir": tmp_path / "pretraining",
        "init_checkpoint": prefix.parent,
        "max_seq_length": LENGTH,
        "max_predictions_per_seq": PREDICTIONS,
        "train_batch_size": 4,
        "num_train_steps": 1,
        "num_warmup_steps": 0,
        "do_train": True,
    }
    fine_tuning = classifier_flags(tmp_path, prefix, config_file, do_train=True)
    # Both commands start in the same way: each archive is trained by one and checked by the other.
    if prefix.parent.name in PRETRAINED:
        helpers.run(run_pretraining, pretraining)
        assert run_folder.latest_step(str(tmp_path / "pretraining")) == 1
        check_only(run_classifier, fine_tuning)
    else:
        check_only(run_pretraining, pretraining)
        helpers.run(run_classifier, fine_tuning)
        assert run_folder.latest_step(str(tmp_path / "classifier")) == 1
        assert len(Predictor(str(tmp_path / "classifier")).predict([("天地", "玄黄")])) == 1

    vocabulary = str(tmp_path / "vocab.txt")
    embedder = Predictor.of_pretrained(
        str(prefix), str(config_file), vocabulary, max_seq_length=LENGTH
    )
    assert np.isfinite(embedder.embed(["天地玄黄"])).all()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_conversions_there_and_back(archive, tmp_path):
    pytest.importorskip("safetensors")
    prefix, config_file = archive
    convert(
        "to-huggingface",
        str(prefix),
        output_dir=tmp_path / "there",
        bert_config_file=config_file,
        vocab_file=tmp_path / "vocab.txt",
    )
    convert("from-huggingface", str(tmp_path / "there"), output_dir=tmp_path / "back")
    first = weights.read(str(prefix))
    second = weights.read(find.find_checkpoint(str(tmp_path / "back")))
    assert sorted(first) == sorted(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


# ------------------------------------------------------------------- pre-LN classifiers


@pytest.fixture
def preln(tmp_path):
    """A classifier as albert_zh makes it for ln_type preln: with a LayerNorm after the pooler."""
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    rows = "天地\t玄黄\t1\n日月\t洪荒\t0\n宇宙\t洪\t1\n"
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / (split + ".txt")).write_text(rows, encoding="utf-8")
    config = modeling.AlbertConfig(**dict(SMALL, ln_type="preln"))
    (tmp_path / "config.json").write_text(config.to_json_string())
    rng = np.random.RandomState(1)
    arrays = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in modeling.parameter_shapes(config, 2).items()
    }
    for name in ("gamma", "beta"):
        arrays["loss/LayerNorm/" + name] = rng.normal(0, 1, [24]).astype(np.float32)
    weights.write(str(tmp_path / "archive" / "model.ckpt-9"), arrays)
    return tmp_path


def test_a_pre_ln_classifier_of_albert_zh_is_normalized_after_the_pooler(preln):
    prefix, config_file = preln / "archive" / "model.ckpt-9", preln / "config.json"
    flags = classifier_flags(preln, prefix, config_file, do_predict=True)
    helpers.run(run_classifier, flags)
    lines = (preln / "classifier" / "predictions.tsv").read_text(encoding="utf-8").split("\n")
    printed = np.array([[float(x) for x in line.split("\t")[-2:]] for line in lines[1:-1]])

    arrays = weights.read(str(prefix))
    pooled = Predictor.of_pretrained(
        str(write_body(preln, arrays)),
        str(config_file),
        str(preln / "vocab.txt"),
        True,
        None,
        LENGTH,
    ).embed([("天地", "玄黄"), ("日月", "洪荒"), ("宇宙", "洪")], pooling="pooled")
    deviation = np.sqrt(pooled.var(1, keepdims=True) + 1e-12)
    normal = (pooled - pooled.mean(1, keepdims=True)) / deviation
    normal = normal * arrays["loss/LayerNorm/gamma"] + arrays["loss/LayerNorm/beta"]
    scores = np.exp(normal @ arrays["output_weights"].T + arrays["output_bias"])
    np.testing.assert_allclose(printed, scores / scores.sum(1, keepdims=True), atol=1e-4)


def write_body(folder, arrays):
    """Write the weights without the classifier."""
    body = {name: array for name, array in arrays.items() if name.startswith("bert/")}
    weights.write(str(folder / "body" / "model.ckpt"), body)
    return folder / "body" / "model.ckpt"


def test_training_goes_on_with_that_normalization_and_its_folder_predicts(preln):
    prefix = preln / "archive" / "model.ckpt-9"
    helpers.run(
        run_classifier, classifier_flags(preln, prefix, preln / "config.json", do_train=True)
    )
    run = str(preln / "classifier")
    assert Checkpoint(find.find_checkpoint(run)).holds("loss/LayerNorm/gamma")
    assert files.read_json(run + "/classifier.json")["config"]["pooled_norm"] is True
    assert len(Predictor(run).predict([("天地", "玄黄")])) == 1


def test_with_a_config_of_another_ln_type_it_is_refused(preln):
    config = modeling.AlbertConfig(**SMALL)
    (preln / "config.json").write_text(config.to_json_string())
    prefix = preln / "archive" / "model.ckpt-9"
    with pytest.raises(UserError, match="has loss/LayerNorm/.*, which the head .* 'preln' has it"):
        flags = classifier_flags(preln, prefix, preln / "config.json", do_predict=True)
        helpers.run(run_classifier, flags)
