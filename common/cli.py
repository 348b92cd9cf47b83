"""How every entry script starts: flags in, one clear line and exit status 2 for user mistakes."""

import logging
import os
import re
import sys

from absl import app, flags

from common.errors import UserError

USER_ERROR_STATUS, INTERRUPTED_STATUS = 2, 130


def parse(define_flags, argv, words=None):
    """Parse a command line into a fresh set of flags, leaving the global FLAGS alone.

    Args:
        define_flags: function that defines a script's flags on the `FlagValues` it gets.
        argv: list of str, the program's name first.
        words: str or None, as `run`.

    Returns:
        The parsed `absl.flags.FlagValues`.

    Raises:
        UserError: for an unknown flag, a value that does not parse or a stray argument.
    """
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    _parse_into(flag_values, argv, words)
    return flag_values


def run(main, define_flags, words=None):
    """Parse the command line, call `main(args)` and turn a `UserError` into exit status 2.

    Args:
        main: function of the parsed `FlagValues`, and of the other words where there may be some.
        define_flags: function that defines the script's flags on the `FlagValues` it gets.
        words: str, what words that are no flags stand for, such as `FILE...`; None forbids them.
    """
    define_flags(flags.FLAGS)
    # TensorFlow's logger has a handler of its own; absl's would write each line a second time.
    logging.getLogger("tensorflow").propagate = False

    def parse_or_end(argv):
        if {"--help", "-help", "-h"} & set(argv):
            print(_help(define_flags, words))
            sys.exit(0)
        return _ended_on_mistake(_parse_into, flags.FLAGS, argv, words)

    def main_or_end(argv):
        _ended_on_mistake(main, flags.FLAGS, *([argv[1:]] if words else []))

    app.run(main_or_end, flags_parser=parse_or_end)


def _ended_on_mistake(function, *arguments):
    try:
        return function(*arguments)
    except UserError as error:
        message, status = "error: " + " ".join(str(error).split("\n")), USER_ERROR_STATUS
    except KeyboardInterrupt:
        message, status = "interrupted", INTERRUPTED_STATUS
    sys.stderr.write("{}: {}\n".format(os.path.basename(sys.argv[0]), message))
    sys.stderr.flush()
    sys.exit(status)


def _help(define_flags, words):
    """Return the script's docstring and its own flags, without those of absl."""
    own = flags.FlagValues()
    define_flags(own)
    usage = "\n\nusage: {} {}".format(os.path.basename(sys.argv[0]), words) if words else ""
    about = sys.modules["__main__"].__doc__ or ""
    return "{}{}\n\nflags:{}".format(about, usage, own.get_help())


def _parse_into(flag_values, argv, words=None):
    try:
        rest = flag_values(argv)
    except flags.Error as error:
        raise UserError(_mistake(error)) from error
    if len(rest) > 1 and not words:
        raise UserError(
            "unexpected argument {!r}: flags are written --name=value (--help lists them)".format(
                rest[1]
            )
        )
    return rest


def _mistake(error):
    missing = re.search(r"Flag (--\w+) must have a value", str(error))
    what = missing.group(1) + " is needed" if missing else " ".join(str(error).split())
    return what + " (--help lists the flags)"
