"""A report on examples before training: class counts, duplicates, overlap of train and dev."""

import collections

import numpy as np
from absl import logging

from common.text_table import text_table


def log_data(labels, splits):
    """Log the classes of every split, and warn of examples that occur more than once.

    Args:
        labels: list of str, the labels of the task.
        splits: dict of split name to list of `tasks.Example`.

    Returns:
        dict that json can write: `classes` (split -> label -> number of examples),
        `duplicates_in_train` and `train_dev_overlap`, for the splits that are given.
    """
    report = {"classes": {split: class_counts(splits[split], labels) for split in splits}}
    logging.info("Examples of each class:\n%s", class_table(report["classes"]))
    if "train" in splits:
        report["duplicates_in_train"] = duplicates(splits["train"])
    if "train" in splits and "dev" in splits:
        report["train_dev_overlap"] = overlap(splits["train"], splits["dev"])
    return report


def class_counts(examples, labels):
    """Return a dict of label to its number of examples, in the order of `labels`."""
    counts = collections.Counter(example.label for example in examples)
    return {label: counts[label] for label in labels}


def class_table(counts_of_split):
    """Return a text table of classes and their shares.

    Args:
        counts_of_split: dict of split name to the result of `class_counts`, which does not count
            examples without a label.
    """
    labels = next(iter(counts_of_split.values()))
    columns = [["label"] + list(labels) + ["all"]]
    for split, counts in counts_of_split.items():
        total = sum(counts.values())
        numbers = list(counts.values()) + [total]
        columns.append([split] + numbers)
        columns.append(["share"] + ["{:.1%}".format(n / total) if total else "-" for n in numbers])
    return text_table(zip(*columns))


def duplicates(train):
    """Return how many examples repeat the texts of an earlier one; warn if there are any."""
    labels_of_texts = {}
    for example in train:
        labels_of_texts.setdefault(_texts(example), set()).add(example.label)
    count = len(train) - len(labels_of_texts)
    contradicting = sum(len(labels) > 1 for labels in labels_of_texts.values())
    if count:
        logging.warning(
            "DUPLICATES: %d of %d train examples repeat the texts of another; %d texts have "
            "more than one label",
            count,
            len(train),
            contradicting,
        )
    return count


def overlap(train, dev):
    """Return how many dev examples have the texts of a train example, with any label.

    The model may have memorized them, which raises the dev score. A warning gives their number.

    Args:
        train, dev: lists of `tasks.Example`.
    """
    seen = {_texts(example) for example in train}
    count = sum(_texts(example) in seen for example in dev)
    if count:
        logging.warning(
            "OVERLAP: %d of %d dev examples (%.1f%%) have the texts of a train example: this can "
            "raise the dev score",
            count,
            len(dev),
            100 * count / len(dev),
        )
    return count


def _texts(example):
    return example.text_a, example.text_b


def sample_examples(examples, count, seed):
    """Return `count` examples drawn at random, in their order; all examples if there are fewer.

    Files are often sorted, so the first rows are no fair sample. The sample keeps the shares of the
    classes, since chance level and the classifier's bias depend on them. With one seed a smaller
    sample is a part of every larger one, so that a learning curve over sizes is consistent.

    Args:
        examples: list.
        count: int, or None for all of them.
        seed: int.
    """
    if count is None or count >= len(examples):
        return examples
    order = np.random.RandomState(seed).permutation(len(examples))
    return [examples[i] for i in sorted(order[:count])]
