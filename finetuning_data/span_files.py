"""Questions about texts, whose answers are spans of the text, from files of published data sets.

SQuAD style (CMRC2018, DRCD, a user's own)    {"data": [{"paragraphs": [{"context": "在北京。",
    "qas": [{"id": "1", "question": "在哪？", "answers": [{"text": "北京", "answer_start": 1}]}]
    }]}]}; a question with "is_impossible": true has no answer in its context
CMRC2018 as first published                   [{"context_id": "1", "context_text": "在北京。",
    "qas": [{"query_id": "1", "query_text": "在哪？", "answers": ["北京"]}]}]
a question a row, as datasets of Hugging Face  {"id": "1", "context": "在北京。", "question":
    "在哪？", "answers": {"text": ["北京"], "answer_start": [1]}}; as JSON lines, in a list, or in
    {"data": [...]}
"""

import json
import unicodedata
from typing import NamedTuple, Optional, Tuple

from absl import logging

from common import file_types, files
from common.errors import UserError
from finetuning_data.bad_rows import BadRow, BadRows, listed, row_error
from finetuning_data.task_files import check_characters, missing, shown

# Names of the same field in SQuAD's format and in CMRC2018's first format.
_CONTEXT, _ID = ("context", "context_text"), ("id", "query_id")
_QUESTION = ("question", "query_text")
_TRUTH = {"true": True, "false": False, "": False}  # texts that some files have for true and false


class Answer(NamedTuple):
    """An answer: its text in the file, and its place in the context.

    context[begin:end] equals the text, except for blanks, case and full width. Begin and end are
    None if the context does not have the text.
    """

    text: str
    begin: Optional[int]
    end: Optional[int]


class Question(NamedTuple):
    """A question about a context.

    `answers` is None where they are not known, and empty where the context has no answer.
    """

    guid: str
    question: str
    context: str
    answers: Optional[Tuple[Answer, ...]]


def read_questions(path, needs_answers=True, skip_bad_rows=False, allow_no_answer=False):
    """Read a file of questions.

    Args:
        path: str.
        needs_answers: bool; if False, questions may lack answers, and answers that are not in their
            context count as not known, such as "FAKE_ANSWER_1" in CLUE's test files.
        skip_bad_rows: bool, whether questions that cannot be read are left out and listed in the
            log.
        allow_no_answer: bool, whether an empty list of answers means that the context has none. In
            a file without any answers it means that they are not known.

    Returns:
        list of `Question`, not empty.

    Raises:
        UserError: names the file, and the place of the first mistake; for a file in which no answer
            is in its context.
    """
    questions, bad, moved, seen = [], BadRows(skip_bad_rows), [], {}
    for place, context, row in _Reader(path, bad).rows():
        try:
            question, num_moved = _question(context, row, needs_answers, allow_no_answer)
            if question.guid in seen:
                raise BadRow(
                    "id {} is already at {}".format(shown(question.guid), seen[question.guid])
                )
            seen[question.guid] = place
            questions.append(question)
            moved += [place] * num_moved
        except BadRow as problem:
            bad.add(path, place, problem)
    bad.end(path, questions, "no questions")
    if not any(question.answers for question in questions) and not needs_answers:
        questions = [question._replace(answers=None) for question in questions]
    _tell_of_answers(path, questions, moved, seen)
    return questions


class _Reader:
    """Reads the questions of a file as they are written.

    Args:
        path: str.
        bad: `BadRows`, gets the parts of the file that are not what they should be.
    """

    def __init__(self, path, bad):
        self._path, self._bad = path, bad

    def rows(self):
        """Yield (place, context, question as a dict) of every question."""
        for place, article in self._objects(self._articles()):
            paragraphs = [(place, article)]
            if "paragraphs" in article:
                paragraphs = self._objects(self._listed(place, article, "paragraphs"))
            for name, paragraph in paragraphs:
                context = _value(paragraph, _CONTEXT)
                if not isinstance(context, str) or not context.strip():
                    problem = "context is {}, not a text".format(shown(context))
                    if not set(_CONTEXT) & set(paragraph):
                        problem = missing("context", paragraph)
                    self._bad.add(self._path, name, BadRow(problem))
                elif "qas" not in paragraph and _value(paragraph, _QUESTION) is not None:
                    yield name, context, paragraph
                else:
                    for qa_name, row in self._objects(self._listed(name, paragraph, "qas")):
                        yield qa_name, context, row

    def _articles(self):
        """Return (place, content) of every article or row, a list."""
        text = files.read_utf8(self._path)
        try:
            content = file_types.parse_json(text)
        except json.JSONDecodeError as error:
            _, end, more = text[: error.pos].lstrip().partition("\n")
            # JSON lines: row 1 is JSON, and row 2 follows it.
            if error.msg == "Extra data" and end and not more.strip():
                return self._lines(text)
            problem = 'not JSON ({}); the file must be a list, or an object with a list "data"'
            problem = problem.format(file_types.json_problem(error))
            raise row_error(self._path, error.lineno, problem) from None
        if isinstance(content, dict) and {"qas", "paragraphs", *_QUESTION} & set(content):
            content = [content]
        articles = content.get("data") if isinstance(content, dict) else content
        if not isinstance(articles, list):
            problem = '{}: expected a list, or an object with a list "data"'
            raise UserError(problem.format(self._path))
        return _places("data", articles)

    def _lines(self, text):
        """Return what `_articles` does for JSON lines."""
        parsed = []
        for number, line in enumerate(text.split("\n"), 1):
            place = "row {}".format(number)
            try:
                parsed += [(place, file_types.parse_json(line))] if line.strip() else []
            except json.JSONDecodeError as error:
                problem = "not JSON ({})".format(file_types.json_problem(error))
                self._bad.add(self._path, place, BadRow(problem))
        return parsed

    def _listed(self, place, parent, name):
        """Return the `_places` of a list in an object, of which a part may be bad."""
        values, name = parent.get(name), "{}.{}".format(place, name)
        if isinstance(values, list):
            return _places(name, values)
        self._bad.add(self._path, name, BadRow("{} is not a list".format(shown(values))))
        return []

    def _objects(self, places):
        """Yield (place, object) of those values that are objects."""
        for place, value in places:
            if isinstance(value, dict):
                yield place, value
            else:
                problem = "{} is not an object".format(shown(value))
                self._bad.add(self._path, place, BadRow(problem))


def _places(name, values):
    return [("{}[{}]".format(name, i), value) for i, value in enumerate(values)]


def _value(row, names):
    return next((row[name] for name in names if name in row), None)


def _question(context, row, needs_answers, allow_no_answer):
    """Return the `Question` of a dict, and how many of its answers are at another place."""
    check_characters([context, row])
    guid, question = _value(row, _ID), _value(row, _QUESTION)
    if guid is None:
        raise BadRow("the question has no id")
    if not isinstance(guid, (str, int)) or isinstance(guid, bool):
        raise BadRow("id {} is neither a text nor a whole number".format(shown(guid)))
    if question is None:
        raise BadRow("question {} has no text: give {}".format(guid, " or ".join(_QUESTION)))
    if not isinstance(question, str):
        raise BadRow("question {}: {} is not a text".format(guid, shown(question)))
    rows = _without_blanks(_listed(row.get("answers")))
    is_empty = allow_no_answer and rows == []
    if is_empty or _is_impossible(guid, row.get("is_impossible")):
        return Question(str(guid), question, context, ()), 0
    if not rows and needs_answers:
        raise BadRow(
            "question {} has no answer: give answers; if the context has none, give is_impossible "
            "and --allow_no_answer=True".format(guid)
        )
    if not isinstance(rows or [], list):
        raise BadRow(
            "question {}: answers {} are not a list; put [ ] around one answer".format(
                guid, shown(rows)
            )
        )
    found = [_answer(guid, context, one) for one in rows or []]
    answers = tuple(answer for answer, _ in found)
    if not needs_answers and all(answer.begin is None for answer in answers):
        answers = None
    return Question(str(guid), question, context, answers), sum(moved for _, moved in found)


def _is_impossible(guid, value):
    truth = _TRUTH.get(value.strip().lower()) if isinstance(value, str) else value
    if truth not in (None, True, False) or (truth is None and value is not None):
        raise BadRow(
            "question {}: is_impossible {} is neither true nor false".format(guid, shown(value))
        )
    return bool(truth)


def _listed(answers):
    """Return answers as a list, also from the form {"text": [...], "answer_start": [...]}."""
    if not isinstance(answers, dict):
        return answers
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list):
        return answers
    if len(texts) != len(starts):
        problem = "answers have {} text and {} answer_start: they must be as many"
        raise BadRow(problem.format(len(texts), len(starts)))
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]


def _without_blanks(answers):
    """Return a list without answers of no text, which DuReader has where there is no answer."""
    if not isinstance(answers, list):
        return answers
    texts = (one.get("text") if isinstance(one, dict) else one for one in answers)
    blanks = [isinstance(text, str) and not text.strip() for text in texts]
    return [one for one, is_blank in zip(answers, blanks) if not is_blank]


def _answer(guid, context, row):
    """Return an `Answer`, and whether it does not begin at its answer_start."""
    row = row if isinstance(row, dict) else {"text": row}
    text, start = row.get("text"), row.get("answer_start")
    if not isinstance(text, str):
        raise BadRow("question {}: answer {} is not a text".format(guid, shown(text)))
    if start is not None and type(start) is not int:
        raise BadRow(
            "question {}: answer_start {} is not a whole number".format(guid, shown(start))
        )
    begin, end = find_answer(context, text, start or 0) or (None, None)
    return Answer(text, begin, end), None not in (start, begin) and begin != start


def find_answer(context, text, start=0):
    """Return the span of an answer that is nearest to `start`, or None if there is none.

    If the context does not have exactly this text, blanks, case and full width may differ:

    >>> find_answer("北京和北京", "北京", 2), find_answer("在Ｎｅｗ York", "new york")
    ((3, 5), (1, 9))

    Args:
        context, text: str.
        start: int, where it should begin.

    Returns:
        (begin, end), half-open.
    """
    begin = _nearest(context, text, start)
    if begin is not None:
        return begin, begin + len(text)
    letters, sources = _letters(context)
    wanted, _ = _letters(text)
    place = sum(source < start for source in sources)
    begin = _nearest(letters, wanted, place) if wanted else None
    return None if begin is None else (sources[begin], sources[begin + len(wanted) - 1] + 1)


def _nearest(context, text, start):
    """Return the place nearest to `start` where a text begins, the earlier of two; None if none."""
    before = context.rfind(text, 0, max(start, 0) + len(text))
    behind = context.find(text, max(start, 0))
    places = [place for place in (before, behind) if place >= 0]
    return min(places, key=lambda place: abs(place - start), default=None)


def _letters(text):
    """Return the characters of a text without blanks, in lower case and half width.

    Returns:
        (str, list): the characters, and for each of them its index in `text`.
    """
    letters, sources = [], []
    for index, character in enumerate(text):
        for letter in unicodedata.normalize("NFKC", character).lower():
            if not letter.isspace():
                letters.append(letter)
                sources.append(index)
    return "".join(letters), sources


def _tell_of_answers(path, questions, moved, places):
    """Log how many answers were found at another place, and how many were not found."""
    answers = [(question, one) for question in questions for one in question.answers or ()]
    lost = [
        "{} (question {}: {})".format(places[question.guid], question.guid, shown(answer.text))
        for question, answer in answers
        if answer.begin is None
    ]
    if lost and len(lost) == len(answers):
        raise UserError("{}: no answer is in its context; the first is at {}".format(path, lost[0]))
    empty = [places[question.guid] for question in questions if not question.question.strip()]
    if empty:
        logging.warning(
            "EMPTY QUESTIONS: %d of %s: %s", len(empty), path, listed(empty)
        )  # CMRC's trial set has some; scores count them
    if moved:
        logging.warning(
            "ANSWERS ELSEWHERE: %d of %d answers of %s do not begin at their answer_start, so the "
            "nearest place with the same text is taken: %s",
            len(moved),
            len(answers),
            path,
            listed(moved),
        )
    if lost:
        logging.warning(
            "ANSWERS NOT IN THEIR CONTEXT: %d of %d of %s; training does not learn them: %s",
            len(lost),
            len(answers),
            path,
            listed(lost),
        )
