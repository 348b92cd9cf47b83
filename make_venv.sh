#!/usr/bin/env bash
# Makes .venv beside this file and installs the requirements files that are named.
# A second run finds nothing to do. PYTHON=/path/to/python3.11 chooses the interpreter.
#
#     bash make_venv.sh [REQUIREMENTS.txt...]        default: requirements.txt
#     bash make_venv.sh --legacy                     TensorFlow 1.15: .venv-legacy with Python 3.7
#
# --legacy takes PYTHON37=/path/to/python3.7, and ends with status 3 where there is no Python 3.7.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# TensorFlow 2.15, the last release with Estimator, has packages for these versions of Python only.
VENV=.venv VERSIONS="3.11 3.10 3.9"
if [ "${1:-}" = --legacy ]; then
  VENV=.venv-legacy VERSIONS=3.7 PYTHON=${PYTHON37:-}
  set -- requirements-legacy.txt
fi
[ $# -gt 0 ] || set -- requirements.txt
BEST=${VERSIONS%% *}
SUITABLE="
import sys
ok = '%d.%d' % sys.version_info[:2] in '$VERSIONS'.split() and sys.maxsize > 2**32
sys.exit(not ok)
"
# pip and uv must not be turned elsewhere by what the shell has set.
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV

say() { printf '[venv] %s\n' "$*" >&2; }

can_make_venv() { "$1" -c "import ensurepip, venv; $SUITABLE" >/dev/null 2>&1; }

# Prints the first suitable interpreter among the usual places; fails where there is none.
find_python() {
  local version candidate names=() pyenv=() uv=()
  for version in $VERSIONS; do
    names+=("python$version")
    pyenv+=("${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python3)
    uv+=("${XDG_DATA_HOME:-$HOME/.local/share}/uv/python/cpython-$version".*/bin/python3)
  done
  for candidate in "${names[@]}" python3 python "${pyenv[@]}" "${uv[@]}"; do
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
  say "Fetching Python $BEST with uv"
  "$uv" python install "$BEST" >&2 && "$uv" python find --no-project "$BEST"
)

choose_python() {
  if [ -n "${PYTHON:-}" ]; then
    can_make_venv "$PYTHON" && echo "$PYTHON" && return
    say "error: PYTHON=$PYTHON is no Python $VERSIONS (64 bits) with the modules venv and ensurepip"
    return 2
  fi
  find_python && return
  say "No Python $VERSIONS with venv here ($(python3 --version 2>&1 || true))"
  [ "$VENV" = .venv ] || return 3
  fetch_python && return
  say "error: no Python $VERSIONS was found and none could be fetched. Install one, for example"
  say "  apt-get install python$BEST python$BEST-venv    pyenv install $BEST    conda create -n py python=$BEST"
  say "and run the same command again; PYTHON=/path/to/python$BEST before it names one that is not on PATH"
  return 2
}

is_sound() { "$VENV/bin/python" -c "$SUITABLE" && "$VENV/bin/python" -m pip --version; }

make_venv() {
  local python
  if [ -e "$VENV" ] || [ -L "$VENV" ]; then
    is_sound >/dev/null 2>&1 && return
    say "Removing $VENV: $("$VENV/bin/python" --version 2>&1 || true) (broken, half-made, or not $VERSIONS)"
    rm -rf "$VENV"
  fi
  python=$(choose_python)
  say "Making $VENV with $("$python" --version) ($python)"
  "$python" -m venv "$VENV"
}

# A copy of each installed requirements file stays in the folder: equal files need no pip.
install_requirements() {
  local file current=true options=()
  for file in "$@"; do
    cmp -s "$file" "$VENV/installed-$file" || current=false
    options+=(--requirement "$file")
  done
  if "$current"; then
    say "$("$VENV/bin/python" --version) in $VENV has all of: $*"
    return
  fi
  say "Installing $* (the first time hundreds of MB, a minute or more)"
  "$VENV/bin/python" -m pip install --no-input "${options[@]}" >"$VENV/pip.log" 2>&1 || {
    tail -n 20 "$VENV/pip.log" >&2
    say "error: pip failed (above, whole in $VENV/pip.log); run the same command again when that is mended"
    return 2
  }
  for file in "$@"; do cp "$file" "$VENV/installed-$file"; done
}

for file in "$@"; do
  [ -f "$file" ] || { say "error: $file does not exist"; exit 2; }
done
make_venv
install_requirements "$@"
