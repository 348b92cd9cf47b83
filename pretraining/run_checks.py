"""Checks a pre-training run before it starts, and makes the `PretrainingRun`."""

from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf
from absl import flags

import modeling
import optimization
from checkpointing import run_folder
from common.errors import UserError
from pretraining import inputs
from tfrecords import manifest
from training import devices, memory, preflight, run_report
from training.flags import RunSettings, optimizer_fields, refuse_local_paths, run_settings
from training.placement import Computation

# The parts of the model that only the order of sentences trains.
SENTENCE_ORDER_PARTS = ("bert/pooler", "cls/seq_relationship")


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
    computation = check("devices", check_devices, args, settings, start, model, records)
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

    The names of LAMB's slots are those of the published code of the model's layout.

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
    has_order = args.sentence_order_weight != 0
    schedule = preflight.Schedule(
        optimizer,
        optimization.create_optimizer(optimizer, 0.0).slot_names,
        optimization.LossScale.VARIABLES if args.precision == "float16" else {},
        args.train_batch_size,
        untrained="$^" if has_order else "^({})/".format("|".join(SENTENCE_ORDER_PARTS)),
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
    if args.check_only:  # Without it the input functions check the records.
        num_read = records.check_damage(args)
        line += "; {:,} records read".format(num_read) if num_read else "; only their first read"
    return records, line


def check_devices(args, settings, start, model, records):
    """Decide how a batch is computed; returns (`placement.Computation`, line)."""
    execution = modeling.Execution(**devices.execution_fields(settings))
    if args.do_train and devices.accelerator(settings) == "GPU" and not settings.use_xla:
        tf.logging.warning("On a GPU --use_xla=True trains faster: XLA compiles whole steps")
    batch_size = args.train_batch_size if args.do_train else None
    resumed = args.output_dir if start.is_own else None
    memory_of_step = step_memory(args, model, execution, records)
    return preflight.check_placement(settings, execution, memory_of_step, batch_size, resumed)


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
        now = made_with(args, settings, model, schedule, records)
        run_report.check_settings(args.output_dir, now)
    return checked


def made_with(args, settings, model, schedule, records):
    """Return the settings of this training, or of the last one if this run does not train."""
    if not args.do_train:
        return run_report.made_with(args.output_dir)
    values = schedule.made_with(
        model,
        settings,
        rate_factors=args.pooler_lr_factor,
        sentence_order_weight=args.sentence_order_weight,
    )
    if args.do_eval:
        values["data"] = {"dev": run_report.identify_files(records.evaluation.paths)}
    return values
