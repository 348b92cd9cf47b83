#!/usr/bin/env bash
# Fine-tunes the model of recipes/pretrain_tiny.sh, and on LCQMC also a model with random weights.
# The script skips finished runs, and continues a run that was stopped. At the end the script prints
# a table of all runs and writes OUTPUT_DIR/finetuned/results.json.
#
#   bash recipes/finetune_tiny.sh TASKS_DIR OUTPUT_DIR
#
# TASKS_DIR has the folders lcqmc, afqmc, tnews, chnsenticorp and ocnli, each with train and dev.
# If OCNLI has only a train file, hold out every tenth premise of it:
#   python recipes/held_out.py --json_lines=train.10k.json --key=sentence1 --output_dir=TASKS_DIR/ocnli
#
# OUTPUT_DIR is the folder that recipes/pretrain_tiny.sh wrote. The script takes about 2 hours
# on 2 cores.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail

if [ $# -ne 2 ]; then
  echo "usage: bash recipes/finetune_tiny.sh TASKS_DIR OUTPUT_DIR" >&2
  exit 2
fi
tasks=$(realpath -m "$1")
out=$(realpath -m "$2")
if [ ! -e "$out/deep.json" ]; then
  echo "finetune_tiny.sh: error: OUTPUT_DIR $out holds no model of recipes/pretrain_tiny.sh" >&2
  exit 2
fi
cd "$(dirname "$0")/.."

python=python3
if [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi
precision=float32
if grep -q avx512_bf16 /proc/cpuinfo 2> /dev/null; then
  precision=bfloat16
fi

finetune() {  # NAME TASK EPOCHS RATE FLAGS...
  "$python" run_classifier.py --task_name="$2" --data_dir="$tasks/$2" --do_train=True --do_eval=True \
    --vocab_file=albert_config/vocab.txt --bert_config_file="$out/deep.json" \
    --output_dir="$out/finetuned/$1" --num_train_epochs="$3" --max_seq_length=128 \
    --train_batch_size=64 --learning_rate="$4" --precision=$precision --evals_per_epoch=1 "${@:5}"
}

pretrained=(--init_checkpoint="$out/deep/best")
pairs=--max_train_examples=60000
finetune lcqmc_60k_pretrained lcqmc 2 1e-4 $pairs --seeds=1,2,3 "${pretrained[@]}"
finetune lcqmc_60k_random lcqmc 2 2e-4 $pairs --seeds=1,2,3
finetune lcqmc_full lcqmc 1 3e-4 "${pretrained[@]}"
# AFQMC is noisy, and 69% of its pairs have one label. So the run on AFQMC starts from the LCQMC
# model and uses dropout and the pairs in both orders.
if [ ! -e "$out/afqmc_both_orders/train.json" ]; then
  "$python" recipes/both_orders.py --task=afqmc --data_dir="$tasks/afqmc" --output_dir="$out/afqmc_both_orders"
fi
finetune afqmc_from_lcqmc afqmc 6 2e-4 --data_dir="$out/afqmc_both_orders" --best_metric=macro_f1 \
  --hidden_dropout_prob=0.15 --attention_probs_dropout_prob=0.15 \
  --init_checkpoint="$out/finetuned/lcqmc_full/best"
finetune chnsenticorp chnsenticorp 2 2e-4 "${pretrained[@]}"
finetune ocnli ocnli 3 2e-4 "${pretrained[@]}"
finetune tnews tnews 1 2e-4 "${pretrained[@]}"

"$python" recipes/results_table.py --folder="$out/finetuned"
