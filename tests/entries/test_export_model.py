"""export_model.py writes what computes the same as the predictor, from ids and from raw text."""

import json
import os
import sys

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import logging
from classifiers import (
    ARCHITECTURES,
    LABELS,
    LENGTH,
    PAIRS,
    PIECES,
    TEXTS,
    write_model,
    write_pretrained,
)
from sentencepiece_model import train_sentencepiece

import export_model
import modeling
import tokenization
from checkpointing import model_files
from common.errors import UserError
from serving import export, model_outputs, predictor, samples, saved_model, single_file

pytest.importorskip("tensorflow_text")


@pytest.fixture(scope="module", autouse=True)
def verbosity():
    """Restore the log levels that the script changes, for the other tests."""
    before = tf.logging.get_verbosity(), logging.get_verbosity()
    yield
    tf.logging.set_verbosity(before[0])
    logging.set_verbosity(before[1])


def run(**values):
    helpers.run(export_model, values)


def encoded(texts):
    return [text.encode("utf-8") for text in texts]


def served(path):
    return saved_model.load_saved_model(str(path))[1]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A fine-tuned model of pairs. Tests must not write to it."""
    return write_model(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def model(out):
    return predictor.Predictor(str(out))


@pytest.fixture(scope="module")
def version(out):
    """The exported model of pairs."""
    run(model_dir=out, output_dir=out.parent / "served", version=3)
    return out.parent / "served" / "3"


@pytest.fixture(scope="module")
def signatures(version):
    return served(version)


# -------------------------------------------------------------------------------- saved model


def test_layout_of_a_version(version):
    assert sorted(os.listdir(str(version))) == ["assets", "saved_model.pb", "variables"]
    lines = (version / "assets" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert lines == PIECES + [""]
    assert (version / "assets" / "labels.txt").read_text(encoding="utf-8").split() == LABELS
    assert str(version.parent.parent).encode() not in (version / "saved_model.pb").read_bytes()


def test_signatures_of_a_classifier(signatures, model):
    names = {"serving_default", "classify", "classify_text", "embed", "embed_text"}
    assert set(signatures) == names
    pairs = PAIRS + [("", "天"), ("", ""), ("天" * 40, "地" * 9), ("天" * 9, "地" * 40)]
    feeds = dict(zip(("text_a", "text_b"), map(encoded, zip(*pairs))))
    wanted = model.probabilities(pairs)
    found = signatures["classify_text"](feeds)
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-5)
    assert [label.decode("utf-8") for label in found["labels"][1]] == LABELS
    best = [LABELS[i] for i in wanted.argmax(axis=1)]
    assert [label.decode("utf-8") for label in found["label"]] == best
    for name in ("classify", "serving_default"):
        found = signatures[name](samples.id_feeds(model, "classify", pairs))
        np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-5)
    found = signatures["embed_text"]({"text": encoded(TEXTS)})
    for pooling in predictor.POOLINGS:
        np.testing.assert_allclose(found[pooling], model.embed(TEXTS, pooling), atol=1e-5)


def test_ids_beyond_the_positions_are_refused_and_texts_cut(signatures):
    ids = np.ones([1, LENGTH + 1], np.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than the {} p".format(LENGTH)):
        signatures["embed"](dict.fromkeys(model_outputs.INPUTS, ids))
    long, cut = "天" * 50, "天" * (LENGTH - 2)
    found = signatures["embed_text"]({"text": encoded([long, cut])})["mean"]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_bytes_that_are_no_text_are_dropped(signatures):
    found = signatures["embed_text"]({"text": [b"\xce\xde\xe5\xa4\xa9", "天".encode("utf-8")]})
    np.testing.assert_allclose(found["mean"][0], found["mean"][1], atol=1e-6)


def test_a_batch_of_no_text(signatures):
    none = np.zeros([0], object)
    for name, function in signatures.items():
        if name.endswith("_text"):
            fields = ("text_a", "text_b") if name == "classify_text" else ("text",)
            found = [function(dict.fromkeys(fields, none))]
        else:
            shapes = ([0, 0], [0, 3], [0, LENGTH])
            feeds = [dict.fromkeys(model_outputs.INPUTS, np.zeros(shape, int)) for shape in shapes]
            found = [function(inputs) for inputs in feeds]
        assert all(len(array) == 0 for outputs in found for array in outputs.values())


def test_a_request_as_json(signatures, model):
    """The body that docs/serving.md shows, as the server decodes it."""
    body = json.loads(
        '{"signature_name": "classify_text", "instances": [{"text_a": "天地", "text_b": "玄黄宇"}]}'
    )
    columns = {
        name: encoded([row[name] for row in body["instances"]]) for name in ("text_a", "text_b")
    }
    found = signatures[body["signature_name"]](columns)
    wanted = model.predict([("天地", "玄黄宇")])[0]
    assert found["label"][0].decode("utf-8") == wanted["label"]


def expected_fills(flags, texts):
    """Return the feeds of texts, and the three best probabilities of each mask, [masks, 3]."""
    model = predictor.Predictor.of_pretrained(
        *[str(flags[key]) for key in ("checkpoint", "bert_config_file", "vocab_file")],
        max_seq_length=LENGTH,
    )
    feeds = model.masked_batch(texts)
    wanted = model.masked_probabilities(feeds)
    return feeds, np.sort(wanted, axis=1)[:, :-4:-1]


def test_masks_of_ids_are_filled_in_the_layout_google(tmp_path):
    flags = write_pretrained(tmp_path, **ARCHITECTURES["google"])
    run(output_dir=tmp_path / "served", top_k=3, raw_text=False, **flags)
    signatures = served(tmp_path / "served" / "1")
    assert set(signatures) == {"fill_mask", "embed", "serving_default"}
    feeds, best = expected_fills(flags, ["[MASK]地玄[MASK]", "没有", "天[MASK]"])
    found = signatures["fill_mask"](feeds)["probabilities"]
    np.testing.assert_allclose(found[found[:, :, 0] > 0], best, atol=1e-5)


def test_masks_are_filled(tmp_path):
    flags = write_pretrained(tmp_path)
    run(output_dir=tmp_path / "served", top_k=3, **flags)
    signatures = served(tmp_path / "served" / "1")
    fills, embeds = {"fill_mask", "fill_mask_text"}, {"embed", "embed_text"}
    assert set(signatures) == fills | embeds | {"serving_default"}
    texts = ["[MASK]地玄[MASK]", "没有", "天[MASK]", ""]
    found = signatures["fill_mask_text"]({"text": encoded(texts)})
    assert found["pieces"].shape == found["probabilities"].shape == (4, 2, 3)
    assert (found["probabilities"][:, :, 0] > 0).tolist() == [
        [True, True],
        [False, False],
        [True, False],
        [False, False],
    ]
    assert found["pieces"][0, 0, 0].decode("utf-8") == PIECES[found["ids"][0, 0, 0]]
    assert found["pieces"][1, 0, 0] == b""
    feeds, best = expected_fills(flags, texts)
    places = found["probabilities"][:, :, 0] > 0
    np.testing.assert_allclose(found["probabilities"][places], best, atol=1e-5)
    again = signatures["fill_mask"](feeds)
    np.testing.assert_allclose(again["probabilities"], found["probabilities"], atol=1e-5)
    none = signatures["fill_mask_text"]({"text": encoded(["天", "地"])})
    assert none["pieces"].shape == (2, 0, 3)
    empty = signatures["fill_mask_text"]({"text": np.zeros([0], object)})
    assert empty["pieces"].shape == (0, 0, 3)


def test_a_task_of_one_text(tmp_path):
    out = write_model(tmp_path, task="sentence")
    run(model_dir=out, output_dir=tmp_path / "served")
    found = served(tmp_path / "served" / "1")["classify_text"]({"text": encoded(TEXTS)})
    wanted = predictor.Predictor(str(out)).probabilities(TEXTS)
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-5)


# ------------------------------------------------------------------------------- single files


@pytest.mark.parametrize("quantization", export.QUANTIZATIONS)
def test_tflite(tmp_path, out, model, quantization, capsys):
    run(model_dir=out, output_dir=tmp_path, format="tflite", quantization=quantization)
    assert "probabilities: largest difference" in capsys.readouterr().out
    path = tmp_path / "model_{}.tflite".format(quantization)
    assert os.listdir(str(tmp_path)) == [path.name]
    function = single_file.load_tflite(str(path))
    for pairs in (PAIRS, PAIRS[:1], PAIRS[3:]):  # batches of other sizes and lengths
        found = function(samples.id_feeds(model, "classify", pairs))["probabilities"]
        atol = export.FORMATS["tflite"].tolerances[quantization]
        np.testing.assert_allclose(found, model.probabilities(pairs), atol=atol)


def test_onnx(tmp_path, out, model):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    run(model_dir=out, output_dir=tmp_path, format="onnx")
    function = single_file.load_onnx(str(tmp_path / "model.onnx"))
    for pairs in (PAIRS, PAIRS[:1]):
        found = function(samples.id_feeds(model, "classify", pairs))["probabilities"]
        np.testing.assert_allclose(found, model.probabilities(pairs), atol=1e-4)


# ----------------------------------------------------------------------------------- mistakes


def test_an_existing_version_is_refused(version, out):
    before = os.stat(str(version / "saved_model.pb")).st_mtime_ns
    with pytest.raises(UserError, match="3 exists: give another --version"):
        run(model_dir=out, output_dir=version.parent, version=3)
    assert os.stat(str(version / "saved_model.pb")).st_mtime_ns == before


def test_a_file_in_place_of_the_folder_is_named(tmp_path, out):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file: give the name of a folder"):
        run(model_dir=out, output_dir=tmp_path / "file")
    with pytest.raises(UserError, match="cannot .*file is a file, not a folder"):
        run(model_dir=out, output_dir=tmp_path / "file" / "sub", format="tflite")


@pytest.mark.parametrize(
    "export_format, flags", [("saved_model", {"raw_text": False}), ("tflite", {})]
)
def test_nothing_is_left_of_an_export_that_differs(
    tmp_path, out, export_format, flags, monkeypatch
):
    strict = export.FORMATS[export_format]._replace(tolerances={"float32": -1.0})
    monkeypatch.setitem(export.FORMATS, export_format, strict)
    with pytest.raises(UserError, match="differs from the model's by .*nothing was written"):
        run(model_dir=out, output_dir=tmp_path, format=export_format, **flags)
    assert os.listdir(str(tmp_path)) == []


def test_what_a_killed_export_left_is_replaced(tmp_path, out):
    (tmp_path / "1.tmp" / "variables").mkdir(parents=True)
    run(model_dir=out, output_dir=tmp_path, raw_text=False)
    assert os.listdir(str(tmp_path)) == ["1"]
    assert set(served(tmp_path / "1")) == {"classify", "embed", "serving_default"}


@pytest.mark.parametrize(
    "package, flags, message",
    [
        ("tensorflow_text", {}, r'pip install "\.\[export\]", or give --raw_text=False'),
        ("tf2onnx", {"format": "onnx"}, r'pip install "\.\[export\]"'),
        ("onnxruntime", {"format": "onnx"}, r'pip install "\.\[export\]"'),
    ],
)
def test_missing_packages(tmp_path, out, package, flags, message, monkeypatch):
    if package == "onnxruntime":
        pytest.importorskip("tf2onnx")
    monkeypatch.setitem(sys.modules, package, None)  # its import fails
    with pytest.raises(UserError, match=message):
        run(model_dir=out, output_dir=tmp_path, **flags)
    assert os.listdir(str(tmp_path)) == []


def test_raw_text_needs_wordpiece(tmp_path):
    path = train_sentencepiece(tmp_path / "spm.model", ["[CLS]", "[SEP]", "[MASK]"])
    size = len(tokenization.FullTokenizer(None, spm_model_file=str(path)).vocab)
    helpers.write_config(tmp_path, size, LENGTH)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    out = tmp_path / "out"
    made = model_files.Description(
        "sentence", LABELS, LENGTH, config.to_dict(), spm_model_file=str(path)
    )
    model_files.write(str(out), made)
    with tf.Graph().as_default(), tf.Session() as session:
        model = modeling.AlbertModel(config, False, tf.zeros([1, 2], tf.int32))
        modeling.classification_head(model, len(LABELS))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(out / "model.ckpt"))
    with pytest.raises(UserError, match="give --raw_text=False"):
        run(model_dir=out, output_dir=tmp_path / "served")
    run(model_dir=out, output_dir=tmp_path / "served", raw_text=False)
    assert "classify" in served(tmp_path / "served" / "1")


def test_quantization_is_for_tflite(tmp_path, out):
    with pytest.raises(UserError, match="--quantization is for --format=tflite"):
        run(model_dir=out, output_dir=tmp_path, quantization="int8")
