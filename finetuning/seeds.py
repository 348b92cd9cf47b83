"""One run or several, one for each seed: their folders, which are finished, their scores together.

A finished run is not made again. Its `results.json` tells what it was made with, and whoever starts
it with anything else is told so: scores never stand beside settings that are not theirs.
"""

import json
import os
from typing import NamedTuple

from absl import logging

from common.errors import UserError
from common.text_table import text_table
from finetuning.scores import mean_and_deviation
from training import run_report


class Run(NamedTuple):
    """One training of a command."""

    folder: str
    seed: int


def runs_of(output_dir, random_seed, seeds):
    """Return the runs of a command: one in output_dir itself, or one a seed in folders there.

    Args:
        output_dir: str.
        random_seed: int, the seed where there are no others.
        seeds: list of str, whole numbers; empty for a single run.

    Raises:
        UserError: for what is no whole number, and for a seed that comes twice.
    """
    if not seeds:
        return [Run(output_dir, random_seed)]
    try:
        numbers = [int(seed) for seed in seeds]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise UserError(
            "--seeds={}: give whole numbers, each once, such as --seeds=1,2,3".format(
                ",".join(seeds)
            )
        )
    return [Run(os.path.join(output_dir, "seed_{}".format(n)), n) for n in numbers]


def changed_settings(folder, made_with):
    """Tell what a run was made with that differs from now.

    Args:
        folder: str, of the run.
        made_with: dict of name to JSON value.

    Returns:
        list of str such as `learning_rate 0.0001, now 2e-05`; empty if there was no run.
    """
    before = run_report.read(folder).get("made_with") or made_with
    now = json.loads(json.dumps(made_with))
    return [
        "{} {}, now {}".format(name, before.get(name), now.get(name))
        for name in sorted(set(before) | set(now))
        if before.get(name) != now.get(name)
    ]


def check_settings(folder, made_with, is_resumed, must_agree):
    """Warn, or raise UserError if they `must_agree`, where a run goes on with other settings.

    Args:
        folder, made_with: as `changed_settings`.
        is_resumed: bool, whether the folder holds a checkpoint that the run goes on from.
        must_agree: bool.
    """
    changed = changed_settings(folder, made_with) if is_resumed else []
    if not changed:
        return
    line = "{} was made with other settings: {}".format(folder, "; ".join(changed))
    if must_agree:
        raise UserError(line + ": give another --output_dir, or the settings of before")
    logging.warning("%s; the run goes on from its checkpoint all the same", line)


def finished_metrics(folder, made_with, scored):
    """Return the metrics of a run that has finished with these settings, or None.

    Args:
        folder, made_with: as `changed_settings`.
        scored: dict of JSON values that tells what the metrics are to be of.
    """
    found = run_report.read(folder)
    is_same = found.get("finished") == scored and not changed_settings(folder, made_with)
    return found["metrics"] if is_same else None


def write_summary(output_dir, description, found):
    """Write the `results.json` of several runs, and log a table of them.

    Args:
        output_dir: str.
        description: what `run_report.describe` returned.
        found: dict of seed to metrics.
    """
    summary = mean_and_deviation(list(found.values()))
    seeds = {str(seed): metrics for seed, metrics in found.items()}
    run_report.write(output_dir, dict(description, metrics=summary, seeds=seeds))
    rows = [["", "mean", "deviation"] + ["seed {}".format(seed) for seed in found]]
    for name, over_all in summary.items():
        cells = ["-" if x is None else x for x in (over_all["mean"], over_all["deviation"])]
        rows.append([name] + cells + [metrics[name] for metrics in found.values()])
    logging.info("Results of %d runs in %s:\n%s", len(found), output_dir, text_table(rows))
