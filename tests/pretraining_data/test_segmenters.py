"""Segmenters: the words of a text, user dictionaries, clear errors."""

import builtins
import sys

import numpy as np
import pytest

from common.errors import UserError
from pretraining_data import segmenters

TEXT = "我们在北京大学学习人工智能，一心一意。\nHello World 3.14\u2028 \x00𠀀é😀"


@pytest.mark.parametrize("name", sorted(segmenters.SEGMENTERS))
def test_the_words_joined_are_the_text(name):
    segmenter = segmenters.load_segmenter(name)
    assert segmenter.name == name
    assert "".join(segmenter.segment(TEXT)) == TEXT


@pytest.mark.parametrize("name", ["rjieba", "jieba"])
def test_idioms_of_four_characters_are_words(name):
    assert "一心一意" in segmenters.load_segmenter(name).segment(TEXT)


@pytest.mark.parametrize("name", ["rjieba", "jieba"])
def test_a_text_of_any_length_has_the_same_words(name):
    segmenter = segmenters.load_segmenter(name)
    # The distances between the marks at which a stretch may end vary.
    text = "".join(
        "我们在北京大学学习人工智能" * (1 + i % 7) + "，一心一意。\n" for i in range(200)
    )
    text += "a" * 300 + "。"
    ends = np.cumsum([len(word) for word in segmenter.segment(text)])
    np.testing.assert_array_equal(segmenter.word_ends(text), ends)
    unbroken = segmenter.word_ends("我们" * 9000)
    assert unbroken[-1] == 18000
    assert len(unbroken) <= 9005


def test_an_empty_text_has_no_words():
    assert segmenters.load_segmenter("rjieba").word_ends("").tolist() == []


def test_none_makes_every_character_a_word():
    assert segmenters.load_segmenter("none").segment("北京") == ["北", "京"]


def test_auto_is_rjieba_where_installed(monkeypatch):
    assert segmenters.load_segmenter("auto").name == "rjieba"
    real_import = builtins.__import__

    def without_rjieba(name, *args, **kwargs):
        if name == "rjieba":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "rjieba", raising=False)
    monkeypatch.setattr(segmenters.importlib, "import_module", without_rjieba)
    segmenter = segmenters.load_segmenter("auto")
    assert segmenter.name == "jieba"
    assert "pip install rjieba" in segmenter.note
    with pytest.raises(UserError, match="rjieba is not installed"):
        segmenters.load_segmenter("rjieba")


def test_a_user_dictionary_adds_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("柳条巷菜市场 100000\n", encoding="utf-8")
    text = "他在柳条巷菜市场"
    assert "柳条巷菜市场" not in segmenters.load_segmenter("jieba").segment(text)
    segmenter = segmenters.load_segmenter("auto", str(path))
    assert segmenter.name == "jieba"
    assert "柳条巷菜市场" in segmenter.segment(text)


@pytest.mark.parametrize("name", ["rjieba", "none"])
def test_a_user_dictionary_is_for_jieba(tmp_path, name):
    with pytest.raises(UserError, match="use --segmenter=jieba"):
        segmenters.load_segmenter(name, str(tmp_path))


def test_bad_dictionaries_are_named(tmp_path):
    with pytest.raises(UserError, match="missing.txt does not exist"):
        segmenters.load_segmenter("jieba", str(tmp_path / "missing.txt"))
    for text, words in (
        ("天\n<!DOCTYPE html>\n<br>", "row 2: '<!DOCTYPE html>' is not a word"),
        ("天 3 n\n地 3\n玄 n\n\n一 二 三", "row 5: '一 二 三' is not a word"),
    ):
        (tmp_path / "bad.txt").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=words):
            segmenters.load_segmenter("jieba", str(tmp_path / "bad.txt"))
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff\n")
    with pytest.raises(UserError, match="bad.txt"):
        segmenters.load_segmenter("jieba", str(tmp_path / "bad.txt"))
