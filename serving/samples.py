"""Texts on which exports are tried, and the predictor's outputs for them.

Dimension letters: B batch size, S length.
"""

import numpy as np

from finetuning_data import encoding, tasks
from kinds.choices import Choices
from kinds.entities import Entities
from kinds.spans import Spans
from serving import model_outputs

# Texts of all lengths, with characters that are difficult for a tokenizer.
SAMPLES = (
    ("怎么做红烧肉", "红烧肉的做法"),
    ("ALBERT在2019年", "Ｂ超、α波和naïve的café，①②③"),
    ("猫不吃饭", ""),
    ("天地玄黄，宇宙洪荒。" * 60, "日月盈昃，辰宿列张。" * 55),
    ("\u3000a\tb\u200b\ufeff한국어 𠀀" + "x" * 101, "[MASK][SEP]\r\n"),
)
# Rows of context, question and choices, also difficult for a tokenizer.
QUESTIONS = (
    (SAMPLES[0][0], "做什么？", ("红烧肉", "鱼", "ALBERT在2019年")),
    (SAMPLES[3][0] + SAMPLES[3][1], "天地是什么颜色？" * 9, ("玄黄", "洪荒" * 80)),
    (SAMPLES[1][1], "Ｂ超", ("α波", "①②③", SAMPLES[4][0], "x")),
)
# Kind of task -> its computation, and the texts that it takes.
COMPUTATIONS = {
    Choices: ("choose", ("context", "question", "choices")),
    Entities: ("find_entities", ("text",)),
    Spans: ("answer", ("question", "context")),
}
FIELDS = dict(COMPUTATIONS.values())
MASKED_SAMPLES = ("[MASK]京是中国的首[MASK]。", "没有空", "天[MASK]地" * 300, "")


def text_fields(model, computation):
    """Return the names of the texts that a computation takes: two if it classifies pairs."""
    if computation in FIELDS:
        return FIELDS[computation]
    is_pair = computation == "classify" and len(model.task.fields) == 3
    return ("text_a", "text_b") if is_pair else ("text",)


def default_computation(model):
    """Return the computation that every export has: `classify`, `embed` or one of FIELDS."""
    if model.num_labels is not None:
        return "classify"
    return COMPUTATIONS.get(type(model.kind), ("embed",))[0]


def samples(model, computation):
    """Return the texts, pairs or questions on which a computation is tried: a list of tuples."""
    if computation == "choose":
        if model.task.is_cloze:
            return [("天#idiom1#地，#idiom2#。", "#idiom2#", ("一心一意", "三心二意"))]
        return list(QUESTIONS)
    return [row[: len(text_fields(model, computation))] for row in SAMPLES]


def id_feeds(model, computation, rows):
    """Return a dict of `input_ids`, `input_mask` and `segment_ids`, int32 [B, S], of texts.

    For `choose` they are [B, C, S], of questions.
    """
    if computation in FIELDS:
        examples = examples_of(model, computation, rows)
        encoded = model.kind.encode(examples, model.task, model.tokenizer, model.settings)
    else:
        examples = [tasks.Example("", *row) for row in rows]
        encoded = encoding.encode_examples(examples, (), model.tokenizer, model.max_seq_length)
    return model_outputs.padded_rows(encoded, np.arange(encoded.num_rows))


def differences(model, computation, outputs, rows):
    """Return the largest difference of each output from the predictor's.

    Args:
        model: `predictor.Predictor`.
        computation: `classify`, `embed` or one of FIELDS.
        outputs: dict of name to array, of an export.
        rows: list of tuples, the texts.

    Returns:
        dict of name to float; infinity where an output is NaN.
    """
    if computation == "classify":
        expected = {"probabilities": model.probabilities(rows)}
    elif computation == "choose":
        examples = examples_of(model, computation, rows)
        expected = {"probabilities": model.decode(examples).probabilities}
    elif computation in FIELDS:
        encoded, expected = model.outputs(examples_of(model, computation, rows))
        rows_of_all = np.arange(encoded.num_rows)
        is_piece = model_outputs.padded_rows(encoded, rows_of_all)["input_mask"] != 0  # [B, S]
        expected = {name: _of_pieces(array, is_piece) for name, array in expected.items()}
        # Scores have any size: their differences are relative to the largest.
        scales = {name: max(1.0, np.abs(array).max()) for name, array in expected.items()}
        outputs, expected = (
            {name: _of_pieces(arrays[name], is_piece) / scales[name] for name in scales}
            for arrays in (outputs, expected)
        )
    else:
        expected = {pooling: model.embed(rows, pooling) for pooling in model.poolings}
    return {
        name: float(np.nan_to_num(np.abs(outputs[name] - array), nan=np.inf).max())
        for name, array in expected.items()
    }


def examples_of(model, computation, rows):
    """Return the examples that a model's kind of task makes of rows of texts."""
    return [
        model.kind.example(model.task, row[0] if len(FIELDS[computation]) == 1 else row)
        for row in rows
    ]


def _of_pieces(array, is_piece):
    """Return the values of an output [B, S, ...] at pieces; return any other output as it is."""
    return array[is_piece] if np.shape(array)[:2] == is_piece.shape else array


def text_feeds(model, computation, rows):
    """Return a dict of the texts of rows as a saved model takes them, in UTF-8."""
    fields = text_fields(model, computation)
    columns = [[_utf8(value) for value in column] for column in zip(*rows)]
    if computation == "choose":
        most = max(map(len, columns[2]))
        columns[2] = [texts + [b""] * (most - len(texts)) for texts in columns[2]]
    return dict(zip(fields, columns))


def _utf8(value):
    return value.encode("utf-8") if isinstance(value, str) else list(map(_utf8, value))
