"""run_pretraining.py trains the same weights, however a batch is divided."""

import contextlib
import json
import signal
import socket
import time

import helpers
import numpy as np
import programs
import pytest
import record_files
from helpers import variables_of

import modeling
import run_pretraining
from checkpointing import arrays as checkpoint_arrays
from checkpointing import run_folder
from common.errors import UserError
from tfrecords import wire

STEPS, BATCH = 3, 8
SEQUENCE, PREDICTIONS = 16, 4


def flags(workspace, folder, **changes):
    values = {
        "input_file": workspace / "train.tfrecord",
        "bert_config_file": workspace / "config.json",
        "output_dir": workspace / folder,
        "max_seq_length": SEQUENCE,
        "max_predictions_per_seq": PREDICTIONS,
        "train_batch_size": BATCH,
        "num_train_steps": STEPS,
        "num_warmup_steps": 0,
        "learning_rate": 0.02,
        "do_train": True,
    }
    return dict(values, **changes)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Config without dropout, records of 1 to PREDICTIONS masked pieces, and two runs.

    The run in `whole` starts from random weights, the run in `warm` from the weights in `start`.
    """
    folder = tmp_path_factory.mktemp("placement")
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    helpers.write_config(folder, 60, SEQUENCE, num_hidden_layers=1, **without)
    write_uneven_records(str(folder / "train.tfrecord"))
    helpers.run(run_pretraining, flags(folder, "whole"))
    write_start(folder)
    helpers.run(run_pretraining, warm_flags(folder, "warm"))
    return folder


def write_start(workspace):
    """Write random kernels, and biases of zero.

    The gradient of a key's bias is zero but for rounding errors, and LAMB would scale these errors
    to steps as long as the bias.
    """
    config = modeling.AlbertConfig.from_json_file(str(workspace / "config.json"))
    rng = np.random.RandomState(1)
    arrays = {}
    for name, shape in modeling.parameter_shapes(config).items():
        value = rng.normal(0, 0.1, shape) if len(shape) > 1 else np.zeros(shape)
        arrays[name] = (value + name.endswith("gamma")).astype(np.float32)
    checkpoint_arrays.write(str(workspace / "start" / "model.ckpt"), arrays)


def warm_flags(workspace, folder, **changes):
    return flags(workspace, folder, init_checkpoint=workspace / "start" / "model.ckpt", **changes)


def write_uneven_records(path):
    random = np.random.RandomState(0)
    schema = wire.pretraining_schema(SEQUENCE, PREDICTIONS)
    with record_files.RecordWriter(path) as writer:
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
            writer.write(record_files.serialize(schema, values))


def assert_same_weights(folder, reference):
    found, expected = variables_of(folder), variables_of(reference)
    assert set(found) == set(expected) and found["global_step"] == STEPS
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


def test_a_compiled_step_on_micro_batches_equals_one_batch(workspace):
    helpers.run(run_pretraining, flags(workspace, "xla", micro_batch_size=4, use_xla=True))
    assert_same_weights(workspace / "xla", workspace / "whole")


def test_recomputation_under_xla_is_refused_and_without_it_equals_one_batch(workspace, caplog):
    """XLA would undo the recomputation. The run has as many micro-batches as examples."""
    values = flags(workspace, "recomputed", micro_batch_size=1, recompute_activations=True)
    with pytest.raises(UserError, match="does nothing if XLA"):
        helpers.run(run_pretraining, dict(values, use_xla=True))
    with caplog.at_level("INFO", logger="tensorflow"):
        helpers.run(run_pretraining, values)
    assert "micro-batches of 1" in caplog.text
    assert_same_weights(workspace / "recomputed", workspace / "whole")


def test_float16_goes_on_with_its_loss_scale(workspace):
    """After an evaluation, training continues from the last checkpoint."""
    helpers.run(run_pretraining, flags(workspace, "half", precision="float16"))
    values = flags(workspace, "parts", precision="float16", do_eval=True, eval_every_steps=2)
    helpers.run(run_pretraining, values)
    whole, parts = (
        variables_of(workspace / "half"),
        variables_of(workspace / "parts"),
    )
    assert whole["good_steps"] == STEPS and whole["loss_scale"] == 2.0**15
    for name, value in whole.items():
        assert value.dtype != np.float16
        np.testing.assert_array_equal(parts[name], value, name)
    with pytest.raises(UserError, match="without good_steps: give .* --precision"):
        helpers.run(
            run_pretraining, flags(workspace, "whole", precision="float16", num_train_steps=4)
        )


def test_replicas_with_micro_batches_that_start_from_a_checkpoint_equal_one_batch(workspace):
    """If a replica started from other weights, the gradients would differ."""
    values = warm_flags(workspace, "mirrored", strategy="mirrored", micro_batch_size=2)
    status, log = programs.run("run_pretraining.py", helpers.arguments(values), num_cpus=2)
    assert status == 0, log
    assert "batch 8 = 2 replicas x 2 micro-batches of 2" in log
    assert_same_weights(workspace / "mirrored", workspace / "warm")
    name = "bert/embeddings/word_embeddings"
    assert np.any(variables_of(workspace / "warm")[name] != variables_of(workspace / "whole")[name])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextlib.contextmanager
def machines(values):
    """A context with two processes that train together, each on half a batch."""
    values = dict(values, strategy="multi_worker")
    cluster = {"worker": ["localhost:{}".format(port) for port in free_ports(2)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                programs.Program(
                    "run_pretraining.py", helpers.arguments(values), TF_CONFIG=json.dumps(task)
                )
            )
            for task in tasks
        ]


def test_machines_equal_one_and_the_chief_alone_evaluates(workspace):
    """Only the first process evaluates, after steps 2 and 3."""
    with machines(flags(workspace, "machines", do_eval=True, eval_every_steps=2)) as workers:
        statuses = [worker.wait() for worker in workers]
        logs = [worker.log() for worker in workers]
    assert statuses == [0, 0], "\n".join(logs)
    assert_same_weights(workspace / "machines", workspace / "whole")
    history = (workspace / "machines" / "eval_history.jsonl").read_text()
    assert [json.loads(line)["global_step"] for line in history.splitlines()] == [2, 3]
    assert "Results in" in logs[0] and "Results in" not in logs[1]


def test_a_signal_to_one_machine_ends_all_of_them(workspace):
    values = flags(workspace, "ended", num_train_steps=10**6, save_checkpoints_steps=1)
    with machines(values) as workers:
        while run_folder.latest_step(str(workspace / "ended")) < 2:
            assert all(worker.is_running() for worker in workers), workers[0].log()
            time.sleep(0.01)
        workers[1].send_signal(signal.SIGTERM)
        assert [worker.wait() for worker in workers] == [143, 143]
        assert all("Ended by a signal" in worker.log() for worker in workers)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"micro_batch_size": 3}, "--micro_batch_size=3 does not divide the 8 examples"),
        ({"strategy": "multi_worker"}, "TF_CONFIG"),
        ({"strategy": "mirrored", "use_tpu": True, "tpu_name": "a"}, "contradict"),
        ({"require_accelerator": True}, "no GPU"),
    ],
)
def test_devices_that_do_not_fit_are_named_before_anything_is_written(workspace, changes, words):
    with pytest.raises(UserError, match=words):
        helpers.run(run_pretraining, flags(workspace, "none", **changes))
    assert not (workspace / "none").exists()
