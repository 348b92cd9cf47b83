"""Predict with a fine-tuned model, or make vectors of texts. The model is loaded once.

python predict.py --model_dir=OUT TEXT_A [TEXT_B]           one text or pair
... | python predict.py --model_dir=OUT | ...               one a line, answered at once
python predict.py --model_dir=OUT --input_file=questions.tsv --output_file=answers.tsv
"""

import io
import json
import os
import shlex
import sys

# TensorFlow's C++ code logs ten lines at every start; errors are still raised.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from common import cli, file_types, files, progress
from common.errors import UserError
from finetuning import data_report, predictions, task_files, tasks
from finetuning.flags import define_text_flags
from serving import model_flags, predictor

WORDS = "[TEXT_A [TEXT_B]]"  # on the command line, beside the flags
STANDARD_INPUT, STANDARD_INPUT_NAME = "-", "standard input"
LINES_SUFFIXES = (".tsv", ".txt")
DIGITS = 6  # of what is printed


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    model_flags.define_flags(flag_values)
    define.string(
        "input_file",
        None,
        "File in a format of the task's test files (.tsv, .txt, .json, .jsonl), or - for standard "
        "input, which is also read where no text is given: one example a line, a tab between the "
        "texts of a pair. A file for embeddings has such lines, too.",
    )
    define.string(
        "output_file",
        None,
        "File of the answers to an input_file, written whole or not at all; needed with a file.",
    )
    define_text_flags(flag_values)
    define.enum(
        "output_format",
        "tsv",
        ["tsv", "json"],
        "Answers as a table with a header, or as JSON objects, one a line.",
    )
    define.bool(
        "embeddings",
        False,
        "Make a vector of each text or pair instead: JSON lists, one a line, or an array "
        "[texts, hidden_size] if output_file ends in .npy.",
    )
    define.enum(
        "pooling",
        "mean",
        list(predictor.POOLINGS),
        "The vector: mean of the last layer over all pieces; the last layer at [CLS]; or that "
        "through the pooler.",
    )
    define.integer(
        "predict_batch_size",
        predictor.BATCH_SIZE,
        "Texts of a file that are computed at a time.",
        lower_bound=1,
    )


def main(args, words):
    """Load the model, then answer the texts of the command line, of a file or of standard input."""
    logging.set_verbosity(logging.INFO)
    tf.logging.set_verbosity(tf.logging.INFO)
    check_flags(args, words)
    model = model_flags.load_predictor(args, args.predict_batch_size)
    if words:
        texts = check_texts(args, model, words)
        answer_lines(args, model, [(texts, None)])
    elif args.output_file:
        answer_file(args, model)
    else:
        answer_lines(args, model, read_lines(args, model, sys.stdin.buffer, STANDARD_INPUT_NAME))


def check_flags(args, words):
    """Raise a `UserError` for flags that contradict each other, before a model is loaded."""
    if not args.model_dir and not args.embeddings:
        raise UserError("--model_dir is needed; without a fine-tuned model there are --embeddings")
    if args["pooling"].present and not args.embeddings:
        raise UserError("--pooling={} is for --embeddings=True".format(args.pooling))
    if len(words) > 2:
        raise UserError("{} texts are given: quote those that have blanks".format(len(words)))
    if words and args.input_file:
        raise UserError("texts and --input_file are given: leave one of them out")
    is_file = args.input_file not in (None, STANDARD_INPUT)
    if is_file != bool(args.output_file):
        raise UserError("--input_file=FILE and --output_file belong together")
    if is_file:
        suffixes = LINES_SUFFIXES if args.embeddings else task_files.SUFFIXES
        suffix = os.path.splitext(args.input_file)[1]
        if suffix == ".csv":
            raise UserError(task_files.csv_remedy(args.input_file))
        if suffix not in suffixes:
            wanted = "{}: the name of the file must end in {}"
            raise UserError(wanted.format(args.input_file, " or ".join(suffixes)))
        if not files.exists(args.input_file):
            raise UserError("{} does not exist".format(args.input_file))
        if os.path.abspath(args.output_file) == os.path.abspath(args.input_file):
            raise UserError("--output_file would replace --input_file: give another name")
        if args.output_file.endswith(".npy") and not args.embeddings:
            wanted = "--output_file={}: an array has vectors, for --embeddings=True, not answers"
            raise UserError(wanted.format(args.output_file))
        files.check_writable(args.output_file)


# ------------------------------------------------------------------- one example after another


def answer_lines(args, model, examples):
    """Answer each example before the next one is read; one that is not valid gets an error.

    Args:
        args: the parsed flags.
        model: `predictor.Predictor`.
        examples: iterator of (tuple of texts, None) or (None, `UserError`).

    Raises:
        UserError: at the end, if there was an error.
    """
    is_table = args.output_format == "tsv" and not args.embeddings
    if is_table:
        show("\t".join(["prediction"] + ["p({})".format(label) for label in model.task.labels]))
    errors, num_lines = [], 0
    pieces = data_report.UnknownPieces(model.tokenizer)
    for texts, error in examples:
        num_lines += 1
        if error:
            errors.append(error)
            message = " ".join(str(error).split())
            empty = [""] * (is_table and len(model.task.labels))
            show("\t".join(["error: " + message] + empty) if is_table else json_error(message))
            continue
        show(answer_line(args, model, texts))
        pieces.add(list(texts))
    if pieces.share > data_report.WARNED_SHARE:
        logging.warning(pieces.sentence("the texts"))
    if errors:
        message = "{} of {} lines are no examples and were answered with an error, first {}"
        raise UserError(message.format(len(errors), num_lines, errors[0]))


def answer_line(args, model, texts):
    """Return the answer to a tuple of texts in one line."""
    if args.embeddings:
        return vector_line(model.embed([texts], args.pooling)[0])
    (answer,) = model.predict([texts])
    if args.output_format == "json":
        return json_line(answer)
    cells = ["{:.{}f}".format(p, DIGITS) for p in answer["probabilities"].values()]
    return "\t".join([answer["label"]] + cells)


def json_error(message):
    """Return the answer to a line that is no example, as JSON."""
    return json.dumps({"error": message}, ensure_ascii=False)


def read_lines(args, model, stream, name):
    """Yield (texts, None) for each line of bytes, or (None, `UserError`) if it is no example.

    Raises:
        UserError: for a stream that is no text, such as UTF-16 or gzip.
    """
    is_utf8 = False
    for number, line in enumerate(stream, 1):
        refusal = number == 1 and file_types.refusal(name, line, name == STANDARD_INPUT_NAME)
        if refusal:
            raise UserError(refusal)
        where = "{}, row {}: ".format(name, number)
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            is_utf8 = is_utf8 or file_types.holds_wide(text)
            yield check_texts(args, model, text.split("\t"), where), None
        except UnicodeDecodeError:
            mend = file_types.mend_utf8(line, is_utf8)
            yield None, UserError("{}not UTF-8 text; {}".format(where, mend))
        except UserError as error:
            yield None, error


def check_texts(args, model, texts, where=""):
    """Return the texts of an example as a tuple; raises `UserError` if it is not valid."""
    if not all(text.strip() for text in texts):
        raise UserError(where + "a text is empty")
    if len(texts) > 2:
        raise UserError("{}{} texts: one, or two with a tab between".format(where, len(texts)))
    if not args.embeddings:
        predictor.check_number(model.task, texts, where)
    return tuple(texts)


def show(line):
    """Print a line and flush it."""
    sys.stdout.buffer.write(line.encode("utf-8") + b"\n")
    sys.stdout.buffer.flush()


# ------------------------------------------------------------------------------ a whole file


def answer_file(args, model):
    """Answer all examples of the input file, in the order of its rows."""
    lines = progress.Lines("pieces")
    if args.embeddings:
        write_vectors(args.output_file, model.embed(read_file(args, model), args.pooling, lines))
        return
    examples = tasks.read_examples(model.task, args.input_file, "test", header=args.header)
    check_pieces(args, model, data_report.texts_of(examples))
    texts = [(example.text_a, example.text_b) for example in examples]
    if texts[0][1] is None:
        texts = [text for text, _ in texts]
    elif not any(example.label for example in examples):
        warn_of_labels(args.input_file, texts, "if they are labels, it is no file of pairs")
    probabilities = model.probabilities(texts, lines)
    labels = model.task.labels
    if args.output_format == "tsv":
        predictions.write_predictions(args.output_file, labels, examples, probabilities)
        return
    with files.WholeFile(args.output_file) as whole:
        for example, row in zip(examples, probabilities):
            answer = dict(predictor.answer(labels, row), id=example.guid)
            whole.write((json_line(answer) + "\n").encode("utf-8"))


def read_file(args, model):
    """Return the tuples of texts of a file for embeddings; raises `UserError` for a bad line."""
    with files.open_file(args.input_file) as stream:
        content = stream.read()
    remedy = "vectors are made of texts, one a line, as from jq -r .FIELD {} > NEW_FILE"
    task_files.refuse_json(args.input_file, content, remedy.format(shlex.quote(args.input_file)))
    rows = list(read_lines(args, model, io.BytesIO(content), args.input_file))
    task_files.refuse_quoted(args.input_file, content)
    for _, error in rows:
        if error:
            raise error
    texts = [texts for texts, _ in rows]
    warn_of_columns(args.input_file, texts)
    check_pieces(args, model, [text for pair in texts for text in pair])
    return texts


def warn_of_columns(path, texts):
    """Warn of a header, and of labels in the place of second texts, which vectors would include."""
    if {text.strip().lower() for text in texts[0]} <= set(task_files.COLUMN_NAMES):
        logging.warning(
            "HEADER: the first of the texts is %s; without it: tail -n +2 %s > NEW_FILE",
            task_files.shown("\t".join(texts[0])),
            shlex.quote(path),
        )
    remedy = "without them: cut -f 1 {} > NEW_FILE".format(shlex.quote(path))
    warn_of_labels(path, [pair for pair in texts if len(pair) > 1], remedy)


def warn_of_labels(path, pairs, remedy):
    """Warn of pairs whose second texts seem to be labels: few for many different first texts."""
    firsts, seconds = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    if seconds and 4 * len(seconds) <= len(firsts):
        logging.warning(
            "LABELS: the second texts of %s are %d, such as %s, for %d first ones; %s",
            path,
            len(seconds),
            task_files.shown(min(seconds)),
            len(firsts),
            remedy,
        )


def check_pieces(args, model, texts):
    """Check the share of unknown pieces of the input file, of which all texts are given."""
    texts_of_name = {args.input_file: texts}
    data_report.check_unknown_pieces(texts_of_name, model.tokenizer, args.max_unknown_share)


def write_vectors(path, vectors):
    """Write float32 [n, H] as an array to a file named .npy, as JSON lines to any other."""
    with files.WholeFile(path) as whole:
        if path.endswith(".npy"):
            np.save(whole, vectors)
            return
        for vector in vectors:
            whole.write((vector_line(vector) + "\n").encode("utf-8"))


def vector_line(vector):
    """Return a vector as a JSON list."""
    return json.dumps([float("{:.{}g}".format(value, DIGITS)) for value in vector])


def json_line(answer):
    """Return an answer as JSON."""
    rounded = {label: round(p, DIGITS) for label, p in answer["probabilities"].items()}
    return json.dumps(dict(answer, probabilities=rounded), ensure_ascii=False)


if __name__ == "__main__":
    cli.run(main, define_flags, WORDS)
