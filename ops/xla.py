"""Compilation by XLA: of single functions, and of whole computations."""

import functools

import tensorflow.compat.v1 as tf


@functools.lru_cache(maxsize=None)
def compile_function(function):
    """Return a function of tensors as XLA compiles it, into few passes over memory.

    The cache lets equal layers share one compilation.

    Args:
        function: function of a module, not one that is made anew by every call.
    """
    return tf.function(function, jit_compile=True, autograph=False)


def compile_whole(computation):
    """Return what `computation()` returns, a nested structure of tensors, as computed by XLA."""
    structures = []

    def flat_computation():
        structures.append(computation())
        return tf.nest.flatten(structures[0])

    flat = tf.xla.experimental.compile(flat_computation)
    return tf.nest.pack_sequence_as(structures[0], flat)
