"""Fine-tuning examples as ids of pieces: encoded by all cores, unpadded, and cached in a file.

This module needs no TensorFlow, except for remote files. The file is a TFRecord file with one
record for each field of `EncodedExamples`. So checksums show damage, and TensorFlow operations can
read the file, even on the host of a remote TPU. n is the number of examples.
"""

import hashlib
import json
import os
import uuid
from typing import NamedTuple

import numpy as np
from absl import logging

from common import files
from common.workers import run_tasks
from tfrecords.wire import frame, read_frames

# Label id of an example without a label; it is out of range, so that no loss counts it as a class.
UNLABELLED = -1
# Length of the shortest sequence with both texts of a pair: [CLS] a [SEP] b [SEP].
SHORTEST_SEQUENCE = 5
# Part of every fingerprint. Raise it when the same example is encoded in another way.
ENCODING_VERSION = 2
# Examples that a process encodes at a time: few, so that their arrays stay in the cache.
CHUNK_EXAMPLES = 2048


class EncodedExamples(NamedTuple):
    """Examples as ids of pieces: example i is ids[begins[i]:begins[i + 1]]."""

    ids: np.ndarray  # int32 [pieces of all examples]: [CLS] a [SEP] or [CLS] a [SEP] b [SEP]
    begins: np.ndarray  # int64 [n + 1]
    lengths_a: np.ndarray  # int32 [n], pieces of segment 0, which ends with the first [SEP]
    label_ids: np.ndarray  # int32 [n], index of the label, or UNLABELLED
    full_lengths: np.ndarray  # int32 [n], pieces before truncation


# The types in the file.
DTYPES = EncodedExamples("<i4", "<i8", "<i4", "<i4", "<i4")


class EncodedSplit(NamedTuple):
    """A split of a data set after encoding, and the file that holds it."""

    path: str
    examples: EncodedExamples

    @property
    def name(self):
        """The file's name, which has a fingerprint of everything that the file depends on."""
        return os.path.basename(self.path)


class Lengths(NamedTuple):
    """Numbers of pieces of a split's examples before truncation, special ones included."""

    median: int
    percentile_90: int
    percentile_99: int
    longest: int
    num_truncated: int  # examples that were truncated


def encode_examples(examples, labels, tokenizer, max_seq_length, num_workers=1):
    """Return the `EncodedExamples` of examples; the number of workers does not change them.

    Args:
        examples: list of objects with `text_a` (str), `text_b` (str or None) and `label` (one of
            the labels, or None).
        labels: the labels, in the order of the classifier's outputs.
        tokenizer: `tokenization.FullTokenizer`.
        max_seq_length: int, most pieces, special ones included; the longer text is cut first.
        num_workers: int, number of processes.

    Raises:
        UserError: when a worker was killed.
    """
    label_ids = {label: i for i, label in enumerate(labels)}
    label_ids[None] = UNLABELLED

    def encode(begin):
        some = examples[begin : begin + CHUNK_EXAMPLES]
        return begin, _encode(some, label_ids, tokenizer, max_seq_length)

    begins = range(0, max(len(examples), 1), CHUNK_EXAMPLES)
    parts = dict(run_tasks(encode, begins, min(num_workers, len(begins))))
    return _join([parts[begin] for begin in begins])


def _encode(examples, label_ids, tokenizer, max_seq_length):
    """Return the `EncodedExamples` of a few examples; an example of one text has no pieces in b."""
    texts = [example.text_a for example in examples]
    texts += [example.text_b or "" for example in examples]
    pieces, counts = tokenizer.encode_all(texts)
    starts_a, starts_b = np.split(_starts(counts), 2)
    counts_a, counts_b = np.split(counts, 2)
    is_pair = np.array([example.text_b is not None for example in examples], int)
    num_special = 2 + is_pair
    kept_a, kept_b = truncated_lengths(counts_a, counts_b, max_seq_length - num_special)
    begins = np.cumsum(np.append(0, kept_a + kept_b + num_special))
    cls_id, sep_id = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    ids = np.full(begins[-1], sep_id, np.int32)
    ids[begins[:-1]] = cls_id
    ids[_spans(begins[:-1] + 1, kept_a)] = pieces[_spans(starts_a, kept_a)]
    ids[_spans(begins[:-1] + kept_a + 2, kept_b)] = pieces[_spans(starts_b, kept_b)]
    return EncodedExamples(
        ids,
        begins,
        (kept_a + 2).astype(np.int32),
        np.array([label_ids[example.label] for example in examples], np.int32),
        (counts_a + counts_b + num_special).astype(np.int32),
    )


def truncated_lengths(length_a, length_b, room):
    """Cut a pair of texts to `room` pieces in all: the longer text always loses its last piece.

    >>> truncated_lengths(np.array([10, 10]), np.array([3, 9]), np.array([8, 7]))
    (array([5, 4]), array([3, 3]))

    Args:
        length_a, length_b: int arrays, the pieces of the texts.
        room: int array.

    Returns:
        Pair of int arrays, the pieces that are left of each text.
    """
    kept_a = np.minimum(length_a, np.maximum(room - length_b, (room + 1) // 2))
    return kept_a, np.minimum(length_b, room - kept_a)


def _starts(counts):
    return np.cumsum(counts) - counts


def _spans(starts, counts):
    """Return the indices start, start + 1, ... of each span in turn: int64 [sum of counts]."""
    return np.repeat(starts - _starts(counts), counts) + np.arange(np.sum(counts))


def _join(parts):
    columns = EncodedExamples(*zip(*parts))
    offsets = _starts(np.array([len(ids) for ids in columns.ids]))
    begins = [part[:-1] + offset for part, offset in zip(columns.begins, offsets)]
    joined = columns._replace(begins=begins + [[offsets[-1] + len(columns.ids[-1])]])
    return EncodedExamples(*map(np.concatenate, joined))


def measure_lengths(encoded):
    """Return the `Lengths` of `EncodedExamples`, for the log."""
    ordered = np.sort(encoded.full_lengths)
    ranks = [-(-len(ordered) * percent // 100) - 1 for percent in (50, 90, 99, 100)]
    num_truncated = np.sum(encoded.full_lengths > np.diff(encoded.begins))
    return Lengths(*ordered[ranks].tolist(), num_truncated=int(num_truncated))


def encode_cached(
    examples,
    task,
    tokenizer,
    max_seq_length,
    folder,
    split,
    tokenizer_settings,
    num_workers=1,
):
    """Encode examples, unless a file holds the same ones, encoded with the same settings.

    Args:
        examples, tokenizer, max_seq_length, num_workers: as in `encode_examples`.
        task: has `name` and `labels`.
        folder: str, of the files.
        split: str, the beginning of the file's name.
        tokenizer_settings: dict of JSON values that identify a tokenizer, such as `files.sha256`
            of its vocabulary.

    Returns:
        `EncodedSplit`; the name of its file holds a fingerprint of all arguments.

    Raises:
        UserError: when the file cannot be written, or a worker was killed.
    """
    settings = [ENCODING_VERSION, task.name, list(task.labels), max_seq_length, tokenizer_settings]
    name = "{}-{}.features".format(split, fingerprint(examples, settings))
    path = os.path.join(folder, name)
    if files.exists(path):
        try:
            encoded = read(path)
            logging.info("%s has the same settings and is reused", path)
            return EncodedSplit(path, encoded)
        except ValueError as error:
            logging.warning("%s is damaged (%s) and will be made again", path, error)
    encoded = encode_examples(examples, task.labels, tokenizer, max_seq_length, num_workers)
    write(path, encoded)
    return EncodedSplit(path, encoded)


def fingerprint(examples, settings):
    """Return 16 hexadecimal digits of a hash of examples without their `guid`, and of settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for begin in range(0, len(examples), CHUNK_EXAMPLES):
        some = examples[begin : begin + CHUNK_EXAMPLES]
        rows = [(example.text_a, example.text_b, example.label) for example in some]
        digest.update(json.dumps(rows).encode())
    return digest.hexdigest()[:16]


def write(path, encoded):
    """Write `EncodedExamples` to a file, which appears by rename.

    Raises:
        UserError: when it cannot be written.
    """
    # Several machines of a run may write it at the same time.
    with files.WholeFile(path, tag="." + uuid.uuid4().hex) as whole:
        for array, dtype in zip(encoded, DTYPES):
            whole.write(frame(array.astype(dtype).tobytes()))


def read(path):
    """Return the `EncodedExamples` in a file.

    Raises:
        ValueError: when it is damaged.
    """
    with files.open_file(path) as stream:
        records = [frame.record for frame in read_frames(stream)]
    if len(records) != len(DTYPES):
        raise ValueError("{} records instead of {}".format(len(records), len(DTYPES)))
    if None in records:
        raise ValueError("wrong checksum")
    return EncodedExamples(*map(np.frombuffer, records, DTYPES))
