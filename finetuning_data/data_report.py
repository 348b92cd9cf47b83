"""A report on examples before training: classes, duplicates, overlap, unknown pieces."""

import collections
import re

import numpy as np
from absl import logging

from common.errors import UserError
from common.text_table import text_table
from tokenization import UNK

# Share of unknown pieces above which there is a warning.
WARNED_SHARE = 0.01
# If the labels are more than this many different numbers, there is a warning.
MOST_GRADES = 10
# The pattern of a label that is a number.
SCORE = re.compile(r"-?\d+(?:\.\d+)?")
LABEL_SEPARATORS = "|,，、;；/ "  # characters between the labels in a list of labels
SAMPLED_TEXTS = 10000  # the pieces of at most this many texts of a split are counted
CHUNK_TEXTS = 256  # this many texts are encoded at a time
SHOWN_UNKNOWN = 10  # a message lists at most this many unknown pieces


def log_data(labels, splits):
    """Log the classes of every split, and warn of a single class and of repeated examples.

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
        _warn_of_one_class(report["classes"]["train"])
        report["duplicates_in_train"] = count_duplicates(splits["train"])
    if "train" in splits and "dev" in splits:
        report["train_dev_overlap"] = count_overlap(splits["train"], splits["dev"])
    return report


def _warn_of_one_class(counts):
    present = [label for label in counts if counts[label]]
    if len(present) == 1:
        logging.warning(
            "ONE CLASS: all %d train examples have the label %r, so no other label is learned: is "
            "the train file complete, and its label column the right one?",
            counts[present[0]],
            present[0],
        )


def warn_of_odd_labels(labels, num_train):
    """Warn of labels that are not classes: texts or ids, numbers such as 3.2, lists of labels.

    Args:
        labels: tuple of str, the labels of the train file.
        num_train: int, the number of train examples.
    """
    if 2 * len(labels) > num_train:
        logging.warning(
            "%d labels for %d train examples: is the label column the right one?",
            len(labels),
            num_train,
        )
    scores = [label for label in labels if SCORE.fullmatch(label)]
    if len(labels) > MOST_GRADES and len(scores) == len(labels) and any("." in x for x in scores):
        logging.warning(
            "SCORES: the %d labels are numbers, such as %s, and each becomes a class of its own; "
            "no task here predicts numbers: round them to a few grades",
            len(labels),
            scores[0],
        )
    for separator in LABEL_SEPARATORS:
        lists = [[part.strip() for part in label.split(separator)] for label in labels]
        counts = collections.Counter(part for parts in lists for part in set(parts) if part)
        joined = [parts for parts in lists if len(parts) > 1]
        if len(joined) > 1 and all(counts[part] > 1 for parts in joined for part in parts):
            logging.warning(
                "LISTS OF LABELS: %d of the %d labels, such as %r, seem to be several labels with "
                "%r between them. An example has one label, so each list becomes a class of its "
                "own; to learn several labels, train a model of yes and no for each of them",
                len(joined),
                len(labels),
                next(label for label in labels if separator in label),
                separator,
            )
            return


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


def count_duplicates(train):
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


def count_overlap(train, dev):
    """Return how many dev examples have the texts of a train example, with any label.

    The model may have memorized such examples, which raises the dev score; a warning says so.

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

    Files are often sorted, so the first rows are not typical. A random sample has nearly the
    shares of the classes that the file has. Chance level and the classifier's bias depend on these
    shares. With one seed a smaller sample is a part of every larger one, so that a learning curve
    over sizes is consistent.

    Args:
        examples: list.
        count: int, or None for all of them.
        seed: int.
    """
    if count is None or count >= len(examples):
        return examples
    order = np.random.RandomState(seed).permutation(len(examples))
    return [examples[i] for i in sorted(order[:count])]


def warn_of_repeated_ids(path, examples):
    """Warn if several examples of a file have the same id, their field `guid`."""
    counts = collections.Counter(example.guid for example in examples)
    repeated = [guid for guid, count in counts.items() if count > 1]
    if repeated:
        logging.warning(
            "REPEATED IDS: %d ids of %s, %s first, belong to several rows: every row gets its "
            "prediction, in the order of the file",
            len(repeated),
            path,
            repeated[0],
        )


class UnknownPieces:
    """Counts the unknown pieces of texts.

    Args:
        tokenizer: `tokenization.FullTokenizer`.
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.num_pieces = self.num_unknown = 0
        self._commonest = collections.Counter()

    def add(self, texts):
        """Count the pieces of a list of str."""
        unknown_id = self._tokenizer.vocab[UNK]
        for begin in range(0, len(texts), CHUNK_TEXTS):
            text = "\n".join(texts[begin : begin + CHUNK_TEXTS])
            ids, begins, ends = self._tokenizer.encode(text)
            is_piece = ends > begins  # a piece of blanks alone does not count
            places = np.flatnonzero(is_piece & (ids == unknown_id))
            spans = [text[b:e] for b, e in zip(begins[places].tolist(), ends[places].tolist())]
            if self._tokenizer.basic_tokenizer is None:  # SentencePiece joins unknown characters
                self._commonest.update(character for span in spans for character in span.strip())
            else:
                self._commonest.update(spans)
            self.num_pieces += int(is_piece.sum())
            self.num_unknown += len(spans)

    @property
    def share(self):
        return self.num_unknown / max(self.num_pieces, 1)

    def sentence(self, name):
        """Return a sentence for the user about the counted texts; `name` says what they are."""
        listed = self._commonest.most_common(SHOWN_UNKNOWN)
        shown = ", ".join("{!r} {}".format(span[:20], count) for span, count in listed)
        sentence = "UNKNOWN PIECES: {:.1%} of the pieces of {} are {}; the commonest are {}"
        return sentence.format(self.share, name, UNK, shown) + self._remedy()

    def _remedy(self):
        words = self._tokenizer.basic_tokenizer
        upper = sum(n for span, n in self._commonest.items() if span != span.lower())
        if words and not words.do_lower_case and 2 * upper > self.num_unknown:
            return "; a lower-case vocabulary needs --do_lower_case=True"
        return "; use the vocabulary of a model that was pre-trained on such text"


def texts_of(examples):
    """Return all texts of examples as a list of str, the second ones of pairs last."""
    texts = [example.text_a for example in examples]
    return texts + [example.text_b for example in examples if example.text_b is not None]


def check_unknown_pieces(texts_of_name, tokenizer, max_share):
    """Log the share of unknown pieces, and warn where it is above WARNED_SHARE.

    If there are many texts, only a sample of them is counted, at equal distances.

    Args:
        texts_of_name: dict of the name of a split or file to its texts, a list of str.
        tokenizer: `tokenization.FullTokenizer`.
        max_share: float.

    Returns:
        (None, line).

    Raises:
        UserError: where the share is above `max_share`.
    """
    shares = []
    for name, texts in texts_of_name.items():
        pieces = UnknownPieces(tokenizer)
        pieces.add(texts[:: -(-len(texts) // SAMPLED_TEXTS) or 1])
        shares.append("{:.2%} of {}".format(pieces.share, name))
        if pieces.share > max_share:
            raise UserError(
                "{}, or give --max_unknown_share=1 to continue".format(pieces.sentence(name))
            )
        if pieces.share > WARNED_SHARE:
            logging.warning(pieces.sentence(name))
    line = "unknown pieces: " + ", ".join(shares)
    logging.info(line)
    return None, line
