"""How far the making of records, or any other long work, is, and how long it still takes."""

import sys
import time

from absl import logging

BAR_SECONDS, LINE_SECONDS = 0.2, 10
BAR_WIDTH = 30


class Progress:
    """A context manager with the methods that `build.create` calls.

    It shows a bar on a terminal and lines elsewhere.

    Args:
        total_bytes: int, of the input as it is stored.
        num_shards: int.
    """

    def __init__(self, total_bytes, num_shards):
        self._stored = self._total = total_bytes
        self._num_shards = num_shards
        self._is_terminal = sys.stderr.isatty()
        self._start = self._told = time.time()
        self._bytes = self._old_bytes = self._instances = self._old_instances = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._is_terminal:
            sys.stderr.write("\n")

    def blocks(self, done, expansion):
        """Count a `build.Done`; so far a byte of the input was `expansion` bytes of text."""
        self._total = self._stored * expansion
        self._bytes += done.num_bytes
        self._instances += done.num_instances
        if not done.is_new:
            self._old_bytes += done.num_bytes
            self._old_instances += done.num_instances
        self._tell(self._bytes / max(self._total, self._bytes, 1), self._of_blocks)

    def shards(self, number):
        """Tell that so many shards are written."""
        self._tell(number / self._num_shards, lambda: "{} of {} files written".format(
            number, self._num_shards
        ))  # fmt: skip

    def _of_blocks(self):
        seconds = max(time.time() - self._start, 1e-3)
        new_bytes = self._bytes - self._old_bytes
        left = max(self._total - self._bytes, 0) * seconds / max(new_bytes, 1)
        return "{:.1f} of {:.1f} MB, {:,} instances, {:,.0f}/s, {} left".format(
            self._bytes / 1e6,
            max(self._total, self._bytes) / 1e6,
            self._instances,
            (self._instances - self._old_instances) / seconds,
            duration(left) if new_bytes else "?",
        )

    def _tell(self, share, text):
        now = time.time()
        if now - self._told < (BAR_SECONDS if self._is_terminal else LINE_SECONDS):
            return
        self._told = now
        if self._is_terminal:
            bar = "#" * int(share * BAR_WIDTH)
            sys.stderr.write("\r[{:<{}}] {:3.0%} {}\x1b[K".format(bar, BAR_WIDTH, share, text()))
            sys.stderr.flush()
        else:
            logging.info("%s", text())


class Lines:
    """A function of (done, total) that logs a line every LINE_SECONDS.

    Args:
        unit: str, of what is counted.
    """

    def __init__(self, unit):
        self._unit = unit
        self._start = self._told = time.time()

    def __call__(self, done, total):
        now = time.time()
        if now - self._told < LINE_SECONDS:
            return
        self._told = now
        rate = done / (now - self._start)
        logging.info(
            "%s of %s %s, %s/s, %s left",
            *("{:,.0f}".format(number) for number in (done, total)),
            self._unit,
            "{:,.0f}".format(rate),
            duration((total - done) / rate),
        )


def duration(seconds):
    """Write seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return "{}:{:02d}:{:02d}".format(hours, minutes, seconds)
