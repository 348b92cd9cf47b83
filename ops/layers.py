"""The functions of a layer: gelu, LayerNorm, dropout, attention, with gradients written out.

TensorFlow would run each of these functions operation by operation and keep most intermediate
tensors. Here a function keeps only the tensors that its gradient needs. On a CPU XLA compiles a
function into one pass over memory and its gradient into another (`Layers.fused`).

gelu, LayerNorm, softmax and losses compute in float32; products in the dtype of their inputs.

Dimension letters: B batch size, S sequence length, N heads, D size of a head, K any last axis,
M rows, W width of an output, V vocabulary size, S' number of queries.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from ops.xla import compile_function

LAYER_NORM_EPSILON = 1e-12
GELU_SLOPE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


class Dropping(NamedTuple):
    """Which elements dropout drops. The mask is not kept: the gradient draws it again."""

    seed: tf.Tensor  # int32 [2]
    threshold: tf.Tensor  # int32 []; elements whose draw is below it are dropped
    scale: tf.Tensor  # float32 []; the other elements are multiplied by it
    is_hashed: bool  # draw by `_hashed`, which XLA merges into the pass that uses the draws


class Layers(NamedTuple):
    """The functions of a layer.

    Attributes:
        fused: bool; XLA compiles each function into one pass, which is faster on a CPU.
    """

    fused: bool = False

    def _run(self, function):
        return compile_function(function) if self.fused else function

    def gelu(self, x):
        """Gaussian error linear unit in its tanh form (arXiv 1606.08415, section 2)."""
        run = self._run

        @tf.custom_gradient
        def function(x):
            return run(_gelu)(x), lambda upstream: run(_gelu_gradient)(upstream, x)

        return function(x)

    def activation(self, name):
        """Return a function of a tensor: one of gelu, relu, tanh and linear."""
        return {"gelu": self.gelu, "relu": tf.nn.relu, "tanh": tf.tanh, "linear": tf.identity}[name]

    def normalize(self, x, gamma, beta):
        """LayerNorm over the last axis (arXiv 1607.06450, equation 4).

        Args:
            x: float tensor [M, K].
            gamma, beta: float32 [K], scale and shift.

        Returns:
            Tensor like `x`.
        """

        @tf.custom_gradient
        def function(x, gamma, beta):
            output, normal, inverse = self._run(_normalize)(x, gamma, beta)

            def gradient(upstream):
                x_gradient, scaled = self._run(_normalize_gradient)(
                    upstream, normal, inverse, gamma
                )
                return x_gradient, self.column_sums(scaled), self.column_sums(upstream)

            return output, gradient

        return function(x, gamma, beta)

    def add_and_normalize(self, residual, x, dropping, gamma, beta):
        """Apply dropout to x, add the residual, normalize; `fused` does this in one pass.

        Args:
            residual, x: float [M, K].
            dropping: `Dropping` of x, or None for no dropout.
            gamma, beta: float32 [K].

        Returns:
            Tensor like `x`.
        """

        @tf.custom_gradient
        def function(residual, x, gamma, beta):
            output, normal, inverse = self._run(_add_and_normalize)(
                residual, x, dropping, gamma, beta
            )

            def gradient(upstream):
                residual_gradient, x_gradient, scaled = self._run(_add_and_normalize_gradient)(
                    upstream, normal, inverse, dropping, gamma
                )
                if x_gradient is None:
                    x_gradient = residual_gradient
                sums = self.column_sums(scaled), self.column_sums(upstream)
                return (residual_gradient, x_gradient) + sums

            return output, gradient

        return function(residual, x, gamma, beta)

    def column_sums(self, matrix):
        """Sum [M, K] over M, in float32.

        With `fused` this is a matrix product, which is two to three times as fast on a CPU. An
        accelerator would round the inputs of a product.
        """
        matrix = tf.cast(matrix, tf.float32)
        if not self.fused:
            return tf.reduce_sum(matrix, axis=0)
        return tf.matmul(tf.ones([1, tf.shape(matrix)[0]]), matrix)[0]

    def linear(self, rows, kernel, bias):
        """Return `rows * kernel + bias`.

        With `fused` the gradient first transposes the kernel, once for all layers that share it.
        On a CPU this is up to a third faster than a product that transposes.

        Args:
            rows: float [M, K].
            kernel: float32 [K, W].
            bias: float32 [W].

        Returns:
            Tensor [M, W] of the dtype of `rows`.
        """

        @tf.custom_gradient
        def function(rows, kernel, bias):
            weights = tf.cast(kernel, rows.dtype)
            output = tf.nn.bias_add(tf.matmul(rows, weights), tf.cast(bias, rows.dtype))

            def gradient(upstream):
                if self.fused:
                    rows_gradient = tf.matmul(upstream, _transposed(weights))
                else:
                    rows_gradient = tf.matmul(upstream, weights, transpose_b=True)
                kernel_gradient = tf.matmul(rows, upstream, transpose_a=True)
                bias_gradient = self.column_sums(upstream)
                return rows_gradient, tf.cast(kernel_gradient, tf.float32), bias_gradient

            return output, gradient

        return function(rows, kernel, bias)

    def cross_entropy(self, logits, labels):
        """Cross entropy of the softmax.

        Args:
            logits: float32 [M, V].
            labels: int32 [M].

        Returns:
            float32 [M], in nats.
        """

        @tf.custom_gradient
        def function(logits):
            # TensorFlow computes the sums over rows, because XLA is slow at them on a CPU.
            largest = tf.reduce_max(logits, axis=-1, keepdims=True)  # [M, 1]
            powers = self._run(_powers)(logits, largest)  # [M, V]
            sums = tf.reduce_sum(powers, axis=-1, keepdims=True)  # [M, 1]
            chosen = tf.gather(logits, labels[:, tf.newaxis], axis=1, batch_dims=1)  # [M, 1]
            losses = (largest + tf.log(sums) - chosen)[:, 0]
            return losses, lambda upstream: self._run(_cross_entropy_gradient)(
                upstream[:, tf.newaxis], powers, sums, labels
            )

        return function(logits)

    def make_dropping(self, rate, seed):
        """Return the `Dropping` of a rate in [0, 1) and a seed, int32 [2]; None for rate 0.

        Equal seeds drop equal elements in every process; `fused` draws other numbers.
        """
        if not rate:
            return None
        return Dropping(
            seed,
            tf.constant(int(rate * 2**32) - 2**31, tf.int32),
            tf.constant(1.0 / (1.0 - rate), tf.float32),
            self.fused,
        )

    def drop(self, tensor, dropping):
        """Return a tensor after dropout by a `Dropping`; None means no dropout."""
        if dropping is None:
            return tensor

        @tf.custom_gradient
        def function(tensor):
            run = self._run(_drop)
            return run(tensor, dropping), lambda upstream: run(upstream, dropping)

        return function(tensor)

    def attention(self, query, key, value, mask, dropping=None):
        """Scaled dot-product attention (arXiv 1706.03762, equation 1).

        The gradient of the softmax needs the sum over keys of gradient times probability. The sum
        over D of gradient times output equals it (arXiv 2205.14135, appendix B.2, equation 4) and
        adds D numbers instead of S.

        Args:
            query: float [B, N, S', D], already scaled by 1 / sqrt(D).
            key, value: float [B, N, S, D].
            mask: float32 [B, 1, 1, S], added to the scores.
            dropping: `Dropping` of the probabilities [B, N, S', S], or None.

        Returns:
            Tensor like `query`.
        """

        @tf.custom_gradient
        def function(query, key, value):
            scores = tf.matmul(query, key, transpose_b=True)  # [B, N, S', S]
            probabilities = tf.nn.softmax(tf.cast(scores, tf.float32) + mask)
            probabilities = tf.cast(probabilities, query.dtype)
            dropped = self.drop(probabilities, dropping)
            output = tf.matmul(dropped, value)  # [B, N, S', D]

            def gradient(upstream):
                value_gradient = tf.matmul(dropped, upstream, transpose_a=True)
                change = tf.matmul(upstream, value, transpose_b=True)  # [B, N, S', S]
                change = self._run(_softmax_gradient)(
                    change, probabilities, upstream, output, dropping
                )
                query_gradient = tf.matmul(change, key)
                key_gradient = tf.matmul(change, query, transpose_a=True)
                return query_gradient, key_gradient, value_gradient

            return output, gradient

        return function(query, key, value)


def _gelu(x):
    # No constant is multiplied with x alone: TensorFlow Lite would merge the constant into the
    # weights that x was computed with, and compute that product twice.
    x32 = tf.cast(x, tf.float32)
    tanh = tf.tanh(x32 * (GELU_SLOPE + GELU_SLOPE * GELU_CUBIC * (x32 * x32)))
    return tf.cast(x32 * (0.5 + 0.5 * tanh), x.dtype)


def _gelu_gradient(upstream, x):
    x32 = tf.cast(x, tf.float32)
    squared = x32 * x32
    tanh = tf.tanh(GELU_SLOPE * x32 * (1.0 + GELU_CUBIC * squared))
    slope = x32 * (1.0 - tanh * tanh) * GELU_SLOPE * (1.0 + 3.0 * GELU_CUBIC * squared)
    return tf.cast(0.5 * tf.cast(upstream, tf.float32) * (1.0 + tanh + slope), x.dtype)


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


def _add_and_normalize(residual, x, dropping, gamma, beta):
    dropped = x if dropping is None else _drop(x, dropping)
    return _normalize(residual + dropped, gamma, beta)


def _add_and_normalize_gradient(upstream, normal, inverse, dropping, gamma):
    gradient, scaled = _normalize_gradient(upstream, normal, inverse, gamma)
    return gradient, None if dropping is None else _drop(gradient, dropping), scaled


def _powers(logits, largest):
    return tf.exp(logits - largest)


def _cross_entropy_gradient(upstream, powers, sums, labels):
    classes = tf.range(tf.shape(powers)[1])
    is_label = tf.equal(classes[tf.newaxis, :], labels[:, tf.newaxis])  # [M, V]
    probabilities = powers * (upstream / sums)
    return tf.where(is_label, probabilities - upstream, probabilities)


def _softmax_gradient(change, probabilities, upstream, output, dropping):
    along = tf.cast(upstream, tf.float32) * tf.cast(output, tf.float32)
    along = tf.reduce_sum(along, axis=-1, keepdims=True)  # [B, N, S', 1]
    dropped = change if dropping is None else _drop(change, dropping)
    result = tf.cast(probabilities, tf.float32) * (tf.cast(dropped, tf.float32) - along)
    return tf.cast(result, change.dtype)


def _transposed(matrix):
    """Transpose [K, W] in a way that TensorFlow does not merge into the product that reads it."""
    rows, columns = matrix.shape.as_list()
    transposed = tf.transpose(tf.reshape(matrix, [1, rows, columns]), [0, 2, 1])
    return tf.reshape(transposed, [columns, rows])


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
    """Hash the index of every element and a seed, int32 [2], to an int32.

    The hash is two rounds of MurmurHash3's finalizer. On a CPU they cost a fraction of the ten
    rounds of Philox. Dropout needs numbers that are uniform and independent, not more.
    """
    first, second = tf.unstack(tf.bitcast(seed, tf.uint32), num=2)
    places = tf.bitcast(tf.range(tf.reduce_prod(shape)), tf.uint32)
    mixed = _finalized(_finalized(places ^ first) + second)
    return tf.reshape(tf.bitcast(mixed, tf.int32), shape)


def _finalized(bits):
    bits = (bits ^ tf.bitwise.right_shift(bits, np.uint32(16))) * np.uint32(0x85EBCA6B)
    bits = (bits ^ tf.bitwise.right_shift(bits, np.uint32(13))) * np.uint32(0xC2B2AE35)
    return bits ^ tf.bitwise.right_shift(bits, np.uint32(16))


def recomputed(function):
    """Return a function that keeps only its inputs for the gradient (arXiv 1604.06174).

    The gradient runs the function again. A control dependency delays this until the gradient of
    the function's output exists, so that only one layer's tensors exist at a time.

    Args:
        function: pure function of float tensors that returns one tensor.
    """

    @tf.custom_gradient
    def recomputing(*inputs):
        def gradient(upstream):
            with tf.control_dependencies([upstream]):
                again = [tf.identity(tensor) for tensor in inputs]
            return tf.gradients(function(*again), again, upstream)

        return function(*inputs), gradient

    return recomputing
