"""The fast encoding equals the plain one."""

import subprocess
import sys
from typing import NamedTuple, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_data import encoding, tasks
from finetuning_data.encoding import UNLABELLED

LABELS = ("contradiction", "entailment", "neutral")


class Example(NamedTuple):
    guid: str
    text_a: str
    text_b: Optional[str] = None
    label: Optional[str] = None


def encode_plainly(tokenizer, example, max_seq_length):
    """Return (pieces, number of pieces in segment 0, number of pieces before cutting)."""
    texts = [example.text_a] if example.text_b is None else [example.text_a, example.text_b]
    texts = [tokenizer.tokenize(text) for text in texts]
    num_special = 1 + len(texts)
    full_length = sum(map(len, texts)) + num_special
    while sum(map(len, texts)) > max_seq_length - num_special:
        max(reversed(texts), key=len).pop()  # If both are equally long, the second is cut.
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
        assert found.columns["label_ids"][i] == label
    arrays = [found.ids, found.begins, found.lengths_a, found.columns["label_ids"]]
    for array, dtype in zip(arrays + [found.full_lengths], encoding.dtypes([encoding.LABEL_IDS])):
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
    assert found.columns["label_ids"].tolist() == [UNLABELLED]


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
    assert found.columns["label_ids"].tolist() == list(range(len(task.labels)))
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
    """The published rule: while there are too many pieces, the longer text loses its last one."""
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


def test_encoding_needs_no_tensorflow(root):
    code = "import sys; from finetuning_data import encoding; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=str(root), check=True)
