#!/usr/bin/env bash
# Makes .venv beside this file with uv, which finds or fetches a Python and installs the dependencies
# of pyproject.toml and of the named extras, in the versions of constraints.txt.
# A second run finds nothing to do. PYTHON=/path/to/python3.11 chooses the interpreter.
#
#     bash make_venv.sh [EXTRA...]     for example: bash make_venv.sh beam export
#     bash make_venv.sh --tpu          on a TPU VM: keeps the TensorFlow of its image, which is the
#                                      only one with kernels for the TPU, and adds the rest
#     bash make_venv.sh --tpu-compile  JAX and the TPU compiler in .venv-tpu-compile, for
#                                      benchmarks/tpu_compile.py
#     bash make_venv.sh --legacy       TensorFlow 1.15 in .venv-legacy, with Python 3.7 or PYTHON37;
#                                      status 3 if there is no Python 3.7
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh may be another shell
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
say() { echo "[venv] $*" >&2; }
extras=$(sed -n '/^\[project.optional-dependencies\]/,/^\[/s/^\([a-z]*\) = \[.*/\1/p' pyproject.toml)
for word; do
  case $word in
    --help | -h) sed -n '2,/^set/s/^# \{0,1\}//p' make_venv.sh && exit ;;
    --legacy | --tpu | --tpu-compile) [ $# = 1 ] || { say "error: $word takes no other arguments"; exit 2; } ;;
    *)
      grep -qxF -- "$word" <<<"$extras" ||
        { say "error: '$word' is none of --legacy --tpu --tpu-compile" $extras; exit 2; }
      ;;
  esac
done
venv=.venv versions="3.9, 3.10 or 3.11" python=${PYTHON:-">=3.9,<3.12"} missing=2
packages=(-r pyproject.toml "${@/#/--extra=}" -c constraints.txt)
if [ "${1:-}" = --legacy ]; then
  venv=.venv-legacy versions=3.7 python=${PYTHON37:-3.7} packages=(--group legacy)
  [ -n "${PYTHON37:-}" ] || missing=3
elif [ "${1:-}" = --tpu-compile ]; then
  venv=.venv-tpu-compile versions="3.11, 3.12 or 3.13" packages=(--group tpu-compile)
  python=">=3.11,<3.14"
fi
is_suitable() {
  "$venv/bin/python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] not in '$versions')"
} 2>/dev/null

wanted="$(cat pyproject.toml constraints.txt | cksum) $*"
is_suitable && grep -qsxF "$wanted" "$venv/installed" && exit
if [ "${1:-}" = --tpu ]; then
  "${PYTHON:-python3}" -m venv --system-site-packages "$venv"
  "$venv/bin/python" -m pip install --quiet --editable ".[tpu]"
  echo "$wanted" >>"$venv/installed"
  exit
fi
uv=$(command -v uv) || {
  folder=$(mktemp -d) uv=$folder/bin/uv
  trap 'rm -rf "$folder"' EXIT
  python3 -m pip install -qq --target "$folder" uv || { say "error: pip cannot install uv"; exit 2; }
}
# uv does not read pip's settings, so this line gives it the mirror of PyPI that pip uses.
export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}
for bin in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin; do PATH=$PATH:$bin; done
if ! is_suitable; then
  say "Making $venv anew with Python $versions" && rm -rf "$venv"
  "$uv" venv --quiet --seed --python "$python" "$venv" && is_suitable ||
    { say "error: no Python $versions: install one, then PYTHON=/path/to/python"; exit "$missing"; }
fi
say "Installing dependencies into $venv (the first time hundreds of MB, a minute or more)"
"$uv" pip install --quiet --python "$venv" "${packages[@]}" || { say "error: uv failed"; exit 2; }
# uv installs sources only. Python compiles them at the first import and keeps the result, unless
# PYTHONDONTWRITEBYTECODE is set: then every program would spend 4 s on compiling TensorFlow.
unset PYTHONDONTWRITEBYTECODE
"$venv/bin/python" -c "import tensorflow.compat.v1 as tf; tf.estimator" 2>/dev/null || true # --tpu-compile has none
echo "$wanted" >>"$venv/installed"
