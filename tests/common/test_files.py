"""Files that appear only when complete, and the files that a flag names."""

import os
import resource
import subprocess
import sys
import types

import pytest
import tensorflow.compat.v1 as tf

from checkpointing import find, run_folder
from checkpointing.checkpoint_reader import Checkpoint
from common import files
from common.errors import UserError
from finetuning_data import other_files, task_files
from huggingface import folder as huggingface_folder
from tfrecords import index
from tokenization import FullTokenizer
from training import preflight


def test_a_writer_that_fails_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "sub" / "a"
    with pytest.raises(RuntimeError), files.WholeFile(str(path)) as writer:
        writer.write(b"half")
        raise RuntimeError("stop")
    assert os.listdir(str(path.parent)) == []
    path.write_bytes(b"whole")
    with pytest.raises(RuntimeError), files.WholeFile(str(path)):
        raise RuntimeError("stop")
    assert path.read_bytes() == b"whole"
    assert os.listdir(str(path.parent)) == ["a"]


def test_the_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "a"
    with files.WholeFile(str(path)) as writer:
        writer.write(b"one")
        assert not path.exists()
    assert path.exists()


def test_a_device_or_a_pipe_is_written_to_and_stays_what_it_is(tmp_path):
    assert files.is_device("/dev/null") and files.is_device("/dev/stdout")
    pipe = tmp_path / "pipe"
    os.mkfifo(str(pipe))
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        files.check_writable(str(pipe))
        files.write_text(str(pipe), "text")
        assert reader.stdout.read() == b"text"
    assert pipe.is_fifo() and os.listdir(str(tmp_path)) == ["pipe"]


def test_a_path_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b"):
        with pytest.raises(UserError, match="cannot write .*/file is a file, not a folder"):
            files.write_text(str(path), "")


def test_a_full_disk_is_a_user_error(tmp_path):
    script = (
        "import resource, signal, sys\n"
        "from common import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "try:\n"
        "    with files.WholeFile(sys.argv[1]) as writer:\n"
        "        for _ in range(1000):\n"
        "            writer.write(b'x' * 1000)\n"
        "except files.UserError as error:\n"
        "    sys.exit(str(error))\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100000
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")],
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot write {}".format(tmp_path / "a") in done.stderr.splitlines()[-1]
    assert os.listdir(str(tmp_path)) == []


def test_find_files_takes_commas_globs_and_sorts(tmp_path):
    for name in ("b.rec", "a.rec", "c.txt", "[x]", "a.rec.manifest.json", "d.rec.tmp"):
        (tmp_path / name).write_text("")
    paths = files.find_files("{0}/c.txt, {0}/*rec*,{0}/a.rec,{0}/[x]".format(tmp_path))
    assert [os.path.basename(path) for path in paths] == ["[x]", "a.rec", "b.rec", "c.txt"]


@pytest.mark.parametrize("part", ["none*", "none", "no/folder/*"])
def test_find_files_names_what_matches_nothing(tmp_path, part):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError) as raised:
        files.find_files("{0}/a,{0}/{1}".format(tmp_path, part))
    assert "{}/{}".format(tmp_path, part) in str(raised.value)


@pytest.mark.parametrize(
    "pattern, message",
    [("", "no input file"), (",", "no input file"), ("a，b", "type ASCII commas between names")],
)
def test_find_files_wants_a_name(pattern, message):
    with pytest.raises(UserError, match=message):
        files.find_files(pattern)


def test_find_files_names_the_shards_of_a_file(tmp_path):
    (tmp_path / "a-00000-of-00002.tfrecord").write_text("")
    with pytest.raises(UserError, match=r"a.tfrecord': give '.*/a-\*-of-\*.tfrecord', or"):
        files.find_files(str(tmp_path / "a.tfrecord"))


def test_find_files_refuses_a_folder(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        files.find_files(str(tmp_path))
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="b is a folder"):
        files.find_files("{}/*".format(tmp_path))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize(
    "name, read",
    [
        ("model.ckpt.index", lambda folder: Checkpoint(folder + "/model.ckpt")),
        ("model.ckpt.data-00000-of-00001", lambda folder: Checkpoint(folder + "/model.ckpt")),
        ("model.safetensors", lambda folder: huggingface_folder.read_model(folder)),
        ("pytorch_model.bin", lambda folder: huggingface_folder.read_model(folder)),
        ("config.json", lambda folder: huggingface_folder.read_model(folder)),
        ("vocab.txt", lambda folder: FullTokenizer(folder + "/vocab.txt")),
        ("vocab.txt", lambda folder: huggingface_folder.copy_vocabulary(folder, folder + "/new")),
        ("spiece.model", lambda folder: FullTokenizer(None, True, folder + "/spiece.model")),
        ("a.tfrecord", lambda folder: index.open_records(folder + "/a.tfrecord")),
        ("train.tsv", lambda folder: task_files.open_rows(folder + "/train.tsv", None)),
    ],
)
def test_a_file_that_git_lfs_has_not_fetched_is_named(tmp_path, name, read):
    (tmp_path / "config.json").write_text('{"model_type": "albert"}')
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(UserError, match=name + " is not the file itself.*git lfs pull"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    "look",
    [
        files.glob,
        files.find_files,
        files.sha256,
        files.modified,
        find.find_checkpoint,
        run_folder.recover,
        preflight.refuse_archive,
        lambda path: other_files.found_instead(path, "train", []),
    ],
)
def test_a_remote_folder_that_cannot_be_reached_is_one_line(look, monkeypatch):
    def fail(*_, **__):
        raise tf.errors.FailedPreconditionError(None, None, "no\nhost")

    functions = ("exists", "isdir", "glob", "stat", "GFile")
    gfile = types.SimpleNamespace(**dict.fromkeys(functions, fail))
    monkeypatch.setattr(files, "_gfile", lambda: gfile)
    monkeypatch.setattr(tf.train, "get_checkpoint_state", lambda folder: None)
    with pytest.raises(UserError, match="cannot (look for|read) gs://a.*: no host"):
        look("gs://a/b")


def test_a_name_that_is_twice_in_a_json_object_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"a": {"b": 1, "c": 2, "b": 3}}')
    with pytest.raises(
        UserError, match="config.json: not a readable JSON file .'b' is there twice"
    ):
        files.read_json(str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16: convert it"),
        (b'{"a": 1,}', "not a readable JSON file .the comma before } must go, at character 9"),
        (b'{"a": {"b": 1,\n}}', ".the comma before } must go, at row 2, character 1"),
        (b'{"a": }', "not a readable JSON file .Expecting"),
        (b'\xef\xbb\xbf["a"]', "expected a JSON object"),
    ],
)
def test_what_is_wrong_with_a_json_file(content, message, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match="config.json.* " + message):
        files.read_json(str(tmp_path / "config.json"))


READERS = [files.read_bytes, files.read_utf8, files.read_json, files.check_readable]


@pytest.mark.parametrize("read", READERS)
def test_a_folder_and_a_missing_file_are_one_line(read, tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError) as error:
            read(str(path))
        assert str(path) in str(error.value) and "\n" not in str(error.value)
