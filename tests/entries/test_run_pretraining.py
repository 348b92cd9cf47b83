"""run_pretraining.py from the command line's flags to files, on tiny random records."""

import json
import pathlib
import re
import shutil
import signal
import time

import helpers
import numpy as np
import programs
import pytest
import record_files
import tensorflow.compat.v1 as tf

import modeling
import run_pretraining
from checkpointing import run_folder
from common import files
from common.errors import UserError
from pretraining.model import make_forward
from tfrecords import manifest, reader
from tfrecords.wire import pretraining_schema
from training import best_checkpoint, devices, loop

SEQUENCE, PREDICTIONS = 16, 4


def write_workspace(folder):
    """Write a model config and twelve records to train on, five to evaluate with."""
    helpers.write_config(folder, 60, SEQUENCE, num_hidden_layers=1)
    write_records(str(folder / "train.tfrecord"), count=12)
    write_records(str(folder / "dev.tfrecord"), count=5, seed=1)
    return folder


@pytest.fixture
def workspace(tmp_path):
    return write_workspace(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace whose folder `out` holds a run of four steps. Tests must not write to it."""
    folder = write_workspace(tmp_path_factory.mktemp("trained"))
    run(folder, eval_every_steps=2)
    return folder


@pytest.fixture
def continued(trained, tmp_path):
    """A copy of `trained`, to go on with."""
    return pathlib.Path(shutil.copytree(str(trained), str(tmp_path / "copy")))


def write_records(path, count, sequence=SEQUENCE, predictions=PREDICTIONS, seed=0):
    random = np.random.RandomState(seed)
    with record_files.RecordWriter(path) as writer:
        for _ in range(count):
            values = {
                "input_ids": random.randint(5, 60, sequence),
                "input_mask": np.ones(sequence, int),
                "segment_ids": np.arange(sequence) // 8 % 2,
                "masked_lm_positions": np.arange(1, predictions + 1),
                "masked_lm_ids": np.arange(5, 5 + predictions),
                "masked_lm_weights": np.ones(predictions),
                "next_sentence_labels": [random.randint(2)],
            }
            schema = pretraining_schema(sequence, predictions)
            writer.write(record_files.serialize(schema, values))


def flags_of(workspace, **changes):
    values = {
        "input_file": workspace / "train.tf*",
        "eval_input_file": workspace / "dev.tfrecord",
        "bert_config_file": workspace / "config.json",
        "output_dir": workspace / "out",
        "max_seq_length": SEQUENCE,
        "max_predictions_per_seq": PREDICTIONS,
        "train_batch_size": 4,
        "eval_batch_size": 4,
        "num_train_steps": 4,
        "num_warmup_steps": 1,
        "do_train": True,
        "do_eval": True,
    }
    values.update(changes)
    return values


def run(workspace, **changes):
    helpers.run(run_pretraining, flags_of(workspace, **changes))


def results(workspace, folder="out"):
    return json.loads((workspace / folder / "eval_results.json").read_text())


def test_evaluates_on_the_way_and_at_the_end(trained):
    out = trained / "out"
    found = results(trained)
    assert found["global_step"] == 4
    assert found["loss"] == pytest.approx(found["masked_lm_loss"] + found["sentence_order_loss"])
    assert 0 <= found["masked_lm_accuracy"] <= 1 and 0 <= found["sentence_order_accuracy"] <= 1
    history = best_checkpoint.read_history(str(out))
    assert sorted(history) == [2, 4] and history[4] == found
    best = json.loads((out / "best" / "best.json").read_text())
    assert best["loss"] == min(results["loss"] for results in history.values())


def test_tells_what_the_run_was(trained):
    found = json.loads((trained / "out" / "results.json").read_text())
    config = modeling.AlbertConfig.from_json_file(str(trained / "config.json"))
    assert found["parameters"] == sum(modeling.count_parameters(config).values())
    assert found["metrics"] == results(trained)
    assert "--eval_every_steps=2" in found["command"] and "--seed" not in found["command"]
    assert [len(found["inputs"][name]) for name in ("config", "records")] == [1, 2]


def test_curves_have_a_point_for_the_first_step_of_each_part(trained):
    points = {
        event.step: {value.tag: value.simple_value for value in event.summary.value}
        for path in (trained / "out").glob("events*")
        for event in tf.train.summary_iterator(str(path))
        if event.summary.value
    }
    assert sorted(points) == [1, 3]
    names = {"loss", "masked_lm_loss", "sentence_order_loss", "learning_rate", "grad_norm"}
    for values in points.values():
        assert names < set(values) and np.isfinite(list(values.values())).all()
        losses = values["masked_lm_loss"] + values["sentence_order_loss"]
        assert values["loss"] == pytest.approx(losses, rel=1e-5)


def test_evaluation_equals_a_plain_average_over_all_examples(trained):
    """Of five examples in batches of four, none is lost and none counts twice."""
    with tf.Graph().as_default(), tf.Session() as session:
        schema, files = pretraining_schema(SEQUENCE, PREDICTIONS), [str(trained / "dev.tfrecord")]
        input_fn = reader.make_input_fn(files, reader.examples(files, schema), training=False)
        features = tf.data.make_one_shot_iterator(input_fn({"batch_size": 5})).get_next()
        config = modeling.AlbertConfig.from_json_file(str(trained / "config.json"))
        outputs = make_forward(config)(features, tf.estimator.ModeKeys.EVAL)
        latest = tf.train.latest_checkpoint(str(trained / "out"))
        tf.train.Saver(tf.trainable_variables()).restore(session, latest)
        expected = session.run(outputs.scalars)
    for name, value in expected.items():
        assert results(trained)[name] == pytest.approx(value, rel=1e-4)


def test_learns_what_can_be_learned(workspace):
    """Only 4 of 60 pieces are ever masked: the loss must fall from log(60) to about log(4).

    The optimizer is LAMB; test_precision.py trains with AdamW.
    """
    run(workspace, num_train_steps=80, learning_rate=0.05)
    assert results(workspace)["masked_lm_loss"] < np.log(4) + 0.2


def assert_equal_weights(one, two):
    one, two = tf.train.load_checkpoint(str(one)), tf.train.load_checkpoint(str(two))
    assert one.get_variable_to_shape_map() == two.get_variable_to_shape_map()
    for name in one.get_variable_to_shape_map():
        np.testing.assert_array_equal(one.get_tensor(name), two.get_tensor(name), name)


def test_sigterm_saves_and_the_same_command_goes_on(workspace, trained, caplog):
    """The run makes the steps of `trained` with an interruption and without evaluations."""
    words = helpers.arguments(flags_of(workspace, do_eval=False))
    with programs.Program("run_pretraining.py", words) as program:
        while "Saved" not in program.log():  # the checkpoint of step 0
            assert program.is_running(), program.log()
            time.sleep(0.01)
        program.send_signal(signal.SIGTERM)
        status, log = program.wait(), program.log()
    assert status == 143, log
    assert "Traceback" not in log
    assert re.search(r"model.ckpt-\d is saved; the same command continues it", log)
    step = run_folder.latest_step(str(workspace / "out"))
    assert step < 4
    with caplog.at_level("INFO", logger="tensorflow"):
        run(workspace, do_eval=False, init_checkpoint=trained / "out" / "best")
    resume = r"RESUME at step {} .*--init_checkpoint=\S*best\S* is ignored".format(step)
    assert re.search(resume, caplog.text)
    restored = r"Restoring .*-{}: \d+ variables loaded, 0 missing, 0 unused".format(step)
    assert re.search(restored, caplog.text)
    assert_equal_weights(workspace / "out", trained / "out")


def test_warm_start_with_more_pieces_and_fewer_positions(tmp_path, trained, caplog):
    """The run starts at step 0 with those rows of the tables that both models have."""
    first = tf.train.latest_checkpoint(str(trained / "out" / "best"))
    helpers.write_config(tmp_path, 63, 12, num_hidden_layers=1)
    write_records(str(tmp_path / "train.tfrecord"), count=12, sequence=12)
    start = {
        "init_checkpoint": trained / "out" / "best",
        "eval_input_file": None,
        "max_seq_length": 12,
        "learning_rate": 1e-12,
        "num_train_steps": 1,
        "do_eval": False,
    }
    with pytest.raises(UserError, match="word_embeddings.* last rows .*--allow_vocab_resize"):
        run(tmp_path, **start)
    assert not (tmp_path / "out").exists()
    with caplog.at_level("INFO", logger="tensorflow"):
        run(tmp_path, allow_vocab_resize=True, **start)
    assert "WARM START at step 0 from " + first in caplog.text
    assert "variables loaded, 0 missing, 0 unused" in caplog.text
    second = tf.train.latest_checkpoint(str(tmp_path / "out"))
    assert second.endswith("-1")
    name = "bert/encoder/layer_shared/intermediate/dense/kernel"
    np.testing.assert_allclose(
        tf.train.load_variable(second, name), tf.train.load_variable(first, name), atol=1e-6
    )
    for name in ("word_embeddings", "position_embeddings"):
        before, after = (
            tf.train.load_variable(prefix, "bert/embeddings/" + name) for prefix in (first, second)
        )
        number = min(len(before), len(after))
        np.testing.assert_allclose(after[:number], before[:number], atol=1e-6)
    words = tf.train.load_variable(second, "bert/embeddings/word_embeddings")
    assert len(words) == 63 and words[60:].any(axis=1).all()
    bias = tf.train.load_variable(second, "cls/predictions/output_bias")
    np.testing.assert_allclose(bias[60:], np.zeros(3), atol=1e-6)


def test_slots_follow_the_layout(trained):
    names = tf.train.load_checkpoint(str(trained / "out")).get_variable_to_shape_map()
    assert "bert/pooler/dense/kernel/lamb_m" in names
    assert not any("adam_m" in name for name in names)


def test_evaluation_alone_and_on_training_files_is_told(continued, caplog):
    (continued / "out" / "eval_results.json").unlink()
    with caplog.at_level("INFO", logger="tensorflow"):
        run(continued, eval_input_file=None, do_train=False)
    assert results(continued)["global_step"] == 4
    assert re.search(r"NO TRAINING: .*model.ckpt-4 as it is", caplog.text)
    assert "EVALUATION ON THE TRAINING FILES" in caplog.text


def test_a_warm_start_is_evaluated_before_its_first_step(trained, tmp_path):
    best = trained / "out" / "best"
    new = {"output_dir": tmp_path / "new", "num_train_steps": 2, "eval_every_steps": 2}
    # A command that was killed before its first checkpoint has evaluated other weights.
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "eval_history.jsonl").write_text('{"global_step": 0, "loss": 99.0}\n')
    run(trained, init_checkpoint=best, **new)
    history = best_checkpoint.read_history(str(tmp_path / "new"))
    assert sorted(history) == [0, 2]
    step = json.loads((best / "best.json").read_text())["global_step"]
    start = best_checkpoint.read_history(str(trained / "out"))[step]
    names = set(start) - {"global_step"}
    assert {name: history[0][name] for name in names} == pytest.approx(
        {name: start[name] for name in names}, rel=1e-5
    )


def test_shared_layers_start_with_more_of_them_where_that_is_allowed(trained, tmp_path):
    layers = json.loads((trained / "config.json").read_text())["num_hidden_layers"]
    config = json.loads((trained / "config.json").read_text())
    deeper = tmp_path / "deeper.json"
    deeper.write_text(json.dumps(dict(config, num_hidden_layers=layers + 1)))
    start = {
        "init_checkpoint": trained / "out",
        "bert_config_file": deeper,
        "output_dir": tmp_path / "new",
        "num_train_steps": 1,
        "do_eval": False,
    }
    words = "says num_hidden_layers={}, the given .* another number of layers, --allow_more_layers"
    with pytest.raises(UserError, match=words.format(layers)):
        run(trained, **start)
    run(trained, allow_more_layers=True, **start)
    assert (tmp_path / "new" / "model.ckpt-1.index").exists()


def test_a_folder_in_use_stays_as_it_is(continued, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.2)
    before = helpers.files_of(continued / "out")
    with files.locked_folder(str(continued / "out")):
        with pytest.raises(UserError, match="is in use"):
            run(continued, learning_rate=0.002)
        assert helpers.files_of(continued / "out") == before
        run(continued, do_train=False)  # an evaluation beside a training
    after = json.loads((continued / "out" / "results.json").read_text())
    assert after["made_with"] == json.loads(before["results.json"])["made_with"]


def test_a_run_keeps_its_micro_batches(workspace, caplog):
    """Dropout depends on them, and those that fit depend on the memory that is free."""
    for steps, given in ((1, {"micro_batch_size": 2}), (2, {})):
        run(workspace, num_train_steps=steps, **given)
        report = json.loads((workspace / "out" / "results.json").read_text())
        assert report["placement"] == {"num_replicas": 1, "replica_batch": 4, "micro_batch": 2}
    assert "OTHER MICRO-BATCHES" not in caplog.text
    run(workspace, num_train_steps=3, micro_batch_size=1)
    assert "OTHER MICRO-BATCHES" in caplog.text


def test_another_file_to_evaluate_on_is_told(continued, caplog):
    write_records(str(continued / "dev.tfrecord"), count=5, seed=7)
    run(continued, eval_every_steps=2)
    assert "OTHER DEV DATA: " in caplog.text


def test_general_text_is_evaluated_beside_the_own(continued):
    run(continued, do_train=False)
    own = results(continued)
    write_records(str(continued / "general.tfrecord"), 7, seed=5)
    run(continued, do_train=False, general_eval_input_file=continued / "general.tfrecord")
    both = results(continued)
    assert {name: both[name] for name in own} == own
    general = {name: value for name, value in both.items() if name not in own}
    assert set(general) == {"general_" + name for name in set(own) - {"global_step"}}
    run(continued, do_train=False, eval_input_file=continued / "general.tfrecord")
    alone = results(continued)
    assert general == {"general_" + name: alone[name] for name in set(own) - {"global_step"}}
    with pytest.raises(UserError, match="general.tfrecord needs --do_eval=True"):
        run(continued, do_eval=False, general_eval_input_file="general.tfrecord")


def test_shorter_records_are_padded_with_a_warning(continued, caplog):
    write_records(str(continued / "short.tfrecord"), 4, sequence=12, predictions=3)
    with caplog.at_level("WARNING", logger="tensorflow"):
        run(continued, eval_input_file=continued / "short.tfrecord", do_train=False)
    assert "length 12, padded to 16" in caplog.text and "length 3, padded to 4" in caplog.text


def test_a_record_damaged_in_the_middle_is_one_clear_line(workspace):
    path = workspace / "train.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        run(workspace, do_eval=False)


def test_diverging_training_is_stopped(workspace):
    message = "diverged at step .*grad_norm.*learning_rate.*last good checkpoint, .*model.ckpt-"
    with pytest.raises(UserError, match=message):
        run(
            workspace,
            learning_rate=1e38,
            num_train_steps=20,
            save_checkpoints_steps=1,
            do_eval=False,
        )
    for index in (workspace / "out").glob("*.index"):
        reader = tf.train.load_checkpoint(str(index)[: -len(".index")])
        for name in reader.get_variable_to_shape_map():
            assert np.all(np.isfinite(reader.get_tensor(name))), name


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"do_train": False, "do_eval": False}, "nothing to do"),
        ({"do_train": False}, "holds no checkpoint"),
        ({"do_eval": False, "eval_every_steps": 2}, "eval_every_steps=2 needs"),
        ({"input_file": None}, "--input_file"),
        ({"input_file": "nowhere/*.tfrecord"}, "nowhere"),
        ({"eval_input_file": "nowhere.tfrecord"}, "nowhere.tfrecord"),
        ({"output_dir": None}, "--output_dir"),
        ({"bert_config_file": None}, "--bert_config_file"),
        ({"bert_config_file": "nowhere.json"}, "nowhere.json"),
        ({"max_seq_length": 17}, "max_position_embeddings=16"),
        ({"max_seq_length": 12}, "input_ids has length 16 but the flags allow 12"),
        ({"max_predictions_per_seq": 3}, "has length 4 but the flags allow 3"),
        ({"init_checkpoint": "nowhere/bert_model.ckpt"}, "nowhere/bert_model.ckpt"),
        ({"use_tpu": True}, "--tpu_name"),
        ({"use_tpu": True, "tpu_name": "grpc://10.0.0.1:8470"}, "local path"),
        ({"num_warmup_steps": 5}, "num_warmup_steps"),
        ({"train_batch_size": 0}, "train_batch_size"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"max_seq_len": 3}, "max_seq_len"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(workspace, changes, words):
    with pytest.raises(UserError, match=words) as raised:
        run(workspace, **changes)
    assert "\n" not in str(raised.value)
    assert not (workspace / "out").exists()


def test_a_model_of_one_segment_is_refused(workspace):
    helpers.write_config(workspace, 60, SEQUENCE, type_vocab_size=1)
    with pytest.raises(UserError, match="type_vocab_size=1 in the config"):
        run(workspace)


def test_check_only_looks_at_everything_and_writes_nothing(workspace, capsys):
    with pytest.raises(SystemExit) as ended:
        run(workspace, check_only=True)
    assert ended.value.code == 0
    *lines, last = capsys.readouterr().out.splitlines()
    passed = [line.split()[1] for line in lines if line.startswith("ok ")]
    assert passed == [line.split()[1] for line in lines if not line.startswith("warn")]
    assert {"flags", "config", "records", "devices", "start", "weights"} <= set(passed)
    assert "checks passed" in last and not (workspace / "out").exists()


@pytest.mark.parametrize("use_xla", [False, True])
def test_a_run_on_a_gpu_without_xla_is_told_of_it(workspace, monkeypatch, capsys, use_xla):
    monkeypatch.setattr(devices, "accelerator", lambda settings: "GPU")
    with pytest.raises(SystemExit):
        run(workspace, check_only=True, use_xla=use_xla)
    assert ("--use_xla=True trains faster" in capsys.readouterr().out) is not use_xla


def test_check_only_finds_a_file_that_lacks_its_end(workspace, monkeypatch, capsys):
    path = workspace / "train.tfrecord"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SystemExit) as ended:
        run(workspace, check_only=True)
    told = capsys.readouterr().out
    assert ended.value.code == 2 and "--skip_damaged=True" in told
    assert re.search(r"FAIL  records .*train.tfrecord: record \d+ at byte \d+ is damaged", told)
    with pytest.raises(SystemExit) as ended:
        run(workspace, check_only=True, skip_damaged=True)
    told = capsys.readouterr().out
    assert ended.value.code == 0 and re.search(r"warn  records .*is damaged", told)
    assert re.search(r"ok    records .*; \d+ records read", told)
    monkeypatch.setattr(reader, "CHECKED_BYTES", 1)
    with pytest.raises(SystemExit) as ended:
        run(workspace, check_only=True)
    assert ended.value.code == 0 and "; only their first read" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["input_file", "eval_input_file"])
def test_ids_beyond_the_vocabulary_are_named(workspace, name, capsys):
    """The ids are compared because no manifest names the vocabulary of the records."""
    many = workspace / "many.tfrecord"
    write_records(str(many), count=20)
    helpers.write_config(workspace, 59, SEQUENCE, num_hidden_layers=1)  # the largest id is 59
    with pytest.raises(SystemExit) as end:
        run(workspace, check_only=True, **{name: many})
    assert end.value.code == 2
    words = (
        r"FAIL  records .*\.tfrecord: record \d+ holds piece 59 in input_ids, but vocab_size is 59"
    )
    assert re.search(words, capsys.readouterr().out)
    for path in (many, workspace / "train.tfrecord", workspace / "dev.tfrecord"):
        manifest.write_manifest(str(path), {"vocab_size": 59})
    with pytest.raises(SystemExit) as end:
        run(workspace, check_only=True, **{name: many})
    assert end.value.code == 0
    with pytest.raises(UserError, match=r"a record holds id 59, but the model has 59 rows for"):
        run(workspace, **{name: many})


def test_the_default_of_the_warm_up_is_named_with_what_to_give(workspace, capsys):
    values = {"num_warmup_steps": None, "check_only": True}
    with pytest.raises(SystemExit):
        run(workspace, **values)
    told = capsys.readouterr().out
    given = re.search(
        r"FAIL  optimizer .*less than the default .*, 3125: give --num_warmup_steps=(\d+) ", told
    ).group(1)
    with pytest.raises(SystemExit) as ended:
        run(workspace, **dict(values, num_warmup_steps=given))
    assert ended.value.code == 0


def test_check_only_tells_all_mistakes_at_once(workspace, capsys):
    with pytest.raises(SystemExit) as ended:
        run(
            workspace,
            check_only=True,
            max_seq_length=12,
            num_warmup_steps=5,
            init_checkpoint="nowhere/bert_model.ckpt",
        )
    assert ended.value.code == 2
    lines = capsys.readouterr().out.splitlines()
    failed, skipped = (
        {line.split()[1]: line for line in lines if line.startswith(status)}
        for status in ("FAIL ", "skip ")
    )
    assert set(failed) == {"optimizer", "records", "start"}
    assert set(skipped) == {"output_dir", "vocabulary", "weights", "devices", "memory"}
    assert "num_warmup_steps" in failed["optimizer"] and "allow 12" in failed["records"]
    assert "nowhere/bert_model.ckpt" in failed["start"]


def test_check_only_holds_checkpoint_against_model(continued, capsys):
    config = json.loads((continued / "config.json").read_text())
    new = {"output_dir": continued / "new", "init_checkpoint": continued / "out"}
    for field, flags, words in (
        ({"intermediate_size": 48}, {}, "another model"),
        ({"intermediate_size": 48}, new, "has shape"),
        ({"embedding_size": 16}, new, "the checkpoint, whose embedding_size is 8"),
    ):
        (continued / "config.json").write_text(json.dumps(dict(config, **field)))
        with pytest.raises(SystemExit) as ended:
            run(continued, check_only=True, **flags)
        assert ended.value.code == 2
        [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("FAIL ")]
        assert line.startswith("FAIL  weights") and words in line


def test_manifest_is_held_against_the_flags(workspace):
    made = {"flags": {"max_seq_length": SEQUENCE}, "vocab_size": 21128}
    manifest.write_manifest(str(workspace / "train.tfrecord"), made)
    with pytest.raises(UserError, match="vocab_size=21128, here it is 60"):
        run(workspace)
    assert not (workspace / "out").exists()


@pytest.mark.parametrize("field, value", [("hidden_size", 32), ("num_hidden_layers", 3)])
def test_output_dir_of_another_model_is_refused(continued, field, value):
    config = json.loads((continued / "config.json").read_text())
    config.update({field: value, "parameter_sharing": "none"})
    (continued / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="another model"):
        run(continued, num_train_steps=6)


def test_heads_that_no_variable_tells_are_held_against_the_config_of_the_run(continued, trained):
    config = json.loads((continued / "config.json").read_text())
    (continued / "config.json").write_text(json.dumps(dict(config, num_attention_heads=4)))
    starts = {"output_dir": continued / "new", "init_checkpoint": trained / "out" / "best"}
    for changes in ({"num_train_steps": 6}, starts):
        with pytest.raises(UserError, match="albert_config.json says num_attention_heads=2, .* 4"):
            run(continued, **changes)
    assert not (continued / "new").exists()


def test_check_only_tells_of_other_settings_as_the_run_does(continued, monkeypatch, capsys, caplog):
    before = (continued / "out" / "record_index.json").read_text()
    changes = {"learning_rate": 0.5, "random_seed": 5, "do_eval": False, "num_train_steps": 6}
    changes["init_checkpoint"] = continued / "out" / "best"
    with pytest.raises(SystemExit) as ended:
        run(continued, check_only=True, **changes)
    lines = capsys.readouterr().out.splitlines()
    told = [line[len("warn  weights     ") :] for line in lines if line.startswith("warn ")]
    words = "other settings: learning_rate 0.00176, now 0.5; num_train_steps 4, now 6; the run "
    assert ended.value.code == 0 and any(words in line for line in told)
    [start] = [line for line in lines if line.startswith("ok    start ")]
    assert re.search("--init_checkpoint=.*best is ignored", start)
    assert any("in another order until now (seed 5 instead of 12345)" in line for line in told)
    assert (continued / "out" / "record_index.json").read_text() == before
    monkeypatch.setattr(loop, "train_and_evaluate", lambda *_: None)
    with caplog.at_level("WARNING"):
        run(continued, **changes)
    assert set(told) <= set(caplog.messages)
    assert {line for line in caplog.messages if "/out was " in line} <= set(told)
    caplog.clear()
    with caplog.at_level("WARNING"):  # the run keeps the new settings
        run(continued, **changes)
    assert "other settings" not in caplog.text and "another order" not in caplog.text
    run(continued, do_train=False)
    made_with = json.loads((continued / "out" / "results.json").read_text())["made_with"]
    assert (made_with["learning_rate"], made_with["rate_factors"]) == (0.5, 1.0)


def test_an_optimizer_with_the_same_variables_is_refused(continued):
    path = continued / "out" / "results.json"
    report = json.loads(path.read_text())
    report["made_with"]["optimizer"] = "adamw"
    path.write_text(json.dumps(report))
    for check_only in (False, True):
        with pytest.raises((UserError, SystemExit)) as ended:
            run(continued, check_only=check_only)
        if not check_only:
            assert "another optimizer, adamw: give the --optimizer" in str(ended.value)
    assert ended.value.code == 2
    run(continued, do_train=False)


def test_output_dir_of_another_optimizer_is_refused(continued):
    with pytest.raises(UserError, match="another optimizer, without .*adam_m"):
        run(continued, num_train_steps=6, optimizer="adamw")
