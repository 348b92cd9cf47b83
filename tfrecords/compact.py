"""The bytes of a compact record: a row of chunks of text, in which nothing is masked or swapped.

A record is a list of uint16, little-endian:

    MAGIC + VERSION
    k                 number of chunks
    s                 number of splits of all chunks
    k numbers         pieces of each chunk
    k numbers         splits of each chunk
    s numbers         the splits of each chunk: pieces of the chunk before a place where it may be
                      divided into two segments; a chunk without such a place has no order
    n numbers         pieces of the chunks, one chunk after the other; the highest bit of a piece is
                      1 where a word begins
    n bits            only where the vocabulary has more than MAX_PIECES pieces: in place of the
                      highest bits, a bit for each piece, 16 in a number, the lowest bit first

This module does not use TensorFlow; `masking/graph.py` reads records in a graph.
"""

import struct
from typing import List, NamedTuple

import numpy as np

MAGIC, VERSION = 0xAC00, 1
HEAD = 3  # numbers before the lengths
# With this many pieces or fewer, the highest bit of a piece is free.
MAX_PIECES = 1 << 15
MAX_VOCABULARY = 1 << 16
NUM_SEPARATORS = 3  # [CLS] and two [SEP], which masking adds to a chunk
_WORD_BIT = np.uint16(MAX_PIECES)


class Row(NamedTuple):
    """One or several chunks, each a run of consecutive text of one document."""

    lengths: List[int]  # pieces of each chunk, 2 or more
    splits: List[List[int]]  # ascending, from 1 to length - 1
    pieces: np.ndarray  # int [n], ids
    is_word: np.ndarray  # bool [n], whether a word begins

    @property
    def num_positions(self):
        """Number of positions of the row in a sequence, separators included."""
        return len(self.pieces) + NUM_SEPARATORS * len(self.lengths)


class Limits(NamedTuple):
    """Limits of the size and content of a row."""

    max_seq_length: int  # positions
    max_chunks_per_row: int
    vocab_size: int

    @property
    def has_word_bits(self):
        """Whether a record stores the bits of words after the pieces."""
        return self.vocab_size > MAX_PIECES


def encode_pieces(pieces, is_word, has_word_bits):
    """Return pieces as bytes [2n]; the highest bit, if it is free, is set where a word begins."""
    numbers = np.asarray(pieces, np.uint16)
    return encode_numbers(numbers if has_word_bits else numbers + is_word * _WORD_BIT)


def encode_numbers(numbers):
    """Return n integers from 0 to 65535 as the 2n bytes that a record holds."""
    return numbers.astype("<u2").tobytes()


def serialize(splits, pieces, is_word=None):
    """Return the bytes of a record.

    Args:
        splits: list of k bytes, the splits of each chunk, from `encode_numbers`.
        pieces: list of k bytes, the pieces of each chunk, from `encode_pieces`.
        is_word: list of k bool arrays where the vocabulary has more than MAX_PIECES pieces.
    """
    lengths = [len(one) // 2 for one in pieces]
    counts = [len(one) // 2 for one in splits]
    head = [MAGIC + VERSION, len(lengths), sum(counts)] + lengths + counts
    parts = [struct.pack("<{}H".format(len(head)), *head)] + splits + pieces
    if is_word is not None:
        bits = np.packbits(np.concatenate(is_word), bitorder="little").tobytes()
        parts.append(bits + bytes(len(bits) % 2))
    return b"".join(parts)


def is_compact(record):
    """Return whether a record, bytes, is a compact one of this or another version."""
    # A published record begins with the tag 0x0A and any byte.
    return len(record) >= 2 and record[1] == MAGIC >> 8 and record[0] != 0x0A


def parse(record, limits):
    """Return the `Row` of a record, bytes.

    Args:
        record: bytes.
        limits: `Limits`.

    Raises:
        ValueError: says what is wrong with the record.
    """
    fault = find_fault(record, limits)
    if fault:
        raise ValueError(fault)
    numbers = np.frombuffer(record, "<u2")
    k, num_splits = numbers[1:HEAD].tolist()
    lengths, counts, splits, pieces = np.split(
        numbers[HEAD:], np.cumsum([k, k, num_splits]).tolist()
    )
    size = int(lengths.sum())
    if limits.has_word_bits:
        bits = np.unpackbits(pieces[size:].view(np.uint8), bitorder="little")
        pieces, is_word = pieces[:size], bits[:size] > 0
    else:
        pieces, is_word = pieces & ~_WORD_BIT, pieces >= _WORD_BIT
    splits = [part.tolist() for part in np.split(splits, np.cumsum(counts)[:-1])]
    return Row(lengths.tolist(), splits, pieces.astype(np.int64), is_word)


def find_fault(record, limits):
    """Return what is wrong with a record, str, or None.

    Args:
        record: bytes.
        limits: `Limits`.
    """
    if not is_compact(record):
        return "it is not a compact record"
    if record[0] != VERSION:
        text = "it is a compact record of version {}, and this code reads version {}"
        return text.format(record[0], VERSION)
    if len(record) % 2 or len(record) < 2 * HEAD:
        return "it ends inside a number"
    numbers = np.frombuffer(record, "<u2")
    k, num_splits = numbers[1:HEAD].tolist()
    lengths = numbers[HEAD : HEAD + k].tolist()
    counts = numbers[HEAD + k : HEAD + 2 * k].tolist()
    begin, size = HEAD + 2 * k + num_splits, sum(lengths)
    end = begin + size
    if limits.has_word_bits:
        end += -(-size // 16)
    if end != len(numbers) or sum(counts) != num_splits:
        return "the lengths of its chunks do not fit its {} bytes".format(len(record))
    if not 0 < k <= limits.max_chunks_per_row:
        return "it holds {} chunks, and max_chunks_per_row is {}".format(
            k, limits.max_chunks_per_row
        )
    if min(lengths) < 2:
        return "one of its chunks has fewer than 2 pieces"
    if size + NUM_SEPARATORS * k > limits.max_seq_length:
        text = "it fills {} positions, and max_seq_length is {}"
        return text.format(size + NUM_SEPARATORS * k, limits.max_seq_length)
    pieces = numbers[begin : begin + size]
    largest = int((pieces if limits.has_word_bits else pieces & ~_WORD_BIT).max())
    if largest >= limits.vocab_size:
        return "it holds piece {}, and the vocabulary has {}".format(largest, limits.vocab_size)
    return _fault_of_splits(lengths, counts, numbers[begin - num_splits : begin])


def _fault_of_splits(lengths, counts, splits):
    if not len(splits):
        return None
    largest = np.repeat(np.asarray(lengths) - 1, counts)
    if splits.min() < 1 or np.any(splits > largest):
        return "one of its chunks is split at a place outside the chunk"
    return None
