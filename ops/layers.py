"""What a layer does between its matrix products, with gradients written out.

These functions pass over whole activations. TensorFlow takes such a pass op by op and keeps most
of what lies between; here each function says what its gradient needs and how it follows from that.
With `fused` XLA compiles forward and backward each into one pass, which pays on a CPU.

Everything is computed in float32, whatever the dtype of the tensors that come and go.

Dimension letters: B batch size, S sequence length, N heads, D size of a head, K any last axis.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from ops.xla import compiled

LAYER_NORM_EPSILON = 1e-12
GELU_SLOPE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


def gelu(x, fused=False):
    """Gaussian error linear unit in its tanh form (arXiv 1606.08415, section 2).

    Args:
        x: float tensor of any shape.
        fused: bool, compile by XLA.
    """

    @tf.custom_gradient
    def function(x):
        return compiled(_gelu, fused)(x), lambda upstream: compiled(_gelu_gradient, fused)(
            upstream, x
        )

    return function(x)


def _gelu(x):
    # No constant meets x alone: TensorFlow Lite would merge it into the weights that made x, and
    # so compute that product once more.
    x32 = tf.cast(x, tf.float32)
    tanh = tf.tanh(x32 * (GELU_SLOPE + GELU_SLOPE * GELU_CUBIC * (x32 * x32)))
    return tf.cast(x32 * (0.5 + 0.5 * tanh), x.dtype)


def _gelu_gradient(upstream, x):
    x32 = tf.cast(x, tf.float32)
    squared = x32 * x32
    tanh = tf.tanh(GELU_SLOPE * x32 * (1.0 + GELU_CUBIC * squared))
    slope = x32 * (1.0 - tanh * tanh) * GELU_SLOPE * (1.0 + 3.0 * GELU_CUBIC * squared)
    return tf.cast(0.5 * tf.cast(upstream, tf.float32) * (1.0 + tanh + slope), x.dtype)


ACTIVATIONS = {
    "gelu": gelu,
    "relu": lambda x, fused=False: tf.nn.relu(x),
    "tanh": lambda x, fused=False: tf.tanh(x),
    "linear": lambda x, fused=False: tf.identity(x),
}


def normalize(x, gamma, beta, fused=False):
    """LayerNorm over the last axis (arXiv 1607.06450, equation 4).

    Args:
        x: float tensor [M, K].
        gamma, beta: float32 [K], scale and shift.
        fused: bool, compile by XLA.

    Returns:
        Tensor like `x`.
    """

    @tf.custom_gradient
    def function(x, gamma, beta):
        output, normal, inverse = compiled(_normalize, fused)(x, gamma, beta)

        def gradient(upstream):
            x_gradient, scaled = compiled(_normalize_gradient, fused)(
                upstream, normal, inverse, gamma
            )
            return x_gradient, column_sums(scaled, fused), column_sums(upstream, fused)

        return output, gradient

    return function(x, gamma, beta)


def _normalize(x, gamma, beta):
    x32 = tf.cast(x, tf.float32)
    centered = x32 - tf.reduce_mean(x32, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centered * centered, axis=-1, keepdims=True)
    inverse = tf.math.rsqrt(variance + LAYER_NORM_EPSILON)  # [M, 1]
    normal = centered * inverse  # [M, K]
    return tf.cast(normal * gamma + beta, x.dtype), normal, inverse


def _normalize_gradient(upstream, normal, inverse, gamma):
    upstream32 = tf.cast(upstream, tf.float32)
    change = upstream32 * gamma
    mean = tf.reduce_mean(change, axis=-1, keepdims=True)  # [M, 1]
    along = tf.reduce_mean(change * normal, axis=-1, keepdims=True)  # [M, 1]
    x_gradient = inverse * (change - mean - along * normal)
    return tf.cast(x_gradient, upstream.dtype), upstream32 * normal


def add_and_normalize(residual, x, dropping, gamma, beta, fused=False):
    """Dropout, the residual's sum and LayerNorm: one pass each way where `fused`.

    Args:
        residual, x: float [M, K]; x is what dropout drops of.
        dropping: `Dropping`, or None for no dropout.
        gamma, beta: float32 [K].
        fused: bool, compile by XLA.

    Returns:
        Tensor like `x`.
    """

    @tf.custom_gradient
    def function(residual, x, gamma, beta):
        output, normal, inverse = compiled(_add_and_normalize, fused)(
            residual, x, dropping, gamma, beta
        )

        def gradient(upstream):
            residual_gradient, x_gradient, scaled = compiled(_add_and_normalize_gradient, fused)(
                upstream, normal, inverse, dropping, gamma
            )
            if x_gradient is None:
                x_gradient = residual_gradient
            gamma_gradient, beta_gradient = column_sums(scaled, fused), column_sums(upstream, fused)
            return residual_gradient, x_gradient, gamma_gradient, beta_gradient

        return output, gradient

    return function(residual, x, gamma, beta)


def _add_and_normalize(residual, x, dropping, gamma, beta):
    dropped = x if dropping is None else _drop(x, dropping)
    return _normalize(residual + dropped, gamma, beta)


def _add_and_normalize_gradient(upstream, normal, inverse, dropping, gamma):
    gradient, scaled = _normalize_gradient(upstream, normal, inverse, gamma)
    return gradient, None if dropping is None else _drop(gradient, dropping), scaled


def column_sums(matrix, fused=False):
    """Sum [M, K] over M, in float32.

    With `fused` as a matrix product: two to three times as fast on a CPU. An accelerator would
    round what goes into a product.
    """
    matrix = tf.cast(matrix, tf.float32)
    if not fused:
        return tf.reduce_sum(matrix, axis=0)
    return tf.matmul(tf.ones([1, tf.shape(matrix)[0]]), matrix)[0]


def linear(rows, kernel, bias, fused=False):
    """Return `rows * kernel + bias`.

    Args:
        rows: float [M, K].
        kernel: float32 [K, W].
        bias: float32 [W].
        fused: bool; the gradient's product gets the kernel transposed in a pass of its own, once
            for all layers that share it: on a CPU up to a third faster than doing both at a time.

    Returns:
        Tensor [M, W] of the dtype of `rows`.
    """

    @tf.custom_gradient
    def function(rows, kernel, bias):
        weights = tf.cast(kernel, rows.dtype)
        output = tf.nn.bias_add(tf.matmul(rows, weights), tf.cast(bias, rows.dtype))

        def gradient(upstream):
            if fused:
                rows_gradient = tf.matmul(upstream, _transposed(weights))
            else:
                rows_gradient = tf.matmul(upstream, weights, transpose_b=True)
            kernel_gradient = tf.matmul(rows, upstream, transpose_a=True)
            bias_gradient = column_sums(upstream, fused)
            return rows_gradient, tf.cast(kernel_gradient, tf.float32), bias_gradient

        return output, gradient

    return function(rows, kernel, bias)


def cross_entropy(logits, labels, fused=False):
    """Cross entropy of the softmax.

    Args:
        logits: float32 [M, V].
        labels: int32 [M].
        fused: bool, compile by XLA.

    Returns:
        float32 [M], in nats.
    """

    @tf.custom_gradient
    def function(logits):
        # Of these the sums are TensorFlow's own: XLA's sums over rows are slow on a CPU.
        largest = tf.reduce_max(logits, axis=-1, keepdims=True)  # [M, 1]
        powers = compiled(_powers, fused)(logits, largest)  # [M, V]
        sums = tf.reduce_sum(powers, axis=-1, keepdims=True)  # [M, 1]
        chosen = tf.gather(logits, labels[:, tf.newaxis], axis=1, batch_dims=1)  # [M, 1]
        losses = (largest + tf.log(sums) - chosen)[:, 0]
        return losses, lambda upstream: compiled(_cross_entropy_gradient, fused)(
            upstream[:, tf.newaxis], powers, sums, labels
        )

    return function(logits)


def _powers(logits, largest):
    return tf.exp(logits - largest)


def _cross_entropy_gradient(upstream, powers, sums, labels):
    classes = tf.range(tf.shape(powers)[1])
    is_label = tf.equal(classes[tf.newaxis, :], labels[:, tf.newaxis])  # [M, V]
    probabilities = powers * (upstream / sums)
    return tf.where(is_label, probabilities - upstream, probabilities)


class Dropping(NamedTuple):
    """What dropout drops of a tensor. It is not kept: the gradient draws the same again."""

    seed: tf.Tensor  # int32 [2]
    threshold: tf.Tensor  # int32 []; what draws less than this is dropped
    scale: tf.Tensor  # float32 []; what is kept is multiplied with it
    is_hashed: bool  # draw by `_hashed`, which XLA merges into the pass that uses it


def make_dropping(rate, seed, fused=False):
    """Return the `Dropping` of a rate in [0, 1) and a seed, int32 [2]; None for rate 0.

    The same seed drops the same, in whatever process; `fused` draws other numbers.
    """
    if not rate:
        return None
    return Dropping(
        seed,
        tf.constant(int(rate * 2**32) - 2**31, tf.int32),
        tf.constant(1.0 / (1.0 - rate), tf.float32),
        fused,
    )


def _drop(tensor, dropping):
    shape = tf.shape(tensor)
    if dropping.is_hashed:
        draws = _hashed(shape, dropping.seed)
    else:
        bounds = {"minval": tf.int32.min, "maxval": tf.int32.max, "dtype": tf.int32}
        draws = tf.random.stateless_uniform(shape, dropping.seed, **bounds)
    kept = tensor * tf.cast(dropping.scale, tensor.dtype)
    return tf.where(draws >= dropping.threshold, kept, tf.zeros_like(tensor))


def _hashed(shape, seed):
    """Hash the place of every element and a seed, int32 [2], to an int32.

    Two rounds of MurmurHash3's finalizer: on a CPU that costs a fraction of Philox' ten rounds,
    and dropout needs no more than numbers that are even and do not depend on each other.
    """
    first, second = tf.unstack(tf.bitcast(seed, tf.uint32), num=2)
    places = tf.bitcast(tf.range(tf.reduce_prod(shape)), tf.uint32)
    mixed = _finalized(_finalized(places ^ first) + second)
    return tf.reshape(tf.bitcast(mixed, tf.int32), shape)


def _finalized(bits):
    bits = (bits ^ tf.bitwise.right_shift(bits, np.uint32(16))) * np.uint32(0x85EBCA6B)
    bits = (bits ^ tf.bitwise.right_shift(bits, np.uint32(13))) * np.uint32(0xC2B2AE35)
    return bits ^ tf.bitwise.right_shift(bits, np.uint32(16))


def drop(tensor, dropping, fused=False):
    """Return a tensor after dropout; `dropping` is its `Dropping`, or None for no dropout."""
    if dropping is None:
        return tensor

    @tf.custom_gradient
    def function(tensor):
        run = compiled(_drop, fused)
        return run(tensor, dropping), lambda upstream: run(upstream, dropping)

    return function(tensor)


def _transposed(matrix):
    """Transpose [K, W] so that TensorFlow does not merge this into a product that it goes into."""
    rows, columns = matrix.shape.as_list()
    transposed = tf.transpose(tf.reshape(matrix, [1, rows, columns]), [0, 2, 1])
    return tf.reshape(transposed, [columns, rows])


def attention(query, key, value, mask, dropping=None, fused=False):
    """Scaled dot-product attention (arXiv 1706.03762, equation 1).

    The gradient of the softmax needs the sum over keys of gradient times probability. That is
    also the sum over D of gradient times output (arXiv 2205.14135, appendix B.2, equation 4): one
    number from D instead of from S.

    Args:
        query: float [B, N, S', D], scaled by 1 / sqrt(D) before.
        key, value: float [B, N, S, D].
        mask: float32 [B, 1, 1, S], added to the scores.
        dropping: `Dropping` of the probabilities [B, N, S', S], or None.
        fused: bool, compile by XLA.

    Returns:
        Tensor like `query`.
    """

    @tf.custom_gradient
    def function(query, key, value):
        scores = tf.matmul(query, key, transpose_b=True)  # [B, N, S', S]
        probabilities = tf.nn.softmax(tf.cast(scores, tf.float32) + mask)
        probabilities = tf.cast(probabilities, query.dtype)
        dropped = drop(probabilities, dropping, fused)
        output = tf.matmul(dropped, value)  # [B, N, S', D]

        def gradient(upstream):
            value_gradient = tf.matmul(dropped, upstream, transpose_a=True)
            change = tf.matmul(upstream, value, transpose_b=True)  # [B, N, S', S]
            change = compiled(_softmax_gradient, fused)(
                change, probabilities, upstream, output, dropping
            )
            query_gradient = tf.matmul(change, key)
            key_gradient = tf.matmul(change, query, transpose_a=True)
            return query_gradient, key_gradient, value_gradient

        return output, gradient

    return function(query, key, value)


def _softmax_gradient(change, probabilities, upstream, output, dropping):
    along = tf.cast(upstream, tf.float32) * tf.cast(output, tf.float32)
    along = tf.reduce_sum(along, axis=-1, keepdims=True)  # [B, N, S', 1]
    dropped = change if dropping is None else _drop(change, dropping)
    result = tf.cast(probabilities, tf.float32) * (tf.cast(dropped, tf.float32) - along)
    return tf.cast(result, change.dtype)


def recomputed(function):
    """Make a function of tensors forget what lies between its inputs and its output.

    Its gradient runs the function once more (arXiv 1604.06174), after the gradient of what
    follows is there and not before.

    Args:
        function: pure function of float tensors that returns one tensor.
    """

    @tf.custom_gradient
    def forgetful(*inputs):
        def gradient(upstream):
            with tf.control_dependencies([upstream]):
                again = [tf.identity(tensor) for tensor in inputs]
            return tf.gradients(function(*again), again, upstream)

        return function(*inputs), gradient

    return forgetful
