"""One function for many tasks, in as many processes as wanted."""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool

from common.errors import UserError

_state = {}  # of a worker: the function


def run_tasks(function, tasks, num_workers):
    """Yield `function(task)` for each task, in any order.

    Tasks are taken from their iterator as they are needed, so that few are in memory.

    Args:
        function: of a task; need not be pickled, since workers inherit it. What it returns is.
        tasks: iterable.
        num_workers: int; with 1 there is no other process.

    Raises:
        UserError: that of the function, or when a worker was killed.
    """
    if num_workers == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, context, _start_worker, (function, os.getpid())
    )
    try:
        yield from _run_in_pool(pool, iter(tasks), num_workers)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory: start again with fewer "
            "--num_workers; what is done is kept"
        ) from error
    finally:
        pool.shutdown()


def _run_in_pool(pool, tasks, num_workers):
    """Keep every worker busy, and one task waiting for each."""
    running = collections.deque()
    has_more = True
    try:
        while has_more or running:
            while has_more and len(running) < 2 * num_workers:
                try:
                    running.append(pool.submit(_run, next(tasks)))
                except StopIteration:
                    has_more = False
            if running:
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    running.remove(future)
                    yield future.result()
    finally:
        for future in running:
            future.cancel()


def _start_worker(function, parent):
    _state["function"] = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells the rest
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent):
    """End this process when its parent has ended, even by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run(task):
    return _state["function"](task)
