"""Records of any text with any settings hold the text, masked as the settings say."""

import collections

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from masking import reference, sentence_order
from pretraining_data import corpus, instances, segmenters, show

CHARACTERS = st.sampled_from(
    "我们在北京大学学习人工智能一心意，。！”“…" + "aBé1 3.-#[\u3000\x00\u2028𠀀😀한"
)
SENTENCES = st.text(CHARACTERS, min_size=1, max_size=30)
DOCUMENTS = st.lists(st.lists(SENTENCES, min_size=1, max_size=6), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return reference.make_vocabulary(tokenizer.vocab)


def maker_of(tokenizer, vocabulary, segmenter="rjieba", dupe_factor=2, **changes):
    values = {
        "max_seq_length": 24,
        "max_predictions_per_seq": 5,
        "masked_lm_prob": 0.2,
        "short_seq_prob": 0.1,
        "gram_probabilities": reference.gram_probabilities(3),
    }
    values.update(changes)
    return instances.InstanceMaker(
        tokenizer=tokenizer,
        segmenter=segmenters.load_segmenter(segmenter) if segmenter else None,
        vocabulary=vocabulary,
        config=reference.MaskingConfig(**values),
        format=corpus.Format(),
        random_seed=1,
        dupe_factor=dupe_factor,
    )


def block_of(documents, index=3):
    data = "\n\n".join("\n".join(document) for document in documents).encode("utf-8")
    return corpus.Block(index, "a.txt", 1, data)


def read(made):
    """Return serialized records as dicts of lists."""
    features = [tf.train.Example.FromString(record).features.feature for record in made.records]
    return [
        {name: list(f.int64_list.value or f.float_list.value) for name, f in one.items()}
        for one in features
    ]


@settings(max_examples=150, deadline=None)
@given(
    documents=DOCUMENTS,
    segmenter=st.sampled_from(["rjieba", "none", None]),
    max_seq_length=st.integers(6, 40),
    max_predictions_per_seq=st.integers(1, 8),
    masked_lm_prob=st.floats(0, 1),
    short_seq_prob=st.sampled_from([0.0, 0.5, 1.0]),
    dupe_factor=st.integers(1, 3),
    replace_spans=st.booleans(),
)
def test_records_of_any_text(tokenizer, vocabulary, documents, **settings_):
    maker = maker_of(tokenizer, vocabulary, **settings_)
    block = block_of(documents)
    tokenized = maker.tokenize(block)
    parsed = corpus.parse_documents(block).documents
    restored = collections.defaultdict(list)
    num_made = 0
    for made in maker.make_records(tokenized):
        assert len(made.records) == len(made.keys) == len(made.documents)
        assert made.keys.min() >= 0
        assert made.keys.max() < 1
        for record, document in zip(read(made), made.documents.tolist()):
            restored[document].append(check(record, maker, vocabulary))
            num_made += 1
        num_masked = sum(sum(record["masked_lm_weights"]) for record in read(made))
        assert made.statistics["masked"] == num_masked
    expected = {}
    for number, document in enumerate(parsed):
        pieces = [i for line in document for i in tokenizer.encode(line).ids.tolist()]
        if len(pieces) >= 2:
            expected[block.index * instances.MAX_DOCUMENTS + number] = pieces
    assert {document: sum(parts, []) for document, parts in restored.items()} == {
        document: pieces * settings_["dupe_factor"] for document, pieces in expected.items()
    }
    counted = tokenized.statistics
    assert counted["documents"] == len(parsed)
    assert counted["documents_dropped_as_too_short"] == len(parsed) - len(expected)
    assert counted["sentences"] == sum(map(len, parsed))


def check(record, maker, vocabulary):
    """Check the invariants of a record; return its pieces, unmasked, in the order of the text."""
    ids, size = list(record["input_ids"]), sum(record["input_mask"])
    length = maker.config.max_seq_length
    assert len(ids) == len(record["input_mask"]) == len(record["segment_ids"]) == length
    assert record["input_mask"] == [1] * size + [0] * (length - size)
    assert not any(ids[size:])
    number = int(sum(record["masked_lm_weights"]))
    assert number <= maker.config.max_predictions_per_seq
    positions = record["masked_lm_positions"][:number]
    assert positions == sorted(set(positions))
    if number > maker.config.masked_lm_prob * size + 1e-6:  # a single word may exceed the limit
        assert positions[-1] - positions[0] == number - 1
    for i, label in zip(positions, record["masked_lm_ids"]):
        assert ids[i] in (vocabulary.mask_id, label) or ids[i] in vocabulary.replacements
        ids[i] = label
    second = record["segment_ids"].index(1)
    assert record["segment_ids"] == [0] * second + [1] * (size - second) + [0] * (length - size)
    assert ids[0] == vocabulary.cls_id
    assert ids[second - 1] == ids[size - 1] == vocabulary.sep_id
    assert not {0, second - 1, size - 1} & set(positions)
    first, second = ids[1 : second - 1], ids[second : size - 1]
    assert first
    assert second
    assert vocabulary.mask_id not in first + second
    return second + first if record["next_sentence_labels"] == [1] else first + second


def test_masked_spans_are_whole_words(tokenizer, vocabulary):
    text = "我们在北京大学学习人工智能，一心一意。"
    words = segmenters.load_segmenter("rjieba").segment(text)
    assert "一心一意" in words
    ends = set(np.cumsum([len(word) for word in words]).tolist()) | {0}
    maker = maker_of(tokenizer, vocabulary, dupe_factor=50)
    spans = collections.Counter()
    for made in maker.make_records(maker.tokenize(block_of([[text]]))):
        for record in read(made):
            middle = record["segment_ids"].index(1)
            size = sum(record["input_mask"])
            if record["next_sentence_labels"] == [1]:
                begins = {0: size - middle - 1, 1: 0}  # where each segment begins in the text
            else:
                begins = {0: 0, 1: middle - 2}
            masked = set(record["masked_lm_positions"][: int(sum(record["masked_lm_weights"]))])
            for i in masked:
                segment = record["segment_ids"][i]
                start = begins[segment] - (middle if segment else 1)
                last = i + 1 in (middle - 1, size - 1)  # of a segment
                if i - 1 not in masked:
                    assert i + start in ends
                    spans["begin"] += 1
                if i + 1 not in masked:
                    assert i + 1 + start in ends or last
                    spans["end"] += 1
    assert min(spans.values()) > 50


def test_a_document_after_a_long_one_is_whole(tokenizer, vocabulary):
    """Offsets of pieces and words are right after many stretches and in later documents."""
    documents = [["我们学习。" * 500], ["一心一意"], ["人工智能"] * 3]
    maker = maker_of(tokenizer, vocabulary, dupe_factor=1)
    text = maker.tokenize(block_of(documents)).text
    texts = ["".join(tokenizer.convert_ids_to_tokens(text.pieces[b:e]))
             for b, e in zip(text.begins, text.ends)]  # fmt: skip
    assert texts == ["".join(document) for document in documents]
    inside = text.breaks[text.begins[1] : text.ends[1]].tolist()
    assert inside == [sentence_order.SENTENCE] + [sentence_order.INSIDE] * 3


def test_shown_instances_are_those_that_are_made(tokenizer, vocabulary):
    maker = maker_of(tokenizer, vocabulary, dupe_factor=1)
    documents = [["我们学习。", "一心一意。"], ["人工智能，", "我们在北京"]]
    tokenized = maker.tokenize(block_of(documents))
    shown = show.format_instances(maker, tokenized, tokenizer.inv_vocab, 5)
    first, second = shown.split("\n\n")[1:]
    assert first.startswith("document 0: 13 pieces, 1 masked; order: swapped (label 1)\n")
    assert second.startswith("document 1: 13 pieces, ")
    (made,) = maker.make_records(tokenized)
    for text, record in zip((first, second), read(made)):
        assert ("swapped (label 1)" in text) == (record["next_sentence_labels"] == [1])
        assert text.count(">") == sum(record["masked_lm_weights"])
        line = text.split("\n")[1]
        assert line.startswith("[CLS] ")
        assert line.endswith(" [SEP]")


def test_batches_have_a_bound_in_both_of_their_lengths(tokenizer, vocabulary, monkeypatch):
    monkeypatch.setattr(instances, "BATCH_PIECES", 400)
    maker = maker_of(tokenizer, vocabulary, dupe_factor=9, max_predictions_per_seq=100)
    tokenized = maker.tokenize(block_of([["我们在北京大学学习人工智能。"]]))
    sizes = [len(batch.masked_lm_ids) for batch in maker.make_batches(tokenized)]
    assert max(sizes) == 4
    assert sum(sizes) >= 9
