"""The fast encoding equals the plain one, and the cache is never stale."""

import os
import subprocess
import sys
from typing import NamedTuple, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenization
from finetuning import encoding, tasks
from finetuning.encoding import UNLABELLED
from tfrecords.wire import frame

LABELS = ("contradiction", "entailment", "neutral")


class Example(NamedTuple):
    guid: str
    text_a: str
    text_b: Optional[str] = None
    label: Optional[str] = None


class Task(NamedTuple):
    name: str = "ocnli"
    labels: Tuple[str, ...] = LABELS


@pytest.fixture(scope="module")
def tokenizer(root):
    return tokenization.FullTokenizer(str(root / "albert_config" / "vocab.txt"))


def encode_plainly(tokenizer, example, max_seq_length):
    """The specification: (pieces, pieces of segment 0, pieces before cutting)."""
    texts = [example.text_a] if example.text_b is None else [example.text_a, example.text_b]
    texts = [tokenizer.tokenize(text) for text in texts]
    num_special = 1 + len(texts)
    full_length = sum(map(len, texts)) + num_special
    while sum(map(len, texts)) > max_seq_length - num_special:
        max(reversed(texts), key=len).pop()  # of two equally long ones b loses its last piece
    pieces = ["[CLS]"] + [piece for text in texts for piece in text + ["[SEP]"]]
    return pieces, len(texts[0]) + 2, full_length


def pieces_of(tokenizer, found, index):
    ids = found.ids[found.begins[index] : found.begins[index + 1]]
    return tokenizer.convert_ids_to_tokens(ids.tolist())


def assert_encoded_as_plainly(tokenizer, found, examples, max_seq_length, labels=LABELS):
    assert found.begins[0] == 0 and found.begins[-1] == len(found.ids)
    for i, example in enumerate(examples):
        expected = encode_plainly(tokenizer, example, max_seq_length)
        lengths = (found.lengths_a[i], found.full_lengths[i])
        assert (pieces_of(tokenizer, found, i),) + lengths == expected
        label = UNLABELLED if example.label is None else labels.index(example.label)
        assert found.label_ids[i] == label
    for array, dtype in zip(found, encoding.DTYPES):
        assert array.dtype == dtype


@pytest.mark.parametrize(
    "text_a, text_b, length, pieces, length_a, full_length",
    [
        ("天地", "人", 9, "[CLS] 天 地 [SEP] 人 [SEP]", 4, 6),
        ("天地人", "马牛", 6, "[CLS] 天 地 [SEP] 马 [SEP]", 4, 8),
        ("天地人", None, 9, "[CLS] 天 地 人 [SEP]", 5, 5),
        ("天地人", None, 4, "[CLS] 天 地 [SEP]", 4, 5),
        ("天", "", 9, "[CLS] 天 [SEP] [SEP]", 3, 4),
        ("\u200b", "\U0001f9ff 天\n地", 9, "[CLS] [SEP] [UNK] 天 地 [SEP]", 2, 6),
    ],
)
def test_examples_worked_by_hand(tokenizer, text_a, text_b, length, pieces, length_a, full_length):
    found = encoding.encode_examples([Example("", text_a, text_b)], LABELS, tokenizer, length)
    assert pieces_of(tokenizer, found, 0) == pieces.split()
    assert found.lengths_a.tolist() == [length_a]
    assert found.full_lengths.tolist() == [full_length]
    assert found.label_ids.tolist() == [UNLABELLED]


TEXTS = st.text(st.sampled_from("天地，a1é \n\u200b\U0001f9ff龘") | st.characters(), max_size=9)


@given(
    st.lists(st.builds(Example, st.just(""), TEXTS, st.none() | TEXTS, st.sampled_from(LABELS))),
    st.integers(5, 16),
)
def test_any_text_is_encoded_as_plainly(tokenizer, examples, length):
    found = encoding.encode_examples(examples, LABELS, tokenizer, length)
    assert_encoded_as_plainly(tokenizer, found, examples, length)


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_every_task_makes_features_of_all_its_labels(name, tokenizer):
    task = tasks.TASKS[name]
    task = task if task.labels else tasks.get_task(name, labels=["坏", "好"])
    text_b = "明天" if "text_b" in task.fields else None
    examples = [tasks.Example(str(i), "今天", text_b, x) for i, x in enumerate(task.labels)]
    found = encoding.encode_examples(examples, task.labels, tokenizer, 40)
    assert found.label_ids.tolist() == list(range(len(task.labels)))
    assert_encoded_as_plainly(tokenizer, found, examples, 40, task.labels)


def real_examples(root, count):
    lines = (root / "data" / "news_zh_1.txt").read_text(encoding="utf-8").splitlines()
    return [
        Example(str(i), lines[i % 97], lines[i % 89] if i % 3 else None, LABELS[i % 3])
        for i in range(count)
    ]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_real_text_is_encoded_as_plainly_by_any_number_of_workers(
    tokenizer, root, num_workers, monkeypatch
):
    monkeypatch.setattr(encoding, "CHUNK_EXAMPLES", 64)
    examples = real_examples(root, 333)
    found = encoding.encode_examples(examples, LABELS, tokenizer, 40, num_workers)
    assert_encoded_as_plainly(tokenizer, found, examples, 40)


def cut_one_by_one(length_a, length_b, room):
    """The published rule: while there are too many pieces, the longer text loses its last."""
    while length_a + length_b > room:
        if length_a > length_b:
            length_a -= 1
        else:
            length_b -= 1
    return length_a, length_b


def test_truncation_is_the_published_one():
    a, b, room = (grid.ravel() for grid in np.mgrid[0:12, 0:12, 2:9])
    found = list(zip(*encoding.truncated_lengths(a, b, room)))
    assert found == [cut_one_by_one(*case) for case in zip(a, b, room)]


def test_lengths_are_measured_before_the_cut(tokenizer):
    examples = [Example("", "天" * n) for n in range(1, 201)]  # 3 to 202 pieces
    found = encoding.encode_examples(examples, LABELS, tokenizer, 182)
    lengths = encoding.measure_lengths(found)
    assert lengths == (102, 182, 200, 202, 20)
    assert encoding.measure_lengths(encoding.encode_examples(examples[:1], LABELS, tokenizer, 9))[
        :4
    ] == (3, 3, 3, 3)


TASK = Task()
EXAMPLE = Example("train-1", "天", "地", "neutral")


@pytest.fixture
def cached(tokenizer, tmp_path):
    """`encode_cached` of one example, with defaults."""

    def call(examples=(EXAMPLE,), task=TASK, length=8, split="train", vocab="a", lower=True):
        settings = {"vocab": vocab, "do_lower_case": lower}
        return encoding.encode_cached(
            list(examples), task, tokenizer, length, str(tmp_path / "cache"), split, settings
        )

    return call


def assert_equal(found, expected):
    for array, wanted in zip(found, expected):
        np.testing.assert_array_equal(array, wanted)
        assert array.dtype == wanted.dtype


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
        cached(task=Task(labels=LABELS[::-1])),
        cached(task=Task(name="cmnli")),
        cached(vocab="b"),
        cached(lower=False),
    ]
    assert len({path for path, _ in others} | {first}) == len(others) + 1
    monkeypatch.setattr(encoding, "encode_examples", None)  # would be called in vain
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
    assert not os.path.exists(str(tmp_path / "cache"))


def test_encoding_needs_no_tensorflow(root):
    code = "import sys; from finetuning import encoding; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=str(root), check=True)
