"""Memory sections of the host: memory by state, swap, paging, and pressure stalls."""

from __future__ import annotations

import os
from pathlib import Path

from collectors.section import NAN, ProcFile, ratio
from metrics.catalogue import series

STATES = ("used", "free", "buffers", "cached")
PARTS = {
    "anonymous": b"AnonPages",
    "mapped": b"Mapped",
    "shared": b"Shmem",
    "slab_unreclaimable": b"SUnreclaim",
    "kernel_stack": b"KernelStack",
    "page_tables": b"PageTables",
    "dirty": b"Dirty",
    "writeback": b"Writeback",
    "committed": b"Committed_AS",
    "locked": b"Mlocked",
}
RESOURCES = ("cpu", "memory", "io")


class Memory:
    """/proc/meminfo. used + free + buffers + cached = total; reclaimable slab counts as cached."""

    def __init__(self, proc: Path) -> None:
        self._file = ProcFile(proc / "meminfo")
        self.series = (
            series("deskvigil_host_memory_total_bytes"),
            series("deskvigil_host_memory_available_bytes"),
            series("deskvigil_host_memory_used_ratio"),
            *(series("deskvigil_host_memory_bytes", state=state) for state in STATES),
            *(series("deskvigil_host_memory_part_bytes", part=part) for part in PARTS),
            series("deskvigil_host_swap_total_bytes"),
            series("deskvigil_host_swap_used_bytes"),
            series("deskvigil_host_swap_used_ratio"),
        )

    def read(self, elapsed_s: float) -> list[float]:
        info = _parse_meminfo(self._file.read())
        total, free = info.get(b"MemTotal", NAN), info.get(b"MemFree", NAN)
        available = info.get(b"MemAvailable", NAN)
        buffers, cached = info.get(b"Buffers", 0.0), info.get(b"Cached", 0.0) + info.get(b"SReclaimable", 0.0)
        swap = info.get(b"SwapTotal", NAN)
        swapped = swap - info.get(b"SwapFree", NAN)
        return [
            total,
            available,
            ratio(total - available, total),
            total - free - buffers - cached,
            free,
            buffers,
            cached,
            *(info.get(key, NAN) for key in PARTS.values()),
            swap,
            swapped,
            0.0 if swap == 0 else ratio(swapped, swap),
        ]

    def close(self) -> None:
        self._file.close()


def _parse_meminfo(text: bytes) -> dict[bytes, float]:
    """Bytes by name; counts without a unit (huge pages) stay counts."""
    info = {}
    for line in text.splitlines():
        key, _, rest = line.partition(b":")
        number = rest.split()
        info[key] = float(number[0]) * (1024.0 if len(number) > 1 else 1.0)
    return info


class Paging:
    """/proc/vmstat: what moves between memory and disk, page faults, and processes killed for memory."""

    def __init__(self, proc: Path) -> None:
        self._file = ProcFile(proc / "vmstat")
        page = float(os.sysconf("SC_PAGE_SIZE"))
        self._scales = (
            (b"pgpgin", 1024.0), (b"pgpgout", 1024.0), (b"pswpin", page), (b"pswpout", page),
            (b"pgfault", 1.0), (b"pgmajfault", 1.0), (b"oom_kill", 1.0),
        )  # fmt: skip
        self.series = (
            series("deskvigil_host_paging_bytes_total", direction="in"),
            series("deskvigil_host_paging_bytes_total", direction="out"),
            series("deskvigil_host_swap_bytes_total", direction="in"),
            series("deskvigil_host_swap_bytes_total", direction="out"),
            series("deskvigil_host_page_faults_total", kind="all"),
            series("deskvigil_host_page_faults_total", kind="major"),
            series("deskvigil_host_oom_kills_total"),
        )

    def read(self, elapsed_s: float) -> list[float]:
        text = b"\n" + self._file.read()
        return [_number_after(text, key) * scale for key, scale in self._scales]

    def close(self) -> None:
        self._file.close()


def _number_after(text: bytes, key: bytes) -> float:
    """The number on the line that begins with key: cheaper than splitting 190 lines for seven of them."""
    begin = text.find(b"\n" + key + b" ")
    if begin < 0:
        return NAN
    begin += len(key) + 2
    end = text.find(b"\n", begin)
    return float(text[begin : end if end >= 0 else None])


class Pressure:
    """/proc/pressure: which part of the time tasks stood still for want of CPU, memory or disk."""

    def __init__(self, proc: Path) -> None:
        names = [name for name in RESOURCES if (proc / "pressure" / name).exists()]
        self._files = [ProcFile(proc / "pressure" / name) for name in names]
        self.series = tuple(
            made
            for name in names
            for kind in ("some", "full")
            for made in (
                series("deskvigil_host_pressure_ratio", resource=name, kind=kind),
                series("deskvigil_host_pressure_seconds_total", resource=name, kind=kind),
            )
        )

    def read(self, elapsed_s: float) -> list[float]:
        return [value for file in self._files for value in _parse_pressure(file.read())]

    def close(self) -> None:
        for file in self._files:
            file.close()


def _parse_pressure(text: bytes) -> list[float]:
    """10-second ratio and total seconds of `some` and of `full`, NaN where the kernel gives no such line."""
    found = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        pairs = dict(field.split(b"=") for field in fields)
        found[kind] = [float(pairs[b"avg10"]) / 100.0, float(pairs[b"total"]) / 1e6]
    return found.get(b"some", [NAN, NAN]) + found.get(b"full", [NAN, NAN])
