"""The loss of pre-training, and what it trains."""

import numpy as np
import packed_rows
import pytest
import tensorflow.compat.v1 as tf

import modeling
from pretraining.model import make_forward

SIZES = packed_rows.Sizes(rows=3, length=20, chunks=3, predictions=6, vocabulary=30)
CONFIG = modeling.AlbertConfig(
    vocab_size=SIZES.vocabulary,
    embedding_size=8,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=SIZES.length,
)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_order_of_sentences_has_a_weight(weight):
    """With weight 0, the loss does not depend on the pooler and the sentence-order head."""
    packed, _ = packed_rows.draw_batches(np.random.RandomState(4), SIZES)
    with tf.Graph().as_default(), tf.Session() as session:
        features = {name: tf.constant(values) for name, values in packed.items()}
        forward = make_forward(CONFIG, sentence_order_weight=weight)
        outputs = forward(features, tf.estimator.ModeKeys.EVAL)
        variables = tf.trainable_variables()
        gradients = tf.gradients(outputs.loss, variables)
        zero = tf.zeros([])
        sizes = [zero if x is None else tf.norm(tf.convert_to_tensor(x)) for x in gradients]
        session.run(tf.global_variables_initializer())
        loss, scalars, sizes = session.run([outputs.loss, outputs.scalars, sizes])
    expected = scalars["masked_lm_loss"] + weight * scalars["sentence_order_loss"]
    assert loss == pytest.approx(expected, rel=1e-6)
    for variable, size, gradient in zip(variables, sizes, gradients):
        of_the_order = variable.op.name.startswith(("bert/pooler", "cls/seq_relationship"))
        assert (size > 0) == (weight > 0 or not of_the_order), variable.op.name
        assert (gradient is None) == (of_the_order and weight == 0)
