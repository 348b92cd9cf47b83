"""The checks before a run: every check prints its line, or the first mistake ends the run."""

import collections
import functools
import os
import re
import types

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import finetuning.run_checks
import modeling
import pretraining.run_checks
import run_classifier
import run_pretraining
from checkpointing import arrays as weights
from checkpointing import run_folder
from common import checks, cli, files
from common.errors import UserError
from kinds.classification import Classification
from tfrecords import index, manifest
from training import best_checkpoint, memory, preflight, run_report
from training.memory import FreeMemory, StepMemory
from training.placement import Computation, Placement


def good():
    return 3, "size 3"


def bad(*_):
    raise UserError("--flag=4 is too much: lower it")


def odd(size):
    for _ in range(2):
        tf.logging.warning("size %d is\nodd", size)
    return size, "seen"


def needs(*values):
    return values, "never"


def args(check_only=True, **values):
    return types.SimpleNamespace(check_only=check_only, **values)


def check_all(_, check):
    size, broken = check("one", good), check("two", bad)
    check("three", odd, size)
    more = check("four", needs, size, broken)
    check("five", needs, more)


def two_good_ones(_, check):
    return check("two", odd, check("one", good))


def test_every_check_has_its_line(capsys):
    with pytest.raises(SystemExit) as ended:
        checks.run_checks(check_all, args())
    assert ended.value.code == 2
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        "ok    one         size 3",
        "FAIL  two         --flag=4 is too much: lower it",
        "warn  three       size 3 is odd",
        "ok    three       seen",
        "skip  four        not checked: it needs two, which failed",
        "skip  five        not checked: it needs two, which failed",
    ]
    assert last.startswith("1 of 5 checks failed, 2 were not made, in ")


def test_all_well_is_status_0(capsys):
    with pytest.raises(SystemExit) as ended:
        checks.run_checks(two_good_ones, args())
    assert ended.value.code == 0
    assert "All 2 checks passed" in capsys.readouterr().out


def test_a_run_gets_the_values_or_the_first_mistake(caplog):
    with caplog.at_level("WARNING", logger="tensorflow"):
        made = checks.run_checks(
            lambda _, check: check("two", odd, check("one", good)), args(False)
        )
    assert made == 3
    assert "size 3" in caplog.text
    with pytest.raises(UserError, match="--flag=4"):
        checks.run_checks(check_all, args(False))


class FailAt(checks.Checks):
    """Checks of which the one with a given name always fails."""

    def __init__(self, name):
        super().__init__(check_only=True)
        self.names, self._failing = [], name

    def __call__(self, name, check, *inputs):
        self.names.append(name)
        return super().__call__(name, bad if name == self._failing else check, *inputs)


def words_of(script, root, folder, **values):
    """Write a config, and return flags for the checks of a script."""
    helpers.write_config(folder, 21128, 64)
    words = {"bert_config_file": folder / "config.json", "output_dir": folder / "out"}
    words.update(values, max_seq_length=32, check_only=True)
    if script is run_classifier:
        words.update(task_name="lcqmc", data_dir=root / "data" / "lcqmc_sample")
        words.update(vocab_file=root / "albert_config" / "vocab.txt")
    return words


CHECK_RUN = {
    run_pretraining: pretraining.run_checks.check_run,
    run_classifier: functools.partial(finetuning.run_checks.check_run, Classification()),
}


@pytest.mark.parametrize("script", CHECK_RUN)
def test_no_check_needs_what_a_failed_one_did_not_make(script, root, tmp_path, capsys):
    """Each check is made to fail once: all others print their line and raise no other error."""
    words = words_of(script, root, tmp_path, do_train=True)
    parsed = cli.parse(script.define_flags, [""] + helpers.arguments(words))
    whole = FailAt(None)
    CHECK_RUN[script](parsed, whole)
    for name in whole.names:
        capsys.readouterr()
        check = FailAt(name)
        CHECK_RUN[script](parsed, check)
        lines = [line.split(None, 2) for line in capsys.readouterr().out.splitlines()]
        assert check.names == whole.names
        assert name in [line[1] for line in lines if line[0] in ("FAIL", "skip")]


@pytest.mark.parametrize(
    "optimizer, rate, batch, hidden, words",
    [
        ("lamb", 0.00176, 4096, 768, None),
        ("lamb", 0.00176, 4096, 4096, None),
        ("lamb", 0.00176, 8, 768, "far from 7.8e-05.*may diverge"),
        ("lamb", 1e-6, 4096, 768, "far from 0.0018.*very long"),
        ("adamw", 5e-4, 32, 312, None),  # the README's rate for one machine
        ("adamw", 7e-4, 16, 312, None),  # the recipe's rate
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
    given = (
        args(
            bert_config_file=str(model / "config.json"),
            init_checkpoint=None,
            output_dir=str(tmp_path / "out"),
        ),
        args(paths=[str(made)]),
    )
    assert "not known" in preflight.check_records_vocabulary(*given)[1]
    (model / "vocab.txt").write_text("天\n", encoding="utf-8")
    digest = "4c26a0f0c8bf3a40a9bde1a4ee4a5b2f7a7e5ae8a9d2a3c1d4e5f60718293a4b"
    manifest.write_manifest(str(made), {"vocab_sha256": digest, "vocab_size": 9})
    with caplog.at_level("WARNING", logger="tensorflow"):
        _, line = preflight.check_records_vocabulary(*given)
    assert line == "9 pieces, sha256 4c26a0f0c8bf..."
    assert "another vocabulary than {}".format(model / "vocab.txt") in caplog.text
    caplog.clear()
    digest = files.sha256(str(model / "vocab.txt"))
    manifest.write_manifest(str(made), {"vocab_sha256": digest, "vocab_size": 1})
    with caplog.at_level("WARNING", logger="tensorflow"):
        assert preflight.check_records_vocabulary(*given)[0] == digest
    assert caplog.text == ""
    run_report.write(str(tmp_path / "out"), {"vocab_sha256": "0" * 64})
    with pytest.raises(UserError, match="another vocabulary .* than the records that .*out was"):
        preflight.check_records_vocabulary(*given)


@pytest.mark.parametrize("name", ["before", "before/model.ckpt-3", "before/best/model.ckpt-2"])
def test_the_vocabulary_that_a_run_recorded_is_compared(tmp_path, caplog, name):
    """A larger vocabulary is not compared, because it may add pieces to the run's vocabulary."""
    before, made = tmp_path / "before", tmp_path / "a.tfrecord"
    run_report.write(str(before), {"vocab_sha256": "0" * 64})
    (before / "albert_config.json").write_text('{"vocab_size": 9}')
    given = args(
        bert_config_file="c.json",
        init_checkpoint=str(tmp_path / name),
        output_dir=str(tmp_path / "out"),
    )
    for sha256, size, warns in [("1" * 64, 9, True), ("0" * 64, 9, False), ("1" * 64, 10, False)]:
        manifest.write_manifest(str(made), {"vocab_sha256": sha256, "vocab_size": size})
        caplog.clear()
        with caplog.at_level("WARNING", logger="tensorflow"):
            preflight.check_records_vocabulary(given, args(paths=[str(made)]))
        assert ("than {}".format(before / "results.json") in caplog.text) == warns


def start_args(folder, **values):
    defaults = {"output_dir": str(folder), "init_checkpoint": None, "do_train": True}
    defaults["resume_foreign"] = False
    return args(**dict(defaults, **values))


def check_start(output_dir, subfolder="", **values):
    folder = os.path.join(str(output_dir), subfolder) if subfolder else str(output_dir)
    return preflight.check_start(start_args(output_dir, **values), folder)[0]


@pytest.mark.parametrize("script", [run_pretraining, run_classifier])
@pytest.mark.parametrize("work", ["do_train", "do_eval"])
def test_no_script_writes_into_an_archive(script, work, root, tmp_path, capsys):
    words = words_of(script, root, tmp_path, **{work: True})
    weights.write(str(tmp_path / "out" / "albert_model.ckpt"), {"global_step": np.int64(489000)})
    before = sorted(os.listdir(str(tmp_path / "out")))
    parsed = cli.parse(script.define_flags, [""] + helpers.arguments(words))
    with pytest.raises(SystemExit):
        script.main(parsed)
    assert re.search(r"FAIL +start .*which no run saved", capsys.readouterr().out)
    assert sorted(os.listdir(str(tmp_path / "out"))) == before


@pytest.mark.parametrize("do_train", [False, True])
@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("name", ["albert_model.ckpt", "model.ckpt-best", "model.ckpt-489000"])
def test_an_archive_is_not_continued(name, has_state, do_train, tmp_path):
    """A run in the archive's folder is refused; the flags that the message names work."""
    (tmp_path / "archive").mkdir()
    prefix = str(tmp_path / "archive" / name)
    weights.write(prefix, {"a": np.ones(3, np.float32), "global_step": np.int64(489000)})
    if has_state:
        run_folder.write_state(str(tmp_path / "archive"), [prefix])
    with pytest.raises(UserError) as error:
        check_start(tmp_path / "archive", do_train=do_train)
    assert "holds {}, which no run saved".format(name) in str(error.value)
    assert "--init_checkpoint={}, and another --output_dir".format(prefix) in str(error.value)
    with pytest.raises(UserError, match="which no run saved"):
        check_start(tmp_path / "archive", "seed_1", do_train=do_train)
    start = check_start(tmp_path / "out", do_train=do_train, init_checkpoint=prefix)
    assert (start.mode, start.step) == ("warm start" if do_train else "evaluation", 0)
    assert start.checkpoint == prefix and not start.is_own
    can_resume = name == "model.ckpt-489000" or has_state
    assert ("--resume_foreign=True" in str(error.value)) == can_resume
    if not can_resume:
        with pytest.raises(UserError, match="which no run saved"):
            check_start(tmp_path / "archive", resume_foreign=True)
    else:
        start = check_start(tmp_path / "archive", resume_foreign=True)
        assert (start.mode, start.step, start.checkpoint) == ("resume", 489000, prefix)


def test_names_of_the_files_of_runs():
    assert {run_report.REPORT, index.CACHE_NAME} < set(run_folder.RUN_FILES)


@pytest.mark.parametrize(
    "name, content, is_ours",
    [
        (run_report.REPORT, "{}", True),
        ("classifier.json", "{}", True),
        ("record_index.json", "{}", True),
        ("albert_config.json", modeling.AlbertConfig(60).to_json_string(), True),
        ("albert_config.json", '{"vocab_size": 60}', False),
        ("albert_config.json", "{", False),
        ("eval_results.txt", "", False),
    ],
)
def test_a_folder_is_a_run_s_if_one_of_its_files_is_there(name, content, is_ours, tmp_path):
    weights.write(str(tmp_path / "model.ckpt-3"), {"global_step": np.int64(3)})
    (tmp_path / name).write_text(content)
    assert run_folder.holds_run_files(str(tmp_path)) == is_ours
    if is_ours:
        assert check_start(tmp_path).step == 3
    else:
        with pytest.raises(UserError, match="model.ckpt-3, which no run saved"):
            check_start(tmp_path)


def test_a_run_that_has_other_files_beside_its_checkpoints_goes_on(tmp_path):
    for name in ("albert_model.ckpt", "model.ckpt-3"):
        arrays = {"a": np.ones(3, np.float32), "global_step": np.int64(3)}
        weights.write(str(tmp_path / name), arrays)
    run_folder.write_state(str(tmp_path), [str(tmp_path / "model.ckpt-3")])
    (tmp_path / run_report.REPORT).write_text("{}")
    start = check_start(tmp_path)
    assert (start.mode, start.step) == ("resume", 3)


@pytest.mark.parametrize(
    "mode, step, is_told",
    [("resume", 4, True), ("resume", 9, True), ("resume", 3, False), ("evaluation", 9, False)],
)
def test_a_run_with_nothing_to_do_says_so(mode, step, is_told, caplog):
    start = run_folder.Start(mode, "out/model.ckpt-{}".format(step), step, is_own=True)
    with caplog.at_level("WARNING", logger="tensorflow"):
        preflight.warn_of_finished_run(start, 4, "--num_train_steps")
    line = "NOTHING TO TRAIN: out/model.ckpt-{} is at step {}, and training ends at step 4: raise "
    assert (line.format(step, step) + "--num_train_steps" in caplog.text) == is_told


@pytest.fixture
def check_disk(tmp_path):
    """The check of a run whose checkpoints take 3 * 4 * 1e9 bytes."""
    settings = types.SimpleNamespace(output_dir=str(tmp_path / "a" / "b"), keep_checkpoint_max=5)
    model = preflight.Model(None, {"kernel": [10**9]})
    schedule = preflight.Schedule(None, ("m", "v"), {}, 8)

    def check(num_kept):
        folders = [settings.output_dir]
        return preflight.check_disk(settings, folders, num_kept, model, schedule)[1]

    return check


def free(monkeypatch, count):
    usage = collections.namedtuple("usage", "free")(count)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage)


def test_disk_must_have_room_for_all_checkpoints(check_disk, monkeypatch):
    free(monkeypatch, 6 * 12 * 10**9)
    assert "72 GB free, a checkpoint takes 12 GB, 6 at most" in check_disk(6)
    with pytest.raises(UserError, match="72 GB free but 7 checkpoints of 12 GB need 84 GB"):
        check_disk(7)
    check_disk(0)


def test_output_dir_must_be_a_folder(check_disk, tmp_path, monkeypatch):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="cannot be written to: .*/a is a file"):
        check_disk(6)
    (tmp_path / "a").unlink()
    monkeypatch.setattr(preflight.os, "access", lambda *_: False)
    with pytest.raises(UserError, match="is read-only for you"):
        check_disk(6)


@pytest.mark.parametrize("micro_batch, fits", [(8, True), (9, False)])
def test_memory_is_compared_with_the_device(micro_batch, fits, monkeypatch, caplog):
    weights, example = 10**6, 10**8
    free_bytes = StepMemory(weights, example).weight_bytes(True) + 8 * example
    monkeypatch.setattr(memory, "free_memory", lambda *_: FreeMemory("GPU", free_bytes))
    computation = Computation(
        modeling.PLAIN, StepMemory(weights, example), Placement(1, 72, micro_batch)
    )
    with caplog.at_level("WARNING", logger="tensorflow"):
        _, line = preflight.check_memory(types.SimpleNamespace(use_tpu=False), computation)
    assert "examples at a time; 0.82 GB are free on the GPU" in line
    assert ("does not fit" in caplog.text) != fits


@pytest.mark.parametrize("is_left", ["best", "history", "both"])
def test_what_is_left_of_an_earlier_run_is_not_taken_for_the_new_run_s(is_left, tmp_path):
    given = args(
        output_dir=str(tmp_path),
        init_checkpoint=None,
        do_train=True,
        resume_foreign=False,
        check_only=False,
    )
    history = tmp_path / best_checkpoint.HISTORY
    history.write_text('{"global_step": 0, "loss": 9.0}\n')  # a run ended before it saved
    assert preflight.check_start(given, str(tmp_path))[0].mode == "fresh"
    if is_left != "best":
        history.write_text('{"global_step": 3, "loss": 9.0}\n')
    if is_left != "history":
        (tmp_path / "best").mkdir()
        (tmp_path / "best" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"\n')
        (tmp_path / "best" / "model.ckpt-3.index").write_bytes(b"")
    with pytest.raises(UserError, match="is left of an earlier run.*or give another --output_dir"):
        preflight.check_start(given, str(tmp_path))
