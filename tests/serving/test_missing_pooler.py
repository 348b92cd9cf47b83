"""Models that were converted may lack the pooler, which some heads do not read."""

import numpy as np
import pytest
from classifiers import LABELS, LENGTH, PIECES, write_pretrained
from kind_models import write_kind_model

from checkpointing import arrays as weights
from common.errors import UserError
from serving import export, model_outputs, predictor, saved_model, single_file

POOLER = "^bert/pooler/"
TEXTS = ["天地玄黄", "日月" * LENGTH]
# Task -> its labels, and examples of `Predictor.predict`.
TASKS = {
    "ner": (["O", "B-A", "I-A"], TEXTS),
    "squad": ([], [("天", text) for text in TEXTS]),
}


def write(folder, task, labels, **changes):
    folder.mkdir()
    stored = {"max_query_length": 4, "doc_stride": 5}
    return str(write_kind_model(folder, PIECES, LENGTH, task, labels, stored, **changes))


@pytest.fixture(scope="module", params=sorted(TASKS))
def models(request, tmp_path_factory):
    """Predictors of a model with and without its pooler, and examples."""
    folder = tmp_path_factory.mktemp(request.param)
    labels, examples = TASKS[request.param]
    whole = write(folder / "whole", request.param, labels)
    without = write(folder / "without", request.param, labels, left_out=POOLER)
    return predictor.Predictor(whole), predictor.Predictor(without), examples


def test_answers_and_vectors_are_those_of_the_whole_model(models):
    whole, without, examples = models
    assert without.predict(examples) == whole.predict(examples)
    for pooling in ("mean", "cls"):
        np.testing.assert_array_equal(without.embed(TEXTS, pooling), whole.embed(TEXTS, pooling))
    assert whole.embed(TEXTS, "pooled").any()
    with pytest.raises(UserError, match="saved without the pooler: give --pooling=mean or"):
        without.embed(TEXTS, "pooled")


def test_exports_have_no_pooled_vector(models, tmp_path):
    _, without, _ = models
    options = export.Options(raw_text=False)
    path = export.prepare(str(tmp_path), options)
    assert "embed pooled" not in export.write(without, path, options)
    found = saved_model.load_saved_model(path)[1]["embed"](
        dict.fromkeys(model_outputs.INPUTS, np.ones([1, 3], np.int32))
    )
    assert set(found) == {"mean", "cls"}
    options = export.Options("tflite")
    export.write(without, export.prepare(str(tmp_path), options), options)


@pytest.mark.parametrize("task, labels", [("sentence", LABELS), ("choices", [])])
def test_a_classifier_without_a_pooler_is_refused(tmp_path, task, labels):
    out = write(tmp_path / "new", task, labels, left_out=POOLER)
    with pytest.raises(UserError) as error:
        predictor.Predictor(out)
    assert "\n" not in str(error.value)
    assert "bert/pooler/dense/bias first: it was saved without the pooler" in str(error.value)


def test_masks_are_filled_without_a_pooler(tmp_path):
    flags = write_pretrained(tmp_path)
    paths = [str(flags[key]) for key in ("checkpoint", "bert_config_file", "vocab_file")]
    arrays = {x: y for x, y in weights.read(paths[0]).items() if not x.startswith("bert/pooler/")}
    weights.write(str(tmp_path / "without.ckpt"), arrays)
    expected = predictor.Predictor.of_pretrained(*paths, max_seq_length=LENGTH)
    paths[0] = str(tmp_path / "without.ckpt")
    model = predictor.Predictor.of_pretrained(*paths, max_seq_length=LENGTH)
    assert model.fill_masks(["天[MASK]"]) == expected.fill_masks(["天[MASK]"])
    assert model.poolings == ["mean", "cls"]
    options = export.Options("onnx")
    pytest.importorskip("tf2onnx")
    path = export.prepare(str(tmp_path), options)
    assert set(export.write(model, path, options)) == {"mean", "cls"}
    assert single_file.load_onnx(path)
