"""Progress: a bar on a terminal, lines elsewhere, and the time that is left."""

import io

import pytest

from common import progress
from pretraining_data.build import FinishedBlocks


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A list whose only number is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    return now


@pytest.fixture
def lines(monkeypatch):
    """The list of the lines that are logged when stderr is not a terminal."""
    logged = []
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress.logging, "info", lambda form, text: logged.append(form % text))
    return logged


def test_lines_show_rate_and_time_left_every_ten_seconds(clock, lines):
    with progress.Progress(40 * 10**6, 2) as shown:
        for i in range(1, 31):
            clock[0] = 100 + i
            shown.count_blocks(FinishedBlocks(i, 10**6, 500, True), 1.0)
        clock[0] = 141
        shown.count_shards(1)
    assert lines == [
        "10.0 of 40.0 MB, 5,000 instances, 500/s, 0:00:30 left",
        "20.0 of 40.0 MB, 10,000 instances, 500/s, 0:00:20 left",
        "30.0 of 40.0 MB, 15,000 instances, 500/s, 0:00:10 left",
        "1 of 2 files written",
    ]


def test_blocks_of_an_earlier_run_do_not_count_for_the_rate(clock, lines):
    shown = progress.Progress(4 * 10**6, 1)
    clock[0] += 10
    shown.count_blocks(FinishedBlocks(0, 10**6, 700, False), 1.0)
    clock[0] += 10
    shown.count_blocks(FinishedBlocks(1, 10**6, 600, True), 1.0)
    assert lines == [
        "1.0 of 4.0 MB, 700 instances, 0/s, ? left",
        "2.0 of 4.0 MB, 1,300 instances, 30/s, 0:00:40 left",
    ]


def test_bytes_of_gzipped_files_count_as_text(clock, lines):
    shown = progress.Progress(10**6, 1)
    clock[0] += 20
    shown.count_blocks(FinishedBlocks(0, 10**6, 100, True), 4.0)
    assert lines == ["1.0 of 4.0 MB, 100 instances, 5/s, 0:01:00 left"]


def test_a_terminal_has_a_bar(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    with progress.Progress(4 * 10**6, 1) as shown:
        for i in range(1, 4):
            clock[0] += 1
            shown.count_blocks(FinishedBlocks(i, 10**6, 100, True), 1.0)
    bars = terminal.getvalue().split("\r")[1:]
    assert len(bars) == 3
    assert bars[1].startswith("[" + "#" * 15 + " " * 15 + "] 50% 2.0 of 4.0 MB, 200 instances")
    assert bars[2].endswith("\n")
