"""Checks the vocabulary of a fine-tuning run, encodes its rows, and makes input functions."""

import contextlib
import json
import os

from absl import logging

import tokenization
from checkpointing import model_files, new_pieces, run_folder
from common import files
from common.errors import UserError
from finetuning import batching
from finetuning_data import encoding
from training import run_report

# Copy of a vocabulary beside a checkpoint -> the flag that names it.
_VOCABULARY_FLAGS = {
    model_files.WORDPIECE: "vocab_file",
    model_files.SENTENCEPIECE: "spm_model_file",
}
# Ids in the published vocabulary, which has NUM_PUBLISHED pieces. All published Chinese models have
# these ids.
PUBLISHED_IDS = {"[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
NUM_PUBLISHED = 21128


def check_vocabulary(args, model):
    """Read the vocabulary; returns (`tokenization.FullTokenizer`, line).

    Raises:
        UserError: without a vocabulary, for a bad one, or one larger than the model's.
    """
    path = args.spm_model_file or args.vocab_file
    if not path:
        raise UserError("--vocab_file is needed, for example albert_config/vocab.txt")
    tokenizer = tokenization.FullTokenizer(args.vocab_file, args.do_lower_case, args.spm_model_file)
    check_vocab_size(path, tokenizer, model.config, args.bert_config_file)
    return tokenizer, "{}: {} pieces".format(path, len(tokenizer.vocab))


def check_vocab_size(path, tokenizer, config, config_path):
    """Compare the number of pieces with the model's, and warn of pieces that look wrong.

    Raises:
        UserError: for a vocabulary that is larger than the model's.
    """
    num_pieces = len(tokenizer.vocab)
    text = "{} has {} pieces, but vocab_size is {} in {}: ".format(
        path, num_pieces, config.vocab_size, config_path
    )
    if num_pieces > config.vocab_size:
        raise UserError(
            text + "use the vocabulary that the model was pre-trained with; to train new pieces "
            "after its own, give a config with this number, and --allow_vocab_resize=True"
        )
    if num_pieces < config.vocab_size:
        logging.warning("%sif lines are missing, the pieces after them are wrong", text)
    new_pieces.warn_of_unused(path, tokenizer)
    moved = [x for x, number in PUBLISHED_IDS.items() if tokenizer.vocab.get(x, number) != number]
    if moved and num_pieces == NUM_PUBLISHED:
        logging.warning(
            "%s has %s in row %d, the vocabulary of the published models in row %d: a published "
            "model would read other pieces than those of the text",
            path,
            moved[0],
            tokenizer.vocab[moved[0]] + 1,
            PUBLISHED_IDS[moved[0]] + 1,
        )


def check_vocabulary_of_start(given, tokenizer, prefix):
    """Compare the vocabulary of the flags with the vocabulary beside the checkpoint of the start.

    Args:
        given: str, path of the vocabulary or SentencePiece model.
        tokenizer: `tokenization.FullTokenizer` of the given vocabulary.
        prefix: str, of the checkpoint. Where neither a vocabulary nor the results of a run are
            beside it, nothing is checked.

    Raises:
        UserError: if the pieces differ.
    """
    source, recorded = run_report.recorded_vocabulary(prefix)
    paths = [model_files.find(prefix, name) for name in _VOCABULARY_FLAGS]
    if recorded and files.exists(new_pieces.PUBLISHED):
        paths.append(new_pieces.PUBLISHED)
    sha256_of = {path: files.vocabulary_sha256(path) for path in paths if path}
    expected = {recorded} if recorded else set(sha256_of.values())
    if not expected or files.vocabulary_sha256(given) in expected:
        return
    copies = [path for path in sha256_of if sha256_of[path] in expected]
    if any(new_pieces.begins_with(tokenizer.vocab, copy) for copy in copies):
        return  # The same pieces, perhaps with new ones after them.
    flags = ["--{}={}".format(_VOCABULARY_FLAGS[os.path.basename(copy)], copy) for copy in copies]
    raise UserError(
        "{} is not the vocabulary of {}, according to {}: give {}".format(
            given,
            prefix,
            copies[0] if copies else source,
            " or ".join(flags) or "the one with which it was trained",
        )
    )


def task_name_of_start(prefix):
    """Return the name of the task for which a checkpoint was trained, or None if not known."""
    description = model_files.find(prefix, model_files.DESCRIPTION)
    try:
        return description and files.read_json(description)["task"].lower()
    except (UserError, KeyError, TypeError, AttributeError):  # it is damaged
        return None


def check_task_of_run(args, kind, task, start):
    """Compare a task with the task of the run in the output folder, which a new run would replace.

    Args:
        args: has `output_dir` and `do_train`.
        kind: `kind.Kind`.
        task: of the kind.
        start: `run_folder.Start`; nothing is checked unless it is the run's own.

    Raises:
        UserError: if the tasks differ; but a command that does not train may use the run of
            another task if the kind reads the files of both tasks alike.
    """
    name = start.is_own and task_name_of_start(start.checkpoint)
    before = kind.tasks.get(name)
    if not name or (before and before.name == task.name):
        return
    if not (before and not args.do_train and kind.reads_alike(before, task)):
        raise UserError(
            "{} holds a run of task {}, not {}: give another --output_dir; to start from this "
            "run, add --init_checkpoint={}".format(
                os.path.dirname(model_files.find(start.checkpoint, model_files.DESCRIPTION)),
                before.name if before else name,
                task.name,
                start.checkpoint,
            )
        )


def check_case_of_start(args, prefix):
    """Compare --do_lower_case with the value that a fine-tuned start was trained with.

    Args:
        args: the parsed flags.
        prefix: str, of the checkpoint. Without a description beside it nothing is checked.

    Raises:
        UserError: if the values differ.
    """
    description, trained = _trained_with(prefix, "do_lower_case")
    if trained not in (None, args.do_lower_case):
        raise UserError(
            "--do_lower_case={}, but {} was trained with {}, according to {}: give "
            "--do_lower_case={}".format(args.do_lower_case, prefix, trained, description, trained)
        )


def warn_of_length(args, prefix):
    """Warn if a fine-tuned model was trained with another --max_seq_length."""
    _, trained = _trained_with(prefix, "max_seq_length")
    if trained not in (None, args.max_seq_length):
        logging.warning(
            "OTHER LENGTH: %s was trained with --max_seq_length=%d, and this run has "
            "--max_seq_length=%d, so long texts end at another place",
            prefix,
            trained,
            args.max_seq_length,
        )


def _trained_with(prefix, name):
    """Return the description beside a fine-tuned checkpoint and a value in it; None for unknown."""
    description = model_files.find(prefix, model_files.DESCRIPTION)
    if description:
        with contextlib.suppress(UserError):  # it is damaged
            return description, files.read_json(description).get(name)
    return None, None


def rows_file_name(args, kind, data, split):
    """Return the name of the file for a split's rows; other rows get another name."""
    task = data.task
    tokenizer_settings = {
        name: path and files.sha256(path)
        for name, path in (("vocab", args.vocab_file), ("spm_model", args.spm_model_file))
    }
    tokenizer_settings["do_lower_case"] = args.do_lower_case
    flags = [getattr(args, name) for name in kind.encoding_flags]
    return encoding.cache_name(
        split,
        [kind.identity(example) for example in data.examples[split]],
        [task.name, list(task.labels)] + flags + [tokenizer_settings],
    )


def encode(run, split):
    """Return the `EncodedSplit` of a split; all seeds share its file in output_dir/features.

    Args:
        run: `run.FinetuningRun`.
        split: str.
    """
    args, kind, task, examples = run.args, run.kind, run.data.task, run.data.examples[split]
    num_workers = os.cpu_count() or 1
    encoded = encoding.encode_cached(
        lambda: kind.encode(examples, task, run.tokenizer, args, num_workers),
        os.path.join(args.output_dir, "features", run.made_with.features[split]),
        kind.columns,
        kind.num_sequences(examples),
    )
    tell_lengths(split, encoded.rows, args.max_seq_length)
    return encoded


def tell_lengths(split, rows, max_seq_length):
    """Log the lengths of a split's sequences, and warn if all of them are cut."""
    lengths = encoding.measure_lengths(rows)
    logging.info("%s, in pieces: %s", split, json.dumps(lengths._asdict()))
    if lengths.num_truncated == (rows.full_lengths > 0).sum():
        logging.warning(
            "ALL CUT: every sequence of %s has more than max_seq_length=%d pieces, and half "
            "of them have %d or more; the model does not read what is cut off",
            split,
            max_seq_length,
            lengths.median,
        )


def training_input_fn(run, seed_run):
    """Return the input function of training; it starts at the step of the latest checkpoint.

    Args:
        run: `run.FinetuningRun` with its encoded splits.
        seed_run: `seeds.SeedRun`.
    """
    return _input_fn(
        run,
        "train",
        training=True,
        seed=seed_run.seed,
        batch_size=run.schedule.train_batch_size,
        first_step=lambda: run_folder.latest_step(seed_run.folder),
    )


def scoring_input_fn(run, split):
    """Return the input function of one pass over a split; dev has batches of eval_batch_size."""
    input_fn = _input_fn(run, split, training=False)
    if split != "dev" or run.args.use_tpu:  # TPUEstimator itself divides the batch among cores
        return input_fn
    return lambda params: input_fn(dict(params, batch_size=run.args.eval_batch_size))


def _input_fn(run, split, **options):
    args, encoded = run.args, run.encoded[split]
    length = args.max_seq_length
    if args.use_tpu:
        length = batching.fixed_length(encoded.rows, length)
    return batching.make_input_fn(
        encoded.path,
        run.kind.columns,
        length,
        dynamic_padding=args.dynamic_padding and not args.use_tpu,
        num_sequences=encoded.rows.num_sequences,
        **options,
    )
