"""Fine-tune ALBERT on a classification task, evaluate it and predict, on TPU, GPU or CPU."""

import dataclasses
import functools
import math
import os

# TensorFlow's C++ start-up prints ten lines even on a sound machine; errors still raise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags

import modeling
import optimization
import tokenization
from checkpointing import model_files, restore, run_folder
from common import cli, signals
from common.errors import UserError
from finetuning import inputs, predictions, scores
from finetuning.defaults import choose
from finetuning.flags import define_data_flags, define_training_flags
from finetuning.seeds import check_settings, finished_metrics, runs_of, write_summary
from training import devices, loop, model_fn, preflight, run_report
from training.flags import define_run_flags, run_settings

# What the names of a split's results begin with.
PREFIXES = {"dev": "eval", "test": "test"}
PREDICTIONS = "predictions.tsv"
# The classifier's own variables: a pre-trained checkpoint does not have them.
NEW_VARIABLES = r"^output_(weights|bias)$"


def define_flags(flag_values):
    """Define this script's flags."""
    flags.DEFINE_string(
        "bert_config_file", None, "JSON file of the model.", flag_values=flag_values
    )
    flags.mark_flag_as_required("bert_config_file", flag_values)
    define_data_flags(flag_values)
    define_training_flags(flag_values, optimization.OPTIMIZERS)
    define_run_flags(flag_values, train_batch_size=None, eval_batch_size=64, predict_batch_size=64)
    preflight.define_flags(flag_values)


def main(args):
    """Train, evaluate, predict, or any of these; once for every seed."""
    plan = preflight.run(CHECKS, args)
    plan.encoded = {split: inputs.encode(plan, split) for split in plan.splits}
    if args.do_train:
        for run in plan.runs:
            is_resumed = plan.starts[run.folder].is_own
            check_settings(run.folder, made_with(plan, run), is_resumed, bool(args.seeds))
    with model_fn.user_errors(), signals.OrderlyEnd() as end:
        found = {run.seed: run_once(plan, run, end) for run in plan.runs}
    if args.seeds and all(found.values()):
        write_summary(args.output_dir, describe(plan, plan.runs[0]), found)


# --------------------------------------------------------------------------------- runs


def run_once(plan, run, end):
    """Train, evaluate and predict in the folder of a run, unless all of that is done.

    Args:
        plan: `preflight.Plan`, after all `CHECKS`, and with `encoded`.
        run: `seeds.Run`.
        end: `signals.OrderlyEnd`.

    Returns:
        dict of metrics; an empty one on a machine that only helps to train.
    """
    args = plan.args
    scored = {split: plan.encoded[split].name for split in PREFIXES if split in plan.splits}
    if args.seeds and args.do_train:
        metrics = finished_metrics(run.folder, made_with(plan, run), scored)
        if metrics is not None:
            tf.logging.info("%s has finished with these settings before", run.folder)
            return metrics
    settings = plan.settings._replace(
        output_dir=run.folder,
        random_seed=run.seed,
        init_checkpoint=plan.starts[run.folder].checkpoint,
    )
    runner = model_fn.make_runner(make_model_fn(plan, settings), settings, plan.placement)
    description = describe(plan, run)
    if runner.is_chief:
        run_report.write(run.folder, description)
    if args.do_train:
        train(plan, run, runner, end)
    if not runner.is_chief:
        return {}
    for split in scored:
        report(plan, run, runner, split, description)
    description["finished"] = scored if args.do_train else None
    run_report.write(run.folder, description)
    return description["metrics"]


def made_with(plan, run):
    """Return what decides which weights a training ends with: dict of name to JSON value."""
    args = plan.args
    return dict(
        plan.config.to_dict(),
        **plan.optimizer._replace(rate_factors=args.layerwise_lr_decay)._asdict(),
        classifier_dropout_prob=args.classifier_dropout_prob,
        train_batch_size=plan.settings.train_batch_size,
        precision=plan.settings.precision,
        seed=run.seed,
        data={s: plan.encoded[s].name for s in ("train", "dev") if s in plan.splits},
        eval_every_steps=plan.eval_every_steps,
        patience=args.patience,
        init_checkpoint=initial_sha256(plan),
    )


def initial_sha256(plan):
    """Return the hash of the checkpoint that --init_checkpoint names, or None."""
    path = plan.settings.init_checkpoint
    try:
        path = path and restore.find_checkpoint(path)
    except UserError:  # gone; runs that have checkpoints of their own do without
        path = None
    return run_report.describe_checkpoint(path)["index_sha256"]


def describe(plan, run):
    """Return the `run_report.describe` of a run, and what it learns from and is made with."""
    args = plan.args
    described = run_report.describe(
        "run_classifier.py",
        args,
        plan.starts[run.folder],
        config=[args.bert_config_file],
        vocabulary=[args.spm_model_file or args.vocab_file],
        data=list(plan.data_files.values()),
    )
    before = run_report.read(run.folder).get("made_with")
    described["made_with"] = made_with(plan, run) if args.do_train else before
    return dict(described, labels=plan.task.labels, examples=plan.data_findings)


def train(plan, run, runner, end):
    """Train in the folder of a run, with evaluations on the way if there are to be any."""
    args = plan.args
    if runner.is_chief:
        made = model_files.ModelFolder(
            task=plan.task.name,
            labels=plan.task.labels,
            max_seq_length=args.max_seq_length,
            config=plan.config.to_dict(),
            vocab_file=args.vocab_file,
            do_lower_case=args.do_lower_case,
            spm_model_file=args.spm_model_file,
        )
        model_files.write(run.folder, made)
    evaluation = args.do_eval and loop.Evaluation(
        lambda: evaluate(plan, runner),
        plan.eval_every_steps,
        "eval_" + plan.task.metric,
        higher_is_better=True,
        patience=args.patience,
    )
    loop.train_and_evaluate(
        runner,
        inputs.training_input_fn(plan, run),
        plan.optimizer.num_train_steps,
        plan.settings.save_checkpoints_steps,
        end,
        evaluation,
    )


def evaluate(plan, runner):
    """Score the latest checkpoint on dev, for `loop.Evaluation`."""
    latest = tf.train.latest_checkpoint(runner.model_dir)
    _, found = score(plan, runner, "dev", latest)
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    found = dict(named("dev", numbers), global_step=run_folder.step_of(latest))
    loop.write_curves(runner.model_dir, found)
    return found


def score(plan, runner, split, path):
    """Return the probabilities of a split, float32 [examples, labels], and its scores as a dict.

    Args:
        plan: `preflight.Plan`.
        runner: `cluster.Runner`.
        split: `dev` or `test`.
        path: str, checkpoint of the run, or None for what the run starts from.
    """
    num_examples = len(plan.examples[split])
    input_fn = inputs.scoring_input_fn(plan, split)
    probabilities = predictions.predict(runner, input_fn, num_examples, path)
    label_ids = plan.encoded[split].features.label_ids
    if np.all(label_ids < 0):
        return probabilities, {"examples": num_examples}
    return probabilities, scores.classification_scores(probabilities, label_ids, plan.task.labels)


def named(split, found):
    """Return scores under their names in the results, which tell the split."""
    return {"{}_{}".format(PREFIXES[split], name): found[name] for name in found}


def report(plan, run, runner, split, description):
    """Score a split with the best checkpoint of a run, and write all that is to be known of it."""
    path = run_folder.best_checkpoint(run.folder) or tf.train.latest_checkpoint(run.folder)
    probabilities, found = score(plan, runner, split, path)
    scored = path or plan.starts[run.folder].checkpoint
    description["scored"] = run_report.describe_checkpoint(scored)
    examples, tables = plan.examples[split], ""
    if "accuracy" in found:
        labels = [example.label for example in examples if example.label is not None]
        scores.warn_at_chance_level(found["accuracy"], labels)
        tables = scores.class_tables(found)
    metrics = named(split, found)
    if split == "dev":
        metrics["global_step"] = run_folder.step_of(path) if path else 0
    run_report.write(run.folder, description, PREFIXES[split] + "_results", metrics, tables)
    if split == "test":
        table = os.path.join(run.folder, PREDICTIONS)
        predictions.write_predictions(table, plan.task.labels, examples, probabilities)
        test_file = plan.data_files[split]
        predictions.write_submission(run.folder, plan.task, test_file, examples, probabilities)


# ------------------------------------------------------------------------------- checks


def look_at_flags(plan):
    """See that there is something to do; sets `settings`, `splits`, `runs` and `folders`."""
    args = plan.args
    wanted = (("train", args.do_train), ("dev", args.do_eval), ("test", args.do_predict))
    plan.splits = [split for split, is_wanted in wanted if is_wanted]
    if not plan.splits:
        raise UserError("nothing to do: give --do_train=True, --do_eval=True or --do_predict=True")
    plan.keeps_best = args.do_train and args.do_eval
    if args.patience and not (plan.keeps_best and args.evals_per_epoch):
        raise UserError(
            "--patience={} needs --do_train=True, --do_eval=True and --evals_per_epoch above "
            "0".format(args.patience)
        )
    if args.patience and args.strategy == "multi_worker":
        raise UserError("--patience and --strategy=multi_worker do not go together")
    plan.settings = run_settings(args)
    plan.runs = runs_of(args.output_dir, args.random_seed, args.seeds)
    plan.folders = [run.folder for run in plan.runs]
    seeds = ", ".join(str(run.seed) for run in plan.runs)
    return "{}; seed {}".format(", ".join(plan.splits), seeds)


def look_at_config(plan):
    """Read the model's config, with the dropout of the flags; sets `config`, `num_weights`."""
    args = plan.args
    config = modeling.AlbertConfig.from_json_file(args.bert_config_file)
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    plan.config = dataclasses.replace(config, **given)
    plan.config.check_sequence_length(args.max_seq_length)
    shapes = modeling.parameter_shapes(plan.config, num_labels=0)  # not known yet
    plan.num_weights = sum(int(np.prod(shape)) for shape in shapes.values())
    return preflight.config_line(args.bert_config_file, plan.config, plan.num_weights)


def look_at_vocabulary(plan):
    """Read the vocabulary; sets `tokenizer`.

    Raises:
        UserError: without a vocabulary, for a bad one, or one larger than the model's.
    """
    args = plan.args
    path = args.spm_model_file or args.vocab_file
    if not path:
        raise UserError("--vocab_file is needed, for example albert_config/vocab.txt")
    plan.tokenizer = tokenization.FullTokenizer(
        args.vocab_file, args.do_lower_case, args.spm_model_file
    )
    num_pieces, vocab_size = len(plan.tokenizer.vocab), plan.config.vocab_size
    if num_pieces > vocab_size:
        raise UserError(
            "{} has {} pieces but vocab_size is {} in {}: use the vocabulary that the model was "
            "pre-trained with".format(path, num_pieces, vocab_size, args.bert_config_file)
        )
    return "{}: {} pieces".format(path, num_pieces)


def look_at_optimizer(plan):
    """Decide how the weights are trained; sets `optimizer`, `slot_names`, `eval_every_steps`.

    What the flags leave out is what suits the model's size, in `settings` too.
    """
    args = plan.args
    chosen = choose(args, plan.config.hidden_size)
    batch_size, num_examples = chosen.train_batch_size, len(plan.examples.get("train", ()))
    plan.settings = plan.settings._replace(train_batch_size=batch_size)
    num_steps = max(1, int(num_examples * chosen.num_train_epochs / batch_size))
    plan.optimizer = optimization.checked_config(
        optimizer=args.optimizer,
        learning_rate=chosen.learning_rate,
        weight_decay=args.weight_decay,
        num_train_steps=num_steps,
        num_warmup_steps=int(num_steps * args.warmup_proportion),
        slots=plan.config.layout,
        rate_factors=rate_factors(plan.config, args.layerwise_lr_decay),
    )
    plan.slot_names = optimization.create_optimizer(plan.optimizer, 0.0).slot_names
    # Rounded up, so that the last one of an epoch is not another step than its end.
    evals = args.evals_per_epoch
    plan.eval_every_steps = math.ceil(num_examples / batch_size / evals) if evals else 0
    if not args.do_train:
        return "no training"
    preflight.warn_of_learning_rate(
        args.optimizer, chosen.learning_rate, batch_size, plan.config.hidden_size
    )
    return "{}, learning rate {:g} after {} of {} steps, {:g} epochs in batches of {}".format(
        args.optimizer,
        chosen.learning_rate,
        plan.optimizer.num_warmup_steps,
        num_steps,
        chosen.num_train_epochs,
        batch_size,
    )


def rate_factors(config, decay):
    """Return `OptimizerConfig.rate_factors` for a decay of the rate from layer to layer."""
    if decay == 1.0:
        return ()
    distances = modeling.distances_from_head(config)
    return tuple((prefix, decay ** distances[prefix]) for prefix in sorted(distances))


def look_at_devices(plan):
    """Decide how a batch is computed; sets `execution`, `step_memory` and `placement`."""
    plan.execution = modeling.Execution(**devices.execution_fields(plan.settings))
    plan.step_memory = devices.StepMemory(
        num_weights=plan.num_weights,
        bytes_per_example=modeling.activation_bytes(
            plan.config, plan.args.max_seq_length, execution=plan.execution
        ),
    )
    return preflight.look_at_placement(plan)


def look_at_starts(plan):
    """Find out what every run starts from; sets `starts` (folder -> `run_folder.Start`).

    Raises:
        UserError: if there is nothing to evaluate, if it holds no classifier, and where one of
            several runs was begun with other settings.
    """
    plan.shapes = modeling.parameter_shapes(plan.config, len(plan.task.labels))
    plan.starts, lines = {}, []
    for run in plan.runs:
        start = plan.starts[run.folder] = preflight.find_start(plan, run.folder)
        if not plan.args.do_train and "output_weights" not in restore.read_shapes(start.checkpoint):
            raise UserError(
                "{} holds no classifier (no variable output_weights): fine-tune it first with "
                "--do_train=True, or give the --output_dir of a fine-tuned one".format(
                    start.checkpoint
                )
            )
        look_at_labels(plan, start)
        lines.append(preflight.compare_start(plan, start, run.folder, new_variables(plan.args)))
    return "; ".join(lines)


def look_at_labels(plan, start):
    """Hold the task's labels against those of a classifier that a run starts from.

    Raises:
        UserError: where they differ, but for a training that begins, which learns others.
    """
    if not start.checkpoint:
        return
    try:
        model_files.check_labels(plan.task.labels, start.checkpoint)
    except UserError as error:
        if start.is_own or not plan.args.do_train:
            raise
        tf.logging.warning("%s; it is no more than where training begins", error)


CHECKS = (
    ("flags", look_at_flags),
    ("config", look_at_config),
    ("data", inputs.look_at_data),
    ("vocabulary", look_at_vocabulary),
    ("optimizer", look_at_optimizer),
    ("devices", look_at_devices),
    ("memory", preflight.look_at_memory),
    ("output_dir", preflight.look_at_disk),
    ("start", look_at_starts),
)


# ------------------------------------------------------------------------------- model


def loss_weights(features):
    """Return what the loss is divided by: the number of examples."""
    return {"examples": tf.reduce_sum(features["is_real_example"])}


def make_model_fn(plan, settings):
    """Return what `model_fn.make_model_fn` makes of this script's model.

    Args:
        plan: `preflight.Plan`.
        settings: `flags.RunSettings` of the run.
    """
    return model_fn.make_model_fn(
        make_forward(
            plan.config,
            len(plan.task.labels),
            plan.execution,
            plan.args.classifier_dropout_prob,
        ),
        settings,
        model_fn.Training(
            functools.partial(optimization.create_train_op, config=plan.optimizer),
            loss_weights,
            plan.placement,
            plan.optimizer.num_train_steps,
        ),
        new_variables(plan.args),
    )


def new_variables(args):
    """Return the pattern of variables that an initial checkpoint need not have, or None."""
    return NEW_VARIABLES if args.do_train else None


def make_forward(config, num_labels, execution=modeling.PLAIN, dropout_prob=0.1):
    """Return the forward pass of a classifier, a function of (features, mode, share).

    Evaluation is prediction, compared with the labels outside of the graph.

    Args:
        config: `modeling.AlbertConfig`.
        num_labels: int.
        execution: `modeling.Execution`.
        dropout_prob: float, of the pooled output.
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
            output_positions=features["input_ids"][:, :0],  # [CLS] is all that is looked at
            scope="bert",  # a default name would be another one for each micro-batch
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
            tokens = tf.reduce_sum(tf.cast(features["input_mask"], tf.float32))
            return model_fn.ModelOutputs(head.loss, None, None, tokens=tokens)
        predicted = {
            "probabilities": tf.nn.softmax(head.logits),  # [B, labels]
            "example_index": features["example_index"],  # [B]
        }
        return model_fn.ModelOutputs(None, predicted, None)

    return forward


if __name__ == "__main__":
    cli.run(main, define_flags)
