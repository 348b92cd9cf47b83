"""Turns a corpus into shards of records, in several processes; a killed run can be resumed.

The bytes depend neither on the number of processes nor on whether the run was killed. The work
folder holds the finished parts of an unfinished run:

    settings.json   all that the bytes depend on, except the input
    spill files     of each block, with a summary that holds the sha256 of the block
    shard-I.done    the sha256 of all blocks that shard I was written from

A resumed run keeps the blocks and the shards whose sha256 is still the same.
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
from pretraining_data import corpus, external_shuffle, input_check, instances
from tfrecords import manifest

# For each block, this many of the highest counts of unknown characters and words are kept.
MAX_UNKNOWN = 1000
_SETTINGS = "settings.json"
_WORK_FILES = (".json", ".spill", ".done", files.TEMPORARY_SUFFIX)


class Job(NamedTuple):
    """A corpus, the records to make of it, and how."""

    maker: instances.InstanceMaker
    inputs: list  # of paths
    outputs: list  # of paths, one for each shard
    stale_outputs: list  # of paths: older files that look like shards of this run; removed
    folder: str  # the work folder; its name ends with `files.WORK_SUFFIX`
    settings: dict  # all that the records depend on, except the inputs; for JSON
    num_workers: int
    compress: bool  # whether to gzip the shards

    def block_bytes(self):
        """Return the least size of a block."""
        return corpus.block_bytes(sum(map(files.size, self.inputs)))

    @property
    def spill(self):
        """The `external_shuffle.Spill` in the work folder."""
        return external_shuffle.Spill(self.folder, len(self.outputs))


class FinishedBlocks(NamedTuple):
    """Consecutive blocks whose instances are in spill files."""

    index: int  # index of the first block
    num_bytes: int  # bytes of text
    num_instances: int
    is_new: bool  # False where an earlier run made the instances


@contextlib.contextmanager
def work_folder(folder):
    """A context in which the work folder exists and this run alone uses it.

    The workers of a killed run still run for a moment and keep the folder locked until they end.
    The context removes the folder at its end, unless it has finished blocks for the next run.

    Raises:
        UserError: where the folder cannot be made, or another run uses it.
    """
    with files.locked_folder(folder):
        if not os.path.exists(os.path.join(folder, _SETTINGS)):
            _clear(folder)
        try:
            yield
        finally:
            if not glob.glob(os.path.join(glob.escape(folder), "*.done")):
                _clear(folder)
            with contextlib.suppress(OSError):  # The folder is not empty.
                os.rmdir(folder)


def _clear(folder):
    """Remove the files of a run from its work folder."""
    # Remove the settings first: a run does not use the other files of a folder without settings.
    files.remove(os.path.join(folder, _SETTINGS))
    for name in os.listdir(folder):
        if name.endswith(_WORK_FILES):
            files.remove(os.path.join(folder, name))


def create(job, progress):
    """Make the shards and their manifest, or resume an earlier run that did not finish.

    Args:
        job: `Job`.
        progress: `common.progress.Progress`.

    Returns:
        The manifest, a dict.

    Raises:
        UserError: for mistakes in the input, a full disk, or a killed worker.
    """
    for path in {os.path.dirname(path): path for path in job.outputs}.values():
        files.check_writable(path)
    files.write_json(os.path.join(job.folder, _SETTINGS), job.settings)
    indices, inputs = _make_blocks(job, progress)
    statistics, unknown = merge_counts(map(job.spill.read_summary, indices))
    statistics["neighbours_of_one_document"] = _write_shards(job, indices, statistics, progress)
    content = write_manifest(job, inputs, statistics, unknown)
    _clear(job.folder)
    return content


def write_manifest(job, inputs, statistics, unknown):
    """Write the manifest of the records, and return it, a dict.

    Args:
        job: `Job`.
        inputs: dict from path to sha256.
        statistics, unknown: Counters, from `merge_counts`.
    """
    content = dict(
        job.settings,
        inputs=[{"path": path, "sha256": inputs[path]} for path in job.inputs],
        outputs=job.outputs,
        counts=dict(sorted(statistics.items())),
        statistics=instances.summarize(statistics, unknown, job.maker.config.max_seq_length),
    )
    manifest.write_manifest(job.outputs[0], content)
    return content


def check_outputs(job, overwrite):
    """Return whether the records exist already; refuse to replace other ones without `overwrite`.

    Args:
        job: `Job`.
        overwrite: bool, whether records of other flags or other input may be replaced.

    Returns:
        bool, whether all outputs exist and were made of this input with these settings.

    Raises:
        UserError: names an existing file and the difference of its settings, where known.
    """
    unfinished = external_shuffle.read_summary(os.path.join(job.folder, _SETTINGS))
    if unfinished not in (None, job.settings):
        if not overwrite:
            raise UserError(
                "{} holds an unfinished run with {}: repeat its flags to go on with it, or give "
                "--overwrite to start again".format(
                    job.folder, _difference(unfinished, job.settings)
                )
            )
        _clear(job.folder)
    existing = [
        path
        for path in job.outputs + job.stale_outputs
        if files.exists(path) and not path.endswith(files.TEMPORARY_SUFFIX)
    ]
    if not existing or overwrite or unfinished == job.settings:
        return False
    difference = _difference_of_records(job, existing)
    if difference:
        raise UserError(
            "{} is there already, made with {}: give --overwrite to make it again, or another "
            "--output_file".format(existing[0], difference)
        )
    return True


def _difference_of_records(job, existing):
    """Return how existing files differ from those that a job makes, in words, or None."""
    content = manifest.find_manifests(existing)[existing[0]]
    if content is None:
        return "unknown flags, since the manifest is missing"
    if {name: content.get(name) for name in job.settings} != job.settings:
        return _difference(content, job.settings)
    if existing != job.outputs:
        return "other files"
    if content["inputs"] != [{"path": path, "sha256": files.sha256(path)} for path in job.inputs]:
        return "other contents of the input"
    return None


def _difference(old, new):
    """Return the first difference of two dicts of settings in words, str."""
    for old_values, new_values in ((old.get("flags", {}), new["flags"]), (old, new)):
        for name in sorted(new_values):
            if name != "flags" and old_values.get(name) != new_values[name]:
                return "{}={}, here {}".format(name, old_values.get(name), new_values[name])
    return "other flags"


def _make_blocks(job, progress):
    """Make the spill files of all blocks.

    Returns:
        (indices, inputs): the indices of the summaries, list of int, and a dict from the path of
        each input to its sha256.
    """
    reader = _InputReader(job)
    indices = []
    make = functools.partial(_make_spill_files, job)
    for finished in workers.run_tasks(make, reader.read_groups(), job.num_workers):
        indices.append(finished.index)
        progress.count_blocks(finished, max(reader.text_bytes / reader.stored_bytes, 1))
    return sorted(indices), {path: digest.hexdigest() for path, digest in reader.digests.items()}


class _InputReader:
    """Reads all input files once.

    Attributes:
        digests: dict from path to the sha256 of the bytes read so far.
        stored_bytes, text_bytes: int, how many bytes were read, as stored and as decompressed.
    """

    def __init__(self, job):
        self._job = job
        self.digests = {path: hashlib.sha256() for path in job.inputs}
        self.stored_bytes = self.text_bytes = 0

    def read_groups(self):
        """Yield lists of blocks; the blocks of small files share a list, so that lists are few."""
        min_bytes, format_ = self._job.block_bytes(), self._job.maker.format
        group, num_bytes = [], 0
        for number, path in enumerate(self._job.inputs):
            self._path = path
            for block in corpus.read_blocks(number, path, min_bytes, format_, digest=self):
                self.text_bytes += len(block.data)
                num_bytes += len(block.data)
                group.append(block)
                if num_bytes >= min_bytes:
                    yield group
                    group, num_bytes = [], 0
        if group:
            yield group

    def update(self, data):
        """Count bytes of the current file, as stored; `corpus.read_blocks` calls this."""
        self.digests[self._path].update(data)
        self.stored_bytes += len(data)


def _make_spill_files(job, blocks):
    """Make the spill files of a group of blocks; return `FinishedBlocks`."""
    index = blocks[0].index
    num_bytes = sum(len(block.data) for block in blocks)
    digest = hashlib.sha256()
    for block in blocks:
        head = "{} {} {}\n".format(block.index, block.is_cut, len(block.data))
        digest.update(head.encode("ascii") + block.data)
    digest = digest.hexdigest()
    summary = job.spill.read_summary(index)
    if summary and summary["sha256"] == digest:
        return FinishedBlocks(index, num_bytes, summary["statistics"].get("instances", 0), False)
    statistics, unknown = collections.Counter(), collections.Counter()

    def make_and_count():
        for block in blocks:
            tokenized = job.maker.tokenize(block)
            statistics.update(tokenized.statistics)
            unknown.update(tokenized.unknown)
            for serialized in job.maker.make_records(tokenized):
                statistics.update(serialized.statistics)
                yield serialized
        summary["unknown"] = dict(instances.commonest(unknown, MAX_UNKNOWN))

    summary = {"sha256": digest, "statistics": statistics}
    job.spill.write_block(index, make_and_count(), summary)
    return FinishedBlocks(index, num_bytes, statistics["instances"], True)


def merge_counts(counts):
    """Return (statistics, unknown), the sums of both Counters over an iterable of dicts."""
    statistics, unknown = collections.Counter(), collections.Counter()
    for one in counts:
        statistics.update(one["statistics"])
        unknown.update(one["unknown"])
        if len(unknown) > 100 * MAX_UNKNOWN:
            unknown = collections.Counter(dict(instances.commonest(unknown, 10 * MAX_UNKNOWN)))
    return statistics, unknown


def _write_shards(job, indices, statistics, progress):
    """Write all shards; return how many records follow a record of the same document."""
    spill = job.spill
    spill_files = spill.spill_files(indices)
    cell_bytes = spill.cell_bytes(spill_files)
    try:
        check_instances(job, statistics, cell_bytes.reshape(len(job.outputs), -1).sum(axis=1))
    except UserError:
        _clear(job.folder)
        raise
    blocks = [(index, spill.read_summary(index)["sha256"]) for index in indices]
    digest = hashlib.sha256(json.dumps(blocks).encode("ascii")).hexdigest()
    summary_paths = [
        os.path.join(job.folder, "shard-{}.done".format(shard)) for shard in range(len(job.outputs))
    ]
    neighbours = {}  # by number of the shard
    for shard, path in enumerate(summary_paths):
        summary = external_shuffle.read_summary(path)
        is_same = summary and summary["blocks"] == digest
        if is_same and summary.get("file") == _stamp(job.outputs[shard]):
            neighbours[shard] = summary["neighbours"]
    remove_outputs(job, {job.outputs[shard] for shard in neighbours})

    def write(shard):
        path = job.outputs[shard]
        number = spill.write_shard(shard, path, spill_files, cell_bytes, job.compress)
        summary = {"blocks": digest, "neighbours": number, "file": _stamp(path)}
        files.write_json(summary_paths[shard], summary)
        return shard, number

    missing = [shard for shard in range(len(job.outputs)) if shard not in neighbours]
    num_workers = min(job.num_workers, max(len(missing), 1))
    for shard, number in workers.run_tasks(write, missing, num_workers):
        neighbours[shard] = number
        progress.count_shards(len(neighbours))
    return sum(neighbours.values())


def _stamp(path):
    """Return what changes if another run replaces a file, a list; None if there is no file."""
    return [files.size(path), files.modified(path)] if files.exists(path) else None


def remove_outputs(job, kept=()):
    """Remove the manifest and the shards of an earlier run, except the paths in `kept`."""
    for path in job.outputs + job.stale_outputs:
        if path not in kept:
            with files.writing(path):
                manifest.remove_manifest(path)
                files.remove(path)
    manifest.remove_manifest(job.outputs[0])


def check_instances(job, statistics, shard_sizes):
    """Raise a `UserError` where a field has no text, or a shard would have no instance."""
    _check_fields(job, statistics)
    if not statistics["instances"]:
        reasons = ["{} documents".format(statistics["documents"])]
        for name, number in sorted(statistics.items()):
            if "_dropped_" in name and number:
                reasons.append("{}: {}".format(name, number))
        inputs, reasons = ", ".join(job.inputs), ", ".join(reasons)
        raise UserError("{}: no instance came out of {}".format(inputs, reasons))
    if not all(shard_sizes):
        text = "{} records are too few for {} output files: name fewer"
        number = statistics["rows"] or statistics["instances"]
        raise UserError(text.format(number, len(job.outputs)))


def _check_fields(job, statistics):
    """Raise a `UserError` for a field that has text in no document."""
    format_ = job.maker.format
    is_missing = [not statistics[corpus.FIELD_COUNT.format(name)] for name in format_.text_fields]
    if format_.name == "jsonl" and any(is_missing) and statistics["documents"]:
        names = [name for name, missing in zip(format_.text_fields, is_missing) if missing]
        text = (
            "--text_fields={}: no document of {} has text in {}; the first has text in {}: correct "
            "the name, or leave it out"
        )
        fields = ", ".join(input_check.fields_of(job.inputs[0])) or "no field"
        wanted = ",".join(format_.text_fields)
        raise UserError(text.format(wanted, ", ".join(job.inputs), ", ".join(names), fields))
