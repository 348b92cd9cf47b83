"""Local and remote files, files that appear only when complete, and locks of folders.

A path with "://" (gs://, hdfs://) goes through tf.io.gfile. TensorFlow is imported only for remote
paths, so that programs on local files start without it.
"""

import codecs
import contextlib
import errno
import fcntl
import functools
import glob as local_glob
import gzip
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
import time

from common import file_types
from common.errors import UserError

TEMPORARY_SUFFIX = ".tmp"
MANIFEST_SUFFIX = ".manifest.json"
WORK_SUFFIX = ".work"
# Seconds to wait for a folder that another process has locked.
LOCK_SECONDS = 5


def is_local(path):
    """Return whether `path` is on this machine."""
    return "://" not in path


@functools.lru_cache(maxsize=None)
def _gfile():
    # Since TensorFlow 2.6 tensorflow_io provides hdfs:// and s3://; gs:// needs no package.
    with contextlib.suppress(ImportError):
        importlib.import_module("tensorflow_io")
    return importlib.import_module("tensorflow").io.gfile


def open_file(path, mode="rb"):
    """Open a file in binary mode."""
    return open(path, mode) if is_local(path) else _gfile().GFile(path, mode)


def read_bytes(path):
    """Return the bytes of a file; raises `UserError` where it cannot be read."""
    with _user_errors("read", path), open_file(path) as stream:
        return stream.read()


def exists(path):
    """Return whether `path` is a file or folder."""
    with _user_errors("look for", path):
        return os.path.exists(path) if is_local(path) else _gfile().exists(path)


def is_folder(path):
    """Return whether `path` is a folder."""
    with _user_errors("look for", path):
        return os.path.isdir(path) if is_local(path) else _gfile().isdir(path)


def size(path):
    """Return the number of bytes of a file."""
    with _user_errors("look for", path):
        return os.path.getsize(path) if is_local(path) else _gfile().stat(path).length


def modified(path):
    """Return when a file was last written: nanoseconds since 1970."""
    with _user_errors("look for", path):
        return os.stat(path).st_mtime_ns if is_local(path) else _gfile().stat(path).mtime_nsec


def sha256(path):
    """Return the sha256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with _user_errors("read", path), open_file(path) as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def vocabulary_sha256(path):
    """Return the sha256 of a vocabulary, which is the same for its copy with CR LF or a BOM."""
    return hashlib.sha256(_vocabulary(path)).hexdigest()


def vocabulary_rows(path):
    """Return the rows of a WordPiece vocabulary, a list of bytes."""
    return _vocabulary(path).rstrip(b"\n").split(b"\n")


def _vocabulary(path):
    content = read_bytes(path)
    if b"\0" in content:  # A SentencePiece model has zero bytes.
        return content
    return re.sub(b"^" + codecs.BOM_UTF8, b"", content.replace(b"\r\n", b"\n"))


def remove(path):
    """Remove a file, if there is one."""
    if exists(path):
        (os if is_local(path) else _gfile()).remove(path)


def is_device(path):
    """Return whether a path is a device or a pipe, which a rename would replace by a file."""
    if os.path.dirname(path) == "/dev":  # /dev/stdout may stand for a file
        return True
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def rename(old, new):
    """Rename a file; this replaces a file that already has the new name."""
    if is_local(new):
        os.replace(old, new)
    else:
        _gfile().rename(old, new, overwrite=True)


def make_parent(path):
    """Make the folder of the file `path`, if it does not exist."""
    folder = path.rpartition("/")[0]
    if folder and is_local(path):
        os.makedirs(folder, exist_ok=True)
    elif folder:
        _gfile().makedirs(folder)


def find_files(pattern):
    """Return the sorted list of the files that a flag names.

    Args:
        pattern: str, paths and globs separated by commas. Manifests and unfinished files that a
            glob happens to match are left out, and a local file with several names counts once.

    Raises:
        UserError: names the path or glob that matches nothing, or a name that is not UTF-8.
    """
    paths = set()
    for part in filter(None, (part.strip() for part in pattern.split(","))):
        matches = [part] if exists(part) else _visible(part)
        if not matches:
            text = "no file matches {!r}: {}, or make the file first"
            raise UserError(text.format(part, _remedy_for_missing(part)))
        # Calls to a remote file system are slow, so only one of several remote matches is checked.
        checked = matches if is_local(part) else matches[:1]
        folder = next(filter(is_folder, checked), None)
        if folder:
            raise UserError("{0} is a folder: name files, for example {0}/*".format(folder))
        mistake = next(filter(None, map(file_types.name_mistake, matches)), None)
        if mistake:
            raise UserError("file name " + mistake)
        paths.update(matches)
    if not paths:
        raise UserError("no input file is named in {!r}".format(pattern))
    first_names = {}
    for path in sorted(paths):
        first_names.setdefault(os.path.realpath(path) if is_local(path) else path, path)
    return list(first_names.values())


def _remedy_for_missing(path):
    if "，" in path:
        return "type ASCII commas between names"
    shards = "{}-*-of-*{}".format(*os.path.splitext(path))
    return "give '{}'".format(shards) if glob(shards) else "check the path"


def list_files(folder):
    """Return the paths of the files in a folder; an empty list where there is no folder."""
    try:
        names = os.listdir(folder) if is_local(folder) else _gfile().listdir(folder)
    except _errors():
        return []
    return [name if folder == "." else os.path.join(folder, name) for name in names]


def glob(pattern):
    """Return the paths that match a pattern; an empty list if the folder does not exist."""
    # tf.io.gfile of TensorFlow 1 raises an error for a local folder that does not exist.
    if is_local(pattern):
        return local_glob.glob(pattern)
    find, not_found = _gfile().glob, importlib.import_module("tensorflow").errors.NotFoundError
    with _user_errors("look for", pattern):
        try:
            return find(pattern)
        except not_found:
            return []


def _visible(pattern):
    hidden = (MANIFEST_SUFFIX, TEMPORARY_SUFFIX, WORK_SUFFIX)
    return [path for path in glob(pattern) if not path.endswith(hidden)]


def _errors():
    """Return the exceptions that the file systems raise."""
    tensorflow = sys.modules.get("tensorflow")
    return (OSError, tensorflow.errors.OpError) if tensorflow else (OSError,)


def writing(path):
    """A context that turns an error of the file system into a `UserError` that names `path`."""
    return _user_errors("write", path)


@contextlib.contextmanager
def _user_errors(action, path):
    try:
        yield
    except _errors() as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        reason = " ".join(str(reason).split())
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            reason = "{} is a file, not a folder".format(_first_that_exists(path))
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = "{}: make room, then start again".format(reason)
        raise UserError("cannot {} {}: {}".format(action, path, reason)) from error


def _first_that_exists(path):
    """Return a path, or the nearest of its folders that exists."""
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    return path


@contextlib.contextmanager
def locked_folder(folder):
    """A context in which this process alone uses a local folder.

    The lock is on the folder itself, so that no file stays behind. Processes that are forked inside
    the context share the lock: it ends with the last of them. If the file system has no locks, the
    folder is not locked.

    Args:
        folder: str; made where it is missing.

    Raises:
        UserError: where the folder cannot be made, or another process uses it.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        os.close(handle)


def _lock(folder):
    deadline = time.time() + LOCK_SECONDS
    while time.time() < deadline:
        with writing(folder):
            os.makedirs(folder, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # a file system without locks
            return handle
        else:
            if _is_at(folder, handle):
                return handle
        os.close(handle)
    raise UserError("{} is in use: wait until the other process has ended".format(folder))


def _is_at(path, handle):
    """Return whether the folder open as `handle` is still at `path`, and was not removed."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def refuse_pattern(path):
    """Raise UserError for a checkpoint's path that TensorFlow would read as a pattern."""
    if re.search(r"[\[\]*?]", path):
        raise UserError(
            "{}: TensorFlow reads [ ] * ? in the path of a checkpoint as a pattern: give another "
            "name".format(path)
        )


def refuse_pointer(path):
    """Raise a `UserError` for a file that git-lfs has not fetched yet."""
    with _user_errors("read", path), open_file(path) as stream:
        problem = file_types.pointer_problem(path, stream.read(file_types.POINTER_BYTES))
    if problem:
        raise UserError(problem)


def check_readable(path):
    """Raise a `UserError` where `path` is not a file."""
    if not exists(path):
        raise UserError("{} does not exist: check the path".format(path))
    if is_folder(path):
        raise UserError("{} is a folder: name a file in it".format(path))


def check_writable(path):
    """Raise a `UserError` where `path` could not be written; leaves an older file as it is."""
    if path.endswith("/") or is_folder(path):
        raise UserError("{} is a folder: name a file in it".format(path))
    with writing(path):
        make_parent(path)
        if not is_device(path):
            open_file(path + TEMPORARY_SUFFIX, "wb").close()
            remove(path + TEMPORARY_SUFFIX)


class WholeFile:
    """A context manager that writes a file, which a rename makes appear when it is complete.

    Until then the bytes are in `path + tag + ".tmp"`. An error inside the context removes that file
    and leaves an older `path` as it was. A device or a pipe gets the bytes at once.

    Args:
        path: str, local or any other that tf.io.gfile knows.
        compress: bool, whether to gzip.
        tag: str, part of the temporary name; needed if another process may write the same file.

    Raises:
        UserError: where the path cannot be written, or the disk is full.
    """

    def __init__(self, path, compress=False, tag=""):
        self._path = path
        self._temporary = path if is_device(path) else path + tag + TEMPORARY_SUFFIX
        self._compress = compress

    def __enter__(self):
        with writing(self._path):
            make_parent(self._path)
            self._stream = self._target = open_file(self._temporary, "wb")
        if self._compress:
            # The header has no name and no time, so that equal contents give equal bytes.
            self._target = gzip.GzipFile("", "wb", fileobj=self._stream, mtime=0)
        return self

    def write(self, data):
        """Append bytes."""
        with writing(self._path):
            self._target.write(data)

    def __exit__(self, error_type, *_):
        complete = False
        try:
            with writing(self._path):
                self._target.close()
                self._stream.close()
                if error_type is None and self._temporary != self._path:
                    rename(self._temporary, self._path)
                complete = error_type is None
        finally:
            if not complete:
                self._abandon()

    def _abandon(self):
        with contextlib.suppress(*_errors()):
            self._stream.close()
        if self._temporary != self._path:
            with contextlib.suppress(*_errors()):
                remove(self._temporary)


@contextlib.contextmanager
def whole_folder(path):
    """A context that makes a local folder under a temporary name and renames it at the end.

    Args:
        path: str.

    Raises:
        UserError: where `path` exists, or a file in it cannot be written.
    """
    if os.path.exists(path):
        raise UserError("{} exists: give another folder, or remove it".format(path))
    temporary = path + ".unfinished" + TEMPORARY_SUFFIX
    with locked_folder(temporary):
        try:
            _empty(temporary)  # a process that was killed has left files
            yield temporary
            os.rename(temporary, path)
        except OSError as error:
            reason = error.strerror or error
            raise UserError("{}: {}".format(error.filename or path, reason)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _empty(folder):
    """Remove all that is in a local folder."""
    for entry in os.scandir(folder):
        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.remove(entry.path)


def write_text(path, text):
    """Write a text file in UTF-8; it appears when it is complete, see `WholeFile`.

    Args:
        path: str, local or any other that tf.io.gfile knows.
        text: str.

    Raises:
        UserError: where the file cannot be written.
    """
    with WholeFile(path) as whole:
        whole.write(text.encode("utf-8"))


def read_utf8(path):
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        UserError: where the file cannot be read, is empty, or is not UTF-8. The message names the
            file and, for another encoding, the row of the first byte that is not UTF-8.
    """
    content = read_bytes(path)
    problem = file_types.refusal(path, content) if content else "{} is empty".format(path)
    mend = None if problem else file_types.mend_utf8(content)
    if mend:
        good = content.decode("utf-8", "surrogateescape").encode("utf-8", "replace")
        row = next(
            n
            for n, (one, two) in enumerate(zip(content.split(b"\n"), good.split(b"\n")), 1)
            if one != two
        )
        problem = "{}, row {}: not UTF-8 text; {}".format(path, row, mend)
    if problem:
        raise UserError(problem)
    return content.decode("utf-8-sig")


def read_json(path):
    """Read a file that holds one JSON object; returns a dict.

    Raises:
        UserError: where the file cannot be read or holds anything else; the message names it.
    """
    check_readable(path)
    text = read_utf8(path)
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        problem = file_types.json_problem(error)
        raise UserError("{}: not a readable JSON file ({})".format(path, problem)) from error
    if not isinstance(value, dict):
        raise UserError("{}: expected a JSON object".format(path))
    return value


def _without_duplicates(pairs):
    """Return the dict of a JSON object; raises ValueError for a name that occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError("{!r} is there twice".format(twice))
    return found


def write_json(path, value):
    """Write a value as indented JSON, as `write_text` does; raises UserError if that fails."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_json_lines(path, rows):
    """Write values as JSON lines, as `write_text` does; raises UserError if that fails."""
    with WholeFile(path) as whole:
        for row in rows:
            whole.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))


def write_table(path, rows):
    """Write rows of texts with tabs between the texts, as `write_text` does.

    A tab or line end inside a text becomes a blank.
    """
    lines = ("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in row) + "\n" for row in rows)
    write_text(path, "".join(lines))
