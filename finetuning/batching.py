"""The input functions of fine-tuning: batches of rows of similar length.

If every row were padded to max_seq_length, most of the work on short texts would be padding. So a
batch holds rows of similar length and is padded to its longest row. The rows of a training step are
a pure function of the lengths of all rows, seed, batch size and step. An epoch permutes all rows,
cuts them into pools of POOL_BATCHES batches, sorts every pool by length, and permutes the batches:

    lengths, permuted    5 2 9 4 8 3 | 6 1 7 2 4 3       batches of 2, pools of 3 batches
    pools, sorted        2 3|4 5|8 9 | 1 2|3 4|6 7
    batches, permuted    6 7|2 3|1 2|8 9|4 5|3 4

If an epoch ends within a batch, the next epoch first fills up that batch.

Everything is computed by TensorFlow operations from the file of an `encoding.EncodedSplit`: the
host of a remote TPU runs no Python, and a graph that contains the rows would be large. A row may
have several sequences; the longest one gives its length. n is the number of rows, B the batch size
of a step, b the batch size of a replica, C the sequences of a row, S the length of a padded batch.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from finetuning_data import encoding
from tfrecords import reader
from tfrecords.order import permutation

# In a larger pool the lengths in a batch are more equal; a smaller one mixes the rows better.
POOL_BATCHES = 64
# A TPU needs a program for each length, so all batches of a split have one of these lengths.
FIXED_LENGTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512)


def fixed_length(encoded, max_seq_length):
    """Return the least of FIXED_LENGTHS that every row fits into, or else max_seq_length.

    Args:
        encoded: `encoding.Encoded`.
        max_seq_length: int, the limit that they were encoded with.
    """
    longest = int(np.diff(encoded.begins).max())
    lengths = [length for length in FIXED_LENGTHS if longest <= length < max_seq_length]
    return min(lengths, default=max_seq_length)


def padded_lengths(max_seq_length):
    """Return the lengths that batches are padded to, an increasing list of int.

    There are eight lengths for each doubling. A CPU compiles its functions for every length, which
    takes as long as several steps; a batch that is an eighth too long costs less.

    Args:
        max_seq_length: int, the greatest length.
    """
    length, lengths = 0, []
    while length < max_seq_length:
        step = max(2, 2 ** (length.bit_length() - 4))
        length = min(length + step, max_seq_length)
        lengths.append(length)
    return lengths


def make_input_fn(
    path,
    columns,
    max_seq_length,
    training,
    seed=0,
    batch_size=None,
    first_step=lambda: 0,
    dynamic_padding=True,
    num_sequences=None,
):
    """Return the input function that an Estimator asks for.

    For training the rows never end; the module's docstring describes their order. Evaluation and
    prediction have one pass, longest rows first, and rows of zeros fill up the last batch, so that
    no row is lost. The padding changes the lengths of batches, but not their rows.

    Args:
        path: str, the file of an `encoding.EncodedSplit`.
        columns: sequence of `encoding.Column`, the columns of the file.
        max_seq_length: int, greatest length of the file's sequences.
        training: bool.
        seed: int, of the order.
        batch_size: int, of a step, used where the `params` of the Estimator have no "batch_size".
        first_step: function that returns an int, the step to start training at; called whenever
            the input function is.
        dynamic_padding: bool, whether S is the least of `padded_lengths` that the rows of a batch
            fit into; otherwise it is max_seq_length.
        num_sequences: int, C, or None where rows have no choices, as in `encoding.Encoded`.

    Returns:
        Function of `params` (dict or None) and `input_context` (tf.distribute.InputContext or
        None) that returns a tf.data.Dataset of dicts with the features that `kinds/kind.py`
        describes. The replicas of a host take the elements in turns.
    """

    @tf.autograph.experimental.do_not_convert  # conversion changes nothing and takes long
    def read(part):
        step_size = part.batch_size * part.num_replicas * part.num_hosts
        first = first_step() * step_size if training else 0

        def read_batches(records):
            encoded = _decoded(records, columns, num_sequences)
            lengths = row_lengths(encoded)  # [n]
            if training:
                order = training_order(lengths, seed, step_size, first)
            else:
                order = evaluation_order(lengths, step_size)
            batches = reader.of_host(order.batch(part.batch_size, drop_remainder=True), part)
            padding = max_seq_length, dynamic_padding
            return batches.map(lambda rows: pad_batch(encoded, columns, rows, *padding))

        types = encoding.dtypes(columns)
        records = tf.data.TFRecordDataset(path).batch(len(types), drop_remainder=True)
        return reader.prefetched(records.flat_map(read_batches))

    def input_fn(params=None, input_context=None):
        return read(reader.part_of_step(params or {}, batch_size, input_context))

    return input_fn


def _decoded(records, columns, num_sequences):
    """Return an `encoding.Encoded` of tensors; `records`, string, are the records of its file."""
    types = (tf.as_dtype(np.dtype(dtype)) for dtype in encoding.dtypes(columns))
    arrays = map(tf.io.decode_raw, tf.unstack(records), types)
    encoded = encoding.from_arrays(arrays, columns, num_sequences)
    for column in columns:
        if column.shape:
            values = encoded.columns[column.name]
            encoded.columns[column.name] = tf.reshape(values, (-1,) + column.shape)
    return encoded


def row_lengths(encoded):
    """Return the length of each row of an `encoding.Encoded` of tensors, int64 [n]."""
    lengths = encoded.begins[1:] - encoded.begins[:-1]  # [n*C]
    if encoded.num_sequences:
        lengths = tf.reduce_max(tf.reshape(lengths, [-1, encoded.num_sequences]), axis=1)
    return lengths


def training_order(lengths, seed, batch_size, first):
    """Return the tf.data.Dataset of rows, int64 [], in the endless order of training.

    Args:
        lengths: int64 [n].
        seed: int.
        batch_size: int, B.
        first: int, position of the first row.
    """
    size = tf.size(lengths, out_type=tf.int64)
    first_epoch, first_of_epoch = first // size, first % size

    def read_epoch(epoch):
        done = tf.where(tf.equal(epoch, first_epoch), first_of_epoch, np.int64(0))
        order = epoch_order(lengths, seed, batch_size, epoch)
        return tf.data.Dataset.from_tensor_slices(order[done:])

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(read_epoch)


def epoch_order(lengths, seed, batch_size, epoch):
    """Return the rows of an epoch, int64 [n], in the order of the module's docstring.

    Args:
        lengths: int64 [n].
        seed: int.
        batch_size: int, B.
        epoch: int64 [].
    """
    size = tf.size(lengths, out_type=tf.int64)
    order = permutation(size, seed, epoch)
    head = tf.minimum(-epoch * size % batch_size, size)  # fills the previous epoch's last batch
    num_batches = (size - head) // batch_size
    tail = head + num_batches * batch_size
    middle = order[head:tail]
    pools = tf.range(tail - head) // (POOL_BATCHES * batch_size)
    keys = pools * (tf.reduce_max(lengths) + 1) + tf.gather(lengths, middle)
    by_length = tf.gather(middle, tf.argsort(keys, stable=True))
    batches = tf.reshape(by_length, [num_batches, batch_size])
    batches = tf.gather(batches, permutation(num_batches, seed, -1 - epoch))
    return tf.concat([order[:head], tf.reshape(batches, [-1]), order[tail:]], axis=0)


def evaluation_order(lengths, batch_size):
    """Return the tf.data.Dataset of all rows, int64 [], and -1 to fill up the last batch.

    The longest come first, so that a lack of memory shows at once.

    Args:
        lengths: int64 [n].
        batch_size: int, B.
    """
    order = tf.cast(tf.argsort(-lengths, stable=True), tf.int64)
    missing = -tf.size(lengths) % batch_size
    return tf.data.Dataset.from_tensor_slices(
        tf.concat([order, tf.fill([missing], np.int64(-1))], axis=0)
    )


def pad_batch(encoded, columns, rows, max_seq_length, dynamic_padding):
    """Return a batch of features as `kinds/kind.py` describes them.

    Args:
        encoded: `encoding.Encoded` of tensors.
        columns: sequence of the `encoding.Column` of the rows.
        rows: int64 [b]; -1 for a row of zeros.
        max_seq_length, dynamic_padding: as in `make_input_fn`.
    """
    is_real, count = rows >= 0, encoded.num_sequences  # [b]
    real_rows = tf.maximum(rows, 0)
    sequences, is_sequence = real_rows, is_real
    if count:
        sequences = tf.reshape(real_rows[:, tf.newaxis] * count + tf.range(np.int64(count)), [-1])
        is_sequence = tf.reshape(tf.tile(is_real[:, tf.newaxis], [1, count]), [-1])
    begins, ends = (tf.gather(side, sequences) for side in (encoded.begins, encoded.begins[1:]))
    counts = tf.where(is_sequence, ends - begins, tf.zeros_like(begins))  # [b*C]
    length = max_seq_length
    if dynamic_padding:
        lengths = tf.constant(padded_lengths(max_seq_length), tf.int64)
        length = lengths[tf.searchsorted(lengths, tf.reduce_max(counts)[tf.newaxis])[0]]
    places = tf.range(tf.cast(length, tf.int64))[tf.newaxis, :]  # [1, S]
    mask = tf.cast(places < counts[:, tf.newaxis], tf.int32)  # [b*C, S]
    lengths_a = tf.cast(tf.gather(encoded.lengths_a, sequences), tf.int64)[:, tf.newaxis]
    pieces = tf.minimum(begins[:, tf.newaxis] + places, encoded.begins[-1] - 1)  # [b*C, S]
    features = {
        "input_ids": tf.gather(encoded.ids, pieces) * mask,
        "input_mask": mask,
        "segment_ids": tf.cast(places >= lengths_a, tf.int32) * mask,
    }
    for column in columns:
        if column.in_batch and column.per_piece:
            values = tf.gather(encoded.columns[column.name], pieces)
            features[column.name] = values * tf.cast(mask, values.dtype)
    if count:
        shape = [rows.shape.as_list()[0] or -1, count, length]
        features = {name: tf.reshape(value, shape) for name, value in features.items()}
    for column in columns:
        if column.in_batch and not column.per_piece:
            values = tf.gather(encoded.columns[column.name], real_rows)  # [b, ...]
            features[column.name] = tf.where(is_real, values, tf.zeros_like(values))
    return dict(
        features, row_index=tf.cast(rows, tf.int32), is_real_row=tf.cast(is_real, tf.float32)
    )
