"""Turns text into pieces inside a TensorFlow graph, exactly as `tokenization.FullTokenizer` does.

Served models take raw text with these ops. `BasicTokenizer.normalize` treats each character alone,
so a table holds its result for every code point. TensorFlow Text cuts the resulting words into
pieces. TensorFlow's own normalization is not used, because it follows another version of Unicode
than Python.

The span of a piece in its text follows from two facts. Words hold the bytes of all normalized
characters in their order, without the blanks. TensorFlow Text returns the bytes of each piece.

Dimension letters: B texts, N characters of all texts, P pieces of all texts.
"""

import functools
import importlib
import unicodedata
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.compat import v2 as tf2

from common.errors import UserError
from tokenization import CHINESE_BLOCKS, MASK, MAX_WORD_LENGTH, UNK, BasicTokenizer

# TensorFlow Text counts bytes; a character has at most four.
MAX_WORD_BYTES = 4 * MAX_WORD_LENGTH
CODE_POINTS, PAGE = 0x110000, 256
# Entries of the table: the character is kept, or is a word alone. A higher entry is _FIRST_OTHER
# plus an index of the list of other replacements. The first of these replacements drops a
# combining mark.
_KEPT, _ALONE, _FIRST_OTHER = 0, 1, 2
_DROPPED_MARK = _FIRST_OTHER


class Pieces(NamedTuple):
    """Pieces of texts: `tf.RaggedTensor`s, int32 [B, (pieces)].

    A piece covers the characters [begin, end) of its text. If combining marks follow that belong to
    no piece, it covers them too, see `kinds.pieces.with_marks`.
    """

    ids: tf.RaggedTensor
    begins: tf.RaggedTensor
    ends: tf.RaggedTensor


class GraphTokenizer:
    """The ops of one graph that turn texts into pieces.

    Args:
        tokenizer: `tokenization.FullTokenizer` of a WordPiece vocabulary.
        vocabulary: str, a file of the tokenizer's pieces; the file becomes an asset of the graph.

    Attributes:
        vocab: dict of piece to id.

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
        text = importlib.import_module("tensorflow_text")  # the import registers its ops
        self._wordpiece = text.WordpieceTokenizer(
            table, max_bytes_per_word=MAX_WORD_BYTES, unknown_token=UNK
        )
        self.vocab = tokenizer.vocab
        table = _replacements(tokenizer.basic_tokenizer.do_lower_case)
        self._table = _Replacements(*map(tf.constant, table))

    def encode(self, texts):
        """Return the `Pieces` of texts, string [B] in UTF-8; invalid bytes are dropped."""
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        entries = self._entries(codes.values)
        normalized, sizes = self._normalized(codes.values, entries)
        joined = tf.strings.reduce_join(codes.with_values(normalized), axis=-1)
        words = tf2.strings.split(joined)  # [B, (words)]
        is_long = tf.strings.length(words.values, unit="UTF8_CHAR") > MAX_WORD_LENGTH
        known = tf.where(is_long, tf.fill(tf.shape(is_long), UNK), words.values)
        ids, firsts, lasts = self._wordpiece.tokenize_with_offsets(known)  # [all words, (pieces)]
        word_sizes = tf.strings.length(words.values)
        word_begins = tf.cumsum(word_sizes, exclusive=True)
        word = ids.value_rowids()  # [P]
        size = tf.where(
            tf.gather(is_long, word), tf.gather(word_sizes, word), tf.cast(lasts.values, tf.int32)
        )
        sources = tf.repeat(tf.range(tf.size(sizes)), sizes)  # [bytes of all words]
        shift = tf.gather(word_begins, word)
        begins = tf.gather(sources, shift + tf.cast(firsts.values, tf.int32))  # [P]
        ends = tf.gather(sources, shift + size - 1) + 1
        splits = tf.gather(ids.row_splits, words.row_splits)  # of the pieces of each text
        ids = tf.RaggedTensor.from_row_splits(tf.cast(ids.values, tf.int32), splits)
        row_begins, row_ends = (
            tf.cast(tf.gather(edges, ids.value_rowids()), tf.int32)
            for edges in (codes.row_splits[:-1], codes.row_splits[1:])
        )
        ends = _with_marks(begins, ends, tf.equal(entries, _DROPPED_MARK))
        ends = tf.minimum(ends, row_ends)
        return Pieces(ids, *(ids.with_values(edges - row_begins) for edges in (begins, ends)))

    def encode_parts(self, parts, marks):
        """Return the ids of texts that are given in parts, with other ids before the parts.

        Args:
            parts: `tf.RaggedTensor`, string [B, (parts)].
            marks: `tf.RaggedTensor`, int32 [all parts, (ids)], the ids before each part.

        Returns:
            `tf.RaggedTensor`, int32 [B, (ids)].
        """
        ids = tf.concat([marks, self.encode(parts.values).ids], axis=1)  # [all parts, (ids)]
        splits = tf.gather(ids.row_splits, parts.row_splits)
        return tf.RaggedTensor.from_row_splits(ids.values, splits)

    def encode_with_masks(self, texts):
        """Return the ids, see `encode_parts`, of texts in which "[MASK]" stands for that piece."""
        parts = tf2.strings.split(texts, MASK)
        is_first = tf.equal(tf.ragged.range(parts.row_lengths()).values, 0)
        counts = 1 - tf.cast(is_first, tf.int64)  # of masks before a part
        masks = tf.fill([tf.reduce_sum(counts)], self.vocab[MASK])
        return self.encode_parts(parts, tf.RaggedTensor.from_row_lengths(masks, counts))

    def _entries(self, codes):
        """Return int32 [N], the table's entries of code points."""
        page = tf.gather(self._table.places, codes // PAGE)
        return tf.cast(tf.gather_nd(self._table.pages, tf.stack([page, codes % PAGE], 1)), tf.int32)

    def _normalized(self, codes, entries):
        """Return normalized characters, string [N], and the counts of their nonblank bytes."""
        characters = tf.strings.unicode_encode(codes[:, tf.newaxis], "UTF-8")
        index = tf.maximum(entries - _FIRST_OTHER, 0)
        alone = tf.strings.join([" ", characters, " "])
        others = tf.gather(self._table.others, index)
        changed = tf.where(tf.equal(entries, _ALONE), alone, others)
        is_other = entries >= _FIRST_OTHER
        other_sizes = tf.gather(self._table.sizes, index)
        sizes = tf.where(is_other, other_sizes, tf.strings.length(characters))
        return tf.where(tf.equal(entries, _KEPT), characters, changed), sizes


def _with_marks(begins, ends, is_mark):
    """Extend spans over the combining marks after them that no piece holds.

    Args:
        begins, ends: int32 [P], spans among all characters that never go backwards.
        is_mark: bool [N], whether a character is a mark that normalization drops.

    Returns:
        int32 [P], the new ends, which may lie after the end of a text.
    """
    is_other = tf.concat([tf.logical_not(is_mark), [True]], axis=0)  # [N + 1]
    others = tf.cast(tf.where(is_other)[:, 0], tf.int32)
    # The number of others before each character.
    number = tf.cumsum(tf.cast(is_other, tf.int32), exclusive=True)
    extended = tf.gather(others, tf.gather(number, ends))
    # Another piece may share the last character and go on after the mark. `last` is the index of
    # the last piece that begins before the end of each piece.
    begun = tf.math.unsorted_segment_sum(tf.ones_like(begins), begins, tf.size(is_other))
    last = tf.gather(tf.cumsum(begun, exclusive=True), ends) - 1
    return tf.where(tf.equal(tf.gather(ends, last), ends), extended, ends)


class _Replacements(NamedTuple):
    """The table of all code points: arrays, or tensors. Equal pages are stored once."""

    pages: np.ndarray  # int16 [pages, PAGE], entries
    places: np.ndarray  # int32 [CODE_POINTS / PAGE], index into `pages`
    others: np.ndarray  # bytes, other replacements
    sizes: np.ndarray  # int32, bytes of `others` that are not blanks


def _normalized_codes():
    """Return the code points that normalization may change, in their order.

    Normalization keeps private (Co) and unassigned (Cn) code points outside of Chinese blocks. Most
    code points are private or unassigned.
    """
    chinese = {code for first, last in CHINESE_BLOCKS for code in range(first, last + 1)}
    return [
        code
        for code in range(CODE_POINTS)
        if code in chinese or unicodedata.category(chr(code)) not in ("Co", "Cn")
    ]


@functools.lru_cache(maxsize=None)
def _replacements(do_lower_case):
    """Return the `_Replacements` of a tokenizer."""
    normalize = BasicTokenizer(do_lower_case).normalize
    others, numbers = [""], {}
    entries = np.full(CODE_POINTS, _KEPT, np.int16)
    for code in _normalized_codes():
        character = chr(code)
        normalized = normalize(character)
        if normalized == character != " ":
            entries[code] = _KEPT
        elif normalized == " {} ".format(character):
            entries[code] = _ALONE
        elif not normalized and unicodedata.category(character).startswith("M"):
            entries[code] = _DROPPED_MARK
        else:
            if normalized not in numbers:
                numbers[normalized] = len(others) + _FIRST_OTHER
                others.append(normalized)
            entries[code] = numbers[normalized]
    pages, places = np.unique(entries.reshape(-1, PAGE), axis=0, return_inverse=True)
    encoded = [other.encode("utf-8") for other in others]
    sizes = np.array([len(other.replace(b" ", b"")) for other in encoded], np.int32)
    return _Replacements(pages, places.astype(np.int32), np.array(encoded, object), sizes)
