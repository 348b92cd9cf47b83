"""Remedies for files that a task cannot read: CSV, other separators, other names.

The messages give the command that makes the right file.
"""

import os
import shlex

from common import file_types, files

SHOWN_FILES = 10  # file names that a message lists
# Command that makes a table without quotes, and without blanks in cells that a table cannot hold.
UNQUOTE = (
    """python -c "import csv, sys; [print(*(' '.join(cell.split()) for cell in row), sep='\\t') """
    """for row in csv.reader(open(sys.argv[1], encoding='utf-8-sig', newline='')%s)]" {} > {}"""
)
CSV_TO_TSV, QUOTED_TO_TSV = UNQUOTE % "", UNQUOTE % ", delimiter='\\t'"
TABLE_SUFFIXES = (".tsv", ".txt")
NO_TABLE = "{} is a table, and the task reads JSON: write it as docs/data_formats.md shows"
BLANKS = "blanks"
# Pattern of a separator that some files use in place of a tab -> its name, in the order in which
# they are tried. The headlines of Toutiao, from which TNEWS was made, use `_!_` and have commas.
COMMA = ","
SEPARATORS = {
    "_!_": "_!_",
    COMMA: "commas",
    "[|]": "|",
    ";": ";",
    "  +": BLANKS,
    " +": BLANKS,
}
SEPARATOR_REMEDY = (
    "{} has {} between its columns; this makes it a file with tabs: "
    "awk -F '{}' -v OFS='\\t' '{{$1=$1; print}}' {} > NEW_FILE"
)


def csv_remedy(path):
    """Return what to do with a file named .csv where a table with tabs is wanted."""
    with files.open_file(path) as stream:
        lines = stream.read(file_types.HEAD_BYTES).split(b"\n")[:-1]
    if lines and all(b"\t" in line for line in lines):
        return "{} has tabs between its columns: give it a name that ends in .tsv".format(path)
    new_file = shlex.quote(path[: -len("csv")] + "tsv") if path.endswith(".csv") else "NEW_FILE"
    return "{} has commas between its columns; this makes it a file with tabs: {}".format(
        path, CSV_TO_TSV.format(shlex.quote(path), new_file)
    )


def separator_remedy(path, pattern):
    """Return what to do with a table that has a pattern of SEPARATORS between its columns."""
    if pattern == COMMA:
        return csv_remedy(path)
    return SEPARATOR_REMEDY.format(path, SEPARATORS[pattern], pattern, shlex.quote(path))


def found_instead(data_dir, split, looked_for):
    """Return what is in a folder that lacks the file of a split, and what to do about it.

    Args:
        data_dir: str.
        split: str, such as "train".
        looked_for: list of str, the names that the file may have.
    """
    if not files.is_folder(data_dir):
        what = "is a file: give its folder" if files.exists(data_dir) else "does not exist"
        return "{} {}".format(data_dir, what)
    paths = sorted(files.glob(os.path.join(data_dir, "*")))
    reads_tables = any(name.endswith(TABLE_SUFFIXES) for name in looked_for)
    for path in paths:
        # Hugging Face names parts of a split train-00000-of-00001.parquet.
        is_split = os.path.basename(path).startswith((split + ".", split + "-"))
        if is_split and not files.is_folder(path):
            with files.open_file(path) as stream:
                refusal = file_types.conversion(path, stream.read(file_types.HEAD_BYTES))
            if refusal:
                return refusal
            if path.endswith(".csv") and reads_tables:
                return csv_remedy(path)
            if path.endswith((".csv",) + TABLE_SUFFIXES) and not reads_tables:
                return NO_TABLE.format(path)
    wanted = set(map(os.path.basename, looked_for))
    found = (path for name in wanted for path in files.glob(os.path.join(data_dir, "*", name)))
    below = sorted(set(map(os.path.dirname, found)))
    if below:
        return "it is in a folder below: give --data_dir={}".format(" or ".join(below))
    if not paths:
        return "{} holds nothing".format(data_dir)
    names = ", ".join(map(os.path.basename, paths[:SHOWN_FILES]))
    more = " and {} more".format(len(paths) - SHOWN_FILES) if paths[SHOWN_FILES:] else ""
    return "{} holds {}{}: rename the file that you mean".format(data_dir, names, more)
