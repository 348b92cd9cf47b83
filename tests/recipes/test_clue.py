"""recipes/clue.py: which tasks run, with which flags, and what is written at the end."""

import json
import re
import signal
import subprocess
import sys
import zipfile

import helpers
import numpy as np
import pytest

import modeling
import run_classifier
import run_mrc
import run_ner
from checkpointing import arrays as weights
from common import cli, files
from common.errors import UserError
from recipes import clue

SCRIPTS = {
    "run_classifier.py": run_classifier,
    "run_mrc.py": run_mrc,
    "run_ner.py": run_ner,
}
FILES = {
    "afqmc": ("train.json", "dev.json", "test.json"),
    "c3": ("d-train.json", "m-train.json", "d-dev.json", "m-dev.json"),
    "chid": ("train.json", "dev.json"),  # without answers
    "cluener": ("train.json", "dev.json", "test.json"),
    "drcd": ("DRCD_training.json", "DRCD_dev.json"),
    "tnews": ("train.json",),  # without dev
}


@pytest.fixture
def folder(tmp_path):
    """A folder with a pre-trained model and with empty files of tasks."""
    (tmp_path / "model").mkdir()
    helpers.write_config(tmp_path / "model", 30, 256, num_hidden_layers=1)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "model" / "config.json"))
    arrays = {n: np.zeros(s, "f") for n, s in modeling.parameter_shapes(config).items()}
    weights.write(str(tmp_path / "model" / "albert_model.ckpt"), arrays)
    for task, names in FILES.items():
        (tmp_path / "data" / task).mkdir(parents=True)
        for name in names:
            (tmp_path / "data" / task / name).write_text("")
    return tmp_path


def call(folder, **changes):
    values = {
        "checkpoint": folder / "model",
        "data_dir": folder / "data",
        "output_dir": folder / "out",
    }
    words = helpers.arguments(dict(values, **changes))
    clue.main(cli.parse(clue.define_flags, ["clue.py"] + words))


def finish(words, scores):
    """Write what a run writes: its scores and the file for CLUE."""
    args = {name[2:]: value for name, _, value in (word.partition("=") for word in words[2:])}
    metrics = {score: {"mean": value, "deviation": None} for score, value in scores.items()}
    files.write_json(args["output_dir"] + "/results.json", {"metrics": metrics})
    if args["do_predict"] == "True":
        name = "{}/seed_7/{}_predict.json".format(args["output_dir"], args["task_name"])
        files.write_text(name, args["task_name"])
    return 0


def test_tasks_whose_files_are_there_run_one_after_another(folder, monkeypatch, capsys, caplog):
    commands = {}

    def run(words):
        args = cli.parse(SCRIPTS[words[1].rpartition("/")[2]].define_flags, words[1:])
        commands[args.task_name] = args
        scores = dict.fromkeys(clue.SETTINGS[args.task_name].scores, 0.5)
        return 2 if args.task_name == "drcd" else finish(words, scores)

    monkeypatch.setattr(clue, "run", run)
    with pytest.raises(UserError, match="drcd failed: its own last line says why"):
        call(folder, seeds=7)
    assert list(commands) == ["afqmc", "drcd", "c3", "cluener"]
    assert re.search("TASK LEFT OUT: chid: .*train_answer.json does not exist", caplog.text)
    assert re.search("TASK LEFT OUT: cmrc2018: .* does not exist", caplog.text)
    assert re.search("TASK LEFT OUT: tnews: no dev file", caplog.text)
    assert re.search("NO PREDICTIONS: c3: no test file", caplog.text)
    assert "afqmc: no" not in caplog.text
    afqmc, drcd = commands["afqmc"], commands["drcd"]
    assert afqmc.init_checkpoint == str(folder / "model" / "albert_model.ckpt")
    assert afqmc.bert_config_file == str(folder / "model" / "config.json")
    assert (afqmc.train_batch_size, afqmc.num_train_epochs, afqmc.max_seq_length) == (16, 2, 128)
    assert (afqmc.learning_rate, drcd.learning_rate) == (1e-4, 2e-4)  # the rates of tiny
    assert drcd.max_seq_length == 256  # the model has 256 positions
    assert afqmc.do_predict and not commands["c3"].do_predict
    told = capsys.readouterr().out
    assert "afqmc             50.00               69.92" in told and "50.00/50.00" in told
    assert set(json.loads((folder / "out" / "results.json").read_text())) == {
        "afqmc",
        "c3",
        "cluener",
    }
    with zipfile.ZipFile(str(folder / "out" / clue.SUBMISSION)) as archive:
        assert archive.namelist() == ["afqmc_predict.json", "cluener_predict.json"]


def test_another_call_keeps_the_results_of_finished_tasks(folder, monkeypatch):
    def run(words):
        (name,) = [word[12:] for word in words if word.startswith("--task_name=")]
        return finish(words, dict.fromkeys(clue.SETTINGS[name].scores, 0.5))

    monkeypatch.setattr(clue, "run", run)
    call(folder, seeds=7, tasks="afqmc,cluener")
    call(folder, seeds=7, tasks="c3")
    results = json.loads((folder / "out" / "results.json").read_text())
    assert set(results) == {"afqmc", "c3", "cluener"}
    with zipfile.ZipFile(str(folder / "out" / clue.SUBMISSION)) as archive:
        assert archive.namelist() == ["afqmc_predict.json", "cluener_predict.json"]


def test_ctrl_c_waits_until_the_command_has_saved(tmp_path):
    program = (
        "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(1); open({!r}, 'w')"
    ).format(str(tmp_path / "saved"))
    # A shell starts programs in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as end:
            clue.run([sys.executable, "-c", program])
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130 and (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"checkpoint": None}, "give --checkpoint"),
        ({"tasks": "afqmc,squad"}, "--tasks=squad: the tasks are afqmc, tnews"),
        ({"tasks": "chid,tnews"}, "holds no folder of a task with train and dev files"),
        ({"data_dir": "nowhere"}, "nowhere is not a folder: give the folder that holds a folder"),
        ({"checkpoint": "nowhere"}, "nowhere does not exist: give a checkpoint or its folder"),
    ],
)
def test_mistakes_are_one_line(folder, changes, message):
    with pytest.raises(UserError, match=message) as raised:
        call(folder, **changes)
    assert "\n" not in str(raised.value) and not (folder / "out").exists()


def test_a_config_that_is_not_told_by_the_shapes_is_asked_for(folder):
    text = (folder / "model" / "config.json").read_text()
    (folder / "model" / "other_config.json").write_text(text)
    with pytest.raises(UserError, match="has the shapes of 2 configs .*give --bert_config_file"):
        call(folder)


def test_a_model_of_a_size_of_its_own_needs_its_config(folder):
    config = (folder / "model" / "config.json").rename(folder / "own.json")
    with pytest.raises(UserError, match="the shapes of no config that is here: give its own, --b"):
        call(folder)
    with pytest.raises(UserError, match="--tasks|holds no folder"):  # the next mistake
        call(folder, bert_config_file=config, tasks="tnews")


def test_paths_are_relative_to_the_working_directory(root, folder):
    (folder / "model").rename(folder / "模型 1")
    (folder / "模型 1" / "config.json").rename(folder / "own.json")
    words = ["模型 1", "data", "out", "--bert_config_file=own.json", "--tasks=afqmc"]
    command = ["bash", str(root / "recipes" / "clue.sh")] + words
    done = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", cwd=str(folder))
    assert done.returncode == 2
    assert "run_classifier.py: error: " in done.stderr and "train.json" in done.stderr
    assert "afqmc failed: its own last line says why" in done.stderr


@pytest.mark.parametrize("words", [[], ["--checkpoint=a", "--data_dir=b", "--output_dir=c"]])
def test_flags_in_place_of_names_get_the_usage(root, words):
    command = ["bash", str(root / "recipes" / "clue.sh")] + words
    done = subprocess.run(command, stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: bash recipes/clue.sh CHECKP")


def test_every_row_has_the_scores_of_all_models():
    assert {len(settings.published) for settings in clue.SETTINGS.values()} == {len(clue.MODELS)}
