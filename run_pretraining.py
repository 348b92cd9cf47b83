"""Pre-train ALBERT on masked pieces and sentence order, on TPU, GPU or CPU."""

import functools
import os

# TensorFlow's C++ start-up prints ten lines even on a sound machine; errors still raise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf
from absl import flags

import modeling
import optimization
from pipeline import (
    checkpoint,
    cli,
    devices,
    estimator,
    manifest,
    metrics,
    records,
    signals,
    training,
)
from pipeline.errors import UserError
from pipeline.examples import pretraining_schema
from pipeline.files import find_files

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
    flags.DEFINE_integer(
        "eval_every_steps",
        0,
        "With do_train and do_eval: evaluate every so many steps as well, and keep the checkpoint "
        "of the lowest loss in output_dir/best; 0: only at the end.",
        lower_bound=0,
        **options,
    )
    flags.DEFINE_integer(
        "eval_steps", None, "Batches of an evaluation; all of them if left out.", **options
    )
    estimator.define_optimizer_flags(
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
    records.define_input_flags(flag_values)
    estimator.define_run_flags(flag_values, train_batch_size=4096, eval_batch_size=64)


def main(args):
    """Train, evaluate, or both."""
    check_what_to_do(args)
    settings = estimator.run_settings(args)
    config = modeling.AlbertConfig.from_json_file(args.bert_config_file)
    config.check_sequence_length(args.max_seq_length)
    optimizer = optimizer_config(args, config.layout)
    schema = pretraining_schema(args.max_seq_length, args.max_predictions_per_seq)
    train_files, eval_files = input_files(args)
    check_manifests(args, config.vocab_size, sorted({*train_files, *eval_files}))
    placement = estimator.start(settings, step_memory(args, config) if args.do_train else None)
    find = checkpoint.find_start if args.do_train else checkpoint.find_trained
    find(settings.output_dir, settings.init_checkpoint)
    model_fn = estimator.make_model_fn(
        make_forward(config, modeling.Execution(one_hot_embeddings=settings.use_tpu)),
        settings,
        estimator.Training(
            functools.partial(
                optimization.create_train_op, config=optimizer, use_tpu=settings.use_tpu
            ),
            loss_weights,
            placement,
            args.num_train_steps,
        ),
    )
    runner = estimator.make_runner(model_fn, settings, placement)
    # Both before training, so that bad evaluation files are told at once.
    train_input = args.do_train and make_train_input_fn(args, train_files, schema)
    eval_input = args.do_eval and records.make_input_fn(
        eval_files,
        schema,
        training=False,
        folder=args.output_dir,
        settings=records.input_settings(args),
    )
    evaluation = args.do_eval and training.Evaluation(
        lambda: evaluate(runner, eval_input, args.eval_steps), args.eval_every_steps, "loss"
    )
    with estimator.user_errors(), signals.OrderlyEnd() as end:
        if args.do_train:
            steps = (args.num_train_steps, settings.save_checkpoints_steps)
            results = training.train_and_evaluate(runner, train_input, *steps, end, evaluation)
        else:
            results = evaluation.run() if runner.is_chief else None
        if results:
            estimator.write_results(settings.output_dir, RESULTS, results)


def check_what_to_do(args):
    """Raise UserError for a choice of parts that does not make sense."""
    if not (args.do_train or args.do_eval):
        raise UserError("nothing to do: give --do_train=True or --do_eval=True")
    if args.eval_every_steps and not (args.do_train and args.do_eval):
        raise UserError(
            "--eval_every_steps={} needs --do_train=True and --do_eval=True".format(
                args.eval_every_steps
            )
        )


def optimizer_config(args, layout):
    """Return the `OptimizerConfig` of the flags; LAMB's slots follow the layout."""
    return optimization.checked_config(
        num_train_steps=args.num_train_steps,
        num_warmup_steps=args.num_warmup_steps,
        slots=layout,
        **estimator.optimizer_fields(args),
    )


def input_files(args):
    """Return the lists of training and of evaluation files.

    Raises:
        UserError: where a file is needed and not found.
    """
    if not args.input_file and (args.do_train or not args.eval_input_file):
        raise UserError("--input_file is needed: TFRecords of create_pretraining_data.py")
    train_files = find_files(args.input_file) if args.input_file else []
    if args.eval_input_file:
        return train_files, find_files(args.eval_input_file)
    if args.do_eval:
        tf.logging.warning(
            "EVALUATION ON THE TRAINING FILES, since --eval_input_file is not given: "
            "the accuracies will say nothing about text that the model has not seen"
        )
    return train_files, train_files


def make_train_input_fn(args, train_files, schema):
    """Return the input function of training; it goes on where the latest checkpoint stopped."""
    return records.make_input_fn(
        train_files,
        schema,
        training=True,
        seed=args.random_seed,
        first_example=lambda: checkpoint.latest_step(args.output_dir) * args.train_batch_size,
        folder=args.output_dir,
        settings=records.input_settings(args),
    )


def check_manifests(args, vocab_size, files):
    """Hold the manifests beside the records against flags and model; warn of what differs.

    Raises:
        UserError: names both values where the records cannot be used.
    """
    for warning in manifest.check_manifests(
        files, args.max_seq_length, args.max_predictions_per_seq, vocab_size
    ):
        tf.logging.warning(warning)


def step_memory(args, config):
    """Return what a training step needs of a device's memory."""
    return devices.StepMemory(
        num_weights=sum(modeling.count_parameters(config).values()),
        bytes_per_example=modeling.activation_bytes(
            config, args.max_seq_length, args.max_predictions_per_seq
        ),
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
        return estimator.ModelOutputs(
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
    results = {"global_step": int(found["global_step"])}
    # The Estimator's own loss counts the examples that fill up the last batch; this does not.
    results["loss"] = float(found["masked_lm_loss"] + found["sentence_order_loss"])
    for name in sorted(found):
        if name.startswith(("masked_lm", "sentence_order")):
            results[name] = float(found[name])
    return results


if __name__ == "__main__":
    cli.run(main, define_flags)
