"""Running one function on many tasks in worker processes."""

import concurrent.futures
import itertools
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool

from common.errors import UserError

_state = {}  # in a worker process: the function


def run_tasks(function, tasks, num_workers):
    """Yield `function(task)` for each task, in any order.

    Tasks are taken from the iterable when a worker is free, so that few are in memory.

    Args:
        function: takes a task. Workers inherit it by fork, so that only its results are pickled.
        tasks: iterable.
        num_workers: int; with 1, this process runs the function.

    Raises:
        UserError: the error of the function, or that a worker was killed.
    """
    if num_workers == 1:
        yield from map(function, tasks)
        return
    context, arguments = multiprocessing.get_context("fork"), (function, os.getpid())
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, _start_worker, arguments)
    try:
        yield from _run_in_pool(pool, iter(tasks), num_workers)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory: start again with fewer "
            "--num_workers; finished parts are kept"
        ) from error
    finally:
        pool.shutdown()


def _run_in_pool(pool, tasks, num_workers):
    """Yield results; keep every worker busy, and one task waiting for each."""
    running = set()
    first = concurrent.futures.FIRST_COMPLETED
    try:
        while True:
            for task in itertools.islice(tasks, 2 * num_workers - len(running)):
                running.add(pool.submit(_run, task))
            if not running:
                return
            done, running = concurrent.futures.wait(running, return_when=first)
            for future in done:
                yield future.result()
    finally:
        for future in running:
            future.cancel()


def _start_worker(function, parent):
    _state["function"] = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent):
    """End this process when its parent has ended, even by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run(task):
    return _state["function"](task)
