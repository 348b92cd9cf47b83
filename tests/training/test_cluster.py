"""training/cluster.py: the environment variable TF_CONFIG, and what it must not disturb."""

import json
import os

import pytest
import tensorflow.compat.v1 as tf

from common.errors import UserError
from training import cluster

WORKERS = {"worker": ["a:1", "b:1", "c:1"]}


def described(jobs, task_type, index):
    return json.dumps({"cluster": jobs, "task": {"type": task_type, "index": index}})


@pytest.mark.parametrize(
    "jobs, task_type, index, expected, is_chief",
    [
        (WORKERS, "worker", 0, 0, True),
        (WORKERS, "worker", 2, 2, False),
        (WORKERS, "worker", "1", 1, False),
        (dict(WORKERS, chief=["d:1"]), "chief", 0, 0, True),
        (dict(WORKERS, chief=["d:1"]), "worker", 0, 1, False),
    ],
)
def test_a_task_is_found_in_its_cluster(jobs, task_type, index, expected, is_chief):
    task = cluster.read_member(described(jobs, task_type, index))
    assert (task.index, task.is_chief) == (expected, is_chief)
    assert len(task.workers) == sum(len(addresses) for addresses in jobs.values())
    assert task.workers[0] == ("d:1" if "chief" in jobs else "a:1")


@pytest.mark.parametrize(
    "text",
    [
        "worker 0",
        "[]",
        "{}",
        json.dumps({"cluster": WORKERS}),
        described(WORKERS, "worker", 3),
        described(WORKERS, "worker", -1),
        described(WORKERS, "worker", "first"),
        described(WORKERS, "chief", 0),
        described(dict(WORKERS, ps=["d:1"]), "worker", 0),
        described(dict(WORKERS, evaluator=["d:1"]), "evaluator", 0),
        described({"worker": "a:1"}, "worker", 0),
    ],
)
def test_what_describes_no_cluster_is_refused(text):
    with pytest.raises(UserError, match="TF_CONFIG is .* but its form must be"):
        cluster.read_member(text)


def test_a_missing_description_is_told_with_an_example(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match='needs the environment variable TF_CONFIG.*"worker"'):
        cluster.read_member()
    monkeypatch.setenv("TF_CONFIG", described(WORKERS, "worker", 1))
    assert cluster.read_member().index == 1


def test_an_estimator_alone_waits_for_nobody(monkeypatch):
    text = described(dict(WORKERS, chief=["d:1"]), "worker", 1)
    monkeypatch.setenv("TF_CONFIG", text)
    with cluster.without_cluster():
        assert tf.estimator.RunConfig().is_chief
    assert os.environ["TF_CONFIG"] == text
    assert not tf.estimator.RunConfig().is_chief
