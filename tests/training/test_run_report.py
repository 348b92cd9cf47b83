"""training/run_report.py: what a run was, and what came out of it."""

import hashlib
import json
import subprocess

import pytest
import tensorflow.compat.v1 as tf

import run_pretraining
from checkpointing import run_folder
from common import cli
from tfrecords import manifest
from training import run_report


@pytest.fixture
def described(tmp_path):
    """The report of a run that starts from a checkpoint and reads three files."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("kernel", [3, 4])
        tf.get_variable("kernel/lamb_m", [3, 4])
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "out" / "model.ckpt"), 4)
    for name in "abc":
        (tmp_path / name).write_text("content of " + name)
    manifest.write_manifest(str(tmp_path / "b"), {"vocab_size": 3})
    argv = ["", "--bert_config_file=a", "--output_dir=my out", "--do_train", "--learning_rate=0.1"]
    return run_report.new_report(
        "run_pretraining.py",
        cli.parse(run_pretraining.define_flags, argv),
        run_folder.Start("warm start", str(tmp_path / "out" / "model.ckpt-4"), 0),
        records=[str(tmp_path / "b"), str(tmp_path / "c")],
        config=[str(tmp_path / "a")],
    )


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_is_described(described, tmp_path):
    command = "run_pretraining.py --bert_config_file=a --do_train=True --learning_rate=0.1"
    assert described["command"].replace("--do_train ", "--do_train=True ") == (
        command + " '--output_dir=my out'"
    )
    assert described["versions"]["tensorflow"] == tf.version.VERSION
    assert described["start"] == {
        "mode": "warm start",
        "step": 0,
        "checkpoint": str(tmp_path / "out" / "model.ckpt-4"),
        "index_sha256": sha256(tmp_path / "out" / "model.ckpt-4.index"),
    }
    assert described["inputs"] == {
        "config": [{"path": str(tmp_path / "a"), "sha256": sha256(tmp_path / "a")}],
        "records": [
            {
                "path": str(tmp_path / "b"),
                "manifest_sha256": sha256(tmp_path / "b.manifest.json"),
            },
            {"path": str(tmp_path / "c"), "sha256": sha256(tmp_path / "c")},
        ],
    }


def test_large_files_are_told_by_their_size(monkeypatch, tmp_path):
    (tmp_path / "a").write_text("content")
    monkeypatch.setattr(run_report, "HASHED_BYTES", 3)
    assert run_report._fingerprint(str(tmp_path / "a")) == {"path": str(tmp_path / "a"), "bytes": 7}


def test_results_gather_and_are_tables(described, tmp_path):
    out = tmp_path / "out"
    run_report.write(str(out), described)
    assert json.loads((out / "results.json").read_text())["metrics"] == {}
    run_report.write(str(out), described, "eval_results", {"loss": 0.12345678, "global_step": 4})
    run_report.write(str(out), described, "test_results", {"accuracy": 0.5})
    written = json.loads((out / "results.json").read_text())
    assert written["metrics"] == {"loss": 0.12345678, "global_step": 4, "accuracy": 0.5}
    assert written["parameters"] == 12
    assert json.loads((out / "eval_results.json").read_text())["loss"] == 0.12345678
    table = (out / "eval_results.txt").read_text()
    assert table == "loss         0.123457\nglobal_step  4\n"


def git(folder, *words):
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.check_output(command, encoding="utf-8").strip()


def test_the_commit_is_that_of_this_code(tmp_path, monkeypatch):
    module = tmp_path / "code" / "training" / "run_report.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(run_report, "__file__", str(module))
    assert run_report._commit() is None  # no repository
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    assert run_report._commit() is None  # not its own
    git(tmp_path / "code", "init", "-q")
    git(tmp_path / "code", "add", ".")
    git(tmp_path / "code", "commit", "-q", "-m", "a")
    commit = git(tmp_path / "code", "rev-parse", "HEAD")
    assert run_report._commit() == commit
    module.write_text("changed")
    assert run_report._commit() == commit + "+changes"
