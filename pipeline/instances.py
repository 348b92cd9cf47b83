"""One block of documents to serialized pre-training instances.

`InstanceMaker` is a function of a block and of nothing else: blocks can be handled in any order
and in any process. It knows no files and no TensorFlow; tokenizer, segmenter and serialization
are given to it. A block goes through it so:

    documents -> pieces and breaks, once -> instances of every duplicate -> serialized records

Every record comes with a random `key` in [0, 1). The order of the keys is the order of the
records, and shard i of n holds the keys from i / n to (i + 1) / n: so any sort that need not hold
everything in memory makes the same files.
"""

import collections
from typing import Callable, List, NamedTuple

import numpy as np

from pipeline import corpus, masking

# Children of the `Draws` of a block, beside those of its documents, which count from 0.
RECORD_KEYS = -1


class BlockResult(NamedTuple):
    """Records of a block, their keys (float64, as many), and what was counted."""

    records: List[bytes]
    keys: np.ndarray
    statistics: collections.Counter
    unknown: collections.Counter  # stretches of text that became [UNK]


class InstanceMaker(NamedTuple):
    """Makes a `BlockResult` of a `corpus.Block`.

    Attributes:
        tokenizer: has `encode(text)`, which returns arrays `ids`, `begins` and `ends`.
        segment: function from text to the list of its words, or None: every piece is a word.
        vocabulary: `masking.Vocabulary`.
        config: `masking.MaskingConfig`.
        random_seed: int.
        dupe_factor: int, number of duplicates.
        serialize: function from a dict of features to bytes.
    """

    tokenizer: object
    segment: Callable
    vocabulary: masking.Vocabulary
    config: masking.MaskingConfig
    random_seed: int
    dupe_factor: int
    serialize: Callable

    def __call__(self, block):
        """Return the `BlockResult` of a block.

        Raises:
            UserError: as `corpus.parse_documents`.
        """
        draws = masking.Draws(self.random_seed, block.index)
        statistics, unknown = collections.Counter(), collections.Counter()
        records = []
        for number, sentences in enumerate(corpus.parse_documents(block)):
            document = self._encode(sentences, statistics, unknown)
            if len(document.pieces) < 2:  # counted as dropped: it cannot have two segments
                continue
            for duplicate in range(self.dupe_factor):
                for instance in masking.make_instances(
                    document, self.config, self.vocabulary, draws.child(number, duplicate)
                ):
                    count(instance, self.vocabulary, statistics)
                    records.append(self.serialize(to_features(instance, self.config)))
        keys = draws.child(RECORD_KEYS).uniform(masking.ORDER, len(records))
        return BlockResult(records, keys, statistics, unknown)

    def _encode(self, sentences, statistics, unknown):
        """Tokenize and segment a document, a list of str; return a `masking.Document`."""
        text = "\n".join(sentences)
        pieces, begins, ends = self.tokenizer.encode(text)
        words = self.segment(text) if self.segment else None
        breaks = masking.find_breaks(text, words, pieces, begins, self.vocabulary)
        unknowns = np.flatnonzero(pieces == self.vocabulary.unk_id).tolist()
        unknown.update(text[begins[i] : ends[i]] for i in unknowns)
        statistics.update(
            documents=1,
            documents_dropped_as_too_short=int(len(pieces) < 2),
            sentences=len(sentences),
            sentences_dropped_as_empty=len(sentences) - int(np.sum(breaks == masking.SENTENCE)),
            pieces=len(pieces),
            pieces_unknown=len(unknowns),
            words=int(np.sum(breaks >= masking.WORD)),
        )
        return masking.Document(pieces, np.append(breaks, np.int8(masking.SENTENCE)))


def merge(results):
    """Return one `BlockResult` of a list of them."""
    statistics, unknown = collections.Counter(), collections.Counter()
    for result in results:
        statistics.update(result.statistics)
        unknown.update(result.unknown)
    return BlockResult(
        [record for result in results for record in result.records],
        np.concatenate([result.keys for result in results]),
        statistics,
        unknown,
    )


def to_features(instance, config):
    """Return a dict of the padded features of a `masking.Instance`, named as published."""
    num_pieces, num_masked = len(instance.input_ids), len(instance.masked_lm_ids)
    no_pieces = [0] * (config.max_seq_length - num_pieces)
    no_masked = [0] * (config.max_predictions_per_seq - num_masked)
    return {
        "input_ids": instance.input_ids + no_pieces,
        "input_mask": [1] * num_pieces + no_pieces,
        "segment_ids": instance.segment_ids + no_pieces,
        "masked_lm_positions": instance.masked_lm_positions + no_masked,
        "masked_lm_ids": instance.masked_lm_ids + no_masked,
        "masked_lm_weights": [1.0] * num_masked + no_masked,
        "next_sentence_labels": [int(instance.swapped)],
    }


def count(instance, vocabulary, statistics):
    """Add what there is to count in a `masking.Instance` to a Counter."""
    originals = [instance.original_ids[i] for i in instance.masked_lm_positions]
    inputs = [instance.input_ids[i] for i in instance.masked_lm_positions]
    num_mask = inputs.count(vocabulary.mask_id)
    num_kept = sum(original == given for original, given in zip(originals, inputs))
    statistics.update(
        instances=1,
        instances_swapped=int(instance.swapped),
        instances_without_masks=int(not inputs),
        positions=len(instance.input_ids),
        masked=len(inputs),
        masked_by_mask=num_mask,
        masked_kept=num_kept,
        masked_by_random=len(inputs) - num_mask - num_kept,
    )
    statistics.update("grams_of_{}".format(gram.num_words) for gram in instance.grams)


def summarize(statistics, unknown, max_seq_length):
    """Return the shares that a person wants to see, a dict of float, from what was counted."""

    def share(part, whole):
        return round(statistics[part] / max(statistics[whole], 1), 5)

    names = sorted(name for name in statistics if name.startswith("grams_of_"))
    grams = max(sum(statistics[name] for name in names), 1)
    slots = max(statistics["instances"] * max_seq_length, 1)
    return {
        "fill": round(statistics["positions"] / slots, 5),
        "mask_rate": share("masked", "positions"),
        "masked_by_mask": share("masked_by_mask", "masked"),
        "masked_kept": share("masked_kept", "masked"),
        "masked_by_random": share("masked_by_random", "masked"),
        "swapped": share("instances_swapped", "instances"),
        "unknown": share("pieces_unknown", "pieces"),
        "words_per_piece": share("words", "pieces"),
        "grams": {name: round(statistics[name] / grams, 5) for name in names},
        "commonest_unknown": dict(unknown.most_common(20)),
    }
