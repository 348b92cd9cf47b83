#!/usr/bin/env bash
# Makes .venv where needed, then ruff over everything, pytest, and a part of it under TensorFlow 1.15.
# Arguments go to pytest, with which it ends then; paths are relative to this folder:
#     bash run_tests.sh tests/test_cli.py -k help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash make_venv.sh requirements.txt requirements-test.txt requirements-beam.txt requirements-export.txt
export TF_CPP_MIN_LOG_LEVEL=2
.venv/bin/python -m ruff check .
.venv/bin/python -m pytest "$@"
[ $# -gt 0 ] || bash tests/run_legacy.sh
