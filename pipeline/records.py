"""TFRecords as TensorFlow reads them: single records, checks, and the input functions.

S is the sequence length, P the number of predictions per sequence, B the batch size.
"""

import collections

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from pipeline import examples
from pipeline.errors import UserError
from pipeline.examples import Feature, classification_schema, pretraining_schema
from pipeline.files import WholeFile, find_files
from pipeline.manifest import check_manifests, read_manifest, remove_manifest, write_manifest

__all__ = [
    "Feature",
    "RecordWriter",
    "check_manifests",
    "check_records",
    "classification_schema",
    "find_files",
    "make_input_fn",
    "pretraining_schema",
    "read_manifest",
    "remove_manifest",
    "serialize",
    "write_manifest",
]

GZIP_MAGIC = b"\x1f\x8b\x08"
# Instances held in memory to shuffle. One of 512 pieces is about 3 kB serialized.
SHUFFLE_BUFFER = 50000
# Training files read at a time, so that neighbours in a batch come from different files.
INTERLEAVED_FILES = 16


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


class RecordWriter(WholeFile):
    """A `WholeFile` of framed records; the readers below see for themselves if gzipped."""

    def write(self, record):
        """Append one record, bytes."""
        super().write(examples.frame(record))


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
