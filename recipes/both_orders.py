"""Writes the pairs of a task's train file in both orders, beside the dev file.

    python recipes/both_orders.py --task=afqmc --data_dir=data/afqmc --output_dir=data/afqmc_both

Whether two texts mean the same does not depend on their order, so a task of such pairs has twice as
many examples in both orders. OUTPUT_DIR gets train.json and dev.json, in the format of CLUE.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import cli, files
from common.errors import UserError
from finetuning_data import tasks


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("task", None, "Task of pairs whose order does not matter.", required=True)
    define.string("data_dir", None, "Folder with train and dev.", required=True)
    define.string("output_dir", None, "Folder to write.", required=True)


def main(args):
    """Write both files and print how many examples they have."""
    if os.path.realpath(args.data_dir) == os.path.realpath(args.output_dir):
        raise UserError("--output_dir={} is --data_dir: give another".format(args.output_dir))
    task = tasks.get_task(args.task)
    if "text_b" not in task.fields:
        raise UserError("--task={} has no pairs: give a task of pairs".format(args.task))
    train, dev = [tasks.load_examples(task, args.data_dir, split) for split in ("train", "dev")]
    train = [pair for one in train for pair in (one, swapped(one))]
    for split, examples in (("train", train), ("dev", dev)):
        path = os.path.join(args.output_dir, split + ".json")
        files.write_json_lines(path, map(row_of, examples))
    print(json.dumps({"train": len(train), "dev": len(dev)}))


def swapped(example):
    """Return a `tasks.Example` with its two texts in the other order."""
    return example._replace(text_a=example.text_b, text_b=example.text_a)


def row_of(example):
    """Return the object of an example's line."""
    return {"sentence1": example.text_a, "sentence2": example.text_b, "label": example.label}


if __name__ == "__main__":
    cli.run(main, define_flags)
