"""Swaps and masks compact records in a TensorFlow graph, as `reference.mask_row` does.

The functions make the same choices as `reference.mask_row`, with the same random numbers, for all
rows of a batch at once. The functions use only TensorFlow operations, because the host of a remote
TPU runs no Python.

All tensors are lists over the whole batch, without padding. In the shapes, n counts the rows, q
their chunks, i their pieces, w words, g grams and m masked pieces. A *place* is the index of a
piece among all pieces of the batch, in the order of the sequences, after the swap.
"""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from masking import reference
from masking.random_numbers import Stream
from tfrecords import compact

# Rows of one call. The tensors of more rows do not fit into the cache of a processor.
ROWS_AT_ONCE = 64
KEY_BITS = 40  # random bits of `Draws.order_keys`


class Draws:
    """`random_numbers.Draws` in a graph: keys are int64 tensors [k], whose products wrap."""

    def __init__(self, state):
        self._state = state  # int64 [k], the bits of the uint64 of `random_numbers.Draws`

    @classmethod
    def of_seed(cls, seed):
        """Return the Draws of a key of one int."""
        return cls(tf.zeros([1], tf.int64)).child(tf.constant([seed], tf.int64))

    def child(self, key):
        """Return the Draws of these keys extended by `key`, int64 [k]."""
        golden = _int64(0x9E3779B97F4A7C15)
        z = tf.cast(key, tf.int64) * golden + (self._state + golden)
        z = _shift_xor(z, 30) * _int64(0xBF58476D1CE4E5B9)
        z = _shift_xor(z, 27) * _int64(0x94D049BB133111EB)
        return Draws(_shift_xor(z, 31))

    def take(self, rows):
        """Return the Draws of some of the keys, int [k']."""
        return Draws(tf.gather(self._state, rows))

    def bits(self, stream, counter, rows, shift):
        """Return random bits, int64 [k'], shifted to the right by `shift`.

        Args:
            stream: int, or int64 tensor of one for each key.
            counter: int tensor [k'], the position in the stream.
            rows: int tensor [k'], the key of each counter.
            shift: int, 1 or more.
        """
        bits = self.child(stream).take(rows).child(counter)
        return _shift(bits._state, shift)

    def uniform(self, stream, counter, rows):
        """Return float64 [k'] in [0, 1); takes the arguments of `bits`."""
        return tf.cast(self.bits(stream, counter, rows, 11), tf.float64) * 2.0**-53

    def below(self, stream, size):
        """Return int32 [k] in [0, size); `size` is an int32 tensor [k]."""
        keys = tf.range(tf.size(self._state))
        number = self.uniform(stream, tf.zeros_like(keys), keys) * tf.cast(size, tf.float64)
        return tf.cast(number, tf.int32)


def _int64(bits):
    return tf.constant(np.array(bits, np.uint64).view(np.int64))


def _shift(bits, number):
    """Shift int64 to the right as if it were uint64."""
    shifted = tf.bitwise.right_shift(tf.bitcast(bits, tf.uint64), tf.constant(number, tf.uint64))
    return tf.bitcast(shifted, tf.int64)


def _shift_xor(bits, number):
    return tf.bitwise.bitwise_xor(bits, _shift(bits, number))


class Masking(NamedTuple):
    """Reads compact records: the record format of `reader.make_input_fn`."""

    config: reference.MaskingConfig
    vocabulary: reference.Vocabulary
    limits: compact.Limits
    seed: int

    rows_at_once = ROWS_AT_ONCE

    @property
    def masks(self):
        """How the masks are drawn, str; a resumed run compares this text with its last start's."""
        config = self.config
        return "{:g} of the pieces and at most {}, grams by {}, {} replaced together".format(
            config.masked_lm_prob,
            config.max_predictions_per_seq,
            "/".join("{:.2f}".format(share) for share in config.gram_probabilities),
            "spans" if config.replace_spans else "no pieces",
        )

    def find_fault(self, record):
        """Return what is wrong with a record, str, or None."""
        return compact.find_fault(record, self.limits)

    def parse(self, records, epochs, numbers, batch_size):
        """Mask rows.

        Args:
            records: string [n], n at most `batch_size`.
            epochs, numbers: int64 [n], the epoch, and the number of the record among all records.
            batch_size: int, B.

        Returns:
            Dict of the features of `_features`.
        """
        rows = _decode(records, self.limits.has_word_bits)
        draws = Draws.of_seed(self.seed).child(epochs).child(numbers)
        draws = draws.take(rows.row).child(tf.cast(rows.number, tf.int64))  # of each chunk
        sequences = _assemble(rows, draws)
        grams = _make_grams(sequences, self.config, draws)
        budget = _budgets(sequences, grams, self.config)
        masked_end = _choose_grams(grams, budget, draws)
        masked = _mask(sequences, grams, masked_end, self.config, self.vocabulary, draws)
        return _features(sequences, masked, self.config, self.vocabulary, batch_size)


class _Rows(NamedTuple):
    """The chunks and pieces of records."""

    numbers: tf.Tensor  # int32, all numbers of all records
    row: tf.Tensor  # int32 [q], the record of each chunk
    number: tf.Tensor  # int32 [q], index of the chunk in its row
    length: tf.Tensor  # int32 [q], its pieces
    chunk: tf.Tensor  # int32 [i], the chunk of each piece
    index: tf.Tensor  # int32 [i], index of the piece in its chunk
    num_splits: tf.Tensor  # int32 [q]
    first_split: tf.Tensor  # int32 [q], index of its first split in `numbers`
    first_piece: tf.Tensor  # int32 [q], index of its first piece among the pieces of the batch
    pieces: tf.Tensor  # int32 [i]
    is_word: tf.Tensor  # bool [i], whether a word begins


def _decode(records, has_word_bits):
    """Return the `_Rows` of records, string [n]."""
    numbers = tf.decode_raw(tf.strings.reduce_join(records), tf.uint16)
    numbers = tf.cast(numbers, tf.int32)
    offset = tf.cumsum(tf.strings.length(records) // 2, exclusive=True)  # [n]
    num_chunks, num_splits = tf.gather(numbers, offset + 1), tf.gather(numbers, offset + 2)
    row, index_in_row = _list_and_index(num_chunks)
    lengths_at = tf.gather(offset, row) + compact.HEAD + index_in_row
    length = tf.gather(numbers, lengths_at)
    splits = tf.gather(numbers, lengths_at + tf.gather(num_chunks, row))
    splits_at = offset + compact.HEAD + 2 * num_chunks  # [n]
    pieces_at = splits_at + num_splits  # [n]
    chunk, index_in_chunk = _list_and_index(length)  # [i]
    index = tf.gather(_before_in_row(length, row, index_in_row), chunk) + index_in_chunk
    row_of_piece = tf.gather(row, chunk)
    at = tf.gather(pieces_at, row_of_piece)
    pieces = tf.gather(numbers, at + index)
    if has_word_bits:
        row_size = tf.math.segment_sum(length, row)
        bits = tf.gather(numbers, at + tf.gather(row_size, row_of_piece) + index // 16)
        is_word = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, index % 16), 1) > 0
    else:
        is_word = pieces >= compact.MAX_PIECES
        pieces %= compact.MAX_PIECES
    return _Rows(
        numbers=numbers,
        row=row,
        number=index_in_row,
        length=length,
        chunk=chunk,
        index=index_in_chunk,
        num_splits=splits,
        first_split=tf.gather(splits_at, row) + _before_in_row(splits, row, index_in_row),
        first_piece=tf.cumsum(length, exclusive=True),
        pieces=pieces,
        is_word=is_word,
    )


def _list_and_index(counts):
    """Return, for each element of lists of these lengths, its list's number and its index there."""
    owner = tf.repeat(tf.range(tf.size(counts)), counts)
    index = tf.range(tf.size(owner)) - tf.gather(tf.cumsum(counts, exclusive=True), owner)
    return owner, index


def _before_in_row(counts, row, number):
    """Return the sum of the counts of the earlier chunks of the same row, [q].

    Args:
        counts: tensor [q], of each chunk.
        row, number: int32 [q], the row of each chunk and its index there.
    """
    total = tf.cumsum(counts, exclusive=True)
    return total - tf.gather(tf.boolean_mask(total, tf.equal(number, 0)), row)


class _Sequences(NamedTuple):
    """Chunks as [CLS] first segment [SEP] second segment [SEP]."""

    row: tf.Tensor  # int32 [q]
    number: tf.Tensor  # int32 [q], index of the chunk in its row
    length: tf.Tensor  # int32 [q], pieces of the chunk
    start: tf.Tensor  # int32 [q], position of [CLS] in the row
    first_size: tf.Tensor  # int32 [q], pieces of the first segment
    has_order: tf.Tensor  # int32 [q], 0 or 1
    swapped: tf.Tensor  # int32 [q], 0 or 1
    pieces: tf.Tensor  # int32 [i]
    is_word: tf.Tensor  # bool [i]; True at the start of every segment
    chunk: tf.Tensor  # int32 [i], the chunk of each piece
    segment: tf.Tensor  # int32 [i], 0 or 1
    position: tf.Tensor  # int32 [i], in its chunk, where [CLS] is 0


def _assemble(rows, draws):
    """Split the chunks of `_Rows`, and swap the segments of some of them."""
    middle = _middles(rows, draws)
    has_order = tf.cast(rows.num_splits > 0, tf.int32)
    swapped = has_order * draws.below(Stream.SWAP, tf.fill(tf.shape(middle), 2))
    first_size = tf.where(swapped > 0, rows.length - middle, middle)
    chunk, index = rows.chunk, rows.index
    # A swap rotates the pieces of a chunk by the length of its first segment.
    turn = tf.gather(middle * swapped, chunk)
    source = tf.gather(rows.first_piece, chunk) + (index + turn) % tf.gather(rows.length, chunk)
    first_of_piece = tf.gather(first_size, chunk)
    segment = tf.cast(index >= first_of_piece, tf.int32)
    begins_segment = tf.equal(index, 0) | tf.equal(index, first_of_piece)
    size = rows.length + compact.NUM_SEPARATORS
    return _Sequences(
        row=rows.row,
        number=rows.number,
        length=rows.length,
        start=_before_in_row(size, rows.row, rows.number),
        first_size=first_size,
        has_order=has_order,
        swapped=swapped,
        pieces=tf.gather(rows.pieces, source),
        is_word=tf.gather(rows.is_word, source) | begins_segment,
        chunk=chunk,
        segment=segment,
        position=1 + index + segment,
    )


def _middles(rows, draws):
    """Return the piece of each chunk before which it is split, int32 [q]."""
    is_inner = rows.is_word & (rows.index > 0)
    inner = tf.cast(tf.where(is_inner)[:, 0], tf.int32)  # the places where inner words begin
    number = tf.math.segment_sum(tf.cast(is_inner, tf.int32), rows.chunk)  # [q]
    first_inner = tf.cumsum(number, exclusive=True)
    has_splits, has_inner = rows.num_splits > 0, number > 0
    total = tf.where(has_splits, rows.num_splits, tf.where(has_inner, number, rows.length - 1))
    chosen = draws.below(Stream.MIDDLE, total)

    def at_chosen(values, first, is_used):  # without `is_used`, the index may be outside
        index = tf.where(is_used, first + chosen, tf.zeros_like(chosen))
        return tf.gather(tf.pad(values, [[0, 1]]), index)

    split = at_chosen(rows.numbers, rows.first_split, has_splits)
    word = at_chosen(inner, first_inner, ~has_splits & has_inner) - rows.first_piece
    return tf.where(has_splits, split, tf.where(has_inner, word, 1 + chosen))


class _Grams(NamedTuple):
    """The grams of all chunks, in the order of the sequences."""

    chunk: tf.Tensor  # int32 [g]
    begin: tf.Tensor  # int32 [g], place of its first piece
    end: tf.Tensor  # int32 [g], place after its last
    num_words: tf.Tensor  # int32 [g]
    word_begins: tf.Tensor  # int32 [w + 1], place where each word begins; the last is i
    word_count: tf.Tensor  # int32 [i + 1], how many words begin at or before each place
    least: tf.Tensor  # int32 [q], pieces of the shortest first word of a gram


def _make_grams(sequences, config, draws):
    is_word = tf.pad(sequences.is_word, [[0, 1]], constant_values=True)
    word_begins = tf.cast(tf.where(is_word)[:, 0], tf.int32)  # [w + 1]
    begins = word_begins[:-1]
    # The segments of a chunk have the numbers 2 * chunk and 2 * chunk + 1. No segment is empty.
    segment = tf.gather(2 * sequences.chunk + sequences.segment, begins)  # [w]
    number = tf.math.segment_sum(tf.ones_like(segment), segment)  # [2q], words
    first_word = tf.cumsum(number, exclusive=True)  # [2q]
    _, index = _list_and_index(number)  # of each word in its segment
    segments = tf.range(tf.size(number))
    streams = tf.cast(Stream.FIRST_GRAMS + segments % 2, tf.int64)
    numbers = draws.take(segments // 2).uniform(streams, index, segment)
    lengths = tf.ones_like(index)
    for bound in np.cumsum(config.gram_probabilities[:-1]):
        lengths += tf.cast(numbers >= bound, tf.int32)
    # The draw at the j-th word of a segment is the length of its j-th gram.
    total = tf.cumsum(lengths, exclusive=True)
    first = total - tf.gather(tf.gather(total, first_word), segment)
    words_left = tf.gather(number, segment) - first
    is_gram = words_left > 0
    segment = tf.boolean_mask(segment, is_gram)  # [g]
    word = tf.gather(first_word, segment) + tf.boolean_mask(first, is_gram)
    num_words = tf.boolean_mask(tf.minimum(lengths, words_left), is_gram)
    begin = tf.gather(word_begins, word)
    first_length = tf.gather(word_begins, word + 1) - begin
    return _Grams(
        chunk=segment // 2,
        begin=begin,
        end=tf.gather(word_begins, word + num_words),
        num_words=num_words,
        word_begins=word_begins,
        word_count=tf.cumsum(tf.cast(is_word, tf.int32)),
        least=tf.math.segment_min(first_length, segment // 2),
    )


def _budgets(sequences, grams, config):
    """Return how many pieces of each chunk may be masked, int32 [q]."""
    most = config.max_predictions_per_seq
    size = tf.cast(sequences.length + compact.NUM_SEPARATORS, tf.float64)
    row_size = tf.gather(tf.math.segment_sum(size, sequences.row), sequences.row)
    share = tf.minimum(tf.constant(config.masked_lm_prob, tf.float64), most / row_size)
    budget = tf.cast(tf.floor(share * size + 1e-9), tf.int32)
    budget = tf.minimum(tf.maximum(budget, grams.least), most)
    before = _before_in_row(budget, sequences.row, sequences.number)
    return tf.minimum(before + budget, most) - tf.minimum(before, most)


def _choose_grams(grams, budget, draws):
    """Return the end of the masked part of each gram, int32 [g]; its begin if nothing is masked."""
    chunk = grams.chunk
    first = tf.math.segment_min(tf.range(tf.size(chunk)), chunk)  # [q], of each chunk
    order = _random_order(chunk, first, draws)
    begin, end, words = (
        tf.gather(values, order) for values in (grams.begin, grams.end, grams.num_words)
    )
    chosen, left = _take_whole(end - begin, words, chunk, first, budget)
    # One more gram is cut to the words that fit into the rest.
    count = tf.gather(grams.word_count, tf.minimum(begin + tf.gather(left, chunk), end))
    is_candidate = ~chosen & (count > tf.gather(grams.word_count, begin))
    cut = tf.gather(_first_of_chunk(is_candidate, chunk, tf.size(budget)), chunk)
    is_cut = tf.equal(tf.range(tf.size(chunk)), cut)
    cut_end = tf.gather(grams.word_begins, count - 1)
    masked_end = tf.where(is_cut, cut_end, tf.where(chosen, end, begin))
    return tf.scatter_nd(order[:, tf.newaxis], masked_end, [tf.size(chunk)])


def _random_order(chunk, first, draws):
    """Return the grams in a random order within each chunk, int32 [g]; chunks are not mixed."""
    in_chunk = tf.range(tf.size(chunk)) - tf.gather(first, chunk)
    keys = draws.bits(Stream.ORDER, in_chunk, chunk, 64 - KEY_BITS)
    keys += tf.cast(chunk, tf.int64) * (1 << KEY_BITS)
    return tf.nn.top_k(-keys, tf.size(chunk))[1]


def _first_of_chunk(condition, chunk, num_chunks):
    """Return each chunk's first index where a condition holds, or the size of `condition`."""
    size = tf.size(chunk)
    index = tf.where(condition, tf.range(size), tf.fill([size], size))
    return tf.minimum(tf.math.unsorted_segment_min(index, chunk, num_chunks), size)


def _take_whole(lengths, words, chunk, first, budget):
    """Choose the grams that are not cut, like `vectorized._take_whole`, in their random order.

    Args:
        lengths, words: int32 [g], pieces and words of each gram.
        chunk: int32 [g], ascending.
        first: int32 [q], the first gram of each chunk.
        budget: int32 [q].

    Returns:
        (bool [g], whether the gram is chosen; int32 [q], the rest of the budget).
    """
    num_grams, num_chunks = tf.size(chunk), tf.size(budget)
    ranks = tf.range(num_grams)
    # Grams with more words than the budget get length 0, so that every round skips them.
    lengths = tf.where(words > tf.gather(budget, chunk), tf.zeros_like(lengths), lengths)

    def one_round(chosen, left, begin):
        cost = tf.where(ranks >= tf.gather(begin, chunk), lengths, tf.zeros_like(lengths))
        before = tf.cumsum(cost, exclusive=True)
        total = before + cost - tf.gather(tf.gather(before, first), chunk)
        fits = total <= tf.gather(left, chunk)
        taken = fits & (cost > 0)
        left -= tf.math.segment_sum(tf.where(taken, cost, tf.zeros_like(cost)), chunk)
        miss = _first_of_chunk(~fits, chunk, num_chunks)
        wanted = tf.gather(tf.pad(words, [[0, 1]]), miss)
        is_next = tf.equal(words, tf.gather(wanted, chunk)) & (ranks > tf.gather(miss, chunk))
        is_next &= (lengths > 0) & (lengths <= tf.gather(left, chunk))
        following = _first_of_chunk(is_next, chunk, num_chunks)
        left -= tf.gather(tf.pad(lengths, [[0, 1]]), following)
        chosen |= taken | tf.equal(ranks, tf.gather(following, chunk))
        return chosen, left, following + 1

    start = tf.zeros_like(ranks) > 0, budget, first
    chosen, left, _ = tf.while_loop(
        lambda chosen, left, begin: tf.reduce_any(begin < num_grams), one_round, start
    )
    return chosen, left


class _Masked(NamedTuple):
    """The masked pieces."""

    chunk: tf.Tensor  # int32 [m]
    position: tf.Tensor  # int32 [m], in the chunk
    label: tf.Tensor  # int32 [m], the original piece
    input_ids: tf.Tensor  # int32 [i], all pieces, the masked ones replaced


def _mask(sequences, grams, masked_end, config, vocabulary, draws):
    """Replace the pieces of the chosen grams; return `_Masked`."""
    gram, _ = _list_and_index(grams.end - grams.begin)  # [i], of each piece
    places = tf.range(tf.size(gram))
    masked = tf.boolean_mask(places, places < tf.gather(masked_end, gram))  # [m]
    chunk, position, label = (
        tf.gather(values, masked)
        for values in (sequences.chunk, sequences.position, sequences.pieces)
    )
    decider = position
    if config.replace_spans:
        first_place = tf.gather(grams.begin, tf.gather(gram, masked))
        decider = tf.gather(sequences.position, first_place)
    action = draws.uniform(Stream.ACTION, decider, chunk)
    choice = draws.uniform(Stream.REPLACEMENT, position, chunk)
    choice = tf.cast(choice * len(vocabulary.replacements), tf.int32)
    replacement = tf.gather(tf.constant(vocabulary.replacements, tf.int32), choice)
    kept_until = reference.MASK_SHARE + reference.KEEP_SHARE
    given = tf.where(action < kept_until, label, replacement)
    mask_id = tf.fill(tf.shape(label), vocabulary.mask_id)
    given = tf.where(action < reference.MASK_SHARE, mask_id, given)
    input_ids = tf.tensor_scatter_nd_update(sequences.pieces, masked[:, tf.newaxis], given)
    return _Masked(chunk, position, label, input_ids)


def _features(sequences, masked, config, vocabulary, batch_size):
    """Return the features of B rows; rows after the last record hold zeros.

    Returns:
        Dict of

        input_ids, chunk_ids, segment_ids, position_ids: int32 [B, S]; the chunks of a row are
        numbered from 1, chunk 0 is padding, and positions count from the [CLS] of their chunk.
        masked_lm_positions, masked_lm_ids, masked_lm_weights: int32, int32, float32 [B, P].
        chunk_starts, next_sentence_labels, next_sentence_weights: int32, int32, float32 [B, K],
        the position of each [CLS], 1 for swapped segments, and 0 for a chunk without order or a
        missing one.

        With K = 1, `input_mask` takes the place of chunk_ids, position_ids and chunk_starts.
    """
    length, num_chunks = config.max_seq_length, config.max_chunks_per_row

    def of_rows(rows, places, width, columns):
        """Put columns into rows of zeros: int32 [B, width] each."""
        values = tf.stack(columns, axis=1)
        index = (rows * width + places)[:, tf.newaxis]
        table = tf.scatter_nd(index, values, [batch_size * width, len(columns)])
        return [tf.reshape(column, [batch_size, width]) for column in tf.unstack(table, axis=1)]

    zeros, ones = tf.zeros_like(sequences.row), tf.ones_like(sequences.row)
    cls, sep = (tf.fill(tf.shape(zeros), i) for i in (vocabulary.cls_id, vocabulary.sep_id))
    chunks = tf.range(tf.size(zeros))
    chunk = tf.concat([sequences.chunk, chunks, chunks, chunks], axis=0)
    position = [sequences.position, zeros, sequences.first_size + 1, sequences.length + 2]
    position = tf.concat(position, axis=0)
    ids = tf.concat([masked.input_ids, cls, sep, sep], axis=0)
    segment = tf.concat([sequences.segment, zeros, zeros, ones], axis=0)
    row, start = tf.gather(sequences.row, chunk), tf.gather(sequences.start, chunk)
    columns = [ids, tf.gather(sequences.number, chunk) + 1, segment, position]
    ids, chunk_ids, segment_ids, position_ids = of_rows(row, start + position, length, columns)

    row = tf.gather(sequences.row, masked.chunk)  # [m]
    number = tf.math.unsorted_segment_sum(tf.ones_like(row), row, batch_size)  # [B]
    _, column = _list_and_index(number)  # [m]
    position = tf.gather(sequences.start, masked.chunk) + masked.position
    most = config.max_predictions_per_seq
    positions, labels = of_rows(row, column, most, [position, masked.label])

    columns = [sequences.start, sequences.swapped, sequences.has_order]
    starts, swapped, has_order = of_rows(sequences.row, sequences.number, num_chunks, columns)
    features = {
        "input_ids": ids,
        "segment_ids": segment_ids,
        "masked_lm_positions": positions,
        "masked_lm_ids": labels,
        "masked_lm_weights": tf.sequence_mask(number, most, tf.float32),
        "next_sentence_labels": swapped,
        "next_sentence_weights": tf.cast(has_order, tf.float32),
    }
    if num_chunks == 1:
        return dict(features, input_mask=chunk_ids)
    return dict(features, chunk_ids=chunk_ids, position_ids=position_ids, chunk_starts=starts)
