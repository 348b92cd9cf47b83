"""Compilation by XLA: of single functions, and of whole computations."""

import functools

import tensorflow.compat.v1 as tf


@functools.lru_cache(maxsize=None)
def compile_function(function):
    """Return a function of tensors compiled by XLA, which needs fewer passes over memory.

    The cache lets equal layers share one compilation.

    Args:
        function: function of a module; a new function for every call would miss the cache.
    """
    return tf.function(function, jit_compile=True, autograph=False)


def barrier(tensors):
    """Return the tensors as values that XLA neither merges with others nor computes earlier.

    XLA keeps the barrier on TPU and GPU. On a CPU, XLA of TensorFlow 2.15 refuses the barrier.
    TensorFlow 1 has no barrier.

    Args:
        tensors: tuple or list of tensors.
    """
    from tensorflow.compiler.tf2xla.python.xla import optimization_barrier

    return list(optimization_barrier(*tensors))


def compile_whole(computation):
    """Compile `computation()` by XLA; return its result, a nested structure of tensors."""
    structures = []

    def flat_computation():
        structures.append(computation())
        return tf.nest.flatten(structures[0])

    flat = tf.xla.experimental.compile(flat_computation)
    return tf.nest.pack_sequence_as(structures[0], flat)
