"""Tensors of one evaluation batch to dictionaries of streaming metrics.

Each function is the `metric_fn` of TPUEstimator's `eval_metrics=(metric_fn, tensors)`: it gets
whole batches, also where a batch was computed on many cores. Examples that only fill up the last
batch carry `is_real_example` 0 and count nowhere.
"""

# Dimensions: B batch size, P masked positions per sequence.

import tensorflow.compat.v1 as tf


def pretraining_metrics(
    masked_lm_example_loss,
    masked_lm_predictions,
    masked_lm_ids,
    masked_lm_weights,
    sentence_order_example_loss,
    sentence_order_predictions,
    next_sentence_labels,
    is_real_example,
):
    """Average the two pre-training losses and accuracies over an evaluation.

    Args:
        masked_lm_example_loss: float32 [B*P], cross entropy of each masked position in nats.
        masked_lm_predictions: int32 [B*P], most probable id of each masked position.
        masked_lm_ids: int32 [B*P], ids that were masked.
        masked_lm_weights: float32 [B*P], 1 for masked positions, 0 for the padding behind them.
        sentence_order_example_loss: float32 [B], cross entropy in nats.
        sentence_order_predictions: int32 [B], 1 for segments found to be swapped.
        next_sentence_labels: int32 [B] or [B, 1], 1 for swapped segments.
        is_real_example: float32 [B], 0 for examples that only fill up a batch.

    Returns:
        Dictionary of (value, update) pairs: `masked_lm_accuracy` and `masked_lm_loss` over masked
        positions, `sentence_order_accuracy` and `sentence_order_loss` over examples.
    """
    is_real_example = _flat(is_real_example)  # [B]
    position_weights = tf.reshape(masked_lm_weights, [tf.size(is_real_example), -1])  # [B, P]
    position_weights = _flat(position_weights * is_real_example[:, tf.newaxis])  # [B*P]
    return {
        "masked_lm_accuracy": _accuracy(masked_lm_ids, masked_lm_predictions, position_weights),
        "masked_lm_loss": _mean(masked_lm_example_loss, position_weights),
        "sentence_order_accuracy": _accuracy(
            next_sentence_labels, sentence_order_predictions, is_real_example
        ),
        "sentence_order_loss": _mean(sentence_order_example_loss, is_real_example),
    }


def _accuracy(labels, predictions, weights):
    return tf.metrics.accuracy(_flat(labels), _flat(predictions), _flat(weights))


def _mean(values, weights):
    return tf.metrics.mean(_flat(values), _flat(weights))


def _flat(tensor):
    return tf.reshape(tensor, [-1])
