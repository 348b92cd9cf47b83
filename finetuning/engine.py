"""The engine of fine-tuning: trains, evaluates and predicts any kind of task, for every seed."""

import os

import tensorflow.compat.v1 as tf

from checkpointing import model_files, run_folder
from common import checks, files, signals
from finetuning import inputs, row_outputs, seeds
from finetuning.model import make_model_fn
from finetuning.run_checks import check_run
from finetuning_data import encoding
from training import best_checkpoint, loop, run_report
from training.trainer import make_trainer, user_errors

# Split -> prefix of the names of its results.
PREFIXES = {"dev": "eval", "test": "test"}


def run_kind(kind, args):
    """Train, evaluate and predict, as the flags ask for, once for every seed.

    Args:
        kind: `kind.Kind` that has the task of the flags.
        args: the parsed flags of `flags.define_flags`, and the kind's own.
    """
    run = checks.run_checks(lambda args, check: check_run(kind, args, check), args)
    run = run._replace(encoded={split: inputs.encode(run, split) for split in run.work.splits})
    with user_errors(), signals.OrderlyEnd() as end:
        metrics = {one.seed: run_seed(run, one, end) for one in run.work.seed_runs}
    if args.seeds and all(metrics.values()):
        seeds.write_summary(args.output_dir, new_report(run, run.work.seed_runs[0]), metrics)


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
    scored = scored_identity(run)
    if args.seeds and args.do_train:
        metrics = seeds.finished_metrics(folder, run.made_with.settings[folder], scored)
        if metrics is not None:
            tf.logging.info("%s has already finished with these settings", folder)
            return metrics
    settings = run.settings_of(seed_run)
    trainer = make_trainer(make_model_fn(run, settings), settings, run.computation.placement)
    with loop.owned_folder(trainer, args.do_train):
        report = new_report(run, seed_run)
        if trainer.is_chief:
            run_report.write(folder, report)
        last_dev = train(run, seed_run, trainer, end) if args.do_train else {}
        if not trainer.is_chief:
            return {}
        best = run_folder.best_checkpoint(folder)
        if best:
            run_folder.warn_of_old_best(folder, best)
        path = best or tf.train.latest_checkpoint(folder)
        for split in scored["examples"]:
            scores = last_dev if split == "dev" else {}
            score_best(run, seed_run, trainer, split, path, report, scores)
        warn_of_old_results(folder, scored["examples"], path)
        report["finished"] = scored if args.do_train else None
        run_report.write(folder, report)
    return report["metrics"]


def scored_identity(run):
    """Return a dict of JSON values that changes if scores or predictions have to be made again."""
    splits = [split for split in PREFIXES if split in run.work.splits]
    return {
        "rows": {split: run.encoded[split].name for split in splits},
        "examples": {split: encoding.fingerprint(run.data.examples[split], []) for split in splits},
        "flags": {name: getattr(run.args, name) for name in run.kind.output_flags},
    }


def new_report(run, seed_run):
    """Return the report of the run of one seed, without metrics."""
    args = run.args
    report = run_report.new_report(
        run.kind.script,
        args,
        run.starts[seed_run.folder],
        run.computation.placement,
        config=[args.bert_config_file],
        vocabulary=[args.spm_model_file or args.vocab_file],
        data=[path for paths in run.data.files.values() for path in paths],
    )
    before = run_report.made_with(seed_run.folder)
    report["made_with"] = run.made_with.settings.get(seed_run.folder, before)
    return dict(report, labels=run.data.task.labels, examples=run.data.findings)


def train(run, seed_run, trainer, end):
    """Train in the folder of a seed's run, and evaluate during training if the flags say so.

    Returns:
        dict of the global step of the last evaluation to what `score` returned; empty if there was
        none.
    """
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
            settings={name: getattr(args, name) for name in run.kind.prediction_flags},
        )
        model_files.write(seed_run.folder, description)
    last_dev = {}
    evaluation = args.do_eval and best_checkpoint.Evaluation(
        lambda: evaluate(run, trainer, last_dev),
        run.schedule.eval_every_steps,
        "eval_" + (args.best_metric or run.kind.metrics[0]),
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
    return last_dev


def evaluate(run, trainer, last_dev):
    """Score the latest checkpoint on dev, for `best_checkpoint.Evaluation`.

    `last_dev` then holds the global step and what `score` returned.
    """
    latest = tf.train.latest_checkpoint(trainer.model_dir)
    step = run_folder.step_of(latest)
    last_dev.clear()
    last_dev[step] = score(run, trainer, "dev", latest)
    _, results = last_dev[step]
    numbers = {name: value for name, value in results.items() if isinstance(value, float)}
    metrics = dict(with_prefix("dev", numbers), global_step=step)
    best_checkpoint.write_curves(trainer.model_dir, metrics)
    return metrics


def score(run, trainer, split, path):
    """Return the kind's predictions for a split, and their scores as a dict.

    Args:
        run: `FinetuningRun`.
        trainer: `trainer.Trainer`.
        split: `dev` or `test`.
        path: str, checkpoint of the run, or None for the one that the run starts from.
    """
    examples, task, rows = run.data.examples[split], run.data.task, run.encoded[split].rows
    input_fn = inputs.scoring_input_fn(run, split)
    outputs = row_outputs.predict(trainer, input_fn, rows.num_rows, path)
    predicted = run.kind.decode(examples, task, rows, outputs, run.args)
    return predicted, run.kind.scores(examples, task, predicted)


def with_prefix(split, results):
    """Return scores under their names in the results files, with the prefix of the split."""
    return {"{}_{}".format(PREFIXES[split], name): results[name] for name in results}


def score_best(run, seed_run, trainer, split, path, report, scores):
    """Score a split with the best checkpoint of a run; write scores and predictions.

    Args:
        run, seed_run, trainer: as in `train`.
        split: `dev` or `test`.
        path: str, the checkpoint, or None for the one that the run starts from.
        report: dict of `run_report.new_report`; gets the metrics.
        scores: dict of global step to what `score` returned for the split, perhaps empty.
    """
    folder, args = seed_run.folder, run.args
    source = path or run.starts[folder].checkpoint
    tf.logging.info("Scores and predictions of %s are of %s", split, source)
    step = run_folder.step_of(path) if path else 0
    predicted, results = scores.get(step) or score(run, trainer, split, path)
    report["scored"] = run_report.identify_checkpoint(source)
    tables = run.kind.explain(run.data.examples[split], run.data.task, results)
    metrics = with_prefix(split, results)
    metrics["global_step"] = step
    run_report.write(folder, report, PREFIXES[split] + "_results", metrics, tables)
    if split == "test":
        report["predictions"] = run.kind.write(folder, run.data, predicted, args)


def warn_of_old_results(folder, splits, path):
    """Warn of results of other splits that an earlier command made with another checkpoint."""
    step = run_folder.step_of(path) if path else 0
    for split in sorted(set(PREFIXES) - set(splits)):
        old = os.path.join(folder, PREFIXES[split] + "_results.json")
        if files.exists(old) and files.read_json(old).get("global_step") != step:
            tf.logging.warning(
                "OLD RESULTS: %s and its predictions are of an earlier checkpoint than %s: give "
                "--do_%s=True to make them again",
                old,
                path,
                {"dev": "eval", "test": "predict"}[split],
            )
