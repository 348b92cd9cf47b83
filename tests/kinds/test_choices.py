"""Multiple choice: sequences are as published; choices that a question lacks do not count."""

import types

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

import modeling
from finetuning import batching, model
from finetuning_data import choice_files, encoding
from finetuning_data.choice_files import TASKS, Question
from kinds import choices
from kinds.choices import NO_CHOICE, Choices, Predicted

KIND = Choices()
SETTINGS = types.SimpleNamespace(max_seq_length=16, classifier_dropout_prob=0.0)


def question(context, asked, *texts, answer=None, group=0):
    return Question("0", context, asked, texts, answer, group)


def encode(questions, tokenizer, length, task="choices"):
    settings = types.SimpleNamespace(max_seq_length=length)
    return KIND.encode(questions, TASKS[task], tokenizer, settings)


def sequences(encoded, tokenizer, row):
    """Return the pieces of every choice of a row, and its pieces in segment 0."""
    found = []
    for i in range(row * encoded.num_sequences, (row + 1) * encoded.num_sequences):
        ids = encoded.ids[encoded.begins[i] : encoded.begins[i + 1]].tolist()
        pieces = tokenizer.convert_ids_to_tokens(ids)
        found.append((" ".join(pieces), " ".join(pieces[: encoded.lengths_a[i]])))
    return found


def test_a_question_worked_by_hand(tokenizer):
    questions = [
        question("天冷。", "谁？", "男", "女的", answer=1),
        question("天", "地？", "人", "马", "牛"),
    ]
    found = encode(questions, tokenizer, 32)
    assert found.num_sequences == 3 and found.num_rows == 2
    assert sequences(found, tokenizer, 0) == [
        ("[CLS] 天 冷 。 [SEP] 男 [SEP] 谁 ？ [SEP]", "[CLS] 天 冷 。 [SEP]"),
        ("[CLS] 天 冷 。 [SEP] 女 的 [SEP] 谁 ？ [SEP]", "[CLS] 天 冷 。 [SEP]"),
        ("", ""),
    ]
    assert sequences(found, tokenizer, 1)[2][0] == "[CLS] 天 [SEP] 牛 [SEP] 地 ？ [SEP]"
    assert found.full_lengths.tolist() == [10, 11, 0, 8, 8, 8]
    assert found.columns["label_ids"].tolist() == [1, encoding.UNLABELLED]


def test_a_mark_of_a_blank_is_text_outside_of_chid(tokenizer):
    text = "天#idiom000001#地"
    found = encode([question(text, "谁？", "男", "女", answer=1)], tokenizer, 64)
    expected = ["[CLS]", *tokenizer.tokenize(text), "[SEP]", "男"]
    assert sequences(found, tokenizer, 0)[0][0].startswith(" ".join(expected))


def cut_one_by_one(lengths, room):
    """Return the lengths of three texts that the published rule has cut."""
    a, b, c = lengths
    while a + b + c > room:
        if a >= b and a >= c:
            a -= 1
        elif b >= a and b >= c:
            b -= 1
        else:
            c -= 1
    return [a, b, c]


@given(st.lists(st.integers(0, 40), min_size=3, max_size=3), st.integers(1, 60))
def test_truncation_is_the_published_one(lengths, room):
    assert choices.truncated(lengths, room) == cut_one_by_one(lengths, room)


def around(tokens, pos, num_tokens):
    """Return how many pieces CLUE's code keeps on the left and on the right of a blank."""
    num_l = num_tokens // 2
    num_r = num_tokens - num_l
    num_right = len(tokens) - 1 - pos
    if pos >= num_l and num_right >= num_r:
        return num_l, num_r
    if pos <= num_l:
        return pos, min(num_right, num_tokens - pos)
    return min(pos, num_tokens - num_right), num_right


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
def test_the_window_around_a_blank_is_the_published_one(left, right, room):
    expected = around(range(left + 1 + right), left, room)
    assert choices.window(left, right, room) == expected


def test_blanks_worked_by_hand(tokenizer):
    context = "他#idiom1#，又#idiom22#了。"
    one, two = (question(context, mark, "一心一意", "三心") for mark in ("#idiom1#", "#idiom22#"))
    found = encode([one, two], tokenizer, 32, "chid")
    four = " [MASK]" * 4
    sequence = "[CLS] 一 心 一 意 [SEP] 他 [unused1] ， 又{} 了 。 [SEP]".format(four)
    assert sequences(found, tokenizer, 0)[0] == (sequence, sequence)  # all in segment 0
    sequence = "[CLS] 三 心 [SEP] 他{} ， 又 [unused1] 了 。 [SEP]".format(four)
    assert sequences(found, tokenizer, 1)[1] == (sequence, sequence)
    short = encode([two], tokenizer, 12, "chid")  # room for 4 pieces around the blank
    assert sequences(short, tokenizer, 0)[0][0] == (
        "[CLS] 一 心 一 意 [SEP] ， 又 [unused1] 了 。 [SEP]"
    )
    assert short.full_lengths.tolist() == [17, 15]
    tiny = encode([two], tokenizer, 5, "chid")
    assert sequences(tiny, tokenizer, 0)[0][0] == "[CLS] 一 [SEP] [unused1] [SEP]"


TEXTS = st.text(st.sampled_from("天地，a1é \n\u200b\U0001f9ff龘"), max_size=9)
CHOICES = st.lists(TEXTS, min_size=2, max_size=4).map(tuple)
QUESTIONS = st.builds(Question, st.just("0"), TEXTS, TEXTS, CHOICES, st.none(), st.just(0))


@given(st.lists(QUESTIONS, min_size=1, max_size=4), st.integers(5, 20))
def test_any_question_is_encoded_as_plainly(tokenizer, questions, length):
    found = encode(questions, tokenizer, length)
    for row, one in enumerate(questions):
        expected = []
        for choice in one.choices:
            parts = [tokenizer.tokenize(text) for text in (one.context, one.question, choice)]
            kept = cut_one_by_one(list(map(len, parts)), length - 4)
            a, b, c = (part[:count] for part, count in zip(parts, kept))
            first = ["[CLS]", *a, "[SEP]"]
            expected.append((" ".join(first + [*c, "[SEP]", *b, "[SEP]"]), " ".join(first)))
        padding = [("", "")] * (found.num_sequences - len(one.choices))
        assert sequences(found, tokenizer, row) == expected + padding


def test_several_workers_encode_the_same(tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_EXAMPLES", 3)
    questions = [question("天" * i, "地", *"人马牛"[: 2 + i % 2], answer=i % 2) for i in range(10)]
    arguments = questions, TASKS["choices"], tokenizer, SETTINGS
    one, several = (KIND.encode(*arguments, num_workers=number) for number in (1, 2))
    assert one.num_sequences == several.num_sequences == 3
    for name in ("ids", "begins", "lengths_a", "full_lengths"):
        np.testing.assert_array_equal(getattr(one, name), getattr(several, name))
    np.testing.assert_array_equal(one.columns["label_ids"], several.columns["label_ids"])


# ---------------------------------------------------------------------------------- head


@pytest.fixture(scope="module")
def computed(tokenizer, tmp_path_factory):
    """A batch of two questions, its outputs and loss, and the output of each sequence alone."""
    folder = tmp_path_factory.mktemp("choices")
    questions = [
        question("天冷。", "谁？", "男", "女的", answer=1),
        question("天地玄黄", "地？", "人", "马", "牛", answer=2),
    ]
    encoded = encode(questions, tokenizer, 16)
    path = str(folder / "train.features")
    encoding.write(path, encoded, KIND.columns)
    helpers.write_config(
        folder, 21128, 16, initializer_range=0.3, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    input_fn = batching.make_input_fn(path, KIND.columns, 16, False, num_sequences=3)
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.data.make_one_shot_iterator(input_fn({"batch_size": 2})).get_next()
        batch = session.run(features)
        forward = model.make_forward(KIND, config, TASKS["choices"], SETTINGS)
        fed = {name: tf.constant(value) for name, value in batch.items()}
        with tf.variable_scope("", reuse=tf.AUTO_REUSE):
            outputs = forward(fed, tf.estimator.ModeKeys.PREDICT).predictions
            share = types.SimpleNamespace(dropout_seed=None, totals={"examples": 2.0})
            loss = forward(fed, tf.estimator.ModeKeys.TRAIN, share).loss
            alone = []
            for i in range(6):
                ids = encoded.ids[encoded.begins[i] : encoded.begins[i + 1]]
                if len(ids):
                    segments = (np.arange(len(ids)) >= encoded.lengths_a[i]).astype(np.int32)
                    ids, segments = (tf.constant(row[np.newaxis]) for row in (ids, segments))
                    one = modeling.AlbertModel(config, False, ids, None, segments, scope="bert")
                    alone.append(modeling.classification_head(one, 1).logits[0, 0])
        session.run(tf.global_variables_initializer())
        names = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
        values = session.run([outputs, loss, alone])
    return (batch, names, config) + tuple(values)


def test_a_batch_has_all_choices_of_a_question_in_a_row(computed):
    batch = computed[0]
    assert batch["row_index"].tolist() == [0, 1]  # the longest first; both have 11 pieces
    assert batch["input_ids"].shape == batch["segment_ids"].shape == batch["input_mask"].shape
    assert batch["input_ids"].shape[:2] == (2, 3)
    assert batch["label_ids"].tolist() == [1, 2]
    assert not batch["input_mask"][0, 2].any() and batch["input_mask"][1, 2].any()


def test_the_score_of_a_choice_is_that_of_its_sequence_alone(computed):
    _, _, _, outputs, loss, alone = computed
    first, second = alone[:2] + [-np.inf], alone[2:]
    np.testing.assert_allclose(outputs["logits"][0, :2], first[:2], atol=1e-5)
    np.testing.assert_allclose(outputs["logits"][1], second, atol=1e-5)
    assert outputs["logits"][0, 2] == NO_CHOICE
    losses = [np.log(np.exp(row).sum()) - row[i] for row, i in ((first, 1), (second, 2))]
    assert loss == pytest.approx(np.mean(losses), abs=1e-5)


def test_the_variables_are_those_of_published_models_for_multiple_choice(computed):
    _, names, config, *_ = computed
    assert names["output_weights"] == [1, 16] and names["output_bias"] == [1]
    assert model.variable_shapes(KIND, config, TASKS["c3"], SETTINGS) == names


def test_a_choice_that_is_missing_is_never_right():
    logits = np.array([[-3.0, -5.0, NO_CHOICE], [-1.0, -2.0, -0.5]])
    questions = [question("", "", "a", "b"), question("", "", "a", "b", "c")]
    found = KIND.decode(questions, TASKS["choices"], None, {"logits": logits}, None)
    assert found.probabilities[0, 2] == 0 and found.chosen.tolist() == [0, 2]
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)


def test_a_candidate_fills_one_blank_of_a_row():
    logits = np.array([[3.0, 2.0, 0.0], [5.0, 1.0, 2.0], [1.0, 0.0, 0.5], [4.0, 0.0, 0.0]])
    assert choices.assigned([1, 1, 1, 2], logits).tolist() == [1, 0, 2, 0]
    more_blanks = np.array([[3.0, 2.0], [5.0, 1.0], [9.0, 8.0]])
    assert choices.assigned([4, 4, 4], more_blanks).tolist() == [1, 0, 0]
    assert choices.assigned([1, 2, 1], more_blanks).tolist() == [1, 0, 0]  # row 1 is in two parts
    fewer = np.array([[3.0, NO_CHOICE], [5.0, NO_CHOICE]])
    assert choices.assigned([1, 1], fewer).tolist() == [0, 0]


def test_scores_by_hand():
    questions = [question("", "", "a", "b", answer=i) for i in (0, 1, None)]
    predicted = Predicted(np.array([[0.75, 0.25], [0.5, 0.5], [1, 0]]), np.array([0, 1, 0]))
    found = KIND.scores(questions, TASKS["chid"], predicted)
    loss = -(np.log(0.75) + np.log(0.5)) / 2
    assert found == {
        "examples": 2,
        "accuracy": 1.0,
        "loss": pytest.approx(loss),
        "accuracy_alone": 0.5,
    }
    assert "accuracy_alone" not in KIND.scores(questions, TASKS["c3"], predicted)
    assert KIND.scores(questions[2:], TASKS["c3"], predicted) == {"examples": 1}


@pytest.mark.parametrize("accuracy, at_chance", [(0.25, True), (0.3, True), (0.4, False)])
def test_chance_level_is_told(accuracy, at_chance, caplog):
    assert choices.warn_at_chance_level(accuracy, [4] * 200) == at_chance
    assert ("CHANCE LEVEL" in caplog.text) == at_chance


def test_the_table_of_predictions(tmp_path):
    questions = [question("", "", "a\tb", "c", answer=1), question("", "", "d", "e", "f")]
    probabilities = np.array([[0.75, 0.25, 0], [0.1, 0.2, 0.7]], np.float32)
    path = tmp_path / "predictions.tsv"
    choices.write_table(str(path), questions, Predicted(probabilities, np.array([0, 2])))
    assert path.read_text(encoding="utf-8") == (
        "id\tanswer\tprediction\ttext\tp(0)\tp(1)\tp(2)\n"
        "0\t1\t0\ta b\t0.750000\t0.250000\t\n"
        "0\t\t2\tf\t0.100000\t0.200000\t0.700000\n"
    )


def test_texts_are_counted_once_and_without_marks():
    marks = ["#idiom1#", "#idiom2#"]
    questions = [question("天#idiom1#地#idiom2#", mark, "人", "马") for mark in marks]
    assert KIND.texts(questions) == ["天地", "人", "马"]
    assert choice_files.counts(questions) == {"2": 2}
