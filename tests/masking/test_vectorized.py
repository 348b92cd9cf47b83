"""Batches hold the same instances that the specification makes one by one."""

import numpy as np
from documents import PIECES, VOCAB, configs, documents
from hypothesis import given, settings
from hypothesis import strategies as st

from masking import reference, sentence_order, vectorized
from masking.random_numbers import Draws

PUBLISHED = reference.make_vocabulary(VOCAB, published_labels=True)


def text_of(many):
    """Return a `sentence_order.Text`; a document of one piece comes before each document."""
    pieces, breaks, begins = [], [], []
    for document in many:
        begins.append(len(pieces) + 1)
        pieces += [0] + document.pieces.tolist()
        breaks += [sentence_order.SENTENCE] + document.breaks[:-1].tolist()
    return sentence_order.Text(
        np.array(pieces),
        np.array(breaks + [sentence_order.SENTENCE], np.int8),
        np.array(begins),
        np.append(np.array(begins)[1:] - 1, len(pieces)),
        2 * np.arange(len(many)) + 1,
    )


def specified(many, dupe_factor, config, draws):
    return [
        (number, instance)
        for number, document in zip(range(1, 2 * len(many), 2), many)
        for duplicate in range(dupe_factor)
        for instance in reference.make_instances(
            document, config, PUBLISHED, draws.child(number, duplicate)
        )
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(documents(max_size=120), min_size=1, max_size=4),
    configs,
    st.integers(1, 3),
    st.integers(-(2**63), 2**63 - 1),
)
def test_batches_are_equal_to_the_specification(many, config, dupe_factor, seed):
    draws = Draws(seed, 5)
    text = text_of(many)
    pairs = sentence_order.pairs_of_block(text, dupe_factor, config, draws)
    batch = vectorized.BatchMaker(text, config, PUBLISHED)(pairs)
    expected = specified(many, dupe_factor, config, draws)
    assert len(batch.input_ids) == len(expected)
    for row, (number, instance) in enumerate(expected):
        size, masked = len(instance.input_ids), len(instance.masked_lm_ids)
        assert batch.document[row] == number
        assert batch.num_pieces[row] == size
        assert batch.num_masked[row] == masked
        assert batch.swapped[row] == instance.swapped
        assert batch.first_size[row] == instance.segment_ids.count(0)
        for array, wanted in (
            (batch.input_ids, instance.input_ids),
            (batch.masked_lm_positions, instance.masked_lm_positions),
            (batch.masked_lm_ids, instance.masked_lm_ids),
        ):
            assert array[row].tolist() == wanted + [0] * (array.shape[1] - len(wanted))
    grams = [gram.num_words for _, instance in expected for gram in instance.grams]
    assert batch.gram_words.tolist() == grams


@settings(max_examples=30, deadline=None)
@given(documents(), configs, st.integers(0, 2**63 - 1), st.integers(1, 9))
def test_the_division_of_pairs_into_batches_has_no_effect(document, config, seed, size):
    text = text_of([document])
    pairs = sentence_order.pairs_of_block(text, 2, config, Draws(seed))
    make = vectorized.BatchMaker(text, config, PUBLISHED)
    whole = make(pairs)
    parts = [make(pairs.take(slice(i, i + size))) for i in range(0, len(pairs.begin), size)]
    for name in ("input_ids", "masked_lm_positions", "masked_lm_ids", "gram_words"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name))


def test_kept_and_masked_pieces_are_counted():
    rng = np.random.RandomState(0)
    size = 4000
    document = reference.Document(
        rng.randint(7, len(PIECES), size),
        np.append(rng.randint(0, 4, size), sentence_order.SENTENCE),
    )
    document.breaks[0] = sentence_order.SENTENCE
    config = reference.MaskingConfig(64, 10, 0.15, 0.1, reference.gram_probabilities(3))
    text = text_of([document])
    pairs = sentence_order.pairs_of_block(text, 3, config, Draws(1))
    plain = reference.make_vocabulary(VOCAB)
    batch = vectorized.BatchMaker(text, config, plain)(pairs)
    rows, columns = np.nonzero(batch.masked_lm_positions)
    given_ids = batch.input_ids[rows, batch.masked_lm_positions[rows, columns]]
    assert batch.num_by_mask == np.sum(given_ids == plain.mask_id)
    assert batch.num_kept == np.sum(given_ids == batch.masked_lm_ids[rows, columns])
    assert 0 < batch.num_kept < batch.num_by_mask < batch.num_masked.sum()
