"""HostCollector: the machine under the desk, read from the kernel's own files.

The kernel's text files are read directly because at one tick a second psutil's generality costs
several times what the reading does (docs/PERFORMANCE.md has both figures).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collectors.cpu import CpuFrequency, CpuQuota, CpuTime, LoadAverage
from collectors.disks import DataFolder, Disks, Filesystems
from collectors.memory import Memory, Paging, Pressure
from collectors.network import Interfaces, Protocols
from collectors.options import CollectorOptions
from collectors.section import NAN, Section
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.errors import TransientError
from metrics.frame import Frame
from metrics.series import Schema, Series

log = logging.getLogger(__name__)

STEP_NS = 500_000_000  # a wall clock that jumps this far between two ticks has been set
NOISE_NS = 1_000_000  # slewing and the time between asking both clocks stay below this


class ClockSteps:
    """How far the wall clock ran away from the monotonic one: ages on screen and in mails hang on it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ns: int | None = None
        self._steps = 0
        self.series = (series("deskvigil_host_clock_step_seconds"), series("deskvigil_host_clock_steps_total"))

    def read(self, elapsed_s: float) -> list[float]:
        offset_ns = self._clock.now_ns() - self._clock.monotonic_ns()
        step_ns = 0 if self._offset_ns is None else offset_ns - self._offset_ns
        self._offset_ns = offset_ns
        if abs(step_ns) < NOISE_NS:
            step_ns = 0
        if abs(step_ns) >= STEP_NS:
            self._steps += 1
            log.warning("the wall clock was set by %+.3f s", step_ns / 1e9)
        return [step_ns / 1e9, float(self._steps)]

    def close(self) -> None:
        pass


@dataclass
class _Part:
    """One section with what is known of it: the series it had last, and why it failed."""

    section: Section
    series: tuple[Series, ...]
    reason: str = ""


class HostCollector:
    """CPU, memory, disks, filesystems, network, pressure and clock of this machine.

    A section that cannot be read gives NaN and is logged once per reason; the others go on. Disks,
    mounts, interfaces and cores that come or go make a new Schema. proc and sys are where the
    kernel's files are (elsewhere in tests, or where a container sees its host's).
    """

    name = "host"

    def __init__(
        self,
        clock: Clock,
        options: CollectorOptions,
        data_dir: Path,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
    ) -> None:
        self.interval_s = options.host_interval_s
        self._clock = clock
        self._proc = proc
        cpu = CpuTime(proc, options.max_cores)
        disks = Disks(proc, sys, options.max_disks)
        filesystems = Filesystems(proc, options.max_filesystems)
        interfaces = Interfaces(proc, sys, options.ignored_interfaces, options.max_interfaces)
        self._bounded = (cpu, disks, filesystems, interfaces)
        sections: tuple[Section, ...] = (
            cpu, CpuQuota(proc, sys), LoadAverage(proc), CpuFrequency(sys, options.max_cores), Memory(proc), Paging(proc), Pressure(proc),
            disks, filesystems, DataFolder(data_dir), interfaces, Protocols(proc), ClockSteps(clock),
        )  # fmt: skip
        self._parts = [_Part(section, section.series) for section in sections]
        self._own = (series("deskvigil_host_sections_failed"), series("deskvigil_host_devices_left_out"))
        self._schema = self._assemble()
        self._read_ns: int | None = None

    def describe(self) -> Schema:
        """The series as of the last reading."""
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Read every section; TransientError where the system has no /proc at all."""
        monotonic_ns = self._clock.monotonic_ns()
        elapsed_s = NAN if self._read_ns is None else (monotonic_ns - self._read_ns) / 1e9
        self._read_ns = monotonic_ns
        values: list[float] = []
        failed, changed = 0, False
        for part in self._parts:
            values += self._read(part, elapsed_s)
            failed += bool(part.reason)
            if part.section.series is not part.series:
                part.series = part.section.series
                changed = True
        if failed and not (self._proc / "stat").exists():
            raise TransientError(f"the host cannot be read: no {self._proc}/stat on this system")
        if changed:
            self._schema = self._assemble()
        values += (float(failed), float(sum(section.left_out for section in self._bounded)))
        return Frame(self._schema, now_ns, np.array(values, dtype=np.float64))

    def close(self) -> None:
        """Close the kernel's files."""
        for part in self._parts:
            part.section.close()

    def _read(self, part: _Part, elapsed_s: float) -> list[float]:
        section = part.section
        try:
            values = section.read(elapsed_s)
            part.reason = ""
            return values
        except (OSError, ValueError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}"
            if reason != part.reason:
                log.warning("host readings of %s are missing: %s", type(section).__name__, reason)
            part.reason = reason
            return [NAN] * len(section.series)

    def _assemble(self) -> Schema:
        return Schema(self.name, tuple(made for part in self._parts for made in part.series) + self._own)
