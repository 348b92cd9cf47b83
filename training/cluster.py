"""The cluster of machines that TF_CONFIG describes, and the place of this process in it."""

import contextlib
import json
import os
from typing import NamedTuple

from common.errors import UserError


class ClusterMember(NamedTuple):
    """The place of this process among the processes of a cluster."""

    workers: list  # addresses, the chief's first
    index: int

    @property
    def is_chief(self):
        return self.index == 0


CLUSTER_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def read_member(text=None):
    """Return the `ClusterMember` that TF_CONFIG describes.

    Args:
        text: str, JSON; default: the environment variable.

    Raises:
        UserError: if the text is missing, or describes no cluster of workers with this process.
    """
    text = os.environ.get("TF_CONFIG") if text is None else text
    if not text:
        raise UserError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG, on each machine "
            "with its own index: " + CLUSTER_EXAMPLE
        )
    try:
        described = json.loads(text)
        jobs, task = described["cluster"], described["task"]
        unknown = set(jobs) - {"chief", "worker"}
        workers = jobs.get("chief", []) + jobs.get("worker", [])
        index = int(task["index"])
        valid = not unknown and 0 <= index < len(jobs[task["type"]])
        if task["type"] == "worker":
            index += len(jobs.get("chief", []))
    except (AttributeError, KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise UserError(
            "TF_CONFIG is {!r}, but its form must be {}, with no types of task but chief and "
            "worker".format(text, CLUSTER_EXAMPLE)
        )
    return ClusterMember(workers, index)


@contextlib.contextmanager
def without_cluster():
    """A context without TF_CONFIG: an Estimator made in it waits for no other machine."""
    text = os.environ.pop("TF_CONFIG", None)
    try:
        yield
    finally:
        if text is not None:
            os.environ["TF_CONFIG"] = text
