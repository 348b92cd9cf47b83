"""Recognizes files that are not UTF-8 text by their first bytes, and names that are not UTF-8."""

import json
import os
import re
import shlex

_NEW, _PATH = "< {} > NEW_FILE", "{}"
_PARQUET = (
    "is a Parquet file: pip install pandas pyarrow, and write it as JSON lines with python3 -c "
    "'import pandas, sys; pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], lines=True, "
    'orient="records", force_ascii=False)\''
)
# (pattern of the first bytes, what the file is and what to do, the arguments of that command)
_CONVERSIONS = (
    (rb"\xff\xfe|\xfe\xff", "is UTF-16: convert it with iconv -f UTF-16 -t UTF-8", _NEW),
    (rb".{257}ustar", "is a tar archive: unpack it with tar xf", _PATH),
    (rb"\x1f\x8b", "is compressed with gzip: unpack it with gunzip", _NEW),
    (rb"BZh[1-9]1AY", "is compressed with bzip2: unpack it with bunzip2", _NEW),
    (rb"\xfd7zXZ", "is compressed with xz: unpack it with unxz", _NEW),
    (rb"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it with unzstd", _NEW),
    (
        rb"PK\x03\x04.{26}(\[Content_Types\]|_rels/|docProps/|xl/|word/)|\xd0\xcf\x11\xe0",
        "is a file of Excel or Word: save it there as UTF-8 text, with tabs between the columns",
        "",
    ),
    (rb"%PDF-|\{\\rtf", "is a formatted document: save it as plain text in UTF-8", ""),
    (rb"PK\x03\x04", "is a ZIP archive: unpack it with unzip", _PATH),
    (rb"Rar!\x1a\x07", "is a RAR archive: unpack it with unrar x", _PATH),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it with 7z x", _PATH),
    (rb"PAR1", _PARQUET, "{} NEW_FILE.json"),
    (rb"(?!.*\n).*\r.*\r", "has line ends of old Macs: convert it with tr '\\r' '\\n'", _NEW),
)
# What a file holds in place of JSON lines, and what to do about it.
JSON_REMEDIES = {
    "json array": "holds a JSON array; JSON lines are one object a line, as from "
    "python3 -c 'import json, sys; [print(json.dumps(d, ensure_ascii=False)) for d in "
    'json.load(open(sys.argv[1], encoding="utf-8-sig"))]\' {path} > NEW_FILE',
    "json object": "holds objects of several lines; JSON lines are one object a line, as from "
    "jq -c . {path} > NEW_FILE",
}
_ARRAY = re.compile(r"\[\s*(\{.*)?$")
_MEMBER = re.compile(r'"[^"]*"\s*:')
_POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES, HEAD_BYTES = len(_POINTER), 512  # the first bytes that show the type of a file
_NUM_WIDE = 3  # least number of characters of 3 bytes that shows that bytes are UTF-8
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_COMMON = re.compile("[\t\n\r -~\u2010-\u2027\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_COMMON_SHARE = 0.95  # least share of _COMMON in a Chinese text; random UTF-16 has 33%
_CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
# (encoding that a program took a file for, encoding of the file); names for Python and iconv
_MISTAKES = (
    ("latin1", "utf-8"),
    ("cp1252", "utf-8"),
    ("gb18030", "utf-8"),
    ("latin1", "gb2312"),  # gb18030 would read accented letters as Chinese
)
_KEPT_SHARE = 0.9  # least share of a misread text that the supposed encoding has
_CONTROL_SHARE = 0.01  # largest share of control characters in a text; random bytes have 10%


def refusal(path, head, is_pipe=False):
    """Return why a file is not text, or is UTF-16; None for other texts, in GB18030 too.

    Args:
        path, head, is_pipe: as in `conversion`.

    Hive separates columns by \\001, and Paddle the characters of a text by \\002.
    """
    refused = conversion(path, head, is_pipe)
    if refused or not is_binary(head):
        return refused
    for encoding in ("UTF-16LE", "UTF-16BE"):
        if _is_chinese(head, encoding):
            text = "{0} is {1} without a byte order mark: convert it with iconv -f {1} -t UTF-8 {2}"
            return text.format(path, encoding, _arguments(path, _NEW, is_pipe))
    controls = set(_CONTROL.findall(head))
    if len(controls) == 1 and b"\0" not in controls:
        number = "\\{:03o}".format(ord(min(controls)))
        separator, shown = ("blank", "' '") if b"\t" in head else ("tab", "'\\t'")
        text = "{} has the control character {} as a separator: put a {} there with tr '{}' {} {}"
        arguments = _arguments(path, _NEW, is_pipe)
        return text.format(path, number, separator, number, shown, arguments)
    return "{} is not a text but a binary file: give the text in UTF-8".format(path)


def conversion(path, head, is_pipe=False):
    """Return what to do with a file that is not UTF-8 text, or None.

    Args:
        path: str.
        head: bytes, the first ones of the file.
        is_pipe: bool, whether it is a stream that the path merely names.

    Returns:
        str that begins with the path, or None for any other first bytes.
    """
    for pattern, text, arguments in _CONVERSIONS:
        if re.match(pattern, head, re.DOTALL):
            return "{} {} {}".format(path, text, _arguments(path, arguments, is_pipe)).rstrip()
    return pointer_problem(path, head)


def _arguments(path, arguments, is_pipe):
    return "in the pipe" if is_pipe else arguments.format(shlex.quote(str(path)))


def _is_chinese(head, encoding):
    """Return whether nearly all characters of bytes in an encoding are of ASCII or of Chinese."""
    text = head[: len(head) // 2 * 2].decode(encoding, "replace")
    return len(_COMMON.findall(text)) >= _COMMON_SHARE * len(text)


def pointer_problem(path, head):
    """Return what to do with a file that git-lfs has not fetched yet, None for any other."""
    if head.startswith(_POINTER):
        text = "{} is not the file itself but a pointer of git-lfs: fetch it with git lfs pull"
        return text.format(path)
    return None


def parse_json(text):
    """Do what `json.loads` does, but raise `json.JSONDecodeError` for every text that is refused.

    `json.loads` raises other errors for too many nested brackets and for too long numbers.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        problem = "Too many brackets in brackets"
    except ValueError:
        problem = "A number with too many digits"
    raise json.JSONDecodeError(problem, text, 0)


def json_problem(error):
    """Return what is wrong with a text, for an error of `json.loads`, of UTF-8 or of JSON."""
    message, place = getattr(error, "msg", None), getattr(error, "pos", None)
    if message is None:
        return str(error)
    if error.doc[:place].rstrip().endswith(",") and error.doc[place : place + 1] in ("}", "]"):
        message = "the comma before {} must go,".format(error.doc[place])
    is_cut = message.startswith("Unterminated") or not error.doc[place:].strip()
    row = "row {}, ".format(error.lineno) if "\n" in error.doc.strip() else ""
    message = "{} at {}character {}".format(message.replace(" starting at", ""), row, error.colno)
    return message + "; the text may be cut" * is_cut


def json_lines_problem(path, lines):
    """Return what to do with a file if its first lines, of bytes, are not JSON lines, else None."""
    layout = json_layout([line.decode("utf-8", "replace") for line in lines])
    remedy = layout and JSON_REMEDIES[layout].format(path=shlex.quote(path))
    return remedy and "{} {}".format(path, remedy)


def json_layout(lines):
    """Return the key of `JSON_REMEDIES` that fits the first lines of a file, or None."""
    first, following = ([line.strip() for line in lines[:2]] + ["", ""])[:2]
    if _ARRAY.match(first) and (not following or following[0] in '{["'):
        return "json array" if following or first != "[" else None
    return "json object" if first == "{" and _MEMBER.match(following) else None


def is_binary(head):
    """Return whether the first bytes of a file cannot be text in any 8-bit encoding."""
    return len(_CONTROL.findall(head)) > max(3, _CONTROL_SHARE * len(head))


def mend_utf8(data, is_utf8=False):
    """Return what to do about bytes that are not UTF-8.

    Args:
        data: bytes, of a whole file or a part.
        is_utf8: bool, whether the text before `data` is known to be UTF-8.

    Returns:
        str, or None where the bytes are UTF-8.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        other = _encoding_beside_utf8(data)
        if other:
            return (
                "some rows are UTF-8, others {0}, as if files of both were joined: convert the "
                "files of {0} (iconv -f {0} -t UTF-8) before you join them".format(other)
            )
        if not is_utf8 and not holds_wide(data[: error.start].decode("utf-8")):
            encoding = _chinese_encoding(data)
            if encoding is None:
                return "convert the file from its encoding, which is not GB18030 either"
            return "convert the file (iconv -f {} -t UTF-8)".format(encoding)
        if error.reason == "unexpected end of data":
            return "the file ends inside a character, so it is cut: fetch or make it again"
        odd = " ".join(map("{:02x}".format, data[error.start : error.start + 4]))
        return "the text before is UTF-8, but not the bytes {}: mend this place".format(odd)
    return None


def _encoding_beside_utf8(data):
    """Return the encoding of the lines that are not UTF-8; None unless other lines are UTF-8.

    A single line in another encoding is not enough to decide. A UTF-8 line with some wrong bytes is
    no line in another encoding: most of its characters can still be read.
    """
    others, has_utf8 = [], False
    for line in data.split(b"\n"):
        text = line.decode("utf-8", "ignore")
        if len(text.encode("utf-8")) == len(line):
            has_utf8 = has_utf8 or holds_wide(text)
        elif 6 * sum(character >= "\u0800" for character in text) < len(line):
            others.append(line)
    return _chinese_encoding(b"\n".join(others)) if has_utf8 and len(others) > 1 else None


def _chinese_encoding(data):
    """Return the name of the encoding of Chinese bytes that are not UTF-8, None for another one.

    Most bytes of Big5 are valid in GB18030, too, but many become characters for private use.
    """
    gb18030, big5 = (_decode(data, codec) for codec in ("gb18030", "big5hkscs"))
    if big5 and not _PRIVATE.search(big5) and (gb18030 is None or _PRIVATE.search(gb18030)):
        return "BIG5-HKSCS"
    return None if gb18030 is None else "GB18030"


def name_mistake(name):
    """Return what is wrong with an argument or a path that is not UTF-8, or None.

    Python keeps such bytes as surrogates, which no file in UTF-8 can hold.

    Args:
        name: str, as Python gets it from the shell or from a folder.
    """
    if _encodes(name):
        return None
    data = os.fsencode(name)
    if _decode(data, "utf-8"):
        return "{!r} is UTF-8, but Python expects ASCII: type export PYTHONUTF8=1".format(
            data.decode("utf-8")
        )
    encoding = _chinese_encoding(data)
    if encoding is None:
        return "{} is not UTF-8: type it, or rename the file, in UTF-8".format(ascii(data)[1:])
    text = (
        "{0!r} is {1}, not UTF-8: if it is a text, set the terminal to UTF-8; if it is a file or "
        "a folder, rename it, for example with convmv -f {1} -t UTF-8 --notest"
    )
    return text.format(data.decode(encoding), encoding)


def _encodes(text):
    try:
        return text.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False


def _decode(data, codec):
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def misread(text):
    """Return how a program misread a Chinese text, such as 好 as å¥½; None for any other text.

    Returns:
        (encoding that the program assumed, encoding of the text, the text as far as it can be
        read back), three str, or None.
    """
    for assumed, encoding in _MISTAKES:
        data = text.encode(assumed, "ignore")
        if len(data.decode(assumed, "ignore")) >= _KEPT_SHARE * len(text):
            original = data.decode(encoding, "ignore")
            chinese = "".join(_CHINESE.findall(original))
            if 2 * len(chinese.encode(encoding)) > len(data):
                return assumed, encoding, original
    return None


def holds_wide(text):
    """Return whether a decoded text has enough characters of 3 bytes to show that it is UTF-8."""
    return sum(character >= "\u0800" for character in text) >= _NUM_WIDE
