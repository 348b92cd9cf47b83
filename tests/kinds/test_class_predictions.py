"""Predictions as tables, and as the lines that CLUE scores."""

import json

import numpy as np
import pytest

from finetuning_data import tasks
from finetuning_data.tasks import Example
from kinds import class_predictions, class_scores
from kinds.classification import Classification

EXAMPLES = [Example("7", "天", "地", "1"), Example("a3", "人", "马"), Example("2", "日", "月", "0")]
PROBABILITIES = np.array([[0.25, 0.75], [0.9, 0.1], [0.4, 0.6]], np.float32)


def test_predictions_are_a_table_in_order(tmp_path):
    path = tmp_path / "out" / "predictions.tsv"
    class_predictions.write_predictions(str(path), ("0", "1"), EXAMPLES, PROBABILITIES)
    assert path.read_text(encoding="utf-8") == (
        "id\tlabel\tprediction\tp(0)\tp(1)\n"
        "7\t1\t1\t0.250000\t0.750000\n"
        "a3\t\t0\t0.900000\t0.100000\n"
        "2\t0\t1\t0.400000\t0.600000\n"
    )
    assert [found.name for found in path.parent.iterdir()] == ["predictions.tsv"]


def test_names_cannot_break_the_table(tmp_path):
    path = tmp_path / "predictions.tsv"
    example = Example("a\tb", "天", None, "好\n的")
    class_predictions.write_predictions(str(path), ("好\n的", "坏"), [example], [[1.0, 0.0]])
    lines = path.read_text(encoding="utf-8").split("\n")
    assert [line.count("\t") for line in lines] == [4, 4, 0]
    assert lines[1].startswith("a b\t好 的\t好 的\t1.000000")


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,)])
def test_shapes_have_to_fit(shape, tmp_path):
    with pytest.raises(ValueError, match="3 examples and 2 labels"):
        class_predictions.write_predictions(
            str(tmp_path / "p.tsv"), ("0", "1"), EXAMPLES, np.zeros(shape)
        )
    assert not list(tmp_path.iterdir())


# Task -> (file, predicted class, the line of it without its id).
SUBMISSIONS = {
    "afqmc": ("afqmc_predict.json", 1, {"label": "1"}),
    "tnews": ("tnews_predict.json", 5, {"label": "106", "label_desc": "news_house"}),
    "iflytek": ("iflytek_predict.json", 118, {"label": "118"}),
    "cmnli": ("cmnli_predict.json", 2, {"label": "neutral"}),
    "ocnli": ("ocnli_50k_predict.json", 0, {"label": "contradiction"}),
    "csl": ("csl_predict.json", 0, {"label": "0"}),
    "cluewsc2020": ("cluewsc_predict.json", 1, {"label": "false"}),
}


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_every_task_has_the_submission_of_clue_or_none(name, tmp_path):
    task = tasks.TASKS[name]
    examples = [Example("4", "天"), Example("0", "地"), Example("x", "人")]
    if name not in SUBMISSIONS:
        assert task.submission is None
        return
    file_name, predicted, expected = SUBMISSIONS[name]
    probabilities = np.eye(len(task.labels))[[predicted] * len(examples)]
    class_predictions.write_submission(str(tmp_path / file_name), task, examples, probabilities)
    lines = (tmp_path / file_name).read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    found = [json.loads(line) for line in lines]
    assert found == [dict(expected, id=guid) for guid in (4, 0, "x")]
    if name == "afqmc":
        assert lines[0] == '{"id": 4, "label": "1"}'


@pytest.mark.parametrize(
    "task, test_file, expected",
    [
        ("tnews", "data/test1.1.json", "tnews11_predict.json"),
        ("cluewsc2020", "data/test1.0.json", "cluewsc10_predict.json"),
        ("cluewsc2020", "data/1.1.jsonl", "cluewsc_predict.json"),
        ("afqmc", "data/test1.1.json", "afqmc_predict.json"),
    ],
)
def test_a_submission_names_the_version_of_its_test_set(task, test_file, expected):
    assert tasks.TASKS[task].submission.file_for(test_file) == expected


def test_what_chooses_the_best_checkpoint_is_a_score():
    found = class_scores.classification_scores([[1.0, 0.0]], [0], ["0", "1"])
    assert set(Classification.metrics) <= set(found)
