"""Random compact records for tests, and a manifest beside them."""

import documents
import numpy as np
import record_files

from masking import mask_settings, reference
from tfrecords import compact, manifest

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_vocabulary(size):
    """Return a `Vocabulary` of the special pieces and others."""
    pieces = SPECIAL + ["w{}".format(i) for i in range(size - len(SPECIAL))]
    return reference.make_vocabulary({piece: i for i, piece in enumerate(pieces)})


def make_config(**changes):
    """Return a `MaskingConfig` of short rows of up to four chunks."""
    return documents.config(**dict({"max_chunks_per_row": 4}, **changes))


def random_row(rng, limits, largest=None):
    """Return a `compact.Row` with random chunks, words and splits.

    Args:
        rng: np.random.RandomState.
        limits: `compact.Limits`.
        largest: int, the number of different pieces; default: all of the vocabulary.
    """
    left, lengths = limits.max_seq_length, []
    for _ in range(rng.randint(1, limits.max_chunks_per_row + 1)):
        if left >= 5:
            lengths.append(rng.randint(2, left - 2))
            left -= lengths[-1] + 3
    splits = []
    for length in lengths:
        places = np.flatnonzero(rng.rand(length - 1) < rng.choice([0, 0.1, 0.5])) + 1
        splits.append(places.tolist())
    size = sum(lengths)
    pieces = rng.randint(len(SPECIAL), largest or limits.vocab_size, size)
    return compact.Row(lengths, splits, pieces, rng.rand(size) < rng.choice([0, 0.5, 1]))


def serialize(row, limits):
    """Return the record of a `compact.Row`."""
    bounds = np.cumsum(row.lengths)[:-1]
    parts = zip(np.split(row.pieces, bounds), np.split(row.is_word, bounds))
    return compact.serialize(
        [compact.encode_numbers(np.array(splits)) for splits in row.splits],
        [compact.encode_pieces(*part, limits.has_word_bits) for part in parts],
        np.split(row.is_word, bounds) if limits.has_word_bits else None,
    )


def write(path, rows, limits, **flags):
    """Write records and their manifest.

    Args:
        path: str.
        rows: list of `compact.Row`.
        limits: `compact.Limits`.
        **flags: flags of the manifest that differ from `make_config`.
    """
    with record_files.RecordWriter(path) as writer:
        for row in rows:
            writer.write(serialize(row, limits))
    defaults = {
        "max_seq_length": limits.max_seq_length,
        "max_chunks_per_row": limits.max_chunks_per_row,
        "max_predictions_per_seq": 10,
        "masked_lm_prob": 0.15,
        "ngram": 3,
        "favor_ngram": "shorter",
        "replace_spans": False,
    }
    content = {
        "flags": dict(defaults, **flags),
        "compact": mask_settings.vocabulary_entry(make_vocabulary(limits.vocab_size)),
        "vocab_size": limits.vocab_size,
        "counts": {"rows": len(rows), "instances": sum(len(row.lengths) for row in rows)},
        "outputs": [path],
    }
    manifest.write_manifest(path, content)
