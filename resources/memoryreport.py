"""Memory report: what each of our processes says of its own memory, for the console to read.

A thread wakes every ten seconds, writes one small file into a memory-backed folder (about 0.2 ms), and looks
whether somebody asks it for the sites that grow (`ask_for_sites`); only then are allocations traced, for some seconds.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from metrics.errors import DeskvigilError
from resources.allocations import Site, find_growth
from resources.allocator import heap

log = logging.getLogger("deskvigil.memory")

PERIOD_S = 10.0
LONGEST_BURST_S = 60.0
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """One process at one moment. taken_s, started_s: the system's monotonic clock. anonymous: resident bytes that
    belong to no file. arena, free, mapped: malloc's (`resources.allocator.Heap`); NaN where unknown. python_blocks:
    blocks that the interpreter has handed out. sites: what the last burst found, taken at sites_s (NaN: none yet)."""

    process: str
    pid: int
    taken_s: float
    started_s: float
    anonymous: float
    arena: float
    free: float
    mapped: float
    python_blocks: float
    sites_s: float
    sites: tuple[Site, ...] = ()


class MemoryReporter:
    """Reports on the process that it runs in, between `start` and `stop` (or as a context).

    clock_s: what the reports' times are; all processes' must agree (the system's monotonic clock does).
    """

    def __init__(
        self, folder: Path, process: str, period_s: float = PERIOD_S, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._process, self._period_s, self._clock_s = folder, process, period_s, clock_s
        self._started_s = clock_s()
        self._sites: tuple[Site, ...] = ()
        self._sites_s = float("nan")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> MemoryReporter:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def stop(self) -> None:
        """End, and take the report away; a second call does nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        with suppress(OSError):
            _report_file(self._folder, self._process).unlink(missing_ok=True)

    def report(self) -> MemoryReport:
        """How things stand now."""
        malloc = heap()
        arena, free, mapped = (malloc.arena, malloc.free, malloc.mapped) if malloc else (float("nan"),) * 3
        return MemoryReport(
            self._process, os.getpid(), self._clock_s(), self._started_s, _anonymous_bytes(), arena, free, mapped,
            float(sys.getallocatedblocks()), self._sites_s, self._sites,
        )  # fmt: skip

    def _run(self) -> None:
        troubled = False
        while not self._stop.is_set():
            try:
                self._look_for_request()
                _write(_report_file(self._folder, self._process), json.dumps(asdict(self.report())))
                troubled = False
            except OSError as error:
                if not troubled:
                    log.warning("%s: memory cannot be reported: %s", self._process, error)
                troubled = True
            self._stop.wait(self._period_s)

    def _look_for_request(self) -> None:
        request = _request_file(self._folder, self._process)
        try:
            words = request.read_text()
            request.unlink()
        except FileNotFoundError:
            return
        try:
            self._sites = tuple(find_growth(min(float(words), LONGEST_BURST_S), self._stop))
            self._sites_s = self._clock_s()
        except (DeskvigilError, ValueError) as error:
            log.warning("%s: no sites that grow were looked for: %s", self._process, error)


def read_report(folder: Path, process: str) -> MemoryReport | None:
    """The last report of a process; None where there is none that can be read."""
    try:
        raw = json.loads(_report_file(folder, process).read_text())
        sites = tuple(Site(**{**site, "callers": tuple(site["callers"])}) for site in raw.pop("sites"))
        return MemoryReport(**raw, sites=sites)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def ask_for_sites(folder: Path, process: str, seconds: float) -> None:
    """Ask a process which of its lines allocate more and more; the answer is in a later report. OSError: cannot ask."""
    _write(_request_file(folder, process), f"{seconds:g}")


def _report_file(folder: Path, process: str) -> Path:
    return folder / f"{process}.memory"


def _request_file(folder: Path, process: str) -> Path:
    return folder / f"{process}.memory-sites"


def _write(path: Path, words: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_text(words)
    temporary.replace(path)


def _anonymous_bytes() -> float:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return float(line.split()[1]) * 1024.0
    except OSError:
        pass
    return float("nan")
