"""Makes a model's inputs of pieces inside a TensorFlow graph, as `Kind.encode` does outside.

Every function returns `input_ids`, `input_mask` and `segment_ids`, int32 [B, S] or [B, C, S].

Dimension letters: B texts, C choices, S longest of a batch.
"""

import tensorflow.compat.v1 as tf
from tensorflow.compat import v2 as tf2

from kinds.choices import BLANK_LENGTH, BLANK_PIECE
from tokenization import CLS, MASK, SEP

_MARK = r"#idiom(\p{Nd}+)#"  # `choice_files.BLANK` with its number
_EDGE = "\1"  # put before and after the number of a blank; normalization drops it from texts
_NO_ID = -1
NO_BLANK = "a question is not a blank of its context, such as #idiom000001#"


def of_texts(parts, max_seq_length, vocab):
    """Make the inputs of texts or pairs, as `encoding.encode_examples` does.

    Args:
        parts: list of one or two `tf.RaggedTensor`, int32 [B, (pieces)].
        max_seq_length: int, most pieces; the longer text of a pair is cut first.
        vocab: dict of piece to id.
    """
    room = max_seq_length - 1 - len(parts)
    lengths = list(map(lengths_of, parts))
    kept = [tf.minimum(lengths[0], room)]
    if len(parts) == 2:  # as in `encoding.truncated_lengths`
        kept = [tf.minimum(lengths[0], tf.maximum(room - lengths[1], (room + 1) // 2))]
        kept.append(tf.minimum(lengths[1], room - kept[0]))
    ids = joined([cut(part, length) for part, length in zip(parts, kept)], vocab)
    return inputs_of(ids, kept[0] + 2)


def of_questions(parts, is_choice, max_seq_length, vocab):
    """Make the inputs of questions, as `choices.encode_question` does.

    Args:
        parts: list of `tf.RaggedTensor`, int32 [B*C, (pieces)]: contexts, questions, choices.
        is_choice: bool [B, C].
        max_seq_length: int, most pieces; the longest of the three texts is cut first.
        vocab: dict of piece to id.
    """
    lengths = tf.stack(list(map(lengths_of, parts)), axis=1)
    kept = truncated(lengths, max_seq_length - 4)  # [B*C, 3]
    context, question, choice = (cut(part, kept[:, i]) for i, part in enumerate(parts))
    ids = joined([context, choice, question], vocab)
    return _of_choices(ids, kept[:, 0] + 2, is_choice)


def of_blanks(contexts, marks, choices, is_choice, max_seq_length, tokenizer):
    """Make the inputs of the blanks of a cloze, as `choices.encode_blank` does.

    Args:
        contexts, marks: string [B]; a mark, such as "#idiom000001#", is in its context.
        choices: `tf.RaggedTensor`, int32 [B*C, (pieces)].
        is_choice: bool [B, C].
        max_seq_length: int, most pieces; the pieces around the blank are kept.
        tokenizer: `graph_tokenizer.GraphTokenizer`.
    """
    shape, vocab = tf.shape(is_choice), tokenizer.vocab
    lengths = tf.minimum(lengths_of(choices), max_seq_length - 4)  # [B*C]
    longest = tf.reduce_max(tf.reshape(lengths, shape), axis=1)  # [B]
    text = _around_blank(contexts, marks, max_seq_length - 4 - longest, tokenizer)
    row = tf.repeat(tf.range(shape[0]), shape[1])  # [B*C]
    ids = joined([cut(choices, lengths), tf.gather(text, row)], vocab)
    return _of_choices(ids, lengths_of(ids), is_choice)


def _around_blank(contexts, marks, room, tokenizer):
    """Return the ids of contexts around a blank: `tf.RaggedTensor`, int32 [B, (ids)].

    Args:
        contexts, marks, tokenizer: as in `of_blanks`.
        room: int32 [B], most pieces beside the blank.
    """
    vocab, where = tokenizer.vocab, tf2.where  # `where` of TensorFlow 2 takes scalars.
    parts, is_mark, is_asked = _split_at_marks(contexts, marks)
    # Ids that come before each part.
    counts = where(is_asked, 1, BLANK_LENGTH * tf.cast(is_mark, tf.int32))
    counts = tf.cast(counts, tf.int64)
    fillers = tf.repeat(where(is_asked, _NO_ID, vocab[MASK]), counts)
    texts = parts.with_values(where(is_mark, "", parts.values))
    ids = tokenizer.encode_parts(texts, tf.RaggedTensor.from_row_lengths(fillers, counts))
    place, is_blank = tf.ragged.range(lengths_of(ids)), tf.equal(ids.values, _NO_ID)
    left = tf.boolean_mask(place.values, is_blank)  # [B]
    right = lengths_of(ids) - left - 1
    kept_left = tf.minimum(left, tf.maximum(room // 2, room - right))  # as in `choices.window`
    first, last = left - kept_left, left + tf.minimum(right, room - kept_left)
    first, last = (tf.gather(edge, ids.value_rowids()) for edge in (first, last))
    is_kept = (place.values >= first) & (place.values <= last)
    blank = vocab.get(BLANK_PIECE, vocab[MASK])
    ids = ids.with_values(where(is_blank, blank, ids.values))
    return tf.ragged.boolean_mask(ids, ids.with_values(is_kept))


def _split_at_marks(contexts, marks):
    """Split contexts at the marks of their blanks.

    Args:
        contexts, marks: as in `of_blanks`.

    Returns:
        parts: `tf.RaggedTensor`, string [B, (parts)]; texts and numbers of blanks alternate.
        is_mark: bool [all parts], whether a part is the number of a blank.
        is_asked: bool [all parts], whether a part is the first number of the blank that the row's
            mark names.
    """
    contexts = tf.strings.regex_replace(contexts, _EDGE, "")
    contexts = tf.strings.regex_replace(contexts, _MARK, _EDGE + r"\1" + _EDGE)
    parts = tf2.strings.split(contexts, _EDGE)
    place = tf.ragged.range(parts.row_lengths())
    is_mark = tf.equal(place.values % 2, 1)
    found = tf.strings.join(["#idiom", parts.values, "#"])
    is_asked = is_mark & tf.equal(found, tf.gather(marks, parts.value_rowids()))
    nowhere = tf.fill(tf.shape(is_mark), tf.int64.max)
    first = tf.reduce_min(place.with_values(tf.where(is_asked, place.values, nowhere)), axis=1)
    check = tf.debugging.assert_less(first, tf.int64.max, message=NO_BLANK)
    with tf.control_dependencies([check]):
        first = tf.gather(first, parts.value_rowids())
    return parts, is_mark, tf.equal(place.values, first)


# ------------------------------------------------------------------------------------------ rows


def joined(parts, vocab):
    """Return [CLS] part [SEP] part [SEP] ...: `tf.RaggedTensor`, int32 [B, (S)]."""
    column = tf.ones_like(lengths_of(parts[0]))[:, tf.newaxis]  # [B, 1]
    row = [vocab[CLS] * column]
    for part in parts:
        row += [part, vocab[SEP] * column]
    return tf.concat(row, axis=1)


def inputs_of(ids, num_first):
    """Return [input_ids, input_mask, segment_ids] of rows of two segments, each int32 [B, S].

    Args:
        ids: `tf.RaggedTensor`, int32 [B, (S)].
        num_first: int32 [B], the pieces of the first segment.
    """
    mask = _first_places(lengths_of(ids), ids)
    return [ids.to_tensor(), mask, mask - _first_places(num_first, ids)]


def _of_choices(ids, num_first, is_choice):
    """Return the inputs of the choices of questions, int32 [B, C, S]; zeros for missing ones."""
    inputs = inputs_of(ids, num_first)
    is_row = tf.reshape(tf.cast(is_choice, tf.int32), [-1, 1])  # [B*C, 1]
    shape = tf.concat([tf.shape(is_choice), tf.shape(inputs[0])[1:]], axis=0)
    return [tf.reshape(tensor * is_row, shape) for tensor in inputs]


def truncated(lengths, room):
    """Cut texts to `room` pieces in all, as `choices.truncated` does, for int32 [B, texts].

    Texts of more than t pieces are cut to t, where t is the greatest number for which all fit. The
    last texts that are cut keep t + 1 pieces, if there is room: the first of equally long texts
    loses a piece first.
    """
    levels = tf.range(room + 1)  # t
    sums = tf.reduce_sum(tf.minimum(lengths[:, :, tf.newaxis], levels), axis=1)  # [B, room + 1]
    fits = tf.cast(sums <= room, tf.int32)
    level = tf.reduce_sum(fits, axis=1, keepdims=True) - 1  # [B, 1], the greatest that fits
    kept = tf.minimum(lengths, level)
    is_longer = tf.cast(lengths > level, tf.int32)
    left = room - tf.reduce_sum(kept, axis=1, keepdims=True)  # pieces that there is room for
    after = tf.cumsum(is_longer, axis=1, exclusive=True, reverse=True)  # longer texts after it
    return kept + is_longer * tf.cast(after < left, tf.int32)


def cut(pieces, lengths):
    """Return the first pieces of each row; `lengths`, int32 [B], says how many are kept."""
    places = tf.ragged.range(lengths_of(pieces))
    return tf.ragged.boolean_mask(pieces, places < lengths[:, tf.newaxis])


def first_pieces(pieces, room):
    """Return the first pieces of texts, and whether each text was kept whole.

    Args:
        pieces: `graph_tokenizer.Pieces`.
        room: int, or int32 [B], most pieces.

    Returns:
        (`Pieces`, bool [B]).
    """
    lengths = lengths_of(pieces.ids)
    kept = tf.minimum(lengths, room)
    return type(pieces)(*(cut(part, kept) for part in pieces)), tf.equal(kept, lengths)


def lengths_of(rows):
    """Return int32 [B], the lengths of the rows of a `tf.RaggedTensor`."""
    return tf.cast(rows.row_lengths(), tf.int32)


def _first_places(lengths, ids):
    """Return int32 [B, S], 1 for the first places of each row of `ids`."""
    return tf.sequence_mask(lengths, tf.cast(ids.bounding_shape(axis=1), tf.int32), tf.int32)
