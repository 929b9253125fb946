"""Accelerator: whether simulations run on graphics processors, and what becomes of it when they fail.

Whatever goes wrong there (no driver, no memory, a device that vanished, a result that is no number), the caller computes on
the processor instead, a state and words say why, and after failures in a row a circuit breaker leaves the devices alone for a
while. A result that is no number counts as a device's failure only where the processor's is one: `settle` tells.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

import numpy as np

from engine.breaker import Breaker, BreakerState, Transition
from engine.montecarlo.gpu.cubin import cubin_for, nvcc, nvrtc
from engine.montecarlo.gpu.device import Batch, GpuDevice
from engine.montecarlo.gpu.memory import PoolFigures
from engine.montecarlo.gpu.plan import FEW, Work
from engine.options import BreakerOptions
from metrics.clock import Clock, SystemClock
from metrics.errors import DeskvigilError, TransientError
from metrics.frame import FloatArray

log = logging.getLogger("deskvigil.gpu")
WORDS: Final = 200
BREAKER: Final = BreakerOptions(failures=3, open_s=30.0)

Choice = Literal["auto", "cpu", "gpu"]


class GpuAbsentError(DeskvigilError):
    """There is no usable graphics processor here, and trying again cannot help."""


class GpuState(Enum):
    """Where simulations run and why; the value is the label of deskvigil_risk_gpu_state."""

    ON = "on"
    OFF = "off"
    ABSENT = "absent"
    FAILED = "failed"


@dataclass(frozen=True)
class GpuFigures:
    """runs: results that were used; fallbacks: those that the processor had to compute after all; trips of the breaker."""

    state: GpuState
    words: str
    devices: int
    runs: int
    fallbacks: int
    trips: int
    pool: PoolFigures


def load_devices(memory_bytes: int, clock: Clock) -> list[GpuDevice]:
    """All devices of this host, kernels loaded; compiles them where they are not kept. GpuAbsentError where there is none."""
    try:
        ctypes.CDLL("libcuda.so.1")  # asked first, as importing CuPy costs half a second and 100 MB
    except OSError:
        raise GpuAbsentError("no NVIDIA driver on this host") from None
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        raise GpuAbsentError(f"CuPy is not installed (requirements-gpu.txt): {error}") from error
    return devices_of(cupy, memory_bytes, clock)


def devices_of(cupy: Any, memory_bytes: int, clock: Clock) -> list[GpuDevice]:
    """The same with CuPy in hand."""
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise GpuAbsentError(f"the NVIDIA driver says: {error}") from error
    if count == 0:
        raise GpuAbsentError("no NVIDIA device on this host")
    devices = []
    for number in range(count):
        try:
            cubin = cubin_for(str(cupy.cuda.Device(number).compute_capability), [nvrtc(cupy), nvcc])
        except (DeskvigilError, OSError) as error:
            raise GpuAbsentError(str(error)) from error
        devices.append(GpuDevice(cupy, number, cubin, memory_bytes, clock))
    return devices


def warm_gpu() -> str:
    """Compile the kernels for this host's devices where that is not done yet; says which they are, or why there are none."""
    accelerator = Accelerator("auto", 1 << 20, SystemClock())
    accelerator.start()
    return accelerator.figures().words


class Accelerator:
    """Decides run by run, and keeps the devices. For one thread.

    choice "cpu" never touches them; "auto" and "gpu" use them where they work, and "gpu" warns where there is none.
    memory_bytes: ceiling of each device's pool.
    """

    def __init__(
        self,
        choice: Choice,
        memory_bytes: int,
        clock: Clock,
        load: Callable[[int, Clock], Sequence[GpuDevice]] = load_devices,
    ) -> None:
        self._choice, self._memory_bytes, self._clock, self._load = choice, memory_bytes, clock, load
        self._breaker = Breaker("gpu", BREAKER, self._tell)
        self._devices: Sequence[GpuDevice] = ()
        self._abandoned: list[GpuDevice] = []
        self._pool = PoolFigures()
        self._found = False
        self._runs = self._fallbacks = 0
        self._open: Literal["", "used", "suspect"] = ""  # what became of the last run, until it is settled
        self._state, self._words = GpuState.OFF, "off by choice"

    def start(self) -> None:
        """Load the devices now, before anybody waits for a result."""
        if self._choice != "cpu" and not self._devices and self._state is not GpuState.ABSENT:
            try:
                self._devices = self._load(self._memory_bytes, self._clock)
                self._found = True
                self._state, self._words = GpuState.ON, ", ".join(device.name for device in self._devices)
            except GpuAbsentError as error:
                if self._found:  # it was there: it may come back
                    self._failed(error)
                    return
                self._state, self._words = GpuState.ABSENT, str(error)[:WORDS]
                log.log(logging.WARNING if self._choice == "gpu" else logging.INFO, "Monte-Carlo on the CPU: %s", error)
            except Exception as error:  # the driver's and CuPy's errors have no common base
                self._failed(error)

    def leave(self, words: str) -> None:
        """Never use devices, for a reason."""
        self._choice, self._devices, self._state, self._words = "cpu", (), GpuState.OFF, words[:WORDS]

    def run(self, work: Work, seed: int, stream: int, out: FloatArray, first: int = 0) -> bool:
        """Try to compute on the devices into out, of the plan's shape; False where it is the processor's turn."""
        self._open = ""
        if self._choice == "cpu" or self._state is GpuState.ABSENT:
            return False
        if not self._breaker.passes(self._clock.monotonic_ns()):
            self._fallbacks += 1
            return False
        self.start()
        if not self._devices:
            self._fallbacks += self._state is GpuState.FAILED
            return False
        try:
            compute(self._devices, work, seed, stream, out, first)
        except Exception as error:  # the driver's and CuPy's errors have no common base
            self._failed(error)
            self._fallbacks += 1
            return False
        self._open = "used" if np.isfinite(out).all() else "suspect"
        self._fallbacks += self._open == "suspect"
        return self._open == "used"

    def settle(self) -> None:
        """A result of the last run's work, whoever computed it, is sound. Without this word the inputs were at fault."""
        if self._open == "used":
            self._runs += 1
            self._breaker.succeed(self._clock.monotonic_ns())
        elif self._open == "suspect":
            self._failed(DeskvigilError("a result that is not finite, where the processor's is"))
        self._open = ""

    @property
    def state(self) -> GpuState:
        return self._state

    def figures(self) -> GpuFigures:
        """As of now; of devices that were given up, their pools' last figures but for the bytes."""
        if self._devices:
            try:
                self._pool = PoolFigures.sum_of([device.figures() for device in self._devices])
            except Exception as error:  # a device that has vanished has no figures
                self._failed(error)
        return GpuFigures(
            self._state, self._words, len(self._devices), self._runs, self._fallbacks, self._breaker.trips, self._pool
        )

    def _failed(self, error: Exception) -> None:
        """Give the devices up: the next try, if the breaker lets it through, loads them anew."""
        if isinstance(error, TransientError):  # a kernel still runs: freeing its memory would wait for it
            self._abandoned += self._devices
        self._devices = ()
        words = f"{type(error).__name__}: {error}" if not isinstance(error, DeskvigilError) else str(error)
        self._state, self._words = GpuState.FAILED, words[:WORDS]
        log.warning("Monte-Carlo falls back to the CPU: %s", words)
        self._breaker.fail(self._clock.monotonic_ns(), words)

    def _tell(self, change: Transition) -> None:
        if change.after is BreakerState.OPEN:
            log.warning("the GPU is left alone for %g s: %s", BREAKER.open_s, change.reason)


def compute(devices: Sequence[GpuDevice], work: Work, seed: int, stream: int, out: FloatArray, first: int = 0) -> None:
    """Run work on devices, each with one stretch of the samples; few samples on one. The same bits for any number of devices."""
    units = -(-work.samples // work.unit)
    used = min(len(devices), units) if work.samples > FEW else 1
    under_way: list[tuple[GpuDevice, Batch, FloatArray]] = []
    for k in range(used):
        begin, end = units * k // used * work.unit, min(units * (k + 1) // used * work.unit, work.samples)
        part = work if used == 1 else work.part(begin, end)
        target = out
        if used > 1:
            target = out[begin // work.unit :][: part.plan.blocks] if work.totals else out[:, begin:end]
        under_way.append((devices[k], devices[k].start(part, seed, stream, first + begin), target))
    for device, batch, target in under_way:
        device.finish(batch, target)
