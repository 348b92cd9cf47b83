"""Predict with a fine-tuned or a pre-trained model, or make vectors. The model is loaded once.

python predict.py 北京是中国的[MASK]都。                      pieces for each [MASK]
python predict.py TEXT_A TEXT_B                             how similar two texts are
python predict.py --search_file=FILE TEXT                   the lines nearest to a text
python predict.py --model_dir=OUT TEXT_A [TEXT_B]           labels of a fine-tuned model
python predict.py --model_dir=OUT TEXT                      entities, with a model of run_ner.py
python predict.py --model_dir=OUT QUESTION CONTEXT          answer, with a model of run_mrc.py
python predict.py --model_dir=OUT CONTEXT QUESTION CHOICE CHOICE...     the right choice
... | python predict.py --model_dir=OUT | ...               one a line, answered at once
python predict.py --model_dir=OUT --input_file=questions.tsv --output_file=answers.tsv
"""

import io
import os
import shlex
import sys

from common import tensorflow_settings

tensorflow_settings.set_environment()

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from common import cli, file_types, files, progress
from common.errors import UserError
from finetuning.flags import define_header_flag, define_unknown_flag
from finetuning_data import (
    choice_files,
    data_report,
    entity_files,
    other_files,
    span_files,
    task_files,
    tasks,
)
from kinds import choices, class_predictions, spans
from kinds.choices import Choices
from kinds.entities import SUFFIXES as ENTITY_SUFFIXES
from kinds.entities import Entities
from serving import answers, model_flags, predictor
from serving.answers import to_json
from tokenization import MASK

WORDS = "[TEXT...]"  # on the command line, beside the flags
STANDARD_INPUT, STANDARD_INPUT_NAME = "-", "standard input"
LINES_SUFFIXES = (".tsv", ".txt")
TASK_SUFFIXES = tuple(dict.fromkeys(task_files.SUFFIXES + ENTITY_SUFFIXES))


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    model_flags.define_flags(flag_values)
    define.string(
        "input_file",
        None,
        "File in a format of the task's test files (.tsv, .txt, .json, .jsonl), or - for standard "
        "input, which is also read if no text is given. Standard input has one example a line, "
        "with a tab between the texts of a pair. A file for a model without labels has the same "
        "format as standard input.",
    )
    define.string(
        "output_file",
        None,
        "File of the answers to an input_file, written whole or not at all; needed with a file.",
    )
    define_header_flag(flag_values)
    define_unknown_flag(flag_values)
    define.enum(
        "output_format",
        "tsv",
        ["tsv", "json"],
        "Answers as a table with a header, or as JSON objects, one a line. Default: json if the "
        "name of output_file ends in .json or .jsonl, else tsv.",
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
        "The vector: the mean of the last layer over all pieces (mean), the last layer at [CLS] "
        "(cls), or the output of the pooler (pooled).",
    )
    define.string(
        "search_file",
        None,
        "File of texts, one a line: answer each text with the lines whose vectors are nearest.",
    )
    define.integer(
        "top",
        5,
        "Pieces shown for a [MASK], or lines of the search_file. A question gets one "
        "answer, or this number of answers if the flag is given.",
        lower_bound=1,
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
    if (args.output_file or "").endswith((".json", ".jsonl")) and not args["output_format"].present:
        args.output_format = "json"
    model = model_flags.load_predictor(args, args.predict_batch_size)
    answer_kind = choose_answer_kind(args, model)
    check_use(args, answer_kind)
    if words:
        texts = check_texts(answer_kind, words)
        answer_lines(args, model, answer_kind, [(texts, None)])
    elif args.output_file:
        answer_file(args, model, answer_kind)
    else:
        stream = read_lines(answer_kind, sys.stdin.buffer, STANDARD_INPUT_NAME)
        answer_lines(args, model, answer_kind, stream)


def choose_answer_kind(args, model):
    """Return the kind of answers that the flags ask a model for, one of `serving.answers`."""
    if args.search_file:
        lines = [text for (text,) in read_file(args.search_file, answers.Nearest, skip_blank=True)]
        return answers.Nearest(model, lines, args.pooling, args.top, progress.Lines("pieces"))
    if args.embeddings:
        return answers.Vectors(model, args.pooling)
    if model.kind is None:
        return answers.Masks(model, args.top)
    if isinstance(model.kind, Choices):
        return answers.Chosen(model)
    if isinstance(model.kind, (Entities, spans.Spans)):
        num_best = args.top if args["top"].present else 1
        if num_best > spans.NUM_CANDIDATES:
            model.settings.n_best = num_best
        return answers.Parts(model, num_best)
    return answers.Labels(model)


def check_flags(args, words):
    """Raise a `UserError` for flags that contradict each other, before a model is loaded."""
    if args["pooling"].present and not (args.embeddings or args.search_file):
        raise UserError(
            "--pooling={} is for --embeddings=True or --search_file".format(args.pooling)
        )
    if args.embeddings and args.search_file:
        raise UserError("--embeddings=True and --search_file are given: leave one of them out")
    if len(words) > 2 and not args.model_dir:
        raise UserError("{} texts are given: quote those that have blanks".format(len(words)))
    for word in words:
        if os.path.isfile(word):
            text = "{0} is a file: give --input_file={0} and --output_file, or a text in its place"
            raise UserError(text.format(word))
    if words and args.input_file:
        raise UserError("texts and --input_file are given: leave one of them out")
    if args.search_file:
        files.check_readable(args.search_file)
    is_file = args.input_file not in (None, STANDARD_INPUT)
    if is_file != bool(args.output_file):
        raise UserError("--input_file=FILE and --output_file belong together")
    if is_file:
        check_files(args)


def check_files(args):
    """Raise a `UserError` if the input file cannot be read or the output file cannot be written."""
    has_labels = args.model_dir and not (args.embeddings or args.search_file)
    suffixes = TASK_SUFFIXES if has_labels else LINES_SUFFIXES
    files.check_readable(args.input_file)
    if args.input_file.endswith(".csv"):
        raise UserError(other_files.csv_remedy(args.input_file))
    check_suffix(args.input_file, suffixes)
    if os.path.abspath(args.output_file) == os.path.abspath(args.input_file):
        raise UserError("--output_file would replace --input_file: give another name")
    if args.output_file.endswith(".npy") and not args.embeddings:
        wanted = "--output_file={}: an array has vectors, for --embeddings=True, not answers"
        raise UserError(wanted.format(args.output_file))
    files.check_writable(args.output_file)


def check_suffix(path, suffixes):
    """Raise a `UserError` if a file is no text, or if its name has none of the suffixes."""
    if os.path.splitext(path)[1] not in suffixes:
        task_files.read_content(path)  # refuses a file that is not text
        wanted = "{}: the name of the file must end in {}"
        raise UserError(wanted.format(path, " or ".join(suffixes)))


def check_use(args, answer_kind):
    """Raise a `UserError` for a flag or a file that a kind of answers does not take."""
    has_header = isinstance(answer_kind, answers.Labels) and args.output_file
    if args.header != "auto" and not has_header:
        text = "--header={} is for an --input_file of a classifier: leave it out"
        raise UserError(text.format(args.header))
    if has_header:
        check_suffix(args.input_file, task_files.SUFFIXES)
    finds_answers = isinstance(answer_kind, answers.Parts) and answer_kind.finds_answers
    has_several = finds_answers or isinstance(answer_kind, (answers.Masks, answers.Nearest))
    if args["output_format"].present and args.output_format == "tsv" and answer_kind.header is None:
        raise UserError("--output_format=tsv: these answers are JSON lines, so leave it out")
    if args["top"].present and not has_several:
        text = "--top={} is for a [MASK], a search or a question: leave it out"
        raise UserError(text.format(args.top))


# ------------------------------------------------------------------- one example after another


def answer_lines(args, model, answer_kind, examples):
    """Answer each example before the next one is read; one that is not valid gets an error.

    Args:
        args: the parsed flags.
        model: `predictor.Predictor`.
        answer_kind: one of `serving.answers`.
        examples: iterator of (tuple of texts, None) or (None, `UserError`).

    Raises:
        UserError: at the end, if there was an error.
    """
    is_table = args.output_format == "tsv" and answer_kind.header is not None
    if is_table and answer_kind.header:
        show("\t".join(answer_kind.header))
    errors, num_lines = [], 0
    pieces = data_report.UnknownPieces(model.tokenizer)
    for texts, error in examples:
        num_lines += 1
        if error:
            errors.append(error)
            message = " ".join(str(error).split())
            row = ["error: " + message] + [""] * (len(answer_kind.header or [""]) - 1)
            show("\t".join(row) if is_table else to_json({"error": message}))
            continue
        if is_table:
            for row in answer_kind.rows(texts):
                show("\t".join(row))
        else:
            show(to_json(answer_kind.answer(texts)))
        pieces.add(without_masks(texts))
    if pieces.share > data_report.WARNED_SHARE:
        logging.warning(pieces.sentence("the texts"))
    if errors:
        message = "{} of {} lines are not examples and were answered with an error, first {}"
        raise UserError(message.format(len(errors), num_lines, errors[0]))


def read_lines(answer_kind, stream, name, skip_blank=False):
    """Yield (texts, None) for each line of bytes, or (None, `UserError`) if it is not an example.

    Args:
        answer_kind: one of `serving.answers`, which must have an answer for the texts.
        stream: iterator of lines.
        name: str, of the stream, for errors.
        skip_blank: bool, whether a blank line is left out.

    Raises:
        UserError: for a stream that is not a text, such as UTF-16 or gzip.
    """
    is_utf8 = False
    for number, line in enumerate(stream, 1):
        refusal = number == 1 and file_types.refusal(name, line, name == STANDARD_INPUT_NAME)
        if refusal:
            raise UserError(refusal)
        if skip_blank and not line.strip():
            continue
        where = "{}, row {}: ".format(name, number)
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            is_utf8 = is_utf8 or file_types.holds_wide(text)
            if name == STANDARD_INPUT_NAME:
                refuse_other_lines(text, number)
            yield check_texts(answer_kind, text.split("\t"), where), None
        except UnicodeDecodeError:
            mend = file_types.mend_utf8(line, is_utf8)
            yield None, UserError("{}not UTF-8 text; {}".format(where, mend))
        except UserError as error:
            yield None, error


def refuse_other_lines(text, number):
    """Raise `UserError` for a line of standard input that only a file may have: JSON, a header."""
    where = "{}, row {}: ".format(STANDARD_INPUT_NAME, number)
    if task_files.JSON_LINE.match(text.encode("utf-8")):
        raise UserError(where + "JSON: give texts, or the file with --input_file and --output_file")
    names = {cell.strip().lower() for cell in text.split("\t")}
    if number == 1 and names <= set(task_files.COLUMN_NAMES):
        raise UserError(where + "a header: begin with the first example, as tail -n +2 does")


def check_texts(answer_kind, texts, where=""):
    """Return the texts of an example as a tuple; raises `UserError` if it is not valid."""
    if not all(text.strip() for text in texts):
        raise UserError(where + "a text is empty")
    if answer_kind.most_texts and len(texts) > answer_kind.most_texts:
        how = "texts: one, or two with a tab between"
        how = how if where else "texts are given: quote those that have blanks"
        raise UserError("{}{} {}".format(where, len(texts), how))
    answer_kind.check(texts, where)
    return tuple(texts)


def without_masks(texts):
    """Return texts as a list without "[MASK]", to count their unknown pieces."""
    return [text.replace(MASK, "") for text in texts]


def show(line):
    """Print a line and flush it."""
    sys.stdout.buffer.write(line.encode("utf-8") + b"\n")
    sys.stdout.buffer.flush()


# ------------------------------------------------------------------------------ a whole file


def answer_file(args, model, answer_kind):
    """Answer all examples of the input file, in the order of its rows."""
    writers = {
        answers.Labels: write_labels,
        answers.Chosen: write_choices,
        answers.Parts: write_parts,
        answers.Vectors: write_vectors,
    }
    writers.get(type(answer_kind), write_answers)(args, model, answer_kind)


def write_answers(args, model, answer_kind):
    """Answer a file of texts, one row after the other."""
    texts = read_texts(args, model, answer_kind)
    if args.output_format != "tsv":
        files.write_json_lines(args.output_file, map(answer_kind.answer, texts))
        return
    rows = [answer_kind.header] if answer_kind.header else []
    rows += [row for one in texts for row in answer_kind.rows(one)]
    files.write_text(args.output_file, "".join("\t".join(row) + "\n" for row in rows))


def write_labels(args, model, answer_kind):
    """Answer a file of examples of the model's task with labels."""
    examples = tasks.read_examples(model.task, args.input_file, "test", None, args.header)
    check_pieces(args, model, data_report.texts_of(examples))
    texts = [(example.text_a, example.text_b) for example in examples]
    if texts[0][1] is None:
        texts = [text for text, _ in texts]
    elif not any(example.label for example in examples):
        warn_of_labels(args.input_file, texts, "if these are labels, the file does not hold pairs")
    probabilities = model.probabilities(texts, progress.Lines("pieces"))
    labels = model.task.labels
    if args.output_format == "tsv":
        class_predictions.write_predictions(args.output_file, labels, examples, probabilities)
        return
    found = (predictor.answer(labels, row) for row in probabilities)
    write_with_ids(args, answer_kind, examples, found)


def write_choices(args, model, answer_kind):
    """Answer a file of questions of the model's task with choices."""
    task, paths = model.task, [args.input_file]
    questions = choice_files.read_questions(task, paths, "test", None, skip_bad_rows=None)
    check_pieces(args, model, model.kind.texts(questions))
    predicted = model.decode(questions, progress.Lines("pieces"))
    if args.output_format == "tsv":
        choices.write_table(args.output_file, questions, predicted)
        return
    write_with_ids(args, answer_kind, questions, model.kind.answers(questions, task, predicted))


def write_with_ids(args, answer_kind, examples, found):
    """Write what `Predictor.predict` finds for examples as JSON lines, with their ids."""
    rows = (dict(answer_kind.shown(one), id=example.guid) for example, one in zip(examples, found))
    files.write_json_lines(args.output_file, rows)


def write_parts(args, model, answer_kind):
    """Answer a file of texts with their entities, or of questions with answers: JSON lines."""
    if isinstance(model.kind, Entities):
        examples = entity_files.read_texts(args.input_file, (), False, skip_bad_rows=None)
        given = [{"id": example.guid, "text": example.text} for example in examples]
    else:
        examples = span_files.read_questions(args.input_file, False, skip_bad_rows=None)
        given = [{"id": example.guid} for example in examples]
    check_pieces(args, model, model.kind.texts(examples))
    predicted = model.decode(examples, progress.Lines("pieces"))
    found = model.kind.answers(examples, model.task, predicted)
    rows = (dict(row, **answer_kind.shown(answer)) for row, answer in zip(given, found))
    files.write_json_lines(args.output_file, rows)


def write_vectors(args, model, answer_kind):
    """Write vectors as an array to a file named .npy, as JSON lines to any other."""
    texts = read_texts(args, model, answer_kind)
    vectors = model.embed(texts, args.pooling, progress.Lines("pieces"))
    if not args.output_file.endswith(".npy"):
        files.write_json_lines(args.output_file, map(answers.rounded_vector, vectors))
        return
    with files.WholeFile(args.output_file) as whole:
        np.save(whole, vectors)


def read_texts(args, model, answer_kind):
    """Return the tuples of texts of the input file, checked."""
    texts = read_file(args.input_file, answer_kind)
    warn_of_columns(args.input_file, texts)
    check_pieces(args, model, [text for row in texts for text in without_masks(row)])
    return texts


def read_file(path, answer_kind, skip_blank=False):
    """Return the tuples of texts that `read_lines` yields; raises `UserError` for a bad line."""
    content = files.read_bytes(path)
    remedy = "give texts, one a line, as from jq -r .FIELD {} > NEW_FILE"
    task_files.refuse_json(path, content, remedy.format(shlex.quote(path)))
    rows = list(read_lines(answer_kind, io.BytesIO(content), path, skip_blank))
    task_files.refuse_quoted(path, content)
    for _, error in rows:
        if error:
            raise error
    if not rows:
        raise UserError("{}: no texts".format(path))
    return [texts for texts, _ in rows]


def warn_of_columns(path, texts):
    """Warn of a header and of labels as second texts, which the model would take for texts."""
    if {text.strip().lower() for text in texts[0]} <= set(task_files.COLUMN_NAMES):
        logging.warning(
            "HEADER: the first of the texts is %s; this writes the texts without it: tail -n +2 %s "
            "> NEW_FILE",
            task_files.shown("\t".join(texts[0])),
            shlex.quote(path),
        )
    remedy = "this writes the texts without them: cut -f 1 {} > NEW_FILE".format(shlex.quote(path))
    warn_of_labels(path, [pair for pair in texts if len(pair) > 1], remedy)


def warn_of_labels(path, pairs, remedy):
    """Warn of pairs whose second texts seem to be labels: few for many different first texts."""
    firsts, seconds = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    if seconds and 4 * len(seconds) <= len(firsts):
        logging.warning(
            "LABELS: %s has %d different first texts, but only %d different second texts, such as "
            "%s; %s",
            path,
            len(firsts),
            len(seconds),
            task_files.shown(min(seconds)),
            remedy,
        )


def check_pieces(args, model, texts):
    """Check the share of unknown pieces of the input file; `texts` are all of its texts."""
    texts_of_name = {args.input_file: texts}
    data_report.check_unknown_pieces(texts_of_name, model.tokenizer, args.max_unknown_share)


if __name__ == "__main__":
    cli.run(main, define_flags, WORDS)
