"""Pressure: how much of the processors and of the memory is in use, and a state that follows it without flapping.

What is read comes from /proc and from the control group's limits (v1 and v2); what cannot be read is
NaN and never counts as pressure. Time is handed in.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
NAN = float("nan")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NO_LIMIT = 1 << 60  # cgroup v1 says "no limit" by a number larger than any memory


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Processor seconds since the start of the machine: busy (all but idle and waiting for a disk), and in all."""

    busy_s: float
    total_s: float


def machine_times(proc: Path = PROC) -> CpuTimes:
    """All processors of the machine together; NaN where it cannot be read."""
    try:
        first = (proc / "stat").read_text().split("\n", 1)[0].split()
        # user nice system idle iowait irq softirq steal; guest times are in user and nice already.
        ticks = [int(word) for word in first[1:9]]
    except (OSError, ValueError, IndexError):
        return CpuTimes(NAN, NAN)
    total = sum(ticks)
    hertz = os.sysconf("SC_CLK_TCK")
    return CpuTimes((total - sum(ticks[3:5])) / hertz, total / hertz)


def busy_ratio(before: CpuTimes, now: CpuTimes) -> float:
    """Share of the processors' time that was used between two readings; NaN where no time has passed."""
    passed = now.total_s - before.total_s
    return (now.busy_s - before.busy_s) / passed if passed > 0.0 else NAN


def cpu_quota(cgroup: Path = CGROUP) -> float:
    """How many processors' worth of time the control group may use; NaN where it is not limited."""
    words = _words(cgroup / "cpu.max")
    if len(words) != 2:
        words = [*_words(cgroup / "cpu/cpu.cfs_quota_us"), *_words(cgroup / "cpu/cpu.cfs_period_us")]
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # "max", or not there
        return NAN
    return quota / period if quota > 0.0 and period > 0.0 else NAN


def group_cpu_s(cgroup: Path = CGROUP) -> float:
    """Processor seconds that the control group has used; NaN where it cannot be read."""
    words = _words(cgroup / "cpu.stat")
    if len(words) > 1 and words[0] == "usage_usec":
        return float(words[1]) / 1e6
    words = _words(cgroup / "cpuacct/cpuacct.usage")
    return float(words[0]) / 1e9 if words and words[0].isdigit() else NAN


def memory_limit(cgroup: Path = CGROUP) -> float:
    """Bytes that the control group may use; NaN where it is not limited."""
    words = _words(cgroup / "memory.max") or _words(cgroup / "memory/memory.limit_in_bytes")
    if not words or not words[0].isdigit() or int(words[0]) >= _NO_LIMIT:
        return NAN
    return float(words[0])


def resident_bytes(pids: Iterable[int], proc: Path = PROC) -> int:
    """Resident memory of processes together, pages that they share counted for each; those that are gone count 0."""
    total = 0
    for pid in set(pids):
        words = _words(proc / str(pid) / "statm")
        total += int(words[1]) * _PAGE if len(words) > 1 else 0
    return total


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (OSError, UnicodeDecodeError):
        return []


@dataclass(frozen=True, slots=True)
class Reading:
    """Pressure as shares: of the machine's processors (or our quota of them), of one processor by the thread
    that reads, and of the memory limit. NaN where it is not known."""

    cpu_ratio: float
    core_ratio: float
    memory_ratio: float


class PressureGauge:
    """Reads the pressure between two looks. For one thread: its own processor time is what `core_ratio` is of.

    limit_bytes: of all processes together; the control group's limit counts where it is lower.
    """

    def __init__(self, limit_bytes: float, proc: Path = PROC, cgroup: Path = CGROUP) -> None:
        self._proc, self._cgroup = proc, cgroup
        self._limit_bytes = min(limit_bytes, least) if (least := memory_limit(cgroup)) > 0.0 else limit_bytes
        self._quota = cpu_quota(cgroup)
        self._before: tuple[int, int, CpuTimes, float] | None = None

    def read(self, now_ns: int, thread_ns: int, pids: Iterable[int]) -> Reading:
        """The pressure since the last call; now_ns is monotonic, thread_ns the reading thread's processor time."""
        times, used_s = machine_times(self._proc), group_cpu_s(self._cgroup)
        before, self._before = self._before, (now_ns, thread_ns, times, used_s)
        memory = resident_bytes(pids, self._proc) / self._limit_bytes
        if before is None or now_ns <= before[0]:
            return Reading(NAN, NAN, memory)
        passed_ns = now_ns - before[0]
        of_quota = (used_s - before[3]) * 1e9 / passed_ns / self._quota
        cpu = [ratio for ratio in (busy_ratio(before[2], times), of_quota) if not math.isnan(ratio)]
        return Reading(max(cpu, default=NAN), (thread_ns - before[1]) / passed_ns, memory)


@dataclass(frozen=True, kw_only=True)
class StrainLimits:
    """At what pressure, held for how long, strain begins and ends. Ratios as in `Reading`.

    A processor's ratio is the mean over enter_s or leave_s; memory is at its limit in every look of memory_s.
    """

    enter_cpu_ratio: float
    leave_cpu_ratio: float
    enter_memory_ratio: float
    leave_memory_ratio: float
    enter_s: float
    leave_s: float
    memory_s: float
    longest_pause_s: float = 5.0


class Strain:
    """Whether there is too much pressure.

        off   the mean of enter_s is at or above the entering ratio, or memory was for memory_s    on
        on    the mean of leave_s is below the leaving ratio, and memory was for leave_s           off

    A mean is of looks since the last change only. A pause between two looks longer than `longest_pause_s`
    (a stopped process) says nothing: both begin anew.
    """

    def __init__(self, limits: StrainLimits) -> None:
        self._limits = limits
        self.on = False
        self.reason = ""  # why it is on, or went off
        self.since_ns: int | None = None  # when it last went on or off
        self.mean = Reading(NAN, NAN, NAN)  # of the looks that count now; memory as of the last
        self._looks: deque[tuple[int, Reading]] = deque()
        self._began_ns: int | None = None  # since when there are looks that count
        self._memory_ns: int | None = None  # since when memory has been on the other side
        self._looked_ns: int | None = None

    def look(self, now_ns: int, reading: Reading) -> bool:
        """Take a reading; True where the state changed."""
        limits = self._limits
        if self._looked_ns is None or now_ns - self._looked_ns > limits.longest_pause_s * 1e9:
            self._begin(now_ns)
        self._looked_ns = now_ns
        if self._began_ns is None:
            self._began_ns = now_ns
        held_s = limits.leave_s if self.on else limits.enter_s
        self._looks.append((now_ns, reading))
        while len(self._looks) > 1 and self._looks[0][0] <= now_ns - held_s * 1e9:
            self._looks.popleft()
        cpu = _mean(look.cpu_ratio for _, look in self._looks)
        core = _mean(look.core_ratio for _, look in self._looks)
        self.mean = Reading(cpu, core, reading.memory_ratio)
        most = max((ratio for ratio in (cpu, core) if not math.isnan(ratio)), default=0.0)
        whole = now_ns - self._began_ns >= held_s * 1e9
        if self.on:
            below = not reading.memory_ratio >= limits.leave_memory_ratio  # what is not known is no pressure
            changes = self._memory_held(now_ns, below, held_s) and whole and most < limits.leave_cpu_ratio
        else:
            above = reading.memory_ratio >= limits.enter_memory_ratio
            changes = self._memory_held(now_ns, above, limits.memory_s) or (whole and most >= limits.enter_cpu_ratio)
        if changes:
            self.on = not self.on
            self.since_ns = now_ns
            self.reason = f"{_in_words(self.mean)}, mean of {held_s:g} s"
            self._begin(None)
        return changes

    def _begin(self, now_ns: int | None) -> None:
        self._looks.clear()
        self._began_ns, self._memory_ns = now_ns, None

    def _memory_held(self, now_ns: int, is_there: bool, held_s: float) -> bool:
        if not is_there:
            self._memory_ns = None
        elif self._memory_ns is None:
            self._memory_ns = now_ns
        return self._memory_ns is not None and now_ns - self._memory_ns >= held_s * 1e9


def _mean(ratios: Iterable[float]) -> float:
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    return sum(known) / len(known) if known else NAN


def _in_words(reading: Reading) -> str:
    parts = (
        ("processors", reading.cpu_ratio),
        ("the engine's own", reading.core_ratio),
        ("memory limit", reading.memory_ratio),
    )
    return ", ".join(f"{name} {ratio:.0%}" for name, ratio in parts if not math.isnan(ratio))


class BusiestProcess:
    """Which process has used the most processor time since `begin`. One look through /proc takes milliseconds: rarely done."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before: dict[int, float] = {}
        self.began_ns: int | None = None

    def begin(self, now_ns: int) -> None:
        """Note what every process has used so far; now_ns is monotonic."""
        self._before = {pid: used_s for pid, (_, used_s) in self._used().items()}
        self.began_ns = now_ns

    def in_words(self, now_ns: int, names: Mapping[int, str]) -> str:
        """The busiest and its share of one processor; "" where nothing can be said. names: of processes that we know."""
        if self.began_ns is None or now_ns <= self.began_ns:
            return ""
        now = self._used()
        used = {pid: used_s - self._before.get(pid, 0.0) for pid, (_, used_s) in now.items()}
        if not used:
            return ""
        pid = max(used, key=used.__getitem__)
        share = used[pid] * 1e9 / (now_ns - self.began_ns)
        return f"most by {names.get(pid, now[pid][0])} (pid {pid}), {share:.0%} of one processor"

    def _used(self) -> dict[int, tuple[str, float]]:
        """Name and processor seconds of every process."""
        found, hertz = {}, os.sysconf("SC_CLK_TCK")
        try:
            pids = [int(name) for name in os.listdir(self._proc) if name.isdecimal()]
        except OSError:
            return {}
        for pid in pids:
            try:
                text = (self._proc / str(pid) / "stat").read_text(errors="replace")
                begin, end = text.index("(") + 1, text.rindex(")")  # the name may hold anything
                fields = text[end + 2 :].split()
                found[pid] = text[begin:end], (int(fields[11]) + int(fields[12])) / hertz
            except (OSError, ValueError, IndexError):  # it has ended
                continue
        return found
