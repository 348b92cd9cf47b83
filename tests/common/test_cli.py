"""At a user's mistake every entry script prints one line and ends with status 2."""

import os
import shlex
import subprocess
import sys

import pytest
from absl import flags

from common import cli
from common.errors import UserError

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


def run(root, *arguments, script=SCRIPT):
    return subprocess.run(
        [sys.executable, "-c", script] + list(arguments),
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


def test_a_full_disk_that_a_library_tells_is_one_line(root):
    error = "RuntimeError('a.tmp/model.data; No space left on device, stack')"
    script = SCRIPT.replace("KeyboardInterrupt", error.replace(", stack", chr(92) + "nstack"))
    ended = run(root, "--count=10", script=script)
    assert ended.returncode == 2
    assert ended.stderr == (
        "-c: error: a.tmp/model.data; No space left on device: make room, then start again\n"
    )


@pytest.mark.parametrize(
    "word, message",
    [
        ("--train_cuont=1", "unknown flag --train_cuont: do you mean --train_count? (--help"),
        ("--tpu=a", "unknown flag --tpu: do you mean --tpu_name? (--help"),
        ("--use_gpu=True", "unknown flag --use_gpu: do you mean --require_accelerator? (--help"),
        ("--train_file=a", "unknown flag --train_file (--help"),
        ("--do_export=True", "unknown flag --do_export: that is a command here, export_model.py ("),
        ("--count=1", "unknown flag --count: do you mean --train_count? (--help"),
        ("--test_x=1", "unknown flag --test_x (--help lists the flags)"),
        ("-b", "unknown flag --b; put an argument that begins with a hyphen after -- (--help"),
        ("--train_count=1e4", "flag --train_count=1e4: give a whole number, in digits (--help"),
        ("--rate=fast", "flag --rate=fast: give a number (--help"),
        ("--rate=nan", "flag --rate=nan: give a number (--help"),
        ("--rate=1e999", "flag --rate=inf: give a number (--help"),
        ("--on=yes", "flag --on=yes: give True or False (--help lists the flags)"),
    ],
)
def test_what_the_parser_says(word, message):
    def define_flags(flag_values):
        flags.DEFINE_integer("train_count", 1, "How many.", flag_values=flag_values)
        cli.flag_definer(flag_values).float("rate", 0.1, "How fast.")
        flags.DEFINE_boolean("on", True, "Whether.", flag_values=flag_values)
        flags.DEFINE_boolean("require_accelerator", True, "Whether.", flag_values=flag_values)
        flags.DEFINE_boolean("use_tpu", True, "Whether.", flag_values=flag_values)
        flags.DEFINE_string("tpu_name", "", "Which.", flag_values=flag_values)
        flags.DEFINE_string(
            "test_xx", "", "Of a library.", flag_values=flag_values, module_name="absl.testing"
        )

    with pytest.raises(UserError) as error:
        cli.parse(define_flags, ["run", word], "TEXT..." if word == "-b" else None)
    assert str(error.value).startswith(message)


def test_all_unknown_flags_are_named():
    def define_flags(flag_values):
        flags.DEFINE_float("learning_rate", 0.1, "How fast.", flag_values=flag_values)

    words = ["--lr=1", "--learning_rate=1", "--size=2", "--size=3", "--", "--text"]
    with pytest.raises(UserError) as error:
        cli.parse(define_flags, ["run"] + words, "TEXT...")
    assert str(error.value).startswith(
        "unknown flag --lr: do you mean --learning_rate?; unknown flag --size; put an argument"
    )


def test_the_home_folder_may_be_written_as_in_a_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")

    def define_flags(flag_values):
        flags.DEFINE_string("input", None, "Files.", flag_values=flag_values)

    for given, expected in (
        ("~/a,b~/c,~/d", "/home/me/a,b~/c,/home/me/d"),
        ("a~/b", "a~/b"),
        ("~a/b", "~a/b"),
    ):
        assert cli.parse(define_flags, ["", "--input=" + given]).input == expected


@pytest.mark.parametrize("argument", ["--path=", "--path= ", "--path=,", "--names=", "--names=,"])
def test_an_empty_value_is_refused(argument):
    """An empty value, as of an unset shell variable, does not mean that the flag was left out."""
    assert cli.parse(define_path_and_names, ["", "--path=a", "--names=,b"]).names == ["", "b"]
    name = argument.partition("=")[0]
    with pytest.raises(UserError, match="^" + name + " is empty: is a shell variable unset"):
        cli.parse(define_path_and_names, ["", argument])
    assert cli.parse(define_path_and_names, ["", argument, "--path=a", "--names=b"]).path == "a"


@pytest.mark.parametrize("blank", [" ", "\r"])
def test_a_blank_behind_a_backslash_is_told_before_the_flags_that_it_cuts_off(blank):
    def define_flags(flag_values):
        flags.DEFINE_string("path", None, "A file.", flag_values=flag_values)
        flags.mark_flag_as_required("path", flag_values)

    with pytest.raises(UserError, match="is blank: a backslash that continues a line must be its"):
        cli.parse(define_flags, ["", blank])
    assert cli.parse(define_flags, ["", "--path=a"]).path == "a"
    assert cli.parse(define_path_and_names, ["", "a", blank], "TEXT...").path is None


@pytest.mark.parametrize(
    "word, typed",
    [
        ("—path=a", "--path=VALUE"),
        ("—-path=a", "--path=VALUE"),
        ("––path", "--path"),
        ("－－path＝a", "--path=VALUE"),
        ("--path＝a", "--path=VALUE"),
        ("“--path=a”", "--path=VALUE"),
        ("—nofast", "--nofast"),
    ],
)
def test_a_flag_with_other_dashes_is_neither_missed_nor_a_text(word, typed):
    with pytest.raises(UserError, match=r"^{}: a flag has two hyphens.* {}$".format(word, typed)):
        cli.parse(define_path_and_names, ["", "--names=b", word], "TEXT...")
    texts = ["", "——他说", "—pathos=a", "-path=b", "--nofast", "--names", "—"]
    assert cli.parse(define_path_and_names, texts, "TEXT...").path == "b"


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u3000"])
def test_two_flags_in_one_word_are_told(blank):
    word = "--path=a" + blank + "--names=b"
    with pytest.raises(UserError, match=": --names is a part of this value: type an ASCII blank"):
        cli.parse(define_path_and_names, ["", word])
    word = "--path=a" + blank + "--other=b"
    assert cli.parse(define_path_and_names, ["", word]).path == word[len("--path=") :]


def test_wide_commas_in_a_list_are_told():
    with pytest.raises(UserError, match="^--names=0，1: type ASCII commas: 0,1$"):
        cli.parse(define_path_and_names, ["", "--names=0，1"])
    names = cli.parse(define_path_and_names, ["", "--names=好，很好,坏"]).names
    assert names == ["好，很好", "坏"]


def define_path_and_names(flag_values):
    define = cli.flag_definer(flag_values)
    define.string("path", None, "A file.")
    define.list("names", [], "Names.")
    define.bool("fast", True, "Whether to hurry.")


def test_ctrl_c_ends_in_one_line(root):
    ended = run(root, "--count=10")
    assert (ended.returncode, ended.stderr) == (130, "-c: interrupted\n")


def test_unknown_arguments_of_test_changes_are_refused(root):
    command = [sys.executable, "test_changes.py", "--fast"]
    ended = subprocess.run(command, cwd=str(root), stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 2 and b"it takes no arguments: --fast" in ended.stderr


@pytest.mark.parametrize("argument", ["--count=3", "--count=8", "--help", "--count=-1"])
@pytest.mark.parametrize("shell", ["{} > /dev/full", "{} | true"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_no_traceback(root, argument, shell, unbuffered):
    script = SCRIPT.replace('print("count"', 'print("count" * 99999 if args.count > 7 else ""')
    command = " ".join(map(shlex.quote, [sys.executable, "-c", script, argument]))
    shell = "set -o pipefail; " + shell.format("(sleep 0.2; {})".format(command))
    ended = subprocess.run(
        ["bash", "-c", shell],
        cwd=str(root),
        env=dict(os.environ, PYTHONUNBUFFERED=unbuffered),
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
    if argument == "--count=-1":
        assert ended.returncode == 2 and ended.stderr.startswith("-c: error: --count=-1")
    elif "full" in shell:
        assert ended.returncode == 2
        assert ended.stderr == ("-c: error: cannot write the output: No space left on device\n")
    else:
        assert (ended.returncode, ended.stderr) == (0, "")


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
