"""Streaming metrics against an average computed in numpy over the same batches."""

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import run_pretraining
from common import cli
from pretraining.run_checks import check_config, check_optimizer
from pretraining.scores import pretraining_metrics, symptoms

BATCH, POSITIONS = 4, 5
WIDTH = 6
FILLED_UP = 2  # examples that only fill up the last batch


def evaluate(metric_fn, batches):
    """Run `metric_fn` over batches of numpy arrays as an evaluation loop does."""
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = {
            name: tf.placeholder(value.dtype, value.shape) for name, value in batches[0].items()
        }
        pairs = metric_fn(**feeds)
        session.run(tf.local_variables_initializer())
        for batch in batches:
            session.run(
                [update for _, update in pairs.values()],
                {feeds[name]: batch[name] for name in batch},
            )
        return session.run({name: value for name, (value, _) in pairs.items()})


def real_flags(last):
    flags = np.ones([BATCH], np.float32)
    if last:
        flags[-FILLED_UP:] = 0.0
    return flags


def pretraining_batch(rng, last):
    positions = [BATCH * POSITIONS]
    is_real = real_flags(last)[:, np.newaxis]
    weights = rng.integers(0, 2, [BATCH, POSITIONS]) * is_real  # examples of zeros have no weights
    return {
        "masked_lm_loss": rng.uniform(0.0, 9.0, positions).astype(np.float32),
        "masked_lm_pieces": rng.integers(0, 3, positions, np.int32),
        "ids": rng.integers(0, 3, positions, np.int32),
        "weights": weights.astype(np.float32),
        "order_loss": rng.uniform(0.0, 2.0, [BATCH]).astype(np.float32),
        "order": rng.integers(0, 2, [BATCH], np.int32),
        "order_labels": rng.integers(0, 2, [BATCH, 1], np.int32),
        "order_weights": is_real,
        "pooled": np.tanh(rng.normal(0, 2, [BATCH, WIDTH])).astype(np.float32),
    }


def two_batches(make_batch):
    rng = np.random.default_rng(1)
    return [make_batch(rng, last=False), make_batch(rng, last=True)]


def joined(batches, name):
    return np.concatenate([batch[name].ravel() for batch in batches])


def average(values, kept):
    return np.mean(values[kept])


def test_pretraining_metrics_weigh_positions_and_real_examples():
    batches = two_batches(pretraining_batch)
    real = joined(batches, "order_weights") > 0
    masked = joined(batches, "weights") > 0
    right_ids = joined(batches, "masked_lm_pieces") == joined(batches, "ids")
    right_order = joined(batches, "order") == joined(batches, "order_labels")
    pooled = np.concatenate([batch["pooled"] for batch in batches])[real]
    found = evaluate(pretraining_metrics, batches)
    assert found == pytest.approx(
        {
            "masked_lm_accuracy": average(right_ids, masked),
            "masked_lm_loss": average(joined(batches, "masked_lm_loss"), masked),
            "sentence_order_accuracy": average(right_order, real),
            "sentence_order_loss": average(joined(batches, "order_loss"), real),
            "pooler_saturation": np.mean(abs(pooled) > 0.99),
            "pooler_spread": np.mean(np.std(pooled, axis=0)),
        },
        rel=1e-5,
    )


def test_what_fills_up_a_batch_changes_nothing():
    batches = two_batches(pretraining_batch)
    before = evaluate(pretraining_metrics, batches)
    for name, values in batches[-1].items():
        if name not in ("order_weights", "weights"):
            values[-FILLED_UP * (len(values) // BATCH) :] += 1
    assert evaluate(pretraining_metrics, batches) == before


HEALTHY = {
    "masked_lm_accuracy": 0.3,
    "sentence_order_accuracy": 0.75,
    "sentence_order_loss": 0.5,
    "pooler_saturation": 0.1,
    "pooler_spread": 0.4,
}


@pytest.mark.parametrize(
    "changed, lines",
    [
        ({}, []),
        ({"pooler_saturation": 0.97}, ["SATURATED POOLER: 97%"]),
        ({"pooler_spread": 2e-5}, ["DEAD POOLER: its output is the same for every text"]),
        ({"sentence_order_loss": 0.6931}, ["SENTENCE ORDER AT CHANCE (75.0%)"]),
        # A model learns the order only after the masked pieces, so no line is expected.
        ({"sentence_order_loss": 0.6931, "masked_lm_accuracy": 0.1}, []),
    ],
)
def test_symptoms_of_a_sick_model(changed, lines):
    found = symptoms(dict(HEALTHY, **changed))
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines))


def test_pooler_and_order_head_may_learn_at_a_rate_of_their_own(tmp_path):
    helpers.write_config(tmp_path, 60, 16)
    given = ["--bert_config_file={}/config.json".format(tmp_path), "--pooler_lr_factor=0.05"]
    args = cli.parse(
        run_pretraining.define_flags, ["", "--output_dir=out", "--max_seq_length=16"] + given
    )
    model, _ = check_config(args)
    schedule, _ = check_optimizer(args, model)
    factors = dict(schedule.optimizer.rate_factors)
    slower = {name for name in model.shapes if name.startswith(tuple(factors))}
    assert set(factors.values()) == {0.05}
    assert slower == {
        "bert/pooler/dense/kernel",
        "bert/pooler/dense/bias",
        "cls/seq_relationship/output_weights",
        "cls/seq_relationship/output_bias",
    }
