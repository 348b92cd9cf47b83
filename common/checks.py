"""The checks before a run starts; with `--check_only` the program makes them and ends.

A check is a function that returns (value, line): the run and later checks use the value, the user
reads the line. A check raises `UserError` if the run cannot work, and logs a warning of anything
unusual that is not an error. Every run starts with the same checks, and the first error ends it.
With `--check_only` each check prints its line.
"""

import contextlib
import logging
import time
from typing import NamedTuple

from absl import logging as absl_logging

from common import cli
from common.errors import UserError


class Failed(NamedTuple):
    """Replaces the value of a check that failed or could not be made."""

    check: str  # name of the first check that failed


class Checks:
    """Makes checks one by one.

    Args:
        check_only: bool; print a line for each check, and continue after a failed one.
    """

    def __init__(self, check_only):
        self._check_only = check_only
        self._start = time.time()
        self._statuses = []  # of all checks

    def __call__(self, name, check, *inputs):
        """Make a check.

        Args:
            name: str, the first word of the check's line.
            check: function of the inputs that returns (value, line).
            *inputs: flags, and values of earlier checks.

        Returns:
            The value of the check. With `check_only` it is a `Failed` if the check failed, or if
            one of its inputs is a `Failed`.

        Raises:
            UserError: raised by the check, without `check_only`.
        """
        if not self._check_only:
            return check(*inputs)[0]
        failed = [value for value in inputs if isinstance(value, Failed)]
        with _collected_warnings() as warnings:
            if failed:
                status, value = "skip", failed[0]
                line = "not checked: it needs {}, which failed".format(value.check)
            else:
                try:
                    status, (value, line) = "ok", check(*inputs)
                except UserError as error:
                    status, value, line = "FAIL", Failed(name), error
        for warning in dict.fromkeys(warnings):  # each once
            print("warn  {:<11} {}".format(name, warning))
        print("{:<5} {:<11} {}".format(status, name, line), flush=True)
        self._statuses.append(status)
        return value

    def end(self):
        """Print how many checks passed, and end: status 0, or 2 where one failed."""
        number = len(self._statuses)
        failed, skipped = self._statuses.count("FAIL"), self._statuses.count("skip")
        seconds = "{:.1f} seconds".format(time.time() - self._start)
        if failed:
            text = "{} of {} checks failed, {} were not made, in {}"
            print(text.format(failed, number, skipped, seconds))
            raise SystemExit(cli.USER_ERROR_STATUS)
        print("All {} checks passed in {}".format(number, seconds))
        raise SystemExit(0)


def define_flags(flag_values):
    """Define the flag of `run_checks`."""
    define = cli.flag_definer(flag_values)
    define.bool(
        "check_only",
        False,
        "Check flags, config, data, checkpoint and devices, print a line for each, and end; exit "
        "status 2 if a check fails.",
    )


def run_checks(check_run, args):
    """Make all checks of a script.

    Args:
        check_run: function of (args, `Checks`) that returns the checked run.
        args: the parsed flags.

    Returns:
        What `check_run` returns.

    Raises:
        UserError: the first one of a check, without `--check_only`.
        SystemExit: with `--check_only`, always: status 2 if a check failed, else 0.
    """
    checks = Checks(args.check_only)
    if not args.check_only:
        logging.getLogger("tensorflow").setLevel(logging.INFO)
        absl_logging.set_verbosity(absl_logging.INFO)  # the log of modules without TensorFlow
    run = check_run(args, checks)
    if args.check_only:
        checks.end()
    return run


@contextlib.contextmanager
def _collected_warnings():
    """A context that collects the warnings of TensorFlow's and absl's logs, and shows none."""
    lines = []

    class Collector(logging.Handler):
        def emit(self, record):
            lines.append(" ".join(record.getMessage().split()))

    with contextlib.ExitStack() as stack:
        for name in ("tensorflow", "absl"):
            logger = logging.getLogger(name)
            for field in ("handlers", "propagate"):
                stack.callback(setattr, logger, field, getattr(logger, field))
            logger.handlers, logger.propagate = [Collector(logging.WARNING)], False
        yield lines
