"""Pre-train ALBERT on masked pieces and sentence order, on TPU, GPU or CPU."""

import functools
import os
from typing import NamedTuple, Optional

# Hides the ten lines that TensorFlow's C++ code prints at its start; errors still raise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf
from absl import flags

import modeling
import optimization
from checkpointing import model_files, run_folder
from common import checks, cli, signals
from common.errors import UserError
from masking import inputs
from tfrecords import manifest
from training import best_checkpoint, devices, loop, memory, model_fn, preflight, run_report
from training.flags import (
    RunSettings,
    define_optimizer_flags,
    define_run_flags,
    optimizer_fields,
    refuse_local_paths,
    run_settings,
)
from training.placement import Computation
from training.trainer import make_trainer, user_errors

RESULTS = "eval_results"
# The parts of the model that only the order of sentences trains.
SENTENCE_ORDER_PARTS = ("bert/pooler", "cls/seq_relationship")
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


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("bert_config_file", None, "JSON config of the model.", required=True)
    inputs.define_flags(flag_values)
    define.bool("do_train", False, "Train.")
    define.bool("do_eval", False, "Evaluate; with do_train, after training.")
    loop.define_evaluation_flags(flag_values, "lowest loss")
    define_optimizer_flags(
        flag_values, optimization.OPTIMIZERS, optimizer="lamb", learning_rate=0.00176
    )
    define.integer("num_train_steps", 125000, "Steps to train, warm-up included.", lower_bound=1)
    define.integer(
        "num_warmup_steps", 3125, "Steps over which the learning rate rises.", lower_bound=0
    )
    define.float(
        "pooler_lr_factor",
        1.0,
        "Factor of the learning rate of the pooler and the sentence-order head. 0.05 suits AdamW.",
        lower_bound=0.0,
    )
    define_run_flags(flag_values, train_batch_size=4096, eval_batch_size=64)
    checks.define_flags(flag_values)


class PretrainingRun(NamedTuple):
    """A run whose checks have passed."""

    args: flags.FlagValues
    settings: RunSettings
    model: preflight.Model
    schedule: preflight.Schedule
    records: inputs.Records
    vocab_sha256: Optional[str]  # None where the records have no manifest
    computation: Computation
    start: run_folder.Start


def main(args):
    """Train, evaluate, or both."""
    run = checks.run_checks(check_run, args)
    trainer = make_trainer(make_model_fn(run), run.settings, run.computation.placement)
    # Both are made before training, so that bad evaluation files are reported at once.
    train_input = args.do_train and inputs.make_input_fn(args, run.records.train, training=True)
    evaluation = args.do_eval and make_evaluation(run, trainer)
    report = run_report.new_report(
        "run_pretraining.py",
        args,
        run.start,
        config=[args.bert_config_file],
        records=run.records.paths,
    )
    report["vocab_sha256"] = run.vocab_sha256
    report["made_with"] = made_with(args, run.settings, run.model, run.schedule)
    if trainer.is_chief:
        run_report.write(args.output_dir, report)
        model_files.write_config(args.output_dir, run.model.config)
    with user_errors(), signals.OrderlyEnd() as end:
        if args.do_train:
            steps = (args.num_train_steps, run.settings.save_checkpoints_steps)
            scores = loop.train_and_evaluate(trainer, train_input, *steps, end, evaluation)
        else:
            scores = evaluation.run() if trainer.is_chief else None
        if trainer.is_chief:
            run_report.write(args.output_dir, report, RESULTS, scores)


def make_evaluation(run, trainer):
    """Return the `best_checkpoint.Evaluation` of a run; it uses all records to evaluate on."""
    input_fn = inputs.make_input_fn(run.args, run.records.evaluation, training=False)
    general = run.records.general
    general_input_fn = general.paths and inputs.make_input_fn(run.args, general, training=False)

    def run_evaluation():
        scores = evaluate(trainer, input_fn, run.args.eval_steps)
        if general_input_fn:
            others = evaluate(trainer, general_input_fn, run.args.eval_steps, name="general")
            del others["global_step"]
            scores.update(("general_" + score, value) for score, value in others.items())
        return scores

    every = run.args.eval_every_steps
    at_start = run.start.mode == "warm start"
    return best_checkpoint.Evaluation(run_evaluation, every, "loss", at_start=at_start)


# ------------------------------------------------------------------------------- checks


def check_run(args, check):
    """Return the `PretrainingRun` of parsed flags.

    Args:
        args: the parsed flags.
        check: `checks.Checks`.
    """
    settings = check("flags", check_flags, args)
    model = check("config", check_config, args)
    schedule = check("optimizer", check_optimizer, args, model)
    records = check("records", check_records, args, settings, model)
    vocabulary = check("vocabulary", preflight.check_records_vocabulary, args, records)
    check("output_dir", check_disk, args, settings, model, schedule)
    start = check("start", preflight.check_start, args, args.output_dir)
    check("weights", check_weights, args, settings, start, model, schedule, records, vocabulary)
    settings = check("tpu", preflight.check_tpu, settings)
    computation = check("devices", check_devices, args, settings, model, records)
    check("memory", preflight.check_memory, settings, computation)
    return PretrainingRun(args, settings, model, schedule, records, vocabulary, computation, start)


def check_flags(args):
    """Check that there is something to do; returns (`RunSettings`, line)."""
    if not (args.do_train or args.do_eval):
        raise UserError("nothing to do: give --do_train=True or --do_eval=True")
    if args.general_eval_input_file and not args.do_eval:
        text = "--general_eval_input_file={} needs --do_eval=True"
        raise UserError(text.format(args.general_eval_input_file))
    if args.eval_every_steps and not (args.do_train and args.do_eval):
        text = "--eval_every_steps={} needs --do_train=True and --do_eval=True"
        raise UserError(text.format(args.eval_every_steps))
    wanted = [name for name in ("do_train", "do_eval") if args[name].value]
    return run_settings(args), " and ".join(wanted)


def check_config(args):
    """Read the model's config; returns (`preflight.Model`, line)."""
    config = modeling.AlbertConfig.from_json_file(args.bert_config_file)
    config.check_sequence_length(args.max_seq_length)
    config.check_pairs()
    model = preflight.Model(config, modeling.parameter_shapes(config))
    return model, preflight.model_line(args.bert_config_file, model)


def check_optimizer(args, model):
    """Check the optimizer's flags against each other.

    LAMB names its slots as the model's layout does.

    Returns:
        (`preflight.Schedule`, line).
    """
    if args.num_warmup_steps > args.num_train_steps and not args["num_warmup_steps"].present:
        text = (
            "--num_train_steps={0} is less than the default of --num_warmup_steps, {1}: give "
            "--num_warmup_steps={2} or another number up to {0}"
        )
        steps = args.num_train_steps
        raise UserError(text.format(steps, args.num_warmup_steps, steps // 10))
    optimizer = optimization.checked_config(
        num_train_steps=args.num_train_steps,
        num_warmup_steps=args.num_warmup_steps,
        slots=model.config.layout,
        rate_factors=tuple((prefix, args.pooler_lr_factor) for prefix in SENTENCE_ORDER_PARTS),
        **optimizer_fields(args),
    )
    schedule = preflight.Schedule(
        optimizer,
        optimization.create_optimizer(optimizer, 0.0).slot_names,
        optimization.LossScale.VARIABLES if args.precision == "float16" else {},
        args.train_batch_size,
    )
    line = "{}, learning rate {:g} after {} of {} steps".format(
        args.optimizer, args.learning_rate, args.num_warmup_steps, args.num_train_steps
    )
    return schedule, line


def check_records(args, settings, model):
    """Check the records against the flags; returns (`inputs.Records`, line).

    Raises:
        UserError: where a file is needed and missing, or cannot be used or reached.
    """
    for name in ("input_file", "eval_input_file", "general_eval_input_file"):
        refuse_local_paths(settings, name, args[name].value)
    records = inputs.read_records(args)
    for warning in manifest.check_manifests(
        records.paths,
        args.max_seq_length,
        records.max_predictions_per_seq,
        model.config.vocab_size,
    ):
        tf.logging.warning(warning)
    records.check_ids(model.config.vocab_size)
    if args.do_train:
        preflight.warn_of_learning_rate(
            args.optimizer,
            args.learning_rate,
            int(args.train_batch_size * records.chunks_per_row),
            model.config.hidden_size,
        )
    line = "sequences of {} pieces, {} predictions; {} files to train on, {} to evaluate on".format(
        args.max_seq_length,
        records.max_predictions_per_seq,
        len(records.train.paths) if args.do_train else 0,
        len(records.evaluation.paths) if args.do_eval else 0,
    )
    if records.max_chunks_per_row > 1:
        line = "compact, up to {} chunks a row; ".format(records.max_chunks_per_row) + line
    if args.check_only:  # else the input functions check them
        num_read = records.check_damage(args)
        line += "; {:,} records read".format(num_read) if num_read else "; only their first read"
    return records, line


def check_devices(args, settings, model, records):
    """Decide how a batch is computed; returns (`placement.Computation`, line)."""
    execution = modeling.Execution(**devices.execution_fields(settings))
    batch_size = args.train_batch_size if args.do_train else None
    return preflight.check_placement(
        settings, execution, step_memory(args, model, execution, records), batch_size
    )


def step_memory(args, model, execution, records):
    """Return the `memory.StepMemory` of a training step."""
    return memory.StepMemory(
        num_weights=model.num_weights,
        bytes_per_example=memory.activation_bytes(
            model.config,
            execution,
            args.max_seq_length,
            records.max_predictions_per_seq,
            records.max_chunks_per_row,
        ),
    )


def check_disk(args, settings, model, schedule):
    """Check the disk space for the kept checkpoints, one being written, and the best one."""
    num_kept = settings.keep_checkpoint_max + 1 + args.do_eval if args.do_train else 0
    return preflight.check_disk(settings, [args.output_dir], num_kept, model, schedule)


def check_weights(args, settings, start, model, schedule, records, vocab_sha256):
    """Compare the start of the run with the model and the settings; returns (None, line)."""
    preflight.warn_of_finished_run(start, args.num_train_steps, "--num_train_steps")
    vocab = preflight.vocabulary_of_records(records, vocab_sha256)
    parts = (start, model, schedule if args.do_train else None)
    checked = preflight.check_weights(settings, args.output_dir, *parts, vocab_file=vocab)
    if start.is_own:
        run_report.check_settings(args.output_dir, made_with(args, settings, model, schedule))
    return checked


def made_with(args, settings, model, schedule):
    """Return the settings of training; without training, the kept ones of the last training."""
    if not args.do_train:
        return run_report.made_with(args.output_dir)
    return schedule.made_with(model, settings, rate_factors=args.pooler_lr_factor)


# ------------------------------------------------------------------------------- model


def make_model_fn(run):
    """Return the `model_fn` of a `PretrainingRun`."""
    step = model_fn.TrainingStep(
        functools.partial(optimization.create_train_op, config=run.schedule.optimizer),
        loss_divisors,
        run.computation.placement,
        run.args.num_train_steps,
    )
    forward = make_forward(run.model.config, run.computation.execution)
    settings = run.settings._replace(init_checkpoint=run.start.checkpoint)
    return model_fn.make_model_fn(forward, settings, step)


def loss_divisors(features):
    """Return the divisor of each loss: the number of masked pieces, and of chunks."""
    return {
        "masked_lm": tf.reduce_sum(features["masked_lm_weights"]),
        "sentence_order": tf.reduce_sum(features["next_sentence_weights"]),
    }


def make_forward(config, execution=modeling.PLAIN):
    """Return the forward pass of pre-training, a function of (features, mode, share).

    Features of packed rows have `chunk_ids`, `position_ids` and `chunk_starts`, the fields of
    `modeling.Packing`, in the place of `input_mask`.

    Args:
        config: `modeling.AlbertConfig`.
        execution: `modeling.Execution`.
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
        return model_fn.ModelOutputs(
            loss=masked_lm.loss + order.loss,
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
    """Return the lines of `SYMPTOMS` that scores, a dict that `evaluate` returns, show.

    Nothing is said about the order of sentences before masked pieces are learned, because a model
    learns this order later.
    """
    return [text.format(SLOWER_POOLER, **scores) for is_sick, text in SYMPTOMS if is_sick(scores)]


def evaluate(trainer, input_fn, max_steps, name=None):
    """Evaluate the latest checkpoint; returns a dict of metrics over real examples only."""
    metrics = trainer.evaluate(input_fn, steps=max_steps, name=name)
    scores = {"global_step": int(metrics["global_step"])}
    # Estimator's own loss gives every batch the same weight, however few examples the last one has.
    scores["loss"] = float(metrics["masked_lm_loss"] + metrics["sentence_order_loss"])
    has_order = metrics["sentence_order_loss"] > 0  # it is 0 if no chunk has an order
    scored = ("masked_lm", "sentence_order", "pooler") if has_order else ("masked_lm",)
    names = [name for name in sorted(metrics) if name.startswith(scored)]
    scores.update((name, float(metrics[name])) for name in names)
    if not has_order:
        tf.logging.warning("SENTENCE ORDER was not scored: no chunk of the records has an order")
    for line in symptoms(scores) if has_order else ():
        tf.logging.warning(line)
    return scores


if __name__ == "__main__":
    cli.run(main, define_flags)
