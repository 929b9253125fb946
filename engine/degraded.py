"""DegradedMode: less work while processors or memory are short; resources/pressure.py measures.

0 NORMAL     everything
1 DEGRADED   caches dropped and memory given back once; telemetry half as often, risk a fifth as often,
             no parents of the control group
2 SHEDDING   still under pressure, from the engine's own core or from memory: no quotes either
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from engine.gates import HOLD_CONTROL, HOLD_QUOTES
from engine.options import PressureOptions
from resources.pressure import BusiestProcess, PressureGauge, Reading, Strain, StrainLimits
from resources.supervisor import read_status

NS = 1_000_000_000
LOOK_NS = NS
PUBLISH_FACTOR = 2  # between two publications, as long as degraded


class Mode(IntEnum):
    """The value of deskvigil_engine_degraded."""

    NORMAL = 0
    DEGRADED = 1
    SHEDDING = 2


class DegradedMode:
    """Looks at the pressure once a second. Everything happens in the engine's thread.

    read: the pressure since the last call, given monotonic ns; relieve: cleans up, called when the mode
    is entered; names: the processes that we know, by pid, for the reason.
    """

    def __init__(
        self,
        options: PressureOptions,
        read: Callable[[int], Reading],
        relieve: Callable[[], object],
        names: Callable[[], Mapping[int, str]] = dict,
    ) -> None:
        self._options = options
        self._read, self._relieve, self._names = read, relieve, names
        self._busiest = BusiestProcess()
        self._strain = Strain(
            StrainLimits(
                enter_cpu_ratio=options.enter_cpu_ratio,
                leave_cpu_ratio=min(options.leave_cpu_ratio, options.enter_cpu_ratio),
                enter_memory_ratio=1.0,
                leave_memory_ratio=options.leave_memory_ratio,
                enter_s=options.enter_s,
                leave_s=options.leave_s,
                memory_s=options.memory_s,
            )
        )
        self.mode = Mode.NORMAL
        self.reason = ""
        self.reading = Reading(np.nan, np.nan, np.nan)
        self._next_ns = 0

    @property
    def hold(self) -> int:
        """What is not to be decided in this mode, bits of gates.HOLD_..."""
        return (0, HOLD_CONTROL, HOLD_CONTROL | HOLD_QUOTES)[self.mode]

    def look(self, now_ns: int) -> bool:
        """Look if it is time; True where the mode changed."""
        if not self._options.enabled or now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + LOOK_NS
        self.reading = self._read(now_ns)
        if not self._strain.on and self.reading.cpu_ratio >= self._options.enter_cpu_ratio:
            began_ns = self._busiest.began_ns
            if began_ns is None or now_ns - began_ns > 2 * self._options.enter_s * NS:
                self._busiest.begin(now_ns)
        if self._strain.look(now_ns, self.reading):
            self.mode = Mode.DEGRADED if self._strain.on else Mode.NORMAL
            self.reason = self._strain.reason
            if self._strain.on:
                busiest = self._busiest.in_words(now_ns, self._names())
                self.reason += f"; {busiest}" if busiest else ""
                self._relieve()
            return True
        since_ns = self._strain.since_ns
        if self.mode is not Mode.DEGRADED or since_ns is None or not self._is_our_own():
            return False
        if now_ns - since_ns < self._options.shed_after_s * NS:
            return False
        self.mode = Mode.SHEDDING
        self.reason = f"still under pressure after {self._options.shed_after_s:g} s"
        return True

    def _is_our_own(self) -> bool:
        """Whether what is short is short because of us, so that quoting less helps; a NaN is no reason."""
        busy = self._strain.mean.core_ratio >= self._options.enter_cpu_ratio
        return bool(busy or self.reading.memory_ratio >= 1.0)

    def status(self) -> dict[str, Any]:
        """Mode, why, and the last reading, for the status answer."""
        r = self.reading
        known = {"cpu_ratio": r.cpu_ratio, "core_ratio": r.core_ratio, "memory_ratio": r.memory_ratio}
        return {
            "mode": self.mode.name,
            "reason": self.reason,
            **{name: None if np.isnan(ratio) else round(ratio, 4) for name, ratio in known.items()},
        }

    def gauges(self) -> dict[str, float]:
        """The mode's part of `Gauges`."""
        r = self.reading
        return {
            "degraded": float(self.mode),
            "pressure_cpu_ratio": r.cpu_ratio,
            "pressure_core_ratio": r.core_ratio,
            "pressure_memory_ratio": r.memory_ratio,
        }


def program_pressure(
    options: PressureOptions, supervisor_status: Path, own_pid: int, thread_ns: Callable[[], int]
) -> Callable[[int], Reading]:
    """A reader of the pressure of the whole program: its processes are those that the supervisor lists, and ours.

    thread_ns: processor time of the calling thread.
    """
    gauge = PressureGauge(options.memory_limit_mb * float(1 << 20))

    def read(now_ns: int) -> Reading:
        pids = [own_pid, *(child.pid for child in read_status(supervisor_status) if child.pid)]
        return gauge.read(now_ns, thread_ns(), pids)

    return read


def program_names(supervisor_status: Path, own_pid: int) -> Callable[[], Mapping[int, str]]:
    """A reader of our processes' names, those that the supervisor lists and ours."""
    return lambda: {child.pid: child.name for child in read_status(supervisor_status)} | {own_pid: "engine"}
