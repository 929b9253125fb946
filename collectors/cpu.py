"""CPU sections of the host: time by core and mode, busy ratios, load, scheduling, frequency."""

from __future__ import annotations

import os
from pathlib import Path

from collectors.section import NAN, ProcFile, ratio
from metrics.catalogue import series
from metrics.series import Series

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
IDLE, IOWAIT = MODES.index("idle"), MODES.index("iowait")
COUNTERS = {
    b"intr": "deskvigil_host_interrupts_total",
    b"ctxt": "deskvigil_host_context_switches_total",
    b"processes": "deskvigil_host_forks_total",
    b"softirq": "deskvigil_host_softirqs_total",
    b"procs_running": "deskvigil_host_processes_running",
    b"procs_blocked": "deskvigil_host_processes_blocked",
    b"btime": "deskvigil_host_boot_time_seconds",
}
LOAD_WINDOWS = ("1m", "5m", "15m")


class CpuTime:
    """/proc/stat: seconds by core and mode, busy ratios since the last read, and the kernel's own counts."""

    def __init__(self, proc: Path, max_cores: int) -> None:
        self._file = ProcFile(proc / "stat")
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._max_cores = max_cores
        self._cores: tuple[str, ...] | None = None
        self._before: dict[str, list[int]] = {}
        self.left_out = 0
        self.series: tuple[Series, ...] = ()

    def read(self, elapsed_s: float) -> list[float]:
        """Values in the order of `_names`; ratios are NaN at the first read."""
        cpus, counts = _parse_stat(self._file.read())
        total = cpus.pop("")
        self.left_out = max(0, len(cpus) - self._max_cores)
        shown = dict(list(cpus.items())[: self._max_cores])
        if tuple(shown) != self._cores:
            self._cores = tuple(shown)
            self.series = _names(self._cores)
        spent = _spent(total, self._before.get(""))
        all_time = sum(spent)
        values = [float(len(cpus)), _busy(spent)]
        values += [ratio(part, all_time) for part in spent]
        values += [counts.get(key, NAN) for key in COUNTERS]
        for core, times in shown.items():
            values.append(_busy(_spent(times, self._before.get(core))))
            values += [ticks * self._tick_s for ticks in times]
        self._before = {"": total, **shown}
        return values

    def close(self) -> None:
        self._file.close()


def _names(cores: tuple[str, ...]) -> tuple[Series, ...]:
    names = [series("deskvigil_host_cpus"), series("deskvigil_host_cpu_busy_ratio")]
    names += [series("deskvigil_host_cpu_mode_ratio", mode=mode) for mode in MODES]
    names += [series(name) for name in COUNTERS.values()]
    for core in cores:
        names.append(series("deskvigil_host_cpu_core_busy_ratio", cpu=core))
        names += [series("deskvigil_host_cpu_seconds_total", cpu=core, mode=mode) for mode in MODES]
    return tuple(names)


def _parse_stat(text: bytes) -> tuple[dict[str, list[int]], dict[bytes, float]]:
    """Split /proc/stat into ticks by core ("" is all of them) and single counts."""
    cpus: dict[str, list[int]] = {}
    counts: dict[bytes, float] = {}
    for line in text.splitlines():
        if line.startswith(b"cpu"):
            fields = line.split()
            cpus[fields[0][3:].decode()] = [int(field) for field in fields[1 : 1 + len(MODES)]]
        else:
            key, number = line.split(b" ", 2)[:2]  # the interrupts' line has thousands of fields: only the sum
            if key in COUNTERS:
                counts[key] = float(number)
    if "" not in cpus:
        raise ValueError("/proc/stat has no line of all CPUs")
    return cpus, counts


def _spent(now: list[int], before: list[int] | None) -> list[int]:
    """Ticks by mode since the read before; the kernel lets iowait and idle run backwards a little."""
    if before is None:
        return [0] * len(now)
    return [max(0, late - early) for late, early in zip(now, before, strict=True)]


def _busy(spent: list[int]) -> float:
    total = sum(spent)
    return ratio(total - spent[IDLE] - spent[IOWAIT], total)


class CpuQuota:
    """cpu.stat of this process's control group (v1 and v2): how often and for how long a processor quota held it back.

    No series where no control group tells. A quota of a group further out is not seen.
    """

    def __init__(self, proc: Path, sys: Path) -> None:
        folder = _group_with_quota(proc, sys)
        self._file = None if folder is None else ProcFile(folder / "cpu.stat")
        names = ("quota_periods_total", "throttled_periods_total", "throttled_seconds_total")
        self.series = () if folder is None else tuple(series(f"deskvigil_host_cpu_{name}") for name in names)

    def read(self, elapsed_s: float) -> list[float]:
        if self._file is None:
            return []
        found = dict(line.split(None, 1) for line in self._file.read().splitlines())
        in_v2 = b"throttled_usec" in found
        throttled_s = int(found[b"throttled_usec"]) / 1e6 if in_v2 else int(found.get(b"throttled_time", 0)) / 1e9
        return [float(found.get(b"nr_periods", NAN)), float(found.get(b"nr_throttled", NAN)), throttled_s]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _group_with_quota(proc: Path, sys: Path) -> Path | None:
    """The folder of our control group, or the root that a container shows instead, where its cpu.stat counts throttling."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = sys / "fs/cgroup" / ("cpu" if controllers else "")
        for folder in (root / group.lstrip("/"), root):
            try:
                if b"nr_throttled" in (folder / "cpu.stat").read_bytes():
                    return folder
            except OSError:
                continue
    return None


class LoadAverage:
    """/proc/loadavg and /proc/uptime."""

    def __init__(self, proc: Path) -> None:
        self._load, self._uptime = ProcFile(proc / "loadavg"), ProcFile(proc / "uptime")
        self.series = (
            *(series("deskvigil_host_load_average", window=window) for window in LOAD_WINDOWS),
            series("deskvigil_host_uptime_seconds"),
        )

    def read(self, elapsed_s: float) -> list[float]:
        load = self._load.read().split(b" ", 3)[:3]
        return [*map(float, load), float(self._uptime.read().split(b" ", 1)[0])]

    def close(self) -> None:
        self._load.close()
        self._uptime.close()


class CpuFrequency:
    """The cores' clock, where the kernel tells it. One core is read at each tick, in turn.

    Asking a core may interrupt it, and old kernels wait 10 ms for the answer: all of them at once
    would make the collector late on large machines.
    """

    def __init__(self, sys: Path, max_cores: int) -> None:
        files = [
            (int(path.parts[-3].removeprefix("cpu")), path)
            for path in (sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        ]
        files.sort()
        self._files = [ProcFile(path) for _, path in files[:max_cores]]
        self._values = [NAN] * len(self._files)
        self._turn = 0
        self.series = tuple(
            series("deskvigil_host_cpu_frequency_hertz", cpu=str(core)) for core, _ in files[:max_cores]
        )

    def read(self, elapsed_s: float) -> list[float]:
        if self._files:
            self._turn = (self._turn + 1) % len(self._files)
            self._values[self._turn] = float(self._files[self._turn].read()) * 1e3
        return list(self._values)

    def close(self) -> None:
        for file in self._files:
            file.close()
