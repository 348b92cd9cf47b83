"""A model that chooses, as a predictor and in predict.py."""

import json

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import logging
from classifiers import LENGTH, PIECES
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_models import write_kind_model

import export_model
import modeling
import predict
from common import cli
from common.errors import UserError
from finetuning_data import choice_files
from serving import graph_rows, predictor, saved_model

QUESTIONS = [
    ("天地", "玄黄", ("宇", "宙")),
    ("日月" * 9, "天", ("洪", "荒", "日")),  # longer than LENGTH
    ("", "月", ("天", "地", "玄", "黄")),
]
CLOZE = "天#idiom1#地#idiom2#日"


def write_model(folder, task="choices"):
    return write_kind_model(folder, PIECES, LENGTH, task)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder of a multiple-choice model with random weights. Tests must not write to it."""
    return write_model(tmp_path_factory.mktemp("choices"))


@pytest.fixture(scope="module")
def model(out):
    return predictor.Predictor(str(out))


def cut(lengths, room):
    lengths = list(lengths)
    while sum(lengths) > room:
        lengths[lengths.index(max(lengths))] -= 1
    return lengths


def plain(model, question):
    """Return the probabilities of a question's choices, each computed alone."""
    scores = []
    with tf.Graph().as_default(), tf.Session() as session:
        for choice in question[2]:
            parts = [PIECES.index(x) for x in choice], [PIECES.index(x) for x in question[1]]
            context = [PIECES.index(x) for x in question[0]]
            a, b, c = cut([len(context), len(parts[1]), len(parts[0])], LENGTH - 4)
            ids = [2, *context[:a], 3, *parts[0][:c], 3, *parts[1][:b], 3]
            segments = [0] * (a + 2) + [1] * (len(ids) - a - 2)
            with tf.variable_scope("", reuse=tf.AUTO_REUSE):
                one = modeling.AlbertModel(
                    model.config,
                    False,
                    tf.constant([ids]),
                    None,
                    tf.constant([segments]),
                    scope="bert",
                )
                scores.append(modeling.classification_head(one, 1).logits[0, 0])
        tf.train.Saver(tf.trainable_variables()).restore(session, model.checkpoint.prefix)
        return session.run(tf.nn.softmax(tf.stack(scores)))


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_choices_are_those_of_the_plain_model(out, batch_size):
    model = predictor.Predictor(str(out), batch_size=batch_size)
    found = model.predict(QUESTIONS)
    for question, answer in zip(QUESTIONS, found):
        expected = plain(model, question)
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        assert answer["number"] == int(np.argmax(expected))
        assert answer["choice"] == question[2][answer["number"]]
    names = ("context", "question", "choices")
    assert model.predict([dict(zip(names, question)) for question in QUESTIONS]) == found
    assert model.predict([]) == []


def test_vectors_come_beside_the_choices(model):
    assert model.embed(["天地", ("日", "月")]).shape == (2, 16)
    with pytest.raises(UserError, match="has no classifier"):
        model.probabilities(["天地"])


@pytest.mark.parametrize(
    "values, error, words",
    [
        (("天", "地", ["玄"]), UserError, "needs two choices or more, not 1"),
        (("天", "地"), ValueError, "not enough values"),
        ({"context": "天", "choices": ["玄", "黄"]}, ValueError, "not have context, question and"),
        (("天", "地", "玄黄"), ValueError, "does not have"),
        (("天", "地", ["玄", 3]), ValueError, "does not have"),
    ],
)
def test_what_is_no_question(model, values, error, words):
    with pytest.raises(error, match=words):
        model.predict([values])


def test_blanks_of_a_cloze(tmp_path):
    model = predictor.Predictor(str(write_model(tmp_path, "chid")))
    candidates = ["玄黄", "宇宙", "洪荒"]
    found = model.predict([(CLOZE, mark, candidates) for mark in ("#idiom1#", "#idiom2#")])
    assert found[0]["choice"] != found[1]["choice"]  # both blanks have the same candidates
    questions = [(CLOZE, "#idiom1#", texts) for texts in (candidates, candidates[:2])]
    assert {answer["choice"] for answer in model.predict(questions)} == {"玄黄"}
    with pytest.raises(UserError, match="question '#idiom7#' is not a blank of the context, such"):
        model.predict([(CLOZE, "#idiom7#", candidates)])


# ------------------------------------------------------------------------------ predict.py


def call(out, words=(), **values):
    command = ["predict.py", *words, *helpers.arguments(dict(values, model_dir=out))]
    args = cli.parse(predict.define_flags, command, predict.WORDS)
    predict.main(args, list(words))


def test_words_of_the_command_line(out, model, capsys):
    context, question, choices = QUESTIONS[0]
    call(out, [context, question, *choices], output_format="json")
    found = json.loads(capsys.readouterr().out)
    [answer] = model.predict(QUESTIONS[:1])
    assert (found["choice"], found["number"]) == (answer["choice"], answer["number"])
    np.testing.assert_allclose(found["probabilities"], answer["probabilities"], atol=1e-5)
    call(out, [context, question, *choices])
    header, row = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["prediction", "text", "probabilities"]
    assert row.split("\t")[:2] == [str(answer["number"]), answer["choice"]]
    with pytest.raises(UserError, match="3 texts: give a context, a question and two choices"):
        call(out, ["天", "地", "玄"])


@pytest.mark.parametrize("output_format", ["tsv", "json"])
def test_a_file_of_questions(out, model, tmp_path, output_format):
    rows = [dict(zip(("context", "question", "choices"), question)) for question in QUESTIONS]
    rows = [dict(row, context=row["context"] or "天") for row in rows]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (tmp_path / "in.jsonl").write_text("".join(lines), encoding="utf-8")
    path = tmp_path / "out"
    call(out, input_file=tmp_path / "in.jsonl", output_file=path, output_format=output_format)
    expected = [answer["number"] for answer in model.predict(rows)]
    lines = path.read_text(encoding="utf-8").splitlines()
    if output_format == "json":
        assert [json.loads(line)["number"] for line in lines] == expected
        assert [json.loads(line)["id"] for line in lines] == ["0", "1", "2"]
    else:
        assert [int(line.split("\t")[2]) for line in lines[1:]] == expected
    assert choice_files.TASKS["choices"].labels == ()


# -------------------------------------------------------------------------------- exports


@given(st.lists(st.integers(0, 40), min_size=3, max_size=3), st.integers(1, 60))
@settings(max_examples=50)
def test_the_graph_cuts_as_the_encoder_does(lengths, room):
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(graph_rows.truncated(tf.constant([lengths]), room))
    assert found.tolist() == [cut(lengths, room)]


@pytest.fixture
def quiet():
    """Restore the log levels that the script changes, for the other tests."""
    before = tf.logging.get_verbosity(), logging.get_verbosity()
    yield
    tf.logging.set_verbosity(before[0])
    logging.set_verbosity(before[1])


@pytest.mark.usefixtures("quiet")
def test_a_saved_model_takes_ids_and_texts(out, model, tmp_path, capsys):
    pytest.importorskip("tensorflow_text")
    helpers.run(export_model, {"model_dir": out, "output_dir": tmp_path})
    told = capsys.readouterr().out
    assert "choose probabilities: largest" in told and "choose_text probabilities" in told
    session, signatures = saved_model.load_saved_model(str(tmp_path / "1"))
    with session:
        assert set(signatures) == {
            "choose",
            "choose_text",
            "embed",
            "embed_text",
            "serving_default",
        }
        contexts, questions, choices = (list(column) for column in zip(*QUESTIONS))
        padded = [[text.encode() for text in texts] + [b""] * (4 - len(texts)) for texts in choices]
        feeds = {
            "context": [text.encode() for text in contexts],
            "question": [text.encode() for text in questions],
            "choices": padded,
        }
        found = signatures["choose_text"](feeds)
        expected = model.predict(QUESTIONS)
        assert found["number"].tolist() == [answer["number"] for answer in expected]
        for row, answer in zip(found["probabilities"], expected):
            count = len(answer["probabilities"])
            np.testing.assert_allclose(row[:count], answer["probabilities"], atol=1e-5)
            assert not row[count:].any()
        nothing = {"context": [], "question": [], "choices": np.zeros([0, 2], object)}
        assert signatures["choose_text"](nothing)["number"].tolist() == []


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name, package", [("tflite", "tensorflow"), ("onnx", "tf2onnx")])
def test_files_take_ids_of_all_choices(out, tmp_path, capsys, name, package):
    pytest.importorskip(package)
    helpers.run(export_model, {"model_dir": out, "output_dir": tmp_path, "format": name})
    assert "probabilities: largest difference" in capsys.readouterr().out
