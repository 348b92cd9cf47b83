"""ALBERT (arXiv 1909.11942) and its heads, in two published layouts: albert_zh and google.

ALBERT differs from BERT in three things: a factorized embedding (V*E + E*H weights instead of V*H),
layers that share their weights, and a head that predicts the order of two segments. Fields of
`AlbertConfig` choose among the variants. The published checkpoints have the same variable names.

Dimension letters:
    B  batch size                 V  vocabulary size         N  attention heads
    S  sequence length            E  embedding size          D  size of one head, H / N
    H  hidden size                I  intermediate size       P  predictions per row
    L  layers                     K  chunks of a row         Q  outputs of the last layer

A row of a batch is one sequence, or, with `Packing`, several chunks: K is 1 without packing.
"""

import copy
import dataclasses
import functools
import math
from typing import NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf

from common.albert_config import AlbertConfig
from ops.layers import Layers, recomputed

# Added to the attention scores of padding, so that its probability becomes 0.
MASKED_SCORE = -10000.0
# Keeps the MLM loss finite for a batch without predictions; as published.
LOSS_EPSILON = 1e-5

# ------------------------------------------------------------------------------------ model


class Execution(NamedTuple):
    """How a model is computed. Results differ only by rounding and by the draws of dropout."""

    dtype: str = "float32"  # of activations; weights, LayerNorm, softmax, losses stay float32
    recompute: bool = False  # keep only each layer's input; recompute the rest for the gradient
    fused: bool = False  # XLA compiles everything between matrix products; faster on a CPU
    compiled: bool = False  # XLA compiles the whole step, as for a TPU
    for_tpu: bool = False  # look words up by a matrix product, which a TPU does faster

    @property
    def layers(self):
        """The `ops.layers.Layers` of this execution."""
        return Layers(self.fused, self.compiled)


PLAIN = Execution()


class Packing(NamedTuple):
    """Where the chunks of each row are. The model computes each chunk as if it were alone.

    A position attends only to positions of its own chunk, and positions count from the start of the
    chunk. Chunks follow one another, padding comes last, and a row may have fewer than K chunks.
    """

    chunk_ids: tf.Tensor  # int32 [B, S], 1 to K, the number of a position's chunk; 0 for padding
    position_ids: tf.Tensor  # int32 [B, S], the position inside the chunk; 0 for padding
    chunk_starts: tf.Tensor  # int32 [B, K], where [CLS] of each chunk is; 0 for a missing chunk


class AlbertModel(object):
    """The encoder: from ids to a vector for each position and one for each sequence.

    Args:
        config: `AlbertConfig`.
        is_training: bool; dropout works only when it is True.
        input_ids: int32 [B, S].
        input_mask: int32 [B, S], 1 for real pieces and 0 for padding; default all 1. Packed rows
            need none.
        token_type_ids: int32 [B, S], 0 for segment A and 1 for segment B; default all 0.
        execution: `Execution`.
        dropout_seed: int32 [2], decides which elements are dropped; default: a random seed.
        output_positions: int32 [B, P]; the last layer is computed only at [CLS] and at these
            positions. The result is exact, since no output depends on other outputs of the same
            layer. Default: all positions.
        packing: `Packing`, or None where every row is one sequence.
        scope: str, the variable scope; default `bert`, as in the published checkpoints.

    Raises:
        UserError: if S is larger than the position table.
        ValueError: if `input_ids` is not of rank 2.
    """

    def __init__(
        self,
        config,
        is_training,
        input_ids,
        input_mask=None,
        token_type_ids=None,
        execution=PLAIN,
        dropout_seed=None,
        output_positions=None,
        packing=None,
        scope=None,
    ):
        config = copy.copy(config)
        if not is_training:
            config.hidden_dropout_prob = 0.0
            config.attention_probs_dropout_prob = 0.0
        self.config = config
        _check_rank(input_ids, 2, "input_ids")
        if token_type_ids is None:
            token_type_ids = tf.zeros_like(input_ids)

        self.execution = execution
        self.output_positions = output_positions
        self.packing = packing
        self.dropout_seeds = dropout_seeds(config, execution.layers, dropout_seed)

        with tf.variable_scope(scope, default_name="bert"):
            with tf.variable_scope("embeddings"):
                words, self.embedding_table, self.embedding_projection = embed_words(
                    input_ids, config, execution
                )
                self.embedding_output = embedding_postprocessor(
                    tf.cast(words, execution.dtype),
                    token_type_ids,
                    config,
                    execution,
                    self.dropout_seeds.embedding,
                    packing and packing.position_ids,
                )
            with tf.variable_scope("encoder"):
                if packing is None:
                    mask = attention_mask(
                        tf.ones_like(input_ids) if input_mask is None else input_mask
                    )
                else:
                    mask = packed_attention_mask(packing.chunk_ids, packing.chunk_ids)
                self.all_encoder_layers = transformer_model(
                    self._project_embeddings(),
                    mask,
                    config,
                    execution,
                    self.dropout_seeds.layers,
                    output_rows(output_positions, mask, packing),
                )
            self.sequence_output = self.all_encoder_layers[-1]  # [B, S, H]
            with tf.variable_scope("pooler"):
                self.pooled_output = dense(
                    self._first_outputs(), config.hidden_size, "dense", config, tf.tanh
                )  # [B*K, H]

    def _project_embeddings(self):
        """Return the encoder's input [B, S, H]; the google layout projects E to H here."""
        if self.config.embedding_width == self.config.hidden_size or self.config.layout != "google":
            return self.embedding_output
        return dense(
            self.embedding_output,
            self.config.hidden_size,
            "embedding_hidden_mapping_in",
            self.config,
        )

    def _first_outputs(self):
        """Return the last layer at every [CLS]: [B*K, H]."""
        if self.packing is None:
            return self.sequence_output[:, 0]
        if self.output_positions is None:
            return gather_positions(self.sequence_output, self.packing.chunk_starts)
        first = self.sequence_output[:, : self._num_first]  # [B, K, H]
        return tf.reshape(first, [-1, self.config.hidden_size])

    @property
    def _num_first(self):
        """K, the number of [CLS] of a row, which come first in the outputs of the last layer."""
        return _shape(self.packing.chunk_starts)[1] if self.packing else 1

    def outputs_at(self, positions):
        """Return the last layer at `positions`, int32 [B, P]: [B*P, H].

        Raises:
            ValueError: if the model was made with other `output_positions`.
        """
        if self.output_positions is None:
            return gather_positions(self.sequence_output, positions)
        if positions is not self.output_positions:
            raise ValueError("the last layer was computed at other positions")
        others = self.sequence_output[:, self._num_first :]  # [B, P, H]
        return tf.reshape(others, [-1, self.config.hidden_size])

    def get_pooled_output(self):
        """Return [B*K, H]: every [CLS] of the last layer through a tanh layer."""
        return self.pooled_output

    def get_sequence_output(self):
        """Return the last layer, [B, S, H]; with `output_positions` [B, K + P, H]."""
        return self.sequence_output

    def get_all_encoder_layers(self):
        """Return the outputs of all layers, first to last: a list of L tensors [B, S, H]."""
        return self.all_encoder_layers

    def get_embedding_output(self):
        """Return the input of the encoder, [B, S, H] (albert_zh) or [B, S, E] (google)."""
        return self.embedding_output

    def get_embedding_table(self):
        """Return the word embeddings, float32 [V, E]."""
        return self.embedding_table

    def get_embedding_projection(self):
        """Return `word_embeddings_2`, float32 [E, H], or None where the layout has none."""
        return self.embedding_projection


# ------------------------------------------------------------------------------- embeddings


def embed_words(input_ids, config, execution=PLAIN):
    """Look up word embeddings [E]; the albert_zh layout projects them to H (paper, section 3.1).

    Args:
        input_ids: int32 [B, S].
        config: `AlbertConfig`.
        execution: `Execution`.

    Returns:
        (words float32 [B, S, H] for albert_zh or [B, S, E] for google, table float32 [V, E],
        projection float32 [E, H] or None).
    """
    vocab_size, width = config.vocab_size, config.embedding_width
    initializer = _normal(config.initializer_range)
    table = tf.get_variable("word_embeddings", [vocab_size, width], initializer=initializer)
    if execution.for_tpu:
        one_hot = tf.one_hot(tf.reshape(input_ids, [-1]), depth=vocab_size)
        words = tf.reshape(tf.matmul(one_hot, table), _shape(input_ids) + [width])
    else:
        words = tf.gather(table, input_ids)
    if config.layout != "albert_zh" or config.embedding_size is None:
        return words, table, None
    projection = tf.get_variable(
        "word_embeddings_2", [width, config.hidden_size], initializer=initializer
    )
    return _matmul_last(words, projection), table, projection


def embedding_postprocessor(
    words, token_type_ids, config, execution=PLAIN, seed=None, position_ids=None
):
    """Add type and position embeddings, then apply LayerNorm and dropout.

    Args:
        words: float [B, S, W], W being H (albert_zh) or E (google).
        token_type_ids: int32 [B, S].
        config: `AlbertConfig`.
        execution: `Execution`.
        seed: int32 [2], the seed of dropout.
        position_ids: int32 [B, S], numbers below S; None for 0 to S - 1 in every row.

    Returns:
        Tensor like `words`.

    Raises:
        UserError: if S is larger than the position table.
    """
    shape = _shape(words)
    sequence_length, width = shape[1:]
    if isinstance(sequence_length, int):
        config.check_sequence_length(sequence_length)
    initializer = _normal(config.initializer_range)
    types = tf.get_variable(
        "token_type_embeddings", [config.type_vocab_size, width], initializer=initializer
    )
    positions = tf.get_variable(
        "position_embeddings", [config.max_position_embeddings, width], initializer=initializer
    )
    # The table of types is so small that a product is faster than a gather on every device.
    one_hot_types = tf.one_hot(token_type_ids, config.type_vocab_size, dtype=words.dtype)
    words += _matmul_last(one_hot_types, types)
    positions = tf.cast(positions[:sequence_length], words.dtype)  # [S, W]
    if position_ids is None:
        words += positions  # broadcast over B
    elif execution.for_tpu:
        words += _matmul_last(
            tf.one_hot(position_ids, sequence_length, dtype=words.dtype), positions
        )
    else:
        words += tf.gather(positions, position_ids)
    words = layer_norm(tf.reshape(words, [-1, width]), "LayerNorm", execution.layers)
    words = execution.layers.dropout(words, config.hidden_dropout_prob, seed)
    return tf.reshape(words, shape)


# ---------------------------------------------------------------------------------- encoder


class LayerScopes(NamedTuple):
    """The scopes of one layer's variables in a layout, inside the layer's own scope."""

    self_attention: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str


LAYER_SCOPES = {
    "albert_zh": LayerScopes(
        self_attention="attention/self",
        attention_output="attention/output/dense",
        attention_norm="attention/output/LayerNorm",
        intermediate="intermediate/dense",
        output="output/dense",
        output_norm="output/LayerNorm",
    ),
    "google": LayerScopes(
        self_attention="attention_1/self",
        attention_output="attention_1/output/dense",
        attention_norm="LayerNorm",
        intermediate="ffn_1/intermediate/dense",
        output="ffn_1/intermediate/output/dense",
        output_norm="LayerNorm_1",
    ),
}


class AttentionWeights(NamedTuple):
    """The variables of one attention sublayer; layers that share them read them only once."""

    qkv_kernel: tf.Tensor  # [H, 3H]; the query part is already divided by sqrt(D)
    qkv_bias: tf.Tensor  # [3H]
    output_kernel: tf.Tensor  # [H, H]
    output_bias: tf.Tensor  # [H]
    gamma: tf.Tensor  # [H]
    beta: tf.Tensor  # [H]


class FeedForwardWeights(NamedTuple):
    """The variables of one feed-forward sublayer."""

    intermediate_kernel: tf.Tensor  # [H, I]
    intermediate_bias: tf.Tensor  # [I]
    output_kernel: tf.Tensor  # [I, H]
    output_bias: tf.Tensor  # [H]
    gamma: tf.Tensor  # [H]
    beta: tf.Tensor  # [H]


class LayerContext(NamedTuple):
    """The arguments of a layer other than its input and its weights."""

    config: AlbertConfig
    execution: Execution
    batch_size: object  # B, int or int32 []
    mask: tf.Tensor  # float32 [B, 1, 1 or rows, S], added to the attention scores
    seeds: list  # three int32 [2]: dropout of probabilities, attention output, layer output
    places: Optional[tf.Tensor]  # int32 [B*Q], rows of [B*S, H] to compute; None for all


class OutputRows(NamedTuple):
    """What the last layer computes."""

    positions: tf.Tensor  # int32 [B, Q]: every [CLS], then the output positions
    mask: tf.Tensor  # float32 [B, 1, 1 or Q, S], added to their attention scores


def output_rows(output_positions, mask, packing=None):
    """Return the `OutputRows` of output positions, int32 [B, P]; None for all positions.

    Args:
        output_positions: int32 [B, P], or None.
        mask: float32 [B, 1, 1 or S, S], of all positions.
        packing: `Packing` or None.
    """
    if output_positions is None:
        return None
    if packing is None:
        return OutputRows(tf.pad(output_positions, [[0, 0], [1, 0]]), mask)
    positions = tf.concat([packing.chunk_starts, output_positions], axis=1)  # [B, K + P]
    chunks = tf.gather(packing.chunk_ids, positions, batch_dims=1)
    return OutputRows(positions, packed_attention_mask(chunks, packing.chunk_ids))


def transformer_model(input_tensor, mask, config, execution=PLAIN, seeds=None, last_rows=None):
    """Run the layers, each with its own or with shared weights (section 3.1 of the paper).

    Args:
        input_tensor: float [B, S, H].
        mask: float32 [B, 1, 1 or S, S], added to the attention scores.
        config: `AlbertConfig`.
        execution: `Execution`.
        seeds: list of `LayerContext.seeds`, one for each layer; needed for dropout.
        last_rows: `OutputRows`; None to compute the last layer at all positions.

    Returns:
        List of tensors [B, S, H], one for each layer, inner layers of a group included; with
        last_rows the last one is [B, Q, H].
    """
    batch_size, length, width = _shape(input_tensor)
    attentions, ffns = {}, {}  # weights by scope: shared ones are read once
    hidden = tf.reshape(input_tensor, [-1, width])  # [B*S, H]
    places = None
    outputs = []
    depth = config.num_hidden_layers * config.inner_group_num
    for index in range(depth):
        layer, inner = divmod(index, config.inner_group_num)
        attention_scope = layer_scope(config, layer, inner, "attention")
        if attention_scope not in attentions:
            with tf.variable_scope(attention_scope, reuse=tf.AUTO_REUSE):
                attentions[attention_scope] = get_attention_weights(config)
        ffn_scope = layer_scope(config, layer, inner, "ffn")
        if ffn_scope not in ffns:
            with tf.variable_scope(ffn_scope, reuse=tf.AUTO_REUSE):
                ffns[ffn_scope] = get_feed_forward_weights(config)
        if index == depth - 1 and last_rows is not None:
            places, mask = flat_places(last_rows.positions, length), last_rows.mask
            length = _shape(last_rows.positions)[1]
        layer_seeds = seeds[index] if seeds else NO_SEEDS
        context = LayerContext(config, execution, batch_size, mask, layer_seeds, places)
        with tf.name_scope("layer_{}_{}".format(layer, inner)):
            hidden, attentions[attention_scope], ffns[ffn_scope] = transformer_layer(
                hidden, attentions[attention_scope], ffns[ffn_scope], context
            )
        outputs.append(tf.reshape(hidden, [batch_size, length, width]))
    return outputs


def layer_scope(config, layer, inner, sublayer):
    """Return the variable scope of a layer's sublayer. Layers share weights by sharing a scope.

    Args:
        config: `AlbertConfig`.
        layer: int, index of the layer; inner: int, index within its group.
        sublayer: `attention` or `ffn`.
    """
    shared = config.parameter_sharing in ("all", sublayer)
    if config.layout == "albert_zh":
        return "layer_shared" if shared else "layer_{}".format(layer)
    group = layer * config.num_hidden_groups // config.num_hidden_layers if shared else layer
    return "transformer/group_{}/inner_group_{}".format(group, inner)


def get_attention_weights(config):
    """Create or reuse the variables of an attention sublayer in the current scope."""
    scopes = LAYER_SCOPES[config.layout]
    width = config.hidden_size
    kernels, biases = [], []
    for name in ("query", "key", "value"):
        kernel, bias = get_dense_weights(
            "{}/{}".format(scopes.self_attention, name), width, width, config
        )
        kernels.append(kernel)
        biases.append(bias)
    # Scaling [H, H] here is cheaper than scaling [B, N, S, S] scores in every layer.
    scale = 1.0 / math.sqrt(width // config.num_attention_heads)
    kernels[0] *= scale
    biases[0] *= scale
    return AttentionWeights(
        tf.concat(kernels, axis=1),
        tf.concat(biases, axis=0),
        *get_dense_weights(scopes.attention_output, width, width, config)
        + get_norm_weights(scopes.attention_norm, width),
    )


def get_feed_forward_weights(config):
    """Create or reuse the variables of a feed-forward sublayer in the current scope."""
    scopes = LAYER_SCOPES[config.layout]
    width, inner_width = config.hidden_size, config.intermediate_size
    return FeedForwardWeights(
        *get_dense_weights(scopes.intermediate, width, inner_width, config)
        + get_dense_weights(scopes.output, inner_width, width, config)
        + get_norm_weights(scopes.output_norm, width)
    )


def transformer_layer(hidden, attention_weights, feed_forward_weights, context):
    """One layer: attention and feed-forward, float [B*S, H] to [B*S, H] or [B*Q, H].

    Args:
        hidden: float [B*S, H].
        attention_weights: `AttentionWeights`.
        feed_forward_weights: `FeedForwardWeights`.
        context: `LayerContext`.

    Returns:
        (output, attention weights, feed-forward weights), the weights for the next layer that
        shares them, see `ops.layers.recomputed`.
    """
    split = len(attention_weights)

    def layer(hidden, *weights):
        hidden = attention_sublayer(hidden, AttentionWeights(*weights[:split]), context)
        return feed_forward_sublayer(hidden, FeedForwardWeights(*weights[split:]), context)

    weights = attention_weights + feed_forward_weights
    if context.execution.recompute:
        layer = recomputed(layer, context.execution.compiled)
        hidden, *weights = layer(hidden, *weights)
    else:
        hidden = layer(hidden, *weights)
    return hidden, AttentionWeights(*weights[:split]), FeedForwardWeights(*weights[split:])


def attention_sublayer(hidden, weights, context):
    """Attention of N heads, residual and LayerNorm.

    Args:
        hidden: float [B*S, H].
        weights: `AttentionWeights`.
        context: `LayerContext`.

    Returns:
        Tensor like `hidden`; if `context.places` is given, only these rows of it.
    """
    config, width = context.config, context.config.hidden_size
    layers = context.execution.layers
    source = _norm_before(hidden, weights, context)
    kernel, bias = weights.qkv_kernel, weights.qkv_bias
    heads = config.num_attention_heads, width // config.num_attention_heads
    batch = context.batch_size
    if context.places is None:
        query, key, value = layers.to_heads(source, kernel, bias, batch, (3,) + heads)
    else:
        others = kernel[:, width:], bias[width:]
        key, value = layers.to_heads(source, *others, batch, (2,) + heads)
        hidden, source = [tf.gather(rows, context.places) for rows in (hidden, source)]
        first = kernel[:, :width], bias[:width]
        (query,) = layers.to_heads(source, *first, batch, (1,) + heads)
    rate = config.attention_probs_dropout_prob
    dropping = layers.make_dropping(rate, context.seeds[0])
    output = layers.attention(query, key, value, context.mask, dropping)
    output = layers.from_heads(output, weights.output_kernel, weights.output_bias)
    return _add_residual(hidden, output, context.seeds[1], weights, context)


def feed_forward_sublayer(hidden, weights, context):
    """Two dense layers, residual and LayerNorm.

    Args:
        hidden: float [B*S, H].
        weights: `FeedForwardWeights`.
        context: `LayerContext`.

    Returns:
        Tensor like `hidden`.
    """
    layers = context.execution.layers
    source = _norm_before(hidden, weights, context)
    inner = layers.linear(source, weights.intermediate_kernel, weights.intermediate_bias)
    inner = layers.activation(context.config.hidden_act)(inner)  # [B*S, I]
    output = layers.linear(inner, weights.output_kernel, weights.output_bias)
    return _add_residual(hidden, output, context.seeds[2], weights, context)


def _norm_before(hidden, weights, context):
    if context.config.ln_type == "postln":
        return hidden
    return context.execution.layers.normalize(hidden, weights.gamma, weights.beta)


def _add_residual(hidden, output, seed, weights, context):
    """Apply dropout to a sublayer's output, add its input and, in post-LN, normalize the sum."""
    layers = context.execution.layers
    dropping = layers.make_dropping(context.config.hidden_dropout_prob, seed)
    if context.config.ln_type == "preln":
        return hidden + layers.drop(output, dropping)
    return layers.add_and_normalize(hidden, output, dropping, weights.gamma, weights.beta)


def attention_mask(input_mask):
    """Turn a mask of pieces, int32 [B, S], into values added to scores, float32 [B, 1, 1, S]."""
    # TensorFlow Lite has no tf.newaxis for tensors of dynamic shape.
    mask = tf.expand_dims(tf.expand_dims(input_mask, 1), 1)
    return (1.0 - tf.cast(mask, tf.float32)) * MASKED_SCORE


def packed_attention_mask(query_chunks, key_chunks):
    """Let positions attend to their own chunk: int32 [B, Q] and [B, S] to float32 [B, 1, Q, S].

    Padding attends to padding, which changes no piece, because no piece attends to padding.
    """
    # On a GPU, TensorFlow compares float32 numbers, but copies int32 numbers to the host.
    queries, keys = (tf.cast(chunks, tf.float32) for chunks in (query_chunks, key_chunks))
    is_other = tf.not_equal(queries[:, :, tf.newaxis], keys[:, tf.newaxis])  # [B, Q, S]
    return tf.cast(is_other, tf.float32)[:, tf.newaxis] * MASKED_SCORE


# ------------------------------------------------------------------------------------ heads


class HeadOutput(NamedTuple):
    """The output of a head."""

    loss: Optional[tf.Tensor]  # float32 []
    example_loss: Optional[tf.Tensor]  # float32 [examples]
    logits: tf.Tensor  # float32 [examples, classes]


def masked_lm_head(model, positions, label_ids, label_weights, total_weight=None):
    """Predict the masked pieces.

    Args:
        model: `AlbertModel`.
        positions: int32 [B, P], of the masked pieces in the sequence.
        label_ids: int32 [B, P], the original pieces.
        label_weights: float32 [B, P], 0 for the padding of predictions.
        total_weight: float32 [], the divisor of the summed loss, for examples that are a part of
            a larger batch; default: the sum of the weights.

    Returns:
        `HeadOutput` of B*P examples and V classes; the loss is the mean of examples of weight 1.
    """
    with tf.variable_scope("cls/predictions"):
        logits = masked_lm_logits(model, model.outputs_at(positions))
        # One-hot labels [B*P, V] would be the largest tensor of the whole model.
        labels = tf.reshape(label_ids, [-1])
        example_loss = model.execution.layers.cross_entropy(logits, labels)  # [B*P]
        weights = tf.reshape(tf.cast(label_weights, tf.float32), [-1])
        total = tf.reduce_sum(weights) if total_weight is None else total_weight
        loss = tf.reduce_sum(weights * example_loss) / (total + LOSS_EPSILON)
    return HeadOutput(loss, example_loss, logits)


def masked_lm_logits(model, hidden):
    """Score every piece of the vocabulary; the output weights are the word embeddings.

    Args:
        model: `AlbertModel`.
        hidden: float32 [M, H], outputs of the last layer at any M positions.

    Returns:
        float32 [M, V].
    """
    config, layers = model.config, model.execution.layers
    width = config.hidden_size if config.layout == "albert_zh" else config.embedding_width
    with tf.variable_scope("transform"):
        hidden = layers.activation(config.hidden_act)(dense(hidden, width, "dense", config))
        hidden = layer_norm(hidden, "LayerNorm", layers)  # [M, H] or, google, [M, E]
    projection = model.get_embedding_projection()
    if projection is not None:
        hidden = _matmul_transposed(hidden, projection)  # [M, E]
    bias = tf.get_variable("output_bias", [config.vocab_size], initializer=tf.zeros_initializer())
    logits = _matmul_transposed(hidden, model.get_embedding_table())
    return tf.nn.bias_add(tf.cast(logits, tf.float32), bias)


def sentence_order_head(model, labels, label_weights=None, total_weight=None):
    """Predict whether two segments are in their order (0) or swapped (1).

    Args:
        model: `AlbertModel`.
        labels: int32 [B, K], or [B] without packing.
        label_weights: float32 like `labels`, 0 for missing chunks and examples; default all 1.
        total_weight: float32 [], the divisor of the summed loss; default: the sum of the weights.

    Returns:
        `HeadOutput` of B*K examples and 2 classes; the loss is the mean of examples of weight 1.
    """
    with tf.variable_scope("cls/seq_relationship"):
        return _linear_head(
            model.get_pooled_output(), 2, labels, model.config, total_weight, label_weights
        )


def classification_head(
    model, num_labels, labels=None, is_training=False, dropout_prob=0.1, total_weight=None
):
    """Classify a sequence by its pooled output, which `pooled_norm` of the config normalizes.

    Args:
        model: `AlbertModel`.
        num_labels: int.
        labels: int32 [B], or None to predict only (then both losses are None).
        is_training: bool; dropout works only when it is True.
        dropout_prob: float, dropout rate of the pooled output.
        total_weight: float32 [], the divisor of the summed loss; default B.

    Returns:
        `HeadOutput` over B examples and `num_labels` classes; the variables `output_weights` and
        `output_bias` are in no scope, as in published classifiers.
    """
    rate = dropout_prob if is_training else 0.0
    pooled = model.get_pooled_output()  # [B, H]
    if model.config.pooled_norm:  # as albert_zh does for ln_type preln
        with tf.variable_scope("loss"):
            pooled = layer_norm(pooled, "LayerNorm", model.execution.layers)
    pooled = model.execution.layers.dropout(pooled, rate, model.dropout_seeds.classifier)
    return _linear_head(pooled, num_labels, labels, model.config, total_weight)


def _linear_head(pooled, num_classes, labels, config, total_weight, label_weights=None):
    weights = tf.get_variable(
        "output_weights",
        [num_classes, config.hidden_size],
        initializer=_normal(config.initializer_range),
    )
    bias = tf.get_variable("output_bias", [num_classes], initializer=tf.zeros_initializer())
    logits = tf.matmul(tf.cast(pooled, tf.float32), weights, transpose_b=True)
    logits = tf.nn.bias_add(logits, bias)
    if labels is None:
        return HeadOutput(None, None, logits)
    example_loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(labels, [-1]), logits=logits
    )  # [examples]
    label_weights = tf.ones_like(example_loss) if label_weights is None else label_weights
    label_weights = tf.reshape(label_weights, [-1])
    total = tf.reduce_sum(label_weights) if total_weight is None else total_weight
    loss = tf.math.divide_no_nan(tf.reduce_sum(label_weights * example_loss), total)
    return HeadOutput(loss, example_loss, logits)


def gather_positions(sequence, positions):
    """Take the vectors at `positions` int32 [B, P] of `sequence` [B, S, H]: [B*P, H]."""
    _, length, width = _shape(sequence)
    return tf.gather(tf.reshape(sequence, [-1, width]), flat_places(positions, length))


def flat_places(positions, sequence_length):
    """Turn `positions` int32 [B, P] of each sequence into rows of [B*S, H]: int32 [B*P]."""
    offsets = tf.range(_shape(positions)[0])[:, tf.newaxis] * sequence_length  # [B, 1]
    return tf.reshape(positions + offsets, [-1])


# --------------------------------------------------------------------------- building blocks


def dense(tensor, width, scope, config, activation=None):
    """Dense layer: `activation(tensor * kernel + bias)`.

    Args:
        tensor: float [..., K]; width: int, W; scope: str, holds `kernel` [K, W] and `bias` [W].
        config: `AlbertConfig`, for the initializer.
        activation: function, or None for a linear layer.

    Returns:
        Tensor [..., W] of the same dtype.
    """
    shape = _shape(tensor)
    kernel, bias = get_dense_weights(scope, shape[-1], width, config)
    output = PLAIN.layers.linear(tf.reshape(tensor, [-1, shape[-1]]), kernel, bias)
    output = tf.reshape(output, shape[:-1] + [width])
    return output if activation is None else activation(output)


def get_dense_weights(scope, input_width, output_width, config):
    """Create or reuse `kernel` [K, W] and `bias` [W] of a dense layer; return their values."""
    with tf.variable_scope(scope):
        kernel = tf.get_variable(
            "kernel", [input_width, output_width], initializer=_normal(config.initializer_range)
        )
        bias = tf.get_variable("bias", [output_width], initializer=tf.zeros_initializer())
    return tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias)


def layer_norm(rows, scope, layers):
    """LayerNorm of [M, K] with the variables `gamma` and `beta` in `scope`."""
    return layers.normalize(rows, *get_norm_weights(scope, _shape(rows)[-1]))


def get_norm_weights(scope, width):
    """Create or reuse `gamma` [K] and `beta` [K] of a LayerNorm; return their values."""
    with tf.variable_scope(scope):
        beta = tf.get_variable("beta", [width], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [width], initializer=tf.ones_initializer())
    return tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta)


class DropoutSeeds(NamedTuple):
    """The seeds of all dropouts of a model, int32 [2] each."""

    embedding: tf.Tensor
    layers: list  # of `LayerContext.seeds`
    classifier: tf.Tensor


NO_SEEDS = [None] * 3


def dropout_seeds(config, layers, seed=None):
    """Derive the seeds of all dropouts from one seed.

    Args:
        config: `AlbertConfig`.
        layers: `ops.layers.Layers`.
        seed: int32 [2], or None for a random one.
    """
    depth = config.num_hidden_layers * config.inner_group_num
    with tf.name_scope("dropout_seeds"):
        if seed is None:
            seed = tf.random.uniform([2], tf.int32.min, tf.int32.max, tf.int32)
        seeds = tf.unstack(layers.draws([3 * depth + 2, 2], seed))
    layer_seeds = [seeds[2 + 3 * index : 5 + 3 * index] for index in range(depth)]
    return DropoutSeeds(embedding=seeds[0], layers=layer_seeds, classifier=seeds[1])


def _normal(deviation):
    """Initializer of the published code: normal, truncated at two standard deviations."""
    return tf.truncated_normal_initializer(stddev=deviation)


def _matmul_last(tensor, kernel):
    """Multiply [..., K] by [K, W] in one matrix product."""
    shape = _shape(tensor)
    kernel = tf.cast(kernel, tensor.dtype)
    flat = tf.matmul(tf.reshape(tensor, [-1, shape[-1]]), kernel)
    return tf.reshape(flat, shape[:-1] + [_shape(kernel)[-1]])


def _matmul_transposed(rows, kernel):
    """Multiply [M, K] by the transpose of [W, K]."""
    return tf.matmul(rows, tf.cast(kernel, rows.dtype), transpose_b=True)


def _shape(tensor):
    """Return the shape as a list of int where static and of int32 scalars where not."""
    static = tensor.shape.as_list()
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(static)]


def _check_rank(tensor, rank, name):
    if tensor.shape.ndims != rank:
        raise ValueError("{} has shape {}, expected rank {}".format(name, tensor.shape, rank))


# ------------------------------------------------------------------------ weights of a model


def distances_from_head(config):
    """Return the distance of the weights from the head in layers, for layer-wise learning rates.

    Distances count from the last layer. Weights that several layers share have the distance of the
    last of these layers. The pooler belongs to the head, whose distance is 0.

    Args:
        config: `AlbertConfig`.

    Returns:
        dict of prefix of variable names to int: 1 for the last layer, the largest number for the
        embeddings.
    """
    distances, distance = {}, 0
    for index in reversed(range(config.num_hidden_layers * config.inner_group_num)):
        new = [prefix for prefix in _layer_prefixes(config, index) if prefix not in distances]
        distance += bool(new)
        distances.update(dict.fromkeys(new, distance))
    below = ("bert/encoder/embedding_hidden_mapping_in/", "bert/embeddings/")
    return dict(distances, **dict.fromkeys(below, distance + 1))


def _layer_prefixes(config, index):
    """Return the prefixes of the names of the variables that a layer uses."""
    layer, inner = divmod(index, config.inner_group_num)
    scopes = LAYER_SCOPES[config.layout]
    return [
        "bert/encoder/{}/{}/".format(layer_scope(config, layer, inner, sublayer), scope)
        for sublayer, of_sublayer in (("attention", scopes[:3]), ("ffn", scopes[3:]))
        for scope in of_sublayer
    ]


def parameter_shapes(config, num_labels=None):
    """Return the shapes of the trainable weights of a model with its heads.

    Args:
        config: `AlbertConfig`.
        num_labels: int, for the head of a classifier; None for the pre-training heads.

    Returns:
        dict of variable name to list of int, in the order of creation.
    """
    shapes = _parameter_shapes(dataclasses.astuple(config), num_labels)
    return {name: list(shape) for name, shape in shapes.items()}


@functools.lru_cache(maxsize=None)
def _parameter_shapes(fields, num_labels):
    config, shapes = AlbertConfig(*fields), {}

    def placeholder(getter, name, shape, **_):
        """Return one operation in place of a variable, which would add several to the graph."""
        shapes[name] = shape
        return tf.placeholder(tf.float32, shape)

    with tf.Graph().as_default(), tf.variable_scope("", custom_getter=placeholder):
        ids = tf.zeros([1, 2], tf.int32)
        model = AlbertModel(config, is_training=False, input_ids=ids)
        if num_labels is None:
            masked_lm_head(model, ids, ids, tf.ones([1, 2]))
            sentence_order_head(model, ids[:, 0])
        else:
            classification_head(model, num_labels)
    return shapes


def count_parameters(config):
    """Return a dict of name to number of weights; names as in `parameter_shapes`."""
    return {name: int(np.prod(shape)) for name, shape in parameter_shapes(config).items()}
