"""Tests of checkpointing/new_pieces.py."""

import pytest

from checkpointing import new_pieces
from common.errors import UserError
from tokenization import FullTokenizer

OLD = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "地"]


def write(path, pieces):
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return str(path)


def test_new_pieces_stand_behind_the_old_ones(tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    copy = write(tmp_path / "vocab.txt", OLD)
    behind = write(tmp_path / "behind.txt", OLD + ["新冠"])
    between = write(tmp_path / "between.txt", OLD[:5] + ["新冠"] + OLD[5:])
    new_pieces.check(behind, prefix, len(OLD))
    assert new_pieces.begins_with(OLD + ["新冠"], copy)
    assert not new_pieces.begins_with(OLD[::-1], copy) and not new_pieces.begins_with(OLD, behind)
    with pytest.raises(UserError, match="between.txt, row 6: .*vocab.txt has '天' there, whose"):
        new_pieces.check(between, prefix, len(OLD))
    new_pieces.check(between, prefix, 999)  # no vocabulary with 999 pieces is known


def test_new_pieces_that_the_tokenizer_never_makes_are_told(tmp_path, caplog):
    with open(new_pieces.PUBLISHED, encoding="utf-8", newline="\n") as stream:
        pieces = stream.read().split("\n")[:-1]
    made = ["blockchain", "##blockchain", "\u3400"]
    for never in (["新冠"], ["Covid"], ["covid-19"], ["##新冠"], ["[E1]"], []):
        path = write(tmp_path / "vocab.txt", pieces + made + never)
        caplog.clear()
        new_pieces.warn_of_unused(path, FullTokenizer(path))
        told = "UNUSED PIECES: 1 of the 4 new pieces of {} never occur in a text, such as {},"
        assert caplog.text == "" if not never else told.format(path, *never) in caplog.text


def test_the_published_vocabulary_counts_where_none_is_beside(tmp_path):
    with open(new_pieces.PUBLISHED, encoding="utf-8", newline="\n") as stream:
        pieces = stream.read().split("\n")[:-1]
    behind = write(tmp_path / "behind.txt", pieces + ["新冠"])
    new_pieces.check(behind, str(tmp_path / "model.ckpt"), len(pieces))
    between = write(tmp_path / "between.txt", pieces[:105] + ["新冠"] + pieces[105:])
    with pytest.raises(UserError, match="row 106: .*albert_config/vocab.txt has '<T>' there"):
        new_pieces.check(between, str(tmp_path / "model.ckpt"), len(pieces))
