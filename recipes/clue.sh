#!/usr/bin/env bash
# Fine-tunes a model on every task of CLUE whose files are there, with CLUE's settings, and writes
# the files for CLUE's test sets.
#
#   bash recipes/clue.sh CHECKPOINT CLUE_DIR OUTPUT_DIR [FLAGS]
#
# CHECKPOINT is a pre-trained model. CLUE_DIR has a folder for each task, under the name of the task
# here: afqmc, tnews, iflytek, cmnli, ocnli, cluewsc2020, csl, cmrc2018, drcd, chid, c3, cluener. Each
# folder holds the files as CLUE publishes them. Tasks without train and dev files are left out.
#
# The script skips finished tasks, and continues a task that was stopped. At the end it prints a table
# of all scores on dev beside the published ones, and writes OUTPUT_DIR/results.json and
# OUTPUT_DIR/clue_submission.zip. FLAGS: the flags of recipes/clue.py, such as --tasks and --seeds.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail

if [ $# -lt 3 ] || [[ "$1" == -* || "$2" == -* || "$3" == -* ]]; then
  echo "usage: bash recipes/clue.sh CHECKPOINT CLUE_DIR OUTPUT_DIR [FLAGS]" >&2
  exit 2
fi
checkpoint=$(realpath -m "$1")
data=$(realpath -m "$2")
out=$(realpath -m "$3")
root=$(dirname "$0")/..  # no cd: FLAGS may have relative paths

python=python3
if [ -x "$root/.venv/bin/python" ]; then
  python=$root/.venv/bin/python
fi
"$python" "$root/recipes/clue.py" --checkpoint="$checkpoint" --data_dir="$data" --output_dir="$out" "${@:4}"
