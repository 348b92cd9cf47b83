#!/usr/bin/env bash
# data/news_zh_1.txt -> data/tf_news_2016_zh_raw_news2016zh_1.tfrecord, with the published settings.
# Further arguments go to create_pretraining_data.py. If a flag is given twice, the last one counts.
# Relative paths in arguments begin in your folder, wherever this file is.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail
folder=$(dirname "$0")

PYTHON=python3
if [ -x "$folder/.venv/bin/python" ]; then
  PYTHON=$folder/.venv/bin/python
fi

"$PYTHON" "$folder/create_pretraining_data.py" \
  --do_whole_word_mask=True \
  --input_file="$folder/data/news_zh_1.txt" \
  --output_file="$folder/data/tf_news_2016_zh_raw_news2016zh_1.tfrecord" \
  --vocab_file="$folder/albert_config/vocab.txt" \
  --do_lower_case=True \
  --max_seq_length=512 \
  --max_predictions_per_seq=51 \
  --masked_lm_prob=0.10 \
  --dupe_factor=10 \
  "$@"
