"""ProcessCollector: Deskvigil's own processes, as the kernel sees them."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collectors.garbage import GarbageWatch
from collectors.options import CollectorOptions
from collectors.section import NAN, ProcFile
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Schema, Series

MAX_PROCESSES = 64
SELF_NAME = "console"


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """What the supervisor knows of one process.

    pid is 0 while there is none; started_ns is wall-clock; last_exit says in words how the process
    before this one ended ("" where there was none).
    """

    name: str
    pid: int
    restarts: int
    started_ns: int
    last_exit: str


# Fields of /proc/<pid>/stat after the command's closing parenthesis (proc(5) counts them from 3).
_MINOR, _MAJOR, _USER, _SYSTEM, _THREADS, _START, _VIRTUAL, _RESIDENT = (7, 9, 11, 12, 17, 19, 20, 21)
READINGS = 14  # series per process that come from the kernel
MISSING = [NAN] * READINGS


class ProcessReadings:
    """One living process. Its files stay open, so another process that gets the same pid is not mistaken for it."""

    def __init__(self, proc: Path, pid: int) -> None:
        self.pid = pid
        self._stat, self._status = ProcFile(proc / str(pid) / "stat"), ProcFile(proc / str(pid) / "status")
        self._descriptors = proc / str(pid) / "fd"
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        # The kernel's CPU-time clock of another process: its number is made from the pid (clock_getcpuclockid(3)).
        self._cpu_clock = (~pid << 3) | 2
        self._cpu_s = NAN
        self._boot_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self._start_s = NAN

    def read(self, elapsed_s: float) -> list[float]:
        """READINGS values in the order of `_process_series`; OSError where the process has ended."""
        fields = self._stat.read().rpartition(b")")[2].split()
        state = fields[0]
        if state in (b"Z", b"X"):
            raise ProcessLookupError(f"process {self.pid} has ended")
        if self._start_s != self._start_s:
            self._start_s = self._boot_s + int(fields[_START]) * self._tick_s
        cpu_s = time.clock_gettime(self._cpu_clock)
        busy = (cpu_s - self._cpu_s) / elapsed_s if elapsed_s > 0 else NAN
        self._cpu_s = cpu_s
        switches = _switches(self._status.read())
        return [
            self._start_s,
            int(fields[_USER]) * self._tick_s,
            int(fields[_SYSTEM]) * self._tick_s,
            busy,
            float(int(fields[_RESIDENT]) * self._page),
            float(fields[_VIRTUAL]),
            float(fields[_THREADS]),
            _open_descriptors(self._descriptors),
            _most_descriptors(self.pid),
            *switches,
            float(fields[_MINOR]),
            float(fields[_MAJOR]),
            1.0,
        ]

    def close(self) -> None:
        """Close the process's files."""
        self._stat.close()
        self._status.close()


def _process_series(name: str) -> tuple[Series, ...]:
    return (
        series("deskvigil_process_start_time_seconds", process=name),
        series("deskvigil_process_cpu_seconds_total", process=name, mode="user"),
        series("deskvigil_process_cpu_seconds_total", process=name, mode="system"),
        series("deskvigil_process_cpu_ratio", process=name),
        series("deskvigil_process_resident_memory_bytes", process=name),
        series("deskvigil_process_virtual_memory_bytes", process=name),
        series("deskvigil_process_threads", process=name),
        series("deskvigil_process_open_fds", process=name),
        series("deskvigil_process_max_fds", process=name),
        series("deskvigil_process_context_switches_total", process=name, kind="voluntary"),
        series("deskvigil_process_context_switches_total", process=name, kind="involuntary"),
        series("deskvigil_process_page_faults_total", process=name, kind="minor"),
        series("deskvigil_process_page_faults_total", process=name, kind="major"),
        series("deskvigil_process_up", process=name),
        series("deskvigil_process_restarts_total", process=name),
    )


def _switches(status: bytes) -> tuple[float, float]:
    """Voluntary and involuntary context switches: the last two lines of /proc/<pid>/status."""
    lines = status.rsplit(b"\n", 4)
    found = {key: float(number) for key, _, number in (line.partition(b":") for line in lines[1:]) if number}
    return found.get(b"voluntary_ctxt_switches", NAN), found.get(b"nonvoluntary_ctxt_switches", NAN)


def _open_descriptors(folder: Path) -> float:
    """Number of open files: since Linux 6.2 the folder's size, before that its entries must be counted."""
    try:
        return float(os.stat(folder).st_size or len(os.listdir(folder)))
    except OSError:
        return NAN


def _most_descriptors(pid: int) -> float:
    try:
        return float(resource.prlimit(pid, resource.RLIMIT_NOFILE)[0])
    except OSError:
        return NAN


class ProcessCollector:
    """The supervisor's children and this very process (`console`, where the children do not name it).

    A process that is down has deskvigil_process_up 0 and NaN for the rest; names that come or go
    make a new Schema. Runs inside the console, whose garbage collector it watches as well.
    """

    name = "process"

    def __init__(
        self,
        clock: Clock,
        options: CollectorOptions,
        children: Callable[[], Sequence[ChildStatus]],
        *,
        proc: Path = Path("/proc"),
    ) -> None:
        self.interval_s = options.process_interval_s
        self._clock = clock
        self._children = children
        self._proc = proc
        self._self_pid = os.getpid()
        self._readings: dict[str, ProcessReadings] = {}
        self._read_ns: int | None = None
        self._garbage = GarbageWatch(SELF_NAME)
        self._names: tuple[str, ...] = ()
        self._schema = self._assemble()

    def describe(self) -> Schema:
        """The series as of the last reading."""
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Read every process that the supervisor names."""
        monotonic_ns = self._clock.monotonic_ns()
        elapsed_s = NAN if self._read_ns is None else (monotonic_ns - self._read_ns) / 1e9
        self._read_ns = monotonic_ns
        children = self._all()
        names = tuple(children)
        if names != self._names:
            self._forget(set(self._names) - set(names))
            self._names = names
            self._schema = self._assemble()
        values: list[float] = []
        for child in children.values():
            values += self._read(child, elapsed_s)
            values.append(float(child.restarts))
        values += self._garbage.read(elapsed_s)
        return Frame(self._schema, now_ns, np.array(values, dtype=np.float64))

    def close(self) -> None:
        """Close the kernel's files and leave the garbage collector alone again."""
        self._forget(set(self._readings))
        self._garbage.close()

    def _all(self) -> dict[str, ChildStatus]:
        """The processes by name, this one among them."""
        children = {child.name: child for child in self._children()[:MAX_PROCESSES]}
        if not any(child.pid == self._self_pid for child in children.values()):
            restarts = children[SELF_NAME].restarts if SELF_NAME in children else 0
            children[SELF_NAME] = ChildStatus(SELF_NAME, self._self_pid, restarts, 0, "")
        return children

    def _read(self, child: ChildStatus, elapsed_s: float) -> list[float]:
        reading = self._readings.get(child.name)
        if reading is not None and reading.pid != child.pid:
            self._forget({child.name})
            reading = None
        if child.pid <= 0:
            return [*MISSING[:-1], 0.0]
        if reading is None:
            reading = self._readings[child.name] = ProcessReadings(self._proc, child.pid)
        with suppress(OSError, ValueError, IndexError):
            return reading.read(elapsed_s)
        self._forget({child.name})
        return [*MISSING[:-1], 0.0]

    def _forget(self, names: set[str]) -> None:
        for name in names:
            if reading := self._readings.pop(name, None):
                reading.close()

    def _assemble(self) -> Schema:
        made = tuple(one for name in self._names for one in _process_series(name))
        return Schema(self.name, (*made, *self._garbage.series))
