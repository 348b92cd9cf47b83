#!/usr/bin/env bash
# Makes .venv if needed, then runs ruff, pytest in three processes, and beside it a part of the tests
# under TensorFlow 1.15. Arguments go to pytest, which then runs in one process, and TensorFlow 1.15
# is left out. Paths are relative to this folder:
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
# Both runs have times in which a core waits: installations, locks, the last file. So they overlap.
legacy_log=$(mktemp)
set -m # gives the run a process group, so that all of its processes end with this script
bash tests/run_legacy.sh >"$legacy_log" 2>&1 &
legacy=$!
set +m
trap 'kill -- "-$legacy" 2>/dev/null || true; rm -f "$legacy_log"' EXIT
# A file's tests share models, so they stay in one process; files start in the order of conftest.py.
# On two cores a third process helps, because some tests wait for processes, locks or signals.
status=0
.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder || status=$?
wait "$legacy" || status=$?
cat "$legacy_log"
exit "$status"
