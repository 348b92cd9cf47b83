"""Prints one table of the scores of all runs in a folder: the last step of a recipe.

    python recipes/results_table.py --folder=out/finetuned

The script also writes the table as FOLDER/results.json: for each run the accuracy and the macro-F1
on dev, with mean and deviation if the run has several seeds.
"""

import glob
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import cli, files
from common.errors import UserError
from common.text_table import text_table
from training import run_report

SCORES = ("eval_accuracy", "eval_macro_f1")


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("folder", None, "Folder that holds a folder for each run.")


def main(args):
    """Write and print the table."""
    if not args.folder:
        raise UserError("give --folder")
    folders = map(
        os.path.dirname, sorted(glob.glob(os.path.join(args.folder, "*", run_report.REPORT)))
    )
    reports = {os.path.basename(folder): run_report.read(folder) for folder in folders}
    runs = {name: scores_of(run) for name, run in reports.items() if is_scored(run)}
    if "command" in run_report.read(args.folder):  # the table would replace this report
        text = "--folder={} is a run itself: give the folder that holds a folder for each run"
        raise UserError(text.format(args.folder))
    if not runs:
        text = "--folder={} holds no folder of a fine-tuning run with scores on dev"
        raise UserError(text.format(args.folder))
    files.write_json(os.path.join(args.folder, run_report.REPORT), runs)
    rows = [["run"] + list(SCORES)]
    rows += [[name] + [shown(scores[key]) for key in SCORES] for name, scores in runs.items()]
    print(text_table(rows))


def is_scored(run):
    """Return whether a report belongs to a fine-tuning run that was finished and evaluated."""
    metrics = run.get("metrics")
    return isinstance(metrics, dict) and all(name in metrics for name in SCORES)


def scores_of(run):
    """Return a dict of score to `{"mean", "deviation", "seeds"}`; one seed has no deviation."""
    scores = {}
    for name in SCORES:
        score = run["metrics"][name]
        if not isinstance(score, dict):
            score = {"mean": score, "deviation": None}
        seeds = [metrics[name] for metrics in run.get("seeds", {}).values()]
        scores[name] = dict(score, seeds=seeds or None)
    return scores


def shown(score):
    """Return a score in percent, with the deviation where there is one."""
    mean = "{:.2f}".format(100 * score["mean"])
    if score["deviation"] is None:
        return mean
    return "{} ± {:.2f}".format(mean, 100 * score["deviation"])


if __name__ == "__main__":
    cli.run(main, define_flags)
