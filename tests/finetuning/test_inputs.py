"""The vocabulary of the flags against the one beside the checkpoint of a start."""

import argparse
import json

import pytest

from common.errors import UserError
from finetuning import inputs
from tokenization import MARKERS, FullTokenizer


def write_vocab(path, pieces, end="\n"):
    path.write_bytes(end.join([*MARKERS, *pieces]).encode("utf-8"))
    return str(path)


def check(folder, vocab_file):
    tokenizer = FullTokenizer(vocab_file)
    inputs.check_vocabulary_of_start(vocab_file, tokenizer, str(folder / "best" / "model.ckpt-1"))


def test_without_a_vocabulary_beside_the_checkpoint_nothing_is_checked(tmp_path):
    check(tmp_path, write_vocab(tmp_path / "given.txt", "天地"))


@pytest.mark.parametrize("described", [False, True])
def test_pieces_are_compared(described, tmp_path):
    (tmp_path / "best").mkdir()
    copy = write_vocab(tmp_path / "vocab.txt", "天地")
    if described:
        fields = {"vocabulary_sha256": inputs.files.sha256(copy)}
        (tmp_path / "classifier.json").write_text(json.dumps(fields))
    check(tmp_path, copy)
    check(tmp_path, write_vocab(tmp_path / "given.txt", "天地", "\r\n"))
    with pytest.raises(UserError, match="given.txt is not .*: give --vocab_file=" + copy):
        check(tmp_path, write_vocab(tmp_path / "given.txt", "地天"))


def test_the_results_of_a_pre_training_name_its_vocabulary(tmp_path):
    given = write_vocab(tmp_path / "given.txt", "天地")
    report = tmp_path / "results.json"
    for content in ("{", "[]", "{}", '{"vocab_sha256": null}'):  # nothing to compare with
        report.write_text(content)
        check(tmp_path, given)
    report.write_text(json.dumps({"vocab_sha256": inputs.files.sha256(given)}))
    check(tmp_path, given)
    content = (tmp_path / "given.txt").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + content)
    check(tmp_path, str(tmp_path / "windows.txt"))  # the same pieces
    other = write_vocab(tmp_path / "other.txt", "地天")
    with pytest.raises(UserError, match="other.txt is not .* to .*results.json: give the one with"):
        check(tmp_path, other)


def test_a_copy_that_was_exchanged_is_no_remedy(tmp_path):
    (tmp_path / "best").mkdir()
    copy = write_vocab(tmp_path / "vocab.txt", "天地")
    description = tmp_path / "classifier.json"
    description.write_text(json.dumps({"vocabulary_sha256": "0" * 64}))
    with pytest.raises(UserError, match="according to .*json: give the one with which it was"):
        check(tmp_path, copy)
    description.write_text("{")  # damaged: the copy counts
    check(tmp_path, copy)


@pytest.mark.parametrize("trained", [True, False])
def test_the_case_is_compared(trained, tmp_path):
    description = tmp_path / "classifier.json"
    args = argparse.Namespace(do_lower_case=not trained)
    for content in (None, "{", "{}"):  # nothing to compare with
        if content:
            description.write_text(content)
        inputs.check_case_of_start(args, str(tmp_path / "best" / "model.ckpt-1"))
    description.write_text(json.dumps({"do_lower_case": trained}))
    with pytest.raises(UserError, match="json: give --do_lower_case={}$".format(trained)):
        inputs.check_case_of_start(args, str(tmp_path / "model.ckpt-1"))
    args.do_lower_case = trained
    inputs.check_case_of_start(args, str(tmp_path / "model.ckpt-1"))


@pytest.mark.parametrize("header, test_header", [("auto", "yes"), ("no", "yes"), ("yes", None)])
def test_the_test_file_alone_may_have_a_header(header, test_header, tmp_path):
    """Texts without labels below names of columns that are not known."""
    (tmp_path / "train.tsv").write_text("天\t地\t1\n地\t天\t0\n", encoding="utf-8")
    (tmp_path / "test.tsv").write_text("原文\t译文\n天\t地\n", encoding="utf-8")
    args = argparse.Namespace(
        task_name="lcqmc",
        labels=None,
        do_train=True,
        data_dir=str(tmp_path),
        skip_bad_rows=False,
        header=header,
        test_header=test_header,
        max_train_examples=None,
        random_seed=1,
    )
    if header == "yes":
        with pytest.raises(UserError, match="row 1: .* give --test_header=yes instead"):
            inputs.read_task_data(args, ["train", "test"], [])
    else:
        data, _ = inputs.read_task_data(args, ["train", "test"], [])
        assert {split: len(rows) for split, rows in data.examples.items()} == {
            "train": 2,
            "test": 1,
        }
