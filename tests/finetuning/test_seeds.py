"""Runs of several seeds, and a run that continues with other settings."""

import statistics

import pytest

from common import files
from finetuning import seeds


def test_other_data_than_those_of_the_run_are_told(tmp_path, caplog):
    made_with = {"learning_rate": 0.1, "data": {"train": "a", "dev": "b"}}
    files.write_json(str(tmp_path / "results.json"), {"made_with": made_with})
    with caplog.at_level("WARNING"):
        seeds.check_settings(str(tmp_path), dict(made_with, learning_rate=0.2), True, False)
        assert "learning_rate 0.1, now 0.2" in caplog.text and "OTHER DEV DATA" not in caplog.text
        changed = dict(made_with, data={"train": "a", "dev": "c"})
        seeds.check_settings(str(tmp_path), changed, True, False)
    assert "OTHER DEV DATA: {}/best".format(tmp_path) in caplog.text
    assert "OTHER TRAIN" not in caplog.text
    with caplog.at_level("WARNING"):
        changed = dict(made_with, data={"train": "c", "dev": "b"})
        seeds.check_settings(str(tmp_path), changed, True, False)
    assert "OTHER TRAIN DATA: {} goes on with".format(tmp_path) in caplog.text


def test_mean_and_sample_deviation_of_seeds():
    values = [0.81, 0.84, 0.80]
    runs = [{"accuracy": value, "examples": 9, "seed": "a", "best": True} for value in values]
    runs[0]["loss"] = 1.0
    found = seeds.mean_and_deviation(runs)
    assert set(found) == {"accuracy", "examples"}
    assert found["accuracy"] == {
        "mean": pytest.approx(statistics.mean(values)),
        "deviation": pytest.approx(statistics.stdev(values)),
    }
    assert found["examples"] == {"mean": 9.0, "deviation": 0.0}
    assert seeds.mean_and_deviation(runs[:1])["loss"] == {"mean": 1.0, "deviation": None}
