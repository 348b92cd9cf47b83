#!/usr/bin/env bash
# Shows what the project does, in about three minutes on 2 cores: the small model in pretrained/
# fills in masks, is pre-trained further on the sample text, is fine-tuned on question pairs, and
# finds similar questions. Each run of the script replaces quickstart_output/.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash make_venv.sh
export TF_CPP_MIN_LOG_LEVEL=2

python=.venv/bin/python
out=quickstart_output
vocab=albert_config/vocab.txt
model=(--init_checkpoint=pretrained --bert_config_file=pretrained/albert_config.json)

# stage TITLE COMMAND...: runs a command with its messages in a log; prints the log if it fails.
stage() {
  local title=$1 start=$SECONDS status=0 log
  shift
  log=$out/logs/$1.log
  printf '\n%s\n' "$title"
  "$@" 2>"$log" </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    printf 'FAILED (exit status %s), from %s:\n' "$status" "$log"
    tail -n 30 "$log"
    exit "$status"
  fi
  printf '  %d s\n' $((SECONDS - start))
}

fill_masks() {
  "$python" predict.py --top=3 --input_file=data/masked_sentences.txt \
    --output_file="$out/masks.tsv"
  sed 's/^/  /' "$out/masks.tsv"
}

pretrain() {
  local part
  "$python" recipes/held_out.py --corpus=data/news_zh_1.txt --share=0.125 --output_dir=$out/text >&2
  for part in train held_out; do
    "$python" create_pretraining_data.py --input_file=$out/text/$part.txt \
      --output_file=$out/$part.tfrecord --vocab_file=$vocab --record_format=compact \
      --max_seq_length=128 --max_predictions_per_seq=20 --masked_lm_prob=0.15 \
      --do_whole_word_mask=False --ngram=1 >&2
  done
  "$python" run_pretraining.py --do_train=True --do_eval=True "${model[@]}" \
    --input_file=$out/train.tfrecord --eval_input_file=$out/held_out.tfrecord \
    --output_dir=$out/pretrained --max_seq_length=128 --train_batch_size=16 --eval_batch_size=16 \
    --num_train_steps=40 --num_warmup_steps=4 --eval_every_steps=40 --optimizer=adamw \
    --learning_rate=5e-5 --pooler_lr_factor=0.05 >&2
  "$python" - $out/pretrained/eval_history.jsonl <<'PYTHON'
import json, sys

with open(sys.argv[1], encoding="utf-8") as stream:
    scores = [json.loads(line) for line in stream]
for name, one in (("before", scores[0]), ("after", scores[-1])):
    print("  {:<7}{:.1%} of the masked pieces right, loss {:.3f} nats".format(
        name, one["masked_lm_accuracy"], one["masked_lm_loss"]))
PYTHON
}

finetune() {
  "$python" run_classifier.py --task_name=lcqmc_pair --do_train=True --do_eval=True \
    --do_predict=True --data_dir=data/lcqmc_sample --vocab_file=$vocab "${model[@]}" \
    --output_dir=$out/lcqmc --max_seq_length=48 --train_batch_size=16 --learning_rate=1e-4 \
    --num_train_epochs=3 --evals_per_epoch=1 >&2
  "$python" - $out/lcqmc <<'PYTHON'
import csv, itertools, json, os, sys

def table(path):
    with open(path, encoding="utf-8") as stream:
        return list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))

for split, name in (("dev", "eval"), ("test", "test")):
    with open(os.path.join(sys.argv[1], name + "_results.json"), encoding="utf-8") as stream:
        scores = json.load(stream)
    print("  {:<5}{:.1%} of {} pairs right".format(
        split, scores[name + "_accuracy"], scores[name + "_examples"]))
pairs = table("data/lcqmc_sample/test.tsv")
answers = table(os.path.join(sys.argv[1], "predictions.tsv"))
same = answers[0].index("p(1)")
for (first, second, label), row in itertools.islice(zip(pairs, answers[1:]), 0, None, 40):
    print("  same with probability {:.2f}, label {}  {} | {}".format(
        float(row[same]), label, first, second))
PYTHON
}

nearest() {
  cut -f 2 data/lcqmc_sample/test.tsv >$out/questions.txt
  "$python" predict.py --search_file=$out/questions.txt --top=3 '护照照片有什么要求' | sed 's/^/  /'
}

rm -rf "$out"
mkdir -p "$out/logs"
echo "Logs: $out/logs"
stage "Masks filled in by the model in pretrained/" fill_masks
stage "The same model, pre-trained further on data/news_zh_1.txt: held-out documents" pretrain
stage "The same model, fine-tuned: do two questions mean the same?" finetune
stage "The questions of the test file whose vectors are nearest to a question" nearest

cat <<NEXT

All stages: $SECONDS s

Next
  source .venv/bin/activate
  python test_changes.py                # ALBERT's three changes from BERT, checked
  bash create_pretrain_data.sh          # TFRecords with the published settings, sequences of 512
  python run_pretraining.py --help      # then train on them: README.md, "Pre-training"
  bash run_tests.sh                     # every test
NEXT
