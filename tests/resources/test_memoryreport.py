"""A process reports its memory, and names the line that leaks when asked."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from metrics.errors import DeskvigilError
from resources.allocations import find_growth
from resources.memoryreport import MemoryReport, MemoryReporter, ask_for_sites, read_report

# It works as the engine does: arrays come and go in a loop, a buffer turns round, and one line keeps what it should not.
PROGRAM = """
import collections, sys, threading, time
from pathlib import Path
import numpy as np
sys.path.insert(0, ".")
from resources.memoryreport import MemoryReporter
kept, recent = [], collections.deque(maxlen=50)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
with MemoryReporter(Path(sys.argv[1]), "engine", 0.1):
    print("up", flush=True)
    while not stop.wait(0.002):
        recent.append(np.random.random(500))
        sum(len(str(number)) for number in range(20))
        kept.append(bytearray(4000))  # the leak
"""
LEAK_LINE = next(i for i, line in enumerate(PROGRAM.splitlines(), 1) if "# the leak" in line)


@pytest.fixture
def leaking(tmp_path: Path) -> Iterator[Path]:
    program = tmp_path / "leaking.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield tmp_path
    process.kill()
    process.communicate()


def until(look, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        threading.Event().wait(0.02)
    raise AssertionError("it never came")


def answered(folder: Path) -> MemoryReport | None:
    report = read_report(folder, "engine")
    return report if report is not None and not math.isnan(report.sites_s) else None


def test_a_leak_in_another_process_is_named_by_file_and_line(leaking: Path) -> None:
    ask_for_sites(leaking, "engine", 2.0)
    report = until(lambda: answered(leaking))
    site = report.sites[0]
    assert (Path(site.file).name, site.line) == ("leaking.py", LEAK_LINE)
    assert site.bytes_s > 0
    assert site.blocks_s > 0


def test_the_report_says_what_the_kernel_and_the_allocator_say(tmp_path: Path) -> None:
    reporter = MemoryReporter(tmp_path, "console")
    before = reporter.report()
    kept = [bytes(2000) for _ in range(10_000)]
    grown = reporter.report()
    assert grown.anonymous - before.anonymous > 15e6 or grown.free < before.free
    assert len(kept) == 10_000
    assert (grown.arena - grown.free) - (before.arena - before.free) > 19e6
    assert grown.taken_s > before.taken_s > before.started_s


def test_a_stopped_reporter_leaves_no_report_behind(tmp_path: Path) -> None:
    with MemoryReporter(tmp_path, "risk", 0.01):
        assert until(lambda: read_report(tmp_path, "risk")).process == "risk"
    assert read_report(tmp_path, "risk") is None


def test_a_damaged_report_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "risk.memory").write_text('{"process": "risk"')
    assert read_report(tmp_path, "risk") is None


def test_a_request_in_wrong_words_is_dropped_and_reports_go_on(tmp_path: Path) -> None:
    (tmp_path / "risk.memory-sites").write_text("soon")
    with MemoryReporter(tmp_path, "risk", 0.01):
        report = until(lambda: read_report(tmp_path, "risk"))
    assert report.sites == ()
    assert not (tmp_path / "risk.memory-sites").exists()


def test_what_is_allocated_once_and_kept_is_no_growth() -> None:
    class AfterAWhile(threading.Event):
        """Keeps an array during the first half of the burst, and nothing more in the second."""

        kept: ClassVar[list[bytearray]] = []

        def wait(self, timeout: float | None = None) -> bool:
            if not self.kept:
                self.kept.append(bytearray(1_000_000))
            return False

    assert all(site.bytes_s < 100_000 for site in find_growth(1.0, AfterAWhile()))


def test_two_bursts_at_a_time_are_refused() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DeskvigilError, match="already"):
            find_growth(0.1, threading.Event())
    finally:
        tracemalloc.stop()
