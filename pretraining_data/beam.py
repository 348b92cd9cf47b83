"""Makes the same records in the same shards with Apache Beam, on more than one machine.

    files -> blocks -> reshuffled -> entries of each shard -> grouped -> sorted and written

One worker sorts a shard in memory, so a shard should have at most a few hundred MB.
"""

import collections
import contextlib
import hashlib
import os
import re
import uuid

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from common import files
from common.errors import UserError
from pretraining_data import build, corpus, external_shuffle, instances
from tfrecords import wire


def create(job, runner, options):
    """Make the shards and their manifest; return the manifest, a dict.

    Args:
        job: `build.Job`; its work folder and number of workers are not used.
        runner: str, name of a runner: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner...
        options: list of str, flags of that runner.

    Raises:
        UserError: where the runner does not take the options, or a shard has no instance.
    """
    pipeline = _make_pipeline(runner, options)
    counts_path = job.outputs[0] + ".counts" + files.TEMPORARY_SUFFIX
    with _user_errors(), pipeline:
        _ = _write_shards(pipeline, job) | "WriteCounts" >> beam.Map(
            lambda counts: files.write_json(counts_path, counts)
        )
    counts = files.read_json(counts_path)
    files.remove(counts_path)
    statistics = collections.Counter(counts["statistics"])
    try:
        build.check_instances(job, statistics, map(files.exists, job.outputs))
    except UserError:
        build.remove_outputs(job)
        raise
    return build.write_manifest(job, counts["inputs"], statistics, counts["unknown"])


def _make_pipeline(runner, options):
    # Worker processes on this machine must find the modules of this repository.
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [root] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    pipeline_options = PipelineOptions(list(options), runner=runner)
    try:
        return beam.Pipeline(options=pipeline_options)
    except ValueError as error:
        raise UserError("--runner={}: {}".format(runner, error)) from error


def _write_shards(pipeline, job):
    """Add the steps from text to shards to a pipeline; return the collection of their counts."""
    read = (
        pipeline
        | "Files" >> beam.Create(list(enumerate(job.inputs)))
        | "SpreadFiles" >> beam.Reshuffle()
        | "Read"
        >> beam.ParDo(_Read(job.block_bytes(), job.maker.format)).with_outputs(main="blocks")
    )
    made = (
        read.blocks
        | "SpreadBlocks" >> beam.Reshuffle()
        | "Make" >> beam.ParDo(_Make(job.maker, len(job.outputs))).with_outputs(main="entries")
    )
    made_counts = (
        (read.counts, made.counts)
        | "MadeCounts" >> beam.Flatten()
        | "MergeMadeCounts" >> beam.CombineGlobally(_merge)
    )
    # A mistake in the input ends the pipeline before this step, so older records stay.
    removed = made_counts | "Remove" >> beam.Map(lambda _: build.remove_outputs(job))
    written = (
        made.entries
        | "Group" >> beam.GroupByKey()
        | "Write" >> beam.Map(_write, job, beam.pvalue.AsSingleton(removed))
    )
    counts = (made_counts, written) | "Counts" >> beam.Flatten()
    return counts | "MergeCounts" >> beam.CombineGlobally(_merge)


_USER_ERROR = re.compile(r"common\.errors\.UserError: (.+?)(?: \[while running .*)?$", re.M)


@contextlib.contextmanager
def _user_errors():
    """Turn an exception that has the message of a worker's `UserError` into a `UserError`."""
    try:
        yield
    except UserError as error:  # Beam appends the step of its pipeline.
        raise UserError(re.sub(r" \[while running '.*", "", str(error))) from error
    except RuntimeError as error:
        message = _USER_ERROR.search(str(error))
        if not message:
            raise
        raise UserError(message.group(1)) from error


class _Read(beam.DoFn):
    """From (number, path) to `corpus.Block`s, and the sha256 of the file as a count."""

    def __init__(self, block_bytes, format_):
        self._block_bytes = block_bytes
        self._format = format_

    def process(self, element):
        number, path = element
        digest = hashlib.sha256()
        yield from corpus.read_blocks(number, path, self._block_bytes, self._format, digest=digest)
        yield beam.pvalue.TaggedOutput("counts", _counts(inputs={path: digest.hexdigest()}))


class _Make(beam.DoFn):
    """From `corpus.Block` to (shard, list of (key, document, frame)), and the counts."""

    def __init__(self, maker, num_shards):
        self._maker = maker
        self._num_shards = num_shards

    def process(self, block):
        tokenized = self._maker.tokenize(block)
        statistics = tokenized.statistics
        for batch in self._maker.make_records(tokenized):
            statistics.update(batch.statistics)
            entries = collections.defaultdict(list)
            columns = batch.keys.tolist(), batch.documents.tolist(), map(wire.frame, batch.records)
            for key, document, frame in zip(*columns):
                entries[int(key * self._num_shards)].append((key, document, frame))
            yield from entries.items()
        unknown = instances.commonest(tokenized.unknown, build.MAX_UNKNOWN)
        yield beam.pvalue.TaggedOutput("counts", _counts(statistics, unknown))


def _write(shard_entries, job, removed):
    """Write a shard; return its counts. The runner waits for `removed`, which is None."""
    shard, lists = shard_entries
    # Entries of equal keys are sorted too, so that the order of their arrival has no effect.
    keys, documents, frames = zip(*sorted(entry for entries in lists for entry in entries))
    order = np.argsort(keys, kind="stable")
    order, neighbours = external_shuffle.separate_documents(order, documents)
    # A runner may write a shard twice at the same time, so the names of temporary files differ.
    with files.WholeFile(job.outputs[shard], job.compress, uuid.uuid4().hex) as whole:
        for i in order:
            whole.write(frames[i])
    return _counts(statistics={"neighbours_of_one_document": neighbours})


def _counts(statistics=(), unknown=(), inputs=()):
    return {"statistics": dict(statistics), "unknown": dict(unknown), "inputs": dict(inputs)}


def _merge(counts):
    """Return the sum of an iterable of counts."""
    counts = list(counts)
    inputs = {path: digest for one in counts for path, digest in one["inputs"].items()}
    return _counts(*build.merge_counts(counts), inputs)
