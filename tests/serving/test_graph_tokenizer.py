"""The pieces that the graph makes of texts are those of `tokenization.FullTokenizer`."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tokenization
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


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_pieces_in_the_graph(root, do_lower_case):
    path = str(root / "albert_config" / "vocab.txt")
    tokenizer = tokenization.FullTokenizer(path, do_lower_case)
    # Every character up to the end of the Chinese blocks, and some beyond.
    codes = [code for code in range(0x323B0) if not 0xD800 <= code < 0xE000]
    codes += [0xE0001, 0xE0100, 0xF0000, 0x10FFFD, 0x10FFFF]
    texts = ODD + ["".join(map(chr, codes[i : i + 7])) for i in range(0, len(codes), 7)]
    with tf.Graph().as_default(), tf.Session() as session:
        pieces = graph_tokenizer.GraphTokenizer(tokenizer, path).pieces(
            tf.constant([text.encode("utf-8") for text in texts])
        )
        session.run(tf.tables_initializer())
        found = session.run(pieces)
    ids, counts = tokenizer.encode_all(texts)
    np.testing.assert_array_equal(np.diff(found.row_splits), counts)
    np.testing.assert_array_equal(found.values, ids)
