"""Fine-tune ALBERT on a classification task, evaluate it and predict, on TPU, GPU or CPU."""

import functools
import json
import os

# TensorFlow's C++ start-up prints ten lines even on a sound machine; errors still raise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags

import modeling
import optimization
import tokenization
from pipeline import (
    bucketing,
    checkpoint,
    cli,
    devices,
    estimator,
    files,
    metrics,
    record_index,
    results,
    signals,
    tasks,
    training,
)
from pipeline.errors import UserError
from pipeline.features import cached_features, measure_lengths
from pipeline.scores import warn_at_chance_level

RESULTS = "eval_results"
TEST_RESULTS = "test_results"
# The classifier's own variables: a pre-trained checkpoint does not have them.
NEW_VARIABLES = r"^output_(weights|bias)$"
# Fewest pieces that leave each text of a pair one: [CLS] a [SEP] b [SEP].
SHORTEST_SEQUENCE = 5


def define_flags(flag_values):
    """Define this script's flags."""
    options = {"flag_values": flag_values}
    flags.DEFINE_string(
        "task_name", None, "Task: {}.".format(", ".join(sorted(tasks.TASKS))), **options
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder of the task's train, dev and test files.", **options
    )
    flags.DEFINE_string("bert_config_file", None, "JSON file of the model.", **options)
    for name in ("task_name", "data_dir", "bert_config_file"):
        flags.mark_flag_as_required(name, flag_values)
    flags.DEFINE_string("vocab_file", None, "WordPiece vocabulary, one piece a line.", **options)
    flags.DEFINE_string(
        "spm_model_file", None, "SentencePiece model, in place of vocab_file.", **options
    )
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text and strip accents.", **options)
    flags.DEFINE_integer(
        "max_seq_length",
        128,
        "Pieces of a sequence; longer pairs lose the end of the longer text.",
        lower_bound=SHORTEST_SEQUENCE,
        **options,
    )
    flags.DEFINE_bool("do_train", False, "Train on the train file.", **options)
    flags.DEFINE_bool("do_eval", False, "Evaluate on the dev file.", **options)
    flags.DEFINE_bool("do_predict", False, "Predict the labels of the test file.", **options)
    estimator.define_optimizer_flags(
        flag_values, optimization.OPTIMIZERS, optimizer="adamw", learning_rate=5e-5
    )
    flags.DEFINE_float(
        "num_train_epochs", 3.0, "Passes over the train file.", lower_bound=0.0, **options
    )
    flags.DEFINE_float(
        "warmup_proportion",
        0.1,
        "Share of the steps over which the learning rate rises.",
        lower_bound=0.0,
        upper_bound=1.0,
        **options,
    )
    flags.DEFINE_bool(
        "dynamic_padding",
        True,
        "Pad a batch to its longest example instead of max_seq_length: the same results, sooner. "
        "A TPU pads everything to one length.",
        **options,
    )
    estimator.define_run_flags(
        flag_values, train_batch_size=32, eval_batch_size=64, predict_batch_size=64
    )


def main(args):
    """Train, evaluate, predict, or any of these."""
    splits = wanted_splits(args)
    settings = estimator.run_settings(args)
    task = tasks.get_task(args.task_name)
    config = modeling.AlbertConfig.from_json_file(args.bert_config_file)
    config.check_sequence_length(args.max_seq_length)
    tokenizer = load_tokenizer(args, config.vocab_size)
    placement = estimator.start(
        settings, step_memory(args, settings, config) if args.do_train else None
    )
    start = find_start(args, settings)
    settings = settings._replace(init_checkpoint=start.checkpoint)
    examples = {split: tasks.load_examples(task, args.data_dir, split) for split in splits}
    optimizer = optimizer_config(args, config.layout, len(examples.get("train", ())))
    inputs = {
        split: make_input_fn(args, task, tokenizer, split, examples[split]) for split in splits
    }
    model_fn = make_model_fn(args, settings, config, task, optimizer, placement)
    runner = estimator.make_runner(model_fn, settings, placement)
    run = describe_run(args, start, [tasks.find_file(task, args.data_dir, s) for s in splits])
    if runner.is_chief:
        results.write(settings.output_dir, run)
    with estimator.user_errors(), signals.OrderlyEnd() as end:
        if args.do_train:
            steps = (optimizer.num_train_steps, settings.save_checkpoints_steps)
            training.train_and_evaluate(runner, inputs["train"], *steps, end)
        if not runner.is_chief:
            return
        results.write(settings.output_dir, run)
        if args.do_eval:
            scores = evaluate(runner, inputs["dev"], examples["dev"])
            results.write(settings.output_dir, run, RESULTS, scores)
        if args.do_predict:
            probabilities = predict(runner, inputs["test"], len(examples["test"]))
            scores = write_predictions(settings.output_dir, task, examples["test"], probabilities)
            results.write(settings.output_dir, run, TEST_RESULTS, scores)


def wanted_splits(args):
    """Return the splits to read, in the order of their use.

    Raises:
        UserError: if there is nothing to do.
    """
    wanted = (("train", args.do_train), ("dev", args.do_eval), ("test", args.do_predict))
    splits = [split for split, is_wanted in wanted if is_wanted]
    if not splits:
        raise UserError("nothing to do: give --do_train=True, --do_eval=True or --do_predict=True")
    return splits


def load_tokenizer(args, vocab_size):
    """Return the tokenizer of the flags.

    Raises:
        UserError: without a vocabulary, for a bad one, or one larger than the model's.
    """
    if not (args.vocab_file or args.spm_model_file):
        raise UserError("--vocab_file is needed, for example albert_config/vocab.txt")
    tokenizer = tokenization.FullTokenizer(args.vocab_file, args.do_lower_case, args.spm_model_file)
    if len(tokenizer.vocab) > vocab_size:
        raise UserError(
            "{} has {} pieces but vocab_size is {} in {}: use the vocabulary that the model was "
            "pre-trained with".format(
                args.spm_model_file or args.vocab_file,
                len(tokenizer.vocab),
                vocab_size,
                args.bert_config_file,
            )
        )
    return tokenizer


def find_start(args, settings):
    """Return the `checkpoint.Start` of the run: what is to be fine-tuned or evaluated.

    Raises:
        UserError: if there is none to evaluate, or if it holds no classifier.
    """
    start = checkpoint.find_start(settings.output_dir, settings.init_checkpoint, args.do_train)
    if not args.do_train and "output_weights" not in checkpoint.read_shapes(start.checkpoint):
        raise UserError(
            "{} holds no classifier (no variable output_weights): fine-tune it first with "
            "--do_train=True, or give the --output_dir of a fine-tuned one".format(start.checkpoint)
        )
    return start


def describe_run(args, start, data):
    """Return what `results.describe` says of a run that reads the files `data`."""
    vocabulary = args.vocab_file or args.spm_model_file
    config = args.bert_config_file
    return results.describe(
        "run_classifier.py", args, start, config=[config], vocabulary=[vocabulary], data=data
    )


def optimizer_config(args, layout, num_examples):
    """Return the `OptimizerConfig` of the flags for a train file of so many examples."""
    num_steps = max(1, int(num_examples * args.num_train_epochs / args.train_batch_size))
    return optimization.checked_config(
        num_train_steps=num_steps,
        num_warmup_steps=int(num_steps * args.warmup_proportion),
        slots=layout,
        **estimator.optimizer_fields(args),
    )


def make_input_fn(args, task, tokenizer, split, examples):
    """Encode a split, if need be, and return the input function that reads its features."""
    tokenizer_settings = {
        name: path and files.sha256(path)
        for name, path in (("vocab", args.vocab_file), ("spm_model", args.spm_model_file))
    }
    tokenizer_settings["do_lower_case"] = args.do_lower_case
    path, encoded = cached_features(
        examples,
        task,
        tokenizer,
        args.max_seq_length,
        os.path.join(args.output_dir, "features"),
        split,
        tokenizer_settings,
        num_workers=os.cpu_count() or 1,
    )
    lengths = measure_lengths(encoded)._asdict()
    tf.logging.info("%s, in pieces: %s", split, json.dumps(lengths))
    if split == "train":
        remember_order(args, path, len(examples))
    fixed = bucketing.fixed_length(encoded, args.max_seq_length) if args.use_tpu else None
    return bucketing.make_input_fn(
        path,
        fixed or args.max_seq_length,
        training=split == "train",
        seed=args.random_seed,
        batch_size=args.train_batch_size,
        first_step=lambda: checkpoint.latest_step(args.output_dir),
        dynamic_padding=args.dynamic_padding and not args.use_tpu,
    )


def remember_order(args, path, num_examples):
    """Keep what the order of training depends on; warn if the run goes on with another."""
    order = record_index.Order(
        files=[[os.path.basename(path), num_examples]],
        seed=args.random_seed,
        shuffle_buffer=None,
        batch_size=args.train_batch_size,
    )
    is_resumed = checkpoint.latest_step(args.output_dir) > 0
    record_index.remember_order(args.output_dir, order, is_resumed)


def step_memory(args, settings, config):
    """Return what a training step needs of a device's memory."""
    execution = modeling.Execution(**devices.execution_fields(settings))
    return devices.StepMemory(
        num_weights=sum(modeling.count_parameters(config).values()),
        bytes_per_example=modeling.activation_bytes(
            config, args.max_seq_length, execution=execution
        ),
    )


def loss_weights(features):
    """Return what the loss is divided by: the number of examples."""
    return {"examples": tf.reduce_sum(features["is_real_example"])}


def make_model_fn(args, settings, config, task, optimizer, placement):
    """Return what `estimator.make_model_fn` makes of this script's model."""
    execution = modeling.Execution(**devices.execution_fields(settings))
    return estimator.make_model_fn(
        make_forward(config, len(task.labels), execution),
        settings,
        estimator.Training(
            functools.partial(optimization.create_train_op, config=optimizer),
            loss_weights,
            placement,
            optimizer.num_train_steps,
        ),
        new_variables=NEW_VARIABLES if args.do_train else None,
    )


def make_forward(config, num_labels, execution=modeling.PLAIN):
    """Return the forward pass of a classifier, a function of (features, mode, share).

    Args:
        config: `modeling.AlbertConfig`.
        num_labels: int.
        execution: `modeling.Execution`.
    """

    def forward(features, mode, share=None):
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        is_predicting = mode == tf.estimator.ModeKeys.PREDICT
        model = modeling.AlbertModel(
            config,
            is_training,
            features["input_ids"],
            features["input_mask"],
            features["segment_ids"],
            execution,
            dropout_seed=share.dropout_seed if share else None,
            scope="bert",  # a default name would be another one for each micro-batch
        )
        labels = None if is_predicting else features["label_ids"]
        head = modeling.classification_head(
            model,
            num_labels,
            labels,
            is_training,
            total_weight=share.totals["examples"] if share else None,
        )
        if is_predicting:
            predictions = {
                "probabilities": tf.nn.softmax(head.logits),  # [B, labels]
                "example_index": features["example_index"],  # [B]
                "is_real_example": features["is_real_example"],  # [B]
            }
            return estimator.ModelOutputs(None, predictions, None)
        tensors = [
            head.example_loss,
            tf.argmax(head.logits, axis=-1, output_type=tf.int32),
            labels,
            features["is_real_example"],
        ]
        return estimator.ModelOutputs(
            head.loss,
            None,
            (metrics.classification_metrics, tensors),
            tokens=tf.reduce_sum(tf.cast(features["input_mask"], tf.float32)),
        )

    return forward


def evaluate(runner, input_fn, examples):
    """Evaluate the latest checkpoint; returns a dict of metrics and warns at chance level."""
    found = runner.evaluate(input_fn)
    scores = {"global_step": int(found["global_step"])}
    scores.update((name, float(found[name])) for name in ("eval_accuracy", "eval_loss"))
    scores["eval_examples"] = len(examples)
    warn_at_chance_level(scores["eval_accuracy"], [example.label for example in examples])
    return scores


def predict(runner, input_fn, num_examples):
    """Return float32 [examples, labels]: the probabilities in the order of the file."""
    rows = {
        int(found["example_index"]): found["probabilities"]
        for found in runner.predict(input_fn, yield_single_examples=True)
        if found["is_real_example"]
    }
    if len(rows) != num_examples:
        raise RuntimeError("{} predictions for {} examples".format(len(rows), num_examples))
    return np.stack([rows[index] for index in range(num_examples)])


def write_predictions(output_dir, task, examples, probabilities):
    """Write the predictions; returns the accuracy over those examples whose label is known.

    `test_results.tsv` has one row an example, in the order of the file: its id, its label if
    known, the predicted label, the probability of every label.

    Args:
        output_dir: str, the folder.
        task: `tasks.Task`.
        examples: list of `tasks.Example`.
        probabilities: float [examples, labels].

    Returns:
        dict with `test_examples` and, where labels are known, `test_accuracy`.
    """
    predictions = [task.labels[i] for i in np.argmax(probabilities, axis=1)]
    rows = [["id", "label", "prediction"] + ["p({})".format(label) for label in task.labels]]
    for example, prediction, row in zip(examples, predictions, probabilities):
        cells = ["{:.6f}".format(probability) for probability in row]
        rows.append([example.guid, example.label or "", prediction] + cells)
    path = os.path.join(output_dir, TEST_RESULTS + ".tsv")
    files.write_text(path, "".join("\t".join(row) + "\n" for row in rows))
    tf.logging.info("%d predictions in %s", len(examples), path)
    scores = {"test_examples": len(examples)}
    right = [e.label == found for e, found in zip(examples, predictions) if e.label is not None]
    if right:
        scores["test_accuracy"] = sum(right) / len(right)
    return scores


if __name__ == "__main__":
    cli.run(main, define_flags)
