"""GpuCollector: NVIDIA GPUs through NVML. No GPU, no driver, a GPU that is pulled out: states, never errors."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pynvml

from collectors.nvml import GONE, LOST, NEVER, PCIE_TRAFFIC, READINGS, Nvml, Reading, driver, in_words
from collectors.options import CollectorOptions
from collectors.section import NAN
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Schema, Series

log = logging.getLogger(__name__)

MAX_GPUS = 64
NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One user of a GPU's memory; memory_bytes is NaN where the driver does not tell."""

    pid: int
    name: str
    memory_bytes: float


@dataclass
class _Gpu:
    """One GPU that has been seen; it stays known after it is gone, with `lost` in words."""

    label: str
    uuid: str
    name: str
    driver_version: str
    handle: Any
    lost: str = ""
    answered: bool = False
    never: set[int] = field(default_factory=set)
    fixed: dict[int, Sequence[float]] = field(default_factory=dict)
    traffic: Sequence[float] = (NAN, NAN)
    process_count: float = NAN
    processes: tuple[GpuProcess, ...] = ()


class _DriverGoneError(Exception):
    """Raised inside one tick when the whole library stops answering."""


class GpuCollector:
    """Utilisation, memory, temperature, power, clocks, throttling, ECC, PCIe and users of each NVIDIA GPU.

    A reading that a GPU or driver does not support is NaN. Where nothing answers, the driver is
    asked again every gpu_reprobe_s; so are GPUs that came (the driver's folder changed) or went. A
    GPU that went keeps its series with deskvigil_gpu_up 0, and its label when it comes back.
    """

    name = "gpu"

    def __init__(
        self,
        clock: Clock,
        options: CollectorOptions,
        nvml: Nvml = driver,
        *,
        driver_folder: Path = Path("/proc/driver/nvidia/gpus"),
        proc: Path = Path("/proc"),
    ) -> None:
        self.interval_s = options.gpu_interval_s
        self._clock = clock
        self._enabled = options.gpu
        self._nvml = nvml
        self._reprobe_ns = round(options.gpu_reprobe_s * 1e9)
        self._max_processes = options.max_gpu_processes
        self._driver_folder = driver_folder
        self._proc = proc
        self._gpus: dict[str, _Gpu] = {}
        self._initialised = False
        self._absence = "not asked yet" if options.gpu else "reading GPUs is switched off (collectors.gpu)"
        self._probe_at_ns: int | None = None
        self._absence_in_words = self._absence
        self._seen_in_folder: tuple[str, ...] = ()
        self._turn = 0
        self._lost_total = 0
        self._shape: tuple[Any, ...] = ()
        self._head = tuple(
            series(name) for name in ("deskvigil_gpu_devices", "deskvigil_gpu_driver_up", "deskvigil_gpu_lost_total")
        )
        self._schema = Schema(self.name, self._head)

    @property
    def absence(self) -> str:
        """Why no GPU is read, in words for a person; "" while at least one is. Safe to read from any thread."""
        return self._absence_in_words

    def describe(self) -> Schema:
        """The series as of the last reading."""
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Read every GPU; raises nothing that NVML can give cause for."""
        if self._enabled:
            self._probe_when_due()
        parts: list[list[float]] = []
        try:
            self._next_traffic()
            parts = [self._read(gpu) for gpu in self._gpus.values()]
        except _DriverGoneError:
            parts = [self._missing() for _ in self._gpus]
        self._absence_in_words = self._explain()
        alive = sum(gpu.answered for gpu in self._gpus.values())
        values = [float(alive), float(self._initialised), float(self._lost_total)]
        for gpu, part in zip(self._gpus.values(), parts, strict=True):
            values += (1.0, float(gpu.answered), *part, gpu.process_count)
            values += (process.memory_bytes for process in gpu.processes)
        return Frame(self._current_schema(), now_ns, np.array(values, dtype=np.float64))

    def close(self) -> None:
        """Let go of the library."""
        self._shut_down()

    # -- finding GPUs -------------------------------------------------------------------------

    def _probe_when_due(self) -> None:
        """Look for GPUs at first, and again at each interval where one is missing or the driver's list changed."""
        now_ns = self._clock.monotonic_ns()
        if self._probe_at_ns is not None and now_ns < self._probe_at_ns:
            return
        self._probe_at_ns = now_ns + self._reprobe_ns
        folder = self._in_folder()
        healthy = self._gpus and all(gpu.answered for gpu in self._gpus.values())
        if not healthy or folder != self._seen_in_folder:
            self._seen_in_folder = folder
            self._probe()

    def _in_folder(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(self._driver_folder)))
        except OSError:
            return ()

    def _probe(self) -> None:
        """Start the library anew (only then does it see what came and went) and list its GPUs."""
        self._shut_down()
        found: set[str] = set()
        reason = "the NVIDIA driver sees no GPU"
        gone = "the driver does not list it any more"
        try:
            self._nvml("nvmlInit")
            self._initialised = True
            version = self._text("nvmlSystemGetDriverVersion")
            for index in range(min(int(self._nvml("nvmlDeviceGetCount")), MAX_GPUS)):
                try:
                    found.add(self._meet(index, version))
                except pynvml.NVMLError as error:  # one bad board must not hide the others
                    if error.value in GONE:
                        raise
                    reason = in_words(error)
        except pynvml.NVMLError as error:
            reason = gone = in_words(error)
            self._shut_down()
            found.clear()
        for uuid, gpu in self._gpus.items():
            if uuid not in found and not gpu.lost:
                self._lose(gpu, gone)
        absence = "" if found else reason
        if absence != self._absence:
            log.info("GPUs: %s", absence or ", ".join(f"{gpu.label} {gpu.name}" for gpu in self._gpus.values()))
        self._absence = absence

    def _meet(self, index: int, version: str) -> str:
        """Take in one GPU of the list, new or known; return its uuid."""
        handle = self._nvml("nvmlDeviceGetHandleByIndex", index)
        uuid = self._text("nvmlDeviceGetUUID", handle) or f"index-{index}"
        name = self._text("nvmlDeviceGetName", handle) or "unnamed GPU"
        known = self._gpus.get(uuid)
        if known is not None and known.lost:
            log.info("GPU %s (%s) is back", known.label, name)
        label = known.label if known is not None else self._free_label(index)
        self._gpus[uuid] = _Gpu(label, uuid, name, version, handle)
        return uuid

    def _free_label(self, index: int) -> str:
        """The GPU's own index, unless a GPU that was there before goes by it."""
        taken = {gpu.label for gpu in self._gpus.values()}
        return next(str(number) for number in (index, *range(len(taken) + 1)) if str(number) not in taken)

    def _text(self, function: str, *arguments: Any) -> str:
        """A text reading, "" where there is none; errors of the whole GPU or driver go on."""
        try:
            text = self._nvml(function, *arguments)
            return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        except pynvml.NVMLError as error:
            if error.value in GONE | LOST:
                raise
            return ""

    def _shut_down(self) -> None:
        if self._initialised:
            self._initialised = False
            with suppress(pynvml.NVMLError):
                self._nvml("nvmlShutdown")

    # -- reading one GPU ----------------------------------------------------------------------

    def _read(self, gpu: _Gpu) -> list[float]:
        gpu.answered = False
        values: list[float] = []
        for number, reading in enumerate(READINGS):
            values += self._ask(gpu, number, reading)
        values += gpu.traffic
        self._read_processes(gpu)
        return values if not gpu.lost else self._missing()

    def _missing(self) -> list[float]:
        return [NAN] * (sum(len(reading.names) for reading in READINGS) + len(PCIE_TRAFFIC.names))

    def _ask(self, gpu: _Gpu, number: int, reading: Reading) -> Sequence[float]:
        """One reading's numbers, NaN where there are none; marks the GPU lost where it says so."""
        missing = (NAN,) * len(reading.names)
        if gpu.lost or number in gpu.never:
            return missing
        if number in gpu.fixed:
            return gpu.fixed[number]
        try:
            values = reading.ask(self._nvml, gpu.handle)
        except pynvml.NVMLError as error:
            self._refused(gpu, number, error)
            return missing
        gpu.answered = True
        if reading.fixed:
            gpu.fixed[number] = values
        return values

    def _refused(self, gpu: _Gpu, number: int, error: pynvml.NVMLError) -> None:
        """Draw the conclusion from an error; _DriverGoneError where no GPU can be asked any more."""
        if error.value in NEVER:
            gpu.never.add(number)
        elif error.value in LOST:
            self._lose(gpu, in_words(error))
        elif error.value in GONE:
            self._absence = in_words(error)
            for other in self._gpus.values():
                if not other.lost:
                    self._lose(other, in_words(error))
            self._shut_down()
            raise _DriverGoneError

    def _lose(self, gpu: _Gpu, reason: str) -> None:
        gpu.lost, gpu.answered = reason, False
        gpu.process_count, gpu.processes, gpu.traffic = NAN, (), (NAN, NAN)
        self._lost_total += 1
        log.warning("GPU %s (%s) is lost: %s", gpu.label, gpu.name, reason)

    def _next_traffic(self) -> None:
        """Measure PCIe traffic of one GPU, in turn: asking all of them would take 40 ms each."""
        if self._gpus:
            self._turn = (self._turn + 1) % len(self._gpus)
            gpu = tuple(self._gpus.values())[self._turn]
            gpu.traffic = self._ask(gpu, len(READINGS), PCIE_TRAFFIC)

    def _read_processes(self, gpu: _Gpu) -> None:
        number = len(READINGS) + 1
        if gpu.lost or number in gpu.never:
            return
        memory: dict[int, float] = {}
        try:
            for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
                for process in self._nvml(function, gpu.handle):
                    memory[process.pid] = NAN if process.usedGpuMemory is None else float(process.usedGpuMemory)
        except pynvml.NVMLError as error:
            gpu.process_count, gpu.processes = NAN, ()
            self._refused(gpu, number, error)
            return
        names = {process.pid: process.name for process in gpu.processes}
        gpu.process_count = float(len(memory))
        largest = sorted(memory, key=lambda pid: -memory[pid] if memory[pid] == memory[pid] else 0.0)
        gpu.processes = tuple(
            GpuProcess(pid, names.get(pid) or self._process_name(pid), memory[pid])
            for pid in sorted(largest[: self._max_processes])  # by pid, so that a change of rank is no new schema
        )

    def _process_name(self, pid: int) -> str:
        """The program's name; the driver sees processes of other containers that /proc does not show."""
        try:
            return (self._proc / str(pid) / "comm").read_text(errors="replace").strip()[:NAME_CHARACTERS]
        except OSError:
            pass
        with suppress(pynvml.NVMLError):
            return Path(self._text("nvmlSystemGetProcessName", pid)).name[:NAME_CHARACTERS]
        return ""

    def _explain(self) -> str:
        if any(not gpu.lost for gpu in self._gpus.values()):
            return ""
        lost = (f"GPU {gpu.label} ({gpu.name}): {gpu.lost}" for gpu in self._gpus.values() if gpu.lost != self._absence)
        return "; ".join(part for part in (self._absence, *lost) if part)

    # -- describing ---------------------------------------------------------------------------

    def _current_schema(self) -> Schema:
        shape = tuple(
            (gpu.label, gpu.uuid, gpu.name, gpu.driver_version, tuple((one.pid, one.name) for one in gpu.processes))
            for gpu in self._gpus.values()
        )
        if shape != self._shape:
            self._shape = shape
            made = tuple(one for gpu in self._gpus.values() for one in _gpu_series(gpu))
            self._schema = Schema(self.name, self._head + made)
        return self._schema


def _gpu_series(gpu: _Gpu) -> list[Series]:
    made = [
        series("deskvigil_gpu_info", gpu=gpu.label, name=gpu.name, uuid=gpu.uuid, driver=gpu.driver_version),
        series("deskvigil_gpu_up", gpu=gpu.label),
    ]
    for reading in (*READINGS, PCIE_TRAFFIC):
        made += reading.series(gpu.label)
    made.append(series("deskvigil_gpu_processes", gpu=gpu.label))
    made += [
        series("deskvigil_gpu_process_memory_bytes", gpu=gpu.label, pid=str(one.pid), process=one.name)
        for one in gpu.processes
    ]
    return made
