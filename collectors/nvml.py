"""NVML: the port to NVIDIA's management library, what its errors mean, and the readings of one GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pynvml

from metrics.catalogue import series
from metrics.series import Series


class Nvml(Protocol):
    """Calls one NVML function by its pynvml name; raises pynvml.NVMLError where it fails."""

    def __call__(self, function: str, /, *arguments: Any) -> Any: ...


def driver(function: str, /, *arguments: Any) -> Any:
    """The port's real side: the driver on this host."""
    return getattr(pynvml, function)(*arguments)


# The whole library has to be asked anew: no driver, or it was unloaded or replaced under us.
GONE = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
# This GPU does not answer any more; the others may.
LOST = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_GPU_NOT_FOUND, pynvml.NVML_ERROR_RESET_REQUIRED})
# This GPU or driver will never answer this question: do not ask again before the next probe.
NEVER = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
WORDS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver on this host",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated and waits for a reboot",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to ask the NVIDIA driver",
    pynvml.NVML_ERROR_GPU_IS_LOST: "fallen off the bus",
    pynvml.NVML_ERROR_GPU_NOT_FOUND: "not found any more",
    pynvml.NVML_ERROR_RESET_REQUIRED: "needs a reset",
    pynvml.NVML_ERROR_UNINITIALIZED: "the NVIDIA driver was unloaded",
}


def in_words(error: pynvml.NVMLError) -> str:
    """What an NVML error means for the person at the console."""
    return WORDS.get(error.value) or f"the NVIDIA driver says: {error}"


@dataclass(frozen=True)
class Reading:
    """One question to a GPU: the series that its answer fills, and how it is asked.

    ask gets the port and the GPU's handle and returns one number per series. fixed: the answer
    does not change while the GPU is there, so it is asked once.
    """

    names: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    ask: Callable[[Nvml, Any], Sequence[float]]
    fixed: bool = False

    def series(self, gpu: str) -> tuple[Series, ...]:
        """The series of this reading for one GPU."""
        return tuple(series(name, gpu=gpu, **dict(labels)) for name, labels in self.names)


def _one(name: str, function: str, *arguments: Any, scale: float = 1.0, fixed: bool = False, **labels: str) -> Reading:
    """A reading of one number from one function."""
    return Reading(
        ((f"deskvigil_gpu_{name}", tuple(labels.items())),),
        lambda nvml, handle: (nvml(function, handle, *arguments) * scale,),
        fixed,
    )


def _utilisation(nvml: Nvml, handle: Any) -> Sequence[float]:
    found = nvml("nvmlDeviceGetUtilizationRates", handle)
    return found.gpu / 100.0, found.memory / 100.0


def _memory(nvml: Nvml, handle: Any) -> Sequence[float]:
    found = nvml("nvmlDeviceGetMemoryInfo", handle)
    return float(found.total), float(found.used), found.used / found.total if found.total else float("nan")


REASONS = {
    "idle": pynvml.nvmlClocksEventReasonGpuIdle,
    "chosen_clocks": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
    "power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hardware_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "software_thermal": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hardware_thermal": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "power_brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    "display_clocks": pynvml.nvmlClocksEventReasonDisplayClockSetting,
}
HARMFUL = sum(
    REASONS[name] for name in ("power_cap", "hardware_slowdown", "software_thermal", "hardware_thermal", "power_brake")
)


def _throttle(nvml: Nvml, handle: Any) -> Sequence[float]:
    try:
        mask = nvml("nvmlDeviceGetCurrentClocksEventReasons", handle)
    except pynvml.NVMLError_FunctionNotFound:  # drivers before 535 know it by its old name
        mask = nvml("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return [float(bool(mask & HARMFUL)), *(float(bool(mask & bit)) for bit in REASONS.values())]


def _remapped(nvml: Nvml, handle: Any) -> Sequence[float]:
    return [float(number) for number in nvml("nvmlDeviceGetRemappedRows", handle)]


CLOCKS = {
    "graphics": pynvml.NVML_CLOCK_GRAPHICS,
    "sm": pynvml.NVML_CLOCK_SM,
    "memory": pynvml.NVML_CLOCK_MEM,
    "video": pynvml.NVML_CLOCK_VIDEO,
}

READINGS: tuple[Reading, ...] = (
    Reading(
        (("deskvigil_gpu_utilisation_ratio", ()), ("deskvigil_gpu_memory_utilisation_ratio", ())),
        _utilisation,
    ),
    Reading(
        (
            ("deskvigil_gpu_memory_total_bytes", ()),
            ("deskvigil_gpu_memory_used_bytes", ()),
            ("deskvigil_gpu_memory_used_ratio", ()),
        ),
        _memory,
    ),
    _one("temperature_celsius", "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
    *(
        _one("temperature_limit_celsius", "nvmlDeviceGetTemperatureThreshold", threshold, fixed=True, limit=limit)
        for limit, threshold in (
            ("slowdown", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            ("shutdown", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
        )
    ),
    _one("power_watts", "nvmlDeviceGetPowerUsage", scale=1e-3),
    _one("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
    _one("energy_joules_total", "nvmlDeviceGetTotalEnergyConsumption", scale=1e-3),
    *(_one("clock_hertz", "nvmlDeviceGetClockInfo", kind, scale=1e6, clock=clock) for clock, kind in CLOCKS.items()),
    *(
        _one("clock_max_hertz", "nvmlDeviceGetMaxClockInfo", kind, scale=1e6, fixed=True, clock=clock)
        for clock, kind in CLOCKS.items()
    ),
    Reading(
        (
            ("deskvigil_gpu_throttled", ()),
            *(("deskvigil_gpu_throttle", (("reason", reason),)) for reason in REASONS),
        ),
        _throttle,
    ),
    _one("performance_state", "nvmlDeviceGetPerformanceState"),
    *(
        _one("ecc_errors_total", "nvmlDeviceGetTotalEccErrors", error, pynvml.NVML_VOLATILE_ECC, kind=kind)
        for kind, error in (
            ("corrected", pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ("uncorrected", pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        )
    ),
    Reading(
        (
            ("deskvigil_gpu_remapped_rows_total", (("kind", "corrected"),)),
            ("deskvigil_gpu_remapped_rows_total", (("kind", "uncorrected"),)),
            ("deskvigil_gpu_row_remap_pending", ()),
            ("deskvigil_gpu_row_remap_failed", ()),
        ),
        _remapped,
    ),
    _one("pcie_replays_total", "nvmlDeviceGetPcieReplayCounter"),
    _one("pcie_link_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
    _one("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth"),
    _one("fan_ratio", "nvmlDeviceGetFanSpeed", scale=1e-2),
)

# Asked apart from the rest: each call counts bytes for 20 ms before it answers, in KB/s.
PCIE_TRAFFIC = Reading(
    (
        ("deskvigil_gpu_pcie_bytes_per_second", (("direction", "transmit"),)),
        ("deskvigil_gpu_pcie_bytes_per_second", (("direction", "receive"),)),
    ),
    lambda nvml, handle: (
        nvml("nvmlDeviceGetPcieThroughput", handle, pynvml.NVML_PCIE_UTIL_TX_BYTES) * 1e3,
        nvml("nvmlDeviceGetPcieThroughput", handle, pynvml.NVML_PCIE_UTIL_RX_BYTES) * 1e3,
    ),
)
