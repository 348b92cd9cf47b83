"""Runs of several seeds."""

import statistics

import pytest

from finetuning import seeds


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
