"""Turns text into pieces and ids; every piece has its span in the original text.

Other modules use `FullTokenizer`. This class works with a WordPiece vocabulary (the `vocab.txt` of
every published Chinese ALBERT) or with a SentencePiece model:

    tokenizer = FullTokenizer("albert_config/vocab.txt")
    tokenizer.tokenize_with_offsets("ALBERT在2019年")
        # ["al", "##bert", "在", "2019", "年"], [(0, 2), (2, 6), (6, 7), (7, 11), (11, 12)]

Two small classes specify WordPiece: `BasicTokenizer` (text to words) and `WordpieceTokenizer`
(word to pieces). `WordpieceEncoder` returns the same pieces many times faster.

Google's BERT and ALBERT and `tokenizers.BertWordPieceTokenizer` make the same pieces; "Vocabulary"
in docs/data_formats.md lists every difference.
"""

import collections
import functools
import re
import unicodedata
from typing import NamedTuple

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_pb2

from common import file_types, files
from common.errors import UserError

PAD, UNK, CLS, SEP, MASK = MARKERS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

MAX_WORD_LENGTH = 200  # characters, as in Google's BERT and ALBERT; a longer word is [UNK]


class Encoding(NamedTuple):
    """Pieces of a text: arrays of int32 [n]; piece i is text[begins[i]:ends[i]] normalized."""

    ids: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


class FullTokenizer:
    """Turns text into pieces and ids, with WordPiece or SentencePiece.

    Args:
        vocab_file: path of a WordPiece vocabulary, one piece a line; not read if
            `spm_model_file` is given.
        do_lower_case: bool, whether to lower-case the text and strip its accents.
        spm_model_file: path of a SentencePiece model, or None.

    Attributes:
        vocab: OrderedDict, piece to id, in the order of the ids.
        inv_vocab: dict, id to piece.
        basic_tokenizer: `BasicTokenizer` that makes the words; None for a SentencePiece model.

    Raises:
        UserError: when the file is missing or is not a vocabulary of the expected kind.
    """

    def __init__(self, vocab_file, do_lower_case=True, spm_model_file=None):
        self.basic_tokenizer = None if spm_model_file else BasicTokenizer(do_lower_case)
        if spm_model_file:
            self._encoder = SentencePieceEncoder(spm_model_file, do_lower_case)
        elif not vocab_file:
            raise UserError("no vocabulary: give vocab_file or spm_model_file")
        else:
            self._encoder = WordpieceEncoder(load_vocab(vocab_file), do_lower_case)
        self.vocab = self._encoder.vocab
        self.inv_vocab = {i: piece for piece, i in self.vocab.items()}

    def encode(self, text):
        """Return the `Encoding` of a str.

        One call for a document of many lines is much faster than a call for each line; no piece
        crosses the end of a line.
        """
        return self._encoder.encode(text)

    def encode_all(self, texts):
        """Encode many texts at once: the same results as one by one, much faster.

            encode_all(["天地", "", "人"]) == (ids of 天 地 人, [2, 0, 1])

        Args:
            texts: list of str, which may contain line ends.

        Returns:
            (ids, counts): int32 [all pieces], text after text, and int64 [texts], the number of
            pieces of each text.
        """
        return self._encoder.encode_all(texts)

    def tokenize(self, text):
        """Return the pieces of a text, a list of str."""
        return self.convert_ids_to_tokens(self.encode(text).ids.tolist())

    def tokenize_with_offsets(self, text):
        """Return (pieces, spans): list of str and list of half-open (begin, end) in `text`.

        A span covers the characters of the piece that normalization keeps: for "e" + U+0301 it is
        the span of "e". Spans never go backwards. Pieces of one character (a Hangul syllable) have
        equal spans.
        """
        ids, begins, ends = self.encode(text)
        return (
            self.convert_ids_to_tokens(ids.tolist()),
            list(zip(begins.tolist(), ends.tolist())),
        )

    def convert_tokens_to_ids(self, tokens):
        """Return the ids of pieces, a list of int; KeyError for a str that is not a piece."""
        return [self.vocab[token] for token in tokens]

    def convert_ids_to_tokens(self, ids):
        """Return the pieces of ids, a list of str; KeyError for an int that is not an id."""
        return [self.inv_vocab[i] for i in ids]


def load_vocab(path):
    """Read a WordPiece vocabulary: UTF-8, one piece a line, the first has id 0.

    Args:
        path: str or path.

    Returns:
        OrderedDict, piece to id.

    Raises:
        UserError: when the file is missing, UTF-16, binary or empty, has an empty row or a piece
            twice, or lacks one of [PAD], [UNK], [CLS], [SEP], [MASK].
    """
    content = _read(str(path)).rstrip(b"\r\n")
    conversion = file_types.conversion(path, content)
    if conversion:
        raise UserError("vocabulary {}".format(conversion))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    is_scored = re.match(r"[^\t\n]+\t-?[\d.]+\r?\n", text)  # 30k-clean.vocab has scores
    if "\0" in text or file_types.is_binary(content) or is_scored:
        problem = (
            "vocabulary {}: expected one piece a line, but this file {}; give a SentencePiece "
            "model with --spm_model_file, if the command has it"
        )
        raise UserError(problem.format(path, "has scores" if is_scored else "is binary"))
    if content and not text:
        mend = file_types.mend_utf8(content)
        raise UserError("vocabulary {}: not UTF-8 text; {}".format(path, mend))
    if not text:
        raise UserError("vocabulary {} is empty".format(path))
    pieces = [line.rstrip("\r") for line in text.split("\n")]  # U+2028 is a piece, no line end
    _check_markers(pieces, "vocabulary {}".format(path))
    vocab = collections.OrderedDict()
    for row, piece in enumerate(pieces, start=1):
        if not piece:
            raise UserError("vocabulary {}, row {}: empty".format(path, row))
        if piece in vocab:
            raise UserError(
                "vocabulary {}, row {}: {!r} is already in row {}".format(
                    path, row, piece, vocab[piece] + 1
                )
            )
        vocab[piece] = len(vocab)
    return vocab


def _read(path):
    files.check_readable(path)
    return files.read_bytes(path)


def _check_markers(vocab, where):
    missing = [marker for marker in MARKERS if marker not in vocab]
    if missing:
        raise UserError(
            "{} has no {}: expected the vocabulary of a BERT or ALBERT".format(
                where, ", ".join(missing)
            )
        )


class BasicTokenizer:
    """Splits text into words, character by character, as BERT specifies.

    Args:
        do_lower_case: bool, whether to lower-case and to strip accents.
    """

    def __init__(self, do_lower_case=True):
        self.do_lower_case = do_lower_case

    def tokenize(self, text):
        """Return the words of a text, a list of str."""
        return [word for word, _ in self.split(text)]

    def split(self, text):
        """Return the words as (word, sources): str and, for each character, its index in `text`.

        split("Né à2") == [("ne", [0, 1]), ("a2", [3, 4])]
        """
        words = []
        characters, sources = [], []
        for index, character in enumerate(text + " "):
            for normalized in self.normalize(character):
                if normalized != " ":
                    characters.append(normalized)
                    sources.append(index)
                elif characters:
                    words.append(("".join(characters), sources))
                    characters, sources = [], []
        return words

    def normalize(self, character):
        """Return the normalized form of one character, in which spaces separate words.

        "É" -> "e", "中" -> " 中 ", "," -> " , ", tab -> " ", control character -> "",
        U+2260 -> " = ". The result does not depend on the neighbours of the character.
        """
        return _normalize(character, self.do_lower_case)


@functools.lru_cache(maxsize=1 << 16)
def _normalize(character, do_lower_case):
    if character in "\t\n\r":
        return " "
    if _is_dropped(character):
        return ""
    if character.isspace():
        return " "
    is_chinese = _is_chinese(character)
    if do_lower_case:
        decomposed = unicodedata.normalize("NFD", character)
        character = "".join(c.lower() for c in decomposed if unicodedata.category(c) != "Mn")
    return "".join(" {} ".format(c) if is_chinese or _is_punctuation(c) else c for c in character)


def _is_dropped(character):
    # Cc control, Cf format, Cs surrogate. Private use (Co) and unassigned characters (Cn) are kept.
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Cs")


def _is_punctuation(character):
    # All of ASCII except letters, digits and space; Unicode calls some of it symbols, like "$".
    is_ascii_symbol = "!" <= character <= "~" and not character.isalnum()
    return is_ascii_symbol or unicodedata.category(character).startswith("P")


# First and last code points of the blocks of Chinese characters. The list lacks Hangul, Hiragana
# and Katakana, which are tokenized like other alphabets.
CHINESE_BLOCKS = (
    (0x3400, 0x4DBF),  # extension A
    (0x4E00, 0x9FFF),  # unified ideographs
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0x20000, 0x2A6DF),  # extension B
    (0x2A700, 0x2B73F),  # extension C
    (0x2B740, 0x2B81F),  # extension D
    (0x2B820, 0x2CEAF),  # extension E
    (0x2F800, 0x2FA1F),  # compatibility supplement
)


def _is_chinese(character):
    return any(first <= ord(character) <= last for first, last in CHINESE_BLOCKS)


class WordpieceTokenizer:
    """Splits a word into pieces: from left to right, the longest piece in the vocabulary each time.

    Args:
        vocab: set or dict of pieces; those that continue a word begin with "##".
    """

    def __init__(self, vocab):
        self._vocab = vocab

    def tokenize(self, word):
        """Return the pieces of a word, a list of str."""
        return [piece for piece, _, _ in self.split(word)]

    def split(self, word):
        """Return the pieces as (piece, begin, end); the whole word is [UNK] if a part is unknown.

        split("albert") == [("al", 0, 2), ("##bert", 2, 6)]
        """
        unknown = [(UNK, 0, len(word))]
        if len(word) > MAX_WORD_LENGTH:
            return unknown
        pieces = []
        begin = 0
        while begin < len(word):
            prefix = "##" if begin else ""
            for end in range(len(word), begin, -1):
                piece = prefix + word[begin:end]
                if piece in self._vocab:
                    break
            else:
                return unknown
            pieces.append((piece, begin, end))
            begin = end
        return pieces


# Entries of WordpieceEncoder's table that are not the id of a piece.
_WORD, _SPACE, _UNSEEN = -1, -2, -3


class WordpieceEncoder:
    """`BasicTokenizer` and `WordpieceTokenizer` in one, for whole documents at a time.

    Most characters of a Chinese text (Chinese characters, punctuation) are words by themselves. A
    table from code points to ids converts such characters with a few numpy operations. A dictionary
    converts the stretches between such characters, mainly Latin words and numbers. `specified_rows`
    fills the table and the dictionary when a character or a stretch first occurs.

    Args:
        vocab: dict, piece to id.
        do_lower_case: bool.
    """

    def __init__(self, vocab, do_lower_case=True):
        self.vocab = vocab
        self._basic = BasicTokenizer(do_lower_case)
        self._wordpiece = WordpieceTokenizer(vocab)
        self._table = np.full(0x110000, _UNSEEN, np.int32)  # of all code points
        self._words = _WordCache(self.specified_rows)

    def specified_rows(self, text):
        """Return the rows (id, begin, end) of a text as int32 [n, 3], by the specification."""
        rows = []
        for word, sources in self._basic.split(text):
            for piece, begin, end in self._wordpiece.split(word):
                rows.append((self.vocab[piece], sources[begin], sources[end - 1] + 1))
        return np.array(rows, np.int32).reshape(-1, 3)

    def encode(self, text):
        """Return the `Encoding` of a str."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        entries = self._look_up(codes)
        singles = np.flatnonzero(entries >= 0).astype(np.int32)
        edges = np.flatnonzero(np.diff(entries == _WORD, prepend=False, append=False))
        begins, ends = edges[::2], edges[1::2]
        words = [self._words[text[b:e]] for b, e in zip(begins.tolist(), ends.tolist())]
        rows = np.concatenate([np.empty((0, 3), np.int32)] + words)
        counts = [len(word) for word in words]
        rows[:, 1:] += np.repeat(begins, counts)[:, np.newaxis]
        places = np.repeat(singles.searchsorted(begins), counts)
        columns = zip((entries.take(singles), singles, singles + 1), rows.T)
        return Encoding(*(np.insert(single, places, word) for single, word in columns))

    def encode_all(self, texts):
        """Return (ids, counts), see `FullTokenizer.encode_all`."""
        ids, begins, _ = self.encode("\n".join(texts))
        ends = np.cumsum([len(text) + 1 for text in texts])
        return ids, np.diff(np.searchsorted(begins, ends), prepend=0)

    def _look_up(self, codes):
        entries = self._table.take(codes)
        unseen = entries == _UNSEEN
        if unseen.any():
            for code in set(codes[unseen].tolist()):
                self._table[code] = self._classify(chr(code))
            entries = self._table[codes]
        return entries

    def _classify(self, character):
        normalized = self._basic.normalize(character)
        if normalized == " ":
            return _SPACE
        is_word_by_itself = normalized.startswith(" ") and len(normalized) == 3
        return self.specified_rows(character)[0, 0] if is_word_by_itself else _WORD


class _WordCache(dict):
    """Maps a stretch of text to its rows, and computes them when the stretch first occurs."""

    _MAX_SIZE = 1 << 17  # entries
    _MAX_LENGTH = 100  # characters; longer stretches hardly ever occur again

    def __init__(self, specified_rows):
        super().__init__()
        self._specified_rows = specified_rows

    def __missing__(self, text):
        if len(self) >= self._MAX_SIZE:
            self.clear()
        rows = self._specified_rows(text)
        if len(text) <= self._MAX_LENGTH:
            self[text] = rows
        return rows


class SentencePieceEncoder:
    """A SentencePiece model with the text normalization of Google's ALBERT.

    The text is decomposed (NFKD), its combining marks are removed, and it may be lower-cased. Where
    a piece ends in a digit and a comma, the comma becomes a piece of its own. Source:
    google-research/albert, tokenization.py, `preprocess_text` and `encode_pieces`.

    Args:
        path: str, of the model.
        do_lower_case: bool.

    Attributes:
        vocab: OrderedDict, piece to id; the model's <pad> and <unk> are named [PAD] and [UNK].

    Raises:
        UserError: when the file is missing, is not a SentencePiece model or lacks a marker.
    """

    def __init__(self, path, do_lower_case=True):
        self._do_lower_case = do_lower_case
        self._model = _load_sentencepiece(path)
        pieces = [self._model.id_to_piece(i) for i in range(self._model.get_piece_size())]
        for marker, i in ((PAD, self._model.pad_id()), (UNK, self._model.unk_id())):
            if i >= 0 and marker not in pieces:
                pieces[i] = marker
        self.vocab = collections.OrderedDict((piece, i) for i, piece in enumerate(pieces))
        _check_markers(self.vocab, "SentencePiece model {}".format(path))

    def encode(self, text):
        """Return the `Encoding` of a str; the piece of a mere word space has an empty span."""
        normalized, sources = self._normalize(text)
        # SentencePiece counts in bytes of UTF-8.
        sources = [i for c, i in zip(normalized, sources) for _ in c.encode("utf-8")]
        rows = []
        for piece, begin, end in self._split(normalized):
            if begin < end:
                rows.append((piece, sources[begin], sources[end - 1] + 1))
            else:
                here = sources[end] if end < len(sources) else len(text)
                rows.append((piece, here, here))
        return Encoding(*np.array(rows, np.int32).reshape(-1, 3).T)

    def encode_all(self, texts):
        """Return (ids, counts), see `FullTokenizer.encode_all`.

        Texts are encoded one by one, since the pieces of a text may depend on all of it.
        """
        ids = [self.encode(text).ids for text in texts]
        counts = np.array([len(part) for part in ids], np.int64)
        return np.concatenate([np.empty(0, np.int32)] + ids), counts

    def _normalize(self, text):
        """Return (normalized, sources): str and, for each character, its index in `text`."""
        characters, sources = [], []
        for index, character in enumerate(text):
            for c in unicodedata.normalize("NFKD", character):
                c = " " if c.isspace() else c
                is_extra_space = c == " " and characters[-1:] in ([], [" "])
                is_dropped = unicodedata.combining(c) or unicodedata.category(c) == "Cs"
                if not is_extra_space and not is_dropped:
                    characters.append(c)
                    sources.append(index)
        normalized = "".join(characters).rstrip()
        # Lower case changes no length: NFKD has decomposed U+0130, the only exception.
        return normalized.lower() if self._do_lower_case else normalized, sources

    def _split(self, text):
        """Yield (id, begin, end) of the pieces of a normalized text, without leading spaces."""
        for piece in self._parse(text):
            word = piece.surface.lstrip()
            begin = piece.end - len(word.encode("utf-8"))
            if word[-1:] == "," and word[-2:-1].isdigit():
                is_word_start = piece.piece.startswith(_SPACE_MARK)
                for i, sub_begin, sub_end in self._split_number(word[:-1], is_word_start):
                    yield i, begin + sub_begin, begin + sub_end
                yield self._model.piece_to_id(","), piece.end - 1, piece.end
            else:
                yield piece.id, begin, piece.end

    def _split_number(self, number, is_word_start):
        for piece in self._parse(number):
            if is_word_start or not piece.piece.startswith(_SPACE_MARK):
                yield piece.id, piece.begin, piece.end
            elif piece.piece != _SPACE_MARK:
                without_mark = self._model.piece_to_id(piece.piece[len(_SPACE_MARK) :])
                yield without_mark, piece.begin, piece.end

    def _parse(self, text):
        serialized = self._model.encode(text, out_type="serialized_proto")
        return sentencepiece_pb2.SentencePieceText.FromString(serialized).pieces


_SPACE_MARK = "\u2581"


def _load_sentencepiece(path):
    model = sentencepiece.SentencePieceProcessor()
    content = _read(path)
    files.refuse_pointer(path)
    try:
        model.LoadFromSerializedProto(content)
    except RuntimeError as error:
        raise UserError(
            "SentencePiece model {}: expected a binary model file; give a vocabulary with one "
            "piece a line as vocab_file".format(path)
        ) from error
    return model
