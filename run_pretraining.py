"""Pre-train ALBERT on masked pieces and sentence order, on TPU, GPU or CPU."""

import functools
import os

# TensorFlow's C++ start-up prints ten lines even on a sound machine; errors still raise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags

import modeling
import optimization
from checkpointing import model_files, run_folder
from common import cli, signals
from common.errors import UserError
from common.files import find_files
from tfrecords import manifest, reader
from tfrecords.wire import pretraining_schema
from training import devices, loop, metrics, preflight, run_report
from training.flags import (
    define_optimizer_flags,
    define_run_flags,
    optimizer_fields,
    refuse_local_paths,
    run_settings,
)
from training.model_fn import ModelOutputs, Training, make_model_fn, make_runner, user_errors

RESULTS = "eval_results"


def define_flags(flag_values):
    """Define this script's flags."""
    options = {"flag_values": flag_values}
    flags.DEFINE_string(
        "input_file", None, "TFRecords to train on: paths and globs, comma-separated.", **options
    )
    flags.DEFINE_string(
        "eval_input_file",
        None,
        "TFRecords held out for evaluation; without it the training files are evaluated.",
        **options,
    )
    flags.DEFINE_string("bert_config_file", None, "JSON file of the model.", **options)
    flags.mark_flag_as_required("bert_config_file", flag_values)
    flags.DEFINE_integer(
        "max_seq_length",
        512,
        "Pieces of a sequence; shorter records are padded.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_integer(
        "max_predictions_per_seq",
        51,
        "Masked pieces of a sequence; fewer are padded.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_bool("do_train", False, "Train.", **options)
    flags.DEFINE_bool("do_eval", False, "Evaluate, after training if there is any.", **options)
    loop.define_evaluation_flags(flag_values, "lowest loss")
    define_optimizer_flags(
        flag_values, optimization.OPTIMIZERS, optimizer="lamb", learning_rate=0.00176
    )
    flags.DEFINE_integer(
        "num_train_steps", 125000, "Steps to train, warm-up included.", lower_bound=1, **options
    )
    flags.DEFINE_integer(
        "num_warmup_steps",
        3125,
        "Steps over which the learning rate rises.",
        lower_bound=0,
        **options,
    )
    reader.define_input_flags(flag_values)
    define_run_flags(flag_values, train_batch_size=4096, eval_batch_size=64)
    preflight.define_flags(flag_values)


def main(args):
    """Train, evaluate, or both."""
    plan = preflight.run(CHECKS, args)
    settings = plan.settings
    model_fn = make_model_fn(
        make_forward(plan.config, plan.execution),
        settings,
        Training(
            functools.partial(optimization.create_train_op, config=plan.optimizer),
            loss_weights,
            plan.placement,
            args.num_train_steps,
        ),
    )
    runner = make_runner(model_fn, settings, plan.placement)
    # Both before training, so that bad evaluation files are told at once.
    train_input = args.do_train and make_input_fn(args, plan.train_files, training=True)
    eval_input = args.do_eval and make_input_fn(args, plan.eval_files, training=False)
    evaluation = args.do_eval and loop.Evaluation(
        lambda: evaluate(runner, eval_input, args.eval_steps), args.eval_every_steps, "loss"
    )
    run = run_report.describe(
        "run_pretraining.py", args, plan.start, config=[args.bert_config_file], records=plan.files
    )
    if runner.is_chief:
        run_report.write(settings.output_dir, run)
        model_files.write_config(settings.output_dir, plan.config)
    with user_errors(), signals.OrderlyEnd() as end:
        if args.do_train:
            steps = (args.num_train_steps, settings.save_checkpoints_steps)
            found = loop.train_and_evaluate(runner, train_input, *steps, end, evaluation)
        else:
            found = evaluation.run() if runner.is_chief else None
        if runner.is_chief:
            run_report.write(settings.output_dir, run, RESULTS, found)


# ------------------------------------------------------------------------------- checks


def look_at_flags(plan):
    """See that there is something to do; sets `settings`."""
    args = plan.args
    if not (args.do_train or args.do_eval):
        raise UserError("nothing to do: give --do_train=True or --do_eval=True")
    if args.eval_every_steps and not (args.do_train and args.do_eval):
        raise UserError(
            "--eval_every_steps={} needs --do_train=True and --do_eval=True".format(
                args.eval_every_steps
            )
        )
    plan.settings = run_settings(args)
    plan.folders = [args.output_dir]
    plan.keeps_best = args.do_train and args.do_eval
    return " and ".join(name for name in ("do_train", "do_eval") if args[name].value)


def look_at_config(plan):
    """Read the model's config; sets `config`, `shapes` and `num_weights`."""
    plan.config = config = modeling.AlbertConfig.from_json_file(plan.args.bert_config_file)
    config.check_sequence_length(plan.args.max_seq_length)
    plan.shapes = modeling.parameter_shapes(config)
    plan.num_weights = sum(int(np.prod(shape)) for shape in plan.shapes.values())
    return preflight.config_line(plan.args.bert_config_file, config, plan.num_weights)


def look_at_optimizer(plan):
    """Hold the optimizer's flags against each other and the batch; sets `optimizer`, `slot_names`.

    LAMB's slots follow the layout.
    """
    args = plan.args
    plan.optimizer = optimizer = optimization.checked_config(
        num_train_steps=args.num_train_steps,
        num_warmup_steps=args.num_warmup_steps,
        slots=plan.config.layout,
        **optimizer_fields(args),
    )
    plan.slot_names = optimization.create_optimizer(optimizer, 0.0).slot_names
    if args.do_train:
        preflight.warn_of_learning_rate(
            args.optimizer, args.learning_rate, args.train_batch_size, plan.config.hidden_size
        )
    return "{}, learning rate {:g} after {} of {} steps".format(
        args.optimizer, args.learning_rate, args.num_warmup_steps, args.num_train_steps
    )


def look_at_records(plan):
    """Hold the records against the flags; sets `train_files`, `eval_files` and `files`, both.

    Raises:
        UserError: where a file is needed and not found, or cannot be used or reached.
    """
    args = plan.args
    for name in ("input_file", "eval_input_file"):
        refuse_local_paths(plan.settings, name, args[name].value)
    plan.train_files, plan.eval_files = input_files(args)
    plan.files = sorted(set(plan.train_files + plan.eval_files))
    for warning in manifest.check_manifests(
        plan.files, args.max_seq_length, args.max_predictions_per_seq, plan.config.vocab_size
    ):
        tf.logging.warning(warning)
    if args.check_only:  # else the input functions do so
        schema = pretraining_schema(args.max_seq_length, args.max_predictions_per_seq)
        for files in filter(None, (plan.train_files, plan.eval_files)):
            reader.check_records(files, schema)
    return "sequences of {}, {} predictions; files to train on: {}, to evaluate with: {}".format(
        args.max_seq_length,
        args.max_predictions_per_seq,
        len(plan.train_files) if args.do_train else 0,
        len(plan.eval_files) if args.do_eval else 0,
    )


def input_files(args):
    """Return the lists of training and of evaluation files.

    Raises:
        UserError: where a file is needed and not found.
    """
    if not args.input_file and (args.do_train or not args.eval_input_file):
        raise UserError("--input_file is needed: TFRecords of create_pretraining_data.py")
    train_files = find_files(args.input_file) if args.input_file else []
    eval_files = find_files(args.eval_input_file) if args.eval_input_file else train_files
    seen = [path for path in eval_files if path in set(train_files)]
    if args.do_eval and seen:
        tf.logging.warning(
            "EVALUATION ON THE TRAINING FILES, %d of %d: the accuracies will say little about text "
            "that the model has not seen; name other files with --eval_input_file",
            len(seen),
            len(eval_files),
        )
    return train_files, eval_files


def look_at_devices(plan):
    """Decide how a batch is computed; sets `execution`, `step_memory` and `placement`."""
    args = plan.args
    plan.execution = modeling.Execution(**devices.execution_fields(plan.settings))
    plan.step_memory = devices.StepMemory(
        num_weights=plan.num_weights,
        bytes_per_example=modeling.activation_bytes(
            plan.config, args.max_seq_length, args.max_predictions_per_seq, plan.execution
        ),
    )
    return preflight.look_at_placement(plan)


CHECKS = (
    ("flags", look_at_flags),
    ("config", look_at_config),
    ("optimizer", look_at_optimizer),
    ("records", look_at_records),
    ("vocabulary", preflight.look_at_vocabulary),
    ("devices", look_at_devices),
    ("memory", preflight.look_at_memory),
    ("output_dir", preflight.look_at_disk),
    ("start", preflight.look_at_start),
)


# ------------------------------------------------------------------------------- model


def make_input_fn(args, files, training):
    """Return an input function; that of training goes on where the latest checkpoint stopped."""
    return reader.make_input_fn(
        files,
        pretraining_schema(args.max_seq_length, args.max_predictions_per_seq),
        training,
        seed=args.random_seed,
        batch_size=args.train_batch_size,
        first_example=lambda: run_folder.latest_step(args.output_dir) * args.train_batch_size,
        folder=args.output_dir,
        settings=reader.input_settings(args),
    )


def loss_weights(features):
    """Return what each loss is divided by: the number of masked pieces and of examples."""
    return {
        "masked_lm": tf.reduce_sum(features["masked_lm_weights"]),
        "sentence_order": tf.reduce_sum(features["is_real_example"]),
    }


def make_forward(config, execution=modeling.PLAIN):
    """Return the forward pass of pre-training, a function of (features, mode, share).

    Args:
        config: `modeling.AlbertConfig`.
        execution: `modeling.Execution`.
    """

    def forward(features, mode, share=None):
        totals = share.totals if share else {}
        model = modeling.AlbertModel(
            config,
            mode == tf.estimator.ModeKeys.TRAIN,
            features["input_ids"],
            features["input_mask"],
            features["segment_ids"],
            execution,
            dropout_seed=share.dropout_seed if share else None,
            output_positions=features["masked_lm_positions"],
            scope="bert",  # a default name would be another one for each micro-batch
        )
        masked_lm = modeling.masked_lm_head(
            model,
            features["masked_lm_positions"],
            features["masked_lm_ids"],
            features["masked_lm_weights"],
            totals.get("masked_lm"),
        )
        order = modeling.sentence_order_head(
            model, features["next_sentence_labels"], totals.get("sentence_order")
        )
        return ModelOutputs(
            loss=masked_lm.loss + order.loss,
            predictions=None,
            eval_metrics=(metrics.pretraining_metrics, metric_tensors(features, masked_lm, order)),
            scalars={"masked_lm_loss": masked_lm.loss, "sentence_order_loss": order.loss},
            tokens=tf.reduce_sum(tf.cast(features["input_mask"], tf.float32)),
        )

    return forward


def metric_tensors(features, masked_lm, order):
    """Return the arguments of `metrics.pretraining_metrics`."""
    return [
        masked_lm.example_loss,
        tf.argmax(masked_lm.logits, axis=-1, output_type=tf.int32),
        features["masked_lm_ids"],
        features["masked_lm_weights"],
        order.example_loss,
        tf.argmax(order.logits, axis=-1, output_type=tf.int32),
        features["next_sentence_labels"],
        features["is_real_example"],
    ]


def evaluate(runner, input_fn, max_steps):
    """Evaluate the latest checkpoint; returns a dict of metrics over real examples only."""
    found = runner.evaluate(input_fn, steps=max_steps)
    scores = {"global_step": int(found["global_step"])}
    # The Estimator's own loss counts the examples that fill up the last batch; this does not.
    scores["loss"] = float(found["masked_lm_loss"] + found["sentence_order_loss"])
    for name in sorted(found):
        if name.startswith(("masked_lm", "sentence_order")):
            scores[name] = float(found[name])
    return scores


if __name__ == "__main__":
    cli.run(main, define_flags)
