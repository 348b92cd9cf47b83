"""Fine-tuning examples as ids of pieces: encoded by all cores, unpadded, and cached in a file.

This module needs no TensorFlow, except for remote files. The file is a TFRecord file with one
record for each array of `Encoded`. So checksums show damage, and TensorFlow operations can read the
file, even on the host of a remote TPU.

A row is what the model computes at a time: an example, or one of the windows of an example. A row
has one sequence of pieces or, for a question with choices, several. n is the number of rows, C the
number of sequences of a row.
"""

import hashlib
import json
import os
import uuid
from typing import Dict, NamedTuple, Optional, Tuple

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


class Column(NamedTuple):
    """What a kind of task stores beside the pieces.

    Fields:
        name: of the feature in a batch.
        dtype: of numpy, little-endian, `<i4` or `<f4`.
        shape: of a row's value; empty for a single number.
        per_piece: whether there is a number for each piece, [b, S] in a batch, and 0 for padding.
        in_batch: whether the model gets it; otherwise it is for predictions and scores alone.
    """

    name: str
    dtype: str = "<i4"
    shape: Tuple[int, ...] = ()
    per_piece: bool = False
    in_batch: bool = True


class Encoded(NamedTuple):
    """Rows as ids of pieces: sequence s is ids[begins[s]:begins[s + 1]]; row r begins with r*C."""

    ids: np.ndarray  # int32 [pieces of all rows]: [CLS] a [SEP] or [CLS] a [SEP] b [SEP]
    begins: np.ndarray  # int64 [n*C + 1]
    lengths_a: np.ndarray  # int32 [n*C], pieces of segment 0, which ends with the first [SEP]
    columns: Dict[str, np.ndarray]  # by name: [n, ...], or [pieces of all rows]
    full_lengths: np.ndarray  # int32 [n*C], pieces before truncation
    # C if a batch is [b, C, S], with empty sequences after the last one of a row; None for [b, S].
    num_sequences: Optional[int] = None

    @property
    def num_rows(self):
        return (len(self.begins) - 1) // (self.num_sequences or 1)

    def column(self, row, name):
        """Return a column's values of a row: for each of its pieces, or the row's single value."""
        values = self.columns[name]
        if len(values) != len(self.ids):
            return values[row]
        count = self.num_sequences or 1
        return values[self.begins[row * count] : self.begins[(row + 1) * count]]


class EncodedSplit(NamedTuple):
    """A split of a data set after encoding, and the file that holds it."""

    path: str
    rows: Encoded

    @property
    def name(self):
        """The file's name, which has a fingerprint of everything that the file depends on."""
        return os.path.basename(self.path)


class Lengths(NamedTuple):
    """Numbers of pieces of a split's sequences before truncation, special ones included."""

    median: int
    percentile_90: int
    percentile_99: int
    longest: int
    num_truncated: int  # sequences that were truncated


# -------------------------------------------------------------------------------- pairs

LABEL_IDS = Column("label_ids")  # int32 [n], index of the label, or UNLABELLED


def encode_examples(examples, labels, tokenizer, max_seq_length, num_workers=1):
    """Return the `Encoded` of texts and pairs, one row each, with the column `label_ids`.

    Args:
        examples: list of objects with `text_a` (str), `text_b` (str or None) and `label` (one of
            the labels, or None).
        labels: the labels, in the order of the classifier's outputs.
        tokenizer: `tokenization.FullTokenizer`.
        max_seq_length: int, most pieces, special ones included; the longer text is cut first.
        num_workers: int, number of processes; it does not change the result.

    Raises:
        UserError: when a worker was killed.
    """
    label_ids = {label: i for i, label in enumerate(labels)}
    label_ids[None] = UNLABELLED

    def encode(first, some):
        del first
        pairs = [(example.text_a, example.text_b) for example in some]
        ids = np.array([label_ids[example.label] for example in some], np.int32)
        encoded = encode_pairs(pairs, tokenizer, max_seq_length)
        return encoded._replace(columns={LABEL_IDS.name: ids})

    return encode_in_chunks(encode, examples, num_workers)


def encode_pairs(pairs, tokenizer, max_seq_length):
    """Return the `Encoded` of a few pairs (text, text or None), without columns."""
    texts = [first for first, _ in pairs]
    texts += [second or "" for _, second in pairs]
    pieces, counts = tokenizer.encode_all(texts)
    starts_a, starts_b = np.split(starts(counts), 2)
    counts_a, counts_b = np.split(counts, 2)
    is_pair = np.array([second is not None for _, second in pairs], int)
    num_special = 2 + is_pair
    kept_a, kept_b = truncated_lengths(counts_a, counts_b, max_seq_length - num_special)
    begins = np.cumsum(np.append(0, kept_a + kept_b + num_special))
    cls_id, sep_id = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    ids = np.full(begins[-1], sep_id, np.int32)
    ids[begins[:-1]] = cls_id
    ids[spans(begins[:-1] + 1, kept_a)] = pieces[spans(starts_a, kept_a)]
    ids[spans(begins[:-1] + kept_a + 2, kept_b)] = pieces[spans(starts_b, kept_b)]
    full_lengths = (counts_a + counts_b + num_special).astype(np.int32)
    return Encoded(ids, begins, (kept_a + 2).astype(np.int32), {}, full_lengths)


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


def starts(counts):
    """Return where each of several spans, one after the other, begins: int64 [spans]."""
    return np.cumsum(counts) - counts


def spans(begins, counts):
    """Return the indices begin, begin + 1, ... of each span in turn: int64 [sum of counts]."""
    return np.repeat(begins - starts(counts), counts) + np.arange(np.sum(counts))


# -------------------------------------------------------------------------- many examples


def encode_in_chunks(encode, examples, num_workers=1):
    """Encode examples with several processes; the number of processes does not change the result.

    Args:
        encode: function of (int, list) that returns the `Encoded` of some examples; the number is
            the index of the first of them among all examples.
        examples: list.
        num_workers: int.

    Raises:
        UserError: when a worker was killed.
    """
    begins = range(0, max(len(examples), 1), CHUNK_EXAMPLES)

    def encode_chunk(begin):
        return begin, encode(begin, examples[begin : begin + CHUNK_EXAMPLES])

    parts = dict(run_tasks(encode_chunk, begins, min(num_workers, len(begins))))
    return join([parts[begin] for begin in begins])


def join(parts):
    """Return one `Encoded` with the rows of several, a list that is not empty."""
    offsets = starts(np.array([len(part.ids) for part in parts]))
    begins = [part.begins[:-1] + offset for part, offset in zip(parts, offsets)]
    return Encoded(
        np.concatenate([part.ids for part in parts]),
        np.concatenate(begins + [[offsets[-1] + len(parts[-1].ids)]]),
        np.concatenate([part.lengths_a for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        np.concatenate([part.full_lengths for part in parts]),
        parts[0].num_sequences,
    )


def measure_lengths(encoded):
    """Return the `Lengths` of `Encoded` sequences, for the log; empty ones do not count."""
    full_lengths = encoded.full_lengths[encoded.full_lengths > 0]
    ordered = np.sort(full_lengths)
    ranks = [-(-len(ordered) * percent // 100) - 1 for percent in (50, 90, 99, 100)]
    num_truncated = np.sum(encoded.full_lengths > np.diff(encoded.begins))
    return Lengths(*ordered[ranks].tolist(), num_truncated=int(num_truncated))


# -------------------------------------------------------------------------------- cache


def cache_name(split, identities, settings):
    """Return the name of the file of a split's rows, with a fingerprint of what they depend on.

    Args:
        split: str, the beginning of the name.
        identities: list of JSON values, one for each example: what the example's rows depend on.
        settings: list of JSON values: all else that the rows depend on.
    """
    return "{}-{}.features".format(split, fingerprint(identities, [ENCODING_VERSION] + settings))


def encode_cached(encode, path, columns, num_sequences=None):
    """Read the encoded examples from the file `path`, or encode them and write the file.

    Args:
        encode: function without arguments that returns the `Encoded`.
        path: str, of the file; `cache_name` makes the file's name.
        columns: sequence of `Column`, the columns of the kind of task.
        num_sequences: int or None, as in `Encoded`.

    Returns:
        `EncodedSplit`.

    Raises:
        UserError: when the file cannot be written, or a worker was killed.
    """
    if files.exists(path):
        try:
            encoded = read(path, columns, num_sequences)
            logging.info("%s has the same settings and is reused", path)
            return EncodedSplit(path, encoded)
        except ValueError as error:
            logging.warning("%s is damaged (%s) and will be made again", path, error)
    encoded = encode()
    write(path, encoded, columns)
    return EncodedSplit(path, encoded)


def fingerprint(identities, settings):
    """Return 16 hexadecimal digits of a hash of the examples' identities and of settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for begin in range(0, len(identities), CHUNK_EXAMPLES):
        digest.update(json.dumps(identities[begin : begin + CHUNK_EXAMPLES]).encode())
    return digest.hexdigest()[:16]


def dtypes(columns):
    """Return the types of the arrays in a file, in their order: ids first, full lengths last."""
    return ("<i4", "<i8", "<i4") + tuple(column.dtype for column in columns) + ("<i4",)


def from_arrays(arrays, columns, num_sequences=None):
    """Return the `Encoded` of the flat arrays, or tensors, of a file in the order of `dtypes`."""
    ids, begins, lengths_a, *values, full_lengths = arrays
    by_name = {column.name: value for column, value in zip(columns, values)}
    return Encoded(ids, begins, lengths_a, by_name, full_lengths, num_sequences)


def write(path, encoded, columns):
    """Write `Encoded` rows with their columns to a file; it appears when it is complete.

    Raises:
        UserError: if the file cannot be written.
    """
    arrays = [encoded.ids, encoded.begins, encoded.lengths_a]
    arrays += [encoded.columns[column.name] for column in columns] + [encoded.full_lengths]
    # Several machines of a run may write it at the same time.
    with files.WholeFile(path, tag="." + uuid.uuid4().hex) as whole:
        for array, dtype in zip(arrays, dtypes(columns)):
            whole.write(frame(array.astype(dtype).tobytes()))


def read(path, columns, num_sequences=None):
    """Return the `Encoded` in a file that was written with the same columns.

    Raises:
        ValueError: if the file is damaged.
    """
    with files.open_file(path) as stream:
        records = [frame.record for frame in read_frames(stream)]
    types = dtypes(columns)
    if len(records) != len(types):
        raise ValueError("{} records instead of {}".format(len(records), len(types)))
    if None in records:
        raise ValueError("wrong checksum")
    encoded = from_arrays(map(np.frombuffer, records, types), columns, num_sequences)
    shaped = {
        column.name: encoded.columns[column.name].reshape((-1,) + column.shape)
        for column in columns
    }
    return encoded._replace(columns=shaped)
