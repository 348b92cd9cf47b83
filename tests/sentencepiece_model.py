"""A small SentencePiece model."""

import io

import sentencepiece
from conftest import ROOT


def train_sentencepiece(path, control_symbols, remove_extra_whitespaces=True):
    """Write a small model, with numbers that end in a comma among its pieces."""
    chinese = (ROOT / "data" / "news_zh_1.txt").read_text(encoding="utf-8").split()[:100]
    english = [
        "In 2019, the model had {}, then {},{} shared layers, not {}.".format(i, i % 9, i, i % 10)
        for i in range(1000, 1300)
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(chinese + english),
        model_writer=model,
        vocab_size=1500,
        hard_vocab_limit=False,
        remove_extra_whitespaces=remove_extra_whitespaces,
        character_coverage=1.0,
        split_by_number=False,
        split_by_unicode_script=False,
        control_symbols=control_symbols,
        user_defined_symbols=["7,", "\u25812019,"],
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return str(path)
