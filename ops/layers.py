"""The functions of a layer: gelu, LayerNorm, dropout, attention, with gradients written out.

TensorFlow would run each of these functions operation by operation and keep most intermediate
tensors. In this module a function keeps only the tensors that its gradient needs. On a CPU XLA
compiles a function into one pass over memory and its gradient into another (`Layers.fused`).

gelu, LayerNorm, softmax and losses compute in float32; products in the dtype of their inputs.

Dimension letters: B batch size, S sequence length, N heads, D size of a head, K any last axis,
M rows, W width of an output, V vocabulary size, S' number of queries.
"""

import math
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from ops import dropout
from ops.dropout import drop
from ops.xla import barrier, compile_function

LAYER_NORM_EPSILON = 1e-12
GELU_SLOPE = math.sqrt(2.0 / math.pi)
GELU_CUBIC = 0.044715


class Layers(NamedTuple):
    """The functions of a layer.

    Attributes:
        fused: bool; XLA compiles each function into one pass, which is faster on a CPU.
        compiled: bool; XLA compiles the whole step that calls them, as for a TPU.
    """

    fused: bool = False
    compiled: bool = False

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
            output, normal, inverse = self._run(_normalize)(x, gamma, beta, self.compiled)

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
                residual, x, dropping, gamma, beta, self.compiled
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

        With `fused` this sum is a matrix product, which is two to three times as fast on a CPU. The
        product is not used on an accelerator, which would round its inputs.
        """
        matrix = tf.cast(matrix, tf.float32)
        if not self.fused:
            return tf.reduce_sum(matrix, axis=0)
        return tf.matmul(tf.ones([1, tf.shape(matrix)[0]]), matrix)[0]

    def linear(self, rows, kernel, bias):
        """Return `rows * kernel + bias`.

        With `fused` the gradient first transposes the kernel, once for all layers that share it. On
        a CPU the gradient is then up to a third faster than with a matrix product that transposes
        its input.

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

    def to_heads(self, rows, kernel, bias, batch_size, heads):
        """Project rows to the vectors of attention heads.

        Args:
            rows: float [B*S, K].
            kernel: float32 [K, parts * N * D].
            bias: float32 [parts * N * D].
            batch_size: B, int or int32 [].
            heads: (parts, N, D), ints.

        Returns:
            List of `parts` tensors [B, N, S, D] of the dtype of `rows`.
        """
        if not self.compiled:
            split = tf.reshape(self.linear(rows, kernel, bias), (batch_size, -1) + heads)
            return tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]), num=heads[0])
        width = rows.shape.as_list()[-1]
        sequences = tf.reshape(rows, [batch_size, -1, width])  # [B, S, K]
        kernels = tf.unstack(tf.reshape(kernel, (width,) + heads), axis=1)  # [K, N, D] each
        biases = tf.unstack(tf.reshape(bias, heads))
        return [_to_heads(sequences, *weights) for weights in zip(kernels, biases)]

    def from_heads(self, vectors, kernel, bias):
        """Project the vectors of all heads, float [B, N, S, D], to rows [B*S, W].

        Args:
            vectors: float [B, N, S, D].
            kernel: float32 [N * D, W].
            bias: float32 [W].
        """
        heads, size = vectors.shape.as_list()[1], vectors.shape.as_list()[3]
        if not self.compiled:
            rows = tf.reshape(tf.transpose(vectors, [0, 2, 1, 3]), [-1, heads * size])
            return self.linear(rows, kernel, bias)
        width = kernel.shape.as_list()[1]
        kernel = tf.reshape(kernel, [heads, size, width])
        return tf.reshape(_from_heads(vectors, kernel, bias), [-1, width])

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
            chosen = self._chosen(logits, labels)  # [M, 1]
            losses = (largest + tf.log(sums) - chosen)[:, 0]
            return losses, lambda upstream: self._run(_cross_entropy_gradient)(
                upstream[:, tf.newaxis], powers, sums, labels
            )

        return function(logits)

    def _chosen(self, logits, labels):
        """Return the logit of each row's label: [M, 1]."""
        if self.compiled:  # on a TPU, a gather takes longer than a sum over whole rows
            return tf.reduce_sum(
                tf.where(_is_label(logits, labels), logits, tf.zeros_like(logits)), -1, True
            )
        return tf.gather(logits, labels[:, tf.newaxis], axis=1, batch_dims=1)

    def draws(self, shape, seed):
        """Draw int32 numbers of a shape; equal seeds, int32 [2], give equal numbers."""
        return dropout.draw(shape, seed, self._hashes)

    def make_dropping(self, rate, seed):
        """Return the `Dropping` of a rate in [0, 1) and a seed, int32 [2]; None for rate 0."""
        return dropout.make_dropping(rate, seed, self._hashes)

    def dropout(self, tensor, rate, seed):
        """Drop elements with probability `rate`, the same for equal seeds; rate 0 adds no op."""
        return self.drop(tensor, self.make_dropping(rate, seed))

    @property
    def _hashes(self):
        """Whether XLA merges a hash into the pass that uses its numbers."""
        return self.fused or self.compiled

    def _softmax(self, scores, dtype):
        """Return (powers, inverse): their product is the softmax; an inverse of None means 1.

        For a TPU the inverse multiplies the products of the powers and not the powers, because the
        products are smaller tensors. In float16 these products could overflow.

        Args:
            scores: float32 [B, N, S', S].
            dtype: of the powers.
        """
        if not self.compiled or dtype == tf.float16:
            return tf.cast(tf.nn.softmax(scores), dtype), None
        largest = tf.reduce_max(scores, axis=-1, keepdims=True)
        powers = tf.exp(scores - largest)
        return tf.cast(powers, dtype), 1.0 / tf.reduce_sum(powers, axis=-1, keepdims=True)

    def drop(self, tensor, dropping):
        """Return a tensor after dropout by a `Dropping`; None means no dropout."""
        if dropping is None:
            return tensor

        @tf.custom_gradient
        def function(tensor):
            run = self._run(drop)
            return run(tensor, dropping), lambda upstream: run(upstream, dropping)

        return function(tensor)

    def attention(self, query, key, value, mask, dropping):
        """Scaled dot-product attention (arXiv 1706.03762, equation 1).

        The gradient of the softmax needs the sum over keys of gradient times probability. This sum
        equals the sum over D of gradient times output (arXiv 2205.14135, appendix B.2, equation 4),
        which adds D numbers instead of S.

        Args:
            query: float [B, N, S', D], already scaled by 1 / sqrt(D).
            key, value: float [B, N, S, D].
            mask: float32 [B, 1, 1 or S', S], added to the scores.
            dropping: `Dropping` of the probabilities [B, N, S', S], or None.

        Returns:
            Tensor like `query`.
        """

        @tf.custom_gradient
        def function(query, key, value):
            scores = tf.matmul(query, key, transpose_b=True)  # [B, N, S', S]
            # The mask is added in the dtype of the scores, so that a TPU keeps the sums and reads
            # the mask once. Where the mask is 0, the scores are not rounded.
            scores = tf.cast(scores + tf.cast(mask, scores.dtype), tf.float32)
            powers, inverse = self._softmax(scores, query.dtype)
            dropped = self.drop(powers, dropping)
            output = _scaled(tf.matmul(dropped, value), inverse)  # [B, N, S', D]

            def gradient(upstream):
                scaled = _scaled(upstream, inverse)
                value_gradient = tf.matmul(dropped, scaled, transpose_a=True)
                change = tf.matmul(scaled, value, transpose_b=True)  # [B, N, S', S]
                change = self._run(_softmax_gradient)(change, powers, scaled, output, dropping)
                query_gradient = tf.matmul(change, key)
                key_gradient = tf.matmul(change, query, transpose_a=True)
                return query_gradient, key_gradient, value_gradient

            return output, gradient

        return function(query, key, value)


@tf.custom_gradient
def _to_heads(sequences, kernel, bias):
    """[B, S, K] times [K, N, D] plus [N, D]: [B, N, S, D]."""
    weights = tf.cast(kernel, sequences.dtype)
    # An einsum leaves the order of the product's axes to XLA. A product of rows would split its
    # last axis into N and D, and a TPU would copy the result from tile to tile.
    output = tf.einsum("bsk,knd->bnsd", sequences, weights)
    output += tf.cast(bias, sequences.dtype)[:, tf.newaxis]

    def gradient(upstream):
        return (
            tf.einsum("bnsd,knd->bsk", upstream, weights),
            tf.cast(tf.einsum("bsk,bnsd->knd", sequences, upstream), tf.float32),
            tf.reduce_sum(tf.cast(upstream, tf.float32), [0, 2]),
        )

    return output, gradient


@tf.custom_gradient
def _from_heads(vectors, kernel, bias):
    """[B, N, S, D] times [N, D, W] plus [W]: [B, S, W]."""
    weights = tf.cast(kernel, vectors.dtype)
    output = tf.einsum("bnsd,ndw->bsw", vectors, weights) + tf.cast(bias, vectors.dtype)

    def gradient(upstream):
        return (
            tf.einsum("bsw,ndw->bnsd", upstream, weights),
            tf.cast(tf.einsum("bnsd,bsw->ndw", vectors, upstream), tf.float32),
            tf.reduce_sum(tf.cast(upstream, tf.float32), [0, 1]),
        )

    return output, gradient


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


def _normalize(x, gamma, beta, in_one_pass):
    """Return (output, normalized x, 1 / deviation).

    in_one_pass: compute the variance as mean of squares minus square of mean. A TPU then reads x
    once. The result is less exact where the mean is much larger than the deviation. No row
    of a model has such a mean.
    """
    x32 = tf.cast(x, tf.float32)
    mean = tf.reduce_mean(x32, axis=-1, keepdims=True)
    centered = x32 - mean
    if in_one_pass:
        squares = tf.reduce_mean(x32 * x32, axis=-1, keepdims=True)
        variance = tf.maximum(squares - mean * mean, 0.0)
    else:
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


def _add_and_normalize(residual, x, dropping, gamma, beta, in_one_pass):
    dropped = x if dropping is None else drop(x, dropping)
    return _normalize(residual + dropped, gamma, beta, in_one_pass)


def _add_and_normalize_gradient(upstream, normal, inverse, dropping, gamma):
    gradient, scaled = _normalize_gradient(upstream, normal, inverse, gamma)
    return gradient, None if dropping is None else drop(gradient, dropping), scaled


def _powers(logits, largest):
    return tf.exp(logits - largest)


def _cross_entropy_gradient(upstream, powers, sums, labels):
    probabilities = powers * (upstream / sums)
    return tf.where(_is_label(powers, labels), probabilities - upstream, probabilities)


def _is_label(scores, labels):
    """Return a bool [M, V]: whether the class is the row's label."""
    # On a GPU, TensorFlow compares float32 numbers, but copies int32 numbers to the host.
    classes = tf.range(tf.cast(tf.shape(scores)[1], tf.float32))
    return tf.equal(classes[tf.newaxis, :], tf.cast(labels, tf.float32)[:, tf.newaxis])


def _softmax_gradient(change, probabilities, upstream, output, dropping):
    along = tf.cast(upstream, tf.float32) * tf.cast(output, tf.float32)
    along = tf.reduce_sum(along, axis=-1, keepdims=True)  # [B, N, S', 1]
    dropped = change if dropping is None else drop(change, dropping)
    result = tf.cast(probabilities, tf.float32) * (tf.cast(dropped, tf.float32) - along)
    return tf.cast(result, change.dtype)


def _scaled(tensor, factor):
    """Multiply by a float32 factor; None means 1."""
    if factor is None:
        return tensor
    return tf.cast(tf.cast(tensor, tf.float32) * factor, tensor.dtype)


def _transposed(matrix):
    """Transpose [K, W] in a way that TensorFlow does not merge into the product that reads it."""
    rows, columns = matrix.shape.as_list()
    transposed = tf.transpose(tf.reshape(matrix, [1, rows, columns]), [0, 2, 1])
    return tf.reshape(transposed, [columns, rows])


def recomputed(function, compiled):
    """Return a function that keeps only its inputs for the gradient (arXiv 1604.06174).

    The gradient runs `function` again only when the gradient of its output exists. The second run
    ends before the gradient of an earlier layer begins, so that only one layer's tensors exist at a
    time. A control dependency delays the second run of `function`. XLA ignores control dependencies
    and merges equal computations, so under XLA barriers delay and end the second run.

    Args:
        function: pure function of a float tensor and of weights that returns a tensor.
        compiled: bool, whether XLA compiles the whole step.

    Returns:
        Function of the arguments of `function` that returns the output, then the weights. The next
        layer should take its weights from this result. Then each layer adds its gradient to the sum
        of the later layers. Without this sum XLA would keep the gradients of all layers and add
        them up at the end.
    """

    @tf.custom_gradient
    def recomputing(*inputs):
        def gradient(upstream, *sums):
            if compiled:
                upstream, *again = barrier((upstream,) + inputs)
            else:
                with tf.control_dependencies([upstream]):
                    again = [tf.identity(tensor) for tensor in inputs]
            first, *others = tf.gradients(function(*again), again, upstream)
            gradients = [first] + [a + b for a, b in zip(others, sums)]
            return barrier(gradients) if compiled else gradients

        return (function(*inputs),) + inputs[1:], gradient

    return recomputing
