"""The examples of a fine-tuning run: read and looked at, encoded, and fed to the model.

The functions take the `preflight.Plan` of the run, and say what they need of it.
"""

import json
import os
from typing import NamedTuple

from absl import logging

from checkpointing import model_files, run_folder
from common import files
from common.errors import UserError
from finetuning import batching, data_report, tasks
from finetuning.encoding import Features, cached_features, measure_lengths
from tfrecords import index


class Encoded(NamedTuple):
    """A split as integers, and the file that holds them."""

    path: str
    features: Features

    @property
    def name(self):
        """The file's name, which has a fingerprint of all that it depends on."""
        return os.path.basename(self.path)


def look_at_data(plan):
    """Read the splits and look for what is odd about them.

    Needs `args`, `splits` and `folders`, those of the runs; sets `task`, `examples` (split -> list
    of `tasks.Example`), `data_files` (split -> path) and `data`, what was found.
    """
    args = plan.args
    task, examples = find_task(plan), {}
    for split in plan.splits:
        examples[split] = tasks.load_examples(task, args.data_dir, split, args.skip_bad_rows)
        if split == "train":
            task = tasks.with_found_labels(task, examples["train"])
            examples["train"] = data_report.sample_examples(
                examples["train"], args.max_train_examples, args.random_seed
            )
    plan.task, plan.examples = task, examples
    plan.data_files = {split: tasks.find_file(task, args.data_dir, split) for split in plan.splits}
    plan.data_findings = data_report.log_data(task.labels, examples)
    counts = ", ".join("{:,} {}".format(len(examples[split]), split) for split in examples)
    return "{}: {} labels, examples: {}".format(task.name, len(task.labels), counts)


def find_task(plan):
    """Return the task of the flags; where nothing is trained, a model's folder may have its labels.

    Raises:
        UserError: if there is no such task, or nothing tells its labels.
    """
    args = plan.args
    task = tasks.get_task(args.task_name, args.labels)
    if task.labels or args.do_train:
        return task
    for folder in plan.folders + [args.init_checkpoint or ""]:
        if files.exists(os.path.join(folder, model_files.DESCRIPTION)):
            return task._replace(labels=model_files.read(folder).labels)
    raise UserError(
        "nothing tells the labels of task {}: give --labels, in the order of the training".format(
            task.name
        )
    )


def encode(plan, split):
    """Return the `Encoded` examples of a split; in output_dir/features, once for all runs.

    Needs `args`, `task`, `examples` and `tokenizer`.
    """
    args = plan.args
    tokenizer_settings = {
        name: path and files.sha256(path)
        for name, path in (("vocab", args.vocab_file), ("spm_model", args.spm_model_file))
    }
    tokenizer_settings["do_lower_case"] = args.do_lower_case
    path, features = cached_features(
        plan.examples[split],
        plan.task,
        plan.tokenizer,
        args.max_seq_length,
        os.path.join(args.output_dir, "features"),
        split,
        tokenizer_settings,
        num_workers=os.cpu_count() or 1,
    )
    lengths = measure_lengths(features)._asdict()
    logging.info("%s, in pieces: %s", split, json.dumps(lengths))
    return Encoded(path, features)


def training_input_fn(plan, run):
    """Return the input function of a run's training, which goes on where its checkpoint stopped.

    Args:
        plan: needs `args`, `settings`, `examples` and `encoded` (split -> `Encoded`).
        run: `seeds.Run`.
    """
    order = index.Order(
        files=[[plan.encoded["train"].name, len(plan.examples["train"])]],
        seed=run.seed,
        shuffle_buffer=None,
        batch_size=plan.settings.train_batch_size,
    )
    is_resumed = run_folder.latest_step(run.folder) > 0
    index.remember_order(run.folder, order, is_resumed)
    return _input_fn(
        plan,
        "train",
        training=True,
        seed=run.seed,
        batch_size=plan.settings.train_batch_size,
        first_step=lambda: run_folder.latest_step(run.folder),
    )


def scoring_input_fn(plan, split):
    """Return the input function of one pass over a split, in steps of the split's batch size."""
    input_fn = _input_fn(plan, split, training=False)
    if split != "dev" or plan.args.use_tpu:  # there the cores divide what the Estimator was told
        return input_fn
    return lambda params: input_fn(dict(params, batch_size=plan.args.eval_batch_size))


def _input_fn(plan, split, **options):
    args, (path, features) = plan.args, plan.encoded[split]
    fixed = batching.fixed_length(features, args.max_seq_length) if args.use_tpu else None
    return batching.make_input_fn(
        path,
        fixed or args.max_seq_length,
        dynamic_padding=args.dynamic_padding and not args.use_tpu,
        **options,
    )
