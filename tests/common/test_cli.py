"""Every entry script ends a user's mistake in one line and exit status 2."""

import subprocess
import sys

import pytest

SCRIPT = """
from absl import flags
from common import cli
from common.errors import UserError

def define_flags(flag_values):
    flags.DEFINE_integer("count", 1, "How many.", flag_values=flag_values)

def main(args):
    if args.count < 0:
        raise UserError("--count=-1 is negative:\\nuse 0 or more")
    if args.count > 9:
        raise KeyboardInterrupt
    print("count", args.count)

cli.run(main, define_flags)
"""


def run(root, *arguments):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT] + list(arguments),
        cwd=str(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )


def test_runs_main_with_the_flags(root):
    ended = run(root, "--count=3")
    assert (ended.returncode, ended.stdout) == (0, "count 3\n")


@pytest.mark.parametrize("argument", ["--count=-1", "--count=x", "--counts=1", "stray"])
def test_mistakes_end_in_one_line_and_status_2(root, argument):
    ended = run(root, argument)
    assert ended.returncode == 2
    assert ended.stdout == "" and len(ended.stderr.splitlines()) == 1
    assert "error: " in ended.stderr


def test_ctrl_c_ends_in_one_line(root):
    ended = run(root, "--count=10")
    assert (ended.returncode, ended.stderr) == (130, "-c: interrupted\n")


def test_help_lists_the_flags(root):
    ended = run(root, "--help")
    assert ended.returncode == 0 and "--count" in ended.stdout


def test_words_reach_main_where_there_may_be_some(root):
    script = SCRIPT.replace("main(args)", "main(args, words)").replace(
        "cli.run(main, define_flags)", "cli.run(main, define_flags, words='FILE...')"
    )
    script = script.replace('"count", args.count', '"count", args.count, words')
    ended = subprocess.run(
        [sys.executable, "-c", script, "a", "--count=2", "b"],
        cwd=str(root),
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    assert ended.stdout == "count 2 ['a', 'b']\n"
