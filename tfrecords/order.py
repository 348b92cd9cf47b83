"""The order in which records are read: a pure function of the records, a seed and a position.

An epoch permutes the blocks of all files. Consecutive blocks of that order, of about `pool_size`
records together, are a pool, and the records of a pool are permuted again. So the record at any
position of the endless order of training is found by reading a single pool.

The code is TensorFlow operations alone, which the process of a remote TPU host can run too. N is
the number of blocks, M the number of pools of an epoch.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from tfrecords.index import merge_blocks

# A graph holds four numbers for each block, and on a TPU pod a copy of these for every host.
MAX_BLOCKS = 1 << 17
# Training reads this many blocks at a time, because remote files answer late.
PARALLEL_READS = 16
# Remote files answer late, so reading in the order of the files merges this many blocks into one.
SEQUENTIAL_BLOCKS = 16
LARGEST_READ = 1 << 22  # bytes
# TensorFlow 1.15 cannot read from an offset. TensorFlow 1.15 also crashes when a session ends
# during a parallel interleave.
HAS_OFFSETS = hasattr(tf.raw_ops, "TFRecordDatasetV2")
READ_CALLS = tf.data.experimental.AUTOTUNE if HAS_OFFSETS else None


def in_order(index):
    """Return the tf.data.Dataset of all records in the order of the files, as from `shuffled`.

    Args:
        index: `index.RecordIndex`.
    """
    index = merge_blocks(index, SEQUENTIAL_BLOCKS)
    records = tf.data.Dataset.range(len(index.file)).flat_map(_block_reader(index))
    epoch = tf.constant(0, tf.int64)
    return records.enumerate().map(lambda number, record: (record, epoch, number))


def shuffled(index, seed, pool_size, first=0):
    """Return the tf.data.Dataset of records in the endless order of training.

    An element is (record, epoch, number): a string, and two int64; `number` counts the records of
    all files in their order.

    Args:
        index: `index.RecordIndex`.
        seed: int.
        pool_size: int; a pool ends with the block that reaches this many records. Up to three pools
            are in memory.
        first: int, position of the first record.
    """
    index = merge_blocks(index, -(-len(index.file) // MAX_BLOCKS))
    first = tf.convert_to_tensor(first, tf.int64)
    first_epoch, first_of_epoch = first // index.num_records, first % index.num_records
    read_block = _block_reader(index)
    count_of_block = tf.constant(index.count)  # [N]
    first_of_block = tf.constant(np.cumsum(index.count) - index.count)  # [N], number of a record

    def read_epoch(epoch):
        blocks = permutation(len(index.file), seed, epoch)  # [N]
        counts = tf.gather(count_of_block, blocks)  # [N]
        ends = tf.cumsum(counts)  # [N], in records
        pools = (ends - counts) // pool_size  # [N], ascending, with gaps after large blocks
        tails = tf.where(tf.not_equal(pools, tf.concat([pools[1:], [-1]], axis=0)))[:, 0] + 1  # [M]
        heads = tf.concat([[0], tails[:-1]], axis=0)  # [M]
        skipped = tf.where(tf.equal(epoch, first_epoch), first_of_epoch, np.int64(0))

        def read_pool(head, tail):
            size = tf.reduce_sum(counts[head:tail])
            order = permutation(size, seed, -1 - (epoch * len(index.file) + head))
            first_of_pool = tf.maximum(skipped - (ends[head] - counts[head]), 0)
            records = tf.data.Dataset.from_tensor_slices(blocks[head:tail]).interleave(
                lambda block: read_block(block).batch(tf.gather(count_of_block, block)),
                cycle_length=PARALLEL_READS,
                num_parallel_calls=READ_CALLS,
            )
            records = records.unbatch().batch(size)  # one element: string [size]
            order = order[first_of_pool:]
            numbers = tf.gather(
                _ranges(tf.gather(first_of_block, blocks[head:tail]), counts[head:tail]), order
            )
            epochs = tf.fill(tf.shape(order), epoch)
            return records.map(lambda pool: (tf.gather(pool, order), epochs, numbers))

        is_left = tf.gather(ends, tails - 1) > skipped
        left = tuple(tf.boolean_mask(bounds, is_left) for bounds in (heads, tails))
        return tf.data.Dataset.from_tensor_slices(left).flat_map(read_pool)

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(read_epoch)
    return epochs.prefetch(1).unbatch()  # the next pool is read while one is used up


def _ranges(first, counts):
    """Return the numbers first, first + 1, ... of lists of these lengths, int64 [sum of counts]."""
    begins = tf.cumsum(counts, exclusive=True)
    return tf.repeat(first - begins, counts) + tf.range(tf.reduce_sum(counts))


def permutation(size, seed, number):
    """Return a permutation, int64 [size]; every `number`, an int64 [], gives another one."""
    draws = tf.random.stateless_uniform(
        tf.reshape(size, [1]),
        seed=tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)]),
        dtype=tf.float64,
    )
    return tf.cast(tf.argsort(draws, stable=True), tf.int64)


def _block_reader(index):
    """Return a function from the number of a block, int64 [], to the dataset of its records."""
    paths = tf.constant(index.paths)
    compression = tf.constant(["GZIP" if is_gzipped else "" for is_gzipped in index.is_gzipped])
    columns = [tf.constant(column) for column in (index.file, index.begin, index.end, index.count)]
    sizes = tf.constant(index.sizes, tf.int64)

    def read(block):
        file, begin, end, count = (tf.gather(column, block) for column in columns)
        buffer_size = tf.minimum(end - begin, LARGEST_READ)
        if HAS_OFFSETS:
            variant = tf.raw_ops.TFRecordDatasetV2(
                filenames=[paths[file]],
                compression_type=compression[file],
                buffer_size=buffer_size,
                byte_offsets=[begin],
            )
            records = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
            return records.take(count)
        # A compressed file is a single block. If the file is damaged, the number of bytes after
        # the block is not known; `take` leaves the bytes after the block out.
        footer_bytes = tf.where(tf.equal(compression[file], ""), sizes[file] - end, np.int64(0))
        block = tf.data.FixedLengthRecordDataset(
            [paths[file]], end - begin, begin, footer_bytes, buffer_size, compression[file]
        )
        return block.take(1).map(lambda data: _split(data, count)).unbatch()

    return read


def _split(data, count):
    """Return the records, string [count], of consecutive frames, a string []."""

    def step(number, begin, records):
        length = tf.io.decode_raw(tf.strings.substr(data, begin, 4), tf.int32)[0]
        records = records.write(number, tf.strings.substr(data, begin + 12, length))
        return number + 1, begin + 12 + length + 4, records

    count = tf.cast(count, tf.int32)
    records = tf.TensorArray(tf.string, count, element_shape=[])
    _, _, records = tf.while_loop(lambda number, *_: number < count, step, (0, 0, records))
    return records.stack()
