"""What quickstart.sh shows of the model in pretrained/, with wide margins."""

import json
import os

import pytest
from helpers import read_json, run

import create_pretraining_data
import predict
import run_classifier
import run_pretraining
from serving import model_flags
from serving.predictor import Predictor

CONFIG = os.path.join(model_flags.SHIPPED, "albert_config.json")
START = {"init_checkpoint": model_flags.SHIPPED, "bert_config_file": CONFIG}
LENGTH = {"max_seq_length": 128, "max_predictions_per_seq": 20}


@pytest.fixture(scope="module")
def model():
    return Predictor.of_pretrained(model_flags.SHIPPED, CONFIG, model_flags.SHIPPED_VOCABULARY)


def test_it_fills_in_most_masks(model, root):
    lines = (root / "data" / "masked_sentences.txt").read_text(encoding="utf-8").split()
    best = [row[0][0][0] for row in model.fill_masks(lines, top=1)]
    assert best[:4] == ["思", "舒", "警", "境"]


def test_predict_uses_it_if_no_flag_names_a_model(capsys):
    run(predict, {}, "这本书很有意[MASK]，我读了三遍。")
    assert capsys.readouterr().out.startswith("这本书很有意思，我读了三遍。\t思 0.7")
    similarities = []
    for other in ("今天天气不错", "违反法律要受处罚"):
        run(predict, {}, "今天天气很好", other)
        similarities.append(float(capsys.readouterr().out))
    assert similarities[0] > similarities[1] + 0.3


def test_the_nearest_question_is_about_the_same_thing(root, tmp_path, capsys):
    pairs = (root / "data" / "lcqmc_sample" / "test.tsv").read_text(encoding="utf-8").split("\n")
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(row.split("\t")[1] for row in pairs[:-1]), encoding="utf-8")
    run(predict, {"search_file": questions, "top": 1}, "护照照片有什么要求")
    assert "拍护照相片要求是什么" in capsys.readouterr().out


def test_it_learns_from_the_sample_text(root, tmp_path):
    documents = (root / "data" / "news_zh_1.txt").read_text(encoding="utf-8").split("\n\n")
    for name, part in (("held_out", documents[::8]), ("train", documents)):
        text = tmp_path / (name + ".txt")
        part = [one for one in part if name == "held_out" or one not in documents[::8]]
        text.write_text("\n\n".join(part), encoding="utf-8")
        run(
            create_pretraining_data,
            dict(
                LENGTH,
                input_file=text,
                output_file=tmp_path / (name + ".tfrecord"),
                vocab_file=model_flags.SHIPPED_VOCABULARY,
                record_format="compact",
                masked_lm_prob=0.15,
                do_whole_word_mask=False,
                ngram=1,
            ),
        )
    run(
        run_pretraining,
        dict(
            START,
            input_file=tmp_path / "train.tfrecord",
            eval_input_file=tmp_path / "held_out.tfrecord",
            output_dir=tmp_path / "out",
            do_train=True,
            do_eval=True,
            max_seq_length=128,
            train_batch_size=16,
            eval_batch_size=16,
            num_train_steps=16,
            num_warmup_steps=2,
            eval_every_steps=16,
            optimizer="adamw",
            learning_rate=5e-5,
            pooler_lr_factor=0.05,
        ),
    )
    lines = (tmp_path / "out" / "eval_history.jsonl").read_text(encoding="utf-8").split("\n")
    before, after = (json.loads(line)["masked_lm_loss"] for line in (lines[0], lines[1]))
    assert 3.0 < before < 4.5
    assert after < before - 0.01


def test_it_learns_whether_questions_mean_the_same(root, tmp_path):
    run(
        run_classifier,
        dict(
            START,
            task_name="lcqmc_pair",
            data_dir=root / "data" / "lcqmc_sample",
            vocab_file=model_flags.SHIPPED_VOCABULARY,
            output_dir=tmp_path,
            do_train=True,
            do_eval=True,
            do_predict=True,
            max_seq_length=48,
            train_batch_size=16,
            learning_rate=1e-4,
            num_train_epochs=1,
            evals_per_epoch=0,
        ),
    )
    assert read_json(tmp_path / "test_results.json")["test_accuracy"] > 0.6
    rows = (tmp_path / "predictions.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
    probabilities = sorted(float(row.split("\t")[-1]) for row in rows)
    assert probabilities[0] < 0.3 and probabilities[-1] > 0.7
