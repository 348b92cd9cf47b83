"""Entities: windows, pieces of several characters or of none, and labels of other models."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_texts import ODD_TEXTS

from common.errors import UserError
from finetuning_data import label_decoding
from finetuning_data.labelled_text import Entity, LabelledText
from kinds.entities import TARGETS, Entities

KIND = Entities()
TASK = KIND.with_labels(KIND.tasks["ner"], label_decoding.label_names(["A", "B"], "bioes"))


def perfect(examples, tokenizer, length=12, task=TASK):
    """Return the result of decoding scores that are highest at the right labels."""
    settings = types.SimpleNamespace(max_seq_length=length)
    encoded = KIND.encode(examples, task, tokenizer, settings)
    assert encoded.num_rows == KIND.count_rows(examples, task, tokenizer, settings)
    longest = np.diff(encoded.begins).max()
    scores = np.zeros([encoded.num_rows, longest, len(task.labels)])
    for row in range(encoded.num_rows):
        for place, target in enumerate(encoded.column(row, TARGETS.name)):
            if target:
                scores[row, place, target - 1] = 5.0
    return KIND.decode(examples, task, encoded, {"scores": scores}, settings)


@pytest.mark.parametrize(
    "text, begin, end, found",
    [
        ("在北京", 1, 3, "北京"),
        ("在2019年", 1, 6, "2019年"),  # a number is one piece
        ("在2019年", 1, 3, "2019"),  # the entity grows to the whole piece
        ("喜欢iPhone手机", 2, 8, "iPhone"),  # several pieces
        ("在New York。", 1, 9, "New York"),  # a blank has no piece
        ("在 北 京 ", 1, 6, "北 京"),  # no entity ends with a blank
        ("在北\u200b京", 1, 4, "北\u200b京"),
        ("在Cafe\u0301\u0301。", 1, 7, "Cafe\u0301\u0301"),  # marks belong to their letter
        ("在\U0001f600\U0001f600。", 1, 3, "\U0001f600\U0001f600"),  # [UNK] of two characters
        ("在각。", 1, 2, "각"),  # pieces that share a character
        ("在 \u200b。", 1, 3, None),  # no piece at all
    ],
)
def test_pieces_that_are_not_one_character(tokenizer, text, begin, end, found):
    example = LabelledText("", text, (Entity(begin, end, "B"),))
    (spans,) = perfect([example], tokenizer)
    assert [(text[b:e], kind) for b, e, kind in spans] == [(found, "B")] * (found is not None)


def test_long_texts_are_decided_as_one(tokenizer):
    text = "在北京和上海" * 9
    places = [b for b in range(len(text)) if text[b] in "北上"]
    example = LabelledText("", text, tuple(Entity(b, b + 2, "A") for b in places))
    short = LabelledText("", "北京", (Entity(0, 2, "B"),))
    empty = LabelledText("", "\u200b", ())
    found = perfect([example, short, empty], tokenizer, length=12)
    assert found == [list(example.entities), list(short.entities), []]


@given(ODD_TEXTS, st.data())
def test_entities_are_parts_of_the_text_that_do_not_overlap(tokenizer, text, data):
    edges = data.draw(st.lists(st.integers(0, len(text)), max_size=6, unique=True))
    edges = sorted(edges)[: len(edges) // 2 * 2]
    kinds = data.draw(st.lists(st.sampled_from("AB"), min_size=3, max_size=3))
    entities = tuple(Entity(b, e, k) for b, e, k in zip(edges[::2], edges[1::2], kinds))
    (found,) = perfect([LabelledText("", text, entities)], tokenizer, length=6)
    flat = [edge for begin, end, _ in found for edge in (begin, end)]
    assert flat == sorted(flat) and all(begin < end <= len(text) for begin, end, _ in found)
    answers = KIND.answers([LabelledText("", text, None)], TASK, [found])
    for row in answers[0]["entities"]:
        assert row["text"] == text[row["begin"] : row["end"]] != ""


def test_labels_of_a_converted_model_may_have_another_order_and_spelling(tokenizer):
    labels = ("B_LOC", "O", "M_LOC", "E_LOC", "S_LOC")
    task = KIND.with_labels(KIND.tasks["ner"], labels)
    assert (task.types, task.scheme, task.labels) == (("LOC",), "bioes", labels)
    example = LabelledText("", "在北京。", None)
    settings = types.SimpleNamespace(max_seq_length=12)
    encoded = KIND.encode([example], task, tokenizer, settings)
    scores = np.zeros([1, 6, 5])
    scores[0, 1, 1] = scores[0, 2, 0] = scores[0, 3, 3] = scores[0, 4, 1] = 5.0
    found = KIND.decode([example], task, encoded, {"scores": scores}, settings)
    assert found == [[(1, 3, "LOC")]]
    with pytest.raises(UserError, match="label 'LABEL_0' of the model is not for entities"):
        KIND.with_labels(KIND.tasks["ner"], ["LABEL_0", "LABEL_1"])
