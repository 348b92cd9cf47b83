"""make_venv.sh makes and keeps .venv, removes what does not serve, asks for a Python if need be."""

import os
import shutil
import subprocess
import sys

import pytest

# What the script calls beside Python; a PATH of these alone is a machine without any Python.
TOOLS = ("bash", "dirname", "mktemp", "rm", "cmp", "cp")


@pytest.fixture
def folder(root, tmp_path):
    """A folder with a space in its name that holds the script and an empty requirements file."""
    made = tmp_path / "my models"
    made.mkdir()
    shutil.copy(str(root / "make_venv.sh"), str(made))
    for name in ("requirements.txt", "requirements-legacy.txt"):
        (made / name).write_text("")
    return made


def run(folder, *arguments, **environment):
    return run_script(folder / "make_venv.sh", *arguments, **environment)


def run_script(script, *arguments, **environment):
    return subprocess.run(
        ["bash", str(script)] + list(arguments),
        cwd=str(script.parent.parent),
        env=dict(os.environ, **environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )


def test_makes_once_and_installs_what_changed(folder):
    first = run(folder, PYTHON=sys.executable)
    assert first.returncode == 0, first.stderr
    assert "Making .venv" in first.stderr and "Installing requirements.txt" in first.stderr

    second = run(folder, PYTHON="/nowhere")  # not needed any more
    assert second.returncode == 0
    assert "has all of: requirements.txt" in second.stderr and "Installing" not in second.stderr

    (folder / "requirements.txt").write_text("# changed\n")
    assert "Installing requirements.txt" in run(folder).stderr


@pytest.mark.parametrize(
    "python, told",
    [
        ('[ "$1" = --version ] && echo Python 3.13.0; exit 1', "Python 3.13.0"),
        ('[ "$2" != pip ]', "(broken, half-made"),  # made, but stopped before pip was there
    ],
)
def test_a_venv_that_does_not_serve_is_removed(folder, python, told):
    path = folder / ".venv" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n" + python + "\n")
    path.chmod(0o755)
    ended = run(folder, PYTHON="/nowhere")
    assert ended.returncode == 2
    assert "Removing .venv: " in ended.stderr and told in ended.stderr
    assert "error: PYTHON=/nowhere is no Python 3.11 3.10 3.9 " in ended.stderr
    assert not (folder / ".venv").exists()


@pytest.fixture
def no_python(tmp_path):
    """The environment of a machine without any Python, whose uv cannot fetch one."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    (tools / "uv").write_text("#!/bin/sh\nexit 1\n")
    (tools / "uv").chmod(0o755)
    paths = {name: str(tmp_path) for name in ("HOME", "PYENV_ROOT", "XDG_DATA_HOME")}
    return dict(paths, PATH=str(tools), PYTHON="", PYTHON37="")


def test_without_any_python_it_says_what_to_install(folder, no_python):
    ended = run(folder, **no_python)
    assert ended.returncode == 2
    assert "Fetching Python 3.11 with uv" in ended.stderr
    assert "apt-get install python3.11" in ended.stderr
    assert not (folder / ".venv").exists()


def test_a_missing_requirements_file_is_named(folder):
    (folder / "requirements.txt").unlink()
    ended = run(folder, "requirements.txt")
    assert ended.returncode == 2 and "requirements.txt does not exist" in ended.stderr


def test_legacy_is_another_folder_and_another_python(folder):
    ended = run(folder, "--legacy", PYTHON=sys.executable, PYTHON37="/nowhere")
    assert ended.returncode == 2
    assert "error: PYTHON=/nowhere is no Python 3.7 " in ended.stderr
    python = folder / ".venv-legacy" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")  # sound, as far as can be seen
    python.chmod(0o755)
    assert "has all of: requirements-legacy.txt" not in run(folder, "--legacy").stderr
    assert "has all of: requirements-legacy.txt" in run(folder, "--legacy").stderr
    assert not (folder / ".venv").exists()


@pytest.fixture
def legacy(folder, root):
    """`folder` with the script that tests under TensorFlow 1.15."""
    (folder / "tests").mkdir()
    shutil.copy(str(root / "tests" / "run_legacy.sh"), str(folder / "tests"))
    return folder / "tests" / "run_legacy.sh"


def test_legacy_tests_are_left_out_without_its_python(legacy, no_python):
    ended = run_script(legacy, **no_python)
    assert ended.returncode == 0
    assert ended.stdout.startswith("TensorFlow 1.15: not tested") and ended.stdout.count("\n") == 1
    assert not (legacy.parent.parent / ".venv-legacy").exists()


@pytest.mark.parametrize(
    "fails, status, last",
    [("pip install", 2, "FAILED"), ("pytest", 1, "FAILED"), ("nothing", 0, "passed in")],
)
def test_legacy_tests_end_with_one_clear_line(legacy, fails, status, last):
    python = legacy.parent.parent / ".venv-legacy" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$*" in *"{}"*) exit 1;; esac\n'.format(fails))
    python.chmod(0o755)
    ended = run_script(legacy)
    assert ended.returncode == status
    assert ended.stdout.startswith("TensorFlow 1.15: " + last) and ended.stdout.count("\n") == 1
