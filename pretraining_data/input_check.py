"""Refuses files in another format than the flags say, before a run starts.

The first lines of every file decide. A text may hold a line of JSON or a tag. So a file is refused
only if all of its first lines look like another format, or half of them like HTML.
"""

import collections
import csv
import json
import os
import re
import shlex

from absl import logging

from common import file_types, files
from common.errors import UserError
from pretraining_data import corpus

NUM_LINES = 20
HEAD_BYTES = 1 << 16
LABEL_CHARACTERS = 32
SHOWN_CHARACTERS = 6

_CSV_TO_LINES = (
    "python3 -c 'import csv, json, sys; [print(json.dumps(d, ensure_ascii=False)) for d in "
    'csv.DictReader(open(sys.argv[1], encoding="utf-8-sig", newline="")%s)]\' {path} > NEW_FILE'
)
_TABLE = (
    "holds a table with %s; with --input_format=jsonl and one of the --text_fields "
    "{fields} JSON lines are read, as from "
)
# What a file holds, and what to do about it.
_REMEDIES = {
    **file_types.JSON_REMEDIES,
    "text": "holds no {wanted}: give --input_format=text",
    "jsonl": "holds JSON lines: give --input_format=jsonl and choose --text_fields from: {fields}",
    "wikiextractor": "holds pages of WikiExtractor: give --input_format=wikiextractor",
    "csv": _TABLE % "commas" + _CSV_TO_LINES % "",
    "tsv": _TABLE % "tabs" + _CSV_TO_LINES % ', delimiter="\\t", quoting=csv.QUOTE_NONE',
    "quoted tsv": _TABLE % "tabs" + _CSV_TO_LINES % ', delimiter="\\t"',
}
_TABLES = ("csv", "tsv", "quoted tsv")
_WANTED = {"jsonl": "JSON lines", "wikiextractor": "<doc> elements of WikiExtractor"}
_QUOTED = re.compile('".*"$')
_UNQUOTE = 'sed -E \'s/^"(.*)"(\\r?)$/\\1\\2/; s/""/"/g\''
_PAGE = re.compile(r'<doc id="')
_OBJECT = re.compile(r'\{\s*("[^"]*"\s*:|\}$)')
# Names of columns of texts. The first line of a table has one of these names.
_COLUMNS = (
    "text texts content contents body title sentence sentence1 paragraph article review comment "
    "question answer abstract 文本 内容 正文 标题 句子 评论 摘要 文章 问题"
)
_DUMP = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<mediawiki[ >]")
_OF_DUMP = (
    "{0} is a dump of MediaWiki: python -m wikiextractor.WikiExtractor {0} -o DIR makes text of "
    "it; then give --input_file='DIR/*/*' --input_format=wikiextractor"
)
# A character and its label, as in files of entities, and escapes of JSON.
_LABELLED = re.compile(r"\S[ \t]+([BIMES][-_]\S+|O)$")
_OF_LABELLED = (
    "{0} holds a character and its label a line; this makes text of it: "
    'awk \'{{printf "%s", NF ? $1 : "\\n\\n"}}\' {0} > NEW_FILE'
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|n(?![A-Za-z]))")
# A line is a mark if it has at most this many characters, and if at least this many lines and at
# least this share of the lines are equal to it.
_MARK_CHARACTERS, _NUM_MARKS, _MARK_SHARE = 32, 5, 0.02
# Separator after a number at the beginning of a line -> option of `cut` for it.
_CUTS = {"\t": "", ",": " -d ,"}
# Rows of a vocabulary. The vocabulary of a SentencePiece model has a tab and a score after a piece.
_MARKER_ROWS = (rb"^\[CLS\](\t.*)?\r?$", rb"^\[SEP\](\t.*)?\r?$")
_WIDE = re.compile("[\u0800-\uffff]")
_TABLE_SHARE = 0.8  # share of the rows that have as many cells as the first row


def check_inputs(paths, format_):
    """Raise a `UserError` that names a file of another format, and the flag to give.

    Args:
        paths: list of str.
        format_: `corpus.Format`.
    """
    for path in paths:
        if files.is_local(path) and os.path.exists(path) and not os.path.isfile(path):
            raise UserError("{} is a pipe: write its text to a file first".format(path))
        head = corpus.read_head(path, HEAD_BYTES)
        refusal = file_types.refusal(path, head)
        if refusal:
            raise UserError(refusal)
        if _DUMP.match(head):
            raise UserError(_OF_DUMP.format(shlex.quote(path)))
        if all(re.search(marker, head, re.MULTILINE) for marker in _MARKER_ROWS):
            raise UserError("{} is a vocabulary, not a text: leave it out".format(path))
        lines = _lines(head)
        if not lines and len(head) < HEAD_BYTES:
            raise UserError("{} holds no text".format(path))
        if lines:
            texts = [_text(line, format_) for line in lines]
            _warn_of_misreading(path, texts)
            _check_format(path, lines[:NUM_LINES], format_)
            _check_html(path, texts[:NUM_LINES], format_)
            if format_.name == "text":
                _check_text(path, lines)
            elif format_.name == "jsonl":
                _check_fields(path, lines, format_.text_fields)
    for path, same in _copies(paths):
        logging.warning(
            "TEXT TWICE: %s has the text of %s too, which counts twice: name one of them only",
            path,
            same,
        )


def _text(line, format_):
    """Return the text of a line, which JSON may write with escapes."""
    if format_.name != "jsonl":
        return line
    try:
        fields = json.loads(line)
        return " ".join(fields[x] for x in format_.text_fields if isinstance(fields.get(x), str))
    except (ValueError, AttributeError, RecursionError):  # a long line may be cut
        return line


def _warn_of_misreading(path, lines):
    """Warn of a text that a program has read in a wrong encoding and written as UTF-8."""
    found = file_types.misread("\n".join(lines))
    if found:
        assumed, encoding, original = found
        logging.warning(
            "MOJIBAKE: a program read %s as %s, but it was %s, so %r became %r; this turns most of "
            "the text back: iconv -c -f utf-8 -t %s %s | iconv -c -f %s -t utf-8 > NEW_FILE",
            path,
            assumed,
            encoding,
            original[:SHOWN_CHARACTERS],
            original[:SHOWN_CHARACTERS].encode(encoding).decode(assumed, "replace"),
            assumed,
            shlex.quote(path),
            encoding,
        )


def _copies(paths):
    """Yield (path, path of a file with the same text) of local files, packed with gzip or not."""
    first = {}
    local = {path: files.size(path) for path in paths if files.is_local(path)}
    sizes = collections.Counter(local.values())
    for path, size in local.items():
        unpacked = path[: -len(".gz")] if path.endswith(".gz") else None
        if unpacked in local:
            yield path, unpacked
        elif size and sizes[size] > 1:
            same = first.setdefault(files.sha256(path), path)
            if same != path:
                yield path, same


def _lines(head):
    lines = head.decode("utf-8-sig", "replace").split("\n")
    if len(head) >= HEAD_BYTES and len(lines) > 1:
        lines.pop()  # The last line may be cut.
    # The first or last cell of a table may be empty, so tabs stay.
    return [line.strip(" \r\u3000") for line in lines if line.strip()]


def recognize(lines):
    """Return what the first lines of a file look like, a key of `_REMEDIES`."""
    for table in _TABLES:
        if _is_table(_rows(lines, table)):
            return table
    lines = [line.strip() for line in lines]
    if _PAGE.match(lines[0]):
        return "wikiextractor"
    if all(map(_OBJECT.match, lines)):
        return "jsonl"
    return file_types.json_layout(lines) or "text"


def _rows(lines, table):
    """Return the cells of the rows of a table, a list of lists of str."""
    if table == "tsv":
        return [line.split("\t") for line in lines]
    # csv.reader raises an error for NUL and CR inside a line.
    delimiter = "," if table == "csv" else "\t"
    return list(csv.reader((re.sub("[\0\r]", " ", line) for line in lines), delimiter=delimiter))


def _is_table(rows):
    """Return whether rows are a table: names of columns, then rows of as many cells.

    >>> _is_table([["id", "text"], ["1", "一，二,三"], ["2", "四"], ["3", "五"]])
    True
    >>> _is_table([["床前明月光", "疑是地上霜"], ["举头望明月", "低头思故乡"]])
    False
    """
    names, rows = rows[0], rows[1:-1]  # the last line may be cut
    if len(names) < 2 or not set(_COLUMNS.split()).intersection(
        name.strip().lower() for name in names
    ):
        return False
    fitting = [row for row in rows if len(row) == len(names)]
    return len(fitting) >= max(2, _TABLE_SHARE * len(rows))


def _check_format(path, lines, format_):
    """Raise UserError, with the remedy, if the first lines of a file are not of the format."""
    recognized = recognize(lines)
    if recognized == format_.name:
        return
    if (
        format_.name == "jsonl"
        and recognized == "text"
        and any(line.startswith("{") for line in lines)
    ):
        return  # JSON lines with bad lines among them, which the parser reports
    names = _rows(lines[:1], recognized)[0] if recognized in _TABLES else _fields(lines[0])
    remedy = _REMEDIES[recognized].format(
        path=shlex.quote(path),
        wanted=_WANTED.get(format_.name),
        fields=", ".join(filter(None, names)),
    )
    raise UserError("{} {}".format(path, remedy))


def fields_of(path):
    """Return the names of the fields of text in the first object of a file, list of str."""
    return _fields((_lines(corpus.read_head(path, HEAD_BYTES)) or [""])[0])


def _fields(line):
    try:
        stored = json.loads(line)
        return [name for name, value in stored.items() if isinstance(value, str)]
    except (ValueError, AttributeError, RecursionError):  # a long line may be cut
        return list(dict.fromkeys(re.findall(r'[{,]\s*"(\w+)"\s*:\s*"', line)))


def _check_text(path, lines):
    """Warn of lines that hold more than their text; raise `UserError` for labelled characters."""
    first = lines[:NUM_LINES]
    _check_characters(path, first)
    _warn_of_marks(path, lines)
    if not _warn_of_labels(path, lines):
        _warn_of_numbers(path, first)


def _check_characters(path, first):
    """Warn of quotes and escapes in the first lines; raise `UserError` for labelled characters."""
    quoted = shlex.quote(path)
    if all(map(_LABELLED.match, first)) and len(first) > 1:
        raise UserError(_OF_LABELLED.format(quoted))
    if all(map(_QUOTED.match, first)) and len(first) > 1:
        logging.warning(
            "QUOTED LINES: every line at the beginning of %s is in quotes, as by a program that "
            "writes CSV; without the quotes: %s %s > NEW_FILE",
            path,
            _UNQUOTE,
            quoted,
        )
    escapes = list(filter(None, map(_ESCAPE.search, first)))
    if 2 * len(escapes) >= len(first):
        logging.warning(
            "ESCAPES: lines at the beginning of %s hold %s and the like, which stay as they are: "
            "replace them by the characters that they stand for",
            path,
            escapes[0].group(),
        )


def _warn_of_marks(path, lines):
    mark = _commonest_mark(lines)
    if mark:
        logging.warning(
            "MARKS: %d lines at the beginning of %s are %r, which would be a part of the text; a "
            "blank line separates documents; this puts one there: "
            'awk -v %s \'{sub(/[ \\r]+$/, "")} $0 == mark {$0 = ""} 1\' < %s > NEW_FILE',
            lines.count(mark),
            path,
            mark,
            shlex.quote("mark=" + mark),
            shlex.quote(path),
        )


def _warn_of_numbers(path, first):
    for separator, option in _CUTS.items() if len(first) >= 5 else ():
        if all(line.partition(separator)[0].isdigit() and separator in line for line in first):
            logging.warning(
                "NUMBERS: every line at the beginning of %s begins with a number, which would be a "
                "part of the text; this writes the text without it: cut -f 2-%s %s > NEW_FILE",
                path,
                option,
                shlex.quote(path),
            )


def _commonest_mark(lines):
    """Return the commonest line of a Chinese text if it is a mark, such as ----, else None."""
    line, count = collections.Counter(lines).most_common(1)[0]
    is_common = count >= max(_NUM_MARKS, _MARK_SHARE * len(lines))
    if not is_common or len(line) > _MARK_CHARACTERS or _WIDE.search(line) or "\t" in line:
        return None
    return line if file_types.holds_wide("".join(lines)) else None


def _warn_of_labels(path, lines):
    """Warn of lines with tabs whose first or last cells are labels or numbers, not text.

    Returns:
        bool, whether they are.
    """
    rows = [line.split("\t") for line in lines]
    width = collections.Counter(map(len, rows)).most_common(1)[0][0]
    fitting = [row for row in rows if len(row) == width]
    if width < 2 or len(rows) < 5 or len(fitting) < _TABLE_SHARE * len(rows):
        return False
    for column in (0, width - 1):
        values = {row[column] for row in fitting}
        if max(map(len, values)) <= LABEL_CHARACTERS and (
            3 * len(values) <= len(fitting) or _are_names(values, fitting, column)
        ):
            texts = (str(place + 1) for place in range(width) if place != column)
            logging.warning(
                "LABELS: the lines of %s are rows of a table, and cell %d has labels or numbers, "
                "such as %r; this writes the texts alone: "
                "cut -f %s %s | tr '\\t' '\\n' | sed G > NEW_FILE",
                path,
                column + 1,
                min(values),
                ",".join(texts),
                shlex.quote(path),
            )
            return True
    return False


def _are_names(values, rows, column):
    """Return whether a column of a Chinese table holds Latin names, which may be labels."""
    others = "".join(cell for row in rows for cell in row[:column] + row[column + 1 :])
    is_number = all(value.isdigit() for value in values)
    return not is_number and file_types.holds_wide(others) and not any(map(_WIDE.search, values))


def _check_fields(path, lines, text_fields):
    """Raise `UserError` if most text is in a field that is not named, and a named one has none."""
    sizes = collections.Counter()
    for line in lines:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            continue
        texts = fields.items() if isinstance(fields, dict) else ()
        sizes.update({name: len(text) for name, text in texts if isinstance(text, str)})
    (longest, size), *_ = sizes.most_common(1) or [(None, 0)]
    absent = [name for name in text_fields if not sizes[name]]
    if absent and longest not in text_fields and size > sum(sizes[x] for x in text_fields) > 0:
        text = "{}: most of its text is in {}, and no document at its beginning has text in {}: {}"
        fields = ",".join([name for name in text_fields if sizes[name]] + [longest])
        remedy = "give --text_fields={}, and files with other fields in a run of their own"
        raise UserError(text.format(path, longest, ", ".join(absent), remedy.format(fields)))


def _check_html(path, lines, format_):
    if format_.strip_html is not None:
        return
    if format_.name == "wikiextractor":
        lines = [corpus.unescape(line) for line in lines]  # WikiExtractor writes &lt; for <.
    marks = list(filter(None, map(corpus.find_html, lines)))
    if 2 * len(marks) >= len(lines):
        text = (
            "{} holds HTML ({}): give --strip_html=True to remove tags and entities, or "
            "--strip_html=False to keep them"
        )
        raise UserError(text.format(path, marks[0]))
