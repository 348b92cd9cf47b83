#!/usr/bin/env bash
# Makes .venv if needed, then runs ruff, pytest, and a part of the tests under TensorFlow 1.15.
# Arguments go to pytest, and TensorFlow 1.15 is left out. Paths are relative to this folder:
#     bash run_tests.sh tests/common/test_cli.py -k help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash make_venv.sh test beam export plot
export TF_CPP_MIN_LOG_LEVEL=2
.venv/bin/python -m ruff check .
.venv/bin/python -m pytest "$@"
[ $# -gt 0 ] || bash tests/run_legacy.sh
