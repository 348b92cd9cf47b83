"""Fine-tuning tasks: their files, their labels and their examples.

A file has one example a row and a tab between columns; quotes are plain characters. With a header
the columns are found by name, without one they stand in the order of `Task.fields`.
"""

import itertools
import os
from typing import Dict, NamedTuple, Optional, Tuple

import tensorflow.compat.v1 as tf

from pipeline.errors import UserError

SPLITS = ("train", "dev", "test")
# How much of a row a message quotes.
SHOWN_CHARACTERS = 60

# Column names in the headers of published data sets -> field of an example.
COLUMN_NAMES = {
    "text_a": "text_a",
    "sentence1": "text_a",
    "question1": "text_a",
    "premise": "text_a",
    "text_b": "text_b",
    "sentence2": "text_b",
    "question2": "text_b",
    "hypo": "text_b",
    "hypothesis": "text_b",
    "label": "label",
    "gold_label": "label",
}


class Example(NamedTuple):
    """One row of a data set; `label` is None where a test set has none."""

    guid: str
    text_a: str
    text_b: Optional[str] = None
    label: Optional[str] = None


class Task(NamedTuple):
    """What tells one data set from another.

    Fields:
        name: as given by --task_name.
        labels: in the order of the classifier's outputs.
        files: split -> file names below the data folder; the first that exists is read.
        fields: order of the columns in a file without a header.
        label_spellings: other spelling of a label -> label.
        keep: column -> the value whose rows are kept, in files that have the column.
    """

    name: str
    labels: Tuple[str, ...]
    files: Dict[str, Tuple[str, ...]]
    fields: Tuple[str, ...] = ("text_a", "text_b", "label")
    label_spellings: Dict[str, str] = {}
    keep: Dict[str, str] = {}


_PLAIN_FILES = {split: (split + ".tsv", split + ".txt") for split in SPLITS}

_LCQMC = Task(name="lcqmc_pair", labels=("0", "1"), files=_PLAIN_FILES)
_XNLI = Task(
    name="xnli",
    labels=("contradiction", "entailment", "neutral"),
    files={
        "train": _PLAIN_FILES["train"]
        + ("multinli.train.zh.tsv", os.path.join("multinli", "multinli.train.zh.tsv")),
        "dev": _PLAIN_FILES["dev"] + ("xnli.dev.tsv",),
        "test": _PLAIN_FILES["test"] + ("xnli.test.tsv",),
    },
    label_spellings={"contradictory": "contradiction"},
    keep={"language": "zh"},
)

TASKS = {"lcqmc_pair": _LCQMC, "lcqmc": _LCQMC, "xnli": _XNLI}


def get_task(name):
    """Look up a task by name, in any case of letters.

    Raises:
        UserError: for a name that no task has.
    """
    try:
        return TASKS[name.lower()]
    except KeyError:
        raise UserError(
            "task {!r} is unknown; the tasks are {}".format(name, ", ".join(sorted(TASKS)))
        ) from None


def load_examples(task, data_dir, split):
    """Read one split of a data set.

    Args:
        task: `Task`.
        data_dir: folder of the data set.
        split: "train", "dev" or "test"; only rows of "test" may lack labels.

    Returns:
        List of `Example` in the order of the file.

    Raises:
        UserError: for a missing or empty file, and for the first row that does not parse or has a
            label that the task does not know.
    """
    path = find_file(task, data_dir, split)
    examples = [
        _example(task, row, split, path, number)
        for number, row in _named_rows(task, split, path)
        if all(row.get(column, value) == value for column, value in task.keep.items())
    ]
    if not examples:
        kept = "".join(" with {} {!r}".format(*item) for item in sorted(task.keep.items()))
        raise UserError("{}: no rows{}".format(path, kept))
    tf.logging.info("%d examples for %s from %s", len(examples), split, path)
    return examples


def find_file(task, data_dir, split):
    """Return the path of a split's file; raises UserError where there is none."""
    candidates = [os.path.join(data_dir, name) for name in task.files[split]]
    for path in candidates:
        if tf.io.gfile.exists(path):
            return path
    raise UserError(
        "no {} file of task {}: looked for {}".format(split, task.name, ", ".join(candidates))
    )


def _named_rows(task, split, path):
    """Yield (row number, dictionary from column to cell) for every row but the header."""
    rows = _read_rows(path)
    first = next(rows, None)
    if first is None:
        return
    header = _header(task, first[1])
    if header:
        if split != "test" and "label" not in header:
            raise _row_error(path, first[0], "the header {} names no label".format(first[1]))
        layouts = [header]
    else:
        layouts = [task.fields]
        if split == "test":
            layouts.append(_text_fields(task))
        rows = itertools.chain([first], rows)
    layout_of_length = {len(layout): layout for layout in layouts}
    for number, cells in rows:
        if len(cells) not in layout_of_length:
            expected = " or ".join("{} ({})".format(len(x), ", ".join(x)) for x in layouts)
            found = "found {} columns ({}), expected {} separated by tabs".format(
                len(cells), _shortened("\t".join(cells)), expected
            )
            raise _row_error(path, number, found)
        yield number, dict(zip(layout_of_length[len(cells)], cells))


def _read_rows(path):
    """Yield (row number from 1, list of cells) for every row that is not blank."""
    with tf.io.gfile.GFile(path, "rb") as stream:
        lines = stream.read().split(b"\n")  # str.splitlines would also split at U+2028
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
        except UnicodeDecodeError:
            remedy = "not UTF-8 text; convert the file (iconv -f GB18030 -t UTF-8)"
            raise _row_error(path, number, remedy) from None
        if text.strip(" "):
            yield number, text.split("\t")


def _header(task, cells):
    """Name the columns if `cells` are a header; None if they are an example."""
    position = task.fields.index("label")
    same_width = len(cells) == len(task.fields)
    if same_width and _canonical_label(task, cells[position]) in task.labels:
        return None
    names = [cell.strip().lower() for cell in cells]
    header = tuple(COLUMN_NAMES.get(name, name) for name in names)
    if set(_text_fields(task)) <= set(header):
        return header
    return task.fields if same_width and header[position] == "label" else None


def _text_fields(task):
    return tuple(field for field in task.fields if field != "label")


def _canonical_label(task, label):
    label = label.strip()
    return task.label_spellings.get(label, label)


def _example(task, row, split, path, number):
    for field in _text_fields(task):
        if not row[field].strip():
            raise _row_error(path, number, "{} is empty".format(field))
    label = _canonical_label(task, row.get("label", "")) or None
    if label not in task.labels and not (split == "test" and label is None):
        found = "label {!r} is not one of the labels of task {}: {}".format(
            row["label"], task.name, ", ".join(task.labels)
        )
        raise _row_error(path, number, found)
    return Example(
        guid="{}-{}".format(split, number),
        text_a=row["text_a"].strip(),
        text_b=row["text_b"].strip() if "text_b" in task.fields else None,
        label=label,
    )


def _row_error(path, number, message):
    return UserError("{}, row {}: {}".format(path, number, message))


def _shortened(text):
    shown = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
    return repr(shown)
