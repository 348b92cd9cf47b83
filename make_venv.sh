#!/usr/bin/env bash
# Makes .venv beside this file and installs the requirements files that are named.
# A second run finds nothing to do. PYTHON=/path/to/python3.11 chooses the interpreter.
#
#     bash make_venv.sh [REQUIREMENTS.txt...]        default: requirements.txt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ $# -gt 0 ] || set -- requirements.txt

# TensorFlow 2.15, the last release with Estimator, has packages for these versions only.
SUITABLE='
import sys
ok = (3, 9) <= sys.version_info[:2] <= (3, 11) and sys.maxsize > 2**32
sys.exit(not ok)
'
UV_PYTHON=3.11
# pip and uv must not be turned elsewhere by what the shell has set.
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV

say() { printf '[venv] %s\n' "$*" >&2; }

can_make_venv() { "$1" -c "import ensurepip, venv; $SUITABLE" >/dev/null 2>&1; }

# Prints the first suitable interpreter among the usual places; fails where there is none.
find_python() {
  local candidate
  for candidate in python3.11 python3.10 python3.9 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.{11,10,9}.*/bin/python3 \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-3.{11,10,9}*/bin/python3; do
    if can_make_venv "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Installs a Python into the user's data folder by uv, which comes from PyPI; prints its path.
fetch_python() (
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  uv=$(command -v uv) || {
    uv=$folder/bin/uv
    say "Installing uv from PyPI into a temporary folder"
    python3 -m pip install --quiet --target "$folder" uv >&2 || return 1
  }
  say "Fetching Python $UV_PYTHON with uv"
  "$uv" python install "$UV_PYTHON" >&2 && "$uv" python find --no-project "$UV_PYTHON"
)

choose_python() {
  if [ -n "${PYTHON:-}" ]; then
    can_make_venv "$PYTHON" && echo "$PYTHON" && return
    say "error: PYTHON=$PYTHON is no Python 3.9-3.11 (64 bits) with the modules venv and ensurepip"
    return 2
  fi
  find_python && return
  say "No Python 3.9-3.11 with venv here ($(python3 --version 2>&1 || true))"
  fetch_python && return
  say "error: no Python 3.9-3.11 was found and none could be fetched. Install one, for example"
  say "  apt-get install python3.11 python3.11-venv    pyenv install 3.11    conda create -n py311 python=3.11"
  say "and run the same command again; PYTHON=/path/to/python3.11 before it names one that is not on PATH"
  return 2
}

is_sound() { .venv/bin/python -c "$SUITABLE" && .venv/bin/python -m pip --version; }

make_venv() {
  local python
  if [ -e .venv ] || [ -L .venv ]; then
    is_sound >/dev/null 2>&1 && return
    say "Removing .venv: $(.venv/bin/python --version 2>&1 || true) (broken, half-made, or not 3.9-3.11)"
    rm -rf .venv
  fi
  python=$(choose_python)
  say "Making .venv with $("$python" --version) ($python)"
  "$python" -m venv .venv
}

# A copy of each installed requirements file stays in .venv: equal files need no pip.
install_requirements() {
  local file current=true options=()
  for file in "$@"; do
    cmp -s "$file" ".venv/installed-$file" || current=false
    options+=(--requirement "$file")
  done
  if "$current"; then
    say "$(.venv/bin/python --version) in .venv has all of: $*"
    return
  fi
  say "Installing $* (the first time about 600 MB, a minute or more)"
  .venv/bin/python -m pip install --no-input "${options[@]}" >.venv/pip.log 2>&1 || {
    tail -n 20 .venv/pip.log >&2
    say "error: pip failed (above, whole in .venv/pip.log); run the same command again when that is mended"
    return 2
  }
  for file in "$@"; do cp "$file" ".venv/installed-$file"; done
}

for file in "$@"; do
  [ -f "$file" ] || { say "error: $file does not exist"; exit 2; }
done
make_venv
install_requirements "$@"
