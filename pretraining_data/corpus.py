"""Corpora: files to blocks of documents.

A block is the unit of work: some documents in a row, as the bytes they are stored in, so that
reading is fast and whoever gets the block does the rest. Where blocks end depends on the files
alone. Two formats, gzipped (`.gz`) or not, UTF-8:

    text    one sentence a line; blank lines, and the ends of files, stand between documents
    jsonl   one document a line, a JSON object; some of its fields, one after the other, are its
            text, whose lines are its sentences
"""

import codecs
import gzip
import json
import re
import zlib
from typing import NamedTuple

from common import files
from common.errors import UserError

# Sizes of blocks, in bytes; in between, a corpus has BLOCKS of them.
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 1 << 18, 1 << 21
BLOCKS = 64
# Blocks are numbered from a multiple of this in each file: what is before it does not matter.
FILE_BLOCKS = 1 << 20
# A document of more bytes is cut into several, so that memory has a bound; JSON cannot be cut.
MAX_DOCUMENT_BYTES = 1 << 22
READ_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"  # no text in UTF-8 begins so
# The last is U+3000, the full-width blank.
_BLANK_LINE = re.compile(rb"\n(?:[ \t\r]|\xe3\x80\x80)*\n")
_LINE_END = re.compile(rb"\n")
# A sentence ends with these marks and the closing marks after them.
_SENTENCE_END = re.compile("([。！？；…!?;]+[”’」』】》〉）)\"']*)(?=.)")


class Format(NamedTuple):
    """How documents are stored.

    Attributes:
        name: "text" or "jsonl".
        text_fields: tuple of str, fields of a JSON object.
        split_sentences: bool, whether lines are split into sentences after 。！？；…
        skip_bad_lines: bool, whether lines that are not UTF-8, or not such JSON, are left out.
    """

    name: str = "text"
    text_fields: tuple = ()
    split_sentences: bool = False
    skip_bad_lines: bool = False


TEXT = Format()


class Block(NamedTuple):
    """Whole documents: `data` begins at line `first_line` (from 1) of the file.

    `is_cut` says that the last document is too long and goes on in the next block.
    """

    index: int
    path: str
    first_line: int
    data: bytes
    is_cut: bool = False


def block_bytes(total_bytes):
    """Return the size of the blocks of a corpus: small ones for many processes, if it is small."""
    return min(max(total_bytes // BLOCKS, MIN_BLOCK_BYTES), MAX_BLOCK_BYTES)


def read_blocks(number, path, min_bytes, format_=TEXT, open_file=files.open_file, digest=None):
    """Yield a file as blocks.

    Args:
        number: int, of the file.
        path: str.
        min_bytes: int; a block ends with the first document to end after that many bytes.
        format_: `Format`.
        open_file: function of a path that opens the file.
        digest: object with `update(bytes)`, which gets all of the file, or None.

    Yields:
        `Block`, numbered from `number * FILE_BLOCKS`.

    Raises:
        UserError: names a file without text, or that cannot be read, or has too long a line of
            JSON.
    """
    separator = _BLANK_LINE if format_.name == "text" else _LINE_END
    first_line = 1
    has_text = False
    pieces = _cut(_read_chunks(path, open_file, digest), separator, min_bytes)
    for index, (data, is_cut) in enumerate(pieces, start=number * FILE_BLOCKS):
        if is_cut and format_.name == "jsonl":
            raise UserError(
                "{}, line {}: more than {} MB of JSON: divide the document".format(
                    path, first_line + data.count(b"\n"), len(data) >> 20
                )
            )
        has_text = has_text or bool(data.strip())
        yield Block(index, path, first_line, data, is_cut)
        first_line += data.count(b"\n")
    if not has_text:
        raise UserError("{} holds no text".format(path))


def _read_chunks(path, open_file, digest):
    try:
        with open_file(path) as stored:
            stream = _Source(stored, digest)
            if path.endswith(".gz") or stream.head == _GZIP_MAGIC:
                stream = gzip.GzipFile(fileobj=stream)
            for chunk in iter(lambda: stream.read(READ_BYTES), b""):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise UserError("cannot read {}: {}".format(path, error)) from error


class _Source:
    """A stream whose first bytes are known before they are read; a digest gets what is read."""

    def __init__(self, stream, digest):
        self._stream = stream
        self._digest = digest
        self.head = self._rest = stream.read(len(_GZIP_MAGIC))

    def read(self, size=-1):
        data, self._rest = self._rest, b""
        if size < 0 or size > len(data):
            data += self._stream.read(size - len(data) if size > 0 else size)
        if self._digest:
            self._digest.update(data)
        return data


def _cut(chunks, separator, min_bytes):
    """Yield (bytes, is_cut)."""
    rest = b""
    for chunk in chunks:
        # A blank line may have begun before the chunk, but not before the last line end.
        searched = max(min_bytes, rest.rfind(b"\n"))
        rest += chunk
        end = separator.search(rest, searched)
        while end or len(rest) > MAX_DOCUMENT_BYTES + min_bytes:
            at = end.end() if end else _last_line_end(rest)
            yield rest[:at], not end
            rest = rest[at:]
            end = separator.search(rest, min_bytes)
    if rest:
        yield rest, False


def _last_line_end(data):
    """Return where to cut a document: after a line, if one ends in the second half."""
    at = data.rfind(b"\n", len(data) // 2) + 1
    if at:
        return at
    at = len(data)
    while at > len(data) - 4 and data[at - 1] & 0xC0 == 0x80:  # inside a character of UTF-8
        at -= 1
    return at - 1


class Documents(NamedTuple):
    """Lists of sentences, str without outer spaces, and how many lines were left out, by reason."""

    documents: list
    dropped: dict


def parse_documents(block, format_=TEXT):
    """Return the `Documents` of a block.

    Raises:
        UserError: names the file and the first line that is not UTF-8 or not such JSON, unless
            those are left out.
    """
    dropped = {}
    lines = _decode(block, format_, dropped)
    if format_.name == "jsonl":
        documents = _json_documents(lines, block, format_, dropped)
    else:
        documents = _text_documents(lines, format_)
    return Documents(documents, dropped)


def _decode(block, format_, dropped):
    """Return the lines of a block, str."""
    # Not splitlines(): a sentence may hold U+2028 or a form feed.
    try:
        encoding = "utf-8-sig" if block.first_line == 1 else "utf-8"
        return block.data.decode(encoding).split("\n")
    except UnicodeDecodeError as error:
        if not format_.skip_bad_lines:
            line = block.first_line + block.data.count(b"\n", 0, error.start)
            raise UserError(
                "{}, line {}: not UTF-8 ({}): convert the file, for example with iconv, or leave "
                "such lines out with --skip_bad_lines".format(block.path, line, error.reason)
            ) from error
    data = block.data
    if block.first_line == 1 and data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    lines = []
    for line in data.split(b"\n"):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            dropped["lines_dropped_as_not_utf8"] = dropped.get("lines_dropped_as_not_utf8", 0) + 1
    return lines


def _text_documents(lines, format_):
    documents = [[]]
    for line in lines:
        sentences = _sentences(line, format_)
        if sentences:
            documents[-1] += sentences
        elif documents[-1]:
            documents.append([])
    return documents if documents[-1] else documents[:-1]


def _json_documents(lines, block, format_, dropped):
    documents = []
    for number, line in enumerate(lines, start=block.first_line):
        if not line.strip():
            continue
        try:
            values = _field_values(line, format_)
        except ValueError as error:
            if not format_.skip_bad_lines:
                raise UserError("{}, line {}: {}".format(block.path, number, error)) from error
            dropped["lines_dropped_as_not_json"] = dropped.get("lines_dropped_as_not_json", 0) + 1
            continue
        parts = [part for value in values for part in value.split("\n")]
        sentences = [sentence for part in parts for sentence in _sentences(part, format_)]
        if sentences:
            documents.append(sentences)
        else:
            dropped["documents_dropped_as_empty"] = dropped.get("documents_dropped_as_empty", 0) + 1
    return documents


def _field_values(line, format_):
    """Return the text fields of a line of JSON; a field that is missing or null has no text."""
    try:
        stored = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON ({}): --skip_bad_lines leaves it out".format(error)) from error
    if not isinstance(stored, dict):
        raise ValueError("not a JSON object: --skip_bad_lines leaves it out")
    if not set(format_.text_fields) & set(stored):
        raise ValueError(
            "has none of the fields {}: it has {}; name them with --text_fields".format(
                ", ".join(format_.text_fields), ", ".join(sorted(stored)) or "none"
            )
        )
    values = []
    for name in format_.text_fields:
        value = stored.get(name)
        if not isinstance(value, (str, type(None))):
            raise ValueError("field {} is no text but {:.99}".format(name, repr(value)))
        values.append(_without_surrogates(value or ""))
    return values


def _without_surrogates(text):
    """Return a text in which halves of characters, such as JSON's "\\ud83d", are U+FFFD."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _sentences(line, format_):
    if format_.split_sentences:
        line = _SENTENCE_END.sub("\\1\n", line)
    return [sentence for sentence in map(str.strip, line.split("\n")) if sentence]
