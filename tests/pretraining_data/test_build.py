"""Whole runs: the same bytes from any number of processes, killed or not."""

import collections
import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import create_pretraining_data
from common import cli, files
from common.errors import UserError
from pretraining_data import external_shuffle
from tfrecords.manifest import read_manifest

SHARDS = ["out-0000{}-of-00003.tfrecord".format(i) for i in range(3)]


@pytest.fixture(scope="module")
def text(root, tmp_path_factory):
    """A text of several blocks."""
    sample = (root / "data" / "news_zh_1.txt").read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n\n".join([sample] * 20), encoding="utf-8")
    return path


def command(root, text, folder, *flags):
    return [
        sys.executable, str(root / "create_pretraining_data.py"),
        "--input_file={}".format(text), "--output_file={}/out.tfrecord".format(folder),
        "--vocab_file={}/albert_config/vocab.txt".format(root), "--max_seq_length=128",
        "--max_predictions_per_seq=13", "--dupe_factor=2", "--num_output_shards=3",
    ] + list(flags)  # fmt: skip


def run(*args):
    """Run the command to its end; return (exit status, last line on stderr)."""
    done = subprocess.run(
        command(*args), stderr=subprocess.PIPE, universal_newlines=True, check=False
    )
    return done.returncode, done.stderr.splitlines()[-1]


def digests(folder):
    names = sorted(os.listdir(str(folder)))
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def whole(root, text, tmp_path_factory):
    """Digests of all files that one process makes without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(root, text, folder, "--num_workers=1")[0] == 0
    # The manifest has the paths of the outputs, so it is compared without their folder.
    manifest = (folder / (SHARDS[0] + ".manifest.json")).read_text()
    (folder / (SHARDS[0] + ".manifest.json")).write_text(manifest.replace(str(folder), "."))
    return digests(folder)


def comparable_digests(folder):
    """Return the digests of all files; the manifest is digested without the folder's name."""
    path = folder / (SHARDS[0] + ".manifest.json")
    manifest = path.read_text().replace(str(folder), ".")
    made = digests(folder)
    made[path.name] = hashlib.sha256(manifest.encode()).hexdigest()
    return made


@pytest.mark.parametrize("num_workers", [2, 5])
def test_any_number_of_workers_makes_the_same_bytes(root, text, whole, tmp_path, num_workers):
    assert run(root, text, tmp_path, "--num_workers={}".format(num_workers))[0] == 0
    assert comparable_digests(tmp_path) == whole
    assert set(SHARDS) < set(whole)


def test_compact_records_do_not_depend_on_workers_or_kills(root, text, tmp_path):
    compact = "--record_format=compact", "--dupe_factor=1"
    for number in "125":
        assert run(root, text, tmp_path / number, "--num_workers=" + number, *compact)[0] == 0
    killed = tmp_path / "killed"
    for _ in range(3):
        process = subprocess.Popen(command(root, text, killed, *compact), stderr=subprocess.DEVNULL)
        enough = count_done(killed) + 1
        while process.poll() is None and count_done(killed) < enough:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(root, text, killed, *compact)[0] == 0
    made = [comparable_digests(tmp_path / name) for name in ("1", "2", "5", "killed")]
    assert all(one == made[0] for one in made) and set(SHARDS) < set(made[0])


def count_done(folder):
    try:
        return len(list(folder.glob("*.work/*.done")))
    except FileNotFoundError:  # the run ends and removes its folder
        return 0


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(root, text, whole, tmp_path):
    """Only the main process is killed; the next run starts while its workers still run."""
    rng = random.Random(3)
    killed_at = collections.Counter()
    for _ in range(10):
        process = subprocess.Popen(
            command(root, text, tmp_path, "--num_workers=2"), stderr=subprocess.DEVNULL
        )
        # The kill comes after 0 to 4 more of the 5 blocks and 3 shards.
        enough = count_done(tmp_path) + rng.randint(0, 4)
        while process.poll() is None and count_done(tmp_path) < enough:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        killed_at[process.wait() and count_done(tmp_path)] += 1
        # Every shard that exists is complete.
        made = digests_of_files(tmp_path)
        assert all(made[name] == whole[name] for name in SHARDS if name in made)
    assert run(root, text, tmp_path, "--num_workers=3")[0] == 0
    assert comparable_digests(tmp_path) == whole
    assert len(killed_at) >= 3, killed_at


def stopped_at(monkeypatch, name, number):
    """Make call `number` of a method of `external_shuffle.Spill` raise SystemExit, like a kill."""
    method = getattr(external_shuffle.Spill, name)
    calls = []

    def stop(*args):
        calls.append(args)
        if len(calls) == number:
            raise SystemExit
        return method(*args)

    monkeypatch.setattr(external_shuffle.Spill, name, stop)


def run_here(root, text, folder, *flags):
    argv = command(root, text, folder, "--num_workers=1", *flags)[1:]
    create_pretraining_data.main(cli.parse(create_pretraining_data.define_flags, argv))


@pytest.mark.parametrize("change", ["nothing", "the input", "a lost shard"])
def test_shards_are_kept_only_if_they_are_of_this_input(root, text, tmp_path, monkeypatch, change):
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text.read_bytes())
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stopped_at(patch, "write_shard", 3)
        run_here(root, copy, tmp_path / "made")
    first = tmp_path / "made" / SHARDS[0]
    assert (tmp_path / "made" / SHARDS[1]).exists()
    before = first.stat().st_mtime_ns
    if change == "the input":
        copy.write_text("\n\n一二三四。\n五六七八。" * 30 + text.read_text())
    if change == "a lost shard":
        (tmp_path / "made" / SHARDS[1]).unlink()
    run_here(root, copy, tmp_path / "made")
    run_here(root, copy, tmp_path / "expected")
    assert (first.stat().st_mtime_ns == before) is (change != "the input")
    for name in SHARDS:
        expected = (tmp_path / "expected" / name).read_bytes()
        assert (tmp_path / "made" / name).read_bytes() == expected


def test_records_of_two_runs_never_mix(root, text, tmp_path, monkeypatch):
    run_here(root, text, tmp_path, "--num_output_shards=2", "--dupe_factor=1")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stopped_at(patch, "write_shard", 2)
        run_here(root, text, tmp_path, "--overwrite")
    assert sorted(path.name for path in tmp_path.iterdir()) == [SHARDS[0], "out.tfrecord.work"]
    run_here(root, text, tmp_path, "--overwrite")
    assert set(digests(tmp_path)) == set(SHARDS) | {SHARDS[0] + ".manifest.json"}


def test_a_shard_that_another_run_has_replaced_is_written_again(
    root, text, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stopped_at(patch, "write_shard", 2)
        run_here(root, text, tmp_path)
    (tmp_path / SHARDS[0]).write_bytes(b"other records")
    run_here(root, text, tmp_path)
    assert comparable_digests(tmp_path) == whole


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_a_run_killed_while_it_tidies_up_leaves_nothing(
    root, text, whole, tmp_path, monkeypatch, flags
):
    remove, removed = files.remove, []

    def stop(path):
        if path.endswith(("settings.json", ".spill", ".done")):
            if len(removed) == 4:
                raise SystemExit
            removed.append(path)
        remove(path)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(files, "remove", stop)
        run_here(root, text, tmp_path)
    assert len(list((tmp_path / ("out.tfrecord.work")).iterdir())) > 4
    run_here(root, text, tmp_path, *flags)
    assert comparable_digests(tmp_path) == whole


def test_small_files_share_spill_files(root, text, tmp_path, monkeypatch):
    documents = text.read_text(encoding="utf-8").split("\n\n")[:40]
    (tmp_path / "many").mkdir()
    for number, document in enumerate(documents):
        (tmp_path / "many" / "{:02d}.txt".format(number)).write_text(document, encoding="utf-8")
    calls = collections.Counter()

    def counted(call):
        def count(*args):
            calls[call.__name__] += 1
            return call(*args)

        return count

    monkeypatch.setattr(
        external_shuffle.Spill, "write_block", counted(external_shuffle.Spill.write_block)
    )
    monkeypatch.setattr(files, "size", counted(files.size))
    run_here(root, tmp_path / "many" / "*.txt", tmp_path / "made")
    assert calls["write_block"] == 1
    assert calls["size"] < 4 * 40  # the calls per file do not grow with the files
    counts = read_manifest(str(tmp_path / "made" / SHARDS[0]))["counts"]
    assert counts["documents"] == 40


def test_two_runs_at_a_time_are_refused(root, text, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.2)
    held = files.locked_folder(str(tmp_path / ("out.tfrecord.work")))
    with held, pytest.raises(UserError, match="in use: wait until the other process has ended"):
        run_here(root, text, tmp_path, "--overwrite")
    run_here(root, text, tmp_path)
    assert len(digests(tmp_path)) == 4


def digests_of_files(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir() if path.is_file()
    }  # fmt: skip


@pytest.fixture
def unfinished(root, text, tmp_path):
    """A folder in which a run was killed after its first block."""
    process = subprocess.Popen(
        command(root, text, tmp_path, "--num_workers=1"), stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 60
    while not list(tmp_path.glob("*.work/000000000000.done")):
        assert time.time() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    return tmp_path


def test_other_flags_are_refused_until_overwrite(root, text, whole, unfinished):
    status, line = run(root, text, unfinished, "--num_workers=1", "--random_seed=7")
    assert status == 2
    assert "unfinished run with random_seed=12345, here 7" in line
    assert run(root, text, unfinished, "--random_seed=7", "--overwrite")[0] == 0
    other = comparable_digests(unfinished)
    assert set(other) == set(whole)
    assert not set(other.values()) & set(whole.values())


def test_finished_blocks_are_not_made_again(root, text, whole, unfinished):
    done = unfinished / ("out.tfrecord.work") / "000000000000.done"
    before = done.stat().st_mtime_ns
    # Folders with the names of the unfinished shards stop the run when it writes the shards.
    for name in SHARDS:
        (unfinished / (name + ".tmp")).mkdir()
    status, line = run(root, text, unfinished, "--num_workers=2")
    assert status == 2
    assert "cannot write" in line
    assert done.stat().st_mtime_ns == before
    for name in SHARDS:
        (unfinished / (name + ".tmp")).rmdir()
    assert run(root, text, unfinished, "--num_workers=2")[0] == 0
    assert comparable_digests(unfinished) == whole


def test_blocks_that_changed_are_made_again(root, text, unfinished, tmp_path):
    changed = tmp_path / "changed"
    changed.mkdir()
    original = text.read_bytes()
    try:
        text.write_bytes(original.replace("的".encode(), "之".encode(), 1))
        assert run(root, text, unfinished)[0] == 0
        assert run(root, text, changed)[0] == 0
    finally:
        text.write_bytes(original)
    assert digests_of_files(unfinished)[SHARDS[0]] == digests(changed)[SHARDS[0]]


def test_finished_records_are_kept_without_overwrite(root, text, tmp_path):
    path = tmp_path / "out.tfrecord"
    base = command(root, text, tmp_path)[:-2] + ["--dupe_factor=1"]

    def last(*more):
        done = subprocess.run(
            base + list(more), stderr=subprocess.PIPE, universal_newlines=True, check=False
        )
        return done.returncode, done.stderr.splitlines()[-1]

    assert last()[0] == 0
    before = path.stat().st_mtime_ns
    assert "made already" in last()[1]
    status, line = last("--masked_lm_prob=0.2")
    assert status == 2
    assert "made with masked_lm_prob=0.1, here 0.2" in line
    assert path.stat().st_mtime_ns == before
    assert last("--masked_lm_prob=0.2", "--overwrite")[0] == 0
    (tmp_path / "out.tfrecord.manifest.json").unlink()
    status, line = last()
    assert status == 2
    assert "out.tfrecord is there already" in line


def test_shards_of_another_number_are_removed(root, text, tmp_path):
    assert run(root, text, tmp_path)[0] == 0
    status, line = run(root, text, tmp_path, "--num_output_shards=2")
    assert status == 2
    assert "--overwrite" in line
    assert run(root, text, tmp_path, "--num_output_shards=2", "--overwrite")[0] == 0
    assert sorted(os.listdir(str(tmp_path))) == [
        "out-00000-of-00002.tfrecord",
        "out-00000-of-00002.tfrecord.manifest.json",
        "out-00001-of-00002.tfrecord",
    ]


@pytest.mark.parametrize("prefix", ["", "./", "sub//"])
def test_shards_of_another_number_are_found_however_their_folder_is_written(
    root, text, tmp_path, monkeypatch, prefix
):
    monkeypatch.chdir(tmp_path)
    output = "--output_file={}out.tfrecord".format(prefix)
    run_here(root, text, tmp_path, output, "--dupe_factor=1")
    with pytest.raises(UserError, match="--overwrite"):
        run_here(root, text, tmp_path, output, "--num_output_shards=2")


def test_a_full_disk_is_a_clear_error_and_finished_blocks_stay(root, text, whole, tmp_path):
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000000, 2000000))\n"
        "import create_pretraining_data as tool\n"
        "tool.cli.run(tool.main, tool.define_flags)\n"
    )
    line = command(root, text, tmp_path, "--num_workers=2")
    done = subprocess.run(
        [sys.executable, "-c", code] + line[2:],
        cwd=str(root), stderr=subprocess.PIPE, universal_newlines=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert run(root, text, tmp_path, "--num_workers=2")[0] == 0
    assert comparable_digests(tmp_path) == whole


def test_gzipped_input_holds_the_same_sentences(root, text, tmp_path):
    packed = tmp_path / "text.txt.gz"
    packed.write_bytes(gzip.compress(text.read_bytes()))
    made = []
    for number, path in enumerate((text, packed)):
        folder = tmp_path / str(number)
        assert run(root, path, folder, "--num_workers=2")[0] == 0
        with open(str(folder / (SHARDS[0] + ".manifest.json"))) as stream:
            made.append(json.load(stream))
    assert made[0]["counts"]["sentences"] == made[1]["counts"]["sentences"]
    assert made[0]["inputs"][0]["sha256"] != made[1]["inputs"][0]["sha256"]


def test_tensorflow_is_not_imported(root, text, tmp_path):
    code = (
        "import sys\n"
        "import create_pretraining_data as tool\n"
        "from common import cli\n"
        "tool.main(cli.parse(tool.define_flags, sys.argv))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code] + command(root, text, tmp_path)[2:],
        cwd=str(root), stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
