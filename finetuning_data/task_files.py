"""Rows of task files as dictionaries of column to value, for every file format.

    .json, .jsonl    one JSON object per line
    .tsv, .txt       one row per line, a tab between columns, quotes are plain characters; a header
                     names the columns, without one their order is fixed

All files are UTF-8, with or without a byte order mark, with line ends of any system. Blank lines
are skipped, but counted in row numbers. Published data sets have different names for the same
column; the dictionaries have one name.
"""

import contextlib
import csv
import functools
import json
import os
import re
import shlex
from typing import Callable, FrozenSet, List, NamedTuple, Optional, Tuple

from absl import logging

from common import file_types, files
from common.errors import UserError
from finetuning_data import other_files
from finetuning_data.bad_rows import BadRow, row_error

# A message quotes at most this many characters of a value.
SHOWN_CHARACTERS = 60
# A cell that a program has quoted: quotes inside are doubled. A quoted cell holds no tab: a quote
# that begins one text and a quote that ends another text are not a pair.
QUOTED_CELL = re.compile(rb'(?:\A|(?<=[\t\n]))"([^"\t]*(?:""[^"\t]*)*)"(?=[\t\r\n]|\Z)')

JSON_LINE = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"[^"]*"\s*:')
SEPARATOR_ROWS = 50  # rows that are read to find the separator of the columns
# Column -> its names in published data sets and in tables of users, in lower case.
NAMES = {
    "text_a": (
        "text_a sentence sentence1 text question1 premise query text1 content review "
        "文本 句子 问题 内容 评论 正文 前提 文本1 句子1 问题1"
    ),
    "text_b": (
        "text_b sentence2 question2 hypo hypothesis title text2 标题 假设 回答 文本2 句子2 问题2"
    ),
    "label": "label gold_label 标签 类别 分类",
}
COLUMN_NAMES = {name: column for column, names in NAMES.items() for name in names.split()}
# A task of one text takes the text from these columns if the file has no column of `text_a`.
TITLES = ("title", "标题")
HEADER_MODES = ("auto", "yes", "no")


class WrongLabel(BadRow):
    """A label that the task does not have; `field`: the text column that has a label, or None."""

    def __init__(self, problem, field=None):
        super().__init__(problem)
        self.field = field


def known_label(label, labels):
    """Return the known label that equals `label` up to zeros after the point, else `label` itself.

    Some programs write 1.0 instead of 1 if another row of the column is empty.
    """
    if label in labels:  # true for nearly every row
        return label
    number = _without_zeros(label)
    return next((known for known in labels if _without_zeros(known) == number), label)


def refuse_equal_numbers(labels):
    """Raise `UserError` for labels such as 1 and 1.0, which joined files may have."""
    label_of = {}  # number without zeros after the point -> label
    for label in labels:
        other = label_of.setdefault(_without_zeros(label), label)
        if other != label:
            text = "the train examples have the labels {!r} and {!r}: write the same label alike"
            raise UserError(text.format(*sorted((label, other))))


def _without_zeros(label):
    return re.sub(r"(?<=\d)\.0+$", "", label or "")


class RowFormat(NamedTuple):
    """The columns of a file's rows.

    Fields:
        fields: columns in the order of a table without a header, "label" among them.
        labels: every spelling of a known label; a first row with one of them is not a header.
        needs_label: whether every row has a label.
        header: one of HEADER_MODES: whether the first row of a table is a header; auto: its words
            decide.
    """

    fields: Tuple[str, ...]
    labels: FrozenSet[str]
    needs_label: bool
    header: str = "auto"
    mend_utf8: Optional[str] = None  # remedy for rows that are not UTF-8; `open_rows` sets it


class Rows(NamedTuple):
    """The rows of a file."""

    parse: Callable  # turns the bytes of a row into a dict, or raises `BadRow`
    lines: List[Tuple[int, bytes]]  # number in the file from 1, and bytes, of every row
    header_row: int = 0  # number of the header, 0 where there is none
    # Whether the first row, which counts as an example, may be a header of unknown words.
    may_begin_with_header: bool = False
    has_names: bool = True  # whether the file names its columns


def open_rows(path, row_format):
    """Read a file, and its header if it has one.

    Args:
        path: str; its suffix decides the format.
        row_format: `RowFormat`.

    Returns:
        `Rows`.

    Raises:
        UserError: for a file in UTF-16 or gzip, for a table with quoted cells, and for a header
            that cannot be read or lacks a column.
    """
    content = read_content(path)
    lines = split_lines(content)
    row_format = row_format._replace(mend_utf8=file_types.mend_utf8(content))
    opener = _OPENERS[os.path.splitext(path)[1]]
    if opener is _open_table:
        refuse_json(path, content, "give it a name that ends in .jsonl")
        refuse_quoted(path, content)
    return opener(path, lines, row_format)


def read_content(path):
    """Return the bytes of a file without byte order mark.

    Raises:
        UserError: for a file of another type, such as Excel, gzip or UTF-16. This function accepts
            rows in GB18030 or Big5; the function that decodes a row refuses such a row.
    """
    content = files.read_bytes(path)
    refusal = file_types.refusal(path, content)
    if refusal:
        raise UserError(refusal)
    return content[3:] if content.startswith(b"\xef\xbb\xbf") else content


def split_lines(content):
    """Return (number from 1, bytes) of every line that is not blank."""
    # str.splitlines would also split at U+2028, which occurs in texts.
    return [(n, line) for n, line in enumerate(content.split(b"\n"), 1) if line.strip(b" \t\r")]


def shown(value):
    """Return a value for a message: only the beginning of a long one."""
    quote = repr if isinstance(value, str) else str
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return quote(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


def missing(column, columns=()):
    """Return a sentence about a column that is not among `columns`, if these are known."""
    names = " or ".join(NAMES.get(column, column).split())
    found = "; found {}".format(shown(", ".join(columns))) if columns else ""
    return "no {}: a column must be named {}{}".format(column, names, found)


def order_remedy(fields, label_field, is_test=False):
    """Return what to do about a file without a header whose columns are in another order.

    Args:
        fields: columns in the order that is expected.
        label_field: the column in which labels, or in a test file ids, were found.
        is_test: bool, whether rows may lack a label.
    """
    row = [field for field in fields if field != "label"]
    row.insert(fields.index(label_field), "{}")
    row = "<TAB>".join(row)
    if is_test:
        row = "such as {}, or {}".format(row.format("id"), row.format("label"))
    return (
        "without names the columns are {}, in this order{}: reorder them, or name them in the "
        "first row of the file, {}".format(
            ", ".join(fields), ", label only if it is known" * is_test, row.format("label")
        )
    )


def refuse_quoted(path, content):
    """Raise a `UserError` for a table whose quotes come from a program, not from the texts.

    If a program quoted a table, all quotes belong to quoted cells, and a column has only quoted
    cells below the first row, or a cell of several columns has a line end. If neither holds, but
    quotes are doubled or lines end in some cells, there is a warning.

    Args:
        path: str.
        content: bytes of the whole file.
    """
    cells = list(QUOTED_CELL.finditer(content))
    if not cells or content.count(b'"') > sum(cell.group().count(b'"') for cell in cells):
        return
    rows = [row.split(b"\t") for row in QUOTED_CELL.sub(b'"', content).split(b"\n")]
    rows = [[cell.strip() for cell in row] for row in rows if any(row)][1:]
    columns = zip(*rows) if len(rows) > 1 else ()
    odd = [cell for cell in cells if b'""' in cell.group(1) or b"\n" in cell.group(1)]
    is_broken = b"\t" in content and any(b"\n" in cell.group(1) for cell in odd)
    has_column = any(set(column) == {b'"'} for column in columns)
    cells = cells if has_column else odd
    if cells:
        problem = row_error(
            path,
            content.count(b"\n", 0, cells[0].start()) + 1,
            "{} is quoted, as by a program that writes CSV; this makes a file without the quotes: "
            "{}; if they belong to the texts, give the file as JSON lines".format(
                shown(cells[0].group().decode("utf-8", "replace")),
                other_files.QUOTED_TO_TSV.format(shlex.quote(path), "NEW_FILE"),
            ),
        )
        if has_column or is_broken:
            raise problem
        logging.warning("%d QUOTED CELLS: %s", len(cells), problem)


def refuse_json(path, content, remedy):
    """Raise a `UserError` with a remedy for JSON lines in place of a table."""
    lines = list(filter(bytes.strip, content.split(b"\n", SEPARATOR_ROWS)[:SEPARATOR_ROWS]))
    if lines and all(map(JSON_LINE.match, lines)):
        raise UserError("{} holds JSON lines: {}".format(path, remedy))


def _refuse_other_separators(path, lines, row_format):
    """Raise a `UserError` for a table that has no tabs between its columns."""
    texts = [line.decode("utf-8", "replace") for _, line in lines[:SEPARATOR_ROWS]]
    if any("\t" in text for text in texts):
        return
    texts = [re.sub("[\0\r]", " ", text).strip() for text in texts]
    for pattern, name in other_files.SEPARATORS.items():
        rows = _split(texts, pattern)
        is_short = len(rows[0]) <= len(row_format.fields) or name != other_files.BLANKS
        if is_short and _are_columns(rows, row_format):
            raise UserError(other_files.separator_remedy(path, pattern))


def _split(texts, pattern):
    """Return the parts of lines as lists, for a pattern of `other_files.SEPARATORS`."""
    if pattern != other_files.COMMA:
        return [re.split(pattern, text) for text in texts]
    with contextlib.suppress(csv.Error):  # a quote without an end makes a cell too long
        return list(csv.reader(texts))
    return [[text] for text in texts]


def _are_columns(rows, row_format):
    """Return whether the parts of lines without tabs are the columns of a table."""
    width, least = len(rows[0]), len(row_format.fields) - (not row_format.needs_label)
    if {len(row) for row in rows} != {width} or width < max(2, least):
        return False
    if row_format.needs_label or len(row_format.fields) > 2:
        return True  # `width` is at least 2 here
    names = {name.strip().lower() for name in rows[0]}
    position = row_format.fields.index("label")
    labels = {row[-1 if position else 0].strip() for row in rows[1:]}
    return bool(labels) and (names <= {"id"}.union(COLUMN_NAMES) or labels <= row_format.labels)


def _open_json_lines(path, lines, row_format):
    problem = file_types.json_lines_problem(path, [line for _, line in lines[:2]])
    if problem:
        raise UserError(problem)
    for _, line in lines[:1]:
        with contextlib.suppress(ValueError, TypeError):  # `parse` reports a bad row later
            _warn_of_title(path, list(file_types.parse_json(line.decode("utf-8"))), row_format)
    return Rows(functools.partial(_json_row, row_format), lines)


def _json_row(row_format, line):
    text = _decoded(line, row_format)
    try:
        row = file_types.parse_json(text)
    except json.JSONDecodeError as error:
        raise BadRow(
            "not JSON ({}): {}; write one object per line".format(
                file_types.json_problem(error), shown(text)
            )
        ) from None
    if not isinstance(row, dict):
        raise BadRow("{} is not a JSON object: write one object per line".format(shown(row)))
    if "\\u" in text:
        check_characters(row)
    _refuse_second_text(list(row), row_format)
    named = dict(zip(_columns(row, row_format), row.values()))
    if len(named) < len(row):
        raise BadRow("two fields are the same column: {}".format(shown(", ".join(row))))
    return named


def check_characters(row):
    """Raise `BadRow` for half of a surrogate pair, which no UTF-8 file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = json.dumps(error.object[error.start])
        raise BadRow("{} is half of a character: remove it".format(half)) from None


def _open_table(path, lines, row_format):
    if not lines:
        return Rows(None, lines)
    _refuse_other_separators(path, lines, row_format)
    number, first = lines[0]
    hint = ""
    try:
        first = _cells(first, row_format)
        if row_format.header == "auto":
            hint = "; if this row is an example, give --header=no"
        header = _header(first, row_format)
    except BadRow as error:
        raise row_error(path, number, str(error) + hint) from None
    choices = [header or row_format.fields]
    if not header and not row_format.needs_label:
        choices.append(_texts(row_format))
    columns_of_width = {len(columns): columns for columns in choices}
    table_row = functools.partial(
        _table_row, row_format, columns_of_width, first if header else None
    )
    if header:
        logging.info("%s, row %d is the header: %s", path, number, shown("\t".join(first)))
        _warn_of_title(path, first, row_format)
        return Rows(table_row, lines[1:], header_row=number)
    logging.info(
        "%s has no header, row %d is an example: %s", path, number, shown("\t".join(first))
    )
    _warn_of_ids(path, lines, row_format)
    is_whole = len(first) in columns_of_width
    may_be_header = is_whole and row_format.header == "auto"
    return Rows(table_row, lines, may_begin_with_header=may_be_header, has_names=False)


def _table_row(row_format, columns_of_width, header, line):
    """Return the row of a line as a dict; `header` has the cells of the header, None without."""
    cells = _cells(line, row_format)
    if len(cells) not in columns_of_width:
        choices = columns_of_width.values()
        names = "; name the columns in the first row: {}, and any name for others, such as id"
        raise BadRow(
            "found {} columns ({}), expected {} separated by tabs{}{}".format(
                len(cells),
                shown("\t".join(cells)),
                " or ".join("{} ({})".format(len(x), ", ".join(x)) for x in choices),
                names.format(", ".join(row_format.fields))
                * (not header and len(cells) > max(columns_of_width)),
                "; is there a line break in a text?" * (len(cells) < min(columns_of_width)),
            )
        )
    if cells == header:
        raise BadRow("this row repeats the header: delete it")
    return dict(zip(columns_of_width[len(cells)], cells))


_OPENERS = {
    ".tsv": _open_table,
    ".txt": _open_table,
    ".json": _open_json_lines,
    ".jsonl": _open_json_lines,
}
SUFFIXES = tuple(_OPENERS)


def _warn_of_ids(path, lines, row_format):
    """Warn of a test file of pairs whose first texts are all numbers."""
    if row_format.needs_label or len(lines) < 3 or row_format.fields[-3:-1] != _texts(row_format):
        return
    if all(line.split(b"\t")[0].strip().isdigit() for _, line in lines):
        remedy = order_remedy(row_format.fields, row_format.fields[0], is_test=True)
        logging.warning("IDS: the first text of every row of %s is a number; %s", path, remedy)


def _header(cells, row_format):
    """Return the columns if `cells` are a header, None if they are an example."""
    if row_format.header == "no" or _is_labelled(cells, row_format):
        return None
    texts, is_told = _texts(row_format), row_format.header == "yes"
    header = tuple(_columns(cells, row_format))
    has_texts = set(texts) <= set(header)
    if is_told and len(cells) == len(texts) and not (row_format.needs_label or has_texts):
        return texts
    place = row_format.fields.index("label")
    has_width = len(cells) == len(row_format.fields)
    label_at_its_place = has_width and (is_told or header[place] == "label")
    has_label = not row_format.labels and "label" in header
    if not (is_told or has_texts or label_at_its_place or has_label):
        return None
    for column in row_format.fields:
        if header.count(column) > 1:
            raise BadRow("the header names {} twice: {}".format(column, shown("\t".join(cells))))
    if label_at_its_place and not has_texts:  # The header names the texts in an unknown way.
        return row_format.fields
    for column in row_format.fields if row_format.needs_label else texts:
        if column not in header:
            raise BadRow("the header lacks a column: " + missing(column, header))
    _refuse_second_text(cells, row_format)
    return header


def _is_labelled(cells, row_format):
    """Return whether the row has one of the task's labels at its place, as only an example has.

    Raises:
        BadRow: if --header=yes says that the row is a header.
    """
    if len(cells) != len(row_format.fields):
        return False
    label = cells[row_format.fields.index("label")].strip()
    if label in row_format.labels and row_format.header == "yes":
        other = "; if the test file alone has a header, give --test_header=yes instead"
        raise BadRow(
            "--header=yes, but this row has the label {}, so it is an example: leave --header "
            "out{}".format(shown(label), other if row_format.needs_label else "")
        )
    return label in row_format.labels


def _columns(names, row_format):
    """Return the columns of a header or of an object, a list of str: our names where known."""
    names = [name.strip().lower() for name in names]
    columns = [COLUMN_NAMES.get(name, name) for name in names]
    if "text_b" not in row_format.fields and "text_a" not in columns:
        columns = ["text_a" if name in TITLES else column for name, column in zip(names, columns)]
    return columns


def _second_text(names, row_format):
    """Return the name of a column with a second text if the task has one text, else None."""
    if "text_b" in row_format.fields:
        return None
    columns = _columns(names, row_format)
    if not {"text_a", "text_b"} <= set(columns):
        return None
    return names[columns.index("text_b")].strip()


def _refuse_second_text(names, row_format):
    """Raise `BadRow` for a second text, except a title, that a task of one text would not read."""
    name = _second_text(names, row_format)
    if name and name.lower() not in TITLES:
        raise BadRow(
            "{0} is a second text, and the task reads one: give a task of pairs, such as "
            "--task_name=sentence_pair, or remove {0}".format(name)
        )


def _warn_of_title(path, names, row_format):
    """Warn of a title that a task of one text does not read."""
    name = _second_text(names, row_format)
    if name:
        logging.warning(
            "NOT READ: column %s of %s, because this task reads one text; to read both, give a "
            "task of pairs, such as --task_name=sentence_pair",
            name,
            path,
        )


def _texts(row_format):
    return tuple(field for field in row_format.fields if field != "label")


def _cells(line, row_format):
    return _decoded(line, row_format).split("\t")


def _decoded(line, row_format):
    try:
        return line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        raise BadRow("not UTF-8 text; {}".format(row_format.mend_utf8)) from None


def scalar(column, value):
    """Return a value as text: a stripped str, or a number or bool in JSON."""
    if value is None or value != value:  # null or NaN, as pandas writes it
        return ""
    if isinstance(value, (int, float)):  # bool is an int
        return json.dumps(value)
    if isinstance(value, str):
        return value.strip()
    raise BadRow("{} is {}, not a text or number".format(column, shown(value)))
