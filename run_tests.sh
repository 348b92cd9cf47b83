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
# The tests under TensorFlow 1.15 run beside the others, with a lower priority. The EXIT trap ends
# them, too, if the other tests fail or are interrupted.
log=$(mktemp)
set -m # a process group of its own
nice -n 10 bash tests/run_legacy.sh >"$log" 2>&1 &
legacy=$!
set +m
trap 'kill -- "-$legacy" 2>/dev/null || true; rm -f "$log"' EXIT
# A file's tests share models, so they stay in one process; files start in the order of conftest.py.
# On two cores a third process helps, because some tests wait for processes, locks or signals.
.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
status=0
wait "$legacy" || status=$?
cat "$log"
exit "$status"
