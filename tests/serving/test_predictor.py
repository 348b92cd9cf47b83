"""Predictor returns what the plain model computes, from text to label."""

import concurrent.futures
import dataclasses
import json
import logging

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from classifiers import (
    ARCHITECTURES,
    LABELS,
    LENGTH,
    PAIRS,
    TEXTS,
    save_weights,
    table,
    write_model,
    write_pretrained,
)

import modeling
import tokenization
from checkpointing import arrays as weights
from checkpointing import find
from checkpointing.inspection import HEADS
from common.errors import UserError
from finetuning import batching
from finetuning_data import encoding, tasks
from serving import model_outputs, predictor


def plain(out, texts):
    """Return the outputs and pooled outputs of the plain model for texts padded to LENGTH."""
    config = modeling.AlbertConfig.from_json_file(str(out.parent / "config.json"))
    tokenizer = tokenization.FullTokenizer(str(out.parent / "vocab.txt"))
    rows = [(text,) if isinstance(text, str) else text for text in texts]
    examples = [tasks.Example("", *row) for row in rows]
    encoded = encoding.encode_examples(examples, (), tokenizer, LENGTH)
    with tf.Graph().as_default():
        tensors = [tf.constant(array) for array in encoded[:3]]
        batch = batching.pad_batch(
            encoding.Encoded(*tensors, {}, None),
            (),
            tf.range(len(texts), dtype=tf.int64),
            LENGTH,
            dynamic_padding=False,
        )
        model = modeling.AlbertModel(
            config, False, batch["input_ids"], batch["input_mask"], batch["segment_ids"]
        )
        logits = modeling.classification_head(model, len(LABELS)).logits
        wanted = [tf.nn.softmax(logits), model.sequence_output, model.pooled_output]
        saver = tf.train.Saver()
        with tf.Session() as session:
            saver.restore(session, tf.train.latest_checkpoint(str(out)))
            return session.run(wanted) + [np.diff(encoded.begins)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A fine-tuned model of pairs. Tests must not write to it."""
    return write_model(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def model(out):
    return predictor.Predictor(str(out), batch_size=2)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_equals_the_plain_model(tmp_path, name):
    out = write_model(tmp_path, **ARCHITECTURES[name])
    model = predictor.Predictor(str(out), batch_size=2)
    probabilities, sequence, pooled, lengths = plain(out, PAIRS)
    assert np.ptp(probabilities, axis=0).max() > 0.01  # not all pairs are alike
    answers = model.predict(PAIRS)
    np.testing.assert_allclose(table(answers), probabilities, atol=1e-5)
    assert [a["label"] for a in answers] == [LABELS[i] for i in probabilities.argmax(axis=1)]
    means = [row[:length].mean(axis=0) for row, length in zip(sequence, lengths)]
    np.testing.assert_allclose(model.embed(PAIRS), means, atol=1e-5)
    np.testing.assert_allclose(model.embed(PAIRS, "cls"), sequence[:, 0], atol=1e-5)
    np.testing.assert_allclose(model.embed(PAIRS, "pooled"), pooled, atol=1e-5)


def test_one_by_one_equals_many(model):
    alone = [model.predict([pair])[0] for pair in PAIRS]
    np.testing.assert_allclose(table(model.predict(PAIRS)), table(alone), atol=1e-6)
    assert model.predict([]) == []
    assert model.embed([]).shape == (0, 16)


def test_a_task_of_one_text(tmp_path):
    out = write_model(tmp_path, task="sentence")
    model = predictor.Predictor(str(out))
    np.testing.assert_allclose(table(model.predict(TEXTS)), plain(out, TEXTS)[0], atol=1e-5)
    with pytest.raises(UserError, match="text 1: task sentence takes one text and gets 2"):
        model.predict(["天", ("天", "地")])


def test_the_graph_is_built_once(out, monkeypatch):
    sessions = []

    class Session(tf.Session):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            sessions.append(self)

    monkeypatch.setattr(tf, "Session", Session)
    model = predictor.Predictor(str(out))
    (session,) = sessions
    size = len(session.graph.get_operations())
    for _ in range(3):
        model.predict(PAIRS)
        model.embed(TEXTS)
    assert sessions == [session]
    assert session.graph.finalized and len(session.graph.get_operations()) == size


def test_batches_are_padded_to_their_longest_and_are_real(out, monkeypatch):
    shapes = []
    padded_rows = model_outputs.padded_rows

    def record(*args):
        feeds = padded_rows(*args)
        shapes.append(feeds["input_ids"].shape)
        return feeds

    monkeypatch.setattr(model_outputs, "padded_rows", record)
    done = []
    model = predictor.Predictor(str(out), batch_size=2)
    model.probabilities(PAIRS, progress=lambda *counts: done.append(counts))
    assert shapes == [(2, 16), (2, 8), (1, 5)]  # of lengths 16, 8, 8, 7, 5
    assert done == [(24, 44), (39, 44), (44, 44)]


def test_threads_may_share_a_predictor(model):
    expected = table(model.predict(PAIRS))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(model.predict, [PAIRS] * 20):
            np.testing.assert_allclose(table(found), expected, atol=1e-6)


def test_what_is_cut_is_told_once(out, caplog):
    model = predictor.Predictor(str(out))
    with caplog.at_level(logging.WARNING):
        model.predict(PAIRS)
        model.predict(PAIRS)
    assert caplog.text.count("1 of 5 texts are longer than 16 pieces") == 1
    assert caplog.text.count("longer than") == 1


def test_the_best_checkpoint_is_taken_then_the_latest(tmp_path):
    out = write_model(tmp_path, seed=1, step=1)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    first = predictor.Predictor(str(out)).embed(TEXTS)
    save_weights(out / "best" / "model.ckpt", config, 2, 5)
    best = predictor.Predictor(str(out)).embed(TEXTS)
    named = predictor.Predictor(str(out), str(out / "model.ckpt-1")).embed(TEXTS)
    assert np.abs(first - best).max() > 0.01
    assert (first == named).all()


def test_a_model_that_was_pretrained_only_makes_vectors(out):
    folder = out.parent
    model = predictor.Predictor.of_pretrained(
        str(out), str(folder / "config.json"), str(folder / "vocab.txt"), max_seq_length=LENGTH
    )
    np.testing.assert_allclose(model.embed(TEXTS, "cls"), plain(out, TEXTS)[1][:, 0], atol=1e-5)
    with pytest.raises(UserError, match="no classifier"):
        model.predict(TEXTS)


def test_texts_of_another_kind_are_mistakes(model):
    with pytest.raises(ValueError, match="list of texts"):
        model.embed("天地")
    with pytest.raises(ValueError, match="neither a text nor a pair"):
        model.embed([("天", "地", "玄")])
    with pytest.raises(ValueError, match="neither a text nor a pair"):
        model.predict([{"text_a": "天", "text_b": "地"}])
    with pytest.raises(UserError, match="text 0: task sentence_pair takes a pair of texts"):
        model.predict(["天"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"checkpoint_path": "nowhere"}, "no checkpoint at nowhere"),
        ({"max_seq_length": 17}, "max_position_embeddings=16"),
    ],
)
def test_what_does_not_fit_is_told(out, arguments, message):
    with pytest.raises(UserError, match=message):
        predictor.Predictor(str(out), **arguments)


def test_a_model_of_one_segment_takes_no_pairs(model, monkeypatch):
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, type_vocab_size=1))
    assert len(model.embed(["天"])) == 1
    with pytest.raises(UserError, match="type_vocab_size=1"):
        model.embed(["天", ("天", "地")])


def test_a_checkpoint_without_classifier_is_told(tmp_path):
    out = write_model(tmp_path)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    with tf.Graph().as_default(), tf.Session() as session:
        modeling.AlbertModel(config, False, tf.zeros([1, 2], tf.int32))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(out / "pretrained.ckpt"))
    with pytest.raises(UserError, match="is a model without classifier"):
        predictor.Predictor(str(out), str(out / "pretrained.ckpt"))


def test_a_checkpoint_of_another_kind_is_told(tmp_path):
    """The message names the run's own checkpoint, which works."""
    out = write_model(tmp_path)
    own = find.find_checkpoint(str(out))
    arrays = weights.read(own)
    arrays = {name: array for name, array in arrays.items() if not name.startswith("output_")}
    arrays[HEADS["spans"]] = np.zeros([2, 16], np.float32)
    weights.write(str(tmp_path / "mrc.ckpt"), arrays)
    message = "mrc.ckpt is a model of answers, and the task of --model_dir is sentence_pair: give"
    with pytest.raises(UserError, match=message):
        predictor.Predictor(str(out), str(tmp_path / "mrc.ckpt"))
    predictor.Predictor(str(out), own)


def test_a_classifier_taken_for_a_pre_trained_model_is_told(tmp_path, caplog):
    out = write_model(tmp_path)
    config = json.loads((out / "classifier.json").read_text(encoding="utf-8"))["config"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    prefix = find.find_checkpoint(str(out))
    paths = (prefix, str(tmp_path / "config.json"), str(out / "vocab.txt"))
    with caplog.at_level("WARNING", logger="absl"):
        predictor.Predictor.of_pretrained(*paths, max_seq_length=LENGTH)
    assert (
        "CLASSIFIER LEFT OUT: to predict labels with {0}, give only "
        "--model_dir={1} --checkpoint={0}".format(prefix, out)
        in caplog.text
    )


def test_a_checkpoint_of_another_run_is_told(tmp_path, out, caplog):
    for folder in ("task", "vocabulary"):
        (tmp_path / folder).mkdir()
    of_task = write_model(tmp_path / "task", task="lcqmc_pair")
    with caplog.at_level("WARNING", logger="absl"):
        predictor.Predictor(str(out), str(of_task))
    assert "was trained for lcqmc_pair, not for sentence_pair" in caplog.text
    other = write_model(tmp_path / "vocabulary")
    description = json.loads((other / "classifier.json").read_text(encoding="utf-8"))
    description["vocabulary_sha256"] = "0" * 64
    (other / "classifier.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(UserError, match="is not the vocabulary of .*, according to"):
        predictor.Predictor(str(out), str(other))


@pytest.mark.parametrize("name", ["albert_zh", "google"])
def test_pieces_for_masks(tmp_path, out, name):
    flags = write_pretrained(tmp_path, **ARCHITECTURES[name])
    paths = [str(flags[key]) for key in ("checkpoint", "bert_config_file", "vocab_file")]
    model = predictor.Predictor.of_pretrained(*paths, max_seq_length=LENGTH, batch_size=2)
    texts = ["[MASK]地玄[MASK]", "没有", "天[MASK]", "天[SEP]", "日[MASK]月"]
    found = model.fill_masks(texts, top=3)
    assert [len(masks) for masks in found] == [2, 0, 1, 0, 1]
    (first, second), one = found[0], found[2][0]
    assert all(len(pieces) == 3 for pieces in (first, second, one))
    probabilities = all_probabilities(paths, model.tokenizer, "天 [MASK]")
    best = np.argsort(-probabilities)[:3]
    assert [piece for piece, _ in one] == model.tokenizer.convert_ids_to_tokens(best)
    np.testing.assert_allclose([p for _, p in one], probabilities[best], atol=1e-5)
    with pytest.raises(UserError, match="a .MASK. is after piece 15 of .*larger max_seq_length"):
        model.fill_masks(["天" * LENGTH + "[MASK]"])
    with pytest.raises(UserError, match="give a pre-trained checkpoint"):
        predictor.Predictor(str(out)).fill_masks(["天[MASK]"])


def test_an_id_without_a_piece_has_a_name(tmp_path):
    """A vocabulary may be shorter than the model's table, for example if the table is padded."""
    flags = write_pretrained(tmp_path, **ARCHITECTURES["google"])
    path = flags["vocab_file"]
    pieces = path.read_text(encoding="utf-8").split("\n")[:-2]
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    paths = [str(flags[key]) for key in ("checkpoint", "bert_config_file", "vocab_file")]
    model = predictor.Predictor.of_pretrained(*paths, max_seq_length=LENGTH)
    (((*found,),),) = model.fill_masks(["天[MASK]"], top=model.config.vocab_size)
    assert "[id {}]".format(len(pieces)) in dict(found)


def all_probabilities(paths, tokenizer, text):
    """Return float [V] at the last piece of a text, in a plain graph."""
    checkpoint, config_file, _ = paths
    ids = tokenizer.convert_tokens_to_ids(["[CLS]"] + text.split() + ["[SEP]"])
    with tf.Graph().as_default(), tf.Session() as session:
        config = modeling.AlbertConfig.from_json_file(config_file)
        model = modeling.AlbertModel(config, False, tf.constant([ids]))
        places = tf.constant([[len(ids) - 2]])
        head = modeling.masked_lm_head(model, places, tf.zeros_like(places), tf.ones([1, 1]))
        tf.train.Saver().restore(session, checkpoint)
        return session.run(tf.nn.softmax(head.logits))[0]
