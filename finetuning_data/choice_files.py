"""Questions with choices: the data sets C3 and ChID, and JSON lines of a user's own.

    c3        a JSON array of [[turn, ...], [{"question", "choice": [...], "answer"}, ...], id]
    chid      JSON lines of {"content": ["...#idiom000378#..."], "candidates": [...]}; a second file
              has the answers, {"#idiom000378#": 3}
    choices   JSON lines of {"context", "question", "choices": [...], "answer"}: the text of a
              choice, or its number from 0

The first two formats are CLUE's.
"""

import functools
import json
import os
import re
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from absl import logging

from common import file_types, files
from common.errors import UserError
from finetuning_data import data_report, other_files, task_files
from finetuning_data.bad_rows import BadRow, BadRows
from finetuning_data.tasks import Submission

# A blank of ChID, which a candidate fills.
BLANK = re.compile(r"#idiom\d+#")
NAMES_OF_TYPES = {str: "text", list: "list", dict: "object"}


class Question(NamedTuple):
    """A question with its choices, or a blank with its candidates.

    Fields:
        guid: the question's id in the file, or else its number, from 0; for a blank, the mark.
        context: the text that the question is about; for a blank, the text with all blanks.
        question: text, or the mark of the blank.
        choices: two or more texts.
        answer: index of the right choice; None if a test set does not tell it.
        group: number of the row in the file; in a cloze, a candidate fills one blank of a row.
    """

    guid: str
    context: str
    question: str
    choices: Tuple[str, ...]
    answer: Optional[int]
    group: int


class ChoiceTask(NamedTuple):
    """A data set of questions with choices.

    Fields:
        name: as given by --task_name.
        parse: function of (row of the file, answers or None, whether it is of a test set) that
            returns the questions of a row, or raises `BadRow`.
        files: split -> tuples of file names, all of which make the split; the first tuple whose
            files exist is read.
        is_array: whether a file is one JSON array, not JSON lines.
        answers: split -> name of the file of answers; {} where the rows have them.
        submission: `tasks.Submission`; None where no benchmark takes predictions.
        labels: none; every task has this field.
    """

    name: str
    parse: Callable
    files: Dict[str, Tuple[Tuple[str, ...], ...]]
    is_array: bool = False
    answers: Dict[str, str] = {}
    submission: Optional[Submission] = None
    labels: Tuple[str, ...] = ()

    @property
    def is_cloze(self):
        return bool(self.answers)


# ---------------------------------------------------------------------------------- rows


def value(row, field, wanted_type):
    """Return a field; raises `BadRow` if the field is missing or of another type than wanted."""
    if field not in row:
        found = task_files.shown(", ".join(row))
        raise BadRow("no {0}: a field must be named {0}; found {1}".format(field, found))
    if not isinstance(row[field], wanted_type):
        raise BadRow(
            "{} is {}, not a {}".format(
                field, task_files.shown(row[field]), NAMES_OF_TYPES[wanted_type]
            )
        )
    return row[field]


def texts(row, field):
    """Return a field that is a list of texts, stripped; raises `BadRow` for an empty text."""
    found = value(row, field, list)
    for number, text in enumerate(found, 1):
        if not isinstance(text, str) or not text.strip():
            raise BadRow("{} {} is {}, not a text".format(field, number, task_files.shown(text)))
    return tuple(text.strip() for text in found)


def choices_of(row, field):
    """Return the choices of a question; raises `BadRow` for fewer than two."""
    choices = texts(row, field)
    if len(choices) < 2:
        raise BadRow("{} has {} choices, not two or more".format(field, len(choices)))
    return choices


def answer_of(row, choices, is_test, may_repeat=False):
    """Return the index of the right choice, or None if a test set does not tell it.

    Args:
        row: dict; its `answer` is the text of a choice or its number from 0.
        choices: tuple of str.
        is_test: bool, whether the answer may be missing, or -1.
        may_repeat: bool; if several choices have the text of the answer, take the first of them.

    Raises:
        BadRow: if no choice is the answer, or, without `may_repeat`, if several choices are.
    """
    answer = row.get("answer")
    if is_test and answer in (None, "", -1, "-1"):
        return None
    if answer is None or answer == "":
        raise BadRow("there is no answer; only a test file may lack it")
    if isinstance(answer, list):
        shown = task_files.shown(answer)
        raise BadRow("answer {} is a list: a question has one answer, a text".format(shown))
    if isinstance(answer, int) and not isinstance(answer, bool):
        if 0 <= answer < len(choices):
            return answer
        text = "answer {} is not the number of a choice: the numbers are 0 to {}"
        raise BadRow(text.format(answer, len(choices) - 1))
    places = [i for i, choice in enumerate(choices) if choice == str(answer).strip()]
    if not places:
        raise BadRow(
            "answer {} is not among the choices: {}; give the text of one, or its number from 0, "
            "without quotes".format(task_files.shown(answer), task_files.shown(" | ".join(choices)))
        )
    if len(places) > 1 and not may_repeat:
        raise BadRow(
            "answer {} is the text of {} choices: they must differ".format(
                task_files.shown(answer), len(places)
            )
        )
    return places[0]


def _c3_questions(row, answers, is_test):
    """Return the questions of [turns, questions, id] without their numbers in the file."""
    del answers
    if not isinstance(row, list) or len(row) < 2:
        raise BadRow("{} is not a list of turns and questions".format(task_files.shown(row)))
    turns = texts({"turns": row[0]}, "turns")
    questions = []
    for number, fields in enumerate(value({"questions": row[1]}, "questions", list), 1):
        try:
            choices = choices_of(value({"question": fields}, "question", dict), "choice")
            question = value(fields, "question", str).strip()
            answer = answer_of(fields, choices, is_test, may_repeat=True)
        except BadRow as problem:
            raise BadRow("question {}: {}".format(number, problem)) from None
        guid = task_files.scalar("id", fields.get("id"))
        questions.append(Question(guid, "\n".join(turns), question, choices, answer, 0))
    if not questions:
        raise BadRow("the list of questions is empty: remove the row")
    return questions


def _own_questions(row, answers, is_test):
    """Return the question of a row of a user's own file."""
    del answers
    context, question = (value(row, name, str).strip() for name in ("context", "question"))
    choices = choices_of(row, "choices")
    answer = answer_of(row, choices, is_test)
    guid = task_files.scalar("id", row.get("id"))
    return [Question(guid, context, question, choices, answer, 0)]


def _chid_questions(row, answers, is_test):
    """Return a question for each blank of a row."""
    contents, choices = texts(row, "content"), choices_of(row, "candidates")
    questions = []
    for content in contents:
        for mark in BLANK.findall(content):
            answer = answers.get(mark) if answers else None
            answer = answer_of({"answer": answer}, choices, is_test)
            questions.append(Question(mark, content, mark, choices, answer, 0))
    if not questions:
        raise BadRow("content has no blank, such as #idiom000001#")
    return questions


# --------------------------------------------------------------------------------- tasks


def _named(**splits):
    return {
        split: tuple((name,) if isinstance(name, str) else name for name in names)
        for split, names in splits.items()
    }


_TESTS = ("test1.1.json", "test1.0.json", "test.json")
_TASKS = (
    ChoiceTask(
        "c3",
        _c3_questions,
        _named(
            # Dialogues and other texts may come in two files.
            train=("train.json", ("d-train.json", "m-train.json")),
            dev=("dev.json", ("d-dev.json", "m-dev.json")),
            test=_TESTS,
        ),
        is_array=True,
        submission=Submission("c3{}_predict.json"),
    ),
    ChoiceTask(
        "chid",
        _chid_questions,
        _named(train=("train.json",), dev=("dev.json",), test=_TESTS),
        answers={"train": "train_answer.json", "dev": "dev_answer.json"},
        submission=Submission("chid{}_predict.json"),
    ),
    ChoiceTask(
        "choices",
        _own_questions,
        _named(**{name: (name + ".jsonl", name + ".json") for name in ("train", "dev", "test")}),
    ),
)
TASKS = {task.name: task for task in _TASKS}


def find_files(task, data_dir, split):
    """Return the paths of a split's files: first of the questions, then of the answers.

    Raises:
        UserError: if a file is missing.
    """
    for names in task.files[split]:
        paths = [os.path.join(data_dir, name) for name in names]
        if all(map(files.exists, paths)):
            break
    else:
        looked_for = " or ".join(" and ".join(names) for names in task.files[split])
        raise UserError(
            "no {} file of task {} in {}: looked for {}; {}".format(
                split,
                task.name,
                data_dir,
                looked_for,
                other_files.found_instead(data_dir, split, sum(task.files[split], ())),
            )
        )
    if split in task.answers:
        paths.append(os.path.join(data_dir, task.answers[split]))
        if not files.exists(paths[-1]):
            raise UserError("{} does not exist, but it should hold the answers".format(paths[-1]))
    return paths


def read_questions(task, paths, split, max_choices, skip_bad_rows=False):
    """Read the files of a split.

    Args:
        task: `ChoiceTask`.
        paths: list of str, what `find_files` returns.
        split: "train", "dev" or "test"; only questions of "test" may lack answers.
        max_choices: int, the most choices of a question; None for any number.
        skip_bad_rows: bool, whether rows that cannot be read are left out and listed in the log
            instead of ending the run.

    Returns:
        List of `Question` in the order of the files.

    Raises:
        UserError: for a file that holds no questions, and for the first bad row.
    """
    answers = None
    if split in task.answers:
        answers = read_answers(paths[-1])
        paths = paths[:-1]
    questions, bad, group, places = [], BadRows(skip_bad_rows), 0, {}
    for path in paths:
        rows, decode = _rows(task, path)
        for number, row in rows:
            group += 1
            try:
                row = decode(row)
                task_files.check_characters(row)
                found = task.parse(row, answers, split == "test")
                _check_number(found, max_choices)
                _check_ids(found, places, "{}, row {}".format(path, number))
            except BadRow as problem:
                bad.add(path, "row {}".format(number), problem)
                continue
            for question in found:
                guid = question.guid or str(len(questions))
                questions.append(question._replace(guid=guid, group=group))
    source = " and ".join(paths)
    bad.end(source, questions, "no questions")
    if split == "test" and not task.is_cloze:
        data_report.warn_of_repeated_ids(source, questions)
    logging.info("%d questions for %s from %s", len(questions), split, source)
    return questions


def _check_number(questions, max_choices):
    most = max(len(question.choices) for question in questions)
    if max_choices and most > max_choices:
        raise BadRow("{0} choices: give --max_choices={0}, or remove some".format(most))


def _check_ids(questions, places, place):
    """Raise `BadRow` for an id that an earlier question has; `places`: id -> its place."""
    ids = [question.guid for question in questions if question.guid]
    for guid in ids:
        if guid in places or ids.count(guid) > 1:
            where = places.get(guid, "this row")
            raise BadRow("id {} is already at {}".format(task_files.shown(guid), where))
    places.update(dict.fromkeys(ids, place))


def _rows(task, path):
    """Return the rows of a file as (number from 1, undecoded row), and their decoder."""
    if not task.is_array:
        content = task_files.read_content(path)
        lines = task_files.split_lines(content)
        problem = file_types.json_lines_problem(path, [line for _, line in lines[:2]])
        if problem:
            raise UserError(problem)
        return lines, functools.partial(_json_object, file_types.mend_utf8(content))
    rows = _json(path)
    if not isinstance(rows, list):
        raise UserError("{} is not a JSON array of texts with their questions".format(path))
    return enumerate(rows, 1), lambda row: row


def _json_object(mend, line):
    """Return the object of a line; `mend`: what to do about a line that is not UTF-8."""
    try:
        row = file_types.parse_json(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadRow("not UTF-8 text; {}".format(mend)) from None
    except json.JSONDecodeError as error:
        problem = file_types.json_problem(error)
        raise BadRow("not JSON ({}): write one object per line".format(problem)) from None
    if not isinstance(row, dict):
        shown = task_files.shown(row)
        raise BadRow("{} is not a JSON object: write one object per line".format(shown))
    return row


def _json(path):
    try:
        return file_types.parse_json(files.read_utf8(path))
    except json.JSONDecodeError as error:
        problem = file_types.json_problem(error)
        if error.msg == "Extra data":
            problem += "; the file must be one JSON value, not one a line"
        raise UserError("{} is not JSON: {}".format(path, problem)) from None


def read_answers(path):
    """Return the answers of a cloze: dict of mark to int.

    Raises:
        UserError: for a file that is not a JSON object of numbers.
    """
    answers = _json(path)
    if not isinstance(answers, dict):
        raise UserError('{} is not a JSON object such as {{"#idiom000001#": 3}}'.format(path))
    for mark, answer in answers.items():
        if not isinstance(answer, int) or isinstance(answer, bool):
            text = "{}: the answer of {} is {}, not the number of a candidate"
            raise UserError(text.format(path, mark, task_files.shown(answer)))
    return answers


def submission_text(task, questions, chosen):
    """Return the content of a submission to CLUE: JSON lines, or one JSON object for a cloze.

    Args:
        task: `ChoiceTask`.
        questions: list of `Question`.
        chosen: list of int, the index of each predicted choice.
    """
    guids = [question.guid for question in questions]
    if task.is_cloze:
        return json.dumps(dict(zip(guids, chosen)), indent=2) + "\n"
    rows = (task.submission.row(guid, choice) for guid, choice in zip(guids, chosen))
    return "".join(json.dumps(row) + "\n" for row in rows)


def counts(questions):
    """Return how many questions have each number of choices: dict of str to int, ascending."""
    numbers = [len(question.choices) for question in questions]
    return {str(number): numbers.count(number) for number in sorted(set(numbers))}
