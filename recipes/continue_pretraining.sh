#!/usr/bin/env bash
# Continues the pre-training of a checkpoint on your own text. The script evaluates on a part of
# your text that is held out, and on general text, before the first step and after every 100 steps.
# At the end the script draws the curves of both texts. The curve of your text shows what the model
# learns. The curve of the general text shows what the model forgets. A stage whose result exists is
# skipped, and a run that was stopped continues.
#
#   bash recipes/continue_pretraining.sh TEXT GENERAL_TEXT CHECKPOINT CONFIG OUTPUT_DIR [FLAGS...]
#
# TEXT, GENERAL_TEXT: one sentence a line, a blank line between documents. 5% of the documents of
# TEXT are held out. GENERAL_TEXT is never trained on; a megabyte is enough. CHECKPOINT and CONFIG:
# the published model. FLAGS are flags of run_pretraining.py, such as --num_train_steps=2000.
#
# The learning rate is a tenth of the peak of a pre-training with AdamW. With a higher rate the
# model forgets more.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail

if [ $# -lt 5 ]; then
  echo "usage: bash recipes/continue_pretraining.sh TEXT GENERAL_TEXT CHECKPOINT CONFIG OUTPUT_DIR [FLAGS...]" >&2
  exit 2
fi
text=$(realpath -m "$1")
general=$(realpath -m "$2")
checkpoint=$(realpath -m "$3")
config=$(realpath -m "$4")
out=$(realpath -m "$5")
shift 5
cd "$(dirname "$0")/.."

python=python3
if [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi
. recipes/same_texts.sh
refuse_other_texts "$out" "$text" "$general"
mkdir -p "$out/records"

create_data() {  # TEXT NAME
  if [ ! -e "$out/records/$2.tfrecord" ]; then
    "$python" create_pretraining_data.py \
      --input_file="$1" --output_file="$out/records/$2.tfrecord" \
      --vocab_file=albert_config/vocab.txt --record_format=compact \
      --max_seq_length=128 --max_predictions_per_seq=20 --masked_lm_prob=0.15
  fi
}

if [ ! -e "$out/text/held_out.txt" ]; then
  "$python" recipes/held_out.py --corpus="$text" --megabytes=100000 --share=0.05 --output_dir="$out/text"
fi
create_data "$out/text/train.txt" train
create_data "$out/text/held_out.txt" held_out
create_data "$general" general

"$python" run_pretraining.py --do_train=True --do_eval=True \
  --input_file="$out/records/train.tfrecord" --eval_input_file="$out/records/held_out.tfrecord" \
  --general_eval_input_file="$out/records/general.tfrecord" \
  --init_checkpoint="$checkpoint" --bert_config_file="$config" --output_dir="$out/continued" \
  --max_seq_length=128 --train_batch_size=32 --optimizer=adamw --learning_rate=6e-5 \
  --pooler_lr_factor=0.05 \
  --num_train_steps=1000 --num_warmup_steps=100 --eval_every_steps=100 "$@"
"$python" plot_training.py "$out/continued"
