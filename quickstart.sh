#!/usr/bin/env bash
# Runs the whole path on the shipped samples, in a few minutes on 2 cores: it makes TFRecords of a
# text, pre-trains a tiny ALBERT for a moment, fine-tunes and evaluates it on question pairs, and
# predicts. Each run replaces quickstart_output/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash make_venv.sh
export TF_CPP_MIN_LOG_LEVEL=2

python=.venv/bin/python
out=quickstart_output
config=albert_config/albert_config_tiny.json
vocab=albert_config/vocab.txt
sequence=(--max_seq_length=128 --max_predictions_per_seq=20)

# stage NAME TITLE COMMAND...: runs a command with its output in a log; prints the log if it fails.
stage() {
  local name=$1 title=$2 start=$SECONDS status=0 log=$out/logs/$1.log
  shift 2
  printf '%-40s' "$title"
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    printf 'FAILED (exit status %s), from %s:\n' "$status" "$log"
    tail -n 30 "$log"
    exit "$status"
  fi
  printf '%4d s\n' $((SECONDS - start))
  printf '%s\t%s\n' "$name" $((SECONDS - start)) >>"$out/logs/seconds.tsv"
}

create_data() {
  "$python" create_pretraining_data.py --input_file="$out/text/$1.txt" \
    --output_file="$out/records/$1.tfrecord" --vocab_file=$vocab "${sequence[@]}" \
    --masked_lm_prob=0.15 --dupe_factor="$2"
}

pretrain() {
  "$python" run_pretraining.py --do_train=True --do_eval=True --bert_config_file=$config \
    --input_file=$out/records/train.tfrecord --eval_input_file=$out/records/held_out.tfrecord \
    --output_dir=$out/pretrained "${sequence[@]}" --train_batch_size=16 --num_train_steps=150 \
    --num_warmup_steps=15 --learning_rate=0.01
}

finetune() {
  "$python" run_classifier.py --task_name=lcqmc_pair --do_train=True --do_eval=True \
    --do_predict=True --data_dir=data/lcqmc_sample --vocab_file=$vocab \
    --bert_config_file=$config --init_checkpoint=$out/pretrained --output_dir=$out/lcqmc \
    --max_seq_length=48 --train_batch_size=16 --learning_rate=1e-4 --num_train_epochs=4
}

rm -rf "$out"
mkdir -p "$out/logs"
echo "Logs: $out/logs"
stage split "Holding 1 document in 8 out" \
  "$python" recipes/held_out.py --corpus=data/news_zh_1.txt --share=0.125 --output_dir=$out/text
stage records "TFRecords to train on" create_data train 20
stage records_held_out "TFRecords held out" create_data held_out 5
stage pretrain "Pre-training, 150 steps (1-3 minutes)" pretrain
stage finetune "Fine-tuning, evaluation, prediction" finetune

"$python" - "$out" <<'PYTHON'
import csv, itertools, json, os, sys

out = sys.argv[1]

def load(*path):
    with open(os.path.join(out, *path), encoding="utf-8") as stream:
        return json.load(stream)

def rows(path):
    with open(path, encoding="utf-8") as stream:
        return list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))

held_out = load("pretrained", "eval_results.json")
dev, test = load("lcqmc", "eval_results.json"), load("lcqmc", "test_results.json")
seconds = sum(int(row[1]) for row in rows(os.path.join(out, "logs", "seconds.tsv")))
table = [
    ("Masked pieces, held-out text", "accuracy {:.1%}, loss {:.2f} nats".format(
        held_out["masked_lm_accuracy"], held_out["masked_lm_loss"])),
    ("Sentence order, held-out text", "accuracy {:.1%}".format(held_out["sentence_order_accuracy"])),
    ("LCQMC sample, dev", "accuracy {:.1%} of {} pairs".format(
        dev["eval_accuracy"], dev["eval_examples"])),
    ("LCQMC sample, test", "accuracy {:.1%} of {} pairs".format(
        test["test_accuracy"], test["test_examples"])),
    ("Time of all stages", "{} s".format(seconds)),
]
print("\nResults")
for title, value in table:
    print("  {:<32}{}".format(title, value))
print("The path works; the accuracies mean little after 150 steps on 49 documents.")

print("\nSome predictions of {}/lcqmc/predictions.tsv (1: same meaning)".format(out))
pairs = rows("data/lcqmc_sample/test.tsv")
results = rows(os.path.join(out, "lcqmc", "predictions.tsv"))
columns = {name: place for place, name in enumerate(results[0])}
for pair, row in itertools.islice(zip(pairs, results[1:]), 0, None, 50):
    print("  predicted {}, probability {:.2f}, label {}  {} | {}".format(
        row[columns["prediction"]],
        float(row[columns["p({})".format(row[columns["prediction"]])]]),
        pair[2], pair[0], pair[1]))
PYTHON

cat <<NEXT

Next
  source .venv/bin/activate
  python test_changes.py                # ALBERT's three changes from BERT, checked
  bash create_pretrain_data.sh          # TFRecords with the published settings, sequences of 512
  python run_pretraining.py --help      # then train on them: README.md, "Pre-training"
  bash run_tests.sh                     # every test
NEXT
