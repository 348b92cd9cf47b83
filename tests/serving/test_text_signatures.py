"""Saved models that take text answer as the predictor does, for texts that fit in a window."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_models import write_kind_model
from odd_texts import ODD

import tokenization
from finetuning_data import choice_files
from serving import export, predictor, samples, saved_model, text_signatures

pytest.importorskip("tensorflow_text")

LENGTH = 24
CHARACTERS = "中国天地玄黄宇宙洪荒。，"
PIECES = [*tokenization.MARKERS, "[unused1]", *CHARACTERS, "a", "##a", "##1", "e", "##e", "．"]
PIECES += ["\u1100", "##\u1161", "##\u11a8", "##\u1161\u11a8", "fi", "②"]
LABELS = {
    "bio": ["O", "B-甲", "I-甲", "B-乙", "I-乙"],
    "bioes": ["O", "B-甲", "I-甲", "E-甲", "S-甲"],
}
# Name -> task, labels, stored settings.
MODELS = {
    "ner": ("ner", LABELS["bio"], {"crf": False}),
    "ner_crf": ("cluener", LABELS["bioes"], {"crf": True}),
    "mrc": ("squad", [], {"max_query_length": 5, "max_answer_length": 4}),
    "mrc_none": (
        "cmrc2018",
        [],
        {"max_query_length": 20, "allow_no_answer": True, "no_answer_threshold": -1.0},
    ),
    "chid": ("chid", [], {}),
}
# Texts that a client can send: UTF-8 cannot encode surrogates.
TEXT = st.text(st.sampled_from(CHARACTERS * 2 + "a1가각\0" + ODD), max_size=30).map(
    lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
)
BATCHES = settings(max_examples=25, deadline=None)
KEYS = ("text", "begin", "end")


class Served:
    """A model as a predictor, and as the signatures of its export."""

    def __init__(self, folder, name):
        task, labels, stored = MODELS[name]
        out = write_kind_model(folder, PIECES, LENGTH, task, labels, stored)
        self.model = predictor.Predictor(str(out))
        saved_model.write_saved_model(self.model, str(folder / "served"), export.Options())
        self.signatures = saved_model.load_saved_model(str(folder / "served"))[1]

    def __call__(self, signature, **columns):
        """Return the outputs for lists of texts."""
        return self.signatures[signature]({name: utf8(texts) for name, texts in columns.items()})

    def num_windows(self, values):
        """Return the windows of an example of `Predictor.predict`."""
        model = self.model
        example = model.kind.example(model.task, values)
        encoded = model.kind.encode([example], model.task, model.tokenizer, model.settings)
        return encoded.num_rows


def utf8(texts):
    return [x.encode("utf-8") if isinstance(x, str) else utf8(x) for x in texts]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return a function of a name of MODELS that exports the model once."""
    return functools.lru_cache(None)(lambda name: Served(tmp_path_factory.mktemp(name), name))


@pytest.mark.parametrize("name", ["ner", "ner_crf"])
@given(texts=st.lists(TEXT, max_size=4))
@BATCHES
def test_entities(served, name, texts):
    one = served(name)
    outputs = one("find_entities_text", text=texts)
    found = text_signatures.answers_of("find_entities", outputs)
    fits = [one.num_windows(text) == 1 for text in texts]
    assert outputs["fits"].tolist() == fits
    expected = one.model.predict(texts)
    assert list(itertools.compress(found, fits)) == list(itertools.compress(expected, fits))


@pytest.mark.parametrize("name", ["ner", "ner_crf"])
def test_entities_of_a_long_text_are_those_of_its_beginning(served, name):
    one = served(name)
    beginning = "天地玄黄宇宙洪荒a1" * 3
    beginning = beginning[: LENGTH - 2 + 2]  # "a1" is one word of two pieces
    texts = [beginning, beginning + "天地玄黄" * 9, ""]
    outputs = one("find_entities_text", text=texts)
    found = text_signatures.answers_of("find_entities", outputs)
    assert outputs["fits"].tolist() == [False, False, True]
    assert found[0] == found[1] and found[0]["entities"] and found[2] == {"entities": []}


@pytest.mark.parametrize("name", ["mrc", "mrc_none"])
@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=4))
@BATCHES
def test_answers(served, name, rows):
    one = served(name)
    questions, contexts = ([row[i] for row in rows] for i in (0, 1))
    outputs = one("answer_text", question=questions, context=contexts)
    found = text_signatures.answers_of("answer", outputs)
    fits = [one.num_windows(row) == 1 for row in rows]
    assert outputs["fits"].tolist() == fits
    for answer, best, is_whole in zip(found, one.model.predict(rows), fits):
        if is_whole:
            assert answer["score"] == pytest.approx(best["score"], abs=1e-4)
            assert [answer[key] for key in KEYS] == [best[key] for key in KEYS]


MARKS = ["#idiom000001#", "#idiom2#", "#idiom٣#"]
PARTS = st.sampled_from([*MARKS, "#idiom", "1#", "#", "天", "地玄黄", "宇宙洪荒" * 4, "\1", "a1"])


@given(
    rows=st.lists(st.tuples(*[st.lists(PARTS, max_size=6).map("".join)] * 2), max_size=3),
    mark=st.sampled_from(MARKS),
    choices=st.lists(TEXT.filter(str.strip), min_size=2, max_size=3),
)
@BATCHES
def test_blanks(served, rows, mark, choices):
    one, size = served("chid"), len(choices)
    contexts = [left + mark + right for left, right in [("天", "地"), *rows]]
    contexts = [text for text in contexts if mark in choice_files.BLANK.findall(text)]
    # Questions have different numbers of choices.
    lists = [choices[: 2 + i % (size - 1)] for i in range(len(contexts))]
    padded = [texts + [""] * (size - len(texts)) for texts in lists]
    marks = [mark] * len(contexts)
    found = one("choose_text", context=contexts, question=marks, choices=padded)
    for row, number, context, texts in zip(
        found["probabilities"], found["number"], contexts, lists
    ):
        (answer,) = one.model.predict([(context, mark, texts)])
        np.testing.assert_allclose(row[: len(texts)], answer["probabilities"], atol=1e-5)
        assert not row[len(texts) :].any()
        assert row[number] == row.max()


def test_a_question_that_is_no_blank_is_told(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a blank of its context, such as"):
        served("chid")(
            "choose_text", context=["天#idiom1#"], question=["#idiom2#"], choices=[["a", "1"]]
        )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_batch_without_texts(served, name):
    one = served(name)
    computation = samples.default_computation(one.model)
    names = {computation, computation + "_text", "embed", "embed_text", "serving_default"}
    assert set(one.signatures) == names
    shapes = {"choices": [0, 2]}
    feeds = {x: np.zeros(shapes.get(x, [0]), object) for x in samples.FIELDS[computation]}
    assert all(len(array) == 0 for array in one.signatures[computation + "_text"](feeds).values())


def test_bytes_that_are_no_text_count_as_characters(served):
    one = served("ner")
    bad = {"text": ["天地玄黄".encode("utf-8") + b"\xce\xff" + "宇宙洪荒".encode("utf-8")]}
    (found,) = text_signatures.answers_of(
        "find_entities", one.signatures["find_entities_text"](bad)
    )
    (expected,) = one.model.predict([bad["text"][0].decode("utf-8", "replace")])
    assert found == expected


@pytest.mark.parametrize("name, output", [("ner", "type"), ("mrc", "begin"), ("mrc", "fits")])
def test_an_export_that_answers_otherwise_is_not_written(served, name, output):
    one = served(name)
    computation = samples.default_computation(one.model)
    rows = samples.samples(one.model, computation)
    outputs = dict(
        one.signatures[computation + "_text"](samples.text_feeds(one.model, computation, rows))
    )
    assert max(text_signatures.differences(one.model, computation, outputs, rows).values()) < 1e-5
    changed = np.roll(outputs[output], 1, axis=0)
    outputs[output] = changed
    differences = text_signatures.differences(one.model, computation, outputs, rows)
    assert max(differences.values()) == np.inf
