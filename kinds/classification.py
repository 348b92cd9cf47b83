"""Classification: a label for each text or pair of texts."""

import os

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
from checkpointing import model_files
from common.errors import UserError
from finetuning_data import data_report, encoding, tasks
from kinds import class_predictions, class_scores
from kinds.kind import Data, HeadOutput, Kind

PREDICTIONS = "predictions.tsv"
# Tasks for files of a user's own.
OWN_TASKS = ("sentence", "sentence_pair")


class Classification(Kind):
    """A label for each text or pair; predictions are probabilities, float32 [examples, labels]."""

    tasks = tasks.TASKS
    own_task = "sentence_pair"
    columns = (encoding.LABEL_IDS,)

    def read(self, args, splits, folders):
        """See `Kind.read`; labels come from the task, from the flags, or from the train file."""
        task, examples = find_task(args, folders), {}
        for split in splits:
            header = split == "test" and args.test_header or args.header
            examples[split] = tasks.load_examples(
                task, args.data_dir, split, args.skip_bad_rows, header
            )
            if split == "train":
                task = tasks.with_labels_of(task, examples["train"])
                examples["train"] = data_report.sample_examples(
                    examples["train"], args.max_train_examples, args.random_seed
                )
        paths = {split: [tasks.find_file(task, args.data_dir, split)] for split in splits}
        data = Data(task, examples, paths, data_report.log_data(task.labels, examples))
        counts = ", ".join("{:,} {}".format(len(examples[split]), split) for split in examples)
        return data, "{}: {} labels, examples: {}".format(task.name, len(task.labels), counts)

    def ignored_flags(self, args):
        """See `Kind.ignored_flags`."""
        return {"max_choices": "tasks of choices"}

    def texts(self, examples):
        """See `Kind.texts`; the second texts of pairs come last."""
        return data_report.texts_of(examples)

    def takes_pairs(self, task):
        """See `Kind.takes_pairs`."""
        return "text_b" in task.fields

    def reads_alike(self, before, task):
        """See `Kind.reads_alike`; the tasks need as many texts."""
        is_of_own_files = {before.name, task.name}.intersection(OWN_TASKS)
        return bool(is_of_own_files) and set(before.fields) == set(task.fields)

    def identity(self, example):
        """See `Kind.identity`."""
        return example.text_a, example.text_b, example.label

    def encode(self, examples, task, tokenizer, settings, num_workers=1):
        """See `Kind.encode`."""
        return encoding.encode_examples(
            examples, task.labels, tokenizer, settings.max_seq_length, num_workers
        )

    def output_positions(self, features):
        """See `Kind.output_positions`; the classifier reads [CLS] alone."""
        return features["input_ids"][:, :0]

    def build_head(self, model, features, task, settings, is_training, totals=None):
        """See `Kind.build_head`."""
        head = modeling.classification_head(
            model,
            len(task.labels),
            features["label_ids"] if is_training else None,
            is_training,
            settings.classifier_dropout_prob,
            totals and totals["examples"],
        )
        if is_training:
            return HeadOutput(head.loss, {})
        return HeadOutput(None, {"probabilities": tf.nn.softmax(head.logits)})  # [b, labels]

    def decode(self, examples, task, encoded, outputs, settings):
        """See `Kind.decode`."""
        return outputs["probabilities"]

    def scores(self, examples, task, predictions):
        """See `class_scores.classification_scores`."""
        label_ids = [
            encoding.UNLABELLED if example.label is None else task.labels.index(example.label)
            for example in examples
        ]
        if np.all(np.array(label_ids) < 0):
            return {"examples": len(examples)}
        return class_scores.classification_scores(predictions, label_ids, task.labels)

    def explain(self, examples, task, scores):
        """See `Kind.explain`."""
        if "accuracy" not in scores:
            return ""
        labels = [example.label for example in examples if example.label is not None]
        class_scores.warn_at_chance_level(scores["accuracy"], labels)
        return class_scores.class_tables(scores)

    def write(self, folder, data, predictions, settings):
        """See `Kind.write`; for a task of CLUE, also write the file for CLUE."""
        del settings
        task, examples, names = data.task, data.examples["test"], [PREDICTIONS]
        table = os.path.join(folder, PREDICTIONS)
        class_predictions.write_predictions(table, task.labels, examples, predictions)
        if task.submission:
            names.append(task.submission.file_for(data.files["test"][0]))
            path = os.path.join(folder, names[-1])
            class_predictions.write_submission(path, task, examples, predictions)
        return names


def find_task(args, folders):
    """Return the task of the flags; without training, its labels may come from a model's folder.

    Raises:
        UserError: where neither flags nor folders give its labels.
    """
    task = tasks.get_task(args.task_name, args.labels)
    if task.labels or args.do_train:
        return task
    model = model_files.find_description(folders, args.init_checkpoint)
    if model:
        return task._replace(labels=model.labels)
    raise UserError(
        "the labels of task {} are not known: give --labels, in the order of the training".format(
            task.name
        )
    )
