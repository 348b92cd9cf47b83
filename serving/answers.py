"""The kinds of answers that predict.py gives: labels, choices, vectors, masks, nearest lines."""

import json
import re

import numpy as np

from common.errors import UserError
from finetuning_data.task_files import shown
from kinds.spans import Spans
from serving import predictor
from tokenization import MASK

DIGITS = 6  # digits of a number that is printed
_OTHER_MASK = re.compile(r"[\[［【〔]\s*[mｍMＭ][aａAＡ][sｓSＳ][kｋKＫ]\s*[\]］】〕]")
_NUMBERS = ("score", "probability")  # the numbers in an answer to a question


class Labels:
    """Labels of texts or pairs with their probabilities.

    Args:
        model: `predictor.Predictor` of a fine-tuned model.

    Attributes:
        header: list of str, the names of a table's columns; empty for a table without a header,
            None where answers are not rows of a table.
        most_texts: int, the most texts of an example; None for any number.
    """

    most_texts = 2

    def __init__(self, model):
        self._model = model
        self.header = ["prediction"] + ["p({})".format(label) for label in model.task.labels]

    def check(self, texts, where):
        """Raise a `UserError` that begins with `where` if a tuple of texts can have no answer."""
        predictor.check_number(self._model.task, texts, where)

    def answer(self, texts):
        """Return the answer to a tuple of texts as what json can write."""
        return self.shown(self._model.predict([texts])[0])

    @staticmethod
    def shown(answer):
        """Return an answer of `Predictor.predict` with fewer digits."""
        rounded = {label: round(p, DIGITS) for label, p in answer["probabilities"].items()}
        return dict(answer, probabilities=rounded)

    def rows(self, texts):
        """Return the answer as rows of a table, lists of str."""
        answer = self.answer(texts)
        return [[answer["label"]] + list(map(_decimal, answer["probabilities"].values()))]


class Chosen:
    """The choice that answers a question: texts are a context, a question and the choices.

    Args:
        model: `predictor.Predictor` of a model that chooses.
    """

    header = ["prediction", "text", "probabilities"]
    most_texts = None

    def __init__(self, model):
        self._model = model

    def check(self, texts, where):
        """See `Labels.check`."""
        if len(texts) < 4:
            message = "{}{} texts: give a context, a question and two choices or more"
            raise UserError(message.format(where, len(texts)))
        with_where(where, self._model.kind.example, self._model.task, _question(texts))

    def answer(self, texts):
        """See `Labels.answer`."""
        return self.shown(self._model.predict([_question(texts)])[0])

    @staticmethod
    def shown(answer):
        """See `Labels.shown`."""
        return dict(answer, probabilities=[round(p, DIGITS) for p in answer["probabilities"]])

    def rows(self, texts):
        """See `Labels.rows`; the probabilities of all choices are one cell."""
        answer = self.answer(texts)
        probabilities = " ".join(map(_decimal, answer["probabilities"]))
        return [[str(answer["number"]), answer["choice"], probabilities]]


def _question(texts):
    context, question, *choices = texts
    return context, question, choices


def with_where(where, function, *arguments):
    """Call a function; a `UserError` that it raises begins with `where`."""
    try:
        return function(*arguments)
    except UserError as error:
        raise UserError("{}{}".format(where, error)) from None


class Parts:
    """Entities of a text, or the answer to a question in its context: never a table.

    Args:
        model: `predictor.Predictor` that finds entities or answers.
        num_best: int, how many answers a question gets.
    """

    header = None
    most_texts = None

    def __init__(self, model, num_best):
        self._model, self._num_best = model, num_best

    def check(self, texts, where):
        """See `Labels.check`."""
        if len(texts) != len(self._names):
            message = "{}{} texts: the model takes {}"
            raise UserError(message.format(where, len(texts), " and ".join(self._names)))

    @property
    def _names(self):
        return ("a question", "its context") if self.finds_answers else ("one text",)

    @property
    def finds_answers(self):
        """Whether the texts are questions, which have several answers, not texts with entities."""
        return isinstance(self._model.kind, Spans)

    def answer(self, texts):
        """See `Labels.answer`."""
        values = tuple(texts) if self.finds_answers else texts[0]
        return self.shown(self._model.predict([values])[0])

    def shown(self, answer):
        """Return an answer of `Predictor.predict` with fewer digits and fewer candidates."""
        if not self.finds_answers:
            return answer
        candidates = [answer] + answer["others"]
        best, *others = map(_rounded_candidate, candidates[: self._num_best])
        del best["others"]
        return dict(best, others=others) if others else best


def _rounded_candidate(candidate):
    return dict(candidate, **{name: round(candidate[name], DIGITS) for name in _NUMBERS})


class Vectors:
    """Vectors of texts or pairs: lists of numbers, never a table."""

    header = None
    most_texts = 2

    def __init__(self, model, pooling):
        self._model, self._pooling = model, pooling

    def check(self, texts, where):
        """See `Labels.check`: every text has a vector."""

    def answer(self, texts):
        """See `Labels.answer`."""
        return rounded_vector(self._model.embed([texts], self._pooling)[0])


class Masks:
    """Pieces for each [MASK] of a text; for two texts the cosine of their vectors.

    Args:
        model: `predictor.Predictor` of a pre-trained model.
        top: int, the number of pieces for a [MASK].
    """

    header = []
    most_texts = 2

    def __init__(self, model, top):
        self._model, self._top = model, top

    def check(self, texts, where):
        """See `Labels.check`."""
        if len(texts) == 1 and MASK not in texts[0]:
            other = _OTHER_MASK.search(texts[0])
            if other:
                text = "{}{} has {} in place of {}: type that, in ASCII and upper case"
                raise UserError(text.format(where, shown(texts[0]), other.group(), MASK))
            raise UserError(
                "{0}{1} has no {2}: put {2} where a piece is missing, or give two texts to "
                "compare, --search_file=FILE, or --embeddings=True".format(
                    where, shown(texts[0]), MASK
                )
            )
        if len(texts) == 1:
            self._model.check_masks(texts[0], where)

    def answer(self, texts):
        """See `Labels.answer`."""
        if len(texts) == 2:
            first, second = self._model.embed([(text,) for text in texts])
            return {"similarity": round(float(cosines(first, second)), DIGITS)}
        (masks,) = self._model.fill_masks(texts, self._top)
        filled = texts[0]
        for pieces in masks:
            filled = filled.replace(MASK, _shown(pieces[0][0]), 1)
        return {"text": filled, "masks": [{p: round(x, DIGITS) for p, x in row} for row in masks]}

    def rows(self, texts):
        """See `Labels.rows`."""
        answer = self.answer(texts)
        if "similarity" in answer:
            return [[_decimal(answer["similarity"])]]
        masks = [" ".join("{} {:.2f}".format(p, x) for p, x in m.items()) for m in answer["masks"]]
        return [[answer["text"]] + masks]


class Nearest:
    """The lines of a file whose vectors are nearest to the vector of a text.

    The mean of all lines' vectors is subtracted first. All texts have this mean in common, and
    every cosine would be close to 1 if the mean were not subtracted.

    Args:
        model: `predictor.Predictor`.
        lines: list of str.
        pooling: str, of `Predictor.embed`.
        top: int, the number of lines in an answer.
        progress: function of (pieces computed, pieces in all), or None.

    Raises:
        UserError: for fewer than two different lines: after the mean is subtracted nothing is left.
    """

    header = ["text", "similarity", "nearest"]
    most_texts = 2

    def __init__(self, model, lines, pooling, top, progress=None):
        if len(set(lines)) < 2:
            raise UserError(
                "--search_file needs two or more different lines; leave it out to compare two texts"
            )
        self._model, self._lines, self._pooling, self._top = model, lines, pooling, top
        vectors = model.embed(lines, pooling, progress)
        self._center = vectors.mean(axis=0)
        self._vectors = vectors - self._center

    @staticmethod
    def check(texts, where):
        """See `Labels.check`."""
        if len(texts) != 1:
            raise UserError(where + "a search takes one text, not a pair")

    def answer(self, texts):
        """See `Labels.answer`."""
        (vector,) = self._model.embed(texts, self._pooling)
        similarities = cosines(self._vectors, vector - self._center)
        best = np.argsort(-similarities, kind="stable")[: self._top]
        nearest = [
            {"text": self._lines[place], "similarity": round(float(similarities[place]), DIGITS)}
            for place in best
        ]
        return {"text": texts[0], "nearest": nearest}

    def rows(self, texts):
        """See `Labels.rows`."""
        return [
            [texts[0], _decimal(found["similarity"]), found["text"]]
            for found in self.answer(texts)["nearest"]
        ]


def cosines(vectors, vector):
    """Return the cosines of float [..., H] with float [H]; 0 for a vector of zeros."""
    norms = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(vector)
    return np.dot(vectors, vector) / np.maximum(norms, 1e-12)


def to_json(answer):
    """Return an answer in one line of JSON."""
    return json.dumps(answer, ensure_ascii=False)


def rounded_vector(vector):
    """Return a vector as a list of numbers with fewer digits."""
    return [float("{:.{}g}".format(value, DIGITS)) for value in vector]


def _decimal(number):
    return "{:.{}f}".format(number, DIGITS)


def _shown(piece):
    return piece[2:] if piece.startswith("##") else piece
