"""However a batch is divided, run_pretraining.py trains the same weights."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from test_run_pretraining import PREDICTIONS, SEQUENCE, run

import modeling
from pipeline import records
from pipeline.errors import UserError

STEPS, BATCH = 3, 8
FLAGS = {
    "train_batch_size": BATCH,
    "num_train_steps": STEPS,
    "num_warmup_steps": 0,
    "learning_rate": 0.02,
    "do_eval": False,
    "eval_input_file": None,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Config without dropout, records of 1 to PREDICTIONS masked pieces, and a run in `whole`."""
    folder = tmp_path_factory.mktemp("placement")
    config = modeling.AlbertConfig(
        vocab_size=60,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=SEQUENCE,
    )
    (folder / "config.json").write_text(config.to_json_string())
    write_uneven_records(str(folder / "train.tfrecord"))
    run(folder, output_dir=folder / "whole", **FLAGS)
    return folder


def write_uneven_records(path):
    random = np.random.RandomState(0)
    schema = records.pretraining_schema(SEQUENCE, PREDICTIONS)
    with records.RecordWriter(path) as writer:
        for number in range(STEPS * BATCH):
            values = {
                "input_ids": random.randint(5, 60, SEQUENCE),
                "input_mask": np.arange(SEQUENCE) < random.randint(6, SEQUENCE + 1),
                "segment_ids": np.arange(SEQUENCE) // 4 % 2,
                "masked_lm_positions": np.arange(1, PREDICTIONS + 1),
                "masked_lm_ids": random.randint(5, 60, PREDICTIONS),
                "masked_lm_weights": np.arange(PREDICTIONS) <= number % PREDICTIONS,
                "next_sentence_labels": [random.randint(2)],
            }
            writer.write(records.serialize(schema, values))


def weights(folder):
    reader = tf.train.load_checkpoint(str(folder))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_weights(folder, reference):
    found, expected = weights(folder), weights(reference)
    assert set(found) == set(expected) and found["global_step"] == STEPS
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_micro_batches_equal_one_batch(workspace, micro_batch, caplog):
    folder = workspace / str(micro_batch)
    with caplog.at_level("INFO", logger="tensorflow"):
        run(workspace, output_dir=folder, micro_batch_size=micro_batch, **FLAGS)
    assert "micro-batches of {}".format(micro_batch) in caplog.text
    assert_same_weights(folder, workspace / "whole")


def test_a_micro_batch_that_does_not_divide_is_refused(workspace):
    with pytest.raises(UserError, match="--micro_batch_size=3 does not divide the 8 examples"):
        run(workspace, output_dir=workspace / "none", micro_batch_size=3, **FLAGS)
    assert not (workspace / "none").exists()
