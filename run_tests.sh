#!/usr/bin/env bash
# Makes .venv where needed, then ruff over everything, then pytest.
# Arguments go to pytest; paths are relative to this folder:  bash run_tests.sh tests/test_cli.py -k help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash make_venv.sh requirements.txt requirements-test.txt requirements-beam.txt
export TF_CPP_MIN_LOG_LEVEL=2
.venv/bin/python -m ruff check .
exec .venv/bin/python -m pytest "$@"
