"""Dropout that keeps no mask: the gradient draws the same mask again from the seed."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf


class Dropping(NamedTuple):
    """How `drop` chooses the elements that become 0."""

    seed: tf.Tensor  # int32 [2]
    threshold: tf.Tensor  # int32 or float32 []; elements whose draw is below it are dropped
    scale: tf.Tensor  # float32 []; the other elements are multiplied by it
    is_hashed: bool  # see `draw`


def make_dropping(rate, seed, is_hashed):
    """Return the `Dropping` of a rate in [0, 1); None for rate 0.

    Args:
        rate: float, the share of elements to drop.
        seed: int32 [2].
        is_hashed: bool, see `draw`.
    """
    if not rate:
        return None
    # On a GPU without XLA, TensorFlow compares float32 numbers, but copies int32 numbers to the
    # host.
    dtype = tf.int32 if is_hashed else tf.float32
    return Dropping(
        seed,
        tf.constant(int(rate * 2**32) - 2**31, dtype),
        tf.constant(1.0 / (1.0 - rate), tf.float32),
        is_hashed,
    )


def drop(tensor, dropping):
    """Return a float tensor in which some elements are 0 and the others are scaled."""
    draws = draw(tf.shape(tensor), dropping.seed, dropping.is_hashed)
    is_kept = tf.cast(draws, dropping.threshold.dtype) >= dropping.threshold
    kept = tensor * tf.cast(dropping.scale, tensor.dtype)
    return tf.where(is_kept, kept, tf.zeros_like(tensor))


def draw(shape, seed, is_hashed):
    """Draw int32 numbers, uniform over all values; equal seeds give equal numbers.

    Args:
        shape: int32 tensor or list, of 1 axis or more.
        seed: int32 tensor [2].
        is_hashed: bool; draw by `_hashed`, which gives the same numbers on all devices and which
            XLA merges into the pass that uses them. Without XLA one kernel draws faster.
    """
    if is_hashed:
        return _hashed(shape, seed)
    bounds = {"minval": tf.int32.min, "maxval": tf.int32.max, "dtype": tf.int32}
    return tf.random.stateless_uniform(shape, seed, **bounds)


def _hashed(shape, seed):
    """Hash the place of every element and a seed, int32 [2], to an int32.

    The row and the column of an element are hashed well, and a multiplication mixes both hashes.
    The hash of a place costs two operations an element; Philox has ten rounds of multiplications.
    It is enough for dropout that the numbers are uniform and independent.
    """
    shape = tf.convert_to_tensor(shape, tf.int32)
    first, second = tf.unstack(seed, num=2)
    xor = tf.bitwise.bitwise_xor
    rows, columns = tf.range(tf.reduce_prod(shape[:-1])), tf.range(shape[-1])
    rows = _finalized(_finalized(xor(rows, first)) + second)
    columns = _finalized(_finalized(xor(columns, second)) + first)
    return tf.reshape(xor(rows[:, tf.newaxis], columns) * _signed(0x85EBCA6B), shape)


def _finalized(bits):
    """Mix the bits of int32 numbers: the finalizer of MurmurHash3."""
    bits = _folded(bits, 16) * _signed(0x85EBCA6B)
    bits = _folded(bits, 13) * _signed(0xC2B2AE35)
    return _folded(bits, 16)


def _folded(bits, shift):
    # TensorFlow 1 cannot multiply uint32. An int32 product has the same bits as a uint32 product,
    # but an int32 shift to the right has other bits, so the shift is computed in uint32.
    shifted = tf.bitwise.right_shift(tf.bitcast(bits, tf.uint32), np.uint32(shift))
    return tf.bitwise.bitwise_xor(bits, tf.bitcast(shifted, tf.int32))


def _signed(number):
    """Return the int32 of the same bits as a uint32."""
    return np.uint32(number).astype(np.int32)
