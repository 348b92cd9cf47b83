"""TFRecords: one schema that writes and reads them, their manifest, and the input functions.

S is the sequence length, P the number of predictions per sequence, B the batch size.
"""

import collections
import json
from typing import NamedTuple

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from pipeline.errors import UserError
from pipeline.files import TEMPORARY_SUFFIX, make_parent, write_text

MANIFEST_SUFFIX = ".manifest.json"
GZIP_MAGIC = b"\x1f\x8b\x08"
# Instances held in memory to shuffle. One of 512 pieces is about 3 kB serialized.
SHUFFLE_BUFFER = 50000
# Training files read at a time, so that neighbours in a batch come from different files.
INTERLEAVED_FILES = 16


class Feature(NamedTuple):
    """One named list of numbers in every record.

    `dtype` is "int64" or "float32", the two that tf.train.Example stores; `length` counts numbers.
    """

    name: str
    dtype: str
    length: int


def pretraining_schema(max_seq_length, max_predictions_per_seq):
    """Return the tuple of `Feature` of a pre-training instance, names as published."""
    return (
        Feature("input_ids", "int64", max_seq_length),
        Feature("input_mask", "int64", max_seq_length),
        Feature("segment_ids", "int64", max_seq_length),
        Feature("masked_lm_positions", "int64", max_predictions_per_seq),
        Feature("masked_lm_ids", "int64", max_predictions_per_seq),
        Feature("masked_lm_weights", "float32", max_predictions_per_seq),
        Feature("next_sentence_labels", "int64", 1),
    )


def classification_schema(max_seq_length):
    """Return the tuple of `Feature` of a classification example."""
    return (
        Feature("input_ids", "int64", max_seq_length),
        Feature("input_mask", "int64", max_seq_length),
        Feature("segment_ids", "int64", max_seq_length),
        Feature("label_ids", "int64", 1),
    )


def serialize(schema, values):
    """Serialize one record; equal values give equal bytes.

    Args:
        schema: tuple of `Feature`.
        values: dict from each feature's name to its list or 1-D array of numbers.

    Returns:
        bytes of a tf.train.Example.

    Raises:
        ValueError: where a list has another length than its feature.
    """
    features = {}
    for feature in schema:
        numbers = values[feature.name]
        if len(numbers) != feature.length:
            raise ValueError(
                "{} has {} numbers instead of {}".format(feature.name, len(numbers), feature.length)
            )
        if feature.dtype == "float32":
            stored = tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
        else:
            stored = tf.train.Feature(int64_list=tf.train.Int64List(value=numbers))
        features[feature.name] = stored
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


class RecordWriter:
    """A context manager that writes a TFRecord file, which appears by rename when complete.

    Until then the bytes are in `path + ".tmp"`; an error inside the context removes that file and
    leaves an older `path` as it was.

    Args:
        path: str, local or any other that tf.io.gfile knows.
        compress: bool, whether to gzip. The readers below recognize it by the first bytes.

    Raises:
        UserError: where the path cannot be written, or the disk is full.
    """

    def __init__(self, path, compress=False):
        self._path = path
        self._temporary = path + TEMPORARY_SUFFIX
        self._options = tf.io.TFRecordOptions("GZIP" if compress else "")

    def __enter__(self):
        try:
            make_parent(self._path)
            self._writer = tf.io.TFRecordWriter(self._temporary, options=self._options)
        except tf.errors.OpError as error:
            raise self._failure(error) from error
        return self

    def write(self, record):
        """Append one record, bytes."""
        try:
            self._writer.write(record)
        except tf.errors.OpError as error:
            raise self._failure(error) from error

    def __exit__(self, error_type, *_):
        try:
            self._writer.close()
            if error_type is None:
                tf.io.gfile.rename(self._temporary, self._path, overwrite=True)
        except tf.errors.OpError as error:
            error_type = type(error)
            raise self._failure(error) from error
        finally:
            if error_type is not None and tf.io.gfile.exists(self._temporary):
                tf.io.gfile.remove(self._temporary)

    def _failure(self, error):
        return UserError("cannot write {}: {}".format(self._path, error.message))


def find_files(pattern):
    """Return the sorted list of the files that a flag names.

    Args:
        pattern: str, paths and globs separated by commas. Manifests and unfinished files that a
            glob happens to match are left out.

    Raises:
        UserError: names the path or glob that matches nothing.
    """
    files = set()
    for part in filter(None, (part.strip() for part in pattern.split(","))):
        found = [part] if tf.io.gfile.exists(part) else _glob(part)
        if not found:
            raise UserError(
                "no file matches {!r}: check the path, or make the file first".format(part)
            )
        if tf.io.gfile.isdir(found[0]):
            raise UserError("{} is a folder: name files, for example {}/*".format(part, found[0]))
        files.update(found)
    if not files:
        raise UserError("no input file is named in {!r}".format(pattern))
    return sorted(files)


def _glob(pattern):
    try:
        found = tf.io.gfile.glob(pattern)
    except tf.errors.OpError:  # the folder does not exist
        return []
    return [path for path in found if not path.endswith((MANIFEST_SUFFIX, TEMPORARY_SUFFIX))]


def write_manifest(path, manifest):
    """Write what is to be known about records, as JSON, to `<path>.manifest.json`.

    Args:
        path: str, the (first) records file.
        manifest: dict that json can write.

    Raises:
        UserError: where the file cannot be written.
    """
    write_text(path + MANIFEST_SUFFIX, json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")


def remove_manifest(records_file):
    """Remove the manifest beside a records file, if any, before the file is made again."""
    if tf.io.gfile.exists(records_file + MANIFEST_SUFFIX):
        tf.io.gfile.remove(records_file + MANIFEST_SUFFIX)


def read_manifest(records_file):
    """Return the manifest beside a records file as a dict, or None where there is none.

    Raises:
        UserError: names a manifest that is not a JSON object.
    """
    path = records_file + MANIFEST_SUFFIX
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as stream:
            manifest = json.loads(stream.read().decode("utf-8"))
    except ValueError as error:
        raise UserError(
            "{} is damaged ({}): remove it, or make the records again".format(path, error)
        ) from error
    if not isinstance(manifest, dict):
        raise UserError("{} is not a manifest: remove it, or make the records again".format(path))
    return manifest


def check_records(files, schema):
    """Hold the first record of every file against the schema that the flags ask for.

    Records shorter than asked for are usable, since `make_input_fn` pads them; a warning names
    both numbers.

    Args:
        files: list of paths.
        schema: tuple of `Feature` that is wanted.

    Returns:
        Tuple of `Feature`, the schema that all of the files are stored with.

    Raises:
        UserError: names the first file that is empty, not a TFRecord, without a feature of the
            schema, longer than the schema allows (with both numbers) or unlike the other files.
    """
    stored = _stored_schema(files[0], schema)
    for path in files[1:]:
        other = _stored_schema(path, schema)
        if other != stored:
            mine, theirs = next((a, b) for a, b in zip(stored, other) if a != b)
            raise UserError(
                "{} holds {} {} in a record but {} holds {}: use files made with the same "
                "flags".format(files[0], mine.length, mine.name, path, theirs.length)
            )
    _warn_of_padding(files[0], stored, schema)
    return stored


def _stored_schema(path, schema):
    features = _first_example(path).features.feature
    return tuple(_stored_feature(path, features, wanted) for wanted in schema)


def _stored_feature(path, features, wanted):
    kind = {"int64": "int64_list", "float32": "float_list"}[wanted.dtype]
    if wanted.name not in features:
        raise UserError(
            "{} has no feature {}: it holds {}".format(
                path, wanted.name, ", ".join(sorted(features)) or "nothing"
            )
        )
    found = features[wanted.name].WhichOneof("kind")
    if found != kind:
        raise UserError("{}: {} is a {} instead of a {}".format(path, wanted.name, found, kind))
    length = len(getattr(features[wanted.name], kind).value)
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
    for (has, wanted), names in shorter.items():
        tf.logging.warning(
            "%s: %s stored with length %d, padded to %d as the flags say",
            path,
            ", ".join(names),
            has,
            wanted,
        )


def _first_example(path):
    verbosity = tf.logging.get_verbosity()
    tf.logging.set_verbosity(tf.logging.ERROR)  # tf_record_iterator calls itself deprecated
    try:
        options = tf.io.TFRecordOptions(_compression(path))
        record = next(tf.io.tf_record_iterator(path, options=options), None)
        example = None if record is None else tf.train.Example.FromString(record)
    except tf.errors.NotFoundError as error:
        raise UserError("{} does not exist".format(path)) from error
    except (tf.errors.OpError, DecodeError) as error:
        raise UserError(
            "{} is not a TFRecord file of examples, or is damaged: make it again".format(path)
        ) from error
    finally:
        tf.logging.set_verbosity(verbosity)
    if example is None:
        raise UserError("{} holds no record: make it again".format(path))
    return example


def _compression(path):
    with tf.io.gfile.GFile(path, "rb") as stream:
        return "GZIP" if stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC else ""


def _common_compression(files):
    of_file = {path: _compression(path) for path in files}
    if len(set(of_file.values())) > 1:
        plain = next(path for path in files if not of_file[path])
        raise UserError("{} is not gzipped but other files are: use one kind".format(plain))
    return of_file[files[0]]


def make_input_fn(
    files, schema, training, seed=None, batch_size=None, shuffle_buffer=SHUFFLE_BUFFER
):
    """Check the files and return the input function that an Estimator asks for.

    Training repeats for ever; within one pass every record comes once, in an order that `seed`
    fixes. Otherwise there is one pass in order, and the last batch is filled up with examples of
    zeros, so that shapes are static and no record is lost.

    Args:
        files: list of paths of TFRecords, gzipped or not.
        schema: tuple of `Feature`; shorter stored lists are padded with zeros to its lengths.
        training: bool.
        seed: int, or None for another order in every process.
        batch_size: int, used where the `params` of the Estimator have no "batch_size".
        shuffle_buffer: int, number of records held in memory to shuffle when training.

    Returns:
        Function of `params` (dict or None) that returns a tf.data.Dataset of dicts: every feature
        [B, length], int32 or float32, and `is_real_example`, float32 [B], which is 0 for
        what fills up the last batch.

    Raises:
        UserError: as `check_records`, before anything is built.
    """
    stored = check_records(files, schema)
    compression = _common_compression(files)

    def input_fn(params=None):
        params = params or {}
        size = params.get("batch_size", batch_size)
        if training:
            dataset = _shuffled_records(files, compression, _host(params), seed, shuffle_buffer)
        else:
            dataset = tf.data.TFRecordDataset(files, compression_type=compression)
        dataset = dataset.batch(size, drop_remainder=training)
        dataset = dataset.map(
            lambda batch: _parse(batch, stored, schema, size),
            num_parallel_calls=tf.data.experimental.AUTOTUNE,
        )
        return dataset.prefetch(tf.data.experimental.AUTOTUNE)

    return input_fn


def _host(params):
    """Return (number of hosts, this host's index): each host of a TPU pod reads its own share."""
    context = params.get("context")
    return (context.num_hosts, context.current_host) if context else (1, 0)


def _shuffled_records(files, compression, host, seed, shuffle_buffer):
    dataset = tf.data.Dataset.from_tensor_slices(list(files))
    shard_files = len(files) >= host[0]
    if shard_files:
        dataset = dataset.shard(*host)
    dataset = dataset.shuffle(len(files), seed=seed)
    dataset = dataset.interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type=compression),
        cycle_length=min(len(files), INTERLEAVED_FILES),
        num_parallel_calls=tf.data.experimental.AUTOTUNE,
    )
    if not shard_files:
        dataset = dataset.shard(*host)
    return dataset.shuffle(shuffle_buffer, seed=seed).repeat()


def _parse(batch, stored, schema, batch_size):
    """Parse serialized examples [at most B] into features with static shapes."""
    parsed = tf.io.parse_example(
        batch,
        {
            feature.name: tf.io.FixedLenFeature([feature.length], tf.as_dtype(feature.dtype))
            for feature in stored
        },
    )
    real = tf.ones_like(batch, dtype=tf.float32)  # [at most B]
    missing = batch_size - tf.shape(batch)[0]
    features = {}
    for has, wanted in zip(stored, schema):
        values = parsed[has.name]  # [at most B, stored length]
        if values.dtype == tf.int64:
            values = tf.cast(values, tf.int32)  # TPUs have no int64
        values = tf.pad(values, [[0, missing], [0, wanted.length - has.length]])
        values.set_shape([batch_size, wanted.length])
        features[has.name] = values  # [B, length]
    real = tf.pad(real, [[0, missing]])
    real.set_shape([batch_size])
    features["is_real_example"] = real  # [B]
    return features
