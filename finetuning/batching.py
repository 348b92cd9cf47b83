"""The input functions of fine-tuning: batches of examples of similar length.

On short texts most of the work would be padding. So a batch holds examples of similar length and is
padded to its longest example. The examples of a training step are a pure function of the lengths of
all examples, seed, batch size and step. An epoch permutes all examples, cuts them into pools of
POOL_BATCHES batches, sorts every pool by length, and permutes the batches:

    lengths, permuted    5 2 9 4 8 3 | 6 1 7 2 4 3       batches of 2, pools of 3 batches
    pools, sorted        2 3|4 5|8 9 | 1 2|3 4|6 7
    batches, permuted    6 7|2 3|1 2|8 9|4 5|3 4

If an epoch ends within a batch, the next epoch first fills up that batch.

Everything is computed by TensorFlow operations from the file of an `encoding.EncodedSplit`: the
host of a remote TPU runs no Python, and a graph that contains the examples would be large. n is the
number of examples, B the batch size of a step, b that of a replica, S the length of a padded batch.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from finetuning.encoding import DTYPES, EncodedExamples
from tfrecords import reader
from tfrecords.order import permutation

# In a larger pool the lengths in a batch are more equal; a smaller one mixes the examples better.
POOL_BATCHES = 64
# Batches are padded to multiples of this. Fewer different lengths mean fewer compilations.
LENGTH_MULTIPLE = 2
# Lengths for a TPU: all its batches have one of these lengths, since it compiles for one length.
FIXED_LENGTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512)


def fixed_length(encoded, max_seq_length):
    """Return the least of FIXED_LENGTHS that every example fits into, or else max_seq_length.

    Args:
        encoded: `encoding.EncodedExamples`.
        max_seq_length: int, the limit that they were encoded with.
    """
    longest = int(np.diff(encoded.begins).max())
    lengths = [length for length in FIXED_LENGTHS if longest <= length < max_seq_length]
    return min(lengths, default=max_seq_length)


def make_input_fn(
    path,
    max_seq_length,
    training,
    seed=0,
    batch_size=None,
    first_step=lambda: 0,
    dynamic_padding=True,
):
    """Return the input function that an Estimator asks for.

    For training the examples never end; the module's docstring describes their order. Otherwise
    there is one pass, longest examples first, and examples of zeros fill up the last batch, so that
    no example is lost. The padding changes the lengths of batches, but not their examples.

    Args:
        path: str, the file of an `encoding.EncodedSplit`.
        max_seq_length: int, greatest length of its examples.
        training: bool.
        seed: int, of the order.
        batch_size: int, of a step, used where the `params` of the Estimator have no "batch_size".
        first_step: function that returns an int, the step to start training at; called whenever
            the input function is.
        dynamic_padding: bool, whether S is the greatest length in a batch, rounded up to a multiple
            of LENGTH_MULTIPLE; otherwise it is max_seq_length.

    Returns:
        Function of `params` (dict or None) and `input_context` (tf.distribute.InputContext or
        None) that returns a tf.data.Dataset of dicts: `input_ids`, `input_mask` and `segment_ids`,
        int32 [b, S]; `label_ids`, int32 [b]; `example_index`, int32 [b], the index of the example
        in the file, or -1 for one that fills up the last batch; `is_real_example`, float32 [b], 0
        for the latter. The replicas of a host take the elements in turns.
    """

    def input_fn(params=None, input_context=None):
        part = reader.part_of_step(params or {}, batch_size, input_context)
        step_size = part.batch_size * part.num_replicas * part.num_hosts
        first = first_step() * step_size if training else 0

        def read_batches(fields):
            encoded = EncodedExamples(*map(tf.io.decode_raw, tf.unstack(fields), _types()))
            lengths = encoded.begins[1:] - encoded.begins[:-1]  # [n]
            if training:
                order = training_order(lengths, seed, step_size, first)
            else:
                order = evaluation_order(lengths, step_size)
            rows = reader.of_host(order.batch(part.batch_size, drop_remainder=True), part)
            return rows.map(
                lambda rows: pad_batch(encoded, lengths, rows, max_seq_length, dynamic_padding)
            )

        fields = tf.data.TFRecordDataset(path).batch(len(DTYPES), drop_remainder=True)
        return fields.flat_map(read_batches).prefetch(tf.data.experimental.AUTOTUNE)

    return input_fn


def _types():
    return (tf.as_dtype(np.dtype(dtype)) for dtype in DTYPES)


def training_order(lengths, seed, batch_size, first):
    """Return the tf.data.Dataset of examples, int64 [], in the endless order of training.

    Args:
        lengths: int64 [n].
        seed: int.
        batch_size: int, B.
        first: int, position of the first example.
    """
    size = tf.size(lengths, out_type=tf.int64)
    first_epoch, first_of_epoch = first // size, first % size

    def read_epoch(epoch):
        done = tf.where(tf.equal(epoch, first_epoch), first_of_epoch, np.int64(0))
        order = epoch_order(lengths, seed, batch_size, epoch)
        return tf.data.Dataset.from_tensor_slices(order[done:])

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(read_epoch)


def epoch_order(lengths, seed, batch_size, epoch):
    """Return the examples of an epoch, int64 [n], in the order of the module's docstring.

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
    """Return the tf.data.Dataset of all examples, int64 [], and -1 to fill up the last batch.

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


def pad_batch(encoded, lengths, rows, max_seq_length, dynamic_padding):
    """Return a batch as `make_input_fn` describes it.

    Args:
        encoded: `EncodedExamples` of tensors.
        lengths: int64 [n].
        rows: int64 [b], the examples; -1 for one of zeros.
        max_seq_length, dynamic_padding: as in `make_input_fn`.
    """
    is_real = rows >= 0  # [b]
    examples = tf.maximum(rows, 0)
    counts = tf.where(is_real, tf.gather(lengths, examples), tf.zeros_like(rows))  # [b]
    length = max_seq_length
    if dynamic_padding:
        multiples = tf.maximum(-(-tf.reduce_max(counts) // LENGTH_MULTIPLE), 1)
        length = tf.minimum(multiples * LENGTH_MULTIPLE, max_seq_length)
    columns = tf.range(tf.cast(length, tf.int64))[tf.newaxis, :]  # [1, S]
    mask = tf.cast(columns < counts[:, tf.newaxis], tf.int32)  # [b, S]
    begins, lengths_a = (
        tf.cast(tf.gather(column, examples), tf.int64)[:, tf.newaxis]  # [b, 1]
        for column in (encoded.begins, encoded.lengths_a)
    )
    places = tf.minimum(begins + columns, encoded.begins[-1] - 1)  # [b, S]
    label_ids = tf.gather(encoded.label_ids, examples)
    return {
        "input_ids": tf.gather(encoded.ids, places) * mask,
        "input_mask": mask,
        "segment_ids": tf.cast(columns >= lengths_a, tf.int32) * mask,
        "label_ids": tf.where(is_real, label_ids, tf.zeros_like(label_ids)),
        "example_index": tf.cast(rows, tf.int32),
        "is_real_example": tf.cast(is_real, tf.float32),
    }
