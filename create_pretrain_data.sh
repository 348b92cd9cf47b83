#!/usr/bin/env bash
# data/news_zh_1.txt -> data/tf_news_2016_zh_raw_news2016zh_1.tfrecord, with the published settings.
# Further arguments go to create_pretraining_data.py. If a flag is given twice, the last one counts.
set -euo pipefail
cd "$(dirname "$0")"

PYTHON=python3
if [ -x .venv/bin/python ]; then
  PYTHON=.venv/bin/python
fi

"$PYTHON" create_pretraining_data.py \
  --do_whole_word_mask=True \
  --input_file=./data/news_zh_1.txt \
  --output_file=./data/tf_news_2016_zh_raw_news2016zh_1.tfrecord \
  --vocab_file=./albert_config/vocab.txt \
  --do_lower_case=True \
  --max_seq_length=512 \
  --max_predictions_per_seq=51 \
  --masked_lm_prob=0.10 \
  --dupe_factor=10 \
  "$@"
