"""common/signals.py: the first signal ends a run in good order, the second ends it at once."""

import os
import signal
import subprocess
import sys

import pytest

from common.signals import OrderlyEnd


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_ends_where_nothing_is_to_be_finished(number, status, capfd):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, OrderlyEnd():
        os.kill(os.getpid(), number)
        signal.pause()
    assert ended.value.code == status
    assert signal.getsignal(number) == before


def test_waits_for_what_is_to_be_finished():
    with OrderlyEnd() as end:
        end.end_if_received()
        end.deferred = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert end.received == signal.SIGTERM
        with pytest.raises(SystemExit):
            end.end_if_received()


LONG_STEP = """
import ctypes, sys
from common.signals import OrderlyEnd

with OrderlyEnd() as end:
    end.deferred = True
    print("started", flush=True)
    for _ in range(60):  # C's sleep, as a step of a session: no handler of Python runs within.
        ctypes.CDLL(None).sleep(1)  # A signal cuts it short: one sleep alone could end the run.
"""


def test_a_second_signal_ends_even_a_long_step(root):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_STEP],
        cwd=str(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        assert "SIGINT received" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
