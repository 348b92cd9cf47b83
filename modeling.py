"""ALBERT (arXiv 1909.11942) as one model of two published layouts: albert_zh and google.

Three things set it apart from BERT: a factorized embedding (V*E + E*H weights instead of V*H),
layers that share their weights, and a head that tells the order of two segments. A configuration
chooses among all variants; the variable names are those of the published checkpoints.

Dimension letters:
    B  batch size                 V  vocabulary size         N  attention heads
    S  sequence length            E  embedding size          D  size of one head, H / N
    H  hidden size                I  intermediate size       P  predictions per sequence
    L  layers
"""

import copy
import dataclasses
import difflib
import json
import math
from typing import NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf

from pipeline.errors import UserError

LAYER_NORM_EPSILON = 1e-12
# Added to the attention scores of padding: after the softmax nothing is left of them.
MASKED_SCORE = -10000.0
# Keeps the MLM loss finite for a batch without predictions; as published.
LOSS_EPSILON = 1e-5

# ----------------------------------------------------------------------------- configuration


@dataclasses.dataclass
class AlbertConfig:
    """What a model is made of. Field names are those of the published JSON files.

    `layout` names the code base whose checkpoints the model reads: `albert_zh` projects word
    embeddings from E to H before positions and types are added, `google` afterwards.
    `embedding_size` None means no factorization: words are embedded in H at once, as in BERT.
    """

    vocab_size: int
    embedding_size: Optional[int] = None
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layout: str = "albert_zh"
    ln_type: str = "postln"
    parameter_sharing: str = "all"
    num_hidden_groups: int = 1
    inner_group_num: int = 1

    def __post_init__(self):
        self._check_values()
        self._check_agreement()

    @classmethod
    def from_dict(cls, values, source="config"):
        """Make a configuration from a dict of a published or our own JSON file.

        Args:
            values: dict of str to number, str or None.
            source: str, what error messages name as the origin.

        Raises:
            UserError: for an unknown field, a value out of range or fields that contradict.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known and name not in IGNORED_CONFIG_FIELDS:
                near = difflib.get_close_matches(name, known, 1)
                hint = "; did you mean {!r}?".format(near[0]) if near else ""
                raise UserError("{}: unknown field {!r}{}".format(source, name, hint))
        if "vocab_size" not in values:
            raise UserError("{}: the field 'vocab_size' is missing".format(source))
        chosen = {name: value for name, value in values.items() if name in known}
        chosen.setdefault("layout", "google" if "num_hidden_groups" in values else "albert_zh")
        try:
            return cls(**chosen)
        except UserError as error:
            raise UserError("{}: {}".format(source, error)) from error

    @classmethod
    def from_json_file(cls, path):
        """Read a configuration from a JSON file; errors name the file."""
        try:
            with tf.io.gfile.GFile(path, "r") as reader:
                values = json.loads(reader.read())
        except (tf.errors.OpError, UnicodeDecodeError, ValueError) as error:
            raise UserError(
                "{}: not a readable JSON file ({})".format(path, str(error).split("\n")[0])
            ) from error
        if not isinstance(values, dict):
            raise UserError("{}: expected a JSON object of model fields".format(path))
        return cls.from_dict(values, source=path)

    def to_dict(self):
        """Return the fields as a dict that `from_dict` reads back."""
        return dataclasses.asdict(self)

    def to_json_string(self):
        """Return the fields as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @property
    def embedding_width(self):
        """E, or H where the embedding is not factorized."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    def check_sequence_length(self, sequence_length):
        """Raise UserError for a sequence longer than the position table."""
        if sequence_length > self.max_position_embeddings:
            raise UserError(
                "max_seq_length={} is more than max_position_embeddings={} of the model".format(
                    sequence_length, self.max_position_embeddings
                )
            )

    def _check_values(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "embedding_size" and value is None:
                continue
            if field.name in FIELD_CHOICES:
                valid = value in FIELD_CHOICES[field.name]
                expected = "one of " + ", ".join(FIELD_CHOICES[field.name])
            elif field.type is float:
                valid = _is_number(value) and 0 <= value < 1
                expected = "a number of at least 0 and below 1"
            else:
                valid = isinstance(value, int) and not isinstance(value, bool) and value > 0
                expected = "a positive whole number"
            if not valid:
                raise UserError("{}={!r}: expected {}".format(field.name, value, expected))

    def _check_agreement(self):
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                "hidden_size={} is no multiple of num_attention_heads={}".format(
                    self.hidden_size, self.num_attention_heads
                )
            )
        grouped = self.num_hidden_groups > 1 or self.inner_group_num > 1
        if self.layout != "google" and grouped:
            raise UserError(
                "num_hidden_groups={} and inner_group_num={} exist in layout 'google' only, "
                "this one is {!r}".format(self.num_hidden_groups, self.inner_group_num, self.layout)
            )
        if self.layout == "google" and self.ln_type != "postln":
            raise UserError("ln_type='preln' exists in layout 'albert_zh' only, not in 'google'")
        if self.num_hidden_groups > self.num_hidden_layers:
            raise UserError(
                "num_hidden_groups={} is more than num_hidden_layers={}".format(
                    self.num_hidden_groups, self.num_hidden_layers
                )
            )
        if self.parameter_sharing != "all" and self.num_hidden_groups > 1:
            raise UserError(
                "parameter_sharing={!r} and num_hidden_groups={} contradict: groups say already "
                "which layers share".format(self.parameter_sharing, self.num_hidden_groups)
            )


FIELD_CHOICES = {
    "hidden_act": ("gelu", "relu", "tanh", "linear"),
    "layout": ("albert_zh", "google"),
    "ln_type": ("postln", "preln"),
    "parameter_sharing": ("all", "attention", "ffn", "none"),
}

# Fields of published JSON files that the published code never reads.
IGNORED_CONFIG_FIELDS = frozenset(
    [
        "directionality",
        "down_scale_factor",
        "gap_size",
        "net_structure_type",
        "num_memory_blocks",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ]
)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------ model


class AlbertModel(object):
    """The encoder: ids in, one vector a position and one vector a sequence out.

    Args:
        config: `AlbertConfig`.
        is_training: bool; dropout works only when it is True.
        input_ids: int32 [B, S].
        input_mask: int32 [B, S], 1 for real pieces and 0 for padding; default all 1.
        token_type_ids: int32 [B, S], 0 for segment A and 1 for segment B; default all 0.
        use_one_hot_embeddings: bool; look words up by a matrix product, faster on TPU.
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
        use_one_hot_embeddings=False,
        scope=None,
    ):
        config = copy.copy(config)
        if not is_training:
            config.hidden_dropout_prob = 0.0
            config.attention_probs_dropout_prob = 0.0
        self.config = config
        _check_rank(input_ids, 2, "input_ids")
        if input_mask is None:
            input_mask = tf.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = tf.zeros_like(input_ids)

        with tf.variable_scope(scope, default_name="bert"):
            with tf.variable_scope("embeddings"):
                words = self._embed_words(input_ids, use_one_hot_embeddings)
                self.embedding_output = embedding_postprocessor(words, token_type_ids, config)
            with tf.variable_scope("encoder"):
                self.all_encoder_layers = transformer_model(
                    self._project_embeddings(), attention_mask(input_mask), config
                )
            self.sequence_output = self.all_encoder_layers[-1]  # [B, S, H]
            with tf.variable_scope("pooler"):
                self.pooled_output = dense(
                    self.sequence_output[:, 0], config.hidden_size, "dense", config, tf.tanh
                )  # [B, H]

    def _embed_words(self, input_ids, use_one_hot):
        """Return word embeddings [B, S, H] for albert_zh or [B, S, E] for google."""
        config = self.config
        self.embedding_projection = None
        if config.layout == "albert_zh" and config.embedding_size is not None:
            words, self.embedding_table, self.embedding_projection = embedding_lookup_factorized(
                input_ids,
                config.vocab_size,
                config.hidden_size,
                config.embedding_size,
                config.initializer_range,
                use_one_hot_embeddings=use_one_hot,
            )
        else:
            words, self.embedding_table = embedding_lookup(
                input_ids,
                config.vocab_size,
                config.embedding_width,
                config.initializer_range,
                use_one_hot_embeddings=use_one_hot,
            )
        return words

    def _project_embeddings(self):
        """Return the encoder's input [B, S, H]; in the google layout the projection is here."""
        if self.config.embedding_width == self.config.hidden_size or self.config.layout != "google":
            return self.embedding_output
        return dense(
            self.embedding_output,
            self.config.hidden_size,
            "embedding_hidden_mapping_in",
            self.config,
        )

    def get_pooled_output(self):
        """Return float32 [B, H]: [CLS] of the last layer through a tanh layer."""
        return self.pooled_output

    def get_sequence_output(self):
        """Return float32 [B, S, H]: the last layer."""
        return self.sequence_output

    def get_all_encoder_layers(self):
        """Return a list of L float32 tensors [B, S, H], the first layer's first."""
        return self.all_encoder_layers

    def get_embedding_output(self):
        """Return float32 [B, S, H] (albert_zh) or [B, S, E] (google): what enters the encoder."""
        return self.embedding_output

    def get_embedding_table(self):
        """Return the word embeddings, float32 [V, E]."""
        return self.embedding_table

    def get_embedding_projection(self):
        """Return `word_embeddings_2`, float32 [E, H], or None where the layout has none."""
        return self.embedding_projection


# ------------------------------------------------------------------------------- embeddings


def embedding_lookup(
    input_ids,
    vocab_size,
    embedding_size,
    initializer_range=0.02,
    word_embedding_name="word_embeddings",
    use_one_hot_embeddings=False,
):
    """Look words up in a table.

    Args:
        input_ids: int32 [B, S].
        vocab_size: int, V.
        embedding_size: int, E.
        initializer_range: float, deviation of the initial weights.
        word_embedding_name: str, name of the table.
        use_one_hot_embeddings: bool; by a matrix product instead of a gather.

    Returns:
        (embeddings float32 [B, S, E], table float32 [V, E]).
    """
    table = tf.get_variable(
        word_embedding_name, [vocab_size, embedding_size], initializer=_normal(initializer_range)
    )
    if use_one_hot_embeddings:
        flat_ids = tf.reshape(input_ids, [-1])
        flat = tf.matmul(tf.one_hot(flat_ids, depth=vocab_size), table)  # [B*S, E]
        words = tf.reshape(flat, _shape(input_ids) + [embedding_size])
    else:
        words = tf.gather(table, input_ids)
    return words, table


def embedding_lookup_factorized(
    input_ids,
    vocab_size,
    hidden_size,
    embedding_size=128,
    initializer_range=0.02,
    word_embedding_name="word_embeddings",
    use_one_hot_embeddings=False,
):
    """Look words up in E dimensions and project them to H (section 3.1 of the ALBERT paper).

    Args:
        input_ids: int32 [B, S].
        vocab_size, hidden_size, embedding_size: int, V, H and E.
        initializer_range: float, deviation of the initial weights.
        word_embedding_name: str; the projection's name is this and `_2`.
        use_one_hot_embeddings: bool; by a matrix product instead of a gather.

    Returns:
        (embeddings float32 [B, S, H], table float32 [V, E], projection float32 [E, H]).
    """
    words, table = embedding_lookup(
        input_ids,
        vocab_size,
        embedding_size,
        initializer_range,
        word_embedding_name,
        use_one_hot_embeddings,
    )  # [B, S, E]
    projection = tf.get_variable(
        word_embedding_name + "_2",
        [embedding_size, hidden_size],
        initializer=_normal(initializer_range),
    )
    return _matmul_last(words, projection), table, projection


def embedding_postprocessor(words, token_type_ids, config):
    """Add type and position embeddings, normalize, drop out.

    Args:
        words: float32 [B, S, W], W being H (albert_zh) or E (google).
        token_type_ids: int32 [B, S].
        config: `AlbertConfig`.

    Returns:
        float32 [B, S, W].

    Raises:
        UserError: if S is larger than the position table.
    """
    sequence_length, width = _shape(words)[1:]
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
    words += _matmul_last(tf.one_hot(token_type_ids, config.type_vocab_size), types)
    words += positions[:sequence_length]  # broadcast over B
    return dropout(layer_norm(words, "LayerNorm"), config.hidden_dropout_prob)


# ---------------------------------------------------------------------------------- encoder


class LayerScopes(NamedTuple):
    """Where a layout keeps the variables of one layer, below the layer's own scope."""

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
    """The variables of one attention sublayer, read once however many layers share them."""

    qkv_kernel: tf.Tensor  # [H, 3H], the queries' third already divided by sqrt(D)
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


def transformer_model(input_tensor, mask, config):
    """Run the layers, each with its own or with shared weights (section 3.1 of the paper).

    Args:
        input_tensor: float32 [B, S, H].
        mask: float32 [B, 1, 1, S], what is added to the attention scores.
        config: `AlbertConfig`.

    Returns:
        list of float32 [B, S, H], one a layer (`inner_group_num` layers count one each).
    """
    attention_weights, feed_forward_weights = {}, {}  # by scope: what is shared is built once
    shape = _shape(input_tensor)
    hidden = tf.reshape(input_tensor, [-1, config.hidden_size])  # [B*S, H]
    outputs = []
    for layer in range(config.num_hidden_layers):
        for inner in range(config.inner_group_num):
            attention_scope = layer_scope(config, layer, inner, "attention")
            if attention_scope not in attention_weights:
                with tf.variable_scope(attention_scope, reuse=tf.AUTO_REUSE):
                    attention_weights[attention_scope] = get_attention_weights(config)
            feed_forward_scope = layer_scope(config, layer, inner, "ffn")
            if feed_forward_scope not in feed_forward_weights:
                with tf.variable_scope(feed_forward_scope, reuse=tf.AUTO_REUSE):
                    feed_forward_weights[feed_forward_scope] = get_feed_forward_weights(config)
            with tf.name_scope("layer_{}_{}".format(layer, inner)):
                hidden = attention_sublayer(
                    hidden, mask, attention_weights[attention_scope], config, shape[:2]
                )
                hidden = feed_forward_sublayer(
                    hidden, feed_forward_weights[feed_forward_scope], config
                )
            outputs.append(tf.reshape(hidden, shape))
    return outputs


def layer_scope(config, layer, inner, sublayer):
    """Return the variable scope of a layer's sublayer: that is all there is to sharing.

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
    """Make or find the variables of an attention sublayer in the current scope."""
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
    """Make or find the variables of a feed-forward sublayer in the current scope."""
    scopes = LAYER_SCOPES[config.layout]
    width, inner_width = config.hidden_size, config.intermediate_size
    return FeedForwardWeights(
        *get_dense_weights(scopes.intermediate, width, inner_width, config)
        + get_dense_weights(scopes.output, inner_width, width, config)
        + get_norm_weights(scopes.output_norm, width)
    )


def attention_sublayer(hidden, mask, weights, config, batch_shape):
    """Attention, residual and LayerNorm.

    Args:
        hidden: float32 [B*S, H].
        mask: float32 [B, 1, 1, S].
        weights: `AttentionWeights`.
        config: `AlbertConfig`.
        batch_shape: [B, S].

    Returns:
        float32 [B*S, H].
    """
    pre_norm = config.ln_type == "preln"
    source = normalize(hidden, weights.gamma, weights.beta) if pre_norm else hidden
    qkv = tf.nn.bias_add(tf.matmul(source, weights.qkv_kernel), weights.qkv_bias)  # [B*S, 3H]
    context = self_attention(qkv, mask, config, batch_shape)
    context = tf.nn.bias_add(tf.matmul(context, weights.output_kernel), weights.output_bias)
    hidden += dropout(context, config.hidden_dropout_prob)
    return hidden if pre_norm else normalize(hidden, weights.gamma, weights.beta)


def self_attention(qkv, mask, config, batch_shape):
    """Scaled dot-product attention of N heads (arXiv 1706.03762, equation 1).

    Args:
        qkv: float32 [B*S, 3H]: queries (already scaled), keys and values.
        mask: float32 [B, 1, 1, S], added to the scores.
        config: `AlbertConfig`.
        batch_shape: [B, S].

    Returns:
        float32 [B*S, H].
    """
    heads = config.num_attention_heads
    qkv = tf.reshape(qkv, batch_shape + [3, heads, config.hidden_size // heads])  # [B, S, 3, N, D]
    query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))  # each [B, N, S, D]
    scores = tf.matmul(query, key, transpose_b=True) + mask  # [B, N, S, S]
    probabilities = dropout(tf.nn.softmax(scores), config.attention_probs_dropout_prob)
    context = tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3])  # [B, S, N, D]
    return tf.reshape(context, [-1, config.hidden_size])


def feed_forward_sublayer(hidden, weights, config):
    """Two dense layers, residual and LayerNorm.

    Args:
        hidden: float32 [B*S, H].
        weights: `FeedForwardWeights`.
        config: `AlbertConfig`.

    Returns:
        float32 [B*S, H].
    """
    pre_norm = config.ln_type == "preln"
    source = normalize(hidden, weights.gamma, weights.beta) if pre_norm else hidden
    inner = tf.matmul(source, weights.intermediate_kernel)  # [B*S, I]
    inner = ACTIVATIONS[config.hidden_act](tf.nn.bias_add(inner, weights.intermediate_bias))
    output = tf.nn.bias_add(tf.matmul(inner, weights.output_kernel), weights.output_bias)
    hidden += dropout(output, config.hidden_dropout_prob)  # [B*S, H]
    return hidden if pre_norm else normalize(hidden, weights.gamma, weights.beta)


def attention_mask(input_mask):
    """Turn a mask of pieces, int32 [B, S], into what is added to scores, float32 [B, 1, 1, S]."""
    return (1.0 - tf.cast(input_mask[:, tf.newaxis, tf.newaxis, :], tf.float32)) * MASKED_SCORE


# ------------------------------------------------------------------------------------ heads


class HeadOutput(NamedTuple):
    """What a head returns: a scalar, one loss an example, and the logits."""

    loss: Optional[tf.Tensor]  # float32 []
    example_loss: Optional[tf.Tensor]  # float32 [examples]
    logits: tf.Tensor  # float32 [examples, classes]


def masked_lm_head(model, positions, label_ids, label_weights, total_weight=None):
    """Predict the masked pieces.

    Args:
        model: `AlbertModel`.
        positions: int32 [B, P], places of the masked pieces in the sequence.
        label_ids: int32 [B, P], the pieces that stood there.
        label_weights: float32 [B, P], 0 for the padding of predictions.
        total_weight: float32 [], sum of the weights over the whole batch where this is a part of
            it; the loss is then the part's share of the batch's loss. Default: their own sum.

    Returns:
        `HeadOutput` over B*P examples and V classes; the loss is the mean over those of weight 1.
    """
    with tf.variable_scope("cls/predictions"):
        logits = masked_lm_logits(model, gather_positions(model.get_sequence_output(), positions))
        # Sparse: a one-hot [B*P, V] would be the largest tensor of the whole model.
        example_loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.reshape(label_ids, [-1]), logits=logits
        )  # [B*P]
        weights = tf.reshape(tf.cast(label_weights, tf.float32), [-1])
        total_weight = tf.reduce_sum(weights) if total_weight is None else total_weight
        loss = tf.reduce_sum(weights * example_loss) / (total_weight + LOSS_EPSILON)
    return HeadOutput(loss, example_loss, logits)


def masked_lm_logits(model, hidden):
    """Score every piece of the vocabulary; the output weights are the word embeddings.

    Args:
        model: `AlbertModel`.
        hidden: float32 [M, H], outputs of the last layer at any M places.

    Returns:
        float32 [M, V].
    """
    config = model.config
    width = config.hidden_size if config.layout == "albert_zh" else config.embedding_width
    with tf.variable_scope("transform"):
        hidden = dense(hidden, width, "dense", config, ACTIVATIONS[config.hidden_act])
        hidden = layer_norm(hidden, "LayerNorm")  # [M, H] or, google, [M, E]
    projection = model.get_embedding_projection()
    if projection is not None:
        hidden = tf.matmul(hidden, projection, transpose_b=True)  # [M, E]
    bias = tf.get_variable("output_bias", [config.vocab_size], initializer=tf.zeros_initializer())
    logits = tf.matmul(hidden, model.get_embedding_table(), transpose_b=True)
    return tf.nn.bias_add(logits, bias)


def sentence_order_head(model, labels, total_weight=None):
    """Tell whether two segments stand in their order (0) or swapped (1).

    Args:
        model: `AlbertModel`.
        labels: int32 [B] or [B, 1].
        total_weight: float32 [], examples of the whole batch where this is a part; default: B.

    Returns:
        `HeadOutput` over B examples and 2 classes.
    """
    with tf.variable_scope("cls/seq_relationship"):
        return _linear_head(model.get_pooled_output(), 2, labels, model.config, total_weight)


def classification_head(
    model, num_labels, labels=None, is_training=False, dropout_prob=0.1, total_weight=None
):
    """Classify a sequence by its pooled output.

    Args:
        model: `AlbertModel`.
        num_labels: int.
        labels: int32 [B], or None to predict only (then both losses are None).
        is_training: bool; dropout works only when it is True.
        dropout_prob: float, of the pooled output.
        total_weight: float32 [], examples of the whole batch where this is a part; default: B.

    Returns:
        `HeadOutput` over B examples and `num_labels` classes; the variables `output_weights` and
        `output_bias` stand outside every scope, as in published classifiers.
    """
    pooled = dropout(model.get_pooled_output(), dropout_prob if is_training else 0.0)
    return _linear_head(pooled, num_labels, labels, model.config, total_weight)


def _linear_head(pooled, num_classes, labels, config, total_weight):
    weights = tf.get_variable(
        "output_weights",
        [num_classes, config.hidden_size],
        initializer=_normal(config.initializer_range),
    )
    bias = tf.get_variable("output_bias", [num_classes], initializer=tf.zeros_initializer())
    logits = tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)
    if labels is None:
        return HeadOutput(None, None, logits)
    example_loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(labels, [-1]), logits=logits
    )  # [B]
    if total_weight is None:
        total_weight = tf.cast(tf.size(example_loss), tf.float32)
    return HeadOutput(tf.reduce_sum(example_loss) / total_weight, example_loss, logits)


def gather_positions(sequence, positions):
    """Take the vectors at `positions` int32 [B, P] of `sequence` [B, S, H]: float32 [B*P, H]."""
    batch_size, sequence_length, width = _shape(sequence)
    offsets = tf.range(batch_size)[:, tf.newaxis] * sequence_length  # [B, 1]
    flat_positions = tf.reshape(positions + offsets, [-1])  # [B*P]
    return tf.gather(tf.reshape(sequence, [-1, width]), flat_positions)


# --------------------------------------------------------------------------- building blocks


def dense(tensor, width, scope, config, activation=None):
    """Dense layer over the last axis: `activation(tensor * kernel + bias)`.

    Args:
        tensor: float32 [..., K]; width: int, W; scope: str, holds `kernel` [K, W] and `bias` [W].
        config: `AlbertConfig`, for the initializer.
        activation: function, or None for a linear layer.

    Returns:
        float32 [..., W].
    """
    kernel, bias = get_dense_weights(scope, _shape(tensor)[-1], width, config)
    output = _matmul_last(tensor, kernel) + bias
    return output if activation is None else activation(output)


def get_dense_weights(scope, input_width, output_width, config):
    """Make or find `kernel` [K, W] and `bias` [W] of a dense layer; returns both read."""
    with tf.variable_scope(scope):
        kernel = tf.get_variable(
            "kernel", [input_width, output_width], initializer=_normal(config.initializer_range)
        )
        bias = tf.get_variable("bias", [output_width], initializer=tf.zeros_initializer())
    return tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias)


def layer_norm(tensor, scope):
    """LayerNorm over the last axis [..., K] with the variables `gamma` and `beta` in `scope`."""
    return normalize(tensor, *get_norm_weights(scope, _shape(tensor)[-1]))


def get_norm_weights(scope, width):
    """Make or find `gamma` [K] and `beta` [K] of a LayerNorm; returns both read."""
    with tf.variable_scope(scope):
        beta = tf.get_variable("beta", [width], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [width], initializer=tf.ones_initializer())
    return tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta)


def normalize(tensor, gamma, beta):
    """LayerNorm (arXiv 1607.06450, equation 4) of [..., K] over its last axis."""
    mean, variance = tf.nn.moments(tensor, axes=[-1], keep_dims=True)
    scale = tf.rsqrt(variance + LAYER_NORM_EPSILON)
    return (tensor - mean) * scale * gamma + beta


def dropout(tensor, rate):
    """Drop out with probability `rate`; at 0 the graph gets no op at all."""
    return tensor if rate == 0.0 else tf.nn.dropout(tensor, rate=rate)


@tf.custom_gradient
def gelu(x):
    """Gaussian error linear unit in its tanh form (arXiv 1606.08415, section 2).

    The gradient is written out: TensorFlow's own chain keeps and reads five tensors of this,
    the widest, activation instead of two.

    Args:
        x: float tensor of any shape.
    """
    slope = math.sqrt(2.0 / math.pi)
    cubic = 0.044715
    squared = tf.square(x)
    tanh = tf.tanh(slope * x * (1.0 + cubic * squared))

    def gradient(upstream):
        inner_slope = slope * (1.0 + 3.0 * cubic * squared)
        return upstream * 0.5 * ((1.0 + tanh) + x * (1.0 - tf.square(tanh)) * inner_slope)

    return 0.5 * x * (1.0 + tanh), gradient


ACTIVATIONS = {"gelu": gelu, "relu": tf.nn.relu, "tanh": tf.tanh, "linear": tf.identity}


def count_parameters(config):
    """Count the trainable weights of a model with all its pre-training heads.

    Args:
        config: `AlbertConfig`.

    Returns:
        dict of variable name to number of weights, in the order of creation.
    """
    with tf.Graph().as_default():
        ids = tf.zeros([1, 2], tf.int32)
        model = AlbertModel(config, is_training=False, input_ids=ids)
        masked_lm_head(model, ids, ids, tf.ones([1, 2]))
        sentence_order_head(model, ids[:, 0])
        return {
            variable.op.name: int(np.prod(variable.shape.as_list()))
            for variable in tf.trainable_variables()
        }


def activation_bytes(config, sequence_length, num_predictions, execution=None):
    """Estimate the activations of one example that a training step keeps, in bytes."""
    del execution
    per_piece = 10 * config.hidden_size + 4 * config.intermediate_size
    per_piece += 3 * config.num_attention_heads * sequence_length
    layers = config.num_hidden_layers * config.inner_group_num
    return 4 * (layers * sequence_length * per_piece + 3 * num_predictions * config.vocab_size)


def _normal(deviation):
    """Initializer of the published code: normal, cut off at two deviations."""
    return tf.truncated_normal_initializer(stddev=deviation)


def _matmul_last(tensor, kernel):
    """Multiply [..., K] by [K, W], as one product of matrices."""
    shape = _shape(tensor)
    flat = tf.matmul(tf.reshape(tensor, [-1, shape[-1]]), kernel)
    return tf.reshape(flat, shape[:-1] + [_shape(kernel)[-1]])


def _shape(tensor):
    """Return the shape as a list of int where static and of int32 scalars where not."""
    static = tensor.shape.as_list()
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(static)]


def _check_rank(tensor, rank, name):
    if tensor.shape.ndims != rank:
        raise ValueError("{} has shape {}, expected rank {}".format(name, tensor.shape, rank))
