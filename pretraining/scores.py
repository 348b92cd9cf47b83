"""The scores of an evaluation of pre-training, and warnings such as that of a saturated pooler."""

import tensorflow.compat.v1 as tf

# (whether scores show what is wrong with a model, a line that says what to do)
SYMPTOMS = (
    (
        lambda scores: scores["pooler_saturation"] > 0.9,
        "SATURATED POOLER: {pooler_saturation:.0%} of its units are at an end of tanh, where no "
        "gradient passes; start again with {}",
    ),
    (
        lambda scores: scores["pooler_spread"] < 0.001,
        "DEAD POOLER: its output is the same for every text (standard deviation "
        "{pooler_spread:.1g}); start again with {}",
    ),
    (  # ln 2 is 0.693
        lambda scores: scores["masked_lm_accuracy"] > 0.2 and scores["sentence_order_loss"] > 0.69,
        "SENTENCE ORDER AT CHANCE ({sentence_order_accuracy:.1%}), although masked pieces are "
        "learned ({masked_lm_accuracy:.1%}); if the lines of the text have an order, use ln_type "
        "postln and {}",
    ),
)
SLOWER_POOLER = "--optimizer=lamb, --pooler_lr_factor=0.05 or a lower --learning_rate"


def metric_tensors(features, masked_lm, order, pooled):
    """Return the arguments of `pretraining_metrics`: tensors with examples along the first axis."""
    return [
        masked_lm.example_loss,
        tf.argmax(masked_lm.logits, axis=-1, output_type=tf.int32),
        features["masked_lm_ids"],
        features["masked_lm_weights"],
        order.example_loss,
        tf.argmax(order.logits, axis=-1, output_type=tf.int32),
        features["next_sentence_labels"],
        features["next_sentence_weights"],
        tf.cast(pooled, tf.float32),
    ]


def pretraining_metrics(
    masked_lm_loss,
    masked_lm_pieces,
    ids,
    weights,
    order_loss,
    order,
    order_labels,
    order_weights,
    pooled,
):
    """Average losses (in nats) and accuracies over an evaluation.

    Args:
        masked_lm_loss, masked_lm_pieces: float32 and int32 [B*P], losses and predicted pieces.
        ids, weights: int32 and float32 [B*P] or [B, P], masked pieces, and 0 for padding.
        order_loss, order: float32 and int32 [B*K], losses and predicted orders.
        order_labels, order_weights: int32 and float32 [B*K] or [B, K], 1 for swapped segments, and
            0 for missing chunks and for examples that only fill up a batch.
        pooled: float32 [B*K, H], the pooler's outputs.

    Returns:
        dict of name to a pair (value, update) of streaming metrics.
    """

    def averages(name, losses, predictions, labels, weights):
        weights = tf.reshape(weights, [-1])
        return {
            name + "_accuracy": tf.metrics.accuracy(tf.reshape(labels, [-1]), predictions, weights),
            name + "_loss": tf.metrics.mean(losses, weights),
        }

    scores = averages("masked_lm", masked_lm_loss, masked_lm_pieces, ids, weights)
    scores.update(averages("sentence_order", order_loss, order, order_labels, order_weights))
    scores.update(pooler_metrics(pooled, tf.reshape(order_weights, [-1, 1])))
    return scores


def pooler_metrics(pooled, weights):
    """Return streaming metrics that show whether the units of the pooler depend on the input.

    `pooler_saturation` is the share of units that differ by less than 0.01 from -1 or 1.
    `pooler_spread` is the standard deviation of a unit over the chunks, averaged over the units.

    Args:
        pooled: float32 [B*K, H].
        weights: float32 [B*K, 1], 0 for chunks that do not count.
    """
    is_saturated = tf.cast(tf.abs(pooled) > 0.99, tf.float32)
    total = tf.reduce_sum(weights)

    def moment(values):
        mean = tf.div_no_nan(tf.reduce_sum(values * weights, axis=0), total)  # [H]
        return tf.metrics.mean_tensor(mean, tf.fill(tf.shape(mean), total))

    mean, update_mean = moment(pooled)
    square, update_square = moment(pooled**2)
    spread = tf.reduce_mean(tf.sqrt(tf.maximum(square - mean**2, 0.0)))
    return {
        "pooler_saturation": tf.metrics.mean(tf.reduce_mean(is_saturated, -1, True), weights),
        "pooler_spread": (spread, tf.group(update_mean, update_square)),
    }


def symptoms(scores):
    """Return the lines of `SYMPTOMS` that apply to scores, a dict that `evaluate` returns.

    Nothing is said about the order of sentences before masked pieces are learned, because a model
    learns this order later.
    """
    return [text.format(SLOWER_POOLER, **scores) for is_sick, text in SYMPTOMS if is_sick(scores)]


def evaluate(trainer, input_fn, args, name=None):
    """Evaluate the latest checkpoint.

    Args:
        trainer: from `trainer.make_trainer`.
        input_fn: input function of the records.
        args: has `eval_steps` and `sentence_order_weight`.
        name: str, the folder for TensorBoard, or None.

    Returns:
        dict of name to float: metrics over real examples only, and `global_step`.
    """
    metrics = trainer.evaluate(input_fn, steps=args.eval_steps, name=name)
    scores = {"global_step": int(metrics["global_step"])}
    # Estimator's own loss is not used: it gives the last batch, with fewer examples, equal weight.
    order_loss = metrics["sentence_order_loss"]
    scores["loss"] = float(metrics["masked_lm_loss"] + args.sentence_order_weight * order_loss)
    has_order = order_loss > 0  # The loss is 0 if no chunk has an order.
    scored = ("masked_lm", "sentence_order", "pooler") if has_order else ("masked_lm",)
    names = [name for name in sorted(metrics) if name.startswith(scored)]
    scores.update((name, float(metrics[name])) for name in names)
    if not has_order:
        tf.logging.warning("SENTENCE ORDER was not scored: no chunk of the records has an order")
    for line in symptoms(scores) if has_order and args.sentence_order_weight else ():
        tf.logging.warning(line)
    return scores
