"""The runs of a command, one for each seed: their folders, their settings, their scores.

A finished run is not repeated. The `results.json` of a run holds the settings of its training. A
command with other settings for the same folder ends in an error, so that the scores and the
settings in a folder always belong to the same training.
"""

import os
from typing import NamedTuple

import numpy as np
from absl import logging

from common import files
from common.errors import UserError
from common.text_table import text_table
from training import run_report


class SeedRun(NamedTuple):
    """The run of one seed."""

    folder: str
    seed: int


def seed_runs(output_dir, random_seed, seeds):
    """Return the `SeedRun`s of a command: one in output_dir, or one for each seed in a subfolder.

    Args:
        output_dir: str.
        random_seed: int, the seed where `seeds` is empty.
        seeds: list of str, whole numbers; empty for a single run.

    Raises:
        UserError: for a seed that is not a whole number or comes twice.
    """
    if not seeds:
        return [SeedRun(output_dir, random_seed)]
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
    return [SeedRun(os.path.join(output_dir, "seed_{}".format(n)), n) for n in numbers]


def finished_metrics(folder, made_with, scored):
    """Return the metrics of a run that has finished with these settings, or None.

    A run whose prediction files are missing has not finished.

    Args:
        folder, made_with: as in `run_report.changed_settings`.
        scored: dict of JSON values that identifies the scored examples.
    """
    report = run_report.read(folder)
    is_same = report.get("finished") == scored and not run_report.changed_settings(
        folder, made_with
    )
    paths = [os.path.join(folder, name) for name in report.get("predictions", ())]
    return report["metrics"] if is_same and all(map(files.exists, paths)) else None


def write_summary(output_dir, report, metrics_of_seed):
    """Write the `results.json` of several runs, and log a table of them.

    Args:
        output_dir: str.
        report: dict that `run_report.new_report` returned.
        metrics_of_seed: dict of seed to metrics.
    """
    summary = mean_and_deviation(list(metrics_of_seed.values()))
    seeds = {str(seed): metrics for seed, metrics in metrics_of_seed.items()}
    run_report.write(output_dir, dict(report, metrics=summary, seeds=seeds))
    rows = [["", "mean", "deviation"] + ["seed {}".format(seed) for seed in metrics_of_seed]]
    for name, values in summary.items():
        cells = ["-" if x is None else x for x in (values["mean"], values["deviation"])]
        rows.append([name] + cells + [metrics[name] for metrics in metrics_of_seed.values()])
    logging.info("Results of %d runs in %s:\n%s", len(seeds), output_dir, text_table(rows))


def mean_and_deviation(runs):
    """Return the mean of each number over several runs, such as seeds.

    Args:
        runs: list of dicts of scores; a score is left out if it is not a number or if a run lacks
            it.

    Returns:
        dict of name to {`mean`, `deviation`}: the sample deviation (divided by n - 1), None for
        a single run.
    """
    summary = {}
    for name in runs[0]:
        values = [run.get(name) for run in runs]
        if all(_is_number(value) for value in values):
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            summary[name] = {"mean": float(np.mean(values)), "deviation": deviation}
    return summary


def _is_number(value):
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
