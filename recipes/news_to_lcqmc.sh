#!/usr/bin/env bash
# Raw text to fine-tuned pairs, on real data: pre-trains tiny on 10 MB of a corpus with 5% of the
# documents held out, then fine-tunes on 20,000 LCQMC pairs from that checkpoint and from random
# weights, both evaluated on the whole dev set. Every stage is skipped where its result exists.
#
#   bash recipes/news_to_lcqmc.sh CORPUS.txt LCQMC_DIR OUTPUT_DIR
#
# In half an hour a model that starts at random takes few steps. What learns in them: layers
# normalized before, not after, each sublayer ("preln"); initial weights of 0.05, which pass a
# signal on at H=312 as 0.02 does at 768; single pieces masked, 40% of them (arXiv 2202.08005) in
# training and the usual 15% in evaluation; AdamW. With the settings for long runs (post-LN, 0.02,
# whole words, LAMB) the masked-LM loss stood at the unigram entropy after 1,200 steps of 32.
#
# CORPUS.txt: one sentence a line, a blank line between documents. LCQMC_DIR: train.tsv, dev.tsv.
# Takes about 20 minutes of pre-training and 6 of each fine-tuning on 2 cores.
set -euo pipefail

if [ $# -ne 3 ]; then
  echo "usage: bash recipes/news_to_lcqmc.sh CORPUS.txt LCQMC_DIR OUTPUT_DIR" >&2
  exit 2
fi
corpus=$(realpath "$1")
lcqmc=$(realpath "$2")
out=$(realpath -m "$3")
cd "$(dirname "$0")/.."

python=python3
if [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi
vocab=albert_config/vocab.txt
config=$out/albert_config_tiny_preln.json
mkdir -p "$out"
sed -e 's/"postln"/"preln"/' -e 's/"initializer_range": 0.02/"initializer_range": 0.05/' \
  albert_config/albert_config_tiny.json > "$config"

if [ ! -e "$out/held_out.txt" ]; then
  "$python" recipes/held_out.py --corpus="$corpus" --megabytes=10 --share=0.05 --output_dir="$out"
fi
if [ ! -e "$out/entropy.json" ]; then
  "$python" recipes/held_out.py --entropy_of="$out/held_out.txt" --vocab_file=$vocab \
    > "$out/entropy.json"
fi

create_data() {
  if [ ! -e "$out/$1.tfrecord" ]; then
    "$python" create_pretraining_data.py \
      --input_file="$out/$1.txt" --output_file="$out/$1.tfrecord" --vocab_file=$vocab \
      --max_seq_length=128 --max_predictions_per_seq="$2" --masked_lm_prob="$3" --dupe_factor="$4" \
      --do_whole_word_mask=False --ngram=1
  fi
}
create_data train 51 0.40 2
create_data held_out 20 0.15 1

if [ ! -e "$out/pretrained/eval_results.json" ]; then
  "$python" run_pretraining.py --do_train=True --do_eval=True \
    --input_file="$out/train.tfrecord" --eval_input_file="$out/held_out.tfrecord" \
    --output_dir="$out/pretrained" --bert_config_file="$config" \
    --max_seq_length=128 --max_predictions_per_seq=51 --train_batch_size=16 \
    --num_train_steps=2000 --num_warmup_steps=100 --optimizer=adamw --learning_rate=0.0007 \
    --save_checkpoints_steps=500
fi

mkdir -p "$out/lcqmc"
head -n 20000 "$lcqmc/train.tsv" > "$out/lcqmc/train.tsv"
cp "$lcqmc/dev.tsv" "$out/lcqmc/dev.tsv"
for start in pretrained random; do
  if [ ! -e "$out/lcqmc_$start/eval_results.json" ]; then
    init=()
    if [ $start = pretrained ]; then
      init=(--init_checkpoint="$out/pretrained")
    fi
    "$python" run_classifier.py --task_name=lcqmc_pair --do_train=True --do_eval=True \
      --data_dir="$out/lcqmc" --vocab_file=$vocab --bert_config_file="$config" \
      --max_seq_length=48 --train_batch_size=32 --learning_rate=1e-4 --num_train_epochs=1 \
      --output_dir="$out/lcqmc_$start" "${init[@]}"
  fi
done

for result in entropy.json pretrained/eval_results.json lcqmc_{pretrained,random}/eval_results.json
do
  echo "== $result"
  cat "$out/$result"
done
