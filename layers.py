"""What a layer does between its matrix products, with gradients written out.

These functions pass over whole activations. TensorFlow takes such a pass op by op and keeps most
of what lies between; here each function says what its gradient needs and how it follows from that.
With `fused` XLA compiles forward and backward each into one pass, which pays on a CPU.

Everything is computed in float32, whatever the dtype of the tensors that come and go.

Dimension letters: B batch size, S sequence length, N heads, D size of a head, K any last axis.
"""

import math

import tensorflow.compat.v1 as tf

LAYER_NORM_EPSILON = 1e-12
GELU_SLOPE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


def compiled(function, fused):
    """Return `function` of tensors as it is or, where `fused`, compiled by XLA."""
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


def attention(query, key, value, mask, kept=None, fused=False):
    """Scaled dot-product attention (arXiv 1706.03762, equation 1).

    The gradient of the softmax needs the sum over keys of gradient times probability. That is
    also the sum over D of gradient times output (arXiv 2205.14135, appendix B.2, equation 4): one
    number from D instead of from S.

    Args:
        query: float [B, N, S', D], scaled by 1 / sqrt(D) before.
        key, value: float [B, N, S, D].
        mask: float32 [B, 1, 1, S], added to the scores.
        kept: float [B, N, S', S], what dropout multiplies the probabilities with, or None.
        fused: bool, compile by XLA.

    Returns:
        Tensor like `query`.
    """
    drop = (lambda tensor: tensor) if kept is None else (lambda tensor: tensor * kept)

    @tf.custom_gradient
    def function(query, key, value):
        scores = tf.matmul(query, key, transpose_b=True)  # [B, N, S', S]
        probabilities = tf.nn.softmax(tf.cast(scores, tf.float32) + mask)
        probabilities = tf.cast(probabilities, query.dtype)
        output = tf.matmul(drop(probabilities), value)  # [B, N, S', D]

        def gradient(upstream):
            value_gradient = tf.matmul(drop(probabilities), upstream, transpose_a=True)
            change = drop(tf.matmul(upstream, value, transpose_b=True))  # [B, N, S', S]
            change = compiled(_softmax_gradient, fused)(change, probabilities, upstream, output)
            query_gradient = tf.matmul(change, key)
            key_gradient = tf.matmul(change, query, transpose_a=True)
            return query_gradient, key_gradient, value_gradient

        return output, gradient

    return function(query, key, value)


def _softmax_gradient(change, probabilities, upstream, output):
    along = tf.cast(upstream, tf.float32) * tf.cast(output, tf.float32)
    along = tf.reduce_sum(along, axis=-1, keepdims=True)  # [B, N, S', 1]
    change32, probabilities32 = tf.cast(change, tf.float32), tf.cast(probabilities, tf.float32)
    return tf.cast(probabilities32 * (change32 - along), change.dtype)


def dropout_mask(shape, rate, seed, dtype):
    """Return what dropout multiplies with: 0 at a share `rate` of the places, else 1/(1 - rate).

    Args:
        shape: list of int or int32 scalars.
        rate: float in [0, 1).
        seed: int32 [2]; the same seed gives the same mask, in whatever process.
        dtype: tf.DType of the result.

    Returns:
        Tensor of that shape.
    """
    kept = tf.random.stateless_uniform(shape, seed) >= rate
    return tf.cast(kept, dtype) * tf.cast(1.0 / (1.0 - rate), dtype)


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
