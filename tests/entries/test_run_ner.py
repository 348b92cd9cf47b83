"""run_ner.py from the command line's flags to files, on entities that are learned at once."""

import json
import random

import helpers
import programs
import pytest
import tensorflow.compat.v1 as tf

import export_model
import predict
import run_ner
from common import cli
from common.errors import UserError
from serving.predictor import Predictor

LENGTH = 16
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list("天地玄黄宇宙洪荒日月12") + ["##2"]
# The words that are entities, and their types. No other character belongs to an entity.
WORDS = {"天地": "A", "玄": "B", "洪日荒": "A"}
ODD = 7  # texts of dev and of test: not a multiple of the batch size 4


def random_text(rng, longest=6):
    """Return a text and its entities (begin, end, type)."""
    text, entities = "", []
    for _ in range(rng.randint(1, longest)):
        word = rng.choice(list(WORDS) + ["宇", "宙 ", "12"])
        if word in WORDS:
            entities.append((len(text), len(text) + len(word), WORDS[word]))
        text += word
    return text.strip(), entities


def rows_of(split, count, longest=6):
    rng = random.Random(split)
    both = [("天地玄", [(0, 2, "A"), (2, 3, "B")])]
    return both + [random_text(rng, longest) for _ in range(count - 1)]


def write_rows(path, rows):
    lines = [
        json.dumps({"id": i, "text": text, "entities": [list(e) for e in entities]})
        for i, (text, entities) in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_workspace(folder):
    helpers.write_learner(folder, PIECES, LENGTH)
    (folder / "data").mkdir()
    for split, count, longest in (("train", 200, 6), ("dev", ODD, 6), ("test", ODD, 40)):
        write_rows(folder / "data" / (split + ".jsonl"), rows_of(split, count, longest))
    return folder


def flags(folder, **changes):
    values = {
        "task_name": "ner",
        "learning_rate": 0.01,
        "num_train_epochs": 1,
        "evals_per_epoch": 0,
    }
    return helpers.finetuning_flags(folder, LENGTH, **dict(values, **changes))


def run(folder, **changes):
    helpers.run(run_ner, flags(folder, **changes))


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace whose folder `out` holds a run of all three parts. Tests must not write to it."""
    folder = write_workspace(tmp_path_factory.mktemp("ner"))
    run(folder, do_train=True, do_eval=True, do_predict=True)
    return folder


def test_learns_what_can_be_learned_and_finds_the_spans_of_characters(trained):
    results = json.loads((trained / "out" / "eval_results.json").read_text())
    assert results["eval_f1"] == results["eval_cluener_f1"] == 1.0
    assert results["eval_examples"] == ODD and set(results["eval_per_type"]) == {"A", "B"}
    table = (trained / "out" / "eval_results.txt").read_text()
    assert "type  precision" in table
    rows = rows_of("test", ODD, 40)
    assert any(len(text) > 2 * LENGTH for text, _ in rows)  # several windows
    for line, (text, entities) in zip(read_lines(trained / "out" / "predictions.jsonl"), rows):
        assert line["text"] == text
        found = [(e["begin"], e["end"], e["type"]) for e in line["entities"]]
        assert found == entities
        assert all(text[e["begin"] : e["end"]] == e["text"] for e in line["entities"])


def test_the_predictions_can_be_read_as_a_file_of_entities(trained, tmp_path):
    copy = tmp_path / "dev.jsonl"
    copy.write_bytes((trained / "out" / "predictions.jsonl").read_bytes())
    run(trained, do_eval=True, data_dir=tmp_path, output_dir=tmp_path / "again",
        init_checkpoint=trained / "out")  # fmt: skip
    results = json.loads((tmp_path / "again" / "eval_results.json").read_text())
    assert results["eval_f1"] == 1.0


@pytest.mark.parametrize("changes", [{"crf": True}, {"label_scheme": "bio"}])
def test_other_labels_and_a_crf_learn_it_too(trained, tmp_path, changes):
    run(trained, do_train=True, do_eval=True, output_dir=tmp_path / "out", **changes)
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert results["eval_f1"] == 1.0


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_predictor_finds_the_same_entities(trained, batch_size):
    model = Predictor(str(trained / "out"), batch_size=batch_size)
    texts = [text for text, _ in rows_of("test", ODD, 40)]
    expected = [line["entities"] for line in read_lines(trained / "out" / "predictions.jsonl")]
    assert [answer["entities"] for answer in model.predict(texts)] == expected
    assert model.embed(texts).shape == (ODD, 16)
    with pytest.raises(ValueError, match="is not a text"):
        model.predict(["天", ("天", "地")])
    with pytest.raises(ValueError, match="a list of texts is expected"):
        model.predict("天地")


def test_predict_py_finds_entities_of_texts_and_files(trained, tmp_path, capsysbinary):
    words = ["predict.py", "--model_dir={}".format(trained / "out")]
    predict.main(cli.parse(predict.define_flags, words, predict.WORDS), ["宇天地"])
    answer = {"entities": [{"begin": 1, "end": 3, "type": "A", "text": "天地"}]}
    assert json.loads(capsysbinary.readouterr().out) == answer
    output = tmp_path / "found.jsonl"
    words += helpers.arguments(
        {"input_file": trained / "data" / "test.jsonl", "output_file": output}
    )
    predict.main(cli.parse(predict.define_flags, words, predict.WORDS), [])
    assert output.read_bytes() == (trained / "out" / "predictions.jsonl").read_bytes()


def test_a_crf_is_used_where_it_was_trained(trained, tmp_path):
    changes = {"do_train": True, "do_predict": True, "output_dir": tmp_path / "out"}
    run(trained, crf=True, num_train_epochs=0.3, **changes)
    model = Predictor(str(tmp_path / "out"))
    texts = [text for text, _ in rows_of("test", ODD, 40)]
    lines = read_lines(tmp_path / "out" / "predictions.jsonl")
    found = [answer["entities"] for answer in model.predict(texts)]
    assert found == [line["entities"] for line in lines]
    changes = {
        "do_eval": True,
        "output_dir": tmp_path / "eval",
        "init_checkpoint": tmp_path / "out",
    }
    with pytest.raises(UserError, match="trained with --crf=True: give this flag"):
        run(trained, **changes)
    run(trained, crf=True, **changes)


def test_a_run_goes_on_with_its_scheme_of_labels(trained, capsys):
    for scheme, words in (("bio", "with --label_scheme=bioes: give"), ("bioes", "NOTHING TO")):
        with pytest.raises(SystemExit) as ended:
            run(trained, do_train=True, check_only=True, label_scheme=scheme)
        assert words in capsys.readouterr().out
    assert ended.value.code == 0


@pytest.mark.parametrize(
    "form, package, told",
    [
        ("saved_model", "tensorflow_text", "find_entities_text entities: largest difference 0\n"),
        ("tflite", None, "scores: largest difference"),
        ("onnx", "tf2onnx", "scores: largest difference"),
    ],
)
def test_an_export_computes_the_same(trained, tmp_path, form, package, told, capsys):
    if package:
        pytest.importorskip(package)
    values = {"model_dir": trained / "out", "output_dir": tmp_path / "served", "format": form}
    helpers.run(export_model, values)
    assert told in capsys.readouterr().out


def test_clue_gets_its_file_with_ends_that_are_the_last_character(trained, tmp_path):
    (tmp_path / "data").mkdir()
    rows = [(text, [(b, e, {"A": "book", "B": "game"}[t]) for b, e, t in entities])
            for text, entities in rows_of("train", 200)]  # fmt: skip
    write_rows(tmp_path / "data" / "train.json", rows)
    (tmp_path / "data" / "test.json").write_text('{"id": 7, "text": "宇天地玄12天地"}\n')
    changes = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    run(trained, task_name="cluener", do_train=True, do_predict=True, **changes)
    (line,) = read_lines(tmp_path / "out" / "cluener_predict.json")
    expected = {"book": {"天地": [[1, 2], [6, 7]]}, "game": {"玄": [[3, 3]]}}
    assert line == {"id": 7, "label": expected}


@pytest.mark.parametrize("crf", [False, True])
def test_micro_batches_of_other_lengths_give_the_same_loss_and_weights(trained, tmp_path, crf):
    for name, size in (("whole", 4), ("parts", 1)):
        changes = {"output_dir": tmp_path / name, "micro_batch_size": size, "crf": crf}
        changes.update(classifier_dropout_prob=0)
        run(trained, do_train=True, num_train_epochs=0.02, warmup_proportion=0, **changes)
    one, two = (tf.train.load_checkpoint(str(tmp_path / name)) for name in ("whole", "parts"))
    for name in one.get_variable_to_shape_map():
        if name.endswith("adam_m"):  # a multiple of the gradients
            assert one.get_tensor(name) == pytest.approx(two.get_tensor(name), abs=1e-6), name


@pytest.mark.parametrize("changes", [{}, {"crf": True}])
def test_a_killed_run_loses_nothing(trained, tmp_path, changes):
    changes = dict(changes, do_train=True, num_train_epochs=0.2, classifier_dropout_prob=0.3)
    run(trained, output_dir=tmp_path / "whole", **changes)
    changes.update(output_dir=tmp_path / "killed", save_checkpoints_steps=1)
    programs.run_until_killed("run_ner.py", flags(trained, **changes), steps=(2, 5))
    run(trained, **changes)
    helpers.assert_same_bits(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"labels": "A"}, "row 1: type 'B' is unknown; the types are A"),
        ({"labels": "A,A"}, "labels A, A: give different ones"),
        ({"task_name": "cluener", "labels": "A"}, "task cluener has its own types"),
        ({"task_name": "lcqmc"}, "task lcqmc belongs to run_classifier.py: run that"),
        ({"data_dir": "nowhere"}, "no train file of task ner"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(trained, tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        run(trained, do_train=True, output_dir=tmp_path / "out", **changes)
    assert words in str(error.value) and not (tmp_path / "out").exists()


def test_a_type_that_the_train_file_lacks_can_be_named(tmp_path):
    data = write_workspace(tmp_path) / "data"
    write_rows(data / "dev.jsonl", [("天地", [(0, 2, "C")])])
    changes = {"do_train": True, "do_eval": True, "output_dir": tmp_path / "out"}
    with pytest.raises(UserError, match="type 'C' is unknown; .* name all types with --labels"):
        run(tmp_path, **changes)
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, check_only=True, labels="A,B,C", **changes)
    assert ended.value.code == 0


def test_a_train_file_without_entities_is_refused(trained, tmp_path):
    write_rows(tmp_path / "train.jsonl", [("天地", [])])
    with pytest.raises(UserError, match="train.jsonl: no text has an entity to learn from"):
        run(trained, do_train=True, data_dir=tmp_path, output_dir=tmp_path / "out")


def test_without_training_the_labels_are_those_of_a_model(trained, tmp_path):
    with pytest.raises(UserError, match="labels of task ner are not known"):
        run(trained, do_eval=True, output_dir=tmp_path / "out")
    run(trained, do_eval=True, output_dir=tmp_path / "out", init_checkpoint=trained / "out")
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert results["eval_f1"] == 1.0


def test_a_bad_file_ends_the_program_with_one_line_and_status_2(trained, tmp_path):
    write_rows(tmp_path / "train.jsonl", [("天地玄", [(0, 2, "A"), (1, 3, "B")])])
    values = flags(trained, do_train=True, data_dir=tmp_path, output_dir=tmp_path / "out")
    status, log = programs.run("run_ner.py", helpers.arguments(values))
    last = log.strip().split("\n")[-1]
    assert status == 2 and "Traceback" not in log
    assert "train.jsonl, row 1: entities '天地' (A) and '地玄' (B) overlap" in last
