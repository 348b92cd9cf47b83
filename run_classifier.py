"""Fine-tune ALBERT on a classification task, evaluate it and predict, on TPU, GPU or CPU."""

import dataclasses
import functools
import math
import os

# Hides the ten lines that TensorFlow's C++ code prints at its start; errors still raise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
import optimization
from checkpointing import model_files, restore, run_folder
from checkpointing.checkpoint_reader import Checkpoint
from common import checks, cli, signals
from common.errors import UserError
from finetuning import inputs, predictions, scores, seeds, tasks
from finetuning.defaults import choose
from finetuning.flags import define_data_flags, define_training_flags
from finetuning.run import FinetuningRun, Work
from training import best_checkpoint, devices, loop, memory, model_fn, preflight, run_report
from training.flags import define_run_flags, run_settings
from training.trainer import make_trainer, user_errors

# Split -> prefix of the names of its results.
PREFIXES = {"dev": "eval", "test": "test"}
PREDICTIONS = "predictions.tsv"
# The classifier's own variables: a pre-trained checkpoint does not have them.
NEW_VARIABLES = r"^output_(weights|bias)$"


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("bert_config_file", None, "JSON config of the model.", required=True)
    define_data_flags(flag_values)
    define_training_flags(flag_values, optimization.OPTIMIZERS)
    define_run_flags(flag_values, train_batch_size=None, eval_batch_size=64, predict_batch_size=64)
    checks.define_flags(flag_values)


def main(args):
    """Train, evaluate and predict, as the flags ask for, once for every seed."""
    run = checks.run_checks(check_run, args)
    run = run._replace(encoded={split: inputs.encode(run, split) for split in run.work.splits})
    if args.do_train:
        for seed_run in run.work.seed_runs:
            is_resumed = run.starts[seed_run.folder].is_own
            made_with = run.training_settings(seed_run)
            seeds.check_settings(seed_run.folder, made_with, is_resumed, bool(args.seeds))
    with user_errors(), signals.OrderlyEnd() as end:
        metrics = {one.seed: run_seed(run, one, end) for one in run.work.seed_runs}
    if args.seeds and all(metrics.values()):
        seeds.write_summary(args.output_dir, new_report(run, run.work.seed_runs[0]), metrics)


# --------------------------------------------------------------------------------- runs


def run_seed(run, seed_run, end):
    """Train, evaluate and predict with one seed, unless this has been done before.

    Args:
        run: `FinetuningRun`.
        seed_run: `seeds.SeedRun`.
        end: `signals.OrderlyEnd`.

    Returns:
        dict of metrics; empty on workers other than the chief.
    """
    args, folder = run.args, seed_run.folder
    scored = {split: run.encoded[split].name for split in PREFIXES if split in run.work.splits}
    if args.seeds and args.do_train:
        metrics = seeds.finished_metrics(folder, run.training_settings(seed_run), scored)
        if metrics is not None:
            tf.logging.info("%s has already finished with these settings", folder)
            return metrics
    settings = run.settings_of(seed_run)
    trainer = make_trainer(make_model_fn(run, settings), settings, run.computation.placement)
    report = new_report(run, seed_run)
    if trainer.is_chief:
        run_report.write(folder, report)
    if args.do_train:
        train(run, seed_run, trainer, end)
    if not trainer.is_chief:
        return {}
    for split in scored:
        score_best(run, seed_run, trainer, split, report)
    report["finished"] = scored if args.do_train else None
    run_report.write(folder, report)
    return report["metrics"]


def new_report(run, seed_run):
    """Return the report of the run of one seed, without metrics."""
    args = run.args
    report = run_report.new_report(
        "run_classifier.py",
        args,
        run.starts[seed_run.folder],
        config=[args.bert_config_file],
        vocabulary=[args.spm_model_file or args.vocab_file],
        data=list(run.data.files.values()),
    )
    before = run_report.read(seed_run.folder).get("made_with")
    report["made_with"] = run.training_settings(seed_run) if args.do_train else before
    return dict(report, labels=run.data.task.labels, examples=run.data.findings)


def train(run, seed_run, trainer, end):
    """Train in the folder of a seed's run, and evaluate during training if the flags say so."""
    args, task = run.args, run.data.task
    if trainer.is_chief:
        description = model_files.Description(
            task=task.name,
            labels=task.labels,
            max_seq_length=args.max_seq_length,
            config=run.model.config.to_dict(),
            vocab_file=args.vocab_file,
            do_lower_case=args.do_lower_case,
            spm_model_file=args.spm_model_file,
        )
        model_files.write(seed_run.folder, description)
    evaluation = args.do_eval and best_checkpoint.Evaluation(
        lambda: evaluate(run, trainer),
        run.schedule.eval_every_steps,
        "eval_" + task.metric,
        higher_is_better=True,
        patience=args.patience,
    )
    loop.train_and_evaluate(
        trainer,
        inputs.training_input_fn(run, seed_run),
        run.schedule.optimizer.num_train_steps,
        run.work.settings.save_checkpoints_steps,
        end,
        evaluation,
    )


def evaluate(run, trainer):
    """Score the latest checkpoint on dev, for `best_checkpoint.Evaluation`."""
    latest = tf.train.latest_checkpoint(trainer.model_dir)
    _, results = score(run, trainer, "dev", latest)
    numbers = {name: value for name, value in results.items() if isinstance(value, float)}
    metrics = dict(with_prefix("dev", numbers), global_step=run_folder.step_of(latest))
    best_checkpoint.write_curves(trainer.model_dir, metrics)
    return metrics


def score(run, trainer, split, path):
    """Return the probabilities of a split, float32 [examples, labels], and its scores as a dict.

    Args:
        run: `FinetuningRun`.
        trainer: `trainer.Trainer`.
        split: `dev` or `test`.
        path: str, checkpoint of the run, or None for the one that the run starts from.
    """
    num_examples = len(run.data.examples[split])
    input_fn = inputs.scoring_input_fn(run, split)
    probabilities = predictions.predict(trainer, input_fn, num_examples, path)
    label_ids = run.encoded[split].examples.label_ids
    if np.all(label_ids < 0):
        return probabilities, {"examples": num_examples}
    labels = run.data.task.labels
    return probabilities, scores.classification_scores(probabilities, label_ids, labels)


def with_prefix(split, results):
    """Return scores under their names in the results files, with the prefix of the split."""
    return {"{}_{}".format(PREFIXES[split], name): results[name] for name in results}


def score_best(run, seed_run, trainer, split, report):
    """Score a split with the best checkpoint of a run; write scores and predictions."""
    folder = seed_run.folder
    path = run_folder.best_checkpoint(folder) or tf.train.latest_checkpoint(folder)
    probabilities, results = score(run, trainer, split, path)
    report["scored"] = run_report.identify_checkpoint(path or run.starts[folder].checkpoint)
    examples, tables = run.data.examples[split], ""
    if "accuracy" in results:
        labels = [example.label for example in examples if example.label is not None]
        scores.warn_at_chance_level(results["accuracy"], labels)
        tables = scores.class_tables(results)
    metrics = with_prefix(split, results)
    if split == "dev":
        metrics["global_step"] = run_folder.step_of(path) if path else 0
    run_report.write(folder, report, PREFIXES[split] + "_results", metrics, tables)
    if split == "test":
        task, test_file = run.data.task, run.data.files[split]
        table = os.path.join(folder, PREDICTIONS)
        predictions.write_predictions(table, task.labels, examples, probabilities)
        predictions.write_submission(folder, task, test_file, examples, probabilities)


# ------------------------------------------------------------------------------- checks


def check_run(args, check):
    """Return the `FinetuningRun` of parsed flags.

    Args:
        args: the parsed flags.
        check: `checks.Checks`.
    """
    work = check("flags", check_flags, args)
    model = check("config", check_config, args)
    data = check("data", check_data, args, work)
    tokenizer = check("vocabulary", inputs.check_vocabulary, args, model)
    check("pieces", inputs.check_pieces, args, data, tokenizer)
    schedule = check("optimizer", check_optimizer, args, model, data)
    check("output_dir", check_disk, args, work, model, schedule)
    starts = check("start", check_starts, args, work)
    model = check("weights", check_weights, args, work, model, data, tokenizer, schedule, starts)
    work = check("tpu", check_tpu, work)
    computation = check("devices", check_devices, args, work, model, schedule)
    check("memory", check_memory, work, computation)
    return FinetuningRun(args, work, model, data, tokenizer, schedule, computation, starts)


def check_flags(args):
    """Check that there is something to do; returns (`Work`, line)."""
    wanted = (("train", args.do_train), ("dev", args.do_eval), ("test", args.do_predict))
    splits = [split for split, is_wanted in wanted if is_wanted]
    if not splits:
        raise UserError("nothing to do: give --do_train=True, --do_eval=True or --do_predict=True")
    if args.do_train and args.num_train_epochs == 0:
        raise UserError("--num_train_epochs=0 trains nothing: leave --do_train out, or give more")
    if args.patience and not (args.do_train and args.do_eval and args.evals_per_epoch):
        raise UserError(
            "--patience={} needs --do_train=True, --do_eval=True and --evals_per_epoch above "
            "0".format(args.patience)
        )
    if args.patience and args.strategy == "multi_worker":
        raise UserError("--patience and --strategy=multi_worker cannot be used together")
    seed_runs = seeds.seed_runs(args.output_dir, args.random_seed, args.seeds)
    work = Work(run_settings(args), splits, seed_runs)
    numbers = ", ".join(str(seed_run.seed) for seed_run in seed_runs)
    return work, "{}; seed {}".format(", ".join(splits), numbers)


def check_config(args):
    """Read the model's config, with the dropout of the flags; returns (`preflight.Model`, line)."""
    config = modeling.AlbertConfig.from_json_file(args.bert_config_file)
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = dataclasses.replace(config, **given)
    config.check_sequence_length(args.max_seq_length)
    if args.task_name in tasks.TASKS and "text_b" in tasks.TASKS[args.task_name].fields:
        config.check_pairs()
    # The labels, and with them the classifier's shapes, are not known yet.
    model = preflight.Model(config, modeling.parameter_shapes(config, num_labels=0))
    return model, preflight.model_line(args.bert_config_file, model)


def check_data(args, work):
    """Read the examples; returns (`inputs.TaskData`, line)."""
    return inputs.read_task_data(args, work.splits, work.folders)


def check_optimizer(args, model, data):
    """Decide how the weights are trained; returns (`preflight.Schedule`, line).

    Flags that are left out get the values that suit the model's size.
    """
    chosen = choose(args, model.config.hidden_size)
    batch_size, num_examples = chosen.train_batch_size, len(data.examples.get("train", ()))
    num_steps = max(1, int(num_examples * chosen.num_train_epochs / batch_size))
    optimizer = optimization.checked_config(
        optimizer=args.optimizer,
        learning_rate=chosen.learning_rate,
        weight_decay=args.weight_decay,
        num_train_steps=num_steps,
        num_warmup_steps=int(num_steps * args.warmup_proportion),
        slots=model.config.layout,
        rate_factors=rate_factors(model.config, args.layerwise_lr_decay),
    )
    # Rounded up, so that the last evaluation of an epoch is at its last step.
    evals = args.evals_per_epoch
    schedule = preflight.Schedule(
        optimizer,
        optimization.create_optimizer(optimizer, 0.0).slot_names,
        optimization.LossScale.VARIABLES if args.precision == "float16" else {},
        batch_size,
        math.ceil(num_examples / batch_size / evals) if evals else 0,
    )
    if not args.do_train:
        return schedule, "no training"
    preflight.warn_of_learning_rate(
        args.optimizer, chosen.learning_rate, batch_size, model.config.hidden_size
    )
    return (
        schedule,
        "{}, learning rate {:g} after {} of {} steps, {:g} epochs in batches of {}".format(
            args.optimizer,
            chosen.learning_rate,
            optimizer.num_warmup_steps,
            num_steps,
            chosen.num_train_epochs,
            batch_size,
        ),
    )


def rate_factors(config, decay):
    """Return `OptimizerConfig.rate_factors` for a decay of the rate from layer to layer."""
    if decay == 1.0:
        return ()
    distances = modeling.distances_from_head(config)
    return tuple((prefix, decay ** distances[prefix]) for prefix in sorted(distances))


def check_tpu(work):
    """Find the TPU's cores; returns (`Work` with the batches that suit them, line)."""
    predicts = bool({"dev", "test"} & set(work.splits))
    settings, line = preflight.check_tpu(work.settings, predicts)
    return work._replace(settings=settings), line


def check_devices(args, work, model, schedule):
    """Decide how a batch is computed; returns (`placement.Computation`, line)."""
    settings = work.settings
    execution = modeling.Execution(**devices.execution_fields(settings))
    step_memory = memory.StepMemory(
        num_weights=model.num_weights,
        bytes_per_example=memory.activation_bytes(model.config, execution, args.max_seq_length),
    )
    batch_size = schedule.train_batch_size if args.do_train else None
    return preflight.check_placement(settings, execution, step_memory, batch_size)


def check_memory(work, computation):
    """Compare the memory that training needs with the device's; returns (None, line)."""
    return preflight.check_memory(work.settings, computation)


def check_disk(args, work, model, schedule):
    """Check the disk space for the kept checkpoints, one being written, and the best one."""
    num_kept = work.settings.keep_checkpoint_max + 1 + args.do_eval if args.do_train else 0
    return preflight.check_disk(work.settings, work.folders, num_kept, model, schedule)


def check_starts(args, work):
    """Find the checkpoint that the run of every seed starts from.

    Returns:
        (dict of folder to `run_folder.Start`, line).
    """
    checked = {folder: preflight.check_start(args, folder) for folder in work.folders}
    starts = {folder: start for folder, (start, _) in checked.items()}
    return starts, "; ".join(line for _, line in checked.values())


def check_weights(args, work, model, data, tokenizer, schedule, starts):
    """Compare the checkpoints that the runs start from with model, labels and vocabulary.

    Returns:
        (`preflight.Model`, line). The model normalizes the pooled output if a checkpoint does.

    Raises:
        UserError: for an evaluation of a checkpoint without classifier, and for a checkpoint that
            does not fit the model, the labels or the vocabulary.
    """
    labels = data.task.labels
    prefixes = {start.checkpoint for start in starts.values() if start.checkpoint}
    config = restore.with_pooled_norm(model.config, prefixes)
    model = preflight.Model(config, modeling.parameter_shapes(config, len(labels)))
    lines = []
    for folder, start in starts.items():
        if not args.do_train and not Checkpoint(start.checkpoint).holds("output_weights"):
            raise UserError(
                "{} holds no classifier (no variable output_weights): fine-tune it first with "
                "--do_train=True, or give the --output_dir of a fine-tuned one".format(
                    start.checkpoint
                )
            )
        inputs.check_task_of_run(args, data.task, start)
        check_classifier_of_start(args, labels, tokenizer, start)
        preflight.warn_of_finished_run(
            start, schedule.optimizer.num_train_steps, "--num_train_epochs"
        )
        _, line = preflight.check_weights(
            work.settings,
            folder,
            start,
            model,
            schedule if args.do_train else None,
            new_variables(args),
            None if args.spm_model_file else args.vocab_file,
        )
        lines.append(line)
    return model, "; ".join(lines)


def check_classifier_of_start(args, labels, tokenizer, start):
    """Compare labels and vocabulary with those of the model that a run starts from.

    Raises:
        UserError: where they differ, unless training starts from it and learns the new ones.
    """
    if not start.checkpoint:
        return
    given = args.spm_model_file or args.vocab_file
    comparisons = {
        "labels": lambda: model_files.check_labels(labels, start.checkpoint),
        "pieces": lambda: inputs.check_vocabulary_of_start(given, tokenizer, start.checkpoint),
        "case": lambda: inputs.check_case_of_start(args, start.checkpoint),
    }
    for name, check in comparisons.items():
        try:
            check()
        except UserError as error:
            if start.is_own or not args.do_train:
                raise
            tf.logging.warning("%s; training starts from it and learns the new %s", error, name)


# ------------------------------------------------------------------------------- model


def loss_divisors(features):
    """Return the divisor of the loss: the number of examples."""
    return {"examples": tf.reduce_sum(features["is_real_example"])}


def make_model_fn(run, settings):
    """Return the `model_fn` of a `FinetuningRun` with the `RunSettings` of a seed."""
    step = model_fn.TrainingStep(
        functools.partial(optimization.create_train_op, config=run.schedule.optimizer),
        loss_divisors,
        run.computation.placement,
        run.schedule.optimizer.num_train_steps,
    )
    forward = make_forward(
        run.model.config,
        len(run.data.task.labels),
        run.computation.execution,
        run.args.classifier_dropout_prob,
    )
    return model_fn.make_model_fn(forward, settings, step, new_variables(run.args))


def new_variables(args):
    """Return the pattern of variables that an initial checkpoint may lack, or None."""
    return NEW_VARIABLES if args.do_train else None


def make_forward(config, num_labels, execution=modeling.PLAIN, dropout_prob=0.1):
    """Return the forward pass of a classifier, a function of (features, mode, share).

    Evaluation makes predictions and compares them with the labels outside of the graph.

    Args:
        config: `modeling.AlbertConfig`.
        num_labels: int.
        execution: `modeling.Execution`.
        dropout_prob: float, dropout rate of the pooled output.
    """

    def forward(features, mode, share=None):
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        model = modeling.AlbertModel(
            config,
            is_training,
            features["input_ids"],
            features["input_mask"],
            features["segment_ids"],
            execution,
            dropout_seed=share.dropout_seed if share else None,
            output_positions=features["input_ids"][:, :0],  # the classifier reads [CLS] alone
            scope="bert",  # a default name would differ between micro-batches
        )
        head = modeling.classification_head(
            model,
            num_labels,
            features["label_ids"] if is_training else None,
            is_training,
            dropout_prob,
            share.totals["examples"] if share else None,
        )
        if is_training:
            is_piece = tf.not_equal(features["input_mask"], 0)
            return model_fn.ModelOutputs(head.loss, None, None, is_piece=is_piece)
        predicted = {
            "probabilities": tf.nn.softmax(head.logits),  # [B, labels]
            "example_index": features["example_index"],  # [B]
        }
        return model_fn.ModelOutputs(None, predicted, None)

    return forward


if __name__ == "__main__":
    cli.run(main, define_flags)
