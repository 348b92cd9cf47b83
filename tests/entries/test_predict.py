"""predict.py: texts of the command line, of lines and of files get the predictor's answers."""

import json
import os
import subprocess
import sys

import helpers
import numpy as np
import pytest
from classifiers import LABELS, LENGTH, PAIRS, TEXTS, table, write_model

import predict
from common import cli
from common.errors import UserError
from serving import predictor


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A fine-tuned model of pairs; not to be written to."""
    return write_model(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def model(out):
    return predictor.Predictor(str(out), batch_size=2)


def run(values, *words):
    command = ["predict.py"] + helpers.arguments(values) + list(words)
    args = cli.parse(predict.define_flags, command, predict.WORDS)
    predict.main(args, list(words))


def rows_of(text):
    return [line.split("\t") for line in text.split("\n")[:-1]]


def test_texts_on_the_command_line(out, model, capsys):
    run({"model_dir": out}, *PAIRS[0])
    header, row = rows_of(capsys.readouterr().out)
    (expected,) = model.predict(PAIRS[:1])
    assert header == ["prediction", "p(否)", "p(是)", "p(不知)"]
    assert row[0] == expected["label"]
    np.testing.assert_allclose([list(map(float, row[1:]))], table([expected]), atol=2e-6)
    run({"model_dir": out, "output_format": "json"}, *PAIRS[0])
    found = json.loads(capsys.readouterr().out)
    assert found["label"] == expected["label"] and list(found["probabilities"]) == LABELS
    run({"model_dir": out, "embeddings": True, "pooling": "cls"}, TEXTS[0])
    found = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(found, model.embed(TEXTS[:1], "cls")[0], rtol=1e-5)


def test_each_line_is_answered_before_the_next_is_there(root, out, model):
    command = [sys.executable, "predict.py", "--output_format=json"]
    process = subprocess.Popen(
        command + helpers.arguments({"model_dir": out}),
        cwd=str(root),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for pair in PAIRS:
        process.stdin.write("\t".join(pair).encode("utf-8") + b"\r\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline().decode("utf-8"))
        np.testing.assert_allclose(table([answer]), table(model.predict([pair])), atol=2e-6)
    rest, errors = process.communicate("天\n".encode("utf-8"))
    assert process.returncode == 2 and rest == b""
    last = errors.decode("utf-8").strip().split("\n")[-1]
    assert last.startswith("predict.py: error: standard input, row 6: task sentence_pair takes a")
    assert "variables loaded" in errors.decode("utf-8")


def write_questions(path, ending="\n"):
    path.write_text("".join("\t".join(pair) + ending for pair in PAIRS), encoding="utf-8")
    return path


def test_a_file_is_answered_in_its_order(tmp_path, out, model):
    questions = write_questions(tmp_path / "questions.tsv")
    values = {"model_dir": out, "input_file": questions, "output_file": tmp_path / "answers.tsv"}
    run(dict(values, predict_batch_size=2))
    header, *found = rows_of((tmp_path / "answers.tsv").read_text(encoding="utf-8"))
    expected = model.predict(PAIRS)
    assert header == ["id", "label", "prediction", "p(否)", "p(是)", "p(不知)"]
    assert [row[0] for row in found] == ["0", "1", "2", "3", "4"]
    assert [row[2] for row in found] == [answer["label"] for answer in expected]
    probabilities = [list(map(float, row[3:])) for row in found]
    np.testing.assert_allclose(probabilities, table(expected), atol=2e-6)


def test_json_lines_in_and_out(tmp_path, out, model):
    questions, answers = tmp_path / "questions.json", tmp_path / "answers.json"
    questions.write_text(
        "".join(
            json.dumps({"id": "q{}".format(i), "sentence1": a, "sentence2": b}) + "\n"
            for i, (a, b) in enumerate(PAIRS)
        )
    )
    files = {"input_file": questions, "output_file": answers, "output_format": "json"}
    run(dict(files, model_dir=out))
    found = [json.loads(line) for line in answers.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["id"] for row in found] == ["q0", "q1", "q2", "q3", "q4"]
    np.testing.assert_allclose(table(found), table(model.predict(PAIRS)), atol=2e-6)


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl"])
def test_vectors_of_a_file(tmp_path, out, model, name):
    path = tmp_path / name
    values = {
        "checkpoint": out / "model.ckpt-1",
        "bert_config_file": out.parent / "config.json",
        "vocab_file": out.parent / "vocab.txt",
        "max_seq_length": LENGTH,
        "input_file": write_questions(tmp_path / "questions.txt", "\r\n"),
        "output_file": path,
    }
    run(dict(values, embeddings=True))
    if name.endswith(".npy"):
        found = np.load(str(path))
        assert found.dtype == np.float32
    else:
        found = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    np.testing.assert_allclose(found, model.embed(PAIRS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize(
    "row, message",
    [
        (b"\xce\xde\t\xce\xde", "row 2: not UTF-8"),
        ("天\t ".encode("utf-8"), "row 2: .*empty"),
        ("天\t地\t玄\t黄".encode("utf-8"), "row 2: "),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path, out, row, message, embeddings):
    questions = tmp_path / "questions.tsv"
    questions.write_bytes("天\t地\n".encode("utf-8") + row + "\n日\t月\n".encode("utf-8"))
    files = {"input_file": questions, "output_file": tmp_path / "answers.tsv"}
    with pytest.raises(UserError, match=message) as error:
        run(dict(files, model_dir=out, embeddings=embeddings))
    assert str(questions) in str(error.value)
    assert os.listdir(str(tmp_path)) == ["questions.tsv"]


@pytest.mark.parametrize(
    "changes, words, message",
    [
        ({}, ["a", "b", "c"], "3 texts are given"),
        ({"input_file": "-"}, ["a", "b"], "leave one of them out"),
        ({"input_file": "q.tsv"}, [], "belong together"),
        ({"output_file": "a.tsv"}, [], "belong together"),
        ({"input_file": "q.csv", "output_file": "a.tsv"}, [], "must end in .tsv or"),
        ({"input_file": "q.tsv", "output_file": "a.tsv"}, [], "q.tsv does not exist"),
        ({"model_dir": None}, ["a"], "--model_dir is needed"),
        ({"vocab_file": "vocab.txt"}, ["a"], "leave --vocab_file out"),
        ({"model_dir": "nowhere"}, ["a"], "nowhere.classifier.json does not exist"),
        ({}, ["天"], "takes a pair of texts and gets 1"),
        ({}, ["天", " "], "a text is empty"),
    ],
)
def test_mistakes_on_the_command_line(out, changes, words, message):
    with pytest.raises(UserError, match=message):
        run(dict({"model_dir": out}, **changes), *words)
