"""Turns text into pieces inside a TensorFlow graph, exactly as `tokenization.FullTokenizer` does.

Served models take raw text with these ops. `BasicTokenizer.normalize` treats each character alone,
so a table holds its result for every code point. TensorFlow Text cuts the resulting words into
pieces. TensorFlow's own normalization is not used, because it follows another version of Unicode
than Python.

Dimension letters: B texts, S longest of a batch.
"""

import functools
import importlib

import numpy as np
import tensorflow.compat.v1 as tf

from common.errors import UserError
from tokenization import CLS, MASK, MAX_WORD_LENGTH, SEP, UNK, BasicTokenizer

# TensorFlow Text counts bytes; a character has at most four.
MAX_WORD_BYTES = 4 * MAX_WORD_LENGTH
CODE_POINTS, PAGE = 0x110000, 256
# Entries of the table: the character is kept, or is a word alone. Higher entries are indexes, plus
# _FIRST_OTHER, of the list of other replacements.
_KEPT, _ALONE, _FIRST_OTHER = 0, 1, 2


class GraphTokenizer:
    """The ops of one graph that turn texts into pieces.

    Args:
        tokenizer: `tokenization.FullTokenizer` of a WordPiece vocabulary.
        vocabulary: str, a file of its pieces, one a line, which becomes an asset of the graph.

    Raises:
        UserError: for a SentencePiece model.
    """

    def __init__(self, tokenizer, vocabulary):
        if tokenizer.basic_tokenizer is None:
            raise UserError(
                "raw text needs a WordPiece vocabulary and this model has SentencePiece: give "
                "--raw_text=False, and ids to the exported model"
            )
        index = tf.lookup.TextFileIndex
        lines = tf.lookup.TextFileInitializer(
            vocabulary, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
        )
        table = tf.lookup.StaticVocabularyTable(lines, num_oov_buckets=1)
        text = importlib.import_module("tensorflow_text")  # which registers its ops
        self._wordpiece = text.WordpieceTokenizer(
            table, max_bytes_per_word=MAX_WORD_BYTES, unknown_token=UNK
        )
        self._ids = {marker: tokenizer.vocab[marker] for marker in (CLS, SEP)}
        arrays = _replacement_arrays(tokenizer.basic_tokenizer.do_lower_case)
        self._table = [tf.constant(array) for array in arrays]

    def pieces(self, texts, with_masks=False):
        """Turn texts into pieces.

        Args:
            texts: string [B], UTF-8; invalid bytes are dropped.
            with_masks: bool, whether "[MASK]" in a text stands for that piece.

        Returns:
            `tf.RaggedTensor`, int32 [B, (pieces)].
        """
        if with_masks:
            parts = tf.compat.v2.strings.split(texts, MASK)
            # A blank comes first, because a join puts no separator behind an empty first string.
            parts = parts.with_values(tf.strings.join([" ", self._normalized(parts.values)]))
            # No other word can be "[MASK]": normalization has separated brackets from letters.
            texts = tf.strings.reduce_join(parts, axis=-1, separator=" {} ".format(MASK))
        else:
            texts = self._normalized(texts)
        words = tf.compat.v2.strings.split(texts)
        is_long = tf.strings.length(words.values, unit="UTF8_CHAR") > MAX_WORD_LENGTH
        unknown = tf.fill(tf.shape(words.values), UNK)
        words = words.with_values(tf.where(is_long, unknown, words.values))
        return tf.cast(self._wordpiece.tokenize(words).merge_dims(1, 2), tf.int32)

    def _normalized(self, texts):
        """Return string [B]: the words of each text with spaces between them."""
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        pages, places, others = self._table
        page = tf.gather(places, codes.values // PAGE)
        entries = tf.cast(tf.gather_nd(pages, tf.stack([page, codes.values % PAGE], 1)), tf.int32)
        characters = tf.strings.unicode_encode(codes.values[:, tf.newaxis], "UTF-8")
        other = tf.gather(others, tf.maximum(entries - _FIRST_OTHER, 0))
        alone = tf.strings.join([" ", characters, " "])
        changed = tf.where(tf.equal(entries, _ALONE), alone, other)
        changed = tf.where(tf.equal(entries, _KEPT), characters, changed)
        return tf.strings.reduce_join(codes.with_values(changed), axis=-1)

    def inputs(self, texts, max_seq_length, with_masks=False):
        """Turn texts or pairs into a model's inputs, as `encoding.encode_examples` does.

        Args:
            texts: list of one or two tensors, string [B].
            max_seq_length: int, most pieces; the longer text of a pair is cut first.
            with_masks: bool, as in `pieces`.

        Returns:
            List of `input_ids`, `input_mask` and `segment_ids`, int32 [B, S].
        """
        parts = [self.pieces(text, with_masks) for text in texts]
        room = max_seq_length - 1 - len(parts)
        lengths = [tf.cast(part.row_lengths(), tf.int32) for part in parts]
        kept = [tf.minimum(lengths[0], room)]
        if len(parts) == 2:  # as in `encoding.truncated_lengths`
            kept = [tf.minimum(lengths[0], tf.maximum(room - lengths[1], (room + 1) // 2))]
            kept.append(tf.minimum(lengths[1], room - kept[0]))
        column = tf.ones_like(lengths[0])[:, tf.newaxis]  # [B, 1]
        row = [self._ids[CLS] * column]
        for part, length in zip(parts, kept):
            row += [_cut(part, length), self._ids[SEP] * column]
        ids = tf.concat(row, axis=1)
        width = tf.cast(ids.bounding_shape(axis=1), tf.int32)
        mask = tf.sequence_mask(ids.row_lengths(), width, tf.int32)
        # A single text has no second segment.
        first = tf.sequence_mask(kept[0] + 2, width, tf.int32) if len(parts) == 2 else mask
        return [ids.to_tensor(), mask, mask - first]

    def question_inputs(self, contexts, questions, choices, max_seq_length):
        """Turn questions into a model's inputs, as `choices.encode_question` does.

        Args:
            contexts, questions: string [B].
            choices: string [B, C], "" behind the last choice of a question.
            max_seq_length: int, most pieces; the longest of three texts is cut first.

        Returns:
            List of `input_ids`, `input_mask` and `segment_ids`, int32 [B, C, S].
        """
        shape = tf.shape(choices)
        row = tf.repeat(tf.range(shape[0]), shape[1])  # [B*C]
        texts = [tf.gather(contexts, row), tf.gather(questions, row), tf.reshape(choices, [-1])]
        parts = [self.pieces(text) for text in texts]
        lengths = tf.stack([tf.cast(part.row_lengths(), tf.int32) for part in parts], axis=1)
        kept = truncated(lengths, max_seq_length - 4)  # [B*C, 3]
        context, question, choice = (_cut(part, kept[:, i]) for i, part in enumerate(parts))
        column = tf.ones_like(lengths[:, :1])
        cls, sep = self._ids[CLS] * column, self._ids[SEP] * column
        ids = tf.concat([cls, context, sep, choice, sep, question, sep], axis=1)
        width = tf.cast(ids.bounding_shape(axis=1), tf.int32)
        is_choice = tf.cast(tf.not_equal(texts[2], ""), tf.int32)[:, tf.newaxis]
        mask = tf.sequence_mask(ids.row_lengths(), width, tf.int32) * is_choice
        second = mask - tf.sequence_mask(kept[:, 0] + 2, width, tf.int32) * is_choice
        shape = tf.concat([shape, [width]], axis=0)
        return [tf.reshape(tensor, shape) for tensor in (ids.to_tensor() * mask, mask, second)]


def truncated(lengths, room):
    """Cut texts to `room` pieces in all, as `choices.truncated` does, for int32 [B, texts].

    All texts that are longer keep the same number t of pieces, or t + 1: the last ones of them, for
    of equally long texts the first loses its last piece first.
    """
    levels = tf.range(room + 1)  # t
    sums = tf.reduce_sum(tf.minimum(lengths[:, :, tf.newaxis], levels), axis=1)  # [B, room + 1]
    fits = tf.cast(sums <= room, tf.int32)
    level = tf.reduce_sum(fits, axis=1, keepdims=True) - 1  # [B, 1], the greatest that fits
    kept = tf.minimum(lengths, level)
    is_longer = tf.cast(lengths > level, tf.int32)
    left = room - tf.reduce_sum(kept, axis=1, keepdims=True)  # pieces that there is room for
    behind = tf.cumsum(is_longer, axis=1, exclusive=True, reverse=True)  # longer texts behind
    return kept + is_longer * tf.cast(behind < left, tf.int32)


@functools.lru_cache(maxsize=None)
def _replacement_arrays(do_lower_case):
    """Return (pages, places, others), the table of all code points; equal pages are stored once."""
    normalize = BasicTokenizer(do_lower_case).normalize
    others, numbers = [], {}
    entries = np.empty(CODE_POINTS, np.int16)
    for code in range(CODE_POINTS):
        character = chr(code)
        normalized = normalize(character)
        if normalized == character != " ":
            entries[code] = _KEPT
        elif normalized == " {} ".format(character):
            entries[code] = _ALONE
        else:
            if normalized not in numbers:
                numbers[normalized] = len(others) + _FIRST_OTHER
                others.append(normalized)
            entries[code] = numbers[normalized]
    pages, places = np.unique(entries.reshape(-1, PAGE), axis=0, return_inverse=True)
    others = np.array([other.encode("utf-8") for other in others], object)
    return pages, places.astype(np.int32), others


def _cut(pieces, lengths):
    """Return the first pieces of each row; `lengths`, int32 [B], says how many."""
    places = tf.ragged.range(tf.cast(pieces.row_lengths(), tf.int32))
    return tf.ragged.boolean_mask(pieces, places < lengths[:, tf.newaxis])
