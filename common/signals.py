"""The first SIGTERM or SIGINT (Ctrl-C) lets a run save and end, the second ends it at once."""

import os
import signal
import socket
import sys
import threading

STATUS = 128  # A program that a signal ends has this status plus the signal's number.


class OrderlyEnd:
    """A context manager that turns the first SIGTERM or SIGINT into an orderly end.

    While `deferred` is False, a signal raises SystemExit at once. Output files appear only
    when they are complete, so no file is half-written. While `deferred` is True, the running code
    checks `received` and ends.

    Python runs signal handlers only between two steps of a session, and a step may take minutes.
    So the C handler wakes up a thread, which reports the first signal and ends at the second.
    """

    def __init__(self):
        self.received = None  # Number of the signal.
        self.deferred = False

    def __enter__(self):
        self._is_installed = threading.current_thread() is threading.main_thread()
        if self._is_installed:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._old = {
                number: signal.signal(number, self._handle)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_):
        if self._is_installed:
            for number, handler in self._old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._old_fd)
            self._writer.close()  # ends the thread

    def end_if_received(self):
        """Raise SystemExit if a signal was received."""
        if self.received:
            raise SystemExit(STATUS + self.received)

    def _handle(self, number, _):
        self.received = self.received or number
        if not self.deferred:
            self.end_if_received()

    def _watch(self):
        is_first = True
        with self._reader:
            for number in iter(lambda: self._reader.recv(1), b""):
                number = ord(number)
                if number not in self._old:
                    continue
                if not is_first:
                    os._exit(STATUS + number)
                is_first = False
                sys.stderr.write(
                    "\n{} received: the run saves and ends after this step; a second one ends it "
                    "at once\n".format(signal.Signals(number).name)
                )
                sys.stderr.flush()
