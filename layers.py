"""What a layer does between its matrix products, with gradients written out.

These functions pass over whole activations. TensorFlow takes such a pass op by op and keeps most
of what lies between; here each function says what its gradient needs and how it follows from that.
With `fused` XLA compiles forward and backward each into one pass, which pays on a CPU.

Everything is computed in float32, whatever the dtype of the tensors that come and go.

Dimension letters: B batch size, S sequence length, N heads, D size of a head, K any last axis.
"""

import functools
import math
from typing import NamedTuple

import tensorflow.compat.v1 as tf

LAYER_NORM_EPSILON = 1e-12
GELU_SLOPE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


@functools.lru_cache(maxsize=None)
def compiled(function, fused):
    """Return a function of this module as it is or, where `fused`, compiled by XLA.

    Compiled functions are kept, so that equal layers share one compilation.
    """
    return tf.function(function, jit_compile=True, autograph=False) if fused else function


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
    x32 = tf.cast(x, tf.float32)
    tanh = tf.tanh(GELU_SLOPE * x32 * (1.0 + GELU_CUBIC * x32 * x32))
    return tf.cast(0.5 * x32 * (1.0 + tanh), x.dtype)


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
            return x_gradient, column_sums(scaled), column_sums(tf.cast(upstream, tf.float32))

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


def column_sums(matrix):
    """Sum float32 [M, K] over M; as a matrix product, two to three times as fast on a CPU."""
    ones = tf.ones([1, tf.shape(matrix)[0]])
    return tf.matmul(ones, matrix)[0]


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
            bias_gradient = column_sums(tf.cast(upstream, tf.float32))
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
        losses, log_sums = compiled(_cross_entropy, fused)(logits, labels)
        return losses, lambda upstream: compiled(_cross_entropy_gradient, fused)(
            upstream, logits, labels, log_sums
        )

    return function(logits)


def _cross_entropy(logits, labels):
    largest = tf.reduce_max(logits, axis=-1, keepdims=True)  # [M, 1]
    log_sums = largest + tf.log(tf.reduce_sum(tf.exp(logits - largest), axis=-1, keepdims=True))
    chosen = tf.gather(logits, labels[:, tf.newaxis], axis=1, batch_dims=1)  # [M, 1]
    return (log_sums - chosen)[:, 0], log_sums


def _cross_entropy_gradient(upstream, logits, labels, log_sums):
    classes = tf.range(tf.shape(logits)[1])
    is_label = tf.equal(classes[tf.newaxis, :], labels[:, tf.newaxis])  # [M, V]
    probabilities = tf.exp(logits - log_sums)
    return upstream[:, tf.newaxis] * tf.where(is_label, probabilities - 1.0, probabilities)


# XLA of TensorFlow 1, which compiles for its TPUs, knows no int16.
BITS = tf.int32 if tf.version.VERSION.startswith("1.") else tf.int16


class Dropping(NamedTuple):
    """What dropout drops of a tensor."""

    bits: tf.Tensor  # BITS, uniform, of the tensor's shape
    threshold: tf.Tensor  # BITS []; what has fewer bits than this is dropped
    scale: tf.Tensor  # float32 []; what is kept is multiplied with it


def draw_dropping(shape, rate, seed):
    """Draw what is to be dropped: with the same seed the same, in whatever process.

    Args:
        shape: list of int or int32 scalars.
        rate: float in [0, 1), the share to drop; it is kept to 1/65536.
        seed: int32 [2].

    Returns:
        `Dropping`.
    """
    # Each draw gives two numbers of 16 bits: drawing is what dropout costs on a CPU.
    count, per_draw = tf.reduce_prod(shape), tf.int32.size // BITS.size
    draws = tf.random.stateless_uniform(
        [(count + per_draw - 1) // per_draw],
        seed,
        minval=tf.int32.min,
        maxval=tf.int32.max,
        dtype=tf.int32,
    )
    bits = tf.reshape(tf.bitcast(draws, BITS), [-1])[:count]
    threshold = BITS.min + int(round(rate * 2 ** (8 * BITS.size)))
    return Dropping(
        tf.reshape(bits, shape),
        tf.constant(threshold, BITS),
        tf.constant(1.0 / (1.0 - rate), tf.float32),
    )


def _drop(tensor, dropping):
    kept = tensor * tf.cast(dropping.scale, tensor.dtype)
    return tf.where(dropping.bits >= dropping.threshold, kept, tf.zeros_like(tensor))


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
