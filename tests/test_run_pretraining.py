"""run_pretraining.py from the command line's flags to files, on tiny random records."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
import run_pretraining
from pipeline import cli, manifest, records
from pipeline.errors import UserError
from pipeline.examples import pretraining_schema

SEQUENCE, PREDICTIONS = 16, 4


@pytest.fixture
def workspace(tmp_path):
    """A folder with a model config and twelve records."""
    config = modeling.AlbertConfig(
        vocab_size=60,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=SEQUENCE,
    )
    (tmp_path / "config.json").write_text(config.to_json_string())
    write_records(str(tmp_path / "train.tfrecord"), count=12)
    write_records(str(tmp_path / "dev.tfrecord"), count=5, seed=1)
    return tmp_path


def write_records(path, count, sequence=SEQUENCE, predictions=PREDICTIONS, seed=0):
    random = np.random.RandomState(seed)
    with records.RecordWriter(path) as writer:
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
            writer.write(records.serialize(schema, values))


def run(workspace, **changes):
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
    argv = ["run_pretraining.py"]
    argv += ["--{}={}".format(key, value) for key, value in values.items() if value is not None]
    run_pretraining.main(cli.parse(run_pretraining.define_flags, argv))


def results(workspace, folder="out"):
    return json.loads((workspace / folder / "eval_results.json").read_text())


@pytest.mark.parametrize("optimizer", ["lamb", "adamw"])
def test_trains_evaluates_and_goes_on(workspace, optimizer):
    run(workspace, optimizer=optimizer)
    found = results(workspace)
    assert found["global_step"] == 4
    assert found["loss"] == pytest.approx(found["masked_lm_loss"] + found["sentence_order_loss"])
    assert 0 <= found["masked_lm_accuracy"] <= 1 and 0 <= found["sentence_order_accuracy"] <= 1
    run(workspace, optimizer=optimizer, num_train_steps=6)
    assert results(workspace)["global_step"] == 6


def test_evaluation_equals_a_plain_average_over_all_examples(workspace):
    """Five examples in batches of four: none is lost, none counts twice."""
    run(workspace)
    with tf.Graph().as_default(), tf.Session() as session:
        input_fn = records.make_input_fn(
            [str(workspace / "dev.tfrecord")],
            pretraining_schema(SEQUENCE, PREDICTIONS),
            training=False,
        )
        features = tf.data.make_one_shot_iterator(input_fn({"batch_size": 5})).get_next()
        config = modeling.AlbertConfig.from_json_file(str(workspace / "config.json"))
        outputs = run_pretraining.make_forward(config)(features, tf.estimator.ModeKeys.EVAL)
        checkpoint = tf.train.latest_checkpoint(str(workspace / "out"))
        tf.train.Saver(tf.trainable_variables()).restore(session, checkpoint)
        expected = session.run(outputs.scalars)
    for name, value in expected.items():
        assert results(workspace)[name] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["lamb", "adamw"])
def test_learns_what_can_be_learned(workspace, optimizer):
    """Only 4 of 60 pieces are ever masked: the loss must fall from log(60) to about log(4)."""
    run(workspace, num_train_steps=80, learning_rate=0.05, optimizer=optimizer)
    assert results(workspace)["masked_lm_loss"] < np.log(4) + 0.2


def test_same_seed_same_weights(workspace):
    for folder in ("one", "two"):
        run(workspace, output_dir=workspace / folder, do_eval=False)
    one, two = (
        tf.train.load_checkpoint(tf.train.latest_checkpoint(str(workspace / folder)))
        for folder in ("one", "two")
    )
    for name in one.get_variable_to_shape_map():
        np.testing.assert_array_equal(one.get_tensor(name), two.get_tensor(name), name)


def test_warm_start_takes_weights_and_starts_at_step_0(workspace):
    run(workspace, output_dir=workspace / "first", do_eval=False)
    first = tf.train.latest_checkpoint(str(workspace / "first"))
    run(workspace, init_checkpoint=first, learning_rate=1e-9, num_train_steps=1)
    second = tf.train.latest_checkpoint(str(workspace / "out"))
    assert second.endswith("-1")
    name = "bert/encoder/layer_shared/intermediate/dense/kernel"
    np.testing.assert_allclose(
        tf.train.load_variable(second, name), tf.train.load_variable(first, name), atol=1e-6
    )


def test_slots_follow_the_layout(workspace):
    run(workspace, do_eval=False)
    names = tf.train.load_checkpoint(
        tf.train.latest_checkpoint(str(workspace / "out"))
    ).get_variable_to_shape_map()
    assert "bert/pooler/dense/kernel/lamb_m" in names
    assert not any("adam_m" in name for name in names)


def test_evaluation_on_training_files_is_told(workspace, caplog):
    with caplog.at_level("WARNING", logger="tensorflow"):
        run(workspace, eval_input_file=None)
    assert "EVALUATION ON THE TRAINING FILES" in caplog.text


def test_shorter_records_are_padded_with_a_warning(workspace, caplog):
    write_records(str(workspace / "short.tfrecord"), 4, sequence=12, predictions=3)
    with caplog.at_level("WARNING", logger="tensorflow"):
        run(workspace, input_file=workspace / "short.tfrecord", do_eval=False)
    assert "length 12, padded to 16" in caplog.text and "length 3, padded to 4" in caplog.text


def test_a_record_damaged_in_the_middle_is_one_clear_line(workspace):
    path = workspace / "train.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        run(workspace, do_eval=False)


def test_diverging_training_is_stopped(workspace):
    with pytest.raises(UserError, match="diverged at step .*learning_rate"):
        run(workspace, learning_rate=1e38, num_train_steps=20, do_eval=False)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"do_train": False, "do_eval": False}, "nothing to do"),
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


def test_manifest_is_held_against_the_flags(workspace):
    made = {"flags": {"max_seq_length": SEQUENCE}, "vocab_size": 21128}
    manifest.write_manifest(str(workspace / "train.tfrecord"), made)
    with pytest.raises(UserError, match="vocab_size=21128, here it is 60"):
        run(workspace)
    assert not (workspace / "out").exists()


def test_output_dir_of_another_model_is_refused(workspace):
    run(workspace, do_eval=False)
    config = json.loads((workspace / "config.json").read_text())
    config["hidden_size"] = 32
    (workspace / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="another model"):
        run(workspace, num_train_steps=6)
