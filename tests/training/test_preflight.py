"""training/preflight.py: all that is wrong is told at once, or ends the run at its first."""

import collections
import re
import types

import pytest
import tensorflow.compat.v1 as tf

from common.errors import UserError
from tfrecords import manifest
from training import devices, preflight


def good(plan):
    plan.size = 3
    return "size 3"


def bad(plan):
    raise UserError("--flag=4 is too much: lower it")


def odd(plan):
    for _ in range(2):
        tf.logging.warning("size %d is\nodd", plan.size)
    return "looked at"


def needs_more(plan):
    plan.other = plan.weight
    return "never"


def and_more(plan):
    return "never {}".format(plan.other)


def args(check_only=True, **values):
    return types.SimpleNamespace(check_only=check_only, **values)


def test_every_check_has_its_line(capsys):
    checks = [("one", good), ("two", bad), ("three", odd), ("four", needs_more), ("five", and_more)]
    with pytest.raises(SystemExit) as ended:
        preflight.run(checks, args())
    assert ended.value.code == 2
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        "ok    one         size 3",
        "FAIL  two         --flag=4 is too much: lower it",
        "warn  three       size 3 is odd",
        "ok    three       looked at",
        "FAIL  four        not looked at: weight is missing, see above",
        "FAIL  five        not looked at: other is missing, see above",
    ]
    assert last.startswith("3 of 5 checks failed in ")


def test_all_well_is_status_0(capsys):
    with pytest.raises(SystemExit) as ended:
        preflight.run([("one", good), ("three", odd)], args())
    assert ended.value.code == 0
    assert "All 2 checks passed" in capsys.readouterr().out


def test_a_run_gets_the_plan_or_the_first_error(caplog):
    with caplog.at_level("WARNING", logger="tensorflow"):
        assert preflight.run([("one", good), ("three", odd)], args(False)).size == 3
    assert "size 3" in caplog.text
    with pytest.raises(UserError, match="--flag=4"):
        preflight.run([("one", good), ("two", bad), ("four", needs_more)], args(False))
    with pytest.raises(preflight.Missing):  # a defect of the checks themselves
        preflight.run([("four", needs_more)], args(False))


@pytest.mark.parametrize(
    "optimizer, rate, batch, hidden, words",
    [
        ("lamb", 0.00176, 4096, 768, None),
        ("lamb", 0.00176, 4096, 4096, None),
        ("lamb", 0.00176, 8, 768, "far from 7.8e-05.*may diverge"),
        ("lamb", 1e-6, 4096, 768, "far from 0.0018.*very long"),
        ("adamw", 5e-4, 32, 312, None),  # README's, for one machine
        ("adamw", 7e-4, 16, 312, None),  # the recipe's
        ("adamw", 2e-5, 64, 1024, None),  # fine-tuning
        ("adamw", 0.00176, 16, 768, "may diverge"),
        ("other", 1e9, 16, 768, None),
    ],
)
def test_warns_of_a_rate_that_does_not_suit(optimizer, rate, batch, hidden, words, caplog):
    with caplog.at_level("WARNING", logger="tensorflow"):
        preflight.warn_of_learning_rate(optimizer, rate, batch, hidden)
    if words is None:
        assert caplog.text == ""
    else:
        [message] = caplog.messages
        assert re.search(words, message)


def test_vocabulary_beside_the_model_is_compared(tmp_path, caplog):
    made, model = tmp_path / "a.tfrecord", tmp_path / "model"
    model.mkdir()
    plan = preflight.Plan(
        files=[str(made)],
        args=args(bert_config_file=str(model / "config.json"), init_checkpoint=None),
    )
    assert "not known" in preflight.look_at_vocabulary(plan)
    (model / "vocab.txt").write_text("天\n", encoding="utf-8")
    digest = "4c26a0f0c8bf3a40a9bde1a4ee4a5b2f7a7e5ae8a9d2a3c1d4e5f60718293a4b"
    manifest.write_manifest(str(made), {"vocab_sha256": digest, "vocab_size": 9})
    with caplog.at_level("WARNING", logger="tensorflow"):
        assert preflight.look_at_vocabulary(plan) == "9 pieces, sha256 4c26a0f0c8bf..."
    assert "another vocabulary than {}".format(model / "vocab.txt") in caplog.text
    caplog.clear()
    digest = preflight.files.sha256(str(model / "vocab.txt"))
    manifest.write_manifest(str(made), {"vocab_sha256": digest, "vocab_size": 1})
    with caplog.at_level("WARNING", logger="tensorflow"):
        preflight.look_at_vocabulary(plan)
    assert caplog.text == ""


@pytest.fixture
def disk_plan(tmp_path):
    """A plan whose checkpoints take 3 * 4 * 1e9 bytes."""
    settings = types.SimpleNamespace(output_dir=str(tmp_path / "a" / "b"), keep_checkpoint_max=5)
    return preflight.Plan(
        args=args(do_train=True),
        settings=settings,
        folders=[settings.output_dir],
        keeps_best=False,
        num_weights=10**9,
        slot_names=("m", "v"),
    )


def free(monkeypatch, count):
    usage = collections.namedtuple("usage", "free")(count)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage)


def test_disk_must_have_room_for_all_checkpoints(disk_plan, monkeypatch):
    free(monkeypatch, 6 * 12 * 10**9)
    assert "72 GB free, a checkpoint takes 12 GB, 6 at most" in preflight.look_at_disk(disk_plan)
    disk_plan.keeps_best = True
    with pytest.raises(UserError, match="72 GB free but 7 checkpoints of 12 GB need 84 GB"):
        preflight.look_at_disk(disk_plan)
    disk_plan.args.do_train = False
    preflight.look_at_disk(disk_plan)


def test_output_dir_must_be_a_folder(disk_plan, tmp_path, monkeypatch):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="cannot be written to: .*/a is a file"):
        preflight.look_at_disk(disk_plan)
    (tmp_path / "a").unlink()
    monkeypatch.setattr(preflight.os, "access", lambda *_: False)
    with pytest.raises(UserError, match="is read-only for you"):
        preflight.look_at_disk(disk_plan)


@pytest.mark.parametrize("micro_batch, fits", [(8, True), (9, False)])
def test_memory_is_held_against_the_device(micro_batch, fits, monkeypatch, caplog):
    weights, example = 10**6, 10**8
    memory = devices.Memory("GPU", devices.BYTES_PER_WEIGHT * weights + 8 * example)
    monkeypatch.setattr(devices, "free_memory", lambda *_: memory)
    plan = preflight.Plan(
        settings=types.SimpleNamespace(use_tpu=False),
        step_memory=devices.StepMemory(weights, example),
        placement=devices.Placement(1, 72, micro_batch),
    )
    with caplog.at_level("WARNING", logger="tensorflow"):
        assert "examples at a time; 0.82 GB are free on the GPU" in preflight.look_at_memory(plan)
    assert ("does not fit" in caplog.text) != fits
