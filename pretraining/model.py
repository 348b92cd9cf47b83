"""The model that pre-training trains: the encoder with the masked-LM and sentence-order heads."""

import functools

import tensorflow.compat.v1 as tf

import modeling
import optimization
from pretraining.scores import metric_tensors, pretraining_metrics
from training import model_fn


def make_model_fn(run):
    """Return the `model_fn` of a `PretrainingRun`."""
    step = model_fn.TrainingStep(
        functools.partial(optimization.create_train_op, config=run.schedule.optimizer),
        loss_divisors,
        run.computation.placement,
        run.args.num_train_steps,
    )
    forward = make_forward(
        run.model.config, run.computation.execution, run.args.sentence_order_weight
    )
    settings = run.settings._replace(init_checkpoint=run.start.checkpoint)
    return model_fn.make_model_fn(forward, settings, step)


def loss_divisors(features):
    """Return the divisor of each loss: the number of masked pieces, and of chunks."""
    return {
        "masked_lm": tf.reduce_sum(features["masked_lm_weights"]),
        "sentence_order": tf.reduce_sum(features["next_sentence_weights"]),
    }


def make_forward(config, execution=modeling.PLAIN, sentence_order_weight=1.0):
    """Return the forward pass of pre-training, a function of (features, mode, share).

    Features of packed rows have `chunk_ids`, `position_ids` and `chunk_starts`, the fields of
    `modeling.Packing`, in the place of `input_mask`.

    Args:
        config: `modeling.AlbertConfig`.
        execution: `modeling.Execution`.
        sentence_order_weight: float, the factor of the sentence-order loss in `loss`.
    """

    def forward(features, mode, share=None):
        totals = share.totals if share else {}
        packing, is_piece = packing_of(features)
        model = modeling.AlbertModel(
            config,
            mode == tf.estimator.ModeKeys.TRAIN,
            features["input_ids"],
            features.get("input_mask"),
            features["segment_ids"],
            execution,
            dropout_seed=share.dropout_seed if share else None,
            output_positions=features["masked_lm_positions"],
            packing=packing,
            scope="bert",  # a default name would differ between micro-batches
        )
        masked_lm = modeling.masked_lm_head(
            model,
            features["masked_lm_positions"],
            features["masked_lm_ids"],
            features["masked_lm_weights"],
            totals.get("masked_lm"),
        )
        order = modeling.sentence_order_head(
            model,
            features["next_sentence_labels"],
            features["next_sentence_weights"],
            totals.get("sentence_order"),
        )
        # With weight 0, LAMB would still move the weights of this head: by weight decay alone.
        weighted = sentence_order_weight * order.loss if sentence_order_weight else 0.0
        return model_fn.ModelOutputs(
            loss=masked_lm.loss + weighted,
            predictions=None,
            eval_metrics=(
                pretraining_metrics,
                metric_tensors(features, masked_lm, order, model.get_pooled_output()),
            ),
            scalars={"masked_lm_loss": masked_lm.loss, "sentence_order_loss": order.loss},
            is_piece=is_piece,
        )

    return forward


def packing_of(features):
    """Return (`modeling.Packing` or None; bool [B, S], False for padding) of a batch."""
    if "chunk_ids" not in features:
        return None, tf.not_equal(features["input_mask"], 0)
    packing = modeling.Packing(*[features[name] for name in modeling.Packing._fields])
    return packing, tf.not_equal(packing.chunk_ids, 0)
