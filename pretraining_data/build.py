"""All of a corpus to shards of records: in several processes, killed and resumed, the same bytes.

The work folder holds what is done so far. The plan is all that the bytes depend on, but for the
input. Each block has an `external_shuffle.Spill` and the sha256 of the block; each shard that is
written has the sha256 of all blocks. Nothing that is there and still holds is made again.
"""

import collections
import contextlib
import functools
import glob
import hashlib
import json
import os
from typing import NamedTuple

from common import files, workers
from common.errors import UserError
from pretraining_data import corpus, external_shuffle, instances
from tfrecords import manifest

# Kinds of unknown text that are counted; rarer ones may be left out where there are very many.
MAX_UNKNOWN = 1000
_PLAN = "plan.json"
_WORK_FILES = (".json", ".run", ".done", files.TEMPORARY_SUFFIX)


class Job(NamedTuple):
    """What is to be made.

    Attributes:
        maker: `instances.InstanceMaker`.
        inputs: list of paths.
        outputs: list of paths, one for each shard.
        others: list of paths, files that would be taken for shards of this run, and go.
        folder: str, the work folder; its name ends with `files.WORK_SUFFIX`.
        plan: dict for JSON, all that the records depend on but for the inputs.
        num_workers: int.
        compress: bool, whether to gzip the shards.
    """

    maker: instances.InstanceMaker
    inputs: list
    outputs: list
    others: list
    folder: str
    plan: dict
    num_workers: int
    compress: bool

    def block_bytes(self):
        """Return the least size of a block, which depends on the sizes of all files."""
        return corpus.block_bytes(sum(map(files.size, self.inputs)))

    @property
    def spill(self):
        """The `external_shuffle.Spill` in the work folder."""
        return external_shuffle.Spill(self.folder, len(self.outputs))


class Done(NamedTuple):
    """What is known of some blocks: bytes read, instances made of them, now or before.

    `index` is that of the first of them.
    """

    index: int
    num_bytes: int
    num_instances: int
    is_new: bool


@contextlib.contextmanager
def work_folder(folder):
    """A context in which the work folder is there, for this run alone.

    Workers of a run that was killed live on for a moment: the folder is theirs until they end.
    It stays where there is something in it to go on with.

    Raises:
        UserError: where it cannot be made, or another run goes on in it.
    """
    with files.locked_folder(folder):
        if _read_plan(folder) is None:
            _clear(folder)
        try:
            yield
        finally:
            if not glob.glob(os.path.join(glob.escape(folder), "*.done")):
                _clear(folder)
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(folder)


def _clear(folder):
    """Remove all of a run from its work folder, the plan first: no rest is taken for a run."""
    files.remove(os.path.join(folder, _PLAN))
    for name in os.listdir(folder):
        if name.endswith(_WORK_FILES):
            files.remove(os.path.join(folder, name))


def create(job, observer):
    """Make the shards and their manifest; go on with what an earlier run left.

    Args:
        job: `Job`.
        observer: has `blocks(done, expansion)` and `shards(number)`, which are told of what is
            done; `expansion` is how many bytes of text a byte of the input has, gzipped or not.

    Returns:
        The manifest, a dict.

    Raises:
        UserError: for mistakes in the input, a full disk, or a killed worker.
    """
    for path in {os.path.dirname(path): path for path in job.outputs}.values():
        files.check_writable(path)
    plan = json.dumps(job.plan, ensure_ascii=True, indent=2)
    files.write_text(os.path.join(job.folder, _PLAN), plan)
    indices, inputs = _make_blocks(job, observer)
    statistics, unknown = merge_counts(map(job.spill.read_done, indices))
    statistics["neighbours_of_one_document"] = _write_shards(job, indices, statistics, observer)
    made = write_manifest(job, inputs, statistics, unknown)
    _clear(job.folder)
    return made


def write_manifest(job, inputs, statistics, unknown):
    """Write, and return, the manifest of what was made.

    Args:
        job: `Job`.
        inputs: dict from path to sha256.
        statistics, unknown: Counters, from `merge_counts`.
    """
    made = dict(
        job.plan,
        inputs=[{"path": path, "sha256": inputs[path]} for path in job.inputs],
        outputs=job.outputs,
        counts=dict(sorted(statistics.items())),
        statistics=instances.summarize(statistics, unknown, job.maker.config.max_seq_length),
    )
    manifest.write_manifest(job.outputs[0], made)
    return made


def check_outputs(job, overwrite):
    """Look at what is there already, before anything is made.

    Args:
        job: `Job`.
        overwrite: bool, whether what was made with other flags or of other input may go.

    Returns:
        The manifest, if all is there already, made of the same with the same flags; else None.

    Raises:
        UserError: names what is there and, where known, the difference.
    """
    unfinished = _read_plan(job.folder)
    if unfinished not in (None, job.plan):
        if not overwrite:
            raise UserError(
                "{} holds an unfinished run with {}: repeat its flags to go on with it, or give "
                "--overwrite to start again".format(job.folder, _difference(unfinished, job.plan))
            )
        _clear(job.folder)
    existing = [
        path
        for path in job.outputs + job.others
        if files.exists(path) and not path.endswith(files.TEMPORARY_SUFFIX)
    ]
    if not existing or overwrite or unfinished == job.plan:
        return None
    made = manifest.read_manifest(job.outputs[0])
    if made is None:
        difference = "flags that no manifest tells"
    elif {name: made.get(name) for name in job.plan} != job.plan:
        difference = _difference(made, job.plan)
    elif existing != job.outputs:
        difference = "other files"
    elif made["inputs"] != [{"path": path, "sha256": files.sha256(path)} for path in job.inputs]:
        difference = "other contents of the input"
    else:
        return made
    raise UserError(
        "{} is there already, made with {}: give --overwrite to make it again, or another "
        "--output_file".format(existing[0], difference)
    )


def _read_plan(folder):
    try:
        with open(os.path.join(folder, _PLAN), encoding="utf-8") as stream:
            return json.load(stream)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}


def _difference(old, new):
    """Name the first difference of two plans."""
    flags = old.get("flags", {}), new["flags"]
    for old_values, new_values in (flags, (old, new)):
        for name in sorted(new_values):
            if name != "flags" and old_values.get(name) != new_values[name]:
                return "{}={}, here {}".format(name, old_values.get(name), new_values[name])
    return "other flags"


def _make_blocks(job, observer):
    """Make the runs of all blocks; return the indices of those, and the sha256 of the inputs."""
    min_bytes = job.block_bytes()
    reader = _Reader(job, min_bytes)
    indices = []
    make = functools.partial(_make_runs, job)
    tasks = _together(reader.read_blocks(), min_bytes)
    for done in workers.run_tasks(make, tasks, job.num_workers):
        indices.append(done.index)
        observer.blocks(done, max(reader.text_bytes / reader.stored_bytes, 1))
    return sorted(indices), {path: digest.hexdigest() for path, digest in reader.digests.items()}


class _Reader:
    """Reads all input files once.

    Attributes:
        digests: dict from path to the sha256 of what has been read of it.
        stored_bytes, text_bytes: int, how much has been read, and what it is if not gzipped.
    """

    def __init__(self, job, min_bytes):
        self._job = job
        self._min_bytes = min_bytes
        self.digests = {path: hashlib.sha256() for path in job.inputs}
        self.stored_bytes = self.text_bytes = 0

    def read_blocks(self):
        """Yield the blocks of all files."""
        job = self._job
        for number, self._path in enumerate(job.inputs):
            for block in corpus.read_blocks(
                number, self._path, self._min_bytes, job.maker.format, digest=self
            ):
                self.text_bytes += len(block.data)
                yield block

    def update(self, data):
        """Take what has been read of the current file, bytes."""
        self.digests[self._path].update(data)
        self.stored_bytes += len(data)


def _together(blocks, min_bytes):
    """Yield lists of blocks: the many of small files together, so that there are few runs."""
    together, num_bytes = [], 0
    for block in blocks:
        together.append(block)
        num_bytes += len(block.data)
        if num_bytes >= min_bytes:
            yield together
            together, num_bytes = [], 0
    if together:
        yield together


def _make_runs(job, blocks):
    """Make the runs of some blocks, under the index of the first; return what is `Done`."""
    index = blocks[0].index
    num_bytes = sum(len(block.data) for block in blocks)
    digest = _digest(blocks)
    before = job.spill.read_done(index)
    if before and before["sha256"] == digest:
        return Done(index, num_bytes, before["statistics"].get("instances", 0), False)
    statistics, unknown = collections.Counter(), collections.Counter()

    def make_and_count():
        for block in blocks:
            tokenized = job.maker.tokenize(block)
            statistics.update(tokenized.statistics)
            unknown.update(tokenized.unknown)
            for made in job.maker.make_records(tokenized):
                statistics.update(made.statistics)
                yield made

    def done():
        commonest = dict(instances.commonest(unknown, MAX_UNKNOWN))
        return {"sha256": digest, "statistics": statistics, "unknown": commonest}

    job.spill.write_block(index, make_and_count(), done)
    return Done(index, num_bytes, statistics["instances"], True)


def _digest(blocks):
    digest = hashlib.sha256()
    for block in blocks:
        head = "{} {} {}\n".format(block.index, block.is_cut, len(block.data))
        digest.update(head.encode("ascii") + block.data)
    return digest.hexdigest()


def merge_counts(counts):
    """Return the Counters (statistics, unknown) of an iterable of dicts with those names."""
    statistics, unknown = collections.Counter(), collections.Counter()
    for one in counts:
        statistics.update(one["statistics"])
        unknown.update(one["unknown"])
        if len(unknown) > 100 * MAX_UNKNOWN:
            unknown = collections.Counter(dict(instances.commonest(unknown, 10 * MAX_UNKNOWN)))
    return statistics, unknown


def _write_shards(job, indices, statistics, observer):
    """Write all shards; return the number of neighbours of one document in them."""
    spill = job.spill
    runs = spill.runs(indices)
    cell_bytes = spill.cell_bytes(runs)
    try:
        check_enough(job, statistics, cell_bytes.reshape(len(job.outputs), -1).sum(axis=1))
    except UserError:
        _clear(job.folder)
        raise
    blocks = [(index, spill.read_done(index)["sha256"]) for index in indices]
    blocks = hashlib.sha256(json.dumps(blocks).encode("ascii")).hexdigest()
    done = [_read_shard(job, shard, blocks) for shard in range(len(job.outputs))]
    remove_outputs(job, {path for path, known in zip(job.outputs, done) if known})

    def write(shard):
        neighbours = spill.write_shard(shard, job.outputs[shard], runs, cell_bytes, job.compress)
        known = {"blocks": blocks, "neighbours": neighbours}
        files.write_text(_shard_file(job, shard), json.dumps(known))
        return neighbours

    total = sum(known["neighbours"] for known in done if known)
    missing = [shard for shard, known in enumerate(done) if not known]
    num_done = len(done) - len(missing)
    num_workers = min(job.num_workers, max(len(missing), 1))
    for neighbours in workers.run_tasks(write, missing, num_workers):
        total += neighbours
        num_done += 1
        observer.shards(num_done)
    return total


def _shard_file(job, shard):
    return os.path.join(job.folder, "shard-{}.done".format(shard))


def _read_shard(job, shard, blocks):
    """Return what is known of a shard that is there already and made of these blocks, or None."""
    try:
        with open(_shard_file(job, shard)) as stream:
            known = json.load(stream)
    except FileNotFoundError:
        return None
    return known if known["blocks"] == blocks and files.exists(job.outputs[shard]) else None


def remove_outputs(job, kept=()):
    """Remove the manifest and shards of an earlier run: never do those of two stand together."""
    for path in job.outputs + job.others:
        if path not in kept:
            with files.writing(path):
                manifest.remove_manifest(path)
                files.remove(path)
    manifest.remove_manifest(job.outputs[0])


def check_enough(job, statistics, shard_sizes):
    """Raise a `UserError` if nothing came out, or nothing for a shard."""
    if not statistics["instances"]:
        raise UserError(
            "{}: no instance came out of {} documents{}".format(
                ", ".join(job.inputs),
                statistics["documents"],
                "".join(
                    ", {}: {}".format(name, number)
                    for name, number in sorted(statistics.items())
                    if "_dropped_" in name and number
                ),
            )
        )
    if not all(shard_sizes):
        raise UserError(
            "{} instances are too few for {} output files: name fewer".format(
                statistics["instances"], len(job.outputs)
            )
        )
