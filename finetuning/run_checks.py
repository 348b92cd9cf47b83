"""Checks a fine-tuning run before it starts, see `common.checks`, and makes a `FinetuningRun`."""

import dataclasses
import math

import tensorflow.compat.v1 as tf
from absl import logging

import modeling
import optimization
from checkpointing import find, model_files, restore
from checkpointing.checkpoint_reader import Checkpoint
from common.errors import UserError
from finetuning import inputs, seeds
from finetuning.defaults import choose
from finetuning.model import new_variables, variable_shapes
from finetuning.run import FinetuningRun, MadeWith, Work
from finetuning_data import data_report
from training import devices, memory, preflight, run_report
from training.flags import optimizer_fields, run_settings


def check_run(kind, args, check):
    """Return the `FinetuningRun` of parsed flags.

    Args:
        kind: `kind.Kind`.
        args: the parsed flags.
        check: `checks.Checks`.
    """
    work = check("flags", check_flags, args, kind)
    model = check("config", check_config, args, kind)
    data = check("data", check_data, args, kind, work)
    tokenizer = check("vocabulary", inputs.check_vocabulary, args, model)
    check("pieces", check_pieces, args, kind, data, tokenizer)
    schedule = check("optimizer", check_optimizer, args, kind, model, data, tokenizer)
    check("output_dir", check_disk, args, work, model, schedule)
    starts = check("start", check_starts, args, work)
    model = check(
        "weights", check_weights, args, kind, work, model, data, tokenizer, schedule, starts
    )
    made_with = check("settings", check_settings, args, kind, work, model, data, schedule, starts)
    work = check("tpu", check_tpu, work)
    computation = check("devices", check_devices, args, kind, work, model, data, schedule, starts)
    check("memory", check_memory, work, computation)
    return FinetuningRun(
        kind, args, work, model, data, tokenizer, schedule, computation, starts, made_with
    )


def check_flags(args, kind):
    """Refuse flags that contradict each other or have no effect; return (`Work`, line)."""
    for name, use in kind.ignored_flags(args).items():
        if args[name].value != args[name].default:
            raise UserError(
                "--{}={} is for {}, so this run ignores it: leave it out".format(
                    name, args[name].serialize().partition("=")[2], use
                )
            )
    wanted = (("train", args.do_train), ("dev", args.do_eval), ("test", args.do_predict))
    splits = [split for split, is_wanted in wanted if is_wanted]
    if not splits:
        raise UserError("nothing to do: give --do_train=True, --do_eval=True or --do_predict=True")
    if args.do_train and args.num_train_epochs == 0:
        raise UserError("--num_train_epochs=0 trains nothing: leave --do_train out, or give more")
    if args.best_metric and args.best_metric not in kind.metrics:
        text = "--best_metric={} is not a score of this task: give one of {}"
        raise UserError(text.format(args.best_metric, ", ".join(kind.metrics)))
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


def check_config(args, kind):
    """Read the model's config, with the dropout of the flags; returns (`preflight.Model`, line)."""
    config = modeling.AlbertConfig.from_json_file(args.bert_config_file)
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = dataclasses.replace(config, **given)
    config.check_sequence_length(args.max_seq_length)
    if kind.takes_pairs(kind.tasks[args.task_name.lower()]):
        config.check_pairs()
    # The labels, and with them the shapes of the head, are not known yet.
    model = preflight.Model(config, modeling.parameter_shapes(config, num_labels=0))
    return model, preflight.model_line(args.bert_config_file, model)


def check_data(args, kind, work):
    """Read the examples; returns (`kind.Data`, line)."""
    return kind.read(args, work.splits, work.folders)


def check_pieces(args, kind, data, tokenizer):
    """Check the share of unknown pieces in each split; returns (None, line)."""
    texts = {split: kind.texts(data.examples[split]) for split in data.examples}
    return data_report.check_unknown_pieces(texts, tokenizer, args.max_unknown_share)


def check_optimizer(args, kind, model, data, tokenizer):
    """Decide how the weights are trained; returns (`preflight.Schedule`, line).

    Flags that are left out get the values that suit the model's size.
    """
    chosen = choose(args, model.config.hidden_size)
    batch_size, train = chosen.train_batch_size, data.examples.get("train", ())
    num_rows = kind.count_rows(train, data.task, tokenizer, args)
    num_steps = max(1, int(num_rows * chosen.num_train_epochs / batch_size))
    optimizer = optimization.checked_config(
        **dict(optimizer_fields(args), learning_rate=chosen.learning_rate),
        num_train_steps=num_steps,
        num_warmup_steps=int(num_steps * args.warmup_proportion),
        slots=model.config.layout,
        rate_factors=kind.rate_factors(args)
        + optimization.layer_rate_factors(
            modeling.distances_from_head(model.config), args.layerwise_lr_decay
        ),
    )
    # Rounded up, so that the last evaluation of an epoch is at its last step.
    evals = args.evals_per_epoch
    schedule = preflight.Schedule(
        optimizer,
        optimization.create_optimizer(optimizer, 0.0).slot_names,
        optimization.LossScale.VARIABLES if args.precision == "float16" else {},
        batch_size,
        math.ceil(num_rows / batch_size / evals) if evals else 0,
        kind.variables.untrained,
    )
    if not args.do_train:
        return schedule, "no training"
    preflight.warn_of_learning_rate(
        args.optimizer, chosen.learning_rate, batch_size, model.config.hidden_size
    )
    if batch_size > num_rows:
        tf.logging.warning(
            "--train_batch_size=%d is more than the %d rows to train on, so that each step repeats "
            "rows: give --train_batch_size=%d or less",
            *(batch_size, num_rows, num_rows),
        )
    line = "{}, learning rate {:g} after {} of {} steps, {:g} epochs in batches of {}".format(
        args.optimizer,
        chosen.learning_rate,
        optimizer.num_warmup_steps,
        num_steps,
        chosen.num_train_epochs,
        batch_size,
    )
    return schedule, line


def check_tpu(work):
    """Find the TPU's cores; returns (`Work` with the batches that suit them, line)."""
    predicts = bool({"dev", "test"} & set(work.splits))
    settings, line = preflight.check_tpu(work.settings, predicts)
    return work._replace(settings=settings), line


def check_devices(args, kind, work, model, data, schedule, starts):
    """Decide how a batch is computed; returns (`placement.Computation`, line)."""
    settings = work.settings
    execution = modeling.Execution(**devices.execution_fields(settings))
    num_sequences = kind.num_sequences(data.examples.get("train", ())) or 1
    bytes_per_sequence = memory.activation_bytes(model.config, execution, args.max_seq_length)
    step_memory = memory.StepMemory(model.num_weights, num_sequences * bytes_per_sequence)
    batch_size = schedule.train_batch_size if args.do_train else None
    resumed = [folder for folder, start in starts.items() if start.is_own]
    return preflight.check_placement(
        settings, execution, step_memory, batch_size, resumed[0] if resumed else None
    )


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
    if any(start.mode == "fresh" for start in starts.values()):
        logging.warning(
            "NOT PRE-TRAINED: fine-tuning starts from random weights; to start from a model that "
            "was pre-trained, give --init_checkpoint"
        )
    return starts, "; ".join(line for _, line in checked.values())


def check_weights(args, kind, work, model, data, tokenizer, schedule, starts):
    """Compare the checkpoints that the runs start from with model, labels and vocabulary.

    Returns:
        (`preflight.Model`, line). If the classifier in a checkpoint normalizes the pooled output,
        so does the returned model.

    Raises:
        UserError: for an evaluation of a checkpoint without head, and for a checkpoint that does
            not fit the model, the labels or the vocabulary.
    """
    prefixes = {start.checkpoint for start in starts.values() if start.checkpoint}
    config = restore.with_pooled_norm(model.config, prefixes)
    model = preflight.Model(config, variable_shapes(kind, config, data.task, args))
    lines = []
    for folder, start in starts.items():
        if not args.do_train and not Checkpoint(start.checkpoint).holds(kind.variables.example):
            raise UserError(
                "{} holds no {} (no variable {}): fine-tune it first with --do_train=True, or give "
                "the --output_dir of a fine-tuned one".format(
                    start.checkpoint, kind.variables.head, kind.variables.example
                )
            )
        inputs.check_task_of_run(args, kind, data.task, start)
        check_head_of_start(args, data.task.labels, tokenizer, start)
        preflight.warn_of_finished_run(
            start, schedule.optimizer.num_train_steps, "--num_train_epochs"
        )
        _, line = preflight.check_weights(
            work.settings,
            folder,
            start,
            model,
            schedule if args.do_train else None,
            new_variables(kind, args),
            None if args.spm_model_file else args.vocab_file,
        )
        lines.append(line)
    return model, "; ".join(lines)


def check_head_of_start(args, labels, tokenizer, start):
    """Compare labels, vocabulary and lower-casing with the model that a run starts from.

    Raises:
        UserError: where one of them differs, unless a new run trains the model on the new values.
    """
    if not start.checkpoint:
        return
    given = args.spm_model_file or args.vocab_file
    comparisons = {
        "labels": lambda: model_files.check_labels(labels, start.checkpoint),
        "pieces": lambda: inputs.check_vocabulary_of_start(given, tokenizer, start.checkpoint),
        "case": lambda: inputs.check_case_of_start(args, start.checkpoint),
    }
    if not args.do_train:
        inputs.warn_of_length(args, start.checkpoint)
    for name, check in comparisons.items():
        try:
            check()
        except UserError as error:
            if name == "labels" and start.is_own and args.do_train:
                raise UserError(
                    "{}; to learn the new labels, a run needs another --output_dir and "
                    "--init_checkpoint={} --allow_missing=True".format(error, start.checkpoint)
                ) from None
            if start.is_own or not args.do_train:
                raise
            tf.logging.warning("%s; training starts from it and learns the new %s", error, name)


def check_settings(args, kind, work, model, data, schedule, starts):
    """Compare the settings of the runs with the settings of their last start.

    Returns:
        (`run.MadeWith`, line).

    Raises:
        UserError: where a run of several seeds continues with other settings.
    """
    features = {split: inputs.rows_file_name(args, kind, data, split) for split in work.splits}
    names = sorted(set(kind.head_flags + kind.prediction_flags))
    settings = {}
    for folder, seed in work.seed_runs if args.do_train else ():
        settings[folder] = schedule.made_with(
            model,
            work.settings,
            **{name: getattr(args, name) for name in names},
            rate_factors=args.layerwise_lr_decay,
            seed=seed,
            encoding={name: getattr(args, name) for name in kind.encoding_flags},
            data={split: features[split] for split in ("train", "dev") if split in features},
            eval_every_steps=schedule.eval_every_steps,
            patience=args.patience,
            best_metric=args.best_metric or kind.metrics[0],
            init_checkpoint=_initial_sha256(args.init_checkpoint),
        )
        if starts[folder].is_own:
            run_report.check_settings(folder, settings[folder], must_agree=bool(args.seeds))
    resumed = ", ".join(folder for folder in settings if starts[folder].is_own)
    line = "compared with the run in " + resumed if resumed else "of a new run"
    return MadeWith(features, settings), line if settings else "no training"


def _initial_sha256(path):
    """Return the hash of the checkpoint that --init_checkpoint names, or None."""
    try:
        path = path and find.find_checkpoint(path)
    except UserError:  # The checkpoint may have been removed.
        path = None
    return run_report.identify_checkpoint(path)["index_sha256"]
