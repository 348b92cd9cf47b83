"""The bytes of records: tf.train.Example, serialized for many records at once, and TFRecord files.

This module works without TensorFlow, whose import takes longer than thousands of records take.

    Example { Features features = 1; }
    Features { map<string, Feature> feature = 1; }      entries in the order of their names
    Feature { oneof { FloatList float_list = 2; Int64List int64_list = 3; } }
    FloatList, Int64List { repeated value = 1 [packed]; }

Source: tensorflow/core/example/feature.proto and the encoding of Protocol Buffers. A TFRecord
file is a sequence of frames. A frame is the length of a record as uint64, the checksum of the
length, the bytes of the record and their checksum. A checksum is a masked CRC-32C
(tensorflow/core/lib/io/record_writer.h). All numbers are little-endian.
"""

import functools
import struct
import zlib
from typing import NamedTuple, Optional

import google_crc32c
import numpy as np

_FLOAT_LIST, _INT64_LIST = b"\x12", b"\x1a"  # tags: field 2 and field 3, of bytes
_FIRST, _SECOND = b"\x0a", b"\x12"  # tags: field 1 and field 2, of bytes
_MAX_VARINT = 5  # bytes of a varint of 32 bits; the numbers here are never negative


class FeatureSpec(NamedTuple):
    """A list of numbers that every record holds under the same name."""

    name: str
    dtype: str  # "int64" or "float32", the two that tf.train.Example stores
    length: int  # how many numbers


def pretraining_schema(max_seq_length, max_predictions_per_seq):
    """Return the tuple of `FeatureSpec` of a pre-training instance, with the published names."""
    return (
        FeatureSpec("input_ids", "int64", max_seq_length),
        FeatureSpec("input_mask", "int64", max_seq_length),
        FeatureSpec("segment_ids", "int64", max_seq_length),
        FeatureSpec("masked_lm_positions", "int64", max_predictions_per_seq),
        FeatureSpec("masked_lm_ids", "int64", max_predictions_per_seq),
        FeatureSpec("masked_lm_weights", "float32", max_predictions_per_seq),
        FeatureSpec("next_sentence_labels", "int64", 1),
    )


def serialize_all(schema, values):
    """Serialize many records to the bytes that tf.train.Example gives in deterministic order.

    Args:
        schema: tuple of `FeatureSpec`.
        values: dict from each feature's name to an array [m, length] of numbers. The array of an
            int64 feature is of bool or any int type and holds numbers from 0 to 2**32 - 1.

    Returns:
        List of bytes [m].

    Raises:
        ValueError: where an array has another length than its feature, or a number out of range.
    """
    columns = []
    for feature in sorted(schema):
        payloads = _payloads(feature, values[feature.name])
        heads = {size: _head(feature, size) for size in set(map(len, payloads))}
        columns += [[heads[len(payload)] for payload in payloads], payloads]
    features = [b"".join(parts) for parts in zip(*columns)]
    heads = {size: _FIRST + _varint(size) for size in set(map(len, features))}
    return [heads[len(data)] + data for data in features]


def _payloads(feature, array):
    """Return the packed numbers of a feature, bytes of each record."""
    if array.shape[1:] != (feature.length,):
        raise ValueError(
            "{} has shape {} instead of [m, {}]".format(feature.name, array.shape, feature.length)
        )
    if feature.dtype == "float32":
        return _rows(array.astype("<f4"))
    if array.dtype == bool or not array.size or (array.min() >= 0 and array.max() < 128):
        return _rows(array.astype(np.uint8))
    if not 0 <= array.min() <= array.max() < 2**32:
        raise ValueError("{} holds a number that is not in [0, 2**32)".format(feature.name))
    return _varints(array)


def _rows(array):
    """Return the bytes of each row of a contiguous array."""
    data = array.tobytes()
    size = array.shape[1] * array.itemsize
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


def _varints(array):
    """Return the varints of each row, bytes.

    A varint holds 7 bits of a number in each byte, low bits first; the eighth bit of every byte but
    the last is 1.
    """
    rest = array.ravel().astype(np.uint32)
    size = next(n for n in range(1, _MAX_VARINT + 1) if int(rest.max()) < 1 << 7 * n)
    varints = np.empty((len(rest), size), np.uint8)
    is_used = np.ones((len(rest), size), bool)
    for i in range(size):
        is_used[:, i] = rest > 0 if i else True
        varints[:, i] = rest & 0x7F
        rest >>= 7
        varints[:, i] |= (rest > 0).view(np.uint8) << 7
    ends = np.cumsum(np.count_nonzero(is_used.reshape(len(array), -1), axis=1)).tolist()
    data = np.compress(is_used.ravel(), varints.ravel()).tobytes()
    return [data[begin:end] for begin, end in zip([0] + ends, ends)]


def _head(feature, size):
    """Return the bytes before the packed numbers of a feature; the numbers take `size` bytes."""
    list_tag = _FLOAT_LIST if feature.dtype == "float32" else _INT64_LIST
    packed = _FIRST + _varint(size)
    values = list_tag + _varint(len(packed) + size) + packed
    value = _SECOND + _varint(len(values) + size) + values
    name = feature.name.encode("utf-8")
    entry = _FIRST + _varint(len(name)) + name + value
    return _FIRST + _varint(len(entry) + size) + entry


def _varint(number):
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def frame(record):
    """Return the frame of a record, bytes, as a TFRecord file holds it."""
    return _frame_head(len(record)) + record + _checksum(record)


def frame_size(data, offset):
    """Return the number of bytes of the frame that begins at an offset of `data`."""
    return _LENGTH.unpack_from(data, offset)[0] + _FRAME_BYTES


class Frame(NamedTuple):
    """A record and the bytes [begin, end) of its frame in a file."""

    begin: int
    end: int
    record: Optional[bytes]  # None where its checksum is wrong


class LostRecords(ValueError):
    """The file cannot be read from byte `begin` on, where a frame begins."""

    def __init__(self, begin, reason):
        super().__init__(reason)
        self.begin = begin
        self.reason = reason


def read_frames(stream):
    """Yield a `Frame` for every record of a stream.

    Args:
        stream: binary file, from the start of the records.

    Raises:
        LostRecords: names the byte where the first of the lost records begins.
    """
    # `data` starts at byte `offset` of the file; the next frame starts at byte `begin` of `data`.
    data, offset, begin = b"", 0, 0
    is_end = False
    sizes = {}  # head of a frame -> size of the frame; a repeated head needs no second check
    while True:
        head = data[begin : begin + _HEAD_BYTES]
        size = sizes.get(head)
        if size is None and len(head) == _HEAD_BYTES:
            length = _LENGTH.unpack_from(head)[0]
            if _frame_head(length) != head:
                raise LostRecords(offset + begin, "its length is damaged")
            size = sizes[head] = length + _FRAME_BYTES
        end = begin + (size or _FRAME_BYTES)
        if end <= len(data):
            checksum = end - _CHECKSUM.size
            record = data[begin + _HEAD_BYTES : checksum]
            is_sound = data[checksum:end] == _checksum(record)
            yield Frame(offset + begin, offset + end, record if is_sound else None)
            begin = end
        elif not is_end:
            try:
                more = stream.read(max(_READ_BYTES, end - begin))
            except (OSError, EOFError, zlib.error) as error:
                if getattr(error, "errno", None):  # the disk failed, not gzip
                    raise
                raise LostRecords(offset + begin, str(error)) from error
            data, offset, begin, is_end = data[begin:] + more, offset + begin, 0, not more
        elif head:
            raise LostRecords(offset + begin, "the file ends inside it")
        else:
            return


_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEAD_BYTES = _LENGTH.size + _CHECKSUM.size
_FRAME_BYTES = _HEAD_BYTES + _CHECKSUM.size
_READ_BYTES = 1 << 18


@functools.lru_cache(maxsize=1 << 14)
def _frame_head(size):
    length = _LENGTH.pack(size)
    return length + _checksum(length)


def _checksum(data):
    crc = google_crc32c.value(data)
    return _CHECKSUM.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
