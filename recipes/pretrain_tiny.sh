#!/usr/bin/env bash
# Pre-trains a tiny model from raw text in two and a half hours on 2 cores. The script holds out 1% of
# the documents of each corpus. A stage whose result exists is skipped, and a stage that was stopped
# continues.
#
#   bash recipes/pretrain_tiny.sh CORPUS_DIR OUTPUT_DIR [TASKS_DIR]
#
# CORPUS_DIR: *.txt, one sentence a line, a blank line between documents. TASKS_DIR: the folders
# lcqmc, afqmc, tnews, chnsenticorp and ocnli, see recipes/finetune_tiny.sh: the texts of their
# train files, without labels, become a further corpus.
#
# Every step has 4,096 pieces. A random model learns little from the first 8 million pieces, because
# attention has to find the neighbours of a piece first. So the recipe makes the first steps cheap.
# One layer finds the neighbours after as many pieces as four layers do, in a third of the time. All
# layers share their weights, so more layers can start from the weights of fewer:
#
#   1. short: one layer, rows of 128
#   2. long:  one layer, rows of 512, because a model learns the order of sentences from long texts
#   3. mid:   two layers, rows of 512; a step from one layer to four would make the model forget the
#             order of sentences
#   4. deep:  four layers, rows of 512
#
# The initial weights have a standard deviation of 0.05: it keeps the size of a signal at H=312, as
# 0.02 does at H=768. Training masks 30% of the pieces (arXiv 2202.08005), evaluation the usual 15%;
# both mask single pieces. The pooler and the sentence-order head learn at a twentieth of the rate,
# and the sentence-order loss has the weight 0.2: see docs/training.md.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail

if [ $# -ne 2 ] && [ $# -ne 3 ]; then
  echo "usage: bash recipes/pretrain_tiny.sh CORPUS_DIR OUTPUT_DIR [TASKS_DIR]" >&2
  exit 2
fi
if ! compgen -G "$1/*.txt" > /dev/null; then
  echo "pretrain_tiny.sh: error: CORPUS_DIR $1 holds no *.txt" >&2
  exit 2
fi
corpora=$(realpath "$1")
out=$(realpath -m "$2")
tasks=${3:+$(realpath -m "$3")}
cd "$(dirname "$0")/.."

python=python3
if [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi
vocab=albert_config/vocab.txt
precision=float32
if grep -q avx512_bf16 /proc/cpuinfo 2> /dev/null; then
  precision=bfloat16
fi
. recipes/same_texts.sh
refuse_other_texts "$out" "$corpora"/*.txt
mkdir -p "$out/text" "$out/records"

create_data() {  # TEXT NAME LENGTH PREDICTIONS MASKED_SHARE
  if [ ! -e "$out/records/$2_$3.tfrecord" ]; then
    "$python" create_pretraining_data.py \
      --input_file="$1" --output_file="$out/records/$2_$3.tfrecord" --vocab_file=$vocab \
      --record_format=compact --max_seq_length="$3" --max_predictions_per_seq="$4" \
      --masked_lm_prob="$5" --do_whole_word_mask=False --ngram=1
  fi
}

for corpus in "$corpora"/*.txt; do
  name=$(basename "$corpus" .txt)
  if [ ! -e "$out/text/$name/held_out.txt" ]; then
    "$python" recipes/held_out.py --corpus="$corpus" --megabytes=1000 --share=0.01 \
      --output_dir="$out/text/$name"
  fi
done
if [ -n "$tasks" ] && [ ! -e "$out/text/in_domain/train.txt" ]; then
  named=""
  for task in lcqmc afqmc tnews chnsenticorp ocnli; do
    named=$named,$task:$tasks/$task
  done
  mkdir -p "$out/text/in_domain"
  "$python" recipes/in_domain.py --tasks="${named#,}" --output_file="$out/text/in_domain/train.txt"
fi
cat "$out"/text/*/held_out.txt > "$out/text/held_out.txt"
if [ ! -e "$out/entropy.json" ]; then
  "$python" recipes/held_out.py --entropy_of="$out/text/held_out.txt" --vocab_file=$vocab \
    > "$out/entropy.json"
fi
create_data "$out/text/*/train.txt" train 128 38 0.30
create_data "$out/text/*/train.txt" train 512 154 0.30
create_data "$out/text/held_out.txt" held_out 128 20 0.15
create_data "$out/text/held_out.txt" held_out 512 77 0.15

pretrain() {  # NAME LAYERS LENGTH STEPS LEARNING_RATE FLAGS...
  if [ ! -e "$out/$1/eval_results.json" ]; then
    sed -e 's/"initializer_range": 0.02/"initializer_range": 0.05/' \
      -e "s/\"num_hidden_layers\": 4/\"num_hidden_layers\": $2/" \
      -e "s/\"max_position_embeddings\": 512/\"max_position_embeddings\": $3/" \
      albert_config/albert_config_tiny_google.json > "$out/$1.json"
    "$python" run_pretraining.py --do_train=True --do_eval=True \
      --input_file="$out/records/train_$3.tfrecord" \
      --eval_input_file="$out/records/held_out_$3.tfrecord" \
      --output_dir="$out/$1" --bert_config_file="$out/$1.json" \
      --max_seq_length="$3" --train_batch_size=$((4096 / $3)) --eval_batch_size=$((4096 / $3)) \
      --num_train_steps="$4" --num_warmup_steps=500 --learning_rate="$5" --optimizer=adamw \
      --sentence_order_weight=0.2 --pooler_lr_factor=0.05 --precision=$precision \
      --save_checkpoints_steps=500 --eval_every_steps=500 --keep_checkpoint_max=2 "${@:6}"
  fi
}

pretrain short 1 128 6000 1e-3
pretrain long 1 512 5000 8e-4 --init_checkpoint="$out/short" --allow_more_positions=True
pretrain mid 2 512 2000 8e-4 --init_checkpoint="$out/long" --allow_more_layers=True
pretrain deep 4 512 2400 8e-4 --init_checkpoint="$out/mid" --allow_more_layers=True

"$python" plot_training.py "$out/short" "$out/long" "$out/mid" "$out/deep"
for result in entropy.json deep/eval_results.json; do
  echo "== $result"
  cat "$out/$result"
done
