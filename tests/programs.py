"""Programs that the tests start: scripts of the repository, each in a process of its own.

TensorFlow takes longer to import than most of these scripts take to run. So one process imports it,
and every program is a fork of this process.
"""

import multiprocessing
import os
import pathlib
import runpy
import signal
import sys
import tempfile
import time

import helpers
import tensorflow.compat.v1 as tf

from checkpointing import run_folder
from training import devices

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tensorflow.compat.v1"])


class Program:
    """A script in a process of its own; leaving the context kills the process if it still runs.

    Args:
        script: str, name of the file in the root of the repository.
        words: list of str, its command line.
        optimized: bool, whether TensorFlow optimizes graphs and XLA compiles functions, as for a
            user. If False, the results have the same bits as a run in the process of the tests.
        num_cpus: int, logical CPU devices.
        **environment: environment variables.
    """

    def __init__(self, script, words, optimized=False, num_cpus=1, **environment):
        handle, self._log = tempfile.mkstemp()
        os.close(handle)
        how = (self._log, optimized, num_cpus, environment)
        self._process = _FORKS.Process(target=_run_script, args=(script, words) + how)
        self._process.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.is_running():
            self.send_signal(signal.SIGKILL)
        self.wait()
        os.remove(self._log)

    def is_running(self):
        """Return whether the script has not ended."""
        return self._process.is_alive()

    def send_signal(self, number):
        """Send a signal to the script."""
        os.kill(self._process.pid, number)

    def wait(self):
        """Return the exit status at the end of the script."""
        self._process.join()
        return self._process.exitcode

    def log(self):
        """Return what the script has written so far, to both outputs."""
        return pathlib.Path(self._log).read_text(encoding="utf-8")


def run(script, words, **how):
    """Run a script to its end.

    Args:
        script: see `Program`.
        words: see `Program`.
        **how: see `Program`.

    Returns:
        (exit status, log).
    """
    with Program(script, words, **how) as program:
        return program.wait(), program.log()


def run_until_killed(script, values, steps=(1,)):
    """Start a run script, and kill it with SIGKILL when it has saved some steps.

    Args:
        script: see `Program`.
        values: dict of flags.
        steps: the steps, one for each start of the script; more are left to do.
    """
    for step in steps:
        with Program(script, helpers.arguments(values)) as program:
            while run_folder.latest_step(str(values["output_dir"])) < step:
                assert program.is_running(), program.log()
                time.sleep(0.01)


def _run_script(script, words, log, optimized, num_cpus, environment):
    for output in (sys.stdout, sys.stderr):
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), output.fileno())
    os.chdir(str(ROOT))
    os.environ.update(environment)
    if num_cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        each = [tf.config.LogicalDeviceConfiguration()] * num_cpus
        tf.config.set_logical_device_configuration(cpu, each)
    if not optimized:
        helpers.optimize_on_demand(devices)
    sys.argv = [script] + words
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is not None:  # multiprocessing of Python 3.7 takes None for an error
            raise
