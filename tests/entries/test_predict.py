"""predict.py: texts of the command line, of lines and of files get the predictor's answers."""

import csv
import functools
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import types

import helpers
import numpy as np
import pytest
from classifiers import LABELS, LENGTH, PAIRS, TEXTS, table, write_model, write_pretrained

import predict
from checkpointing import arrays as weights
from common import cli
from common.errors import UserError
from serving import answers, predictor


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A fine-tuned model of pairs. Tests must not write to it."""
    return write_model(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def model(out):
    return predictor.Predictor(str(out), batch_size=2)


run = functools.partial(helpers.run, predict)


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
    rest, errors = process.communicate("天\n\n日\t月\n".encode("utf-8"))
    one_text, blank, answer = map(json.loads, rest.decode("utf-8").splitlines())
    assert one_text["error"].startswith("standard input, row 6: task sentence_pair takes a pair")
    assert blank == {"error": "standard input, row 7: a text is empty"}
    np.testing.assert_allclose(table([answer]), table(model.predict([("日", "月")])), atol=2e-6)
    last = errors.decode("utf-8").strip().split("\n")[-1]
    assert process.returncode == 2 and last == (
        "predict.py: error: 2 of 8 lines are not examples and were answered with an error, first "
        + one_text["error"]
    )
    assert "variables loaded" in errors.decode("utf-8")


def test_vectors_are_no_table(out):
    with pytest.raises(UserError, match="tsv: these answers are JSON lines, so leave it out"):
        run({"model_dir": out, "embeddings": True, "output_format": "tsv"}, *PAIRS[0])


BAD_LINES = (
    b"\n",
    b"\xce\xde\t\xce\xde\n",
    b"\t \n",
    "天\t地\t玄\n".encode("utf-8"),
    '{"sentence1": "天", "sentence2": "地"}\n'.encode("utf-8"),
)


@pytest.mark.parametrize("line", BAD_LINES)
@pytest.mark.parametrize("changes", [{}, {"output_format": "json"}, {"embeddings": True}])
def test_a_stream_answers_every_line(out, changes, line, capsys, monkeypatch):
    """Every line gets an answer, in the order of the lines; a bad line gets an error."""
    good = "天\t地\n".encode("utf-8")
    feed(monkeypatch, good + line + good)
    with pytest.raises(UserError, match="1 of 3 lines are not examples .*, row 2: "):
        run(dict(changes, model_dir=out))
    lines = capsys.readouterr().out.split("\n")[:-1]
    if not changes:
        assert len({row.count("\t") for row in lines}) == 1
        assert lines.pop(0).startswith("prediction\t")
        assert lines[1].startswith("error: standard input, row 2: ")
    else:
        assert json.loads(lines[1])["error"].startswith("standard input, row 2: ")
    assert len(lines) == 3 and lines[0] == lines[2] != lines[1]


def test_a_header_in_a_stream_is_no_example(out, capsys, monkeypatch):
    feed(monkeypatch, "text_a\t句子2\n天\t地\n标题\t内容\n".encode("utf-8"))
    with pytest.raises(UserError, match="1 of 3 lines .*row 1: a header: begin .* tail"):
        run({"model_dir": out})
    assert len(rows_of(capsys.readouterr().out)) == 4


def test_the_name_of_a_file_is_no_text(out, tmp_path):
    path = tmp_path / "texts.tsv"
    path.write_text("天\t地\n", encoding="utf-8")
    with pytest.raises(UserError, match="texts.tsv is a file: give --input_file=.*texts.tsv and"):
        run({"model_dir": out}, str(path), "地")


def feed(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))


@pytest.mark.parametrize(
    "encode, kind",
    [
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: gzip.compress(text.encode("utf-8")), "compressed with gzip"),
    ],
)
def test_the_command_that_converts_a_stream_works(out, encode, kind, capsys, monkeypatch):
    content = encode("天\t地\n玄\t黄\n")
    feed(monkeypatch, content)
    with pytest.raises(UserError, match="^standard input is " + kind) as error:
        run({"model_dir": out})
    command = re.search("it with (.*) in the pipe$", str(error.value)).group(1)
    feed(monkeypatch, subprocess.check_output(command.split(), input=content))
    capsys.readouterr()
    run({"model_dir": out})
    assert len(rows_of(capsys.readouterr().out)) == 3


@pytest.mark.parametrize("changes", [{}, {"embeddings": True}, {"search_file": "empty.txt"}])
def test_a_file_without_texts(tmp_path, out, changes):
    path = tmp_path / "empty.txt"
    path.write_text("")
    if "search_file" in changes:
        with pytest.raises(UserError, match="empty.txt: no texts"):
            run({"model_dir": out, "search_file": path}, "天")
        return
    with pytest.raises(UserError, match="empty.txt: no "):
        run(dict(changes, model_dir=out, input_file=path, output_file=tmp_path / "a.tsv"))
    assert os.listdir(str(tmp_path)) == ["empty.txt"]


def test_a_blank_row_of_a_file_keeps_its_number(tmp_path, out):
    questions = tmp_path / "questions.tsv"
    questions.write_text("天\t地\n\n日\t月\n", encoding="utf-8")
    run({"model_dir": out, "input_file": questions, "output_file": tmp_path / "answers.tsv"})
    _, *found = rows_of((tmp_path / "answers.tsv").read_text(encoding="utf-8"))
    assert [row[0] for row in found] == ["0", "2"]


def test_a_header_of_unknown_words_is_no_example(tmp_path, out):
    questions = tmp_path / "questions.tsv"
    questions.write_text("天天\t地地\n日\t月\n", encoding="utf-8")
    files = {"model_dir": out, "input_file": questions, "output_file": tmp_path / "answers.tsv"}
    run(dict(files, header="yes"))
    assert len(rows_of((tmp_path / "answers.tsv").read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize("embeddings", [False, True])
def test_unknown_pieces_of_a_file(tmp_path, out, embeddings, caplog):
    """Few unknown pieces cause a warning, many end the command; the flag in the message helps."""
    questions = tmp_path / "questions.tsv"
    answers = tmp_path / ("answers.npy" if embeddings else "answers.tsv")
    values = {"model_dir": out, "input_file": questions, "output_file": answers}
    values["embeddings"] = embeddings
    questions.write_text("天地\t玄黄" + "魑魅\n" + "天\t地\n" * 5, encoding="utf-8")
    with caplog.at_level("WARNING", logger="absl"):
        run(values)
    assert "UNKNOWN PIECES: 12.5% of the pieces of {} are [UNK]".format(questions) in caplog.text
    assert "'魑' 1, '魅' 1" in caplog.text
    questions.write_text("魑魅\t魑\n", encoding="utf-8")
    answers.unlink()
    with pytest.raises(UserError, match="100.0% .* '魑' 2, .*--max_unknown_share=1"):
        run(values)
    assert not answers.exists()
    run(dict(values, max_unknown_share=1))
    assert answers.exists()


@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("name", ["q.csv", "q.tsv"])
def test_a_quoted_file_is_converted_by_the_command_that_is_named(tmp_path, out, name, embeddings):
    questions, answers = tmp_path / name, tmp_path / "answers.tsv"
    with open(str(questions), "w", encoding="utf-8", newline="") as stream:
        delimiter = "," if name == "q.csv" else "\t"
        csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(PAIRS)
    values = {"model_dir": out, "output_file": answers, "embeddings": embeddings}
    with pytest.raises(
        UserError, match="{} has commas|row 1: '\"天地\"' is quoted".format(name)
    ) as error:
        run(dict(values, input_file=questions))
    assert not answers.exists()
    command = re.search("python(.*) > ", str(error.value)).group(1)
    converted = subprocess.check_output(sys.executable + command, shell=True)
    assert converted == write_questions(tmp_path / "new.tsv").read_bytes()
    run(dict(values, input_file=tmp_path / "new.tsv"))
    assert answers.exists()


def test_columns_that_are_no_texts_are_told_with_the_command_that_removes_them(
    tmp_path, out, caplog
):
    questions = tmp_path / "q.tsv"
    rows = ["{}\t{}\n".format("天" * i, "否是"[i % 2]) for i in range(1, 17)]
    questions.write_text("text\tlabel\n" + "".join(rows), encoding="utf-8")
    values = {"model_dir": out, "output_file": tmp_path / "a.npy", "embeddings": True}
    for begin in ("HEADER", "LABELS", None):
        caplog.clear()
        with caplog.at_level("WARNING", logger="absl"):
            run(dict(values, input_file=questions, max_unknown_share=1))
        told = [record.getMessage() for record in caplog.records]
        told = [text for text in told if text.startswith(("HEADER", "LABELS"))]
        if begin is None:
            assert not told and np.load(str(tmp_path / "a.npy")).shape == (16, 16)
            return
        command = re.search("(tail|cut) .* > ", told[0]).group(0) + "new.tsv"
        assert told[0].startswith(begin)
        subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
        (tmp_path / "new.tsv").replace(questions)


def test_labels_in_place_of_second_texts_are_told(tmp_path, out, caplog):
    """A file of another task causes a warning; a file of pairs for a search causes none."""
    questions = tmp_path / "q.tsv"
    values = {"model_dir": out, "input_file": questions, "output_file": tmp_path / "a.tsv"}
    labelled = ["{}\t{}\n".format("天" * i, "地玄"[i % 2]) for i in range(1, 9)]
    searched = ["{}\t{}\n".format(a, b) for a in "天日" for b in "地玄月洪"]
    for rows, is_told in ((labelled, True), (searched, False)):
        caplog.clear()
        questions.write_text("".join(rows), encoding="utf-8")
        with caplog.at_level("WARNING", logger="absl"):
            run(values)
        assert ("LABELS: {} has".format(questions) in caplog.text) == is_told


def test_vectors_of_json_lines_need_the_command_that_is_named(tmp_path, out):
    questions = tmp_path / "q.txt"
    questions.write_text('{"text": "天 地"}\n{"text": "日"}\n', encoding="utf-8")
    values = {"model_dir": out, "output_file": tmp_path / "a.npy", "embeddings": True}
    with pytest.raises(UserError, match="q.txt holds JSON lines: ") as error:
        run(dict(values, input_file=questions))
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    command = re.search("jq .* > ", str(error.value)).group(0).replace("FIELD", "text")
    subprocess.run(command + "new.txt", shell=True, check=True, cwd=str(tmp_path))
    run(dict(values, input_file=tmp_path / "new.txt"))
    assert np.load(str(tmp_path / "a.npy")).shape == (2, 16)


@pytest.mark.parametrize("label", ["", "\t是"])
def test_a_column_of_ids_is_told_with_a_first_row_that_helps(tmp_path, out, label):
    """The error comes even if the ids are names of labels, or if the file has labels."""
    questions, answers = tmp_path / "questions.tsv", tmp_path / "answers.tsv"
    files = {"model_dir": out, "input_file": questions, "output_file": answers}
    for id_ in ("q17", "是"):
        row = "{}\t天\t地{}\n".format(id_, label)
        questions.write_text(row * 2, encoding="utf-8")
        with pytest.raises(UserError, match="row 1: .* in the first row") as error:
            run(files)
        assert "--header" not in str(error.value)
        named = re.search("such as (id<TAB>[a-z_<>TAB]+)", str(error.value))
        names = named.group(1).replace("<TAB>", "\t") if named else "id\ttext_a\ttext_b\tlabel"
        questions.write_text(names + "\n" + row * 2, encoding="utf-8")
        run(files)
        _, *found = rows_of(answers.read_text(encoding="utf-8"))
        assert [row[0] for row in found] == [id_] * 2


def test_unknown_pieces_of_a_stream_are_told_at_its_end(out, capsys, monkeypatch, caplog):
    lines = io.BytesIO("天\t地\n魑魅\t魑\n".encode("utf-8"))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=lines))
    with caplog.at_level("WARNING", logger="absl"):
        run({"model_dir": out})
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert "60.0% of the pieces of the texts are [UNK]; the commonest are '魑' 2" in caplog.text


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
            json.dumps({"id": "q{}".format(i // 2), "sentence1": a, "sentence2": b}) + "\n"
            for i, (a, b) in enumerate(PAIRS)
        )
    )
    files = {"input_file": questions, "output_file": answers, "output_format": "json"}
    run(dict(files, model_dir=out))
    found = [json.loads(line) for line in answers.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["id"] for row in found] == ["q0", "q0", "q1", "q1", "q2"]
    np.testing.assert_allclose(table(found), table(model.predict(PAIRS)), atol=2e-6)


@pytest.mark.parametrize("name, is_json", [("a.json", True), ("a.jsonl", True), ("a.tsv", False)])
def test_the_name_of_the_output_file_decides_the_format(tmp_path, out, name, is_json):
    questions = write_questions(tmp_path / "questions.tsv")
    run({"model_dir": out, "input_file": questions, "output_file": tmp_path / name})
    assert (tmp_path / name).read_text(encoding="utf-8").startswith("{") == is_json


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("q.tsv.gz", b"\x1f\x8b\x08", "gzip: unpack it with gunzip"),
        ("q.xlsx", b"PK\x03\x04" + b"-" * 26 + b"xl/", "is a file of Excel or Word: save it"),
    ],
)
def test_a_file_of_a_program_is_named(tmp_path, out, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        run({"model_dir": out, "input_file": tmp_path / name, "output_file": tmp_path / "a.tsv"})


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
        ("天地玄\t".encode("utf-8") + b"\xce", "row 2: not UTF-8 text; the text before is UTF-8"),
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
        ({"input_file": "q.xlsx", "output_file": "a.tsv"}, [], "q.xlsx does not exist"),
        ({"input_file": "FOLDER", "output_file": "a.tsv"}, [], "FOLDER is a folder: name a"),
        ({"input_file": "predict.py", "output_file": "a.tsv"}, [], "must end in .tsv or"),
        ({"input_file": "FILE.bio", "output_file": "a.tsv"}, [], "E.bio: .* must end in .tsv or"),
        ({"input_file": "FILE.csv", "output_file": "a.tsv"}, [], "E.csv has commas .*E.tsv$"),
        ({"input_file": "q.tsv", "output_file": "a.tsv"}, [], "q.tsv does not exist"),
        ({"input_file": "FOLDER.txt", "output_file": "a.tsv"}, [], "R.txt is a folder: name a"),
        ({"input_file": "FOLDER.json", "output_file": "a.tsv"}, [], "R.json is a folder: name a"),
        ({"search_file": "none"}, ["a"], "none does not exist: check the path"),
        ({"search_file": "FOLDER.txt"}, ["a"], "R.txt is a folder: name a file in it"),
        ({"model_dir": None, "vocab_file": "v.txt"}, ["a"], "--model_dir is needed; or"),
        ({"vocab_file": "vocab.txt"}, ["a"], "leave --vocab_file out"),
        (
            {"model_dir": "nowhere"},
            ["a"],
            "=nowhere does not exist: give the --output_dir of a run",
        ),
        ({"model_dir": "predict.py"}, ["a"], "=predict.py is a file: give the --output_dir"),
        ({}, ["天"], "takes a pair of texts and gets 1"),
        ({}, ["天", " "], "a text is empty"),
    ],
)
def test_mistakes_on_the_command_line(out, changes, words, message, tmp_path):
    for flag, name in changes.items():
        if str(name).startswith(("FOLDER", "FILE")):
            changes = dict(changes, **{flag: tmp_path / name})
            changes[flag].mkdir() if name.startswith("FOLDER") else changes[flag].write_text("a,b")
    with pytest.raises(UserError, match=message):
        run(dict({"model_dir": out}, **changes), *words)


def test_a_checkpoint_in_place_of_a_folder(out, capsys):
    with pytest.raises(UserError, match="model.ckpt-1 is a checkpoint: give ") as error:
        run({"model_dir": out / "model.ckpt-1"}, "天", "地")
    named = dict(re.findall(r"--(\w+)=(\S+)", str(error.value).split(": give ")[1]))
    run(named, "天", "地")
    assert capsys.readouterr().out.startswith("prediction")


def test_a_model_without_classifier(out, tmp_path, capsys):
    prefix = str(tmp_path / "albert_model.ckpt")
    arrays = weights.read(str(out / "model.ckpt-1"))
    weights.write(prefix, {n: a for n, a in arrays.items() if not n.startswith("output_")})
    with pytest.raises(UserError, match=prefix + " is a model without classifier") as error:
        run({"model_dir": tmp_path}, "天", "地")
    named = dict(re.findall(r"--(\w+)=(\S+)", str(error.value)))
    assert named == {"checkpoint": prefix}
    named["embeddings"] = "True"
    with pytest.raises(UserError, match="is a model without classifier"):
        run({"model_dir": out, "checkpoint": prefix}, "天", "地")
    files = {"bert_config_file": "config.json", "vocab_file": "vocab.txt"}
    named.update({flag: out.parent / name for flag, name in files.items()}, max_seq_length=LENGTH)
    run(named, "天", "地")
    assert len(json.loads(capsys.readouterr().out)) == 16
    pieces = named["vocab_file"].read_text(encoding="utf-8").split()
    (tmp_path / "vocab.txt").write_text("\n".join(pieces[:5] + pieces[:4:-1]), encoding="utf-8")
    with pytest.raises(UserError, match="is not the vocabulary of .*: give --vocab_file=") as error:
        run(named, "天", "地")
    run(dict(named, vocab_file=str(error.value).rpartition("=")[2]), "天", "地")


def test_answers_into_a_folder_are_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "questions.tsv").write_text("天\t地\n", encoding="utf-8")
    for folder in (str(tmp_path), str(tmp_path / "new") + "/"):
        values = {"model_dir": "nowhere", "input_file": tmp_path / "questions.tsv"}
        with pytest.raises(UserError, match=folder + " is a folder: name a file in it"):
            run(dict(values, output_file=folder))
    assert os.listdir(str(tmp_path)) == ["questions.tsv"]


def test_the_input_file_is_not_replaced(out, tmp_path):
    questions = tmp_path / "questions.tsv"
    questions.write_text("天\t地\n", encoding="utf-8")
    same = "{}/../{}/questions.tsv".format(tmp_path, tmp_path.name)
    with pytest.raises(UserError, match="--output_file would replace --input_file"):
        run({"model_dir": out, "input_file": questions, "output_file": same})
    assert questions.read_text(encoding="utf-8") == "天\t地\n"


# ------------------------------------------------------------------- without a fine-tuned model


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The flags of a pre-trained model."""
    return write_pretrained(tmp_path_factory.mktemp("pretrained"))


def test_masks_of_a_text(pretrained, capsys):
    run(dict(pretrained, top=3), "天[MASK]玄[MASK]")
    ((filled, *masks),) = rows_of(capsys.readouterr().out)
    best = [mask.split() for mask in masks]  # piece, probability, piece, probability ...
    assert filled == "天{}玄{}".format(*(row[0].replace("##", "") for row in best))
    assert [len(row) for row in best] == [6, 6]
    run(dict(pretrained, output_format="json"), "天[MASK]玄[MASK]")
    found = json.loads(capsys.readouterr().out)
    assert found["text"] == filled and [len(mask) for mask in found["masks"]] == [5, 5]
    assert [list(mask)[0] for mask in found["masks"]] == [row[0] for row in best]


def test_two_texts_are_compared(pretrained, capsys):
    run(pretrained, "天地", "天地")
    run(pretrained, "天地", "玄黄宇宙")
    (same,), (other,) = rows_of(capsys.readouterr().out)
    assert float(same) == pytest.approx(1) and -1 <= float(other) < 0.999


@pytest.mark.parametrize("is_finetuned", [True, False])
def test_the_nearest_lines(out, pretrained, is_finetuned, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("天地玄黄\n\n日月\n宇宙洪荒日\n", encoding="utf-8")
    flags = dict({"model_dir": out} if is_finetuned else pretrained)
    flags.update(search_file=tmp_path / "lines.txt", top=2)
    run(flags, "日月")
    header, first, second = rows_of(capsys.readouterr().out)
    assert header == ["text", "similarity", "nearest"]
    assert first[0] == second[0] == "日月" and first[2] == "日月"
    assert float(first[1]) == pytest.approx(1, abs=1e-5) and float(second[1]) < 1
    run(dict(flags, output_format="json"), "日月")
    found = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in found["nearest"]] == [first[2], second[2]]


def test_a_file_for_a_pretrained_model(pretrained, tmp_path):
    (tmp_path / "in.txt").write_text("天[MASK]\n天\t地\n", encoding="utf-8")
    run(dict(pretrained, input_file=tmp_path / "in.txt", output_file=tmp_path / "out.tsv"))
    filled, similarity = rows_of((tmp_path / "out.tsv").read_text(encoding="utf-8"))
    assert filled[0].startswith("天") and len(filled) == 2 and len(similarity) == 1


def test_a_search_needs_two_lines(pretrained, tmp_path):
    (tmp_path / "lines.txt").write_text("天地\n天地\n", encoding="utf-8")
    with pytest.raises(UserError, match="needs two or more different lines"):
        run(dict(pretrained, search_file=tmp_path / "lines.txt"), "天")


def test_headers_and_labels_of_pairs_are_told(pretrained, tmp_path, caplog):
    rows = "text_a\tlabel\n" + "".join(
        "{}\t{}\n".format("天地"[i % 2] * i, i % 2) for i in range(1, 9)
    )
    (tmp_path / "in.tsv").write_text(rows, encoding="utf-8")
    flags = dict(pretrained, max_unknown_share=1, input_file=tmp_path / "in.tsv")
    with caplog.at_level("WARNING", logger="absl"):
        run(dict(flags, output_file=tmp_path / "out.tsv"))
    assert "HEADER" in caplog.text and "tail -n +2" in caplog.text


def test_what_a_pretrained_model_cannot_answer(pretrained, capsys, monkeypatch):
    lines = io.BytesIO("天地\n天[MASK]\n".encode("utf-8"))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=lines))
    with pytest.raises(UserError, match="1 of 2 lines are not examples"):
        run(pretrained)
    refused, answered = rows_of(capsys.readouterr().out)
    assert refused[0].startswith("error: standard input, row 1: '天地' has no [MASK]: put [MASK]")
    assert answered[0].startswith("天") and len(answered) == 2


def test_a_mask_beyond_the_length_is_an_error_in_its_place(pretrained, capsys, monkeypatch):
    lines = io.BytesIO(("天" * 300 + "[MASK]\n天[MASK]\n").encode("utf-8"))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=lines))
    with pytest.raises(UserError, match="1 of 2 lines are not examples"):
        run(pretrained)
    refused, answered = rows_of(capsys.readouterr().out)
    assert refused[0].startswith("error: standard input, row 1: a [MASK] is after piece")
    assert answered[0].startswith("天")


@pytest.mark.parametrize("mask", ["［MASK］", "【MASK】", "[mask]", "[ＭＡＳＫ]"])
def test_another_spelling_of_a_mask_is_named(mask):
    kind = answers.Masks(types.SimpleNamespace(check_masks=lambda text, where: None), 5)
    with pytest.raises(UserError, match="has {} in place of .MASK.: type".format(re.escape(mask))):
        kind.check(["天" + mask], "")
    kind.check(["天[MASK]"], "")


def test_a_long_text_is_shortened():
    with pytest.raises(UserError) as error:
        answers.Masks(None, 5).check(["北京" * 600], "")
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    "kind, changes, words",
    [
        (answers.Labels, {"header": "yes"}, "--header=yes is for an --input_file of a classifier"),
        (answers.Masks, {"header": "no", "output_file": "a"}, "--header=no is for an --input_f"),
        (answers.Labels, {"top": 3}, "--top=3 is for a .MASK., a search or a question: leave"),
        (answers.Vectors, {"top": 3}, "--top=3 is for a .MASK."),
        (answers.Parts, {"top": 3}, "--top=3 is for a .MASK."),  # of a model of entities
    ],
)
def test_a_flag_that_the_answers_ignore(kind, changes, words):
    command = ["predict.py"] + helpers.arguments(changes)
    kind = object.__new__(kind)
    kind._model = types.SimpleNamespace(kind=None)
    with pytest.raises(UserError, match=words):
        predict.check_use(cli.parse(predict.define_flags, command, predict.WORDS), kind)
    predict.check_use(cli.parse(predict.define_flags, command[:1], predict.WORDS), kind)
