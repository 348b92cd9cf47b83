"""The progress of long work: how much is done, and how long the rest takes."""

import sys
import time

from absl import logging

BAR_SECONDS, LINE_SECONDS = 0.2, 10
BAR_WIDTH = 30


class Progress:
    """A context manager that shows how far the making of records is.

    The manager draws a bar on a terminal, and logs lines elsewhere.

    Args:
        stored_bytes: int, size of the input files.
        num_shards: int.
    """

    def __init__(self, stored_bytes, num_shards):
        self._stored_bytes, self._num_shards = stored_bytes, num_shards
        self._is_terminal = sys.stderr.isatty()
        self._start = self._last_shown = time.time()
        self._bytes = self._new_bytes = self._instances = self._new_instances = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._is_terminal:
            sys.stderr.write("\n")

    def count_blocks(self, finished, expansion):
        """Count finished blocks.

        Args:
            finished: has `num_bytes` of text, `num_instances` and `is_new`; the blocks of an
                earlier run (not new) do not count for the speed.
            expansion: float, bytes of text in a byte of the input so far: above 1 if gzipped.
        """
        self._bytes += finished.num_bytes
        self._instances += finished.num_instances
        self._new_bytes += finished.num_bytes * finished.is_new
        self._new_instances += finished.num_instances * finished.is_new
        total = max(self._stored_bytes * expansion, self._bytes)
        seconds = max(time.time() - self._start, 1e-3)
        left = "?"
        if self._new_bytes:
            left = duration((total - self._bytes) * seconds / self._new_bytes)
        numbers = self._bytes / 1e6, total / 1e6, self._instances, self._new_instances / seconds
        text = "{:.1f} of {:.1f} MB, {:,} instances, {:,.0f}/s, {} left".format(*numbers, left)
        self._show(self._bytes / max(total, 1), text)

    def count_shards(self, number):
        """Show how many shards are written."""
        text = "{} of {} files written".format(number, self._num_shards)
        self._show(number / self._num_shards, text)

    def _show(self, share, text):
        now = time.time()
        if now - self._last_shown < (BAR_SECONDS if self._is_terminal else LINE_SECONDS):
            return
        self._last_shown = now
        if self._is_terminal:
            bar = "#" * int(share * BAR_WIDTH)
            sys.stderr.write("\r[{:<{}}] {:3.0%} {}\x1b[K".format(bar, BAR_WIDTH, share, text))
            sys.stderr.flush()
        else:
            logging.info("%s", text)


class Lines:
    """A function of (done, total) that logs a line every LINE_SECONDS.

    Args:
        unit: str, the unit of both numbers.
    """

    def __init__(self, unit):
        self._unit = unit
        self._start = self._last_logged = time.time()

    def __call__(self, done, total):
        now = time.time()
        if now - self._last_logged < LINE_SECONDS:
            return
        self._last_logged = now
        rate = done / (now - self._start)
        numbers = done, total, self._unit, rate, duration((total - done) / rate)
        logging.info("%s", "{:,.0f} of {:,.0f} {}, {:,.0f}/s, {} left".format(*numbers))


def duration(seconds):
    """Format seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return "{}:{:02d}:{:02d}".format(hours, minutes, seconds)
