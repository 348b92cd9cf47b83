"""Rows of a text: full, and without marks that show the order of segments."""

import numpy as np
import pytest

from masking import mask_settings, reference, sentence_order
from masking.sentence_order import CLAUSE, SENTENCE
from pretraining_data import corpus, rows
from tfrecords import compact
from tokenization import FullTokenizer


@pytest.fixture(scope="module")
def made(root):
    """The maker of rows of 128 positions, and the tokenized sample."""
    tokenizer = FullTokenizer(str(root / "albert_config" / "vocab.txt"))
    values = {"masked_lm_prob": 0.15, "max_predictions_per_seq": 20, "ngram": 3}
    values.update(favor_ngram="shorter", replace_spans=False)
    config = mask_settings.masking_config(
        values, max_seq_length=128, short_seq_prob=0.1, max_chunks_per_row=8
    )
    vocabulary = reference.make_vocabulary(tokenizer.vocab)
    maker = rows.RowMaker(tokenizer, None, vocabulary, config, corpus.TEXT, 1, 1)
    sample = (root / "data" / "news_zh_1.txt").read_bytes()
    return maker, maker.tokenize(corpus.Block(0, "sample", 1, sample, False))


def test_the_sample_fills_its_rows(made):
    maker, tokenized = made
    chunks = [chunk for row in maker.make_rows(tokenized) for chunk in row]
    [made_records] = maker.make_records(tokenized)
    statistics = made_records.statistics
    assert statistics["rows"] == len(made_records.records) == len(maker.make_rows(tokenized))
    assert statistics["positions"] / (128 * statistics["rows"]) > 0.95
    assert sum(chunk.end - chunk.begin for chunk in chunks) == len(tokenized.text.pieces)


def test_a_chunk_with_an_order_has_breaks_of_one_kind(made):
    maker, tokenized = made
    breaks = tokenized.text.breaks
    records = [record for batch in maker.make_records(tokenized) for record in batch.records]
    with_order = 0
    for row, record in zip(maker.make_rows(tokenized), records):
        for chunk, splits in zip(row, compact.parse(record, maker.limits).splits):
            kind = breaks[chunk.begin]
            if splits:
                with_order += 1
                assert kind == breaks[chunk.end] and kind in (CLAUSE, SENTENCE)
                assert np.all(breaks[chunk.begin + np.array(splits)] == kind)
            elif kind == breaks[chunk.end] == SENTENCE:  # a single sentence
                assert not np.any(breaks[chunk.begin + 1 : chunk.end] == SENTENCE)
    assert with_order > 0.5 * sum(map(len, maker.make_rows(tokenized)))


def test_a_text_without_documents_has_no_rows(made):
    maker, tokenized = made
    nothing = np.zeros(0, int)
    text = sentence_order.Text(nothing, np.array([SENTENCE]), nothing, nothing, nothing)
    assert list(maker.make_records(tokenized._replace(text=text))) == []
