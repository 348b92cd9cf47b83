"""Fine-tunes a model on the tasks of CLUE, one after another: the work of recipes/clue.sh.

    python recipes/clue.py --checkpoint=albert_tiny_zh --data_dir=CLUE --output_dir=out

Every task is a run of run_classifier.py, run_mrc.py or run_ner.py in OUTPUT_DIR/TASK. A task that
fails does not end the others. At the end the script prints a table of the scores, and writes it to
OUTPUT_DIR/results.json and the predictions for CLUE's test sets to OUTPUT_DIR/clue_submission.zip.
"""

import io
import os
import signal
import subprocess
import sys
import zipfile
from typing import NamedTuple, Tuple

from absl import logging

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import tensorflow_settings

tensorflow_settings.set_environment()

import modeling
from checkpointing import inspection, model_files, run_folder
from checkpointing.checkpoint_reader import Checkpoint
from common import cli, files, signals
from common.errors import UserError
from common.text_table import text_table
from convert_checkpoint import fitting_configs
from finetuning import defaults
from finetuning_data import choice_files, tasks
from kinds.choices import Choices
from kinds.registry import KINDS, kind_of
from training import run_report

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SUBMISSION = "clue_submission.zip"
MODELS = ("tiny", "base", "large", "xlarge", "xxlarge")


class Settings(NamedTuple):
    """How a task is trained and shown.

    Fields:
        epochs, length, batch: the values in CLUE's own scripts for ALBERT and, for c3 and chid, for
            RoBERTa (CLUEbenchmark/CLUE, baselines/models and models_pytorch). For reading
            comprehension they are the values published with the scores of ALBERT tiny. CLUE has no
            values for ocnli and cluener, so ocnli uses the values of cmnli.
        scores: keys of the results.
        published: CLUE's scores of MODELS on the test set (README of CLUEbenchmark/CLUE).
        rate_factor: multiplies the learning rate that `finetuning/defaults.py` has for the model's
            size. For reading comprehension one rate is published, 2e-4 for tiny: twice the default.
    """

    epochs: int
    length: int
    batch: int
    scores: Tuple[str, ...] = ("eval_accuracy",)
    published: Tuple[str, ...] = ("",) * len(MODELS)
    rate_factor: float = 1.0


ANSWERS = ("eval_em", "eval_f1")
SETTINGS = {
    "afqmc": Settings(2, 128, 16, published=("69.92", "72.55", "74.00", "69.96", "75.60")),
    "tnews": Settings(3, 128, 32, published=("53.35", "55.06", "55.16", "57.36", "59.46")),
    "iflytek": Settings(3, 128, 32, published=("48.71", "56.58", "57.00", "59.50", "62.89")),
    "cmnli": Settings(2, 128, 16, published=("70.61", "77.58", "78.77", "81.13", "83.14")),
    "ocnli": Settings(2, 128, 16),
    "cluewsc2020": Settings(2, 128, 16, published=("58.50", "64.34", "62.24", "64.34", "61.54")),
    "csl": Settings(3, 256, 4, published=("74.56", "78.50", "80.30", "81.20", "83.63")),
    "cmrc2018": Settings(
        3,
        512,
        32,
        ANSWERS,
        ("53.35/76.21", "72.90/89.66", "75.95/90.81", "76.30/92.09", "75.15/90.77"),
        rate_factor=2.0,
    ),
    "drcd": Settings(
        3,
        512,
        32,
        ANSWERS,
        ("70.08/80.67", "", "87.52/93.06", "89.78/94.70", "89.67/94.62"),
        rate_factor=2.0,
    ),
    "chid": Settings(3, 64, 24, published=("43.53", "71.77", "74.18", "80.57", "83.15")),
    "c3": Settings(8, 512, 16, published=("50.26", "59.58", "64.41", "70.32", "73.28")),
    "cluener": Settings(4, 128, 32, ("eval_cluener_f1", "eval_f1")),
}


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("checkpoint", None, "Pre-trained model: a checkpoint, or a folder with one.")
    define.string("data_dir", None, "Folder with a folder for each task.")
    define.string("output_dir", None, "Folder of the runs.")
    define.string(
        "bert_config_file", None, "Config of the model. Default: the only config that fits."
    )
    define.string("vocab_file", None, "Vocabulary. Default: beside the checkpoint, else ours.")
    define.list("tasks", list(SETTINGS), "Tasks to run. Tasks without files are left out.")
    define.list("seeds", ["1"], "Seeds. The predictions of the first seed are submitted.")


def main(args):
    """Run the tasks, print the table, and write the submission."""
    for name in ("checkpoint", "data_dir", "output_dir"):
        if not getattr(args, name):
            raise UserError("give --" + name)
    unknown = [name for name in args.tasks if name not in SETTINGS]
    if unknown:
        text = "--tasks={}: the tasks are {}"
        raise UserError(text.format(",".join(unknown), ", ".join(SETTINGS)))
    if not files.is_folder(args.data_dir):
        text = "{} is not a folder: give the folder that holds a folder for each task"
        raise UserError(text.format(args.data_dir))
    model = model_flags(args)
    names = [name for name in args.tasks if has_files(name, args.data_dir, ("train", "dev"))]
    tell_of_missing_files(args, names)
    if not names:
        folders = ", ".join(args.tasks)
        text = "{} holds no folder of a task with train and dev files; the folders are {}"
        raise UserError(text.format(args.data_dir, folders))
    failed = [name for name in names if run(command(args, name, model)) != 0]
    done = [name for name in names if name not in failed]
    if done:
        done += finished_before(args, names, done)
        write_results(args, [name for name in SETTINGS if name in done])
    if failed:
        raise UserError("{} failed: its own last line says why".format(", ".join(failed)))


# ------------------------------------------------------------------------------------ a run


def model_flags(args):
    """Return the flags that name the model: a dict; raises UserError where no config fits."""
    if not (files.exists(args.checkpoint) or files.exists(args.checkpoint + ".index")):
        raise UserError(
            "{} does not exist: give a checkpoint or its folder".format(args.checkpoint)
        )
    checkpoint = Checkpoint(run_folder.find_best(args.checkpoint))
    checkpoint.check_known()
    beside = model_files.find(checkpoint.prefix, model_files.WORDPIECE)
    config = args.bert_config_file or model_files.find(checkpoint.prefix, model_files.CONFIG)
    if not config:
        shapes, folder = checkpoint.model_shapes(), os.path.dirname(checkpoint.prefix)
        fields = inspection.summarize(shapes)["fields"]
        fitting = [os.path.join(ROOT, path) for path in fitting_configs(shapes, fields, folder)]
        if not fitting:
            text = "{} has the shapes of no config that is here: give its own, --bert_config_file"
            raise UserError(text.format(checkpoint.prefix))
        if len(fitting) != 1:
            text = "{} has the shapes of {} configs ({}): give --bert_config_file"
            raise UserError(text.format(checkpoint.prefix, len(fitting), ", ".join(fitting)))
        (config,) = fitting
    ours = os.path.join(ROOT, "albert_config", "vocab.txt")
    return {
        "init_checkpoint": checkpoint.prefix,
        "bert_config_file": config,
        "vocab_file": args.vocab_file or beside or ours,
    }


def has_files(name, data_dir, splits):
    """Return whether the files of some splits of a task are there."""
    return not missing_file(name, data_dir, splits)


def missing_file(name, data_dir, splits):
    """Return which file of some splits of a task is missing, a sentence, or None."""
    kind = kind_of(KINDS, name)
    find = choice_files.find_files if isinstance(kind, Choices) else tasks.find_file
    try:
        for split in splits:
            find(kind.tasks[name], os.path.join(data_dir, name), split)
    except UserError as error:
        return str(error)
    return None


def tell_of_missing_files(args, names):
    """Warn of the tasks that do not run, and of the tasks in `names` that predict nothing."""
    for name in args.tasks:
        split, what = ("test",), "NO PREDICTIONS"
        if name not in names:
            split, what = ("train", "dev"), "TASK LEFT OUT"
        problem = missing_file(name, args.data_dir, split)
        if problem:
            logging.warning("%s: %s: %s", what, name, problem)


def command(args, name, model):
    """Return the words of a task's command, a list of str."""
    settings = SETTINGS[name]
    config = modeling.AlbertConfig.from_json_file(model["bert_config_file"])
    rate = defaults.defaults_for(config.hidden_size).learning_rate * settings.rate_factor
    flags = dict(
        model,
        task_name=name,
        data_dir=os.path.join(args.data_dir, name),
        output_dir=os.path.join(args.output_dir, name),
        seeds=",".join(args.seeds),
        do_train=True,
        do_eval=True,
        do_predict=has_files(name, args.data_dir, ("test",)),
        num_train_epochs=settings.epochs,
        max_seq_length=min(settings.length, config.max_position_embeddings),
        train_batch_size=settings.batch,
        learning_rate=rate,
    )
    script = os.path.join(ROOT, kind_of(KINDS, name).script)
    return [sys.executable, script] + ["--{}={}".format(*item) for item in flags.items()]


def run(words):
    """Run a command in this working directory; returns its exit status.

    The terminal sends Ctrl-C to the command, too. The command may save before it ends.
    """
    process, is_interrupted = subprocess.Popen(words), False
    while process.returncode is None:
        try:
            process.wait()
        except KeyboardInterrupt:
            is_interrupted = True
    if is_interrupted:
        raise SystemExit(signals.STATUS + signal.SIGINT)
    return process.returncode


# --------------------------------------------------------------------------------- results


def finished_before(args, names, done):
    """Return the tasks that earlier calls finished with the same model and the same seeds.

    Args:
        args: the parsed flags.
        names: tasks that this call ran.
        done: tasks that this call finished, not empty.
    """
    origin = origin_of(args, done[0])
    return [name for name in SETTINGS if name not in names and origin_of(args, name) == origin]


def origin_of(args, name):
    """Return (hash of the start, seeds) of the scores of a task, or None without scores."""
    try:
        report = run_report.read(os.path.join(args.output_dir, name))
    except UserError:  # it is damaged
        return None
    if not set(SETTINGS[name].scores) <= set(report.get("metrics", {})):
        return None
    start = report.get("made_with", {}).get("init_checkpoint")
    return start, sorted(report.get("seeds", {}))


def write_results(args, names):
    """Write and print the table of finished tasks, and write the submission."""
    results = {name: scores_of(os.path.join(args.output_dir, name), name) for name in names}
    rows = [["task (dev)", "this model"] + ["ALBERT {} (test)".format(model) for model in MODELS]]
    rows += [[name, shown(results[name])] + list(SETTINGS[name].published) for name in names]
    print(text_table(rows))
    files.write_json(os.path.join(args.output_dir, run_report.REPORT), results)
    first = "seed_{}".format(args.seeds[0])
    paths = []
    for name in names:
        paths += files.glob(os.path.join(args.output_dir, name, first, "*_predict.json"))
    if paths:
        target, content = os.path.join(args.output_dir, SUBMISSION), io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(paths):
                archive.write(path, os.path.basename(path))
        with files.WholeFile(target) as whole:
            whole.write(content.getvalue())
        print("{}: {} files".format(target, len(paths)))


def scores_of(folder, name):
    """Return a dict of score to {"mean", "deviation"} of a task's runs."""
    metrics = run_report.read(folder)["metrics"]
    return {score: metrics[score] for score in SETTINGS[name].scores}


def shown(scores):
    """Return scores in percent, with the deviation where there are several seeds."""
    cells = []
    for score in scores.values():
        cell = "{:.2f}".format(100 * score["mean"])
        if score["deviation"] is not None:
            cell += " ± {:.2f}".format(100 * score["deviation"])
        cells.append(cell)
    return "/".join(cells)


if __name__ == "__main__":
    cli.run(main, define_flags)
