"""training/run_report.py: the settings of a run, its inputs and its results."""

import hashlib
import json
import subprocess

import pytest
import tensorflow.compat.v1 as tf

import run_pretraining
from checkpointing import run_folder
from common import cli, files
from common.errors import UserError
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


def test_other_data_than_those_of_the_run_are_told(tmp_path, caplog):
    made_with = {"learning_rate": 0.1, "data": {"train": "a", "dev": "b"}, "encoding": {"n": 1}}
    files.write_json(str(tmp_path / "results.json"), {"made_with": made_with})
    with caplog.at_level("WARNING"):
        run_report.check_settings(str(tmp_path), dict(made_with, learning_rate=0.2))
        assert "learning_rate 0.1, now 0.2" in caplog.text and "OTHER DEV DATA" not in caplog.text
        changed = dict(made_with, data={"train": "a", "dev": "c"})
        run_report.check_settings(str(tmp_path), changed)
    assert "OTHER DEV DATA: {}/best".format(tmp_path) in caplog.text
    assert "OTHER TRAIN" not in caplog.text
    with caplog.at_level("WARNING"):
        changed = dict(made_with, data={"train": "c", "dev": "b"})
        run_report.check_settings(str(tmp_path), changed)
    assert "OTHER TRAIN DATA: {} goes on with".format(tmp_path) in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):  # only the length differs, not the data
        run_report.check_settings(str(tmp_path), dict(changed, encoding={"n": 2}))
    assert "encoding {'n': 1}, now {'n': 2}" in caplog.text and "OTHER" not in caplog.text


def test_settings_that_an_older_version_did_not_keep_are_not_compared(tmp_path, caplog):
    files.write_json(str(tmp_path / "results.json"), {"made_with": {"seed": 1}})
    run_report.check_settings(str(tmp_path), {"seed": 1, "data": {}}, must_agree=True)
    run_report.check_settings(str(tmp_path / "new"), {"seed": 1}, must_agree=True)
    assert not caplog.text
    with pytest.raises(UserError, match="seed 1, now 2: give another --output_dir, or the same"):
        run_report.check_settings(str(tmp_path), {"seed": 2}, must_agree=True)


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
    assert run_report._commit() is None  # the code is not in its own repository
    git(tmp_path / "code", "init", "-q")
    git(tmp_path / "code", "add", ".")
    git(tmp_path / "code", "commit", "-q", "-m", "a")
    commit = git(tmp_path / "code", "rev-parse", "HEAD")
    assert run_report._commit() == commit
    module.write_text("changed")
    assert run_report._commit() == commit + "+changes"
