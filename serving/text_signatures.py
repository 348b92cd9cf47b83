"""Signatures of a saved model that take text.

A signature that finds parts of texts computes one window of each text, its beginning. `fits` says
whether the window holds all of the text. If so, the predictor gives the same answer.

Dimension letters: B texts, C choices.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from kinds import spans
from serving import graph_decoding, graph_rows, samples

SHAPES = {"choices": [None, None]}  # [B, C]; all other texts are [B]


def build(model, computation, tokenizer, compute):
    """Build a computation that takes text.

    Args:
        model: `predictor.Predictor`.
        computation: str, `classify`, `embed`, `fill_mask` or one of `samples.FIELDS`.
        tokenizer: `graph_tokenizer.GraphTokenizer`.
        compute: function from a list of ids, mask and segments to a dict of outputs.

    Returns:
        (texts, outputs): dicts of name to tensor; the texts are placeholders.
    """
    texts = {
        field: tf.placeholder(tf.string, SHAPES.get(field, [None]), field)
        for field in samples.text_fields(model, computation)
    }
    builders = {"choose": _choose, "find_entities": _find_entities, "answer": _answer}
    build_outputs = builders.get(computation, _of_texts)
    return texts, build_outputs(model, computation, tokenizer, compute, *texts.values())


def _of_texts(model, computation, tokenizer, compute, *texts):
    """Return the outputs for texts or pairs; long ones are cut."""
    if computation == "fill_mask":
        parts = list(map(tokenizer.encode_with_masks, texts))
    else:
        parts = [tokenizer.encode(text).ids for text in texts]
    return compute(graph_rows.of_texts(parts, model.max_seq_length, tokenizer.vocab))


def _choose(model, _, tokenizer, compute, contexts, questions, choices):
    """Return the outputs for questions, string [B], with choices, string [B, C]."""
    is_choice = tf.not_equal(choices, "")
    ids = tokenizer.encode(tf.reshape(choices, [-1])).ids
    if model.task.is_cloze:
        return compute(
            graph_rows.of_blanks(
                contexts, questions, ids, is_choice, model.max_seq_length, tokenizer
            )
        )
    shape = tf.shape(choices)
    row = tf.repeat(tf.range(shape[0]), shape[1])  # [B*C]
    parts = [tf.gather(tokenizer.encode(text).ids, row) for text in (contexts, questions)]
    return compute(
        graph_rows.of_questions(parts + [ids], is_choice, model.max_seq_length, tokenizer.vocab)
    )


def _find_entities(model, _, tokenizer, compute, texts):
    """Return the entities of `texts` (string [B]), and `fits` (bool [B])."""
    pieces, room = tokenizer.encode(texts), model.max_seq_length - 2
    outputs = compute(graph_rows.of_texts([pieces.ids], model.max_seq_length, tokenizer.vocab))
    kept, fits = graph_rows.first_pieces(pieces, room)
    transitions = outputs.get("transitions", 0.0)
    scores = outputs["scores"][:, 1:-1]  # without [CLS] and [SEP]
    found = graph_decoding.find_entities(texts, kept, scores, transitions, model.task)
    return dict(found, fits=fits)


def _answer(model, _, tokenizer, compute, questions, contexts):
    """Return the answers to questions in their contexts, string [B], and `fits`, bool [B]."""
    sizes, rules = spans.sizes_of(model.settings), spans.rules_of(model.settings)
    asked, _ = graph_rows.first_pieces(tokenizer.encode(questions), sizes.max_query_length)
    first = graph_rows.lengths_of(asked.ids) + 2  # the place of the context's first piece
    kept, fits = graph_rows.first_pieces(
        tokenizer.encode(contexts), model.max_seq_length - 1 - first
    )
    ids = graph_rows.joined([asked.ids, kept.ids], tokenizer.vocab)
    outputs = compute(graph_rows.inputs_of(ids, first))
    found = graph_decoding.best_answers(
        contexts, kept, outputs["starts"], outputs["ends"], first, rules
    )
    return dict(found, fits=fits)


# ---------------------------------------------------------------------------------------- checks

FINDS_PARTS = ("find_entities", "answer")
_ENTITY, _ANSWER = ("begin", "end", "type", "text"), ("text", "begin", "end")


def differences(model, computation, outputs, rows):
    """Return how the outputs of a signature that finds parts of texts differ from the predictor's.

    Texts that are longer than a window count only for `fits`.

    Args:
        model: `predictor.Predictor`.
        computation: str, `find_entities` or `answer`.
        outputs: dict of name to array, of the signature.
        rows: list of tuples, the texts.

    Returns:
        dict of name to float, infinity where parts differ.
    """
    examples = samples.examples_of(model, computation, rows)
    answers = model.kind.answers(examples, model.task, model.decode(examples))
    sizes = [
        model.kind.encode([example], model.task, model.tokenizer, model.settings).num_rows
        for example in examples
    ]
    found = answers_of(computation, outputs)
    pairs = [(one, two) for one, two, size in zip(found, answers, sizes) if size == 1]
    is_equal = {"fits": outputs["fits"].tolist() == [size == 1 for size in sizes]}
    if computation == "find_entities":
        is_equal["entities"] = all(one == two for one, two in pairs)
        return {name: 0.0 if equal else np.inf for name, equal in is_equal.items()}
    is_equal["answer"] = all(one[name] == two[name] for one, two in pairs for name in _ANSWER)
    largest = {name: 0.0 if equal else np.inf for name, equal in is_equal.items()}
    scores = np.array([(one["score"], two["score"]) for one, two in pairs])
    scale = np.maximum(1.0, np.abs(scores).max())  # as in `samples.differences`
    return dict(largest, score=float(np.abs(scores[:, 0] - scores[:, 1]).max() / scale))


def answers_of(computation, outputs):
    """Return the outputs of a signature as `Predictor.predict` gives them: a list of dicts.

    Args:
        computation: str, `find_entities` or `answer`.
        outputs: dict of name to array.
    """
    rows = [dict(zip(outputs, row)) for row in zip(*map(_plain, outputs.values()))]
    if computation == "answer":
        places = {graph_decoding.NOWHERE: None}
        return [{x: places.get(row[x], row[x]) for x in _ANSWER + ("score",)} for row in rows]
    return [
        {
            "entities": [
                dict(zip(_ENTITY, entity))
                for entity in zip(*(row[name] for name in _ENTITY))
                if entity[0] != graph_decoding.NOWHERE
            ]
        }
        for row in rows
    ]


def _plain(values):
    """Return an array as lists, with str for bytes."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, list):
        return list(map(_plain, values))
    return values.decode("utf-8") if isinstance(values, bytes) else values
