"""A run that was killed or stopped, and continued, ends with the bits of a run without a stop."""

import os
import random
import time

import compact_rows
import helpers
import numpy as np
import programs
import pytest
import record_files
import tensorflow.compat.v1 as tf

import run_pretraining
from checkpointing import run_folder
from tfrecords import compact, index, wire

SEQUENCE, PREDICTIONS, STEPS = 16, 4, 60


def write_workspace(folder, is_compact):
    """Write a model config, and 300 records in two files."""
    rates = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    helpers.write_config(folder, 60, SEQUENCE, num_hidden_layers=1, **rates)
    draws = np.random.RandomState(0)
    schema = wire.pretraining_schema(SEQUENCE, PREDICTIONS)
    for name in ("a", "b"):
        if is_compact:
            limits = compact.Limits(SEQUENCE, 2, 60)
            rows = [compact_rows.random_row(draws, limits) for _ in range(150)]
            compact_rows.write(str(folder / (name + ".tfrecord")), rows, limits)
            continue
        with record_files.RecordWriter(str(folder / (name + ".tfrecord"))) as writer:
            for _ in range(150):
                values = {feature.name: draws.randint(2, size=feature.length) for feature in schema}
                values["input_ids"] = draws.randint(60, size=SEQUENCE)
                values["masked_lm_positions"] = np.arange(1, PREDICTIONS + 1)
                values["masked_lm_ids"] = draws.randint(60, size=PREDICTIONS)
                writer.write(record_files.serialize(schema, values))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with records; `whole` holds a run from its first step to its last."""
    folder = tmp_path_factory.mktemp("resume")
    write_workspace(folder, is_compact=False)
    helpers.run(run_pretraining, flags(folder, "whole"))
    return folder


def flags(workspace, output, **changes):
    values = {
        "input_file": workspace / "*.tfrecord",
        "bert_config_file": workspace / "config.json",
        "output_dir": workspace / output,
        "do_train": True,
        "max_seq_length": SEQUENCE,
        "max_predictions_per_seq": PREDICTIONS,
        "train_batch_size": 7,
        "shuffle_buffer": 64,
        "num_train_steps": STEPS,
        "num_warmup_steps": 5,
    }
    values.update(changes)
    return values


def assert_same_bits(folder, expected):
    helpers.assert_same_bits(folder, expected)
    found = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder)))
    assert any("lamb_m" in name for name in found.get_variable_to_shape_map())
    assert found.get_tensor("global_step") == STEPS


def test_training_with_evaluations_goes_on_at_the_right_record(workspace):
    """Each evaluation ends the input of training, which then starts anew."""
    values = flags(workspace, "parts", do_eval=True, eval_every_steps=43)
    helpers.run(run_pretraining, values)
    assert_same_bits(workspace / "parts", workspace / "whole")


def test_another_order_gives_other_weights(workspace):
    """The weights that the other tests compare depend on the order of the records."""
    helpers.run(run_pretraining, flags(workspace, "other", shuffle_buffer=300))
    with pytest.raises(AssertionError):
        assert_same_bits(workspace / "other", workspace / "whole")


def test_a_killed_run_loses_nothing(tmp_path):
    """The run is killed at random moments, mostly while it writes one of its many checkpoints.

    The records are compact; the same code starts the input at a step for both formats.
    """
    write_workspace(tmp_path, is_compact=True)
    values = flags(tmp_path, "killed", save_checkpoints_steps=1)
    output = tmp_path / "killed"
    moments = random.Random(int(os.environ.get("KILL_SEED", "1")))
    for _ in range(int(os.environ.get("KILLS", "2"))):
        before = run_folder.latest_step(str(output))
        words = helpers.arguments(values)
        with programs.Program("run_pretraining.py", words, optimized=True) as program:
            while run_folder.latest_step(str(output)) == before and program.is_running():
                time.sleep(0.01)
            time.sleep(moments.random() * 0.5)
            assert program.is_running(), program.log()
    assert (output / index.CACHE_NAME).exists()
    assert 0 < run_folder.latest_step(str(output)) < STEPS
    with helpers.optimized():
        helpers.run(run_pretraining, values)
        helpers.run(run_pretraining, flags(tmp_path, "whole"))
    assert_same_bits(output, tmp_path / "whole")
