"""Recognizes, by their first bytes, files that are no UTF-8 text."""

import re
import shlex

_NEW, _PATH = "< {} > NEW_FILE", "{}"
# (pattern of the first bytes, what the file is and what to do, the arguments of that command)
_CONVERSIONS = (
    (rb"\xff\xfe|\xfe\xff", "is UTF-16: convert it with iconv -f UTF-16 -t UTF-8", _NEW),
    (rb".{257}ustar", "is a tar archive: unpack it with tar xf", _PATH),
    (rb"\x1f\x8b", "is compressed with gzip: unpack it with gunzip", _NEW),
    (rb"BZh[1-9]1AY", "is compressed with bzip2: unpack it with bunzip2", _PATH),
    (rb"\xfd7zXZ", "is compressed with xz: unpack it with unxz", _PATH),
    (rb"\x28\xb5\x2f\xfd", "is compressed with zstd: use unzstd", _PATH),
    (rb"PK\x03\x04", "is a ZIP archive: unpack it with unzip", _PATH),
    (rb"(?!.*\n).*\r.*\r", "has line ends of old Macs: convert it with tr '\\r' '\\n'", _NEW),
)
_POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = len(_POINTER)
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_CONTROL_SHARE = 0.01  # of the bytes; random bytes have 10%, and texts of any encoding next to none


def conversion(path, head, is_pipe=False):
    """Return what to do with a file that is no UTF-8 text, or None.

    Args:
        path: str.
        head: bytes, the first ones of the file.
        is_pipe: bool, whether it is a stream that the path merely names.

    Returns:
        str that begins with the path, or None for any other first bytes.
    """
    for pattern, text, arguments in _CONVERSIONS:
        if re.match(pattern, head, re.DOTALL):
            where = "in the pipe" if is_pipe else arguments.format(shlex.quote(str(path)))
            return "{} {} {}".format(path, text, where)
    return pointer(path, head)


def pointer(path, head):
    """Return what to do with a file that git-lfs has not fetched yet, None for any other."""
    if head.startswith(_POINTER):
        text = "{} is not the file itself but a pointer of git-lfs: fetch it with git lfs pull"
        return text.format(path)
    return None


def is_binary(head):
    """Return whether the first bytes of a file are those of no text in any 8-bit encoding."""
    return len(_CONTROL.findall(head)) > max(3, _CONTROL_SHARE * len(head))
