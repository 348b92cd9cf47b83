"""The vocabulary of a run and of its first checkpoint are compared; cached rows are never stale."""

import argparse
import json
import os

import numpy as np
import pytest

import modeling
from checkpointing import new_pieces
from common import files
from common.errors import UserError
from finetuning import inputs
from finetuning.run import MadeWith
from finetuning_data import encoding, tasks
from kinds.classification import Classification
from kinds.kind import Data
from tfrecords.wire import frame
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


def test_the_published_vocabulary_is_known_where_only_its_sha256_is_recorded(tmp_path):
    """The given vocabulary may have new pieces after the published ones."""
    published = new_pieces.PUBLISHED
    rows = [row.decode("utf-8") for row in files.vocabulary_rows(published)]
    (tmp_path / "results.json").write_text(json.dumps({"vocab_sha256": files.sha256(published)}))
    for name, given in (("longer", rows + ["新词"]), ("same", rows)):
        path = tmp_path / (name + ".txt")
        path.write_text("\n".join(given) + "\n", encoding="utf-8")
        check(tmp_path, str(path))
    (tmp_path / "shifted.txt").write_text("\n".join(rows[:1] + rows[51:]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="shifted.txt is not .*: give --vocab_file=" + published):
        check(tmp_path, str(tmp_path / "shifted.txt"))


def test_special_pieces_in_other_rows_than_published_are_told(tmp_path, caplog):
    rows = [row.decode("utf-8") for row in files.vocabulary_rows(new_pieces.PUBLISHED)]
    path = tmp_path / "vocab.txt"
    path.write_text(
        "\n".join(rows[:1] + rows[51:] + [chr(0xAC00 + i) + "x" for i in range(50)]) + "\n",
        encoding="utf-8",
    )
    config = modeling.AlbertConfig(vocab_size=21128, num_hidden_layers=1)
    inputs.check_vocab_size(str(path), FullTokenizer(str(path)), config, "c.json")
    assert "has [CLS] in row 52" in caplog.text and "in row 102" in caplog.text


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
    description.write_text("{")  # if the file is damaged, the copy counts
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


def test_another_length_than_in_training_is_told(tmp_path, caplog):
    (tmp_path / "classifier.json").write_text(json.dumps({"max_seq_length": 256}))
    for length in (256, 128):
        assert "OTHER LENGTH" not in caplog.text
        args = argparse.Namespace(max_seq_length=length)
        inputs.warn_of_length(args, str(tmp_path / "model.ckpt-1"))
    assert "OTHER LENGTH" in caplog.text and "--max_seq_length=256" in caplog.text


# -------------------------------------------------------------------------------- cache

LABELS = ("contradiction", "entailment", "neutral")
TASK = tasks.TASKS["ocnli"]
EXAMPLE = tasks.Example("train-1", "天", "地", "neutral")


@pytest.fixture
def cached(tmp_path):
    """`inputs.encode` of one example, with defaults."""

    def call(examples=(EXAMPLE,), task=TASK, length=8, split="train", pieces="天地人", lower=True):
        vocab_file = write_vocab(tmp_path / "vocab.txt", pieces)
        args = argparse.Namespace(
            max_seq_length=length,
            vocab_file=vocab_file,
            spm_model_file=None,
            do_lower_case=lower,
            output_dir=str(tmp_path),
        )
        kind, data = Classification(), Data(task, {split: list(examples)}, {}, {})
        names = {split: inputs.rows_file_name(args, kind, data, split)}
        run = argparse.Namespace(
            kind=kind,
            args=args,
            data=data,
            tokenizer=FullTokenizer(vocab_file),
            made_with=MadeWith(names, {}),
        )
        return inputs.encode(run, split)

    return call


def assert_equal(found, expected):
    for name in ("ids", "begins", "lengths_a", "full_lengths"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    np.testing.assert_array_equal(found.columns["label_ids"], expected.columns["label_ids"])


def test_the_cache_is_used_only_for_equal_settings(cached, monkeypatch):
    first, made = cached()
    others = [
        cached([EXAMPLE, EXAMPLE]),
        cached([EXAMPLE._replace(text_b="人")]),
        cached([EXAMPLE._replace(text_b=None)]),
        cached([EXAMPLE._replace(text_a="天地", text_b="")]),
        cached([EXAMPLE._replace(label="entailment")]),
        cached([EXAMPLE._replace(label=None)]),
        cached(length=9),
        cached(split="dev"),
        cached(task=TASK._replace(labels=LABELS[::-1])),
        cached(task=TASK._replace(name="cmnli")),
        cached(pieces="天地人马"),
        cached(lower=False),
    ]
    assert len({path for path, _ in others} | {first}) == len(others) + 1
    monkeypatch.setattr(Classification, "encode", None)  # the cache must be used
    path, found = cached([EXAMPLE._replace(guid="train-9")])
    assert path == first
    assert_equal(found, made)


def test_another_version_of_the_features_is_another_file(cached, monkeypatch):
    first, _ = cached()
    monkeypatch.setattr(encoding, "ENCODING_VERSION", encoding.ENCODING_VERSION + 1)
    assert cached()[0] != first


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + frame(b""),
        lambda data: data[: len(data) - len(frame(bytes(4)))],  # without the last record
        lambda data: data[:12] + bytes([data[12] ^ 1]) + data[13:],
        lambda data: b"not a record at all",
    ],
)
def test_a_damaged_file_is_made_again_with_a_warning(cached, damage, caplog):
    path, made = cached()
    with open(path, "rb") as stream:
        data = stream.read()
    with open(path, "wb") as stream:
        stream.write(damage(data))
    with caplog.at_level("WARNING"):
        again, found = cached()
    assert again == path and "damaged" in caplog.text
    assert_equal(found, made)
    with open(path, "rb") as stream:
        assert stream.read() == data


def test_an_encoding_that_fails_leaves_no_file(cached, tmp_path):
    with pytest.raises(KeyError):
        cached([EXAMPLE._replace(label="unheard-of")])
    assert not os.path.exists(str(tmp_path / "features"))


@pytest.mark.parametrize("full, is_told", [([9, 7, 0], True), ([9, 4, 0], False)])
def test_a_split_whose_sequences_are_all_cut_is_told(full, is_told, caplog):
    ids, begins, full = np.zeros(8, np.int32), np.array([0, 4, 8, 8]), np.array(full, np.int32)
    inputs.tell_lengths("train", encoding.Encoded(ids, begins, begins[:3], {}, full), 4)
    assert ("ALL CUT: every sequence of train" in caplog.text) == is_told
