"""Compact records: what is written is read, and every fault is named."""

import compact_rows
import numpy as np
import pytest

from tfrecords import compact

LIMITS = compact.Limits(max_seq_length=64, max_chunks_per_row=4, vocab_size=205)


@pytest.mark.parametrize("vocab_size", [205, 1 << 15, (1 << 15) + 1, 1 << 16])
def test_a_row_is_read_as_it_was_written(vocab_size):
    limits = LIMITS._replace(vocab_size=vocab_size)
    rng = np.random.RandomState(0)
    for _ in range(200):
        row = compact_rows.random_row(rng, limits)
        record = compact_rows.serialize(row, limits)
        read = compact.parse(record, limits)
        assert (read.lengths, read.splits) == (row.lengths, row.splits)
        np.testing.assert_array_equal(read.pieces, row.pieces)
        np.testing.assert_array_equal(read.is_word, row.is_word)
        assert row.num_positions <= limits.max_seq_length


def test_a_published_record_is_not_taken_for_a_compact_one():
    assert not compact.is_compact(b"\x0a\xac\x02")
    assert compact.is_compact(b"\x02\xac")


ROW = compact.Row([4, 3], [[2], []], np.array([7, 8, 9, 10, 11, 12, 13]), np.ones(7, bool))


def test_the_bytes_are_those_of_the_description():
    numbers = np.frombuffer(compact_rows.serialize(ROW, LIMITS), "<u2").tolist()
    pieces = [0x8000 + piece for piece in range(7, 14)]
    assert numbers == [0xAC01, 2, 1, 4, 3, 1, 0, 2] + pieces


def changed(place, number):
    numbers = np.frombuffer(compact_rows.serialize(ROW, LIMITS), "<u2").copy()
    numbers[place] = number
    return numbers.tobytes()


@pytest.mark.parametrize(
    "record, limits, fault",
    [
        (b"\x0a\x05", LIMITS, "it is not a compact record"),
        (b"", LIMITS, "it is not a compact record"),
        (changed(0, 0xAC02), LIMITS, "version 2, and this code reads version 1"),
        (changed(0, 0xAC01)[:-1], LIMITS, "it ends inside a number"),
        (changed(0, 0xAC01)[:4], LIMITS, "it ends inside a number"),
        (changed(0, 0xAC01)[:-2], LIMITS, "the lengths of its chunks do not fit its 28 bytes"),
        (changed(1, 60000), LIMITS, "the lengths of its chunks do not fit"),
        (changed(3, 5), LIMITS, "the lengths of its chunks do not fit"),
        (changed(5, 2), LIMITS, "the lengths of its chunks do not fit"),
        (changed(7, 4), LIMITS, "one of its chunks is split at a place outside the chunk"),
        (changed(7, 0), LIMITS, "one of its chunks is split at a place outside the chunk"),
        (changed(8, 0x8000 + 300), LIMITS, "it holds piece 300, and the vocabulary has 205"),
        (
            changed(0, 0xAC01),
            LIMITS._replace(max_chunks_per_row=1),
            "it holds 2 chunks, and max_chunks_per_row is 1",
        ),
        (
            changed(0, 0xAC01),
            LIMITS._replace(max_seq_length=12),
            "it fills 13 positions, and max_seq_length is 12",
        ),
    ],
)
def test_every_fault_is_named(record, limits, fault):
    assert fault in compact.find_fault(record, limits)
    with pytest.raises(ValueError, match="."):
        compact.parse(record, limits)


def test_damage_anywhere_is_a_fault_or_another_row():
    """`find_fault` names the fault of any bytes, or `parse` reads the bytes without an error."""
    record = compact_rows.serialize(ROW, LIMITS)
    rng = np.random.RandomState(0)
    for _ in range(3000):
        data = bytearray(record)
        for place in rng.randint(len(data), size=rng.randint(1, 4)):
            data[place] = rng.randint(256)
        if not compact.find_fault(bytes(data), LIMITS):
            compact.parse(bytes(data), LIMITS)
