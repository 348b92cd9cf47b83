"""Recognizes, by their first bytes, files that have to be converted to UTF-8 text."""

import shlex

_UTF_16 = "is UTF-16: convert it with iconv -f UTF-16 -t UTF-8"
# First bytes -> what the file is, and the command that converts it.
_CONVERSIONS = {
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    b"\x1f\x8b": "is compressed with gzip: unpack it with gunzip",
}


def conversion(path, head, is_pipe=False):
    """Return what to do with a file that is no UTF-8 text, or None.

    Args:
        path: str.
        head: bytes, the first ones of the file.
        is_pipe: bool, whether it is a stream that the path merely names.

    Returns:
        str that begins with the path, or None for any other first bytes.
    """
    for magic, text in _CONVERSIONS.items():
        if head.startswith(magic):
            where = "in the pipe" if is_pipe else "< {} > NEW_FILE".format(shlex.quote(str(path)))
            return "{} {} {}".format(path, text, where)
    return None
