"""The input functions that read TFRecords, also on several hosts, and checks before a run.

B is the batch size.
"""

import collections
import contextlib
import itertools
from typing import NamedTuple, Optional, Tuple

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from common import cli
from common.errors import UserError
from common.files import is_local, size
from tfrecords import wire
from tfrecords.index import load_index, open_records, remember_order, training_order
from tfrecords.order import in_order, shuffled
from tfrecords.wire import FeatureSpec

# `check_damage` reads this many bytes in some seconds.
CHECKED_BYTES = 8 << 30
# `check_ids` reads this many records of a file.
CHECKED_RECORDS = 64
# BERT's training read its data about 40 times (arXiv 1810.04805, A.2).
MANY_PASSES = 100
ID_FEATURES = ("input_ids", "masked_lm_ids")
NO_EXAMPLES = (
    "{} is not a TFRecord file of examples, or is damaged: make it with create_pretraining_data.py"
)


class InputSettings(NamedTuple):
    """How to read records; the values of the flags below."""

    shuffle_buffer: int = 32768
    prefetch_batches: Optional[int] = None
    skip_damaged: bool = False


DEFAULT_SETTINGS = InputSettings()


def define_input_flags(flag_values):
    """Define the flags behind `InputSettings`."""
    define = cli.flag_definer(flag_values)
    define.integer(
        "shuffle_buffer",
        DEFAULT_SETTINGS.shuffle_buffer,
        "Number of records that are shuffled in memory, in groups of 256 from all files.",
        lower_bound=1,
    )
    define.integer(
        "prefetch_batches",
        DEFAULT_SETTINGS.prefetch_batches,
        "Number of batches prepared ahead. By default TensorFlow chooses it.",
        lower_bound=1,
    )
    define.bool(
        "skip_damaged",
        DEFAULT_SETTINGS.skip_damaged,
        "Leave out and count damaged records, instead of stopping.",
    )


def input_settings(args):
    """Return the `InputSettings` that parsed flags ask for."""
    return InputSettings(*(getattr(args, name) for name in InputSettings._fields))


def check_records(files, schema):
    """Compare the first record of every file with the schema that the flags ask for.

    Records may be shorter than the schema: `make_input_fn` pads them, and a warning names both
    lengths.

    Args:
        files: list of paths.
        schema: tuple of the wanted `FeatureSpec`.

    Returns:
        Tuple of `FeatureSpec`, the schema of the records in all files.

    Raises:
        UserError: names the first file that does not fit, and both lengths.
    """
    stored = _stored_schema(files[0], schema)
    for path in files[1:]:
        for one, other in zip(stored, _stored_schema(path, schema)):
            if one != other:
                raise UserError(
                    "{} holds {} {} in a record but {} holds {}: use files made with the same "
                    "flags".format(files[0], one.length, one.name, path, other.length)
                )
    _warn_of_padding(files[0], stored, schema)
    return stored


def check_ids(path, vocab_size):
    """Compare the ids in the first records of a published file with the size of a vocabulary.

    Args:
        path: str.
        vocab_size: int, of the model.

    Raises:
        UserError: names the record, counted from 0, and the first feature with a larger id.
    """
    for number, record in enumerate(itertools.islice(_records(path), CHECKED_RECORDS)):
        features = _example(path, record or b"").features.feature
        for name in ID_FEATURES:
            largest = max(features[name].int64_list.value, default=0)
            if largest >= vocab_size:
                raise UserError(
                    "{}: record {} holds piece {} in {}, but vocab_size is {} in the config, so "
                    "the records were made with another vocabulary: give the --bert_config_file "
                    "of a model with that vocabulary, or make the records again with the "
                    "model's".format(path, number, largest, name, vocab_size)
                )


def _records(path):
    """Yield the records of a file up to the first lost one, bytes; None for a damaged one."""
    with contextlib.suppress(wire.LostRecords), open_records(path) as stream:
        for frame in wire.read_frames(stream):
            yield frame.record


def check_damage(files, folder=None, skip_damaged=False, find_fault=None):
    """Read all records and check them for damage, unless that takes long.

    Args:
        files: list of paths.
        folder: str, the output folder, which may have the index of an earlier run; or None.
        skip_damaged: bool, whether to warn of damaged records instead of raising an error.
        find_fault: as for `index.load_index`.

    Returns:
        `index.RecordIndex`, or None where the files are remote or larger than CHECKED_BYTES.

    Raises:
        UserError: as in `index.load_index`.
    """
    if not all(map(is_local, files)) or sum(map(size, files)) > CHECKED_BYTES:
        return None
    return load_index(files, folder, skip_damaged, find_fault, keep=False)


def _stored_schema(path, schema):
    features = _first_example(path).features.feature
    return tuple(_stored_feature(path, features, wanted) for wanted in schema)


def _stored_feature(path, features, wanted):
    list_name = {"int64": "int64_list", "float32": "float_list"}[wanted.dtype]
    if wanted.name not in features:
        names = ", ".join(sorted(features)) or "nothing"
        raise UserError("{} has no feature {}: it holds {}".format(path, wanted.name, names))
    stored = features[wanted.name].WhichOneof("kind")
    if stored != list_name:
        raise UserError(
            "{}: {} is a {} instead of a {}".format(path, wanted.name, stored, list_name)
        )
    length = len(getattr(features[wanted.name], list_name).value)
    if not 0 < length <= wanted.length:
        raise UserError(
            "{}: {} has length {} but the flags allow {}: raise the flag to {}, or make the "
            "records again".format(path, wanted.name, length, wanted.length, length)
        )
    return wanted._replace(length=length)


def _warn_of_padding(path, stored, schema):
    shorter = collections.OrderedDict()
    for has, wanted in zip(stored, schema):
        if has.length < wanted.length:
            shorter.setdefault((has.length, wanted.length), []).append(has.name)
    for lengths, names in shorter.items():
        text = "%s: %s stored with length %d, padded to %d as the flags say"
        tf.logging.warning(text, path, ", ".join(names), *lengths)


def first_record(path):
    """Return the first undamaged record of a file, bytes.

    Raises:
        UserError: where there is none.
    """
    try:
        with open_records(path) as stream:
            for frame in wire.read_frames(stream):
                if frame.record:
                    return frame.record
    except (FileNotFoundError, tf.errors.NotFoundError) as error:
        raise UserError("{} does not exist".format(path)) from error
    except wire.LostRecords as error:
        raise UserError(NO_EXAMPLES.format(path)) from error
    raise UserError("{} holds no record: make it again".format(path))


def _first_example(path):
    return _example(path, first_record(path))


def _example(path, record):
    try:
        return tf.train.Example.FromString(record)
    except DecodeError as error:
        raise UserError(NO_EXAMPLES.format(path)) from error


class Examples(NamedTuple):
    """The published record format, as `make_input_fn` reads it: tf.train.Example."""

    stored: Tuple[FeatureSpec, ...]  # schema of the records
    wanted: Tuple[FeatureSpec, ...]  # schema of the features; zeros pad shorter stored lists

    masks = ""  # the records are masked already
    rows_at_once = None  # `parse` takes any number of records
    find_fault = None

    def parse(self, records, epochs, numbers, batch_size):
        """Parse serialized examples into features with static shapes.

        Args:
            records: string [n], n at most `batch_size`.
            epochs, numbers: not used.
            batch_size: int, B.

        Returns:
            Dict of every wanted feature, int32 or float32 [B, length], and
            `next_sentence_weights`, float32 [B, 1], 0 for the examples of zeros after the last.
        """
        del epochs, numbers
        columns = {
            feature.name: tf.io.FixedLenFeature([feature.length], tf.as_dtype(feature.dtype))
            for feature in self.stored
        }
        parsed = tf.io.parse_example(records, columns)
        number = tf.shape(records)[0]
        is_real = tf.cast(tf.range(batch_size) < number, tf.float32)
        features = {"next_sentence_weights": is_real[:, tf.newaxis]}
        for has, wanted in zip(self.stored, self.wanted):
            values = parsed[has.name]  # [n, stored length]
            if values.dtype == tf.int64:
                values = tf.cast(values, tf.int32)  # TPUs have no int64
            padding = [[0, batch_size - number], [0, wanted.length - has.length]]
            values = tf.pad(values, padding)
            values.set_shape([batch_size, wanted.length])
            features[has.name] = values  # [B, length]
        return features


def examples(files, schema):
    """Check files of the published format and return their `Examples`; see `check_records`."""
    return Examples(check_records(files, schema), schema)


def make_input_fn(
    files,
    record_format,
    training,
    seed=0,
    batch_size=None,
    first_example=lambda: 0,
    folder=None,
    settings=DEFAULT_SETTINGS,
    num_steps=None,
):
    """Check the files and return an input function for an Estimator.

    Training reads an endless order that files, seed and shuffle_buffer alone decide. Step t takes
    its records at positions t * B to (t + 1) * B, where B is the batch size over all hosts and
    replicas. Every pass holds every record once. Evaluation is one pass in the order of the files;
    examples of zeros fill up the last batch, so that shapes are static and no record is lost.

    Args:
        files: list of paths of TFRecords, gzipped or not.
        record_format: `Examples` or `graph.Masking`, which turns records into features.
        training: bool.
        seed: int, of the order.
        batch_size: int, of a step, used where the `params` of the Estimator have no "batch_size".
        first_example: function that returns an int, the position where training starts; every
            call of the input function calls it.
        folder: str, the output folder, which keeps the index of the files, or None.
        settings: `InputSettings`.
        num_steps: int, of the whole training; the log says how often they read each record.

    Returns:
        Function of `params` (dict or None) and `input_context` (tf.distribute.InputContext or
        None) that returns a tf.data.Dataset of the dicts of `record_format.parse`, of b rows. b is
        the batch size of a replica; the replicas of a host take the elements in turns.

    Raises:
        UserError: as in `index.load_index`, before anything is built.
    """
    index = load_index(files, folder, settings.skip_damaged, record_format.find_fault)
    if training:
        _warn_of_large_files(index, settings.shuffle_buffer)
        tell_passes(index.num_records, num_steps, batch_size)
        sizes = settings.shuffle_buffer, batch_size
        order = training_order(index, seed, *sizes, record_format.masks)
        remember_order(folder, order, is_resumed=first_example() > 0)

    @tf.autograph.experimental.do_not_convert  # conversion changes nothing and takes long
    def read(part):
        if training:
            records = shuffled(index, seed, settings.shuffle_buffer, first_example())
            batches = _parsed(records, record_format, part)
        else:
            batches = of_host(_filled_up(in_order(index), index.num_records, part), part)
            batches = _parse_all(batches, record_format, part.batch_size)
        return prefetched(batches, settings.prefetch_batches)

    def input_fn(params=None, input_context=None):
        return read(part_of_step(params or {}, batch_size, input_context))

    return input_fn


def prefetched(batches, count=None):
    """Return batches of which some are made in advance, without the autotuning of tf.data.

    The autotuning thread sleeps for up to a minute, and the end of a session often waits for it. So
    each evaluation during a training could take a minute more.

    Args:
        batches: tf.data.Dataset.
        count: int, how many are made in advance; None for as many as keep the step busy.
    """
    options = tf.data.Options()
    if hasattr(options, "autotune"):
        options.autotune.enabled = False
    else:  # TensorFlow 1
        options.experimental_optimization.autotune = False
    batches = batches.prefetch(count or tf.data.experimental.AUTOTUNE)
    return batches.with_options(options)


def _parsed(records, record_format, part):
    """Return the batches of this host; a large batch is parsed in parts of equal size."""
    most = record_format.rows_at_once or part.batch_size
    size = max(n for n in range(1, min(most, part.batch_size) + 1) if part.batch_size % n == 0)
    num_parts = part.batch_size // size
    parts = of_host(records.batch(size, drop_remainder=True), part, num_parts)
    parts = _parse_all(parts, record_format, size)
    if num_parts == 1:
        return parts

    def join(features):
        return {
            name: tf.reshape(value, [part.batch_size] + value.shape.as_list()[2:])
            for name, value in features.items()
        }

    return parts.batch(num_parts, drop_remainder=True).map(join)


def _parse_all(batches, record_format, batch_size):
    return batches.map(
        lambda *batch: record_format.parse(*batch, batch_size),
        num_parallel_calls=tf.data.experimental.AUTOTUNE,
    )


def tell_passes(num_records, num_steps, batch_size):
    """Log how often `num_steps` steps read each record; warn of more than `MANY_PASSES` times."""
    if num_steps is None:
        return
    passes = num_steps * batch_size / num_records
    text = "{:,} steps of {:,} rows read each of the {:,} records {:,.{}f} times".format(
        num_steps, batch_size, num_records, passes, 0 if passes > 10 else 1
    )
    if passes > MANY_PASSES:
        remedy = "give more text, or smaller --num_train_steps or --train_batch_size"
        tf.logging.warning("MANY PASSES: %s: %s", text, remedy)
    else:
        tf.logging.info(text)


def _warn_of_large_files(index, shuffle_buffer):
    for file, count in zip(index.file, index.count):
        if index.is_gzipped[file] and count > shuffle_buffer:
            text = (
                "%s is gzipped, so that all of its %d records are in memory at a time and not "
                "--shuffle_buffer=%d of them: make more or uncompressed files"
            )
            tf.logging.warning(text, index.paths[file], count, shuffle_buffer)
            return


class Part(NamedTuple):
    """The part of a step's batch that one host reads."""

    num_hosts: int
    host: int
    num_replicas: int  # per host
    batch_size: int  # per replica


def part_of_step(params, batch_size, input_context):
    """Return the `Part` of this call of an input function.

    On a TPU, TPUEstimator passes the batch size of a replica and its own context. Elsewhere it
    passes the batch size of a step, and the context of the tf.distribute strategy if there is one.
    """
    size = params.get("batch_size", batch_size)
    context = params.get("context")
    if context:
        replicas = context.num_of_replicas_per_host
        return Part(context.num_hosts, context.current_host, replicas, size)
    if not input_context:
        return Part(1, 0, 1, size)
    hosts, replicas = input_context.num_input_pipelines, input_context.num_replicas_in_sync
    if size % replicas:
        raise UserError(
            "a batch of {} cannot be shared by {} devices: use a multiple".format(size, replicas)
        )
    return Part(hosts, input_context.input_pipeline_id, replicas // hosts, size // replicas)


def _filled_up(records, num_records, part):
    """Return batches of at most b records, equally many for every replica of every host."""
    batches = records.batch(part.batch_size)
    missing = (-num_records // part.batch_size) % (part.num_hosts * part.num_replicas)
    dtypes = (tf.string, tf.int64, tf.int64)
    nothing = tf.data.Dataset.from_tensors(tuple(tf.constant([], dtype) for dtype in dtypes))
    return batches.concatenate(nothing.repeat(missing))


def of_host(batches, part, num_parts=1):
    """Return the batches of this host's replicas from the batches of all replicas.

    Args:
        batches: tf.data.Dataset.
        part: `Part`.
        num_parts: int, how many consecutive elements are the batch of one replica.
    """
    if part.num_hosts == 1:
        return batches
    of_one_host = part.num_replicas * num_parts
    mine = batches.enumerate().filter(
        lambda number, _: tf.equal(number // of_one_host % part.num_hosts, part.host)
    )
    return mine.map(lambda _, batch: batch)
