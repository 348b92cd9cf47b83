"""run_classifier.py from the command line's flags to files, on a task that is learned at once."""

import json
import pathlib
import random
import re
import shutil

import helpers
import numpy as np
import programs
import pytest
import tensorflow.compat.v1 as tf
from helpers import read_json, variables_of

import modeling
import predict
import run_classifier
from checkpointing import run_folder
from common import cli, files
from common.errors import UserError
from finetuning import batching, engine, model, row_outputs, run_checks, seeds
from kinds.classification import Classification
from kinds.kind import Data
from training import best_checkpoint, loop, preflight

LENGTH = 16
CHARACTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张是否"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(CHARACTERS)
ODD = 5  # examples of dev and of test: no multiple of the batch size 4
TRAINED = 160
LEARNING = {"num_train_epochs": 1, "learning_rate": 0.004}


def write_workspace(folder):
    """Write config, vocabulary and a task whose label depends on the second text."""
    helpers.write_learner(folder, PIECES, LENGTH)
    (folder / "data").mkdir()
    rng = random.Random(1)
    for split, count in (("train", TRAINED), ("dev", ODD), ("test", ODD)):
        rows = [
            "{}\t{}\t{}\n".format(
                "".join(rng.choice(CHARACTERS[:16]) for _ in range(rng.randint(1, 5))),
                "否是"[label] * rng.randint(3, 5),
                label,
            )
            for label in (i % 2 for i in range(count))
        ]
        (folder / "data" / (split + ".txt")).write_text("".join(rows), encoding="utf-8")
    return folder


def flags(folder, **changes):
    values = {
        "task_name": "lcqmc_pair",
        "num_train_epochs": 0.1,
    }
    return helpers.finetuning_flags(folder, LENGTH, **dict(values, **changes))


def run(folder, **changes):
    helpers.run(run_classifier, flags(folder, **changes))


def read_table(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def workspace(tmp_path):
    return write_workspace(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace whose folder `out` holds a run of all three parts. Tests must not write to it."""
    folder = write_workspace(tmp_path_factory.mktemp("trained"))
    run(folder, do_train=True, do_eval=True, do_predict=True, **LEARNING)
    return folder


def test_learns_what_can_be_learned(trained):
    results = read_json(trained / "out" / "eval_results.json")
    assert results["eval_accuracy"] == 1.0
    history = best_checkpoint.read_history(str(trained / "out"))
    assert history[TRAINED // 4]["eval_loss"] < 0.1
    assert results["eval_macro_f1"] == 1.0
    assert results["eval_examples"] == ODD
    assert results["eval_confusion"] == [[3, 0], [0, 2]]
    assert results["eval_per_class"]["1"]["support"] == 2
    table = (trained / "out" / "eval_results.txt").read_text()
    assert re.search(r"^eval_accuracy +1$", table, re.MULTILINE)
    assert re.search(r"^\(1\) 1 +0 +2$", table, re.MULTILINE)


def test_the_folder_of_a_run_predicts_the_same_again(trained, tmp_path):
    questions = trained / "data" / "test.txt"
    again = tmp_path / "again.tsv"
    values = {"model_dir": trained / "out", "input_file": questions, "output_file": again}
    words = ["predict.py"] + helpers.arguments(values)
    predict.main(cli.parse(predict.define_flags, words, predict.WORDS), [])
    header, *rows = read_table(trained / "out" / "predictions.tsv")
    again_header, *again_rows = read_table(again)
    assert again_header == header and len(again_rows) == ODD
    for row, again_row in zip(rows, again_rows):
        assert again_row[:3] == row[:3]
        np.testing.assert_allclose(
            [float(cell) for cell in again_row[3:]], [float(cell) for cell in row[3:]], atol=1e-5
        )


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A workspace whose folder `out` holds a run that stopped after 3 of 12 steps and went on."""
    folder = write_workspace(tmp_path_factory.mktemp("stopped"))
    train = loop.train_and_evaluate

    def in_parts(trainer, input_fn, max_steps, *settings):
        for step in (3, max_steps):
            train(trainer, input_fn, step, *settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_and_evaluate", in_parts)
        run(folder, do_train=True, **SHORT)
    return folder


def test_a_run_that_stopped_goes_on_at_the_right_record(alone, stopped):
    """All weights and slots have the same bits as in a run that did not stop."""
    whole, parts = variables_of(alone / "out"), variables_of(stopped / "out")
    assert whole["global_step"] == 12
    for name in whole:
        assert whole[name].tobytes() == parts[name].tobytes(), name


def test_padding_and_division_of_batches_do_not_change_what_is_trained(workspace, monkeypatch):
    """Batches padded to one length train the same weights as divided batches with less padding."""
    lengths = []
    make_forward = model.make_forward

    def recording(*args):
        forward = make_forward(*args)

        def record(features, mode, share=None):
            lengths.append(features["input_ids"].shape.as_list()[1])
            return forward(features, mode, share)

        return record

    monkeypatch.setattr(model, "make_forward", recording)
    values = {"do_train": True, "num_train_epochs": 0.5, "classifier_dropout_prob": 0}
    run(workspace, output_dir=workspace / "padded", dynamic_padding=False, **values)
    assert lengths[-1] == LENGTH
    run(workspace, output_dir=workspace / "divided", micro_batch_size=2, **values)
    assert lengths[-1] is None
    padded, divided = (variables_of(workspace / name) for name in ("padded", "divided"))
    assert padded["global_step"] == divided["global_step"] == 20
    for name, value in padded.items():
        np.testing.assert_allclose(divided[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_replicas_learn_from_batches_of_other_lengths(workspace):
    """Each replica pads its part of a batch to its own longest example."""
    values = dict(do_train=True, do_eval=True, evals_per_epoch=0, strategy="mirrored", **LEARNING)
    values = flags(workspace, **values)
    status, log = programs.run("run_classifier.py", helpers.arguments(values), num_cpus=2)
    assert status == 0, log
    assert "2 replicas x" in log
    assert read_json(workspace / "out" / "eval_results.json")["eval_accuracy"] == 1.0


def test_predictions_are_named_and_in_order(trained):
    header, *rows = read_table(trained / "out" / "predictions.tsv")
    assert header == ["id", "label", "prediction", "p(0)", "p(1)"]
    assert [row[0] for row in rows] == [str(i) for i in range(ODD)]
    assert [row[1] for row in rows] == ["0", "1", "0", "1", "0"]
    for row in rows:
        probabilities = [float(cell) for cell in row[3:]]
        assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)
        assert row[2] == "01"[int(np.argmax(probabilities))]
    right = np.mean([row[1] == row[2] for row in rows])
    results = read_json(trained / "out" / "test_results.json")
    assert (results["test_accuracy"], results["test_examples"]) == (right, ODD)


def scored_checkpoint(folder):
    return run_folder.best_checkpoint(str(folder / "out"))


def expected_outputs(folder, split):
    """Compute losses and probabilities [examples, labels] in one batch, without an Estimator."""
    [path] = (folder / "out" / "features").glob(split + "-*.features")
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    with tf.Graph().as_default(), tf.Session() as session:
        columns = Classification.columns
        input_fn = batching.make_input_fn(str(path), columns, LENGTH, False, dynamic_padding=False)
        features = tf.data.make_one_shot_iterator(input_fn({"batch_size": ODD})).get_next()
        encoder = modeling.AlbertModel(
            config, False, features["input_ids"], features["input_mask"], features["segment_ids"]
        )
        head = modeling.classification_head(encoder, 2, features["label_ids"])
        tf.train.Saver(tf.trainable_variables()).restore(session, scored_checkpoint(folder))
        losses, probabilities, index = session.run(
            [head.example_loss, tf.nn.softmax(head.logits), features["row_index"]]
        )
        return losses, probabilities[np.argsort(index)]


def test_evaluation_and_prediction_equal_one_plain_batch(trained):
    losses, _ = expected_outputs(trained, "dev")
    results = read_json(trained / "out" / "eval_results.json")
    assert results["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    _, probabilities = expected_outputs(trained, "test")
    rows = read_table(trained / "out" / "predictions.tsv")[1:]
    found = np.array([[float(cell) for cell in row[3:]] for row in rows])
    np.testing.assert_allclose(found, probabilities, atol=2e-6)


def test_evaluates_the_classifier_that_init_checkpoint_names(trained, workspace):
    run(workspace, do_eval=True, init_checkpoint=scored_checkpoint(trained))
    expected = read_json(trained / "out" / "eval_results.json")
    found = read_json(workspace / "out" / "eval_results.json")
    for name in ("eval_accuracy", "eval_loss", "eval_examples"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)


def test_labels_in_another_order_are_not_those_of_the_classifier(trained, workspace, caplog):
    task = {"task_name": "sentence_pair", "labels": "1,0"}
    for name in ("train", "dev"):
        text = (workspace / "data" / (name + ".txt")).read_text(encoding="utf-8")
        (workspace / "data" / (name + ".tsv")).write_text(text, encoding="utf-8")
    start = dict(task, init_checkpoint=scored_checkpoint(trained))
    with pytest.raises(UserError, match="says labels=..0., .1.., the task ..1., .0.."):
        run(workspace, do_eval=True, **start)
    assert not (workspace / "out").exists()
    run(workspace, do_train=True, **start)
    assert "training starts from it" in caplog.text
    with pytest.raises(UserError, match="says labels=..1., .0.., the task ..0., .1.."):
        run(workspace, do_train=True, **dict(task, labels="0,1"))


def test_another_vocabulary_is_not_that_of_the_classifier(trained, workspace, caplog, monkeypatch):
    """With the flag that the message names, the run succeeds."""
    (workspace / "vocab.txt").write_text("\n".join(PIECES[:5] + PIECES[:4:-1]), encoding="utf-8")
    message = "{}/vocab.txt is not the vocabulary of .*: give --(vocab_file)=({}/vocab.txt)$"
    message = message.format(workspace, trained / "out")
    own = {"output_dir": trained / "out"}
    for values in (dict(own, do_train=True), {"init_checkpoint": trained / "out"}):
        with pytest.raises(UserError, match=message) as error:
            run(workspace, do_eval=True, **values)
        assert not (workspace / "out").exists()
    name, value = re.search(message, str(error.value)).groups()
    run(workspace, do_eval=True, init_checkpoint=trained / "out", **{name: value})
    assert read_json(workspace / "out" / "eval_results.json")["eval_accuracy"] == 1.0
    shutil.rmtree(str(workspace / "out"))
    caplog.clear()
    monkeypatch.setattr(loop, "train_and_evaluate", lambda *_: None)
    run(workspace, do_train=True, init_checkpoint=trained / "out")
    [warning] = [r.getMessage() for r in caplog.records if "learns the new" in r.getMessage()]
    assert re.match(message.rstrip("$"), warning) and warning.endswith("learns the new pieces")
    with pytest.raises(UserError, match="classifier.json: give --do_lower_case=True$"):
        run(workspace, do_eval=True, do_lower_case=False, **dict(own, **{name: value}))


def test_evaluates_the_checkpoint_of_output_dir_first(trained, alone, tmp_path):
    folder = copied(alone, tmp_path)
    (folder / "out" / "eval_results.json").unlink()
    run(folder, do_eval=True, init_checkpoint=trained / "out")
    assert read_json(folder / "out" / "eval_results.json")["global_step"] == 12


def test_a_folder_in_use_stays_as_it_is(alone, tmp_path, monkeypatch):
    folder = copied(alone, tmp_path)
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.2)
    before = helpers.files_of(folder / "out")
    with files.locked_folder(str(folder / "out")), pytest.raises(UserError, match="is in use"):
        run(folder, **dict(SHORT, do_train=True, learning_rate=0.1))
    assert helpers.files_of(folder / "out") == before


def save_pretrained(folder):
    """Save random weights with the pre-training heads; returns (prefix, dict of the weights)."""
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    with tf.Graph().as_default(), tf.Session() as session:
        ids = tf.zeros([1, LENGTH], tf.int32)
        model = modeling.AlbertModel(config, False, ids)
        modeling.masked_lm_head(model, ids, ids, tf.ones([1, LENGTH]))
        modeling.sentence_order_head(model, ids[:, 0])
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(folder / "pretrained" / "bert_model.ckpt"))
        return prefix, session.run({v.op.name: v for v in tf.trainable_variables()})


def test_fine_tuning_starts_from_the_pretrained_weights(workspace):
    prefix, weights = save_pretrained(workspace)
    run(workspace, do_train=True, init_checkpoint=prefix, learning_rate=1e-9)
    reader = tf.train.load_checkpoint(str(workspace / "out"))
    name = "bert/encoder/layer_shared/intermediate/dense/kernel"
    np.testing.assert_allclose(reader.get_tensor(name), weights[name], atol=1e-6)
    assert reader.get_tensor("output_weights").shape == (2, 16)
    assert not reader.has_tensor("cls/predictions/output_bias")


def test_a_test_file_without_labels_is_predicted(trained, workspace):
    rows = ["天\t是是是", "玄\t否否否"]
    (workspace / "data" / "test.txt").write_text("\n".join(rows), encoding="utf-8")
    run(workspace, do_predict=True, init_checkpoint=trained / "out")
    rows = read_table(workspace / "out" / "predictions.tsv")[1:]
    assert [row[:3] for row in rows] == [["0", "", "1"], ["1", "", "0"]]
    assert read_json(workspace / "out" / "test_results.json") == {
        "test_examples": 2,
        "global_step": 0,
    }


@pytest.fixture
def guessed(monkeypatch):
    """Replaces the model's predictions by guesses; lists the number of examples of each call."""
    numbers = []

    def guess(trainer, input_fn, num_rows, path):
        numbers.append(num_rows)
        return {"probabilities": np.full([num_rows, 2], 0.5)}

    monkeypatch.setattr(row_outputs, "predict", guess)
    return numbers


@pytest.mark.usefixtures("guessed")
def test_features_of_other_settings_are_not_used(trained, workspace):
    run_folder.copy(scored_checkpoint(trained), str(workspace / "weights"))  # without description
    for changes in ({}, {}, {"max_seq_length": 12}, {"do_lower_case": False}):
        run(workspace, do_predict=True, init_checkpoint=workspace / "weights", **changes)
    assert len(list((workspace / "out" / "features").iterdir())) == 3


def schedule_of(num_examples, hidden_size, **changes):
    """The `Schedule` of a train file with this number of examples."""
    values = {"task_name": "xnli", "data_dir": ".", "bert_config_file": "c", "output_dir": "out"}
    words = helpers.arguments(dict(values, do_train=True, **changes))
    args = cli.parse(run_classifier.define_flags, [""] + words)
    config = modeling.AlbertConfig(
        100, hidden_size=hidden_size, num_attention_heads=8, layout="google"
    )
    data = Data(None, {"train": [None] * num_examples}, {}, {})
    values = Classification(), preflight.Model(config, {}), data, None
    return run_checks.check_optimizer(args, *values)[0]


def test_steps_warmup_and_evaluations_follow_the_number_of_examples():
    flags = {"train_batch_size": 64, "num_train_epochs": 3, "warmup_proportion": 0.1}
    schedule = schedule_of(238766, 312, **flags)
    optimizer = schedule.optimizer
    assert (optimizer.num_train_steps, optimizer.num_warmup_steps) == (11192, 1119)
    assert schedule.eval_every_steps == 1866  # two evaluations in an epoch, the second at its end
    assert schedule_of(238766, 312, evals_per_epoch=0, **flags).eval_every_steps == 0
    assert schedule_of(5, 312, **flags).optimizer.num_train_steps == 1


def test_what_is_left_out_suits_the_size_of_the_model(caplog):
    with caplog.at_level("INFO", logger="absl"):
        schedule = schedule_of(6400, 1024)
    assert schedule.optimizer.learning_rate == 2e-5 and schedule.train_batch_size == 64
    assert schedule.optimizer.num_train_steps == 300
    assert "Defaults of large, H = 1024 (albert_zh's README, LCQMC)" in caplog.text
    optimizer = schedule_of(6400, 1008, learning_rate=1e-3, train_batch_size=10).optimizer
    assert optimizer.learning_rate == 1e-3 and optimizer.num_train_steps == 1920


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"do_train": False}, "nothing to do"),
        ({"task_name": "mrpc"}, "'mrpc' is unknown"),
        ({"task_name": None}, "task_name"),
        ({"data_dir": "nowhere"}, "nowhere/train.tsv.*; nowhere does not exist"),
        ({"data_dir": __file__}, "test_run_classifier.py is a file: give its folder"),
        ({"data_dir": None}, "data_dir"),
        ({"task_name": "xnli"}, "train.txt, row 1: label '0' is not one of .* contradiction"),
        ({"output_dir": None}, "--output_dir"),
        ({"bert_config_file": "nowhere.json"}, "nowhere.json"),
        ({"vocab_file": None}, "--vocab_file"),
        ({"vocab_file": "nowhere.txt"}, "nowhere.txt"),
        ({"max_seq_length": 17}, "max_position_embeddings=16"),
        ({"max_seq_length": 4}, "max_seq_length"),
        ({"init_checkpoint": "nowhere/bert_model.ckpt"}, "nowhere/bert_model.ckpt"),
        ({"warmup_proportion": 1.5}, "warmup_proportion"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob=1.5"),
        ({"patience": 2}, "--patience=2 needs"),
        ({"best_metric": "f1"}, "--best_metric=f1 is not a score of this task: .*accuracy, macro"),
        ({"seeds": "1,2,1"}, "--seeds=1,2,1: give whole numbers, each once"),
        ({"seeds": "one"}, "--seeds=one: give whole numbers"),
        ({"labels": "a,b"}, "has its own labels"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"do_train": False, "do_eval": True}, "holds no checkpoint"),
        ({"do_train": False, "do_predict": True}, "holds no checkpoint"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(workspace, changes, words):
    with pytest.raises(UserError, match=words) as raised:
        run(workspace, **dict({"do_train": True}, **changes))
    assert "\n" not in str(raised.value)
    assert not (workspace / "out").exists()


def test_a_checkpoint_without_a_classifier_is_not_evaluated(workspace):
    prefix, _ = save_pretrained(workspace)
    with pytest.raises(UserError, match="bert_model.ckpt holds no classifier"):
        run(workspace, do_eval=True, init_checkpoint=prefix)
    assert not (workspace / "out").exists()


def test_a_model_of_one_segment_takes_no_pairs(workspace):
    helpers.write_config(workspace, 23, LENGTH, type_vocab_size=1)
    with pytest.raises(UserError, match="type_vocab_size=1 in the config"):
        run(workspace, do_train=True)


def test_a_vocabulary_larger_than_the_model_is_refused(workspace):
    with (workspace / "vocab.txt").open("a", encoding="utf-8") as stream:
        stream.write("龙\n")
    with pytest.raises(UserError, match=r"24 pieces, but vocab_size is 23"):
        run(workspace, do_train=True)


def test_a_vocabulary_that_lacks_lines_is_told(workspace, capsys):
    lines = (workspace / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (workspace / "vocab.txt").write_text("\n".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(SystemExit):
        run(workspace, do_train=True, check_only=True)
    assert "22 pieces, but vocab_size is 23 in " in capsys.readouterr().out


def test_a_bad_row_ends_the_program_with_one_line_and_status_2(workspace):
    (workspace / "data" / "train.txt").write_text("天\t地\t1\n天\t地\n", encoding="utf-8")
    words = helpers.arguments(flags(workspace, do_train=True))
    status, log = programs.run("run_classifier.py", words)
    last = log.strip().split("\n")[-1]
    assert status == 2 and "Traceback" not in log
    assert re.match(r"run_classifier.py: error: .*train.txt, row 2: found 2 columns", last)


# ----------------------------------------------------------------- best, early stop, seeds


SCORED = {"do_train": True, "do_eval": True, "do_predict": True}
# Twelve steps, all of them before the first evaluation on the way.
SHORT = {"num_train_epochs": 0.3, "random_seed": 2}
SEEDS = dict(SCORED, num_train_epochs=0.3, patience=3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A workspace whose folder `out` holds a single run of seed 2. Tests must not write to it."""
    folder = write_workspace(tmp_path_factory.mktemp("alone"))
    run(folder, patience=3, **dict(SHORT, **SCORED))
    return folder


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """A workspace whose folder `out` holds runs of the seeds 1 and 2. Tests must not write to it.

    A first command makes the run of seed 1. A second command adds the run of seed 2. The second
    command is killed after the training, and a new start completes the run.
    """
    folder = write_workspace(tmp_path_factory.mktemp("seeded"))
    run(folder, seeds="1", **SEEDS)
    before = read_json(folder / "out" / "results.json")
    assert set(before["seeds"]) == {"1"}

    def killed(run, seed_run, *args, score_best=engine.score_best):
        if seed_run.folder.endswith("seed_2"):
            raise KeyboardInterrupt
        return score_best(run, seed_run, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "score_best", killed)
        run(folder, seeds="1,2", **SEEDS)
    assert run_folder.latest_step(str(folder / "out" / "seed_2")) == 12
    assert read_json(folder / "out" / "results.json") == before
    run(folder, seeds="1,2", **SEEDS)
    assert set(read_json(folder / "out" / "results.json")["seeds"]) == {"1", "2"}
    return folder


def copied(folder, tmp_path):
    """Return a copy of a workspace, to be written to."""
    return pathlib.Path(shutil.copytree(str(folder), str(tmp_path / "copy")))


def test_the_best_checkpoint_is_scored_and_predicts(trained):
    """Both evaluations have accuracy 1, so the first checkpoint is the best."""
    history = best_checkpoint.read_history(str(trained / "out"))
    assert list(history) == [20, 40]
    best = max(history, key=lambda step: (history[step]["eval_accuracy"], -step))
    assert scored_checkpoint(trained).endswith("model.ckpt-{}".format(best)) and best < 40
    results = read_json(trained / "out" / "results.json")
    assert results["metrics"]["global_step"] == best
    assert results["scored"]["checkpoint"] == scored_checkpoint(trained)
    for name in ("eval_accuracy", "eval_loss", "eval_macro_f1"):
        assert results["metrics"][name] == pytest.approx(history[best][name], rel=1e-5)
    tags = {
        value.tag
        for path in (trained / "out" / "eval").iterdir()
        for event in tf.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert tags == {"eval_accuracy", "eval_loss", "eval_macro_f1"}


def test_results_tell_what_a_run_was(trained):
    results = read_json(trained / "out" / "results.json")
    assert {"config", "data", "vocabulary"} == set(results["inputs"])
    assert len(results["inputs"]["data"]) == 3 and results["labels"] == ["0", "1"]
    assert results["examples"]["classes"]["dev"] == {"0": 3, "1": 2}
    assert results["made_with"]["learning_rate"] == LEARNING["learning_rate"]
    assert "--num_train_epochs=1" in results["command"]


def test_seeds_give_mean_and_deviation_and_are_made_once(
    seeded, alone, tmp_path, monkeypatch, capsys
):
    folder, values = copied(seeded, tmp_path), dict(SEEDS, seeds="1,2")
    results = read_json(folder / "out" / "results.json")
    losses = [results["seeds"][seed]["test_loss"] for seed in "12"]
    assert losses[0] != losses[1]
    assert results["metrics"]["test_loss"] == {
        "mean": pytest.approx(np.mean(losses)),
        "deviation": pytest.approx(np.std(losses, ddof=1)),
    }
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "features",
        "results.json",
        "seed_1",
        "seed_2",
    ]
    assert len(list((folder / "out" / "features").iterdir())) == 3
    first, second = (
        variables_of(alone / "out"),
        variables_of(folder / "out" / "seed_2"),
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    (folder / "out" / "results.json").unlink()
    monkeypatch.setattr(loop, "train_and_evaluate", None)
    run(folder, **values)  # all is done
    with pytest.raises(UserError, match="seed_1 was made with other .*learning_rate 0.0001, "):
        run(folder, **dict(values, learning_rate=0.5))
    with pytest.raises(SystemExit) as ended:
        run(folder, check_only=True, **dict(values, learning_rate=0.5))
    [failed] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL ")]
    assert ended.value.code == 2 and failed.startswith("FAIL  settings")
    assert "seed_1 was made with other settings: learning_rate 0.0001, now 0.5" in failed
    assert read_json(folder / "out" / "results.json")["metrics"] == results["metrics"]


def test_several_seeds_go_on_where_a_kill_ended_them(seeded, alone):
    """The run of seed 2, killed before its evaluation, gets the scores of an uninterrupted run."""
    whole = read_json(alone / "out" / "results.json")["metrics"]
    assert {"eval_accuracy", "test_accuracy"} < set(whole)
    assert read_json(seeded / "out" / "results.json")["seeds"]["2"] == whole
    assert read_json(seeded / "out" / "seed_2" / "results.json")["metrics"] == whole


def test_a_single_run_is_told_of_other_settings(stopped, tmp_path, caplog, capsys):
    folder = copied(stopped, tmp_path)
    with caplog.at_level("WARNING", logger="tensorflow"):
        run(folder, do_train=True, **SHORT)
        assert "other settings" not in caplog.text
        with pytest.raises(SystemExit):
            run(folder, do_train=True, weight_decay=0.5, check_only=True, **SHORT)
        run(folder, do_train=True, weight_decay=0.5, **SHORT)
    told = "other settings: weight_decay 0.01, now 0.5; the run still continues"
    assert told in caplog.text and told in capsys.readouterr().out


def test_scores_are_not_taken_for_those_of_other_files(seeded, tmp_path):
    folder = copied(seeded, tmp_path)
    test_file = folder / "data" / "test.txt"
    test_file.write_text("天\t是是\t1\n", encoding="utf-8")
    run(folder, seeds="1", **SEEDS)
    assert read_json(folder / "out" / "seed_1" / "results.json")["metrics"]["test_examples"] == 1


def test_names_of_seeds_and_folders():
    assert seeds.seed_runs("out", 7, []) == [("out", 7)]
    assert seeds.seed_runs("out", 7, ["2", "10"]) == [("out/seed_2", 2), ("out/seed_10", 10)]


# ------------------------------------------------------------------------ a user's own files


def write_own(folder, split, rows):
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "data" / (split + ".jsonl")).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "data" / (split + ".txt")).unlink()


@pytest.mark.parametrize("labels, expected", [(None, ["是", "黄"]), ("黄,是", ["黄", "是"])])
def test_labels_of_own_files_are_given_or_found(workspace, labels, expected, request):
    rows = [{"text_a": "天地" * (i % 3 + 1), "label": "是黄"[i % 2]} for i in range(12)]
    for split in ("train", "dev"):
        write_own(workspace, split, rows)
    write_own(workspace, "test", [{"text_a": "天"}])
    values = {"task_name": "sentence", "num_train_epochs": 1, "evals_per_epoch": 0}
    request.getfixturevalue("guessed")
    run(workspace, labels=labels, **dict(values, **SCORED))
    header = read_table(workspace / "out" / "predictions.tsv")[0]
    assert header[3:] == ["p({})".format(label) for label in expected]
    run(workspace, do_predict=True, **values)  # reads the labels from classifier.json
    assert read_table(workspace / "out" / "predictions.tsv")[0] == header
    with pytest.raises(UserError, match="the labels of task sentence are not known"):
        run(workspace, do_predict=True, output_dir=workspace / "other", **values)
    values["init_checkpoint"] = scored_checkpoint(workspace)  # a file beside it has the labels
    run(workspace, do_predict=True, output_dir=workspace / "other", **values)
    assert read_table(workspace / "other" / "predictions.tsv")[0] == header


def test_bad_rows_may_be_skipped_and_a_sample_taken(workspace, monkeypatch):
    monkeypatch.setattr(loop, "train_and_evaluate", lambda *_: None)
    with (workspace / "data" / "train.txt").open("a", encoding="utf-8") as stream:
        stream.write("天\t地\n")
    run(workspace, do_train=True, skip_bad_rows=True, max_train_examples=30)
    results = read_json(workspace / "out" / "results.json")
    assert sum(results["examples"]["classes"]["train"].values()) == 30


@pytest.mark.parametrize("seeds", [None, "1"])
def test_a_run_of_another_task_keeps_its_folder(
    seeds, alone, seeded, guessed, tmp_path, monkeypatch, capsys
):
    """The flag in the message works; other names of the task and own files can be scored."""
    workspace = copied(seeded if seeds else alone, tmp_path)
    monkeypatch.setattr(loop, "train_and_evaluate", lambda *_: None)  # all steps are done
    for split in ("train", "dev"):
        path = workspace / "data" / (split + ".txt")
        (path.parent / (split + ".tsv")).write_text(path.read_text())
    folder = workspace / "out" / ("seed_1" if seeds else "")
    before = (folder / "classifier.json").read_bytes(), (folder / "results.json").read_bytes()
    message = (
        r"{} holds a run of task lcqmc_pair, not {}: give another --output_dir; .*, add --(.*)"
    )
    evaluation = {"do_eval": True, "seeds": seeds}
    training = dict(evaluation, do_train=True, patience=3, **SHORT)
    if seeds:
        del training["random_seed"]
    values = {True: training, False: evaluation}
    for name, do_train in (("afqmc", True), ("afqmc", False), ("sentence_pair", True)):
        with pytest.raises(UserError, match=message.format(folder, name)) as error:
            run(workspace, task_name=name, **values[do_train])
    after = (folder / "classifier.json").read_bytes(), (folder / "results.json").read_bytes()
    assert after == before
    flag, value = re.search(message.format(folder, name), str(error.value)).group(1).split("=")
    other = {"output_dir": workspace / "other", "check_only": True, flag: value}
    with pytest.raises(SystemExit) as ended:
        run(workspace, task_name="afqmc", **dict(training, **other))
    assert ended.value.code == 0, capsys.readouterr().out
    assert guessed == []
    for name, do_train in (("LCQMC", True), ("lcqmc", False), ("sentence_pair", False)):
        run(workspace, task_name=name, **values[do_train])
        assert guessed.pop() == ODD and not guessed


def test_other_labels_need_another_folder(alone, tmp_path, monkeypatch, capsys):
    """The flags that the message names work."""
    workspace = copied(alone, tmp_path)
    described = workspace / "out" / "classifier.json"
    described.write_text(json.dumps(dict(read_json(described), labels=["0", "1", "2"])))
    values = {"do_train": True, "check_only": True, **SHORT}
    with pytest.raises(SystemExit) as ended:
        run(workspace, **values)
    assert ended.value.code == 2
    told = capsys.readouterr().out
    words = re.search("needs another --output_dir and (.*)", told).group(1).split()
    named = dict(word[2:].split("=") for word in words)
    assert set(named) == {"init_checkpoint", "allow_missing"}
    with pytest.raises(SystemExit) as ended:
        run(workspace, output_dir=workspace / "other", **dict(values, **named))
    assert ended.value.code == 0, capsys.readouterr().out


def test_clue_gets_its_file(workspace, trained):
    for split in ("train", "dev", "test"):
        path = workspace / "data" / (split + ".txt")
        (path.parent / (split + ".tsv")).write_text(path.read_text())
    run(workspace, task_name="afqmc", do_predict=True, init_checkpoint=scored_checkpoint(trained))
    lines = (workspace / "out" / "afqmc_predict.json").read_text().splitlines()
    predicted = [row[2] for row in read_table(workspace / "out" / "predictions.tsv")[1:]]
    assert [json.loads(line) for line in lines] == [
        {"id": i, "label": label} for i, label in enumerate(predicted)
    ]


# ------------------------------------------------------------------------------- checks


def test_no_epochs_are_no_training(workspace):
    with pytest.raises(UserError, match="^--num_train_epochs=0 trains nothing: leave --do_train"):
        run(workspace, do_train=True, num_train_epochs=0)
    assert not (workspace / "out").exists()


def test_check_only_tells_all_and_writes_nothing(workspace, capsys):
    values = dict(SCORED, check_only=True)
    with pytest.raises(SystemExit) as ended:
        run(workspace, **values)
    lines = capsys.readouterr().out.splitlines()
    passed = [line.split()[1] for line in lines if line.startswith("ok ")]
    assert ended.value.code == 0 and len(passed) == 13 and passed[-1] == "memory"
    with pytest.raises(SystemExit) as ended:
        run(workspace, **dict(values, vocab_file="nowhere.txt", data_dir="nowhere"))
    found = capsys.readouterr().out
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        run(workspace, **dict(values, vocab_file="nowhere.txt"))
    assert ended.value.code == 2 and "FAIL  vocabulary" in capsys.readouterr().out
    assert re.search("^FAIL  data .*nowhere/train.tsv", found, re.MULTILINE)
    assert re.search("^FAIL  vocabulary .*nowhere.txt", found, re.MULTILINE)
    assert not (workspace / "out").exists()
