"""Turns one block of documents into serialized pre-training instances.

The instances depend on the block and the settings alone, so that blocks can be processed in any
order and by any process:

    documents -> pieces and breaks, once -> instances of every duplicate -> serialized records

Every record has a random key in [0, 1). Records are sorted by their keys, and shard i of n holds
the keys from i / n to (i + 1) / n. So the local run and Apache Beam write the same shards.
"""

import collections
from typing import List, NamedTuple

import numpy as np

from masking import reference, sentence_order, vectorized
from masking.random_numbers import Draws, Stream
from pretraining_data import corpus
from tfrecords import wire

# The number of the child of a block's `Draws` that draws the keys of records. The children of the
# documents have the numbers 0, 1, ...
RECORD_KEYS = -1
# The most pieces of a batch, padding included: arrays of this size stay in the processor's cache.
BATCH_PIECES = 1 << 18
# The documents of block i are numbered from i * MAX_DOCUMENTS.
MAX_DOCUMENTS = 1 << 22
# Unknown words are counted by their first characters.
MAX_UNKNOWN_LENGTH = 20


class Tokenized(NamedTuple):
    """The pieces of a block, from which all duplicates are made."""

    index: int  # of the block
    text: sentence_order.Text
    statistics: collections.Counter  # the counts of the manifest
    unknown: collections.Counter  # of the characters that made a word [UNK]


class SerializedInstances(NamedTuple):
    """A batch of m serialized instances."""

    records: List[bytes]  # [m]
    keys: np.ndarray  # float64 [m]
    documents: np.ndarray  # int64 [m], the number of the document in the corpus
    statistics: collections.Counter  # the counts of the manifest


class InstanceMaker(NamedTuple):
    """Makes records of a `corpus.Block`."""

    tokenizer: object  # has `encode(text)`, which returns arrays `ids`, `begins` and `ends`
    segmenter: object  # has `word_ends(text)`; None makes every piece a word
    vocabulary: reference.Vocabulary
    config: reference.MaskingConfig
    format: corpus.Format
    random_seed: int
    dupe_factor: int  # number of duplicates

    def tokenize(self, block):
        """Return the `Tokenized` documents of a block.

        Raises:
            UserError: the errors of `corpus.parse_documents`.
        """
        documents, counts = corpus.parse_documents(block, self.format)
        lines = [sentence for document in documents for sentence in document]
        text = "\n".join(lines)
        pieces, begins, ends = self.tokenizer.encode(text)
        word_ends = self.segmenter.word_ends(text) if self.segmenter else None
        breaks = reference.find_breaks(text, word_ends, pieces, begins, self.vocabulary)
        line_ends = np.cumsum([0] + [len(line) + 1 for line in lines])  # in characters
        document_ends = line_ends[np.cumsum([0] + [len(document) for document in documents])]
        bounds = np.searchsorted(begins, document_ends)  # in pieces
        is_kept = np.diff(bounds) >= 2  # a document of one piece cannot have two segments
        kept = np.flatnonzero(is_kept)
        unknowns = np.flatnonzero(pieces == self.vocabulary.unk_id).tolist()
        num_sentences = int(np.sum(breaks == sentence_order.SENTENCE))
        statistics = collections.Counter(
            counts,
            documents=len(documents),
            documents_cut_as_too_long=int(block.is_cut),
            documents_dropped_as_too_short=int(np.sum(~is_kept)),
            sentences=len(lines),
            sentences_dropped_as_empty=len(lines) - num_sentences,
            pieces=len(pieces),
            pieces_unknown=len(unknowns),
            words=int(np.sum(breaks >= sentence_order.WORD)),
            characters_dropped_as_nul=text.count("\0"),
            characters_dropped_as_replacement=text.count("\ufffd"),
        )
        breaks = np.append(breaks, sentence_order.SENTENCE)
        words = collections.Counter(text[begins[i] : ends[i]] for i in unknowns)
        return Tokenized(
            block.index,
            sentence_order.Text(pieces, breaks, bounds[kept], bounds[kept + 1], kept),
            statistics,
            self._unknown_characters(words),
        )

    def _unknown_characters(self, words):
        """Return a Counter of the unknown characters of unknown words.

        If all characters of a word are known, as in a word that is too long, the word itself is
        counted.
        """
        characters = sorted(set("".join(words)))
        pieces, begins, _ = self.tokenizer.encode("\n".join(characters))
        unknown = {characters[i // 2] for i in begins[pieces == self.vocabulary.unk_id]}
        counts = collections.Counter()
        for word, number in words.items():
            for part in [c for c in word if c in unknown] or [word[:MAX_UNKNOWN_LENGTH]]:
                counts[part] += number
        return counts

    def make_batches(self, tokenized):
        """Yield the instances of all duplicates of a block, each time a `vectorized.Batch`."""
        text = tokenized.text
        if not len(text.numbers):
            return
        draws = Draws(self.random_seed, tokenized.index)
        pairs = sentence_order.pairs_of_block(text, self.dupe_factor, self.config, draws)
        make_batch = vectorized.BatchMaker(text, self.config, self.vocabulary)
        width = max(self.config.max_seq_length, self.config.max_predictions_per_seq)
        size = max(BATCH_PIECES // width, 1)
        for begin in range(0, len(pairs.begin), size):
            yield make_batch(pairs.take(slice(begin, begin + size)))

    def make_records(self, tokenized):
        """Yield the serialized instances of a block, each time a `SerializedInstances`."""
        config = self.config
        schema = wire.pretraining_schema(config.max_seq_length, config.max_predictions_per_seq)
        draws = Draws(self.random_seed, tokenized.index, RECORD_KEYS)
        made = 0
        for batch in self.make_batches(tokenized):
            records = wire.serialize_all(schema, to_features(batch))
            counter = np.arange(made, made + len(records))
            made += len(records)
            yield SerializedInstances(
                records,
                draws.uniform(Stream.ORDER, counter),
                tokenized.index * MAX_DOCUMENTS + batch.document,
                count_batch(batch),
            )


def to_features(batch):
    """Return a dict of the padded features of a `vectorized.Batch`, by their published names."""
    columns = np.arange(batch.input_ids.shape[1])
    is_piece = columns < batch.num_pieces[:, np.newaxis]
    is_masked = np.arange(batch.masked_lm_ids.shape[1]) < batch.num_masked[:, np.newaxis]
    return {
        "input_ids": batch.input_ids,
        "input_mask": is_piece,
        "segment_ids": is_piece & (columns >= batch.first_size[:, np.newaxis]),
        "masked_lm_positions": batch.masked_lm_positions,
        "masked_lm_ids": batch.masked_lm_ids,
        "masked_lm_weights": is_masked,
        "next_sentence_labels": batch.swapped[:, np.newaxis],
    }


def count_batch(batch):
    """Return the counts of a `vectorized.Batch` for the manifest, a Counter."""
    num_masked = int(batch.num_masked.sum())
    statistics = collections.Counter(
        instances=len(batch.swapped),
        instances_swapped=int(batch.swapped.sum()),
        instances_without_masks=int(np.sum(batch.num_masked == 0)),
        positions=int(batch.num_pieces.sum()),
        masked=num_masked,
        masked_by_mask=batch.num_by_mask,
        masked_kept=batch.num_kept,
        masked_by_random=num_masked - batch.num_by_mask - batch.num_kept,
    )
    for num_words, number in enumerate(np.bincount(batch.gram_words).tolist()):
        if number:
            statistics["grams_of_{}".format(num_words)] = number
    return statistics


def summarize(statistics, unknown, max_seq_length):
    """Return the statistics of the manifest, a dict: shares of the counts, and common unknowns."""

    def share(part, whole):
        return round(statistics[part] / max(statistics[whole], 1), 5)

    rows = statistics["rows"] or statistics["instances"]
    summary = {"fill": round(statistics["positions"] / max(rows * max_seq_length, 1), 5)}
    if statistics["rows"]:  # compact records: nothing is masked
        summary["chunks_per_row"] = share("instances", "rows")
        summary["chunks_with_order"] = share("instances_with_order", "instances")
    else:
        names = sorted(name for name in statistics if name.startswith("grams_of_"))
        grams = max(sum(statistics[name] for name in names), 1)
        summary.update(
            mask_rate=share("masked", "positions"),
            masked_by_mask=share("masked_by_mask", "masked"),
            masked_kept=share("masked_kept", "masked"),
            masked_by_random=share("masked_by_random", "masked"),
            swapped=share("instances_swapped", "instances"),
            grams={name: round(statistics[name] / grams, 5) for name in names},
        )
    return dict(
        summary,
        unknown=share("pieces_unknown", "pieces"),
        words_per_piece=share("words", "pieces"),
        commonest_unknown=dict(commonest(unknown, 20)),
    )


def commonest(counter, number):
    """Return the (key, count) of the highest counts; equal counts are sorted by key."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:number]
