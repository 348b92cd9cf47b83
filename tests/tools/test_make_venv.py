"""make_venv.sh calls uv if something changed, replaces a wrong .venv, reports a missing Python."""

import shutil
import subprocess
import sys

import pytest

# Programs that the scripts call. The PATH of the tests has only these, uv and python3.
TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "grep", "mkdir", "mktemp", "rm", "sed")
# A stand-in for uv. The stand-in writes its arguments to calls.txt, and fails if they begin with
# $FAILS. `uv venv` makes a stand-in for Python, which fails if its arguments contain $FAILS. The
# stand-in for Python writes $PYTHONDONTWRITEBYTECODE and what it imports to imports.txt.
UV = r"""#!/bin/sh
echo "$UV_DEFAULT_INDEX $*" >>calls.txt
case "$*" in "$FAILS"*) exit 1 ;; esac
if [ "$1" = venv ]; then
  for venv; do :; done
  mkdir -p "$venv/bin"
  cat >"$venv/bin/python" <<'END'
#!/bin/sh
case "$*" in
  *"$FAILS"*) exit 1 ;;
  *"import tensorflow"*) echo "$PYTHONDONTWRITEBYTECODE tensorflow" >>imports.txt ;;
esac
END
  chmod +x "$venv/bin/python"
fi
"""
# A stand-in for python3. The pip of this stand-in has a mirror of PyPI, and installs the uv beside
# this file.
PYTHON3 = r"""#!/bin/sh
if [ "$3" = config ]; then echo mirror; exit; fi
mkdir "$6/bin"
cp "$0.uv" "$6/bin/uv"
"""


@pytest.fixture
def folder(root, tmp_path):
    """A checkout with a space in its name: the two scripts and what they read."""
    path = tmp_path / "my models"
    (path / "tests").mkdir(parents=True)
    for name in ("make_venv.sh", "pyproject.toml", "constraints.txt", "tests/run_legacy.sh"):
        shutil.copy(str(root / name), str(path / name))
    (path / "calls.txt").write_text("")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    for name, text in (("uv", UV), ("python3", PYTHON3)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return path


def run(folder, *arguments, script="make_venv.sh", fails="nothing", **environment):
    tools = folder.parent / "bin"
    paths = {"PATH": str(tools), "HOME": str(folder), "TMPDIR": str(folder)}
    return subprocess.run(
        ["bash", str(folder / script)] + list(arguments),
        cwd=str(folder.parent),
        env=dict(paths, FAILS=fails, **environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )


def calls(folder):
    """Return the command lines of uv since the last call of this function."""
    lines = (folder / "calls.txt").read_text().splitlines()
    (folder / "calls.txt").write_text("")
    return lines


@pytest.mark.parametrize("words", [["--legcy"], ["plots"], ["--legacy", "plot"], ["beam", "--tpu"]])
def test_unknown_arguments_end_before_anything_is_made(folder, words):
    ended = run(folder, *words)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert "takes no other arguments" in ended.stderr or ended.stderr.endswith(
        "is none of --legacy --tpu --tpu-compile beam export interop plot tpu test\n"
    )
    assert calls(folder) == [] and not list(folder.glob(".venv*"))


def test_help_is_the_comment(folder):
    ended = run(folder, "--help")
    assert ended.returncode == 0 and ended.stdout.startswith("Makes .venv beside this file")
    assert "bash make_venv.sh --legacy " in ended.stdout and "set -eu" not in ended.stdout
    assert calls(folder) == []


def test_makes_once_and_installs_what_changed(folder):
    assert run(folder, "test", "beam").returncode == 0
    make, install = calls(folder)
    assert make == "mirror venv --quiet --seed --python >=3.9,<3.12 .venv"
    packages = "-r pyproject.toml --extra=test --extra=beam -c constraints.txt"
    assert install == "mirror pip install --quiet --python .venv " + packages

    assert run(folder, "test", "beam").returncode == 0
    assert calls(folder) == []

    assert run(folder).returncode == 0
    (install,) = calls(folder)
    assert "--python .venv -r pyproject.toml -c constraints.txt" in install

    (folder / "constraints.txt").write_text("# changed\n")
    assert run(folder, fails="pip install").returncode == 2
    assert run(folder).returncode == 0
    assert len(calls(folder)) == 2


def test_tensorflow_is_compiled_once_even_if_python_should_not_keep_it(folder):
    assert run(folder, PYTHONDONTWRITEBYTECODE="1").returncode == 0
    assert run(folder, PYTHONDONTWRITEBYTECODE="1").returncode == 0
    assert (folder / "imports.txt").read_text() == " tensorflow\n"


def test_uv_comes_from_pypi_if_it_is_missing(folder):
    tools = folder.parent / "bin"
    (tools / "uv").rename(tools / "python3.uv")
    ended = run(folder, UV_DEFAULT_INDEX="own index")
    assert ended.returncode == 0, ended.stderr
    assert [line.split(" --quiet")[0] for line in calls(folder)] == [
        "own index venv",
        "own index pip install",
    ]
    assert not list(folder.glob("tmp.*"))


def test_a_venv_of_another_python_is_replaced(folder):
    for name in (".venv", ".venv-legacy"):
        (folder / name / "bin").mkdir(parents=True)
        (folder / name / "bin" / "python").symlink_to(sys.executable)
    assert "Making" not in run(folder).stderr
    assert "Making .venv-legacy anew with Python 3.7" in run(folder, "--legacy").stderr
    assert not (folder / ".venv-legacy" / "bin" / "python").is_symlink()
    assert calls(folder)[-1].endswith("pip install --quiet --python .venv-legacy --group legacy")


def test_a_half_made_venv_is_replaced(folder):
    (folder / ".venv" / "lib").mkdir(parents=True)
    assert run(folder, PYTHON="/opt/python").returncode == 0
    assert not (folder / ".venv" / "lib").exists()
    assert "--python /opt/python .venv" in calls(folder)[0]


@pytest.mark.parametrize(
    "arguments, environment, status, versions",
    [
        ([], {"PYTHON": "/nowhere"}, 2, "3.9, 3.10 or 3.11"),
        (["--legacy"], {}, 3, "3.7"),
        (["--legacy"], {"PYTHON37": "/nowhere"}, 2, "3.7"),
    ],
)
def test_without_a_python_it_reports_which_ones_suit(
    folder, arguments, environment, status, versions
):
    ended = run(folder, *arguments, fails="venv", **environment)
    assert ended.returncode == status
    assert "error: no Python {}: install one".format(versions) in ended.stderr


@pytest.mark.parametrize(
    "fails, status, report",
    [
        ("venv", 0, "not tested"),
        ("pip install", 2, "FAILED"),
        ("pytest", 1, "FAILED"),
        ("nothing", 0, "passed in"),
    ],
)
def test_legacy_tests_end_with_one_clear_line(folder, fails, status, report):
    ended = run(folder, script="tests/run_legacy.sh", fails=fails)
    assert ended.returncode == status
    assert ended.stdout.startswith("TensorFlow 1.15: " + report) and ended.stdout.count("\n") == 1
