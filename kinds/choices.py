"""Multiple choice: which of several texts answers a question, or fills a blank.

All choices of a question are one row of a batch, [C, S], where C is the greatest number of choices
in the split. A row with fewer choices ends with empty sequences; their score is so low that their
probability is 0, and no loss reaches them. n is the number of questions.
"""

import math
import os
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

import modeling
from common import files
from common.errors import UserError
from finetuning_data import choice_files, data_report, encoding
from kinds.kind import Data, HeadOutput, HeadVariables, Kind
from tokenization import CLS, MASK, SEP

PREDICTIONS = "predictions.tsv"
# Score of a choice that a question does not have: its probability becomes 0.
NO_CHOICE = -1e9
# Piece that marks the blank to be filled, as in CLUE's baseline for ChID; other blanks are masked.
BLANK_PIECE, BLANK_LENGTH = "[unused1]", 4
SHORTEST = 16  # pieces: 4 special ones, 4 of a choice, and some of a question and its context


class Predicted(NamedTuple):
    """Predictions of questions."""

    probabilities: np.ndarray  # float32 [n, C]; 0 for choices that a question does not have
    chosen: np.ndarray  # int [n], the predicted choice; in a cloze not always the most probable one


class Choices(Kind):
    """A choice for each question; predictions are `Predicted`."""

    variables = HeadVariables("scores of choices", "output_weights", r"^output_(weights|bias)$")
    tasks = choice_files.TASKS
    own_task = "choices"
    metrics = ("accuracy",)
    columns = (encoding.LABEL_IDS,)  # the right choice

    def read(self, args, splits, folders):
        """See `Kind.read`."""
        task = self.tasks[args.task_name.lower()]
        if args.max_seq_length < SHORTEST:
            raise UserError(
                "--max_seq_length={} has no room for a choice and what it is about: give at least "
                "{}".format(args.max_seq_length, SHORTEST)
            )
        paths = {split: choice_files.find_files(task, args.data_dir, split) for split in splits}
        examples = {
            split: choice_files.read_questions(
                task, paths[split], split, args.max_choices, args.skip_bad_rows
            )
            for split in splits
        }
        if "train" in examples:
            examples["train"] = data_report.sample_examples(
                examples["train"], args.max_train_examples, args.random_seed
            )
        findings = {split: choice_files.counts(examples[split]) for split in splits}
        data = Data(task, examples, paths, {"choices": findings})
        described = (
            "{:,} {} of {}".format(len(examples[split]), split, " or ".join(findings[split]))
            for split in splits
        )
        return data, "{}: questions: {} choices".format(task.name, ", ".join(described))

    def ignored_flags(self, args):
        """See `Kind.ignored_flags`."""
        return dict.fromkeys(("labels", "header", "test_header"), "tasks of classification")

    def texts(self, examples):
        """See `Kind.texts`; a context of several questions counts once."""
        found = [choice_files.BLANK.sub("", example.context) for example in examples]
        for example in examples:
            found += [choice_files.BLANK.sub("", example.question), *example.choices]
        return [text for text in dict.fromkeys(found) if text]

    def reads_alike(self, before, task):
        """See `Kind.reads_alike`."""
        return self.own_task in (before.name, task.name) and before.is_cloze == task.is_cloze

    def num_sequences(self, examples):
        """See `Kind.num_sequences`."""
        return max((len(example.choices) for example in examples), default=1)

    def identity(self, example):
        """See `Kind.identity`."""
        return example.context, example.question, example.choices, example.answer

    def encode(self, examples, task, tokenizer, settings, num_workers=1):
        """See `Kind.encode`."""
        count = self.num_sequences(examples)
        encode = encode_blank if task.is_cloze else encode_question

        def encode_some(first, some):
            del first
            return _encode(some, encode, count, tokenizer, settings.max_seq_length)

        return encoding.encode_in_chunks(encode_some, examples, num_workers)

    def output_positions(self, features):
        """See `Kind.output_positions`; the head reads [CLS] alone."""
        return features["input_ids"][:, :0]

    def build_head(self, model, features, task, settings, is_training, totals=None):
        """See `Kind.build_head`: a score for each sequence, and a softmax for each question."""
        rate = settings.classifier_dropout_prob
        head = modeling.classification_head(model, 1, None, is_training, rate)
        mask = features["input_mask"]  # [b, C, S]
        is_choice = mask[:, :, 0]  # [b, C]
        logits = choice_logits(tf.reshape(head.logits, tf.shape(is_choice)), is_choice)
        if not is_training:
            return HeadOutput(None, {"logits": logits})
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=features["label_ids"], logits=logits
        )  # [b]
        return HeadOutput(tf.math.divide_no_nan(tf.reduce_sum(losses), totals["examples"]), {})

    def decode(self, examples, task, encoded, outputs, settings):
        """See `Kind.decode`."""
        logits = outputs["logits"].astype(np.float64)  # [n, C]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        chosen = logits.argmax(axis=1)
        if task.is_cloze:
            # Questions from a file have the number of their row, questions of a user do not. The
            # latter belong to one row if their choices are equal.
            rows = [(example.group, example.choices) for example in examples]
            numbers = {row: number for number, row in enumerate(rows)}
            chosen = assigned([numbers[row] for row in rows], logits)
        return Predicted((powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), chosen)

    def scores(self, examples, task, predictions):
        """See `Kind.scores`: accuracy, and the loss, the mean -log p of the right choice (nats).

        In a cloze `accuracy` scores the candidates that `assigned` chooses, as published results
        do. `accuracy_alone` scores the most probable candidate of each blank.
        """
        answers = np.array([-1 if x.answer is None else x.answer for x in examples])
        rows = np.flatnonzero(answers >= 0)
        if not len(rows):
            return {"examples": len(examples)}
        answers, probabilities = answers[rows], predictions.probabilities[rows]
        right = np.maximum(probabilities[np.arange(len(rows)), answers], np.finfo(np.float32).tiny)
        scores = {
            "examples": len(rows),
            "accuracy": float(np.mean(predictions.chosen[rows] == answers)),
            "loss": float(-np.log(right, dtype=np.float64).mean()),
        }
        if task.is_cloze:
            scores["accuracy_alone"] = float(np.mean(probabilities.argmax(axis=1) == answers))
        return scores

    def explain(self, examples, task, scores):
        """See `Kind.explain`."""
        if "accuracy" in scores:
            counts = [len(example.choices) for example in examples if example.answer is not None]
            warn_at_chance_level(scores["accuracy"], counts)
        return ""

    def example(self, task, values):
        """See `Kind.example`: (context, question, choices), or a dict of these names.

        In a cloze the question is the mark of a blank in the context.
        """
        names = ("context", "question", "choices")
        if isinstance(values, dict):
            context, question, texts = (values.get(name) for name in names)
        else:
            context, question, texts = values
        is_text = isinstance(context, str) and isinstance(question, str)
        if not is_text or isinstance(texts, str) or not all(isinstance(x, str) for x in texts):
            raise ValueError("{!r} does not have {}, {} and {}".format(values, *names))
        if not all(text.strip() for text in texts):
            raise UserError("a choice is empty")
        if len(texts) < 2:
            raise UserError("a question needs two choices or more, not {}".format(len(texts)))
        if task.is_cloze and question not in choice_files.BLANK.findall(context):
            raise UserError(
                "question {!r} is not a blank of the context, such as #idiom000001#".format(
                    question
                )
            )
        return choice_files.Question("", context, question, tuple(texts), None, 0)

    def answers(self, examples, task, predictions):
        """See `Kind.answers`: the text and the number of the choice, and all probabilities."""
        return [
            {
                "choice": example.choices[chosen],
                "number": int(chosen),
                "probabilities": [float(p) for p in row[: len(example.choices)]],
            }
            for example, row, chosen in zip(examples, *predictions)
        ]

    def write(self, folder, data, predictions, settings):
        """See `Kind.write`; for a task of CLUE, also write the file for CLUE."""
        del settings
        task, questions, names = data.task, data.examples["test"], [PREDICTIONS]
        path = os.path.join(folder, PREDICTIONS)
        write_table(path, questions, predictions)
        logging.info("%d predictions in %s", len(questions), path)
        if task.submission:
            names.append(task.submission.file_for(data.files["test"][0]))
            path = os.path.join(folder, names[-1])
            chosen = predictions.chosen.tolist()
            files.write_text(path, choice_files.submission_text(task, questions, chosen))
            logging.info("%d predictions for CLUE in %s", len(questions), path)
        return names


# ------------------------------------------------------------------------------ encoding


def _encode(examples, encode, count, tokenizer, max_seq_length):
    """Return the `Encoded` of a few questions.

    Args:
        examples: list of `choice_files.Question`.
        encode: `encode_question` or `encode_blank`.
        count: int, C.
        tokenizer: `tokenization.FullTokenizer`.
        max_seq_length: int.
    """
    texts = []
    for example in examples:
        is_cloze = encode is encode_blank
        parts = choice_files.BLANK.split(example.context) if is_cloze else [example.context]
        texts += parts + [example.question, *example.choices]
    # Each text is encoded once: questions may share a context, and blanks may share candidates.
    texts = list(dict.fromkeys(texts))
    ids, counts = tokenizer.encode_all(texts)
    pieces = dict(zip(texts, np.split(ids, np.cumsum(counts)[:-1])))
    special = tokenizer.vocab
    sequences = []
    for example in examples:
        found = encode(example, pieces, special, max_seq_length)
        sequences += found + [EMPTY] * (count - len(found))
    lengths = [len(sequence.ids) for sequence in sequences]
    answers = [encoding.UNLABELLED if x.answer is None else x.answer for x in examples]
    return encoding.Encoded(
        np.concatenate([sequence.ids for sequence in sequences]).astype(np.int32),
        np.cumsum([0] + lengths),
        np.array([sequence.length_a for sequence in sequences], np.int32),
        {encoding.LABEL_IDS.name: np.array(answers, np.int32)},
        np.array([sequence.full_length for sequence in sequences], np.int32),
        count,
    )


class Sequence(NamedTuple):
    """The pieces of a choice with its question."""

    ids: np.ndarray
    length_a: int  # pieces of segment 0
    full_length: int  # pieces before truncation


EMPTY = Sequence(np.empty(0, np.int32), 0, 0)


def encode_question(question, pieces, vocab, max_seq_length):
    """Return a `Sequence` for each choice: [CLS] context [SEP] choice [SEP] question [SEP].

    Segment 1 begins with the choice. Until all three texts fit, the longest text loses its last
    piece. If texts are equally long, the first one in the order context, question, choice loses a
    piece. CLUE's baselines for C3 make the same sequences.

    Args:
        question: `choice_files.Question`.
        pieces: dict of text to ids.
        vocab: dict of piece to id.
        max_seq_length: int.
    """
    context, asked = pieces[question.context], pieces[question.question]
    cls, sep = [vocab[CLS]], [vocab[SEP]]
    sequences = []
    for choice in (pieces[choice] for choice in question.choices):
        lengths = [len(context), len(asked), len(choice)]
        a, b, c = truncated(lengths, max_seq_length - 4)
        ids = np.concatenate([cls, context[:a], sep, choice[:c], sep, asked[:b], sep])
        sequences.append(Sequence(ids, a + 2, sum(lengths) + 4))
    return sequences


def truncated(lengths, room):
    """Cut texts to `room` pieces in all; return the new lengths.

    The longest text loses its last piece until all fit; of equal texts, the first one loses it.

    >>> truncated([10, 3, 4], 12), truncated([5, 5, 1], 8)
    ([5, 3, 4], [3, 4, 1])
    """
    lengths = list(lengths)
    while sum(lengths) > room:
        longest = lengths.index(max(lengths))
        others = sorted(lengths[:longest] + lengths[longest + 1 :])
        surplus = sum(lengths) - room
        # The longest text becomes as long as the second longest at once, then loses single pieces.
        lengths[longest] -= max(1, min(surplus, lengths[longest] - others[-1]))
    return lengths


def encode_blank(question, pieces, vocab, max_seq_length):
    """Return a `Sequence` for each candidate: [CLS] candidate [SEP] left mark right [SEP].

    The mark replaces the blank to be filled, four [MASK] replace every other blank, and all pieces
    are in segment 0. If the text is long, the pieces around the blank are kept: as many on the left
    as on the right, where there are enough. CLUE's baseline for ChID makes the same sequences, but
    it also changes quotation marks and dashes.

    Args:
        question: `choice_files.Question`; its `question` is the mark of the blank in the text.
        pieces, vocab, max_seq_length: as in `encode_question`.
    """
    sides, masked = [[], []], [vocab[MASK]] * BLANK_LENGTH
    side = sides[0]
    marks = choice_files.BLANK.findall(question.context)
    for text, mark in zip(choice_files.BLANK.split(question.context), marks + [None]):
        side.extend(pieces[text].tolist())
        if mark == question.question and side is sides[0]:
            side = sides[1]
        elif mark is not None:
            side.extend(masked)
    left, right = sides
    candidates = [pieces[candidate][: max_seq_length - 4] for candidate in question.choices]
    room = max_seq_length - 4 - max(map(len, candidates))
    num_left, num_right = window(len(left), len(right), room)
    text = left[len(left) - num_left :] + [vocab.get(BLANK_PIECE, vocab[MASK])] + right[:num_right]
    cls, sep = [vocab[CLS]], [vocab[SEP]]
    sequences = []
    for candidate in candidates:
        ids = np.concatenate([cls, candidate, sep, text, sep])
        full_length = len(candidate) + len(left) + len(right) + 4
        sequences.append(Sequence(ids, len(ids), full_length))
    return sequences


def window(num_left, num_right, room):
    """Return how many pieces are kept on the left and on the right of a blank.

    >>> window(9, 9, 5), window(1, 9, 5), window(9, 1, 5), window(1, 2, 5)
    ((2, 3), (1, 4), (4, 1), (1, 2))
    """
    kept_left = min(num_left, max(room // 2, room - num_right))
    return kept_left, min(num_right, room - kept_left)


# ------------------------------------------------------------------------ head and results


def choice_logits(scores, is_choice):
    """Return the scores of choices, float32 [b, C], NO_CHOICE where int `is_choice` is 0."""
    return tf.where(tf.not_equal(is_choice, 0), scores, tf.fill(tf.shape(scores), NO_CHOICE))


def assigned(groups, logits):
    """Return the candidate of each blank, where a candidate fills one blank of a row.

    As in CLUE's baseline, the pair of blank and candidate with the highest score is taken first,
    and then again and again the best pair whose blank and candidate are still free. If no candidate
    is free for a blank, the blank takes its candidate with the highest score.

    Args:
        groups: list of int [n], the row of each blank.
        logits: float [n, C].

    Returns:
        int array [n].
    """
    chosen = logits.argmax(axis=1)
    groups = np.array(groups)
    order = np.argsort(groups, kind="stable")
    for blanks in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        rows = logits[blanks].copy()  # [blanks, C]
        for _ in range(min(rows.shape)):
            blank, candidate = np.unravel_index(rows.argmax(), rows.shape)
            if rows[blank, candidate] <= NO_CHOICE:
                break
            chosen[blanks[blank]] = candidate
            rows[blank], rows[:, candidate] = -np.inf, -np.inf
    return chosen


def warn_at_chance_level(accuracy, counts):
    """Warn if an accuracy is within two standard errors of guessing; returns whether it is.

    Args:
        accuracy: float, share of right predictions.
        counts: list of int, the number of choices of each question.
    """
    chances = 1.0 / np.array(counts)
    standard_error = math.sqrt(np.sum(chances * (1.0 - chances))) / len(counts)
    at_chance = accuracy <= chances.mean() + 2 * standard_error
    if at_chance:
        logging.warning(
            "CHANCE LEVEL: accuracy %.4f on %d questions; guessing gives %.4f. Check that the "
            "checkpoint was loaded, and try another --learning_rate or more steps",
            accuracy,
            len(counts),
            chances.mean(),
        )
    return at_chance


def write_table(path, questions, predictions):
    """Write the predictions as a table with a header and a row for each question.

    The columns are `id`, `answer` (empty where it is not known) and `prediction`, which are numbers
    of choices from 0, the `text` of the prediction, and the probability of every choice, empty
    where a question has fewer.
    """
    count = predictions.probabilities.shape[1]
    rows = [["id", "answer", "prediction", "text"] + ["p({})".format(i) for i in range(count)]]
    for question, chosen, row in zip(questions, predictions.chosen, predictions.probabilities):
        answer = "" if question.answer is None else str(question.answer)
        cells = ["{:.6f}".format(p) for p in row[: len(question.choices)]]
        cells += [""] * (count - len(cells))
        rows.append([question.guid, answer, str(chosen), question.choices[chosen]] + cells)
    files.write_table(path, rows)
