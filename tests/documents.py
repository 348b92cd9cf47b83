"""Random documents and masking settings, for hypothesis."""

import numpy as np
from hypothesis import strategies as st

from masking import reference, sentence_order
from masking.reference import Document
from masking.sentence_order import CLAUSE, INSIDE, SENTENCE, WORD

SPECIAL = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused2]", "<S>"]
CHARACTERS = [chr(0x4E00 + i) for i in range(200)]
MARKS = list("，。；")
LATIN = ["al", "##bert", "a", "##b", "##"]
PIECES = SPECIAL + CHARACTERS + ["##" + c for c in CHARACTERS] + MARKS + LATIN
VOCAB = {piece: i for i, piece in enumerate(PIECES)}
FIRST_PLAIN = len(SPECIAL)  # the first id that is not a special piece


def config(**changes):
    """Return a `MaskingConfig`."""
    values = reference.MaskingConfig(
        max_seq_length=64,
        max_predictions_per_seq=10,
        masked_lm_prob=0.15,
        short_seq_prob=0.1,
        gram_probabilities=reference.gram_probabilities(3),
    )
    return values._replace(**changes)


@st.composite
def documents(draw, max_size=150):
    """Documents of random pieces, with a random kind of break before each piece."""
    size = draw(st.integers(2, max_size))
    kinds = st.sampled_from([INSIDE, INSIDE, WORD, WORD, WORD, CLAUSE, SENTENCE])
    breaks = draw(st.lists(kinds, min_size=size - 1, max_size=size - 1))
    seed = draw(st.integers(0, 2**32 - 1))
    pieces = np.random.RandomState(seed).randint(FIRST_PLAIN, len(PIECES), size)
    return Document(pieces, np.array([SENTENCE] + breaks + [SENTENCE]))


configs = st.builds(
    config,
    max_seq_length=st.integers(sentence_order.MIN_SEQ_LENGTH, 80),
    max_predictions_per_seq=st.integers(1, 20),
    masked_lm_prob=st.floats(0, 1),
    short_seq_prob=st.sampled_from([0.0, 0.1, 1.0]),
    gram_probabilities=st.builds(
        reference.gram_probabilities,
        st.integers(1, 5),
        st.sampled_from(sorted(reference.GRAM_WEIGHTS)),
    ),
    replace_spans=st.booleans(),
)
