"""Reads a corpus: turns files into blocks of documents.

A block is the unit of work: consecutive documents, as stored bytes. Reading blocks is fast; worker
processes parse them. The files alone decide where blocks end. Files are UTF-8, gzipped or not, in
one of three formats:

    text            one sentence a line; blank lines and the ends of files separate documents
    jsonl           one document a line, a JSON object; the text of a document is some fields of
                    the object, joined, and each line of the text is a sentence
    wikiextractor   the output of WikiExtractor: <doc id=...>, the title, the lines, </doc>
"""

import codecs
import collections
import gzip
import html
import json
import re
import zlib
from typing import NamedTuple

from common import file_types, files
from common.errors import UserError

# A corpus has about BLOCKS blocks, unless their size would leave these limits.
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 1 << 18, 1 << 21
BLOCKS = 64
# The blocks of file i are numbered from i * FILE_BLOCKS, whatever the files before it hold.
FILE_BLOCKS = 1 << 20
# A longer document is cut, to limit memory; a line of JSON cannot be cut and is an error.
MAX_DOCUMENT_BYTES = 1 << 22
READ_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"  # UTF-8 text cannot begin with these bytes
# \xe3\x80\x80 is U+3000, the full-width space.
_BLANK_LINE = re.compile(rb"\n(?:[ \t\r]|\xe3\x80\x80)*\n")
# The end of a document in each format.
_SEPARATORS = {
    "text": _BLANK_LINE,
    "jsonl": re.compile(rb"\n"),
    "wikiextractor": re.compile(rb"</doc>[ \t\r]*\n"),
}
FORMATS = sorted(_SEPARATORS)
_PAGE_EDGE = re.compile(r"\s*(<doc id=.*>|</doc>)\s*$")
_SURROGATE = re.compile("[\ud800-\udfff]")
# A sentence ends with these marks and the closing marks after them, but not before a comma.
_MARKS, _CLOSING_MARKS = "。！？；…!?;", "”’」』】》〉）)\"'"
_SENTENCE_END = re.compile(
    "([{0}]+[{1}]*)(?=[^{0}{1}，、：,])".format(_MARKS, re.escape(_CLOSING_MARKS))
)

_BLOCK_TAGS = (
    "address|article|blockquote|body|br|center|dd|div|dl|dt|h[1-6]|head|hr|html|li|ol|p|pre"
)
_BLOCK_TAGS += "|section|table|title|tr|ul"
_OTHER_TAGS = (
    "a|abbr|audio|b|big|button|code|em|embed|font|footer|form|header|i|iframe|img|input|label"
)
_OTHER_TAGS += (
    "|link|meta|nav|nowiki|object|ref|s|script|small|source|span|strong|style|sub|sup|svg"
)
_OTHER_TAGS += "|tbody|td|tfoot|th|thead|u|video"
# Only tags of known names are removed: prose holds "a < b" and <name>, too.
_TAG = r"</?(?:{})(?:\s[^<>]*)?/?>"
_HIDDEN = re.compile(r"<!--.*?-->|<!doctype[^<>]*>|<(script|style)\b.*?</\1\s*>", re.I | re.S)
_BLOCK = re.compile(_TAG.format(_BLOCK_TAGS), re.I)
_OTHER = re.compile(_TAG.format(_OTHER_TAGS), re.I)
_ENTITY = re.compile(r"&(?:[a-z][a-z0-9]{1,30}|#[0-9]{1,7}|#x[0-9a-f]{1,6});", re.I)


class Format(NamedTuple):
    """How the files of a corpus store documents."""

    name: str = "text"  # one of FORMATS
    text_fields: tuple = ()  # the fields of a JSON object that hold text
    split_sentences: bool = False  # whether lines are split into sentences after 。！？；…
    skip_bad_lines: bool = False  # whether bad lines are left out instead of refused
    strip_html: bool = None  # whether tags and entities are removed; None refuses files of HTML


TEXT = Format()
# The name of the count of the documents with text in a field.
FIELD_COUNT = "documents_with_field_{}"


class Block(NamedTuple):
    """Consecutive documents of a file."""

    index: int
    path: str
    first_line: int  # the line of the file where `data` begins, from 1
    data: bytes
    is_cut: bool = False  # whether the last document is too long and continues in the next block


def block_bytes(total_bytes):
    """Return the least size of the blocks of a corpus; a small corpus has small blocks."""
    return min(max(total_bytes // BLOCKS, MIN_BLOCK_BYTES), MAX_BLOCK_BYTES)


def read_blocks(number, path, min_bytes, format_=TEXT, digest=None):
    """Yield a file as blocks.

    Args:
        number: int, of the file.
        path: str.
        min_bytes: int; a block ends with the first document that ends after this many bytes.
        format_: `Format`.
        digest: object whose `update(bytes)` is called with all bytes of the file, or None.

    Yields:
        `Block`, numbered from `number * FILE_BLOCKS`.

    Raises:
        UserError: names a file that cannot be read, has no text, or has a line of JSON that is
            too long.
    """
    first_line = 1
    has_text = False
    pieces = _cut(_read_chunks(path, digest), _SEPARATORS[format_.name], min_bytes)
    for index, (data, is_cut) in enumerate(pieces, start=number * FILE_BLOCKS):
        if is_cut and format_.name == "jsonl":
            line, megabytes = first_line + data.count(b"\n"), len(data) >> 20
            text = "{}, line {}: more than {} MB of JSON: divide the document"
            raise UserError(text.format(path, line, megabytes))
        has_text = has_text or bool(data.strip())
        yield Block(index, path, first_line, data, is_cut)
        first_line += data.count(b"\n")
    if not has_text:
        raise UserError("{} holds no text".format(path))


def read_head(path, num_bytes):
    """Return the first decompressed bytes of a file.

    Raises:
        UserError: names a file that cannot be read.
    """
    return next(_read_chunks(path, None), b"")[:num_bytes]


def _read_chunks(path, digest):
    """Yield the decompressed bytes of a file."""
    try:
        with files.open_file(path) as stored:
            stream = _Source(stored, digest)
            if path.endswith(".gz") or stream.head == _GZIP_MAGIC:
                stream = gzip.GzipFile(fileobj=stream)
            yield from iter(lambda: stream.read(READ_BYTES), b"")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError("cannot read {}: {}".format(path, error)) from error


class _Source:
    """A stream that shows its first bytes before they are read, and digests the bytes it reads."""

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
    """Yield (bytes, is_cut): parts that end with a separator, or, if is_cut, inside a document."""
    rest = b""
    for chunk in chunks:
        # A blank line across two chunks begins at the last line end of the first.
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
    """Return where to cut a document: after the last line if that is in the second half."""
    at = data.rfind(b"\n", len(data) // 2) + 1
    if at:
        return at
    at = len(data)
    while at > len(data) - 4 and data[at - 1] & 0xC0 == 0x80:  # inside a character of UTF-8
        at -= 1
    return at - 1


class Documents(NamedTuple):
    """The documents of a block."""

    documents: list  # of lists of sentences, str without outer spaces
    counts: collections.Counter  # left out lines and documents, by reason; documents by field


def parse_documents(block, format_=TEXT):
    """Return the `Documents` of a block.

    Raises:
        UserError: names the file and the first line that is not UTF-8 or not the right JSON,
            unless `format_.skip_bad_lines`.
    """
    counts = collections.Counter()
    lines = _decode(block, format_, counts)
    documents = _PARSERS[format_.name](lines, block, format_, counts)
    return Documents(documents, counts)


def _decode(block, format_, counts):
    """Return the lines of a block, list of str."""
    data, mark = block.data, codecs.BOM_UTF8
    if block.first_line == 1 and data.startswith(mark):
        data = data[len(mark) :]
    # A sentence may hold U+2028 or a form feed, where splitlines() would divide it.
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        if not format_.skip_bad_lines:
            line = block.first_line + data.count(b"\n", 0, error.start)
            raise UserError(
                "{}, line {}: not UTF-8 text; {}, or leave such lines out with "
                "--skip_bad_lines".format(block.path, line, file_types.mend_utf8(data))
            ) from error
    # Bytes that are not UTF-8 become surrogates, which UTF-8 cannot hold otherwise.
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    good_lines = [line for line in lines if not _SURROGATE.search(line)]
    counts["lines_dropped_as_not_utf8"] = len(lines) - len(good_lines)
    return good_lines


def _text_documents(lines, _block, format_, _counts):
    documents = [[]]
    for line in lines:
        sentences = sentences_of(line, format_)
        if sentences:
            documents[-1] += sentences
        elif documents[-1] and not line.strip():
            documents.append([])
    return documents if documents[-1] else documents[:-1]


def _wiki_documents(lines, _block, format_, counts):
    """Return the pages with text; a page with only a title has none."""
    documents, page = [], []
    for line in lines + ["</doc>"]:
        if not _PAGE_EDGE.match(line):
            page += sentences_of(unescape(line), format_)  # WikiExtractor writes &lt; for <
        elif page:
            if len(page) > 1:
                documents.append(page)
            else:
                counts["documents_dropped_as_empty"] += 1
            page = []
    return documents


def _json_documents(lines, block, format_, counts):
    documents = []
    for number, line in enumerate(lines, start=block.first_line):
        if not line.strip():
            continue
        try:
            values = _field_values(line, format_)
        except ValueError as error:
            if not format_.skip_bad_lines:
                raise UserError("{}, line {}: {}".format(block.path, number, error)) from error
            counts["lines_dropped_as_not_json"] += 1
            continue
        sentences = []
        for name, value in values.items():
            of_field = sentences_of(value, format_)
            counts[FIELD_COUNT.format(name)] += bool(of_field)
            sentences += of_field
        if sentences:
            documents.append(sentences)
        else:
            counts["documents_dropped_as_empty"] += 1
    return documents


_PARSERS = {"text": _text_documents, "jsonl": _json_documents, "wikiextractor": _wiki_documents}


def _field_values(line, format_):
    """Return a dict of the text fields of a line of JSON; missing and null fields have no text."""
    try:
        stored = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON ({}): --skip_bad_lines leaves it out".format(error)) from error
    if not isinstance(stored, dict):
        raise ValueError("not a JSON object: --skip_bad_lines leaves it out")
    if not set(format_.text_fields) & set(stored):
        wanted, others = ", ".join(format_.text_fields), ", ".join(sorted(stored)) or "none"
        text = "has none of the fields {}: it has {}; name them with --text_fields"
        raise ValueError(text.format(wanted, others))
    values = {}
    for name in format_.text_fields:
        value = stored.get(name)
        if not isinstance(value, (str, type(None))):
            raise ValueError("field {} is not a text but {:.99}".format(name, repr(value)))
        # JSON may hold half a character, such as "\ud83d", which becomes U+FFFD here.
        values[name] = _SURROGATE.sub("\ufffd", value or "")
    return values


def sentences_of(line, format_):
    if format_.strip_html:
        line = strip_html(line)
    if format_.split_sentences:
        line = _SENTENCE_END.sub("\\1\n", line)
    if "\n" not in line:  # most lines
        line = line.strip()
        return [line] if line else []
    return [sentence for sentence in map(str.strip, line.split("\n")) if sentence]


def find_html(text):
    """Return the first tag or entity of a text, or None."""
    matches = filter(None, (pattern.search(text) for pattern in (_BLOCK, _OTHER, _ENTITY)))
    first = min(matches, key=lambda match: match.start(), default=None)
    return first and first.group()


def strip_html(text):
    """Return a text without tags and entities; block elements begin new lines.

    strip_html("<p>一&nbsp;二<br/><b>三</b></p>") == "\\n一\\xa0二\\n三\\n"
    """
    text = _BLOCK.sub("\n", _HIDDEN.sub("", text))
    return unescape(_OTHER.sub("", text))


def unescape(text):
    """Replace entities, such as &lt; and &#20013;, by their characters."""
    return _ENTITY.sub(lambda match: html.unescape(match.group()), text)
