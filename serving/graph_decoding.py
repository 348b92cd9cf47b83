"""Decides entities and answers inside a TensorFlow graph, as `Kind.decode` does outside.

Dimension letters: B texts, P pieces of all texts, S pieces of the longest, L labels, E entities of
the text that has most, K pieces of the longest answer.
"""

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.compat import v2 as tf2

from finetuning_data import label_decoding

where = tf2.where  # which takes scalars
NOWHERE = -1  # the place of a missing entity or answer


def find_entities(texts, pieces, scores, transitions, task):
    """Find the entities of texts, as `Entities.decode` does.

    Args:
        texts: string [B].
        pieces: `graph_tokenizer.Pieces` of the texts.
        scores: float [B, S, L], of the labels of the pieces.
        transitions: float [B, L, L] of a conditional random field, or 0.
        task: `entities.EntityTask` with its labels.

    Returns:
        dict of `begin` and `end`, int32 [B, E], and `type` and `text`, string [B, E]; after the
        last entity of a text they are NOWHERE and "".
    """
    legal = label_decoding.legal(task.spelled, task.scheme)
    lengths = tf.cast(pieces.ids.row_lengths(), tf.int32)
    labels = viterbi(
        tf.cast(scores, tf.float64),
        lengths,
        tf.cast(transitions, tf.float64) + label_decoding.penalties(legal.following),
        label_decoding.penalties(legal.first),
        label_decoding.penalties(legal.last),
    )
    labels = tf.boolean_mask(labels, tf.sequence_mask(lengths, tf.shape(labels)[1]))  # [P]
    first, last = _spans(labels, pieces.ids.value_rowids(), legal, task)
    row = tf.gather(pieces.ids.value_rowids(), first)
    begin, end = tf.gather(pieces.begins.values, first), tf.gather(pieces.ends.values, last)
    # A character that two entities share belongs to the first, as in `spans_in_text`.
    begin = tf.maximum(begin, where(_is_same(row), _before(end), 0))
    has_own = begin < end
    row, begin, end, first = (tf.boolean_mask(x, has_own) for x in (row, begin, end, first))
    types = tf.constant([label[2:] for label in task.spelled])
    found = {
        "begin": (begin, NOWHERE),
        "end": (end, NOWHERE),
        "type": (tf.gather(types, tf.gather(labels, first)), ""),
        "text": (_parts_of(tf.gather(texts, row), begin, end), ""),
    }
    num_texts = tf.shape(texts, out_type=tf.int64)[0]
    return {
        name: tf.RaggedTensor.from_value_rowids(values, row, num_texts).to_tensor(nothing)
        for name, (values, nothing) in found.items()
    }


def _spans(labels, row, legal, task):
    """Return the first and the last piece of each entity, as `label_decoding.spans_of` finds them.

    Args:
        labels: int32 [P], of the pieces of all texts.
        row: int64 [P], the text of each piece.
        legal: `label_decoding.Legal` sequences of labels.
        task: as in `find_entities`.

    Returns:
        Two tensors, int32 [entities of all texts].
    """
    # A label that may not be the first, such as I, goes on with the label before it, if legal.
    is_inside = tf.constant(legal.following & ~legal.first)  # [L, L]
    is_begin = legal.first & (np.array(task.spelled) != label_decoding.OUTSIDE)  # [L]
    goes_on = tf.gather_nd(is_inside, tf.stack([_before(labels), labels], axis=1)) & _is_same(row)
    places = tf.range(tf.size(labels))
    first = tf.boolean_mask(places, tf.logical_not(goes_on))
    last = tf.boolean_mask(places, tf.logical_not(tf.pad(goes_on, [[0, 1]])[1:]))
    begins, ends = tf.gather(is_begin, tf.gather(labels, first)), tf.gather(labels, last)
    is_entity = begins & tf.gather(legal.last, ends)
    return tf.boolean_mask(first, is_entity), tf.boolean_mask(last, is_entity)


def _before(values):
    """Return the value before each of a vector, 0 before the first."""
    return tf.pad(values, [[1, 0]])[:-1]


def _is_same(rows):
    """Return whether each number of a vector equals the number before it; False for the first."""
    return tf.equal(rows, _before(rows)) & (tf.range(tf.size(rows)) > 0)


def viterbi(scores, lengths, transitions, first, last):
    """Return the sequences of labels with the greatest sums, as `label_decoding.viterbi` does.

    Args:
        scores: float64 [B, S, L].
        lengths: int32 [B]; may be 0.
        transitions: float64 [L, L] or [B, L, L].
        first, last: float64 [L].

    Returns:
        int32 [B, S]; the values after the end of a sequence have no meaning.
    """
    num_places, num_labels = tf.shape(scores)[1], len(first)
    scores = tf.pad(scores, [[0, 0], [0, 2], [0, 0]])  # a scan needs two places

    def step(before, place):
        """Return (sums of the best sequences that end with each label, labels before)."""
        own, is_there = place  # [B, L], [B, 1]
        sums = before[0][:, :, tf.newaxis] + transitions  # [B, L, L]
        longer = tf.reduce_max(sums, axis=1) + own
        origins = tf.argmax(sums, axis=1, output_type=tf.int32)
        return where(is_there, longer, before[0]), where(is_there, origins, tf.range(num_labels))

    begin = scores[:, 0] + first  # [B, L]
    is_there = tf.sequence_mask(lengths, num_places + 2)[:, :, tf.newaxis]
    places = [tf.transpose(x[:, 1:], [1, 0, 2]) for x in (scores, is_there)]
    sums, origins = tf.scan(step, tuple(places), (begin, tf.zeros_like(begin, tf.int32)))
    final = tf.argmax(sums[-1] + last, axis=1, output_type=tf.int32)  # [B]
    labels = tf.scan(
        lambda label, before: tf.gather(before, label, batch_dims=1), origins, final, reverse=True
    )  # [S + 1, B]
    return tf.transpose(labels)[:, :num_places]


def best_answers(contexts, pieces, starts, ends, first, rules):
    """Find the answers to questions, as `span_windows.choose_answers` does in one window.

    Args:
        contexts: string [B].
        pieces: `graph_tokenizer.Pieces` of the contexts.
        starts, ends: float [B, S], scores of the answers' first and last pieces.
        first: int32 [B], the place of the context's first piece in a row of scores.
        rules: `span_windows.AnswerRules`.

    Returns:
        dict of `begin` and `end`, int32 [B], NOWHERE where there is no answer; `text`, string [B];
        and `score`, float32 [B].
    """
    # A place, whose scores never win, is added after the last piece, for contexts without a piece.
    begins, char_ends = (tf.pad(x.to_tensor(), [[0, 0], [0, 1]]) for x in pieces[1:])
    lengths = tf.cast(pieces.ids.row_lengths(), tf.int32)
    num_places, most = tf.shape(begins)[1], rules.max_answer_length
    is_piece = tf.sequence_mask(lengths, num_places)
    columns = first[:, tf.newaxis] + tf.range(num_places)
    columns = tf.minimum(columns, tf.shape(starts)[1] - 1)

    def of_pieces(scores):
        found = tf.gather(tf.cast(scores, tf.float64), columns, batch_dims=1)
        return where(is_piece, found, np.float64(-np.inf))

    none = tf.cast(starts[:, 0] + ends[:, 0], tf.float64)
    ends = tf.pad(of_pieces(ends), [[0, 0], [0, most]], constant_values=-np.inf)
    places = tf.range(num_places)[:, tf.newaxis] + tf.range(most)  # [S, K]
    sums = of_pieces(starts)[:, :, tf.newaxis] + tf.gather(ends, places, axis=1)  # [B, S, K]
    sums = tf.reshape(sums, [-1, num_places * most])
    best, place = tf.reduce_max(sums, axis=1), tf.argmax(sums, axis=1, output_type=tf.int32)
    is_none = tf.equal(lengths, 0)
    if rules.allow_no_answer:
        is_none |= none - best > rules.no_answer_threshold
    last = place // most + place % most
    begin = where(is_none, NOWHERE, tf.gather(begins, place // most, batch_dims=1))
    end = where(is_none, NOWHERE, tf.gather(char_ends, last, batch_dims=1))
    return {
        "begin": begin,
        "end": end,
        "text": _parts_of(contexts, tf.maximum(begin, 0), tf.maximum(end, 0)),
        "score": tf.cast(where(is_none, none, best), tf.float32),
    }


def _parts_of(texts, begin, end):
    """Return the characters [begin, end) of each text; bytes that are not UTF-8 are replaced."""
    whole = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.substr(whole, begin, end - begin, unit="UTF8_CHAR")
