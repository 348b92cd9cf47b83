"""The shipped samples from text to predictions, by the commands that a user types."""

import math

import programs
from helpers import read_json

import modeling

VOCABULARY = 21128
SEQUENCE = ("--max_seq_length=64", "--max_predictions_per_seq=10")


def run(script, *flags):
    status, log = programs.run(script, list(flags), optimized=True)
    assert status == 0, log
    return log


def test_text_to_records_to_model_to_predictions(root, tmp_path):
    config = tmp_path / "config.json"
    model = modeling.AlbertConfig(VOCABULARY, 16, 64, 2, 2, 128, max_position_embeddings=64)
    config.write_text(model.to_json_string())
    vocabulary = "--vocab_file=albert_config/vocab.txt"
    records, pretrained, tuned = [tmp_path / name for name in ("text.tfrecord", "model", "tuned")]
    run(
        "create_pretraining_data.py",
        "--input_file=data/news_zh_1.txt",
        "--output_file={}".format(records),
        "--dupe_factor=1",
        vocabulary,
        *SEQUENCE,
    )
    run(
        "run_pretraining.py",
        "--input_file={}".format(records),
        "--output_dir={}".format(pretrained),
        "--bert_config_file={}".format(config),
        "--do_train=True",
        "--do_eval=True",
        "--train_batch_size=8",
        "--num_train_steps=5",
        "--num_warmup_steps=1",
        *SEQUENCE,
    )
    scores = read_json(pretrained / "eval_results.json")
    assert scores["global_step"] == 5
    assert abs(scores["masked_lm_loss"] - math.log(VOCABULARY)) < 1  # five steps learn little
    log = run(
        "run_classifier.py",
        "--task_name=lcqmc_pair",
        "--data_dir=data/lcqmc_sample",
        "--init_checkpoint={}".format(pretrained),
        "--output_dir={}".format(tuned),
        "--bert_config_file={}".format(config),
        "--do_train=True",
        "--do_eval=True",
        "--do_predict=True",
        "--max_seq_length=32",
        "--num_train_epochs=1",
        "--max_train_examples=260",
        "--evals_per_epoch=0",
        vocabulary,
    )
    assert "24 variables loaded, 2 missing" in log
    counts = [
        (root / "data" / "lcqmc_sample" / name).read_text(encoding="utf-8").count("\n")
        for name in ("dev.tsv", "test.tsv")
    ]
    assert read_json(tuned / "eval_results.json")["eval_examples"] == counts[0]
    predictions = (tuned / "predictions.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
    assert len(predictions) == counts[1]
    assert {row.split("\t")[2] for row in predictions} <= {"0", "1"}
