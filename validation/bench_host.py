"""What one reading of the host costs, beside psutil's for the same figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from collectors.host import HostCollector
from collectors.options import CollectorOptions
from metrics.clock import SystemClock
from metrics.frame import FloatArray
from validation.figure import Figure

NAME = "host"
SECONDS = 2.0


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Time our collector and the psutil calls that give (fewer of) the same readings, back to back."""
    say(f"host: about {2 * SECONDS:.0f} s ...")
    clock = SystemClock()
    collector = HostCollector(clock, CollectorOptions(), Path.cwd())
    ours = _times_us(lambda: collector.collect(clock.now_ns()))
    series = len(collector.describe())
    collector.close()
    theirs = _times_us(_with_psutil)
    return [
        Figure(
            benchmark=NAME, what=f"one reading, {series} series, p50", value=float(np.median(ours)), unit="us", decimals=0,
            peer=f"psutil here {np.median(theirs):,.0f} for fewer figures",
        )
    ]  # fmt: skip


def _with_psutil() -> None:
    psutil.cpu_times(percpu=True)
    psutil.cpu_stats()
    psutil.getloadavg()
    psutil.virtual_memory()
    psutil.swap_memory()
    psutil.disk_io_counters(perdisk=True)
    psutil.net_io_counters(pernic=True)
    for partition in psutil.disk_partitions():
        psutil.disk_usage(partition.mountpoint)


def _times_us(run: Callable[[], object]) -> FloatArray:
    """Microseconds of each run in SECONDS, after a warm-up."""
    for _ in range(20):
        run()
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        run()
        taken.append(time.perf_counter() - began)
    return 1e6 * np.array(taken)
