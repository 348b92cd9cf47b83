#!/usr/bin/env bash
# Makes .venv if needed, then runs ruff, pytest in three processes, and a part of the tests under
# TensorFlow 1.15. Arguments go to pytest, which then runs in one process, and TensorFlow 1.15 is
# left out. Paths are relative to this folder:
#     bash run_tests.sh tests/common/test_cli.py -k help
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash make_venv.sh test beam export plot
export TF_CPP_MIN_LOG_LEVEL=2
.venv/bin/python -m ruff check .
if [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
# A file's tests share models, so they stay in one process; files start in the order of conftest.py.
# On two cores a third process helps, because some tests wait for processes, locks or signals.
.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
bash tests/run_legacy.sh
