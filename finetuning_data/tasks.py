"""Fine-tuning tasks: their files, their labels, and their examples.

A task is an entry of `TASKS`: the names of its files, how their columns become texts, and its
labels in their order. `task_files` reads the files.
"""

import os
import re
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from absl import logging

from common import files
from common.errors import UserError
from finetuning_data import data_report, other_files, task_files
from finetuning_data.bad_rows import BadRow, BadRows, row_error
from finetuning_data.task_files import WrongLabel

SPLITS = ("train", "dev", "test")
# Values that mean "no label" in test files, unless the task has a label of this name.
NO_LABEL = ("", "-1")
# Columns of a row's id; the first that exists counts.
ID_COLUMNS = ("id", "idx", "qid")
# How many labels a message lists, and characters of a label.
SHOWN_LABELS, SHOWN_LENGTH = 20, 30


class Example(NamedTuple):
    """One row of a data set.

    Fields:
        guid: the row's id in the file, else the number of its line, from 0 and without a header.
        text_a, text_b: texts; text_b is None where a task has one text.
        label: None where a test set has none.
    """

    guid: str
    text_a: str
    text_b: Optional[str] = None
    label: Optional[str] = None


def _clue_row(guid, label):
    """Return the line of one prediction in a submission to CLUE, as a dict."""
    return {"id": int(guid) if guid.isdecimal() else guid, "label": label}


class Submission(NamedTuple):
    """A file of test predictions in CLUE's format, JSON lines.

    Fields:
        file: the file's name; {} is replaced by the version of the test file: 11 for test1.1.json.
        row: function of (guid, label) that returns the object of a line.
    """

    file: str
    row: Callable = _clue_row

    def file_for(self, test_file):
        """Return the name of the file with the predictions for a test file, str."""
        version = re.search(r"(\d)\.(\d)\.json$", test_file)
        return self.file.format("".join(version.groups()) if version else "")


def _named_files(**more):
    """Return `Task.files`: train.tsv and so on, followed by the names of `more` for each split."""
    names = {split: tuple(split + suffix for suffix in task_files.SUFFIXES) for split in SPLITS}
    return {split: names[split] + more.get(split, ()) for split in SPLITS}


class Task(NamedTuple):
    """A data set: its files, columns and labels.

    Fields:
        name: as given by --task_name.
        labels: in the order of the classifier's outputs; empty: the labels of the train file.
        files: split -> file names below the data folder; the first that exists is read.
        fields: order of the columns in a table without a header.
        convert: function from a row to one with the text columns of `fields`, for files that have
            other columns; raises `BadRow`.
        label_spellings: other spelling of a label -> label.
        undecided: labels of rows on which the annotators did not agree, which are not examples.
        keep: column -> the value whose rows are kept, in files that have the column.
        submission: `Submission`; None where no benchmark takes predictions.
    """

    name: str
    labels: Tuple[str, ...] = ()
    files: Dict[str, Tuple[str, ...]] = _named_files()
    fields: Tuple[str, ...] = ("text_a", "text_b", "label")
    convert: Optional[Callable] = None
    label_spellings: Dict[str, str] = {}
    undecided: Tuple[str, ...] = ()
    keep: Dict[str, str] = {}
    submission: Optional[Submission] = None


def _keywords_and_abstract(row):
    """CSL: are these the keywords of this abstract? The keywords make one text, as in CLUE."""
    keywords = _value(row, "keyword", list)
    if not all(isinstance(keyword, str) for keyword in keywords):
        raise BadRow("keyword {} is not a list of texts".format(task_files.shown(keywords)))
    return dict(row, text_a=" ".join(keywords), text_b=_value(row, "abst", str))


def _marked_spans(row):
    """CLUEWSC: does the pronoun (span 2) mean the noun (span 1)?

    The text gets the marks around both spans that CLUE's baselines put there.

    >>> spans = {"span1_text": "猫", "span1_index": 0, "span2_text": "它", "span2_index": 3}
    >>> _marked_spans({"text_a": "猫饿了它叫", "target": spans})["text_a"]
    '_猫_饿了[它]叫'
    """
    text = _value(row, "text_a", str)
    target = _value(row, "target", dict)
    marks = []
    for span, (opening, closing) in (("span1", "__"), ("span2", "[]")):
        begin, end = _span(text, target, span)
        marks += [(begin, 1, opening), (end, 0, closing)]
    for position, _, mark in sorted(marks, reverse=True):  # backwards, so that positions stay right
        text = text[:position] + mark + text[position:]
    return dict(row, text_a=text)


def _span(text, target, span):
    """Return the half-open range of a span; raises `BadRow` if the text differs there."""
    words = _value(target, span + "_text", str)
    begin = _value(target, span + "_index", int)
    end = begin + len(words)
    if not words or begin < 0 or text[begin:end] != words:
        raise BadRow(
            "{0}_index {1} does not fit: {0}_text is {2!r}, and the text has {3!r} there; "
            "correct the index, which counts characters from 0".format(
                span, begin, words, text[max(begin, 0) : max(end, 0)]
            )
        )
    return begin, end


def _value(row, column, wanted_type):
    """Return a value; raises `BadRow` if the value is missing or of another type than wanted."""
    if column not in row:
        raise BadRow(task_files.missing(column, row))
    value = row[column]
    if not isinstance(value, wanted_type) or isinstance(value, bool):
        names = {str: "text", int: "whole number", list: "list", dict: "object"}
        raise BadRow(
            "{} is {}, not a {}".format(column, task_files.shown(value), names[wanted_type])
        )
    return value


_SAME_OR_NOT = ("0", "1")
_INFERENCE = ("contradiction", "entailment", "neutral")
_SENTENCE = ("text_a", "label")
# For tasks whose test sets in CLUE 1.1 and CLUE 1.0 differ.
_TWO_TESTS = ("test1.1.json", "test1.0.json")

# Code in CLUE's files -> label; 105 and 111 do not occur.
_TNEWS_LABELS = {
    "100": "news_story",
    "101": "news_culture",
    "102": "news_entertainment",
    "103": "news_sports",
    "104": "news_finance",
    "106": "news_house",
    "107": "news_car",
    "108": "news_edu",
    "109": "news_tech",
    "110": "news_military",
    "112": "news_travel",
    "113": "news_world",
    "114": "news_stock",
    "115": "news_agriculture",
    "116": "news_game",
}
_TNEWS_CODES = {label: code for code, label in _TNEWS_LABELS.items()}


def _tnews_row(guid, label):
    return dict(_clue_row(guid, _TNEWS_CODES[label]), label_desc=label)


_TASKS = (
    Task("lcqmc_pair", _SAME_OR_NOT),
    Task("bq", _SAME_OR_NOT),
    Task(
        "paws-x",
        _SAME_OR_NOT,
        _named_files(train=("translated_train.tsv",), dev=("dev_2k.tsv",), test=("test_2k.tsv",)),
    ),
    Task(
        "xnli",
        _INFERENCE,
        _named_files(
            train=("multinli.train.zh.tsv", os.path.join("multinli", "multinli.train.zh.tsv")),
            dev=("xnli.dev.tsv",),
            test=("xnli.test.tsv",),
        ),
        label_spellings={"contradictory": "contradiction"},
        keep={"language": "zh"},
    ),
    Task("chnsenticorp", ("0", "1"), fields=("label", "text_a")),
    Task("afqmc", _SAME_OR_NOT, submission=Submission("afqmc_predict.json")),
    Task("cmnli", _INFERENCE, undecided=("-",), submission=Submission("cmnli_predict.json")),
    Task(
        "ocnli",
        _INFERENCE,
        # The train set comes in five sizes; the largest that exists is read.
        _named_files(train=tuple("train.{}k.json".format(size) for size in (50, 30, 10, 3, 1))),
        undecided=("-",),
        submission=Submission("ocnli_50k_predict.json"),
    ),
    Task(
        "tnews",
        tuple(_TNEWS_LABELS.values()),
        _named_files(test=_TWO_TESTS),
        fields=_SENTENCE,
        label_spellings=_TNEWS_LABELS,
        submission=Submission("tnews{}_predict.json", _tnews_row),
    ),
    Task(
        "iflytek",
        tuple(str(number) for number in range(119)),
        fields=_SENTENCE,
        submission=Submission("iflytek_predict.json"),
    ),
    Task(
        "csl",
        ("0", "1"),
        convert=_keywords_and_abstract,
        submission=Submission("csl_predict.json"),
    ),
    Task(
        "cluewsc2020",
        ("true", "false"),
        _named_files(test=_TWO_TESTS),
        fields=_SENTENCE,
        convert=_marked_spans,
        submission=Submission("cluewsc{}_predict.json"),
    ),
    # A user's own files; the labels are given, or found in the train file.
    Task("sentence", fields=_SENTENCE),
    Task("sentence_pair"),
)

TASKS = {task.name: task for task in _TASKS}
TASKS["lcqmc"] = TASKS["lcqmc_pair"]


def get_task(name, labels=None):
    """Look up a task by name, upper or lower case.

    Args:
        name: str.
        labels: list of str, in the order of the classifier's outputs, for `sentence` and
            `sentence_pair`; None: `with_labels_of` takes the train file's labels.

    Raises:
        UserError: for an unknown name, for labels of a task that has its own, and for labels that
            are equal or empty.
    """
    try:
        task = TASKS[name.lower()]
    except KeyError:
        raise UserError(
            "task {!r} is unknown; the tasks are {}".format(name, ", ".join(sorted(TASKS)))
        ) from None
    if not labels:
        return task
    if task.labels:
        raise UserError(
            "task {} has its own labels, {}: leave yours out, or use sentence or sentence_pair "
            "for files of your own".format(task.name, _listed(task.labels))
        )
    labels = tuple(label.strip() for label in labels)
    if len(labels) < 2 or len(set(labels)) < len(labels) or "" in labels:
        raise UserError("labels {}: give two or more different ones".format(_listed(labels)))
    return task._replace(labels=labels)


def with_labels_of(task, train):
    """Return a task that has the labels of its train examples, sorted, if it has none yet.

    Args:
        task: `Task`.
        train: list of `Example`.

    Raises:
        UserError: if all examples have one label, or if the labels are texts.
    """
    if task.labels:
        return task
    labels = tuple(sorted({example.label for example in train}))
    _refuse_texts_as_labels(task, train, labels)
    task_files.refuse_equal_numbers(labels)
    if len(labels) < 2:
        raise UserError(
            "all {} train examples have the label {!r}, so there is nothing to learn: is the train "
            "file complete, and its label column the right one?".format(len(train), labels[0])
        )
    logging.info("%d labels found in the train file: %s", len(labels), _listed(labels))
    data_report.warn_of_odd_labels(labels, len(train))
    return task._replace(labels=labels)


def _refuse_texts_as_labels(task, train, labels):
    """Raise `UserError` if most labels occur once, but the values of another column repeat."""
    if 2 * len(labels) <= len(train):
        return
    for field in task.fields:
        values = {getattr(example, field) for example in train}
        if field != "label" and 2 * len(values) <= len(train):
            raise UserError(
                "{} train examples have {} different labels, such as {}, but {} different values "
                "of {}: {}".format(
                    len(train),
                    len(labels),
                    task_files.shown(labels[0]),
                    len(values),
                    field,
                    task_files.order_remedy(task.fields, field),
                )
            )


def load_examples(task, data_dir, split, skip_bad_rows=False, header="auto"):
    """Read the examples of one split from the folder `data_dir`, as `read_examples` does.

    Raises:
        UserError: as in `read_examples`, and for a missing file.
    """
    return read_examples(task, find_file(task, data_dir, split), split, skip_bad_rows, header)


def read_examples(task, path, split, skip_bad_rows=False, header="auto"):
    """Read a file of a task.

    Args:
        task: `Task`.
        path: str, of an existing file with one of the suffixes in `task_files.SUFFIXES`.
        split: "train", "dev" or "test"; only rows of "test" may lack labels.
        skip_bad_rows: bool, whether rows that cannot be read are left out and listed in the log
            instead of ending the run; None means False, and errors then name no flag.
        header: str, one of `task_files.HEADER_MODES`.

    Returns:
        List of `Example` in the order of the file. Undecided rows are left out of train and dev,
        and have no label in test.

    Raises:
        UserError: for an empty file, for the first row that does not parse or has a label that the
            task does not have, if no row parses, and if the first row seems to be a header.
    """
    labels = frozenset(task.labels) | frozenset(task.label_spellings)
    row_format = task_files.RowFormat(task.fields, labels, split != "test", header)
    examples, bad, undecided, first = [], BadRows(skip_bad_rows), 0, None
    rows = task_files.open_rows(path, row_format)
    for number, line in rows.lines:
        try:
            row = rows.parse(line)
            if any(row.get(column, value) != value for column, value in task.keep.items()):
                continue
            label = _label(task, split, row)
            if label in task.undecided:
                undecided += 1
            else:
                examples.append(_example(task, row, label, number - rows.header_row - 1))
                first = first or number
        except BadRow as problem:
            remedy = _remedy(task, split, rows, number, problem)
            bad.add(path, "row {}".format(number), problem, remedy)
    kept = "".join(" with {} {!r}".format(*item) for item in sorted(task.keep.items()))
    bad.end(path, examples, "no rows" + kept)
    if rows.may_begin_with_header and not task.labels and first == rows.lines[0][0]:
        _refuse_label_of_header(path, first, examples)
    _log_examples(split, path, examples, undecided)
    if split == "test":
        data_report.warn_of_repeated_ids(path, examples)
    return examples


def _remedy(task, split, rows, number, problem):
    """Return the remedy to add to a `BadRow` about its label."""
    swapped, is_test = getattr(problem, "field", None), split == "test"
    if swapped and rows.has_names:
        return ": are these two names exchanged?"
    if not swapped and rows.may_begin_with_header and number == rows.lines[0][0]:
        try:
            for _, line in rows.lines[1:2]:
                _label(task, split, rows.parse(line))
            return "; if this row is a header, give --header=yes"
        except BadRow:  # the second row is bad too, so the first may be no header
            pass
    if isinstance(problem, WrongLabel) and not rows.has_names and (swapped or is_test):
        return "; " + task_files.order_remedy(task.fields, swapped or task.fields[0], is_test)
    return ""


def _refuse_label_of_header(path, number, examples):
    """Raise `UserError` if only the first row has its label, and the other labels are not rare."""
    label, others = examples[0].label, [example.label for example in examples[1:]]
    if others and label not in others and len(others) >= 2 * len(set(others)):
        raise row_error(
            path,
            number,
            "no other row has the label {}: if this row is a header, give --header=yes; if it is "
            "an example, --header=no".format(task_files.shown(label)),
        )


def find_file(task, data_dir, split):
    """Return the path of a split's file; raises UserError where there is none."""
    candidates = [os.path.join(data_dir, name) for name in task.files[split]]
    for path in candidates:
        if files.exists(path):
            return path
    raise UserError(
        "no {} file of task {}: looked for {}; {}".format(
            split,
            task.name,
            ", ".join(candidates),
            other_files.found_instead(data_dir, split, candidates),
        )
    )


def _example(task, row, label, position):
    if task.convert:
        row = task.convert(row)
    texts = {}
    for field in task.fields:
        if field != "label":
            texts[field] = _value(row, field, str).strip()
            if not texts[field]:
                raise BadRow("{} is empty".format(field))
    return Example(_guid(row, position), label=label, **texts)


def _guid(row, position):
    for column in ID_COLUMNS:
        if column in row:
            guid = task_files.scalar(column, row[column])
            if guid:
                return guid
    return str(position)


def _label(task, split, row):
    """Return the label of a row, which may be one of `Task.undecided`; None in a test file."""
    stored = task_files.scalar("label", row.get("label"))
    stored = task_files.known_label(stored, NO_LABEL + tuple(task.label_spellings))
    label = task_files.known_label(task.label_spellings.get(stored, stored), task.labels)
    if label in task.labels:
        return label
    if split == "test" and label in NO_LABEL + task.undecided:
        return None
    if label in task.undecided or (label and not task.labels):
        return label
    if not label:
        problem = "there is no label" if "label" in row else task_files.missing("label")
        raise BadRow(problem + "; only a test file may lack it")
    for field in task.fields:
        if isinstance(row.get(field), str) and row[field].strip() in task.labels:
            text = "{} {} is one of the labels, and label {} is not"
            values = map(task_files.shown, (row[field], stored))
            raise WrongLabel(text.format(field, *values), field)
    raise WrongLabel(
        "label {} is not one of the labels of task {}: {}{}".format(
            task_files.shown(stored),
            task.name,
            _listed(task.labels),
            "; a test file without labels has -1 in this column, or lacks it" * (split == "test")
            + "; if it is a class, name all classes with --labels" * (not TASKS[task.name].labels),
        )
    )


def _listed(labels):
    more = len(labels) - SHOWN_LABELS
    listed = [
        label if len(label) < SHOWN_LENGTH else label[:SHOWN_LENGTH] + "..." for label in labels
    ]
    return ", ".join(listed[:SHOWN_LABELS]) + (" and {} more".format(more) if more > 0 else "")


def _log_examples(split, path, examples, undecided):
    logging.info("%d examples for %s from %s", len(examples), split, path)
    if undecided:
        logging.info("%d rows of %s left out: their annotators did not agree", undecided, path)
    labels = {example.label for example in examples}
    if split == "test" and len(examples) > 1 and len(labels) == 1 and None not in labels:
        logging.warning(
            "ONE LABEL: every row of %s has the label %r: if it means that the label is unknown, "
            "scores on this file are meaningless",
            path,
            examples[0].label,
        )
