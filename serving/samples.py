"""Texts on which exports are tried, and the predictor's outputs for them.

Dimension letters: B batch size, S length.
"""

import numpy as np

from finetuning_data import encoding, tasks
from serving import predictor

# Texts of all lengths, with characters that are difficult for a tokenizer.
SAMPLES = (
    ("怎么做红烧肉", "红烧肉的做法"),
    ("ALBERT在2019年", "Ｂ超、α波和naïve的café，①②③"),
    ("猫不吃饭", ""),
    ("天地玄黄，宇宙洪荒。" * 60, "日月盈昃，辰宿列张。" * 55),
    ("\u3000a\tb\u200b\ufeff한국어 𠀀" + "x" * 101, "[MASK][SEP]\r\n"),
)
MASKED_SAMPLES = ("[MASK]京是中国的首[MASK]。", "没有空", "天[MASK]地" * 300, "")


def text_fields(model, kind):
    """Return the names of the texts that a computation takes: two if it classifies pairs."""
    is_pair = kind == "classify" and len(model.task.fields) == 3
    return ("text_a", "text_b") if is_pair else ("text",)


def default_kind(model):
    """Return the computation that every export has: `classify` or `embed`."""
    return "classify" if model.task else "embed"


def samples(model, kind):
    """Return the texts, or pairs, on which a computation is tried: a list of tuples."""
    return [row[: len(text_fields(model, kind))] for row in SAMPLES]


def id_feeds(model, rows):
    """Return a dict of `input_ids`, `input_mask` and `segment_ids`, int32 [B, S], of texts."""
    examples = [tasks.Example("", *row) for row in rows]
    encoded = encoding.encode_examples(examples, (), model.tokenizer, model.max_seq_length)
    return dict(zip(predictor.INPUTS, predictor.padded_batch(encoded, np.arange(len(rows)))))


def differences(model, kind, outputs, rows):
    """Return the largest difference of each output from the predictor's.

    Args:
        model: `predictor.Predictor`.
        kind: `classify` or `embed`.
        outputs: dict of name to array, of an export.
        rows: list of tuples, the texts.

    Returns:
        dict of name to float; infinity where an output is NaN.
    """
    if kind == "classify":
        expected = {"probabilities": model.probabilities(rows)}
    else:
        expected = {pooling: model.embed(rows, pooling) for pooling in predictor.POOLINGS}
    return {
        name: float(np.nan_to_num(np.abs(outputs[name] - array), nan=np.inf).max())
        for name, array in expected.items()
    }


def masked_feeds(model, texts):
    """Return the feeds of texts in which "[MASK]" stands for that piece: a dict as `id_feeds`."""
    return dict(zip(predictor.INPUTS, model.masked_batch(texts)))
