#!/usr/bin/env bash
# Pre-trains a tiny model from raw text in about an hour on 2 cores. It holds out 1% of the
# documents of each corpus, and adds the texts of the tasks' train files, without labels. A stage
# whose result exists is skipped, and pre-training continues where it was stopped.
#
#   bash recipes/pretrain_tiny.sh CORPUS_DIR TASKS_DIR OUTPUT_DIR
#
# CORPUS_DIR: *.txt, one sentence a line, a blank line between documents. TASKS_DIR: the folders
# lcqmc, afqmc, tnews, chnsenticorp and ocnli, see recipes/finetune_tiny.sh.
#
# In an hour a model with random weights takes few steps. With these settings it learns most:
# LayerNorm before, not after, each sublayer ("preln"); initial weights of 0.05, which at H=312 keep
# the size of a signal as 0.02 does at 768; single pieces masked, 30% of them (arXiv 2202.08005) in
# training and the usual 15% in evaluation; AdamW. After 770 steps the masked-LM loss was 5.8; that
# of the google layout, with LayerNorm after each sublayer, was still the unigram entropy. At this
# learning rate the model does not learn the order of sentences: see recipes/rescale.py.
set -euo pipefail

if [ $# -ne 3 ]; then
  echo "usage: bash recipes/pretrain_tiny.sh CORPUS_DIR TASKS_DIR OUTPUT_DIR" >&2
  exit 2
fi
if ! compgen -G "$1/*.txt" > /dev/null; then
  echo "pretrain_tiny.sh: error: CORPUS_DIR $1 holds no *.txt" >&2
  exit 2
fi
corpora=$(realpath "$1")
tasks=$(realpath "$2")
out=$(realpath -m "$3")
cd "$(dirname "$0")/.."

python=python3
if [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi
vocab=albert_config/vocab.txt
config=$out/config.json
mkdir -p "$out/records"
sed -e 's/"postln"/"preln"/' -e 's/"initializer_range": 0.02/"initializer_range": 0.05/' \
  albert_config/albert_config_tiny.json > "$config"

create_data() {  # TEXT NAME PREDICTIONS MASKED_SHARE
  if [ ! -e "$out/records/$2.tfrecord" ]; then
    "$python" create_pretraining_data.py \
      --input_file="$1" --output_file="$out/records/$2.tfrecord" --vocab_file=$vocab \
      --record_format=compact --max_seq_length=128 --max_predictions_per_seq="$3" \
      --masked_lm_prob="$4" --do_whole_word_mask=False --ngram=1
  fi
}

for corpus in "$corpora"/*.txt; do
  name=$(basename "$corpus" .txt)
  if [ ! -e "$out/$name/held_out.txt" ]; then
    "$python" recipes/held_out.py --corpus="$corpus" --megabytes=1000 --share=0.01 \
      --output_dir="$out/$name"
  fi
  create_data "$out/$name/train.txt" "train_$name" 38 0.30
done
if [ ! -e "$out/in_domain.txt" ]; then
  named=""
  for task in lcqmc afqmc tnews chnsenticorp ocnli; do
    named=$named,$task:$tasks/$task
  done
  "$python" recipes/in_domain.py --tasks="${named#,}" --output_file="$out/in_domain.txt"
fi
create_data "$out/in_domain.txt" train_in_domain 38 0.30

cat "$out"/*/held_out.txt > "$out/held_out.txt"
if [ ! -e "$out/entropy.json" ]; then
  "$python" recipes/held_out.py --entropy_of="$out/held_out.txt" --vocab_file=$vocab \
    > "$out/entropy.json"
fi
create_data "$out/held_out.txt" held_out 20 0.15

if [ ! -e "$out/pretrained/eval_results.json" ]; then
  "$python" run_pretraining.py --do_train=True --do_eval=True \
    --input_file="$out/records/train_*.tfrecord" \
    --eval_input_file="$out/records/held_out.tfrecord" \
    --output_dir="$out/pretrained" --bert_config_file="$config" \
    --max_seq_length=128 --train_batch_size=32 \
    --num_train_steps=9000 --num_warmup_steps=500 --optimizer=adamw --learning_rate=0.001 \
    --save_checkpoints_steps=500
fi
for result in entropy.json pretrained/eval_results.json; do
  echo "== $result"
  cat "$out/$result"
done
