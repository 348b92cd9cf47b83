"""Check ALBERT's three changes from BERT on this code: `python test_changes.py`.

The script prints expected and computed figures, and exits with status 1 if they differ. pytest runs
the same functions. The expected figures are from the ALBERT paper, arXiv 1909.11942.
"""

import collections
import math
import os
import sys
import time
from typing import NamedTuple

from common import tensorflow_settings

tensorflow_settings.set_environment()

import numpy as np

import modeling
import tokenization
from masking import reference, sentence_order
from masking.random_numbers import Draws

ROOT = os.path.dirname(os.path.abspath(__file__))
VOCAB_SIZE = 30000
MILLION = 1e6
DUPLICATES = 5


class Comparison(NamedTuple):
    """One line of the report."""

    name: str
    expected: str
    computed: str
    holds: bool


def report(title, lines):
    """Print the lines as a table and raise AssertionError if one does not hold."""
    width = max(len(line.name) for line in lines)
    print("\n" + title)
    for line in lines:
        print(
            "  {}  {:<{}}  expected {}, found {}".format(
                "ok  " if line.holds else "FAIL",
                line.name,
                width,
                line.expected,
                line.computed,
            )
        )
    failed = [line.name for line in lines if not line.holds]
    assert not failed, "{}: {} of {} do not hold: {}".format(
        title, len(failed), len(lines), "; ".join(failed)
    )


def exact(name, expected, computed):
    """Return the `Comparison` that two whole numbers are equal."""
    return Comparison(name, "{:,}".format(expected), "{:,}".format(computed), expected == computed)


def count(prefix, **fields):
    """Build a model's graph and count the weights of the variables that start with `prefix`."""
    counts = modeling.count_parameters(modeling.AlbertConfig(vocab_size=VOCAB_SIZE, **fields))
    return sum(number for name, number in counts.items() if name.startswith(prefix))


def test_factorized_embedding():
    """Change 1 (section 3.1): V*H weights become V*E + E*H."""
    xxlarge = {
        "hidden_size": 4096,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "num_hidden_layers": 1,
    }
    words = "bert/embeddings/word_embeddings"
    whole = count(words, embedding_size=None, **xxlarge)
    factorized = count(words, embedding_size=128, **xxlarge)
    times = whole / factorized
    report(
        "1. Factorized embedding parameterization (V=30000, H=4096, E=128)",
        [
            exact("V*H", 122880000, whole),
            exact("V*E + E*H", 4364288, factorized),
            Comparison("times fewer", "28", "{:.2f}".format(times), round(times) == 28),
        ],
    )


# (sharing, E) -> millions of parameters, table 4 and table 3 of the paper (12 layers, H=768).
PUBLISHED_MILLIONS = collections.OrderedDict(
    [
        (("all", 64), 10),
        (("all", 128), 12),
        (("all", 256), 16),
        (("all", 768), 31),
        (("attention", 128), 64),
        (("attention", 768), 83),
        (("ffn", 128), 38),
        (("ffn", 768), 57),
        (("none", 128), 89),
        (("none", 768), 108),
    ]
)


def test_parameter_sharing():
    """Change 2 (section 3.1): all layers, or one sublayer of each, use the same weights."""
    lines = [
        _compare_sharing(sharing, embedding_size, published)
        for (sharing, embedding_size), published in PUBLISHED_MILLIONS.items()
    ]
    encoder = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 3072}
    shared = count("bert/encoder/", embedding_size=128, **encoder)
    unshared = count("bert/encoder/", embedding_size=128, parameter_sharing="none", **encoder)
    lines.append(exact("encoder, 12 layers, H=1024, I=3072, shared", 10498048, shared))
    lines.append(exact("the same, not shared: 12 times", 125976576, unshared))
    report("2. Cross-layer parameter sharing (12 layers, V=30000, H=768)", lines)


def _compare_sharing(sharing, embedding_size, published):
    """Compare a count with the figure of the paper, which is rounded to a million.

    The paper does not say whether it counts the pooler (0.59M), and its figures agree sometimes
    with one count, sometimes with the other. So both counts are printed, and the published figure
    must lie between both, up to its rounding.
    """
    counts = modeling.count_parameters(
        modeling.AlbertConfig(
            vocab_size=VOCAB_SIZE,
            embedding_size=None if embedding_size == 768 else embedding_size,
            layout="google",
            parameter_sharing=sharing,
        )
    )
    model = sum(number for name, number in counts.items() if name.startswith("bert/")) / MILLION
    pooler = sum(number for name, number in counts.items() if "/pooler/" in name) / MILLION
    return Comparison(
        "{} shared, E={}".format(sharing, embedding_size),
        "{}M".format(published),
        "{:.2f}M ({:.2f}M without pooler)".format(model, model - pooler),
        model - pooler - 0.5 <= published <= model + 0.5,
    )


def test_sentence_order():
    """Change 3 (section 3.2): two consecutive segments, in their order (0) or swapped (1)."""
    swapped, rebuilt, foreign, num_documents = [], 0, 0, 0
    for pieces, instances in instances_of_sample():
        num_documents += 1
        for duplicate in instances:
            segments = [segments_of(instance) for instance in duplicate]
            swapped += [label for _, _, label in segments]
            in_order = [b + a if label else a + b for a, b, label in segments]
            rebuilt += sum(in_order, []) == pieces
            foreign += sum(not is_part(piece_ids, pieces) for piece_ids in in_order)
    share = sum(swapped) / len(swapped)
    # Three standard deviations of a fair coin.
    bound = 3 * 0.5 / math.sqrt(len(swapped))
    report(
        "3. Sentence-order prediction (data/news_zh_1.txt, {} instances)".format(len(swapped)),
        [
            exact("segments that, put in order, are not a part of one document", 0, foreign),
            exact(
                "duplicates whose segments, put in order, are the document",
                num_documents * DUPLICATES,
                rebuilt,
            ),
            Comparison(
                "share of swapped segments (label 1)",
                "0.5 +- {:.3f}".format(bound),
                "{:.3f}".format(share),
                abs(share - 0.5) < bound,
            ),
        ],
    )


def instances_of_sample():
    """Yield (pieces, duplicates) for each document of the sample; a duplicate: `Instance`s."""
    tokenizer = tokenization.FullTokenizer(os.path.join(ROOT, "albert_config", "vocab.txt"))
    vocabulary = reference.make_vocabulary(tokenizer.vocab)
    config = reference.MaskingConfig(
        max_seq_length=128,
        max_predictions_per_seq=20,
        masked_lm_prob=0.15,
        short_seq_prob=0.1,
        gram_probabilities=reference.gram_probabilities(3),
    )
    with open(os.path.join(ROOT, "data", "news_zh_1.txt"), encoding="utf-8") as stream:
        documents = stream.read().strip().split("\n\n")
    for number, text in enumerate(documents):
        pieces, begins, _ = tokenizer.encode(text)
        breaks = reference.find_breaks(text, None, pieces, begins, vocabulary)
        document = reference.Document(pieces, np.append(breaks, np.int8(sentence_order.SENTENCE)))
        draws = [Draws(1, number, k) for k in range(DUPLICATES)]
        yield (
            pieces.tolist(),
            [reference.make_instances(document, config, vocabulary, draw) for draw in draws],
        )


def segments_of(instance):
    """Return both segments of an instance, with the original pieces, and its order label."""
    pieces = list(instance.input_ids)
    for position, label in zip(instance.masked_lm_positions, instance.masked_lm_ids):
        pieces[position] = label
    second = instance.segment_ids.index(1)
    return pieces[1 : second - 1], pieces[second:-1], int(instance.swapped)


def is_part(piece_ids, pieces):
    """Return whether a list of ids occurs in another as consecutive elements."""
    size = len(piece_ids)
    return any(pieces[i : i + size] == piece_ids for i in range(len(pieces) - size + 1))


def main():
    """Run the three checks; returns the exit status."""
    if sys.argv[1:]:
        sys.stderr.write("test_changes.py: error: it takes no arguments: {}\n".format(sys.argv[1]))
        return 2
    started, failures = time.time(), []
    for test in (test_factorized_embedding, test_parameter_sharing, test_sentence_order):
        try:
            test()
        except AssertionError as error:
            failures.append(str(error))
    for failure in failures:
        print("\nFAILED  " + failure)
    print("\n{} of 3 changes hold ({:.0f} s)".format(3 - len(failures), time.time() - started))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
