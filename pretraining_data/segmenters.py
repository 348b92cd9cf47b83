"""Word segmenters: a registry of functions from text to words.

The words of a text, joined, are the text: spaces and line ends are words too.
"""

import importlib
import os
import re
from typing import Callable, NamedTuple

import numpy as np

from common import file_types, files
from common.errors import UserError

# A text is segmented in stretches: shorter ones take more time for calls, longer ones more memory.
# A stretch ends with a mark that no word holds, if there is one.
_STRETCH = re.compile(r"(?s).{1,4000}[\n，。！？；：、]|.{1,4000}")

# Patterns of a line of a user dictionary, and of the tags of a web page that a user saved as a
# dictionary.
_ENTRY, _TAG = re.compile(r"\S+( [0-9]+)?( [a-z]+)?$"), re.compile(r"<[a-zA-Z/!][^<>]*>?")


class Segmenter(NamedTuple):
    """A word segmenter, which is pickled by name, so that other machines load their own."""

    name: str
    version: str
    segment: Callable  # returns the list of words of a text
    user_dict: object = None
    note: str = ""  # a warning for the log

    def __reduce__(self):
        return load_segmenter, (self.name, self.user_dict)

    def word_ends(self, text):
        """Return the ends of the words of a text, int [number of words]."""
        lengths = [_lengths(self.segment(stretch)) for stretch in _STRETCH.findall(text)]
        return np.cumsum(np.concatenate(lengths or [[]]), dtype=np.int64)


def _lengths(words):
    """Return the lengths of words in characters, an int array."""
    try:
        return np.frombuffer(bytes(map(len, words)), np.uint8)  # twice as fast as np.fromiter
    except ValueError:  # a word has more than 255 characters
        return np.fromiter(map(len, words), np.int64)


def load_segmenter(name, user_dict=None):
    """Return the `Segmenter` of a name.

    Args:
        name: str, a key of SEGMENTERS, or "auto": rjieba where it is installed and no `user_dict`
            is given, else jieba.
        user_dict: str or None, path of a dictionary for jieba. A line holds a word and may hold its
            frequency and its part of speech after it, with spaces between them.

    Raises:
        UserError: for a segmenter that is not installed, or a dictionary that is missing,
            malformed or not for this segmenter.
    """
    if name == "auto":
        return _load_best(user_dict)
    if user_dict and name != "jieba":
        raise UserError("{} takes no user dictionary: use --segmenter=jieba".format(name))
    return SEGMENTERS[name](user_dict)


def _load_best(user_dict):
    if user_dict:
        return _load_jieba(user_dict)._replace(note="rjieba is faster but has no user dictionary")
    try:
        return _load_rjieba(None)
    except UserError:
        note = "rjieba is not installed; it is many times as fast: pip install rjieba"
        return _load_jieba(None)._replace(note=note)


def _load_rjieba(_):
    return Segmenter("rjieba", _version("rjieba"), _import("rjieba").cut)


def _load_jieba(user_dict):
    jieba = _import("jieba")
    jieba.setLogLevel("ERROR")
    tokenizer = jieba.Tokenizer()
    if user_dict:
        if not os.path.isfile(user_dict):
            raise UserError("user dictionary {} does not exist".format(user_dict))
        _check_dictionary(user_dict)
        try:
            tokenizer.load_userdict(user_dict)
        except ValueError as error:
            raise UserError("user dictionary {}: {}".format(user_dict, error)) from error
    return Segmenter("jieba", _version("jieba"), tokenizer.lcut, user_dict)


def _check_dictionary(path):
    """Raise a `UserError` for the first line of a dictionary that is not a word."""
    content = files.read_bytes(path)
    refusal, where = file_types.refusal(path, content), "user dictionary {}".format(path)
    if refusal:
        raise UserError("user dictionary {}".format(refusal))
    mend = file_types.mend_utf8(content)
    if mend:
        raise UserError("{}: not UTF-8 text; {}".format(where, mend))
    for row, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        line = line.strip()
        if line and (_TAG.search(line) or not _ENTRY.match(line)):
            raise UserError(
                "{}, row {}: {!r:.60} is not a word: a row is a word without blanks; its "
                "frequency and its part of speech may follow, each after one blank".format(
                    where, row, line
                )
            )


def _load_none(_):
    # `reference.find_breaks` still joins the pieces of a Latin word.
    return Segmenter("none", "", list)


SEGMENTERS = {"rjieba": _load_rjieba, "jieba": _load_jieba, "none": _load_none}


def _import(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        text = "segmenter {0} is not installed: pip install {0}, or use another".format(name)
        raise UserError(text) from error


def _version(name):
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7
        return "unknown"
    return metadata.version(name)
