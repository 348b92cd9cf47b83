"""Predictor and predict.py give what the plain model computes, from text to label."""

import concurrent.futures
import json
import logging
import os
import subprocess
import sys

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from classifiers import (
    ARCHITECTURES,
    LABELS,
    LENGTH,
    PAIRS,
    TEXTS,
    save_weights,
    write_model,
)

import modeling
import predict
import tokenization
from common import cli
from common.errors import UserError
from finetuning import batching, encoding, tasks
from serving import predictor


def plain(out, texts):
    """Return what the plain model makes of texts, each padded to LENGTH, and its pooled outputs."""
    config = modeling.AlbertConfig.from_json_file(str(out.parent / "config.json"))
    tokenizer = tokenization.FullTokenizer(str(out.parent / "vocab.txt"))
    rows = [(text,) if isinstance(text, str) else text for text in texts]
    examples = [tasks.Example("", *row) for row in rows]
    encoded = encoding.encode_examples(examples, (), tokenizer, LENGTH)
    with tf.Graph().as_default():
        batch = batching.pad_batch(
            encoding.Features(*map(tf.constant, encoded)),
            tf.constant(np.diff(encoded.begins)),
            tf.range(len(texts), dtype=tf.int64),
            LENGTH,
            dynamic_padding=False,
        )
        model = modeling.AlbertModel(
            config, False, batch["input_ids"], batch["input_mask"], batch["segment_ids"]
        )
        logits = modeling.classification_head(model, len(LABELS)).logits
        wanted = [tf.nn.softmax(logits), model.sequence_output, model.pooled_output]
        saver = tf.train.Saver()
        with tf.Session() as session:
            saver.restore(session, tf.train.latest_checkpoint(str(out)))
            return session.run(wanted) + [np.diff(encoded.begins)]


def table(answers):
    return np.array([[answer["probabilities"][label] for label in LABELS] for answer in answers])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A fine-tuned model of pairs; not to be written to."""
    return write_model(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def model(out):
    return predictor.Predictor(str(out), batch_size=2)


# ----------------------------------------------------------------------------- Predictor


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_equals_the_plain_model(tmp_path, name):
    out = write_model(tmp_path, **ARCHITECTURES[name])
    model = predictor.Predictor(str(out), batch_size=2)
    probabilities, sequence, pooled, lengths = plain(out, PAIRS)
    assert np.ptp(probabilities, axis=0).max() > 0.01  # the pairs can be told apart
    answers = model.predict(PAIRS)
    np.testing.assert_allclose(table(answers), probabilities, atol=1e-5)
    assert [a["label"] for a in answers] == [LABELS[i] for i in probabilities.argmax(axis=1)]
    means = [row[:length].mean(axis=0) for row, length in zip(sequence, lengths)]
    np.testing.assert_allclose(model.embed(PAIRS), means, atol=1e-5)
    np.testing.assert_allclose(model.embed(PAIRS, "cls"), sequence[:, 0], atol=1e-5)
    np.testing.assert_allclose(model.embed(PAIRS, "pooled"), pooled, atol=1e-5)


def test_one_by_one_equals_many(model):
    alone = [model.predict([pair])[0] for pair in PAIRS]
    np.testing.assert_allclose(table(model.predict(PAIRS)), table(alone), atol=1e-6)
    assert model.predict([]) == []
    assert model.embed([]).shape == (0, 16)


def test_a_task_of_one_text(tmp_path):
    out = write_model(tmp_path, task="sentence")
    model = predictor.Predictor(str(out))
    np.testing.assert_allclose(table(model.predict(TEXTS)), plain(out, TEXTS)[0], atol=1e-5)
    with pytest.raises(UserError, match="text 1: task sentence takes one text and gets 2"):
        model.predict(["天", ("天", "地")])


def test_the_graph_is_built_once(out, monkeypatch):
    sessions = []

    class Session(tf.Session):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            sessions.append(self)

    monkeypatch.setattr(tf, "Session", Session)
    model = predictor.Predictor(str(out))
    (session,) = sessions
    size = len(session.graph.get_operations())
    for _ in range(3):
        model.predict(PAIRS)
        model.embed(TEXTS)
    assert sessions == [session]
    assert session.graph.finalized and len(session.graph.get_operations()) == size


def test_batches_are_padded_to_their_longest_and_are_real(out, monkeypatch):
    shapes = []
    padded_batch = predictor.padded_batch

    def record(*args):
        batch = padded_batch(*args)
        shapes.append(batch[0].shape)
        return batch

    monkeypatch.setattr(predictor, "padded_batch", record)
    done = []
    model = predictor.Predictor(str(out), batch_size=2)
    model.probabilities(PAIRS, progress=lambda *counts: done.append(counts))
    assert shapes == [(2, 16), (2, 8), (1, 5)]  # of lengths 16, 8, 8, 7, 5
    assert done == [(24, 44), (39, 44), (44, 44)]


def test_threads_may_share_a_predictor(model):
    expected = table(model.predict(PAIRS))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(model.predict, [PAIRS] * 20):
            np.testing.assert_allclose(table(found), expected, atol=1e-6)


def test_what_is_cut_is_told_once(out, caplog):
    model = predictor.Predictor(str(out))
    with caplog.at_level(logging.WARNING):
        model.predict(PAIRS)
        model.predict(PAIRS)
    assert caplog.text.count("1 of 5 texts are longer than 16 pieces") == 1
    assert caplog.text.count("longer than") == 1


def test_the_best_checkpoint_is_taken_then_the_latest(tmp_path):
    out = write_model(tmp_path, seed=1, step=1)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    first = predictor.Predictor(str(out)).embed(TEXTS)
    save_weights(out / "best" / "model.ckpt", config, 2, 5)
    best = predictor.Predictor(str(out)).embed(TEXTS)
    named = predictor.Predictor(str(out), str(out / "model.ckpt-1")).embed(TEXTS)
    assert np.abs(first - best).max() > 0.01
    assert (first == named).all()


def test_a_model_that_was_pretrained_only_makes_vectors(out):
    folder = out.parent
    model = predictor.Predictor.of_pretrained(
        str(out), str(folder / "config.json"), str(folder / "vocab.txt"), max_seq_length=LENGTH
    )
    np.testing.assert_allclose(model.embed(TEXTS, "cls"), plain(out, TEXTS)[1][:, 0], atol=1e-5)
    with pytest.raises(UserError, match="no classifier"):
        model.predict(TEXTS)


def test_texts_of_another_kind_are_mistakes(model):
    with pytest.raises(ValueError, match="list of texts"):
        model.embed("天地")
    with pytest.raises(ValueError, match="neither a text nor a pair"):
        model.embed([("天", "地", "玄")])
    with pytest.raises(UserError, match="text 0: task sentence_pair takes a pair of texts"):
        model.predict(["天"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"checkpoint_path": "nowhere"}, "no checkpoint at nowhere"),
        ({"max_seq_length": 17}, "max_position_embeddings=16"),
    ],
)
def test_what_does_not_fit_is_told(out, arguments, message):
    with pytest.raises(UserError, match=message):
        predictor.Predictor(str(out), **arguments)


def test_a_checkpoint_without_classifier_is_told(tmp_path):
    out = write_model(tmp_path)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    with tf.Graph().as_default(), tf.Session() as session:
        modeling.AlbertModel(config, False, tf.zeros([1, 2], tf.int32))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(out / "pretrained.ckpt"))
    with pytest.raises(UserError, match="holds no classifier"):
        predictor.Predictor(str(out), str(out / "pretrained.ckpt"))


# ----------------------------------------------------------------------------- predict.py


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
        ({"model_dir": "nowhere"}, ["a"], "no folder nowhere"),
        ({}, ["天"], "takes a pair of texts and gets 1"),
        ({}, ["天", " "], "a text is empty"),
    ],
)
def test_mistakes_on_the_command_line(out, changes, words, message):
    with pytest.raises(UserError, match=message):
        run(dict({"model_dir": out}, **changes), *words)
