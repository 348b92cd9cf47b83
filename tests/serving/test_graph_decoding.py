"""The graph finds the same entities and answers in scores as `Kind.decode` does outside of it."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning_data import label_decoding
from kinds import entities, span_windows
from serving import graph_decoding
from serving.graph_tokenizer import Pieces

TASKS = {
    scheme: entities.EntityTask("ner", ("A", "B"), tuple(label_decoding.label_names("AB", scheme)))
    for scheme in label_decoding.PREFIXES
}
# Converted models may have labels in another order and spelling, or no label that may be first.
TASKS["bmes"] = entities.Entities().with_labels(TASKS["bioes"], ["S_A", "M_A", "O", "E_A", "B_A"])
TASKS["inside"] = entities.Entities().with_labels(TASKS["bio"], ["I-A", "I-B"])


def text_of(spans):
    """Return a text as long as the spans of its pieces, with characters of one to four bytes."""
    return "".join("a天𠀀é"[i % 4] for i in range(max([end for _, end in spans], default=0)))


@st.composite
def spans_of_pieces(draw):
    """Draw spans that never go backwards; some share a character, some leave characters out."""
    spans, last = [], 0
    for _ in range(draw(st.integers(0, 7))):
        begin = max(0, last + draw(st.integers(-1, 1)))
        last = max(last, begin + draw(st.integers(1, 2)))
        spans.append((begin, last))
    return spans


class Graph:
    """A function of texts, pieces and arrays of scores, which a graph computes.

    Args:
        decide: function of (texts, `Pieces`, *scores) that returns a dict of tensors.
        shapes: lists of int or None, of the scores.
    """

    def __init__(self, decide, *shapes):
        with tf.Graph().as_default():
            texts = tf.placeholder(tf.string, [None])
            lengths = tf.placeholder(tf.int64, [None])
            spans = tf.placeholder(tf.int32, [None, 2])
            scores = [tf.placeholder(tf.float32, shape) for shape in shapes]
            begins, ends = (tf.RaggedTensor.from_row_lengths(spans[:, i], lengths) for i in (0, 1))
            found = decide(texts, Pieces(begins, begins, ends), *scores)
            self._function = tf.Session().make_callable(found, [texts, lengths, spans, *scores])

    def __call__(self, rows, *scores):
        """Return the outputs for lists of spans, one for each text, as a dict of lists."""
        texts = [text_of(spans).encode("utf-8") for spans in rows]
        spans = np.array(sum(rows, []), np.int32).reshape(-1, 2)
        found = self._function(texts, list(map(len, rows)), spans, *scores)
        return {name: array.tolist() for name, array in found.items()}


@pytest.fixture(scope="module", params=sorted(TASKS))
def task_and_graph(request):
    task = TASKS[request.param]
    size = len(task.labels)

    def decide(*values):
        return graph_decoding.find_entities(*values, task)

    return task, Graph(decide, [None, None, size], [None, size, size])


@given(
    rows=st.lists(spans_of_pieces(), max_size=4),
    seed=st.integers(0, 10**6),
    is_chain=st.booleans(),
    is_rough=st.booleans(),  # scores with equal sums
)
@settings(max_examples=200, deadline=None)
def test_entities(task_and_graph, rows, seed, is_chain, is_rough):
    task, graph = task_and_graph
    rng = np.random.RandomState(seed)
    size = len(task.labels)
    shape = [len(rows), max(map(len, rows), default=0), size]
    scores, transitions = rng.normal(size=shape), rng.normal(size=[size, size]) * is_chain
    if is_rough:
        scores, transitions = scores.round(), transitions.round()
    scores, transitions = scores.astype(np.float32), transitions.astype(np.float32)
    found = graph(rows, scores, np.repeat(transitions[np.newaxis], len(rows), axis=0))
    found = zip(*(found[name] for name in ("begin", "end", "type", "text")))
    for spans, one, of_text in zip(rows, scores, found):
        text = text_of(spans)
        of_text = [row for row in zip(*of_text) if row[0] != graph_decoding.NOWHERE]
        decided = entities._decide([one[: len(spans)]], transitions, task)[0]
        begins, ends = np.array(spans, int).reshape(-1, 2).T
        expected = label_decoding.spans_in_text(decided, begins, ends)
        assert of_text == [
            (begin, end, kind.encode(), text[begin:end].encode("utf-8"))
            for begin, end, kind in expected
        ]


def window_of(spans, first):
    """Return the window of a context whose first piece is at a given place of the row."""
    begins, ends = np.full([2, first + len(spans) + 1], span_windows.NO_PLACE)
    begins[first:-1], ends[first:-1] = np.array(spans, int).reshape(-1, 2).T
    return span_windows.Window(begins, first, begins, ends, begins >= 0, None)


@pytest.mark.parametrize(
    "longest, allow, threshold", [(1, False, 0.0), (3, True, 0.0), (50, True, 2.0)]
)
def test_answers(longest, allow, threshold):
    rules, first = span_windows.AnswerRules(longest, 20, allow, threshold), 6

    def decide(texts, pieces, starts, ends):
        places = tf.fill(tf.shape(texts), first)
        return graph_decoding.best_answers(texts, pieces, starts, ends, places, rules)

    graph, rng, kinds = Graph(decide, [None, None], [None, None]), np.random.RandomState(0), set()
    for sizes in ((), (0,), (3, 0, 12), (1, 1), (30,), (0, 0), *[(5, 2, 9)] * 40):
        rows = [[(2 * i, 2 * i + 1 + i % 2) for i in range(size)] for size in sizes]
        shape = [2, len(rows), first + max(sizes, default=0) + 1]
        starts, ends = rng.normal(size=shape).astype(np.float32)
        found = graph(rows, starts, ends)
        found = list(zip(*(found[name] for name in ("text", "begin", "end", "score"))))
        assert len(found) == len(rows)
        for spans, answer, *scores in zip(rows, found, starts, ends):
            scores = ([row] for row in scores)
            best, *_ = span_windows.choose_answers(
                text_of(spans), [window_of(spans, first)], *scores, rules
            )
            places = [graph_decoding.NOWHERE if x is None else x for x in (best.begin, best.end)]
            assert answer[:3] == (best.text.encode("utf-8"), *places)
            assert answer[3] == pytest.approx(best.score, rel=1e-6)
            kinds.add(bool(best.text) if spans else None)
    assert kinds == {None, True} | ({False} if allow else set())
