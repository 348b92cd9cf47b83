"""The graph makes the same pieces of a text as `tokenization.FullTokenizer`."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odd_texts import ODD_TEXTS

import tokenization
from kinds import pieces
from serving import graph_tokenizer

pytest.importorskip("tensorflow_text")

ODD = [
    "",
    " ",
    "ALBERT在2019年",
    "Ｎé à\u00a0Ǆ ﬁ İ ß",
    "e\u0301a\u0323\u0302",
    "한국어 かな カナ",
    "\u2028a\x0bb\x85c\u200bd\ufeffe\ufffdf\x00g\ue000h",
    "㐀\U00020000\U0002b820\U0002ceb0\uf900",
    "$1,000.50—“好”…①",
    "[MASK] [unk]",
    "ab" * 100,
    "ab" * 100 + "a",
    "éb" * 100 + " " + "éb" * 101,
    "a\ue000b \ue000",
    "天" * 120,
    "👨‍👩‍👧",
]


# Pieces that share a character, or have combining marks of all kinds beside them.
HANGUL = ["\u1100", "##\u1161", "##\u11a8", "##\u11a8a", "\u302e", "##\u302e"]
MORE_PIECES = ["a", "##a", "b", "##ab", "e", "##e", *HANGUL, "天", "。", "##。"]


class Encoder:
    """A graph that encodes texts, as a function of a list of str."""

    def __init__(self, vocabulary, do_lower_case):
        self.tokenizer = tokenization.FullTokenizer(vocabulary, do_lower_case)
        with tf.Graph().as_default():
            texts = tf.placeholder(tf.string, [None])
            found = graph_tokenizer.GraphTokenizer(self.tokenizer, vocabulary).encode(texts)
            session = tf.Session()
            session.run(tf.tables_initializer())
            self._function = session.make_callable(
                [found.ids.row_splits, *(part.values for part in found)], [texts]
            )

    def check(self, texts):
        splits, *found = self._function([text.encode("utf-8") for text in texts])
        rows = [self.tokenizer.encode(text) for text in texts]
        assert np.diff(splits).tolist() == [len(row.ids) for row in rows]
        expected = [
            (ids, begins, pieces.with_marks(text, begins, ends))
            for text, (ids, begins, ends) in zip(texts, rows)
        ]
        for one, two in zip(found, zip(*expected)):
            np.testing.assert_array_equal(one, np.concatenate(two))


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def encoder(request, root):
    return Encoder(str(root / "albert_config" / "vocab.txt"), request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def small_encoder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("pieces") / "vocab.txt"
    lines = [*tokenization.MARKERS, *MORE_PIECES]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Encoder(str(path), request.param)


def test_every_character_and_odd_texts(encoder):
    """Checks every character up to the end of the Chinese blocks, and some later ones."""
    codes = [code for code in range(0x323B0) if not 0xD800 <= code < 0xE000]
    codes += [0xE0001, 0xE0100, 0xF0000, 0x10FFFD, 0x10FFFF]
    encoder.check(ODD + ["".join(map(chr, codes[i : i + 7])) for i in range(0, len(codes), 7)])
    encoder.check([])
    encoder.check([""])


def as_sent(text):
    """Return a text as a client can send it: without surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@given(texts=st.lists((ODD_TEXTS | st.text(max_size=12)).map(as_sent), max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_texts(encoder, texts):
    encoder.check(texts)


SHARED = "가각\u1161ab e\u0301\u0323\u20dd\u302e\u0903\u200b天。"


@given(texts=st.lists(st.text(st.sampled_from(SHARED), max_size=8), max_size=4))
@example(texts=["각\u0301a"])  # the last piece has characters before and after the mark
@settings(max_examples=200, deadline=None)
def test_pieces_that_share_a_character_with_marks(small_encoder, texts):
    small_encoder.check(texts)
