"""Random chunks as two batches: packed into rows, and each chunk in a row of its own."""

from typing import NamedTuple

import numpy as np

SHORTEST = 3  # [CLS], a piece, [SEP]


class Sizes(NamedTuple):
    """The shapes of a packed batch."""

    rows: int  # B
    length: int  # S
    chunks: int  # K
    predictions: int  # P of a row
    vocabulary: int  # V


def draw_lengths(rng, sizes):
    """Return the lengths of the chunks of each row, a list of B lists.

    The first row has K chunks of the least length, the second one chunk that fills it, and the
    others any chunks, missing ones and padding.
    """
    lengths = [[SHORTEST] * sizes.chunks, [sizes.length]]
    while len(lengths) < sizes.rows:
        room, row = sizes.length, []
        for _ in range(rng.randint(1, sizes.chunks + 1)):
            if room >= SHORTEST:
                row.append(rng.randint(SHORTEST, room + 1))
                room -= row[-1]
        lengths.append(row)
    return lengths[: sizes.rows]


def draw_batches(rng, sizes, lengths=None):
    """Return (packed features, features with a row for each of B*K chunks), dicts of arrays.

    Args:
        rng: np.random.RandomState.
        sizes: `Sizes`.
        lengths: list of B lists of int; default: drawn.
    """
    packed = empty_batch(sizes, sizes.rows, sizes.chunks)
    single = empty_batch(sizes, sizes.rows * sizes.chunks, 1)
    for row, of_row in enumerate(lengths or draw_lengths(rng, sizes)):
        begin, predicted = 0, 0
        for chunk, length in enumerate(of_row):
            alone, span = row * sizes.chunks + chunk, slice(begin, begin + length)
            ids = rng.randint(sizes.vocabulary, size=length)
            segments = np.arange(length) >= rng.randint(length)
            for batch, place, where in ((packed, row, span), (single, alone, slice(length))):
                batch["input_ids"][place, where] = ids
                batch["segment_ids"][place, where] = segments
            single["input_mask"][alone, :length] = 1
            packed["chunk_ids"][row, span] = chunk + 1
            packed["position_ids"][row, span] = np.arange(length)
            packed["chunk_starts"][row, chunk] = begin
            label = rng.randint(2)
            for batch, place in ((packed, (row, chunk)), (single, (alone, 0))):
                batch["next_sentence_labels"][place] = label
                batch["next_sentence_weights"][place] = 1
            count = min(rng.randint(1, length), sizes.predictions - predicted)
            for number, position in enumerate(sorted(rng.permutation(length)[:count])):
                answer = rng.randint(sizes.vocabulary)
                for batch, place, first in (
                    (packed, (row, predicted + number), begin),
                    (single, (alone, number), 0),
                ):
                    batch["masked_lm_positions"][place] = first + position
                    batch["masked_lm_ids"][place] = answer
                    batch["masked_lm_weights"][place] = 1
            begin, predicted = begin + length, predicted + count
    del packed["input_mask"]
    for name in ("chunk_ids", "position_ids", "chunk_starts"):
        del single[name]
    return packed, single


def empty_batch(sizes, rows, chunks):
    """Return features of padding alone, of packed and of other rows."""
    widths = {
        "input_ids": sizes.length,
        "input_mask": sizes.length,
        "segment_ids": sizes.length,
        "chunk_ids": sizes.length,
        "position_ids": sizes.length,
        "chunk_starts": chunks,
        "masked_lm_positions": sizes.predictions,
        "masked_lm_ids": sizes.predictions,
        "masked_lm_weights": sizes.predictions,
        "next_sentence_labels": chunks,
        "next_sentence_weights": chunks,
    }
    return {
        name: np.zeros([rows, width], np.float32 if name.endswith("_weights") else np.int32)
        for name, width in widths.items()
    }
