#!/usr/bin/env bash
# Tests the same files under TensorFlow 1.15 and Python 3.7: the recorded outputs, gradients and
# optimizer steps of the published code, whole steps compiled by XLA as on a TPU, records,
# checkpoints, and all commands from text to predictions. If there is no Python 3.7, it prints that
# and ends with status 0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TF_CPP_MIN_LOG_LEVEL=2

TESTS=(
  tests/library/test_{modeling,packed_rows,lamb_optimizer,optimization}.py
  tests/training/test_precision.py
  tests/tfrecords/test_order.py
  tests/masking/test_graph.py
  tests/checkpointing/test_{restore,run_folder}.py
)

run_pytest() {
  .venv-legacy/bin/python -m pytest -qq -p no:cacheprovider "$@"
}

status=0
UV_PYTHON_DOWNLOADS=never bash make_venv.sh --legacy || status=$?
if [ "$status" -eq 3 ]; then
  echo "TensorFlow 1.15: not tested (PYTHON37=/path/to/python3.7 names a Python that is not on PATH)"
  exit 0
fi
# The commands run beside the other tests: pytest-xdist would start a file of one test last.
# Tests of `fused` need TensorFlow 2; the tests of the curves of half precision take long.
if [ "$status" -eq 0 ]; then
  run_pytest tests/entries/test_whole_path.py &
  commands=$!
  trap 'kill "$commands"' INT TERM
  run_pytest -n 2 --dist loadfile -k "not fused and not curves and not any_documents" \
    "${TESTS[@]}" || status=$?
  wait "$commands" || status=$?
fi
if [ "$status" -ne 0 ]; then
  echo "TensorFlow 1.15: FAILED"
  exit "$status"
fi
echo "TensorFlow 1.15: passed in $SECONDS s"
