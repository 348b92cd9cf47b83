"""Scores of answers: values worked out by hand, and English words as nltk splits them."""

import doctest
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kinds.span_scores
from kinds.span_scores import answer_scores, cmrc_tokens, english_words
from kinds.spans import Spans


def scores_of(right, prediction):
    return answer_scores({"1": right}, {"1": prediction})


def test_examples_of_the_docstrings():
    result = doctest.testmod(kinds.span_scores)
    assert result.attempted and not result.failed


@pytest.mark.parametrize(
    "right, prediction, em, f1",
    [
        (["北京"], "北京", 1, 1.0),
        (["北京"], "“北京”。", 1, 1.0),  # marks are deleted
        (["北京!"], "北京", 0, 0.8),  # ASCII marks are not deleted: 2 of 3 tokens
        (["北京"], "北京……", 0, 0.8),  # "……" is not deleted: it is one token
        (["ABC公司"], "abc 公司", 0, 1.0),  # blanks count in EM, not in F1
        (["在北京大学"], "北京大学", 0, 2 * 1 * 0.8 / 1.8),
        (["北京的大学"], "北京大学", 0, 2 * (2 / 4) * (2 / 5) / (2 / 4 + 2 / 5)),  # the run 北京
        (["1986年2月2日"], "1986年", 0, 2 * 1 * (2 / 6) / (1 + 2 / 6)),  # 1986 is one token
        (["上海", "在北京"], "北京", 0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),  # the best one counts
        (["上海"], "北京", 0, 0.0),
        (["上海"], "", 0, 0.0),
        ([], "", 1, 1.0),  # no answer
        ([], "北京", 0, 0.0),
    ],
)
def test_scores_of_cmrc(right, prediction, em, f1):
    scores = scores_of(right, prediction)
    assert (scores["em"], scores["f1"]) == (em, pytest.approx(f1))


@pytest.mark.parametrize(
    "right, prediction, em, f1",
    [
        (["“北京!”…"], "北京", 1, 1.0),  # all punctuation is deleted
        (["The NBA"], "nba", 1, 1.0),
        (["ABC公司"], "abc 公司", 1, 1.0),
        (["北京的大学"], "北京大学", 0, 2 * 1 * (4 / 5) / (1 + 4 / 5)),  # in any order
        (["大大"], "大", 0, 2 * 1 * (1 / 2) / (1 + 1 / 2)),
    ],
)
def test_scores_of_squad(right, prediction, em, f1):
    scores = scores_of(right, prediction)
    assert (scores["squad_em"], scores["squad_f1"]) == (em, pytest.approx(f1))


def test_what_chooses_the_best_checkpoint_is_a_score():
    assert set(Spans.metrics) <= set(scores_of(["天"], "天"))


def test_a_missing_answer_counts_as_wrong():
    right = {"1": ["北京"], "2": ["上海"], "3": [], "4": []}
    scores = answer_scores(right, {"1": "北京", "4": "好", "9": "北京"})
    assert scores == {
        "examples": 4,
        "em": 0.25,
        "f1": 0.25,
        "squad_em": 0.25,
        "squad_f1": 0.25,
        "answerable_em": 0.5,
        "answerable_f1": 0.5,
        "no_answer_accuracy": 0.0,
    }
    assert json.loads(json.dumps(scores)) == scores
    assert answer_scores({}, {})["f1"] == 0


def test_deleted_marks_join_words_but_chinese_characters_and_blanks_do_not():
    assert cmrc_tokens("A-B（c）《d》1:2") == ["abcd12"]  # CMRC's script does the same
    assert cmrc_tokens("中a b国") == ["中", "a", "b", "国"]


def test_english_words_are_those_of_nltk():
    nltk = pytest.importorskip("nltk.tokenize").NLTKWordTokenizer()
    words = ["a", "it", "cannot", "can", "not", "gonna", "lemme", "more", "don", "u.s", "é"]
    words += ["t", "s", "re", "ll", "ve", "m", "d", "3", "3.5"]
    marks = list("!\"#$%&'(),.;<>?@[]{|}‘„«»…   ''") + ["''", "..."]
    rng = np.random.RandomState(0)
    for _ in range(2000):
        text = "".join(rng.choice(words) + rng.choice(marks) for _ in range(rng.randint(1, 5)))
        assert english_words(text) == nltk.tokenize(text), text


@given(st.lists(st.sampled_from("ab"), max_size=8), st.lists(st.sampled_from("ab"), max_size=8))
def test_the_longest_common_run_is_the_longest(one, two):
    runs = {tuple(two[b:e]) for e in range(len(two) + 1) for b in range(e + 1)}
    common = [e - b for e in range(len(one) + 1) for b in range(e + 1) if tuple(one[b:e]) in runs]
    assert kinds.span_scores._longest_common_run(one, two) == max(common)
