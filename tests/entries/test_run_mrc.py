"""run_mrc.py from the command line's flags to files, on answers that are learned at once."""

import json
import random
import shutil

import helpers
import programs
import pytest
import tensorflow.compat.v1 as tf
from helpers import read_json

import export_model
import predict
import run_mrc
from checkpointing import run_folder
from common import cli
from common.errors import UserError
from serving.predictor import Predictor

LENGTH = 16
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list("天地玄黄宇宙洪荒日月起止。")
ODD = 7  # questions of dev and of test: no multiple of the batch size 4


def question(rng, guid, longest, answerable=True):
    """Return a paragraph of one question, whose answer begins with 起 and ends with 止."""
    before, inside, behind = (
        "".join(rng.choice("天地玄黄宇宙洪荒") for _ in range(rng.randint(low, high)))
        for low, high in ((0, longest), (0, 2), (0, longest))
    )
    answer = "起" + inside + "止"
    context = before + " " + answer + behind if answerable else before + behind + "天"
    row = {"id": guid, "question": "日月"}
    if answerable:
        row["answers"] = [{"text": answer, "answer_start": len(before) + 1}]
    else:
        row["is_impossible"] = True
    return {"context": context, "qas": [row]}


def write_questions(path, split, count, longest=3, share_without=0.0):
    rng = random.Random(split)
    paragraphs = [
        question(rng, "{}_{}".format(split, i), longest, rng.random() >= share_without)
        for i in range(count)
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return paragraphs


def write_workspace(folder, share_without=0.0):
    helpers.write_learner(folder, PIECES, LENGTH)
    (folder / "data").mkdir()
    for split, count, longest in (("train", 200, 3), ("dev", ODD, 3), ("test", ODD, 20)):
        write_questions(folder / "data" / (split + ".json"), split, count, longest, share_without)
    return folder


def flags(folder, **changes):
    values = {
        "task_name": "squad",
        "max_query_length": 4,
        "doc_stride": 5,
        "learning_rate": 0.01,
        "num_train_epochs": 1,
        "evals_per_epoch": 0,
    }
    return helpers.finetuning_flags(folder, LENGTH, **dict(values, **changes))


def run(folder, **changes):
    helpers.run(run_mrc, flags(folder, **changes))


def read_curve(folder, tag):
    """Return the values of a curve of a run, in the order of their steps."""
    (path,) = folder.glob("events.out.tfevents.*")
    values = [
        value for event in tf.train.summary_iterator(str(path)) for value in event.summary.value
    ]
    return [value.simple_value for value in values if value.tag == tag]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace whose folder `out` holds a run of all three parts. Tests must not write to it."""
    folder = write_workspace(tmp_path_factory.mktemp("mrc"))
    run(folder, do_train=True, do_eval=True, do_predict=True, n_best=3)
    return folder


def test_learns_what_can_be_learned_and_answers_are_parts_of_the_context(trained):
    results = read_json(trained / "out" / "eval_results.json")
    assert results["eval_em"] == results["eval_f1"] == results["eval_squad_f1"] == 1.0
    assert results["eval_examples"] == ODD
    (article,) = read_json(trained / "data" / "test.json")["data"]
    answers = read_json(trained / "out" / "predictions.json")
    candidates = read_json(trained / "out" / "nbest_predictions.json")
    assert max(len(paragraph["context"]) for paragraph in article["paragraphs"]) > 2 * LENGTH
    for paragraph in article["paragraphs"]:
        (row,) = paragraph["qas"]
        assert answers[row["id"]] == row["answers"][0]["text"]
        best = candidates[row["id"]]
        assert len(best) == 3 and best[0]["text"] == answers[row["id"]]
        assert 1 >= best[0]["probability"] > best[1]["probability"] >= best[2]["probability"] > 0
        for candidate in best:
            part = paragraph["context"][candidate["begin"] : candidate["end"]]
            assert part == candidate["text"]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_predictor_gives_the_same_answers(trained, batch_size):
    model = Predictor(str(trained / "out"), batch_size=batch_size)
    (article,) = read_json(trained / "data" / "test.json")["data"]
    rows = [("日月", paragraph["context"]) for paragraph in article["paragraphs"]]
    ids = [paragraph["qas"][0]["id"] for paragraph in article["paragraphs"]]
    candidates = read_json(trained / "out" / "nbest_predictions.json")
    for answer, guid in zip(model.predict(rows), ids):
        found = [answer] + answer["others"][:2]
        assert [one["text"] for one in found] == [one["text"] for one in candidates[guid]]
        for one, expected in zip(found, candidates[guid]):
            assert one["probability"] == pytest.approx(expected["probability"], abs=1e-4)
    assert model.predict([]) == []
    with pytest.raises(ValueError, match="is not .question, context"):
        model.predict(["天"])
    named = [{"context": context, "question": question} for question, context in rows]
    assert model.predict(named) == model.predict(rows)
    with pytest.raises(ValueError, match="is not .question, context"):
        model.predict([{"question": "天", "text": "天起止地"}])


def test_predict_py_answers_questions_of_texts_and_files(trained, tmp_path, capsysbinary):
    words = ["predict.py", "--model_dir={}".format(trained / "out")]
    texts = ["日月", "天起止地"]
    predict.main(cli.parse(predict.define_flags, words, predict.WORDS), texts)
    answer = json.loads(capsysbinary.readouterr().out)
    assert (answer["text"], answer["begin"], answer["end"]) == ("起止", 1, 3)
    assert "others" not in answer
    predict.main(cli.parse(predict.define_flags, words + ["--top=3"], predict.WORDS), texts)
    answer = json.loads(capsysbinary.readouterr().out)
    assert answer["text"] == "起止" and len(answer["others"]) == 2
    texts[1] = "天起止地" * 3  # 78 spans
    predict.main(cli.parse(predict.define_flags, words + ["--top=30"], predict.WORDS), texts)
    assert len(json.loads(capsysbinary.readouterr().out)["others"]) == 29
    output = tmp_path / "answers.jsonl"
    words += helpers.arguments(
        {"input_file": trained / "data" / "test.json", "output_file": output}
    )
    predict.main(cli.parse(predict.define_flags, words, predict.WORDS), [])
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    expected = read_json(trained / "out" / "predictions.json")
    assert {line["id"]: line["text"] for line in lines} == expected


def test_unanswerable_questions_need_a_flag(tmp_path):
    folder = write_workspace(tmp_path, share_without=0.4)
    with pytest.raises(UserError, match="have no answer in their context: give --allow_no_answer"):
        run(folder, do_train=True)
    assert not (folder / "out").exists()
    run(folder, do_train=True, do_eval=True, do_predict=True, allow_no_answer=True)
    results = read_json(folder / "out" / "eval_results.json")
    assert results["eval_no_answer_accuracy"] == results["eval_answerable_f1"] == 1.0
    (article,) = read_json(folder / "data" / "test.json")["data"]
    answers = read_json(folder / "out" / "predictions.json")
    assert not (folder / "out" / "nbest_predictions.json").exists()
    for paragraph in article["paragraphs"]:
        (row,) = paragraph["qas"]
        assert bool(answers[row["id"]]) == ("answers" in row)


@pytest.mark.parametrize(
    "form, package, told",
    [
        ("saved_model", "tensorflow_text", "answer_text answer: largest difference 0\n"),
        ("tflite", None, "starts: largest difference"),
        ("onnx", "tf2onnx", "starts: largest difference"),
    ],
)
def test_an_export_computes_the_same(trained, tmp_path, form, package, told, capsys):
    if package:
        pytest.importorskip(package)
    values = {"model_dir": trained / "out", "output_dir": tmp_path / "served", "format": form}
    helpers.run(export_model, values)
    assert told in capsys.readouterr().out


def test_scores_with_other_answers_are_made_again(trained, tmp_path, caplog):
    changes = {"do_train": True, "do_eval": True, "num_train_epochs": 0.1, "seeds": "1"}
    changes.update(output_dir=tmp_path / "out")
    run(trained, **changes)
    run(trained, **changes)
    assert "has already finished with these settings" in caplog.text
    with pytest.raises(UserError, match="max_answer_length"):
        run(trained, max_answer_length=1, **changes)
    with pytest.raises(UserError, match="best_metric f1, now em"):
        run(trained, best_metric="em", **changes)


def test_prediction_files_of_other_flags_are_made_again(trained, tmp_path, caplog):
    changes = {"do_train": True, "do_predict": True, "num_train_epochs": 0.1, "seeds": "1"}
    changes.update(output_dir=tmp_path / "out")
    folder = tmp_path / "out" / "seed_1"
    run(trained, n_best=1, **changes)
    (best,) = read_json(folder / "nbest_predictions.json").popitem()[1]
    assert best["text"] in read_json(folder / "predictions.json").values()
    run(trained, n_best=0, **changes)
    assert not (folder / "nbest_predictions.json").exists()
    (folder / "predictions.json").unlink()
    run(trained, n_best=0, **changes)
    assert (folder / "predictions.json").exists()
    assert "has already finished" not in caplog.text
    run(trained, n_best=0, **changes)
    assert "has already finished" in caplog.text


def test_training_without_evaluations_after_evaluations_is_told(trained, tmp_path, caplog):
    shutil.copytree(str(trained / "out"), str(tmp_path / "out"))
    changes = {"output_dir": tmp_path / "out", "num_train_epochs": 1.1}
    run(trained, do_train=True, do_predict=True, **changes)
    assert "OLD BEST: " in caplog.text
    caplog.clear()
    assert run_folder.find_best(str(tmp_path / "out")).startswith(str(tmp_path / "out" / "best"))
    assert "OLD BEST: " in caplog.text
    caplog.clear()
    assert "OLD RESULTS" not in caplog.text
    run(trained, do_train=True, do_eval=True, **dict(changes, num_train_epochs=1.2))
    run_folder.find_best(str(tmp_path / "out"))
    assert "OLD BEST: " not in caplog.text
    is_other = (
        read_json(tmp_path / "out" / "test_results.json")["global_step"]
        != read_json(tmp_path / "out" / "eval_results.json")["global_step"]
    )
    assert (
        "OLD RESULTS: {}/test_results.json and its".format(tmp_path / "out") in caplog.text
    ) == is_other


def test_clue_gets_its_file_and_a_test_file_needs_no_answers(trained, tmp_path):
    paragraphs = [
        {
            "context_id": "1",
            "context_text": "天起止",
            "qas": [{"query_id": "9", "query_text": "日"}],
        }
    ]
    (tmp_path / "cmrc2018_test_2k.json").write_text(json.dumps(paragraphs))
    changes = {"task_name": "cmrc2018", "data_dir": tmp_path, "output_dir": tmp_path / "out"}
    run(trained, do_predict=True, init_checkpoint=trained / "out", **changes)
    assert read_json(tmp_path / "out" / "cmrc2018_predict.json") == {"9": "起止"}
    assert read_json(tmp_path / "out" / "test_results.json")["test_examples"] == 1


def test_padding_changes_neither_the_loss_nor_the_answers(trained, tmp_path):
    losses = []
    for name, padding in (("a", True), ("b", False)):
        changes = {"output_dir": tmp_path / name, "dynamic_padding": padding}
        run(trained, do_train=True, num_train_epochs=0.02, warmup_proportion=0, **changes)
        losses.append(read_curve(tmp_path / name, "loss"))
        changes.update(output_dir=tmp_path / name / "again", n_best=2, do_predict=True)
        run(trained, init_checkpoint=trained / "out", **changes)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 1
    one, two = (
        read_json(tmp_path / name / "again" / "nbest_predictions.json") for name in ("a", "b")
    )
    for guid, (best, *_) in one.items():
        # Two candidates that are equally probable may change places.
        probabilities = {other["text"]: other["probability"] for other in two[guid]}
        best_probability = pytest.approx(best["probability"], abs=1e-4)
        assert two[guid][0]["probability"] == best_probability
        assert probabilities[best["text"]] == best_probability


def test_a_killed_run_loses_nothing(trained, tmp_path):
    changes = {"do_train": True, "num_train_epochs": 0.2}
    run(trained, output_dir=tmp_path / "whole", **changes)
    changes.update(output_dir=tmp_path / "killed", save_checkpoints_steps=1)
    programs.run_until_killed("run_mrc.py", flags(trained, **changes), steps=(2, 5))
    run(trained, **changes)
    helpers.assert_same_bits(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"task_name": "ner"}, "task ner belongs to run_ner.py: run that script"),
        ({"data_dir": "nowhere"}, "no train file of task squad"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(trained, tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        run(trained, do_train=True, output_dir=tmp_path / "out", **changes)
    assert words in str(error.value) and not (tmp_path / "out").exists()


def test_a_question_needs_room_for_its_context(trained, tmp_path):
    changes = {"do_train": True, "output_dir": tmp_path / "out", "max_query_length": 13}
    with pytest.raises(UserError, match="--max_seq_length=16 has no room .* give at least 17, or"):
        run(trained, **changes)
    with pytest.raises(SystemExit) as end:
        run(trained, check_only=True, **dict(changes, max_query_length=12))
    assert end.value.code == 0


def test_an_answer_at_an_edge_of_windows_is_told_about(trained, tmp_path, capsys):
    changes = {"do_predict": True, "do_train": True, "output_dir": tmp_path, "check_only": True}
    for stride, is_told in ((13, True), (7, True), (6, False)):
        with pytest.raises(SystemExit):
            run(trained, doc_stride=stride, max_answer_length=5, **changes)
        shown = capsys.readouterr().out
        assert ("EDGES OF WINDOWS" in shown and "--doc_stride=6 or less" in shown) == is_told


def test_a_bad_file_ends_the_program_with_one_line_and_status_2(trained, tmp_path):
    (tmp_path / "train.json").write_text('[{"context_text": "天", "qas": [{"query_id": "1"}]}]')
    values = flags(trained, do_train=True, data_dir=tmp_path, output_dir=tmp_path / "out")
    status, log = programs.run("run_mrc.py", helpers.arguments(values))
    last = log.strip().split("\n")[-1]
    assert status == 2 and "Traceback" not in log
    assert "train.json, data[0].qas[0]: question 1 has no text" in last
