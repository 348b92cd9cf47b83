"""Small models of random weights, fine-tuned and pre-trained, in the folders that runs leave."""

import helpers
import numpy as np
import tensorflow.compat.v1 as tf

import modeling
from checkpointing import model_files

LENGTH = 16
CHARACTERS = "天地玄黄宇宙洪荒日月"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(CHARACTERS)
LABELS = ["否", "是", "不知"]
PAIRS = [
    ("天地", "玄黄宇"),
    ("日", "月"),
    ("洪荒日月天地玄黄宇宙", "宙宇黄玄地天月日荒洪"),  # longer than LENGTH
    ("宇宙洪荒", "天"),
    ("日月", "月日"),
]
TEXTS = ["天地玄黄", "日", "宇宙洪荒日月"]
ARCHITECTURES = {
    "albert_zh": {},
    "preln": {"ln_type": "preln"},
    "google": {"layout": "google", "num_hidden_groups": 1},
    "unshared": {"parameter_sharing": "none"},
}


def write_model(folder, seed=1, step=1, task="sentence_pair", **fields):
    """Write config, vocabulary and a folder `out` with a fine-tuned model of random weights."""
    helpers.write_config(folder, len(PIECES), LENGTH, initializer_range=0.3, **fields)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    described = (task, LABELS, LENGTH, config.to_dict(), str(folder / "vocab.txt"))
    model_files.write(str(folder / "out"), model_files.Description(*described))
    save_weights(folder / "out" / "model.ckpt", config, seed, step)
    return folder / "out"


def save_weights(path, config, seed, step):
    with tf.Graph().as_default():
        tf.set_random_seed(seed)
        model = modeling.AlbertModel(config, False, tf.zeros([1, 2], tf.int32))
        modeling.classification_head(model, len(LABELS))
        for variable in tf.trainable_variables():  # biases are no longer zero
            tf.add_to_collection("starts", variable.assign_add(random_like(variable)))
        saver = tf.train.Saver()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run(tf.get_collection("starts"))
            saver.save(session, str(path), global_step=step)


def write_pretrained(folder, **fields):
    """Write a model of random weights with the head for masked pieces; returns its flags."""
    fields = dict(fields, num_hidden_layers=1, initializer_range=0.3)
    helpers.write_config(folder, len(PIECES), LENGTH, **fields)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        ids = tf.zeros([1, 2], tf.int32)
        model = modeling.AlbertModel(config, False, ids)
        modeling.masked_lm_head(model, ids, ids, tf.ones([1, 2]))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(folder / "model.ckpt"))
    return {
        "checkpoint": folder / "model.ckpt",
        "bert_config_file": folder / "config.json",
        "vocab_file": folder / "vocab.txt",
        "max_seq_length": LENGTH,
    }


def random_like(variable):
    return tf.random.normal(variable.shape, stddev=0.1)


def table(answers):
    """Return the probabilities of a predictor's answers, float [texts, labels]."""
    return np.array([[answer["probabilities"][label] for label in LABELS] for answer in answers])
