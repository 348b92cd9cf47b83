"""Corpora: text files to blocks of documents.

One sentence a line, UTF-8; blank lines, and the ends of files, stand between documents. A block
is the unit of work: some documents in a row, as the bytes they are stored in, so that reading is
fast and whoever gets the block does the rest. Where blocks end depends on the files alone.
"""

import re
from typing import NamedTuple

from pipeline.errors import UserError

BLOCK_BYTES = 1 << 20
READ_BYTES = 1 << 20
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


class Block(NamedTuple):
    """Whole documents: `data` begins at line `first_line` (from 1) of the file."""

    index: int
    path: str
    first_line: int
    data: bytes


def read_blocks(paths, open_file=open, block_bytes=BLOCK_BYTES):
    """Yield the files as blocks.

    Args:
        paths: list of str.
        open_file: function (path, mode) that opens a file.
        block_bytes: int; a block ends at the first blank line after that many bytes.

    Yields:
        `Block`, numbered from 0 through all files.

    Raises:
        UserError: names a file without text.
    """
    index = 0
    for path in paths:
        first_line = 1
        has_text = False
        for data in _read_data(path, open_file, block_bytes):
            has_text = has_text or bool(data.strip())
            yield Block(index, path, first_line, data)
            first_line += data.count(b"\n")
            index += 1
        if not has_text:
            raise UserError("{} holds no text".format(path))


def _read_data(path, open_file, block_bytes):
    with open_file(path, "rb") as stream:
        rest = b""
        while True:
            chunk = stream.read(READ_BYTES)
            if not chunk:
                break
            # A blank line may have begun before the chunk, but not before the last line end.
            searched = max(block_bytes, rest.rfind(b"\n"))
            rest += chunk
            blank = _BLANK_LINE.search(rest, searched)
            while blank:
                yield rest[: blank.end()]
                rest = rest[blank.end() :]
                blank = _BLANK_LINE.search(rest, block_bytes)
        if rest:
            yield rest


def parse_documents(block):
    """Return the documents of a block: list of lists of sentences, str without outer spaces.

    Raises:
        UserError: names the file and the first line that is not UTF-8.
    """
    try:
        text = block.data.decode("utf-8-sig" if block.first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = block.first_line + block.data.count(b"\n", 0, error.start)
        raise UserError(
            "{}, line {}: not UTF-8 ({}): convert the file, for example with iconv".format(
                block.path, line, error.reason
            )
        ) from error
    documents = [[]]
    # Not splitlines(): a sentence may hold U+2028 or a form feed.
    for line in text.split("\n"):
        sentence = line.strip()
        if sentence:
            documents[-1].append(sentence)
        elif documents[-1]:
            documents.append([])
    return documents if documents[-1] else documents[:-1]
