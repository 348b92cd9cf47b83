"""Reading comprehension: the answer to a question is a span of its context."""

import os
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from common import files
from common.errors import UserError
from finetuning_data import data_report, encoding, span_files, tasks
from kinds import piece_heads, span_scores, span_windows
from kinds.kind import Data, HeadOutput, HeadVariables, Kind
from kinds.pieces import CHAR_BEGINS, CHAR_ENDS, EXAMPLE, IS_OWN, encode_text

SCOPE = "cls/squad"  # as in published checkpoints
PREDICTIONS, N_BEST = "predictions.json", "nbest_predictions.json"
# Flags on which answers depend, with their defaults.
DEFAULTS = {
    "max_query_length": 64,
    "doc_stride": 128,
    "max_answer_length": 50,
    "allow_no_answer": False,
    "no_answer_threshold": 0.0,
}
NUM_SPECIAL = 3  # pieces of a sequence: [CLS] question [SEP] context [SEP]
NUM_CANDIDATES = 20  # at least this many candidates are kept; their probabilities sum to 1
# Positions of the answer's first and last piece.
ANSWER = encoding.Column("answer", shape=(2,))


def _files(**more):
    """Return split -> names of its files, of which the first that exists is read."""
    own = {split: (split + ".json", split + ".jsonl") for split in tasks.SPLITS}
    return {split: more.get(split, ()) + names for split, names in own.items()}


class SpanTask(NamedTuple):
    """A data set of questions.

    Fields:
        name: as given by --task_name.
        labels: empty, because answers have no labels.
        files: split -> file names below the data folder; the first that exists is read.
        submission: name of the file with the predictions for CLUE, or None.
    """

    name: str
    labels: Tuple[str, ...] = ()
    files: Dict[str, Tuple[str, ...]] = _files()
    submission: Optional[str] = None


_TASKS = (
    SpanTask(
        "cmrc2018",
        files=_files(
            train=("cmrc2018_train.json",),
            dev=("cmrc2018_dev.json",),
            test=("cmrc2018_test_2k.json", "cmrc2018_test.json", "cmrc2018_trial.json"),
        ),
        submission="cmrc2018_predict.json",
    ),
    SpanTask(
        "drcd",
        files=_files(
            train=("DRCD_training.json", "drcd_train.json"),
            dev=("DRCD_dev.json", "drcd_dev.json"),
            test=("DRCD_test.json", "drcd_test.json"),
        ),
        submission="drcd_predict.json",
    ),
    SpanTask("squad"),  # a user's own files
)


class Spans(Kind):
    """Answers in contexts. A prediction is a list of `span_windows.Candidate`, the best first."""

    script = "run_mrc.py"
    variables = HeadVariables(
        "answers", SCOPE + "/output_weights", "^{}/".format(SCOPE), piece_heads.UNTRAINED
    )
    tasks = {task.name: task for task in _TASKS}
    own_task = "squad"
    metrics = ("f1", "em", "squad_f1", "squad_em")
    columns = (ANSWER, EXAMPLE, IS_OWN, CHAR_BEGINS, CHAR_ENDS)
    encoding_flags = span_windows.Sizes._fields
    head_flags = ()
    prediction_flags = tuple(DEFAULTS)
    output_flags = ("n_best",)

    # ---------------------------------------------------------------------------- data

    def read(self, args, splits, folders):
        """See `Kind.read`; questions whose answer is not in the context are not learned."""
        task = self.tasks[args.task_name.lower()]
        _check_sizes(args)
        questions, paths = {}, {}
        for split in splits:
            path = tasks.find_file(task, args.data_dir, split)
            paths[split] = [path]
            questions[split] = span_files.read_questions(
                path, split != "test", args.skip_bad_rows, args.allow_no_answer
            )
            _check_answerable(path, questions[split], args)
        _warn_of_stride(questions, args)
        if "train" in questions:
            questions["train"] = data_report.sample_examples(
                [one for one in questions["train"] if one.answers == () or answer_of(one)],
                args.max_train_examples,
                args.random_seed,
            )
        counts = {split: len(questions[split]) for split in splits}
        findings = {
            split: {
                "questions": counts[split],
                "contexts": len({question.context for question in questions[split]}),
                "unanswerable": sum(question.answers == () for question in questions[split]),
            }
            for split in splits
        }
        line = ", ".join("{:,} {}".format(counts[split], split) for split in splits)
        return Data(task, questions, paths, findings), "{}: questions: {}".format(task.name, line)

    def ignored_flags(self, args):
        """See `Kind.ignored_flags`."""
        ignored = {} if args.do_predict else {"n_best": "--do_predict=True"}
        if not args.allow_no_answer:
            ignored["no_answer_threshold"] = "--allow_no_answer=True"
        return ignored

    def texts(self, examples):
        """See `Kind.texts`: every context once, then the questions."""
        contexts = dict.fromkeys(question.context for question in examples)
        return list(contexts) + [question.question for question in examples]

    def reads_alike(self, before, task):
        """See `Kind.reads_alike`: a model answers the questions of all data sets."""
        return True

    # ------------------------------------------------------------------------ encoding

    def count_rows(self, examples, task, tokenizer, settings):
        """See `Kind.count_rows`."""
        contexts = {question.context for question in examples}
        lengths = {context: len(encode_text(context, tokenizer).ids) for context in contexts}
        counts = tokenizer.encode_all([question.question for question in examples])[1]
        sizes = sizes_of(settings)
        return sum(
            span_windows.count_windows(count, lengths[question.context], sizes)
            for count, question in zip(counts.tolist(), examples)
        )

    def identity(self, example):
        """See `Kind.identity`."""
        return example.question, example.context, answer_of(example)

    def encode(self, examples, task, tokenizer, settings, num_workers=1):
        """See `Kind.encode`; a row is a question followed by a window of its context."""
        sizes = sizes_of(settings)

        def encode_some(first_index, some):
            windows, indices, contexts = [], [], {}
            for index, example in enumerate(some, first_index):
                if example.context not in contexts:
                    contexts[example.context] = encode_text(example.context, tokenizer)
                here = span_windows.encode_windows(
                    tokenizer.encode(example.question).ids,
                    contexts[example.context],
                    answer_of(example),
                    tokenizer,
                    sizes,
                )
                windows += here
                indices += [index] * len(here)
            return _encoded(windows, indices)

        return encoding.encode_in_chunks(encode_some, examples, num_workers)

    # -------------------------------------------------------------------------- model

    def build_head(self, model, features, task, settings, is_training, totals=None):
        """See `Kind.build_head`; the published head has no dropout."""
        scores = piece_heads.piece_scores(model, 2, SCOPE)  # [B, S, 2]
        scores = tf.transpose(scores, [0, 2, 1])  # [B, 2, S]
        is_piece = tf.tile(features["input_mask"][:, tf.newaxis], [1, 2, 1])
        scores = piece_heads.masked_scores(scores, is_piece)
        if not is_training:
            return HeadOutput(None, {"starts": scores[:, 0], "ends": scores[:, 1]})
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=features["answer"], logits=scores
        )  # [B, 2]
        losses = tf.reduce_mean(losses, axis=1) * features["is_real_row"]
        return HeadOutput(tf.math.divide_no_nan(tf.reduce_sum(losses), totals["examples"]), {})

    # ------------------------------------------------------------------- predictions

    def decode(self, examples, task, encoded, outputs, settings):
        """See `Kind.decode`; the best span of all windows is the answer."""
        windows = [[] for _ in examples]
        for row, index in enumerate(encoded.columns[EXAMPLE.name].tolist()):
            windows[index].append(row)
        # A run keeps the answers that it writes, a predictor all candidates.
        num_kept = max(getattr(settings, "n_best", NUM_CANDIDATES), 1)
        rules = rules_of(settings, num_kept)
        return [
            span_windows.choose_answers(
                example.context,
                [_Row(encoded, row) for row in rows],
                [outputs["starts"][row] for row in rows],
                [outputs["ends"][row] for row in rows],
                rules,
            )[:num_kept]
            for example, rows in zip(examples, windows)
        ]

    def scores(self, examples, task, predictions):
        """See `span_scores.answer_scores`."""
        answers = {
            example.guid: [answer.text for answer in example.answers]
            for example in examples
            if example.answers is not None
        }
        if not answers:
            return {"examples": len(examples)}
        return span_scores.answer_scores(answers, _texts(examples, predictions))

    def example(self, task, values):
        """See `Kind.example`: (question, context), or a dict of these names."""
        is_named = isinstance(values, dict)
        texts = [values.get(name) for name in ("question", "context")] if is_named else values
        if isinstance(texts, str) or len(texts) != 2 or not all(map(_is_text, texts)):
            raise ValueError("{!r} is not (question, context)".format(values))
        return span_files.Question("", *texts, answers=None)

    def answers(self, examples, task, predictions):
        """See `Kind.answers`: the best candidate as a dict, with the next ones in `others`."""
        rows = [[candidate._asdict() for candidate in candidates] for candidates in predictions]
        return [dict(best, others=others) for best, *others in rows]

    def write(self, folder, data, predictions, settings):
        """See `Kind.write`: {id: text}, which is also CLUE's file, and the best candidates."""
        questions, task = data.examples["test"], data.task
        answers = _texts(questions, predictions)
        names = list(filter(None, (PREDICTIONS, task.submission)))
        for name in names:
            files.write_json(os.path.join(folder, name), answers)
            logging.info("%d answers in %s", len(answers), os.path.join(folder, name))
        path = os.path.join(folder, N_BEST)
        if settings.n_best:
            rows = {
                question.guid: [candidate._asdict() for candidate in candidates]
                for question, candidates in zip(questions, predictions)
            }
            files.write_json(path, rows)
            logging.info("the best answers of each question in %s", path)
            return names + [N_BEST]
        files.remove(path)  # of an earlier command
        return names


# --------------------------------------------------------------------------------------- settings


def _setting(settings, name):
    """Return a setting, or its default if it is None, as in a converted model."""
    value = getattr(settings, name)
    return DEFAULTS[name] if value is None else value


def sizes_of(settings):
    """Return the `span_windows.Sizes` of settings."""
    longest = settings.max_seq_length
    return span_windows.Sizes(
        longest,
        min(_setting(settings, "max_query_length"), longest - NUM_SPECIAL - 1),
        _setting(settings, "doc_stride"),
    )


def _check_sizes(args):
    """Raise `UserError` if a question of the greatest length leaves no room for its context."""
    needed = args.max_query_length + NUM_SPECIAL + 1
    if args.max_seq_length < needed:
        raise UserError(
            "--max_seq_length={} has no room for a context after a question of up to {} pieces: "
            "give at least {}, or a smaller --max_query_length".format(
                args.max_seq_length, args.max_query_length, needed
            )
        )


def _warn_of_stride(questions, args):
    """Warn where windows of a context overlap by less than the length of an answer."""
    every = [one for split in questions.values() for one in split]
    longest = max(len(one.context) for one in every)
    num_question = min(args.max_query_length, max(len(one.question) for one in every))
    room = args.max_seq_length - NUM_SPECIAL - num_question
    most = min(args.max_seq_length // 2, room - args.max_answer_length)
    if longest > room and args.doc_stride + args.max_answer_length > room and most > 0:
        logging.warning(
            "EDGES OF WINDOWS: with --doc_stride=%d and --max_seq_length=%d the windows of a long "
            "context overlap too little, so an answer at an edge is whole in none of them: give "
            "--doc_stride=%d or less",
            args.doc_stride,
            args.max_seq_length,
            most,
        )


def rules_of(settings, num_best=1):
    """Return the `span_windows.AnswerRules` of settings; `num_best`: how many answers are kept."""
    names = ("max_answer_length", "allow_no_answer", "no_answer_threshold")
    length, allow_no_answer, threshold = (_setting(settings, name) for name in names)
    num_candidates = max(num_best, NUM_CANDIDATES)
    return span_windows.AnswerRules(length, num_candidates, allow_no_answer, threshold)


def _check_answerable(path, questions, args):
    """Raise `UserError` for questions without an answer, unless such questions are expected."""
    without = [question.guid for question in questions if question.answers == ()]
    if without and not args.allow_no_answer:
        raise UserError(
            "{}: {} questions, such as {}, have no answer in their context: give "
            "--allow_no_answer=True".format(path, len(without), without[0])
        )


def _is_text(value):
    return isinstance(value, str)


# ------------------------------------------------------------------------------------------- rows


def answer_of(question):
    """Return the (begin, end) of the first answer that is in the context, or None."""
    spans = ((answer.begin, answer.end) for answer in question.answers or ())
    return next((span for span in spans if span[0] is not None), None)


class _Row(NamedTuple):
    """A window in `encoding.Encoded` rows, as `span_windows.choose_answers` reads it."""

    encoded: encoding.Encoded
    row: int

    @property
    def char_begins(self):
        return self.encoded.column(self.row, CHAR_BEGINS.name)

    @property
    def char_ends(self):
        return self.encoded.column(self.row, CHAR_ENDS.name)

    @property
    def is_own(self):
        return self.encoded.column(self.row, IS_OWN.name)


def _encoded(windows, indices):
    """Return the `encoding.Encoded` of windows, each with the index of its question."""

    def joined(values):
        return np.concatenate([[]] + values).astype(np.int32)

    lengths = np.array([len(window.ids) for window in windows], np.int32)
    columns = {
        ANSWER.name: np.array([window.answer for window in windows], np.int32).reshape(-1, 2),
        EXAMPLE.name: np.array(indices, np.int32),
        IS_OWN.name: joined([window.is_own for window in windows]),
        CHAR_BEGINS.name: joined([window.char_begins for window in windows]),
        CHAR_ENDS.name: joined([window.char_ends for window in windows]),
    }
    return encoding.Encoded(
        joined([window.ids for window in windows]),
        np.cumsum(np.append(0, lengths)),
        np.array([window.length_a for window in windows], np.int32),
        columns,
        lengths,
    )


def _texts(questions, predictions):
    """Return id -> text of the best answer of each question."""
    return {
        question.guid: candidates[0].text for question, candidates in zip(questions, predictions)
    }
