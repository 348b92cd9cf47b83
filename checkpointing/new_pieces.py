"""New pieces of a vocabulary. With --allow_vocab_resize the old pieces keep their rows of weights.

A checkpoint stores no pieces, only one row of weights for each. So a longer vocabulary must begin
with the old one.
"""

import os

import numpy as np
from absl import logging

from checkpointing import model_files
from common import files
from common.errors import UserError

# The vocabulary of every published Chinese BERT and ALBERT.
PUBLISHED = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "albert_config", "vocab.txt"
)
WORD_TABLE = "bert/embeddings/word_embeddings"


def begins_with(pieces, vocab_file):
    """Return whether `pieces`, an iterable of str, begins with all pieces of a vocabulary file."""
    old = files.vocabulary_rows(vocab_file)
    return [piece.encode("utf-8") for piece in pieces][: len(old)] == old


def warn_of_unused(vocab_file, tokenizer):
    """Warn of pieces after the published vocabulary that the tokenizer never makes.

    Args:
        vocab_file: str, path of the vocabulary.
        tokenizer: `tokenization.FullTokenizer` of the vocabulary.
    """
    pieces = list(tokenizer.vocab)
    if not files.exists(PUBLISHED) or not begins_with(pieces, PUBLISHED):
        return
    new = pieces[len(files.vocabulary_rows(PUBLISHED)) :]
    unused = _unused(new, tokenizer)
    if unused:
        logging.warning(
            "UNUSED PIECES: %d of the %d new pieces of %s never occur in a text, such as %s, since "
            "the tokenizer divides this word into %s",
            len(unused),
            len(new),
            vocab_file,
            unused[0],
            " ".join(tokenizer.tokenize(unused[0])),
        )


def _unused(pieces, tokenizer):
    """Return the pieces that no text has; the tokenizer tries X as word X, and ##X as word aX."""
    words = ["a" + piece[2:] if piece.startswith("##") else piece for piece in pieces]
    ids, counts = tokenizer.encode_all(words)
    ends = np.cumsum(counts)
    made = [ids[end - count : end] for end, count in zip(ends.tolist(), counts.tolist())]
    return [
        piece for piece, of_word in zip(pieces, made) if not _is_made(tokenizer, piece, of_word)
    ]


def _is_made(tokenizer, piece, ids):
    """Return whether `ids`, the pieces of the word that `_unused` tried, have the piece's text."""
    if not piece.startswith("##"):
        return tokenizer.convert_ids_to_tokens(ids) == [piece]
    first, *others = tokenizer.convert_ids_to_tokens(ids)
    joined = first + "".join(other[2:] for other in others)
    return joined == "a" + piece[2:] and all(other.startswith("##") for other in others)


def check(vocab_file, prefix, num_pieces):
    """Check that a vocabulary begins with the pieces of a checkpoint that has fewer.

    Args:
        vocab_file: str, path of the WordPiece vocabulary.
        prefix: str, of the checkpoint. The old pieces are read from the vocab.txt beside the
            checkpoint, or else from the published vocabulary. If neither file has `num_pieces`
            pieces, nothing is checked.
        num_pieces: int, number of pieces of the checkpoint.

    Raises:
        UserError: names the first row that differs.
    """
    rows = files.vocabulary_rows(vocab_file)
    beside = model_files.find(prefix, model_files.WORDPIECE)
    # A clone of the repository has the file PUBLISHED, an installed package does not.
    known = [beside] * bool(beside) + [PUBLISHED] * files.exists(PUBLISHED)
    for path in known:
        old = files.vocabulary_rows(path)
        if len(old) == num_pieces:
            odd = [row for row, piece in enumerate(old) if rows[row : row + 1] != [piece]]
            if odd:
                raise UserError(
                    "{0}, row {1}: {2} has {3!r} there, whose weights that row would get: put "
                    "the new pieces after the last row of {2}".format(
                        vocab_file, odd[0] + 1, path, old[odd[0]].decode("utf-8", "replace")
                    )
                )
            return
