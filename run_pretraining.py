"""Pre-train ALBERT on masked pieces and sentence order, on TPU, GPU or CPU."""

from common import tensorflow_settings

tensorflow_settings.set_environment()

import optimization
from checkpointing import model_files
from common import checks, cli, signals
from pretraining import inputs
from pretraining.model import make_model_fn
from pretraining.run_checks import check_run, made_with
from pretraining.scores import evaluate
from training import best_checkpoint, loop, run_report
from training.flags import define_optimizer_flags, define_run_flags
from training.trainer import make_trainer, user_errors

RESULTS = "eval_results"


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
    define.float(
        "sentence_order_weight",
        1.0,
        "Factor of the sentence-order loss. With 0 the model learns from masked pieces alone.",
        lower_bound=0.0,
    )
    define_run_flags(flag_values, train_batch_size=4096, eval_batch_size=64)
    checks.define_flags(flag_values)


def main(args):
    """Train, evaluate, or both."""
    run = checks.run_checks(check_run, args)
    trainer = make_trainer(make_model_fn(run), run.settings, run.computation.placement)
    report = new_report(run)
    owned_folder = loop.owned_folder(trainer, args.do_train)
    with user_errors(), signals.OrderlyEnd() as end, owned_folder:
        # It is made before training, so that bad evaluation files are reported at once.
        evaluation = args.do_eval and make_evaluation(run, trainer)
        if trainer.is_chief:
            run_report.write(args.output_dir, report)
        if args.do_train:
            scores = train(run, trainer, end, evaluation)
        else:
            scores = evaluation.run() if trainer.is_chief else None
        if trainer.is_chief:
            run_report.write(args.output_dir, report, RESULTS, scores)


def new_report(run):
    """Return the report of a run, without metrics."""
    args = run.args
    report = run_report.new_report(
        "run_pretraining.py",
        args,
        run.start,
        run.computation.placement,
        config=[args.bert_config_file],
        records=run.records.paths,
    )
    report["vocab_sha256"] = run.vocab_sha256
    report["made_with"] = made_with(args, run.settings, run.model, run.schedule, run.records)
    return report


def train(run, trainer, end, evaluation):
    """Train up to the last step of the flags; return as `loop.train_and_evaluate` does."""
    args = run.args
    input_fn = inputs.make_input_fn(args, run.records.train, training=True)
    if trainer.is_chief:
        model_files.write_config(args.output_dir, run.model.config)
    steps = (args.num_train_steps, run.settings.save_checkpoints_steps)
    return loop.train_and_evaluate(trainer, input_fn, *steps, end, evaluation)


def make_evaluation(run, trainer):
    """Return the `best_checkpoint.Evaluation` of a run; it uses all records to evaluate on."""
    input_fn = inputs.make_input_fn(run.args, run.records.evaluation, training=False)
    general = run.records.general
    general_input_fn = general.paths and inputs.make_input_fn(run.args, general, training=False)

    def run_evaluation():
        scores = evaluate(trainer, input_fn, run.args)
        if general_input_fn:
            others = evaluate(trainer, general_input_fn, run.args, name="general")
            del others["global_step"]
            scores.update(("general_" + score, value) for score, value in others.items())
        return scores

    every = run.args.eval_every_steps
    at_start = run.start.mode == "warm start"
    return best_checkpoint.Evaluation(run_evaluation, every, "loss", at_start=at_start)


if __name__ == "__main__":
    cli.run(main, define_flags)
