from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.gpu import GpuCollector
from collectors.nvml import PCIE_TRAFFIC, READINGS
from collectors.options import CollectorOptions
from metrics.catalogue import series
from metrics.clock import ManualClock
from metrics.frame import Frame

CODES = sorted(getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVML_ERROR_"))
GIB = 1024**3


class FakeNvml:
    """NVML at its edge: GPUs that can be pulled, a driver that can be unloaded, and real pynvml errors."""

    def __init__(self, *uuids: str) -> None:
        self.plugged = list(uuids)
        self.listed: list[str] = []  # what the library saw when it was started
        self.loaded = True
        self.started = False
        self.forbidden: set[str] = set()
        self.refusing: dict[str, int] = {}
        self.calls: list[str] = []
        self.fail_after: tuple[int, int] | None = None
        self.processes: list[SimpleNamespace] = [SimpleNamespace(pid=4_000_001, usedGpuMemory=2 * GIB)]
        self.energy_mj = 1_000

    def __call__(self, function: str, /, *arguments: Any) -> Any:
        assert hasattr(pynvml, function), f"pynvml has no {function}"
        self.calls.append(function)
        if function in self.refusing:
            raise pynvml.NVMLError(self.refusing[function])
        if self.fail_after is not None:
            left, code = self.fail_after
            self.fail_after = (left - 1, code)
            if left <= 0:
                raise pynvml.NVMLError(code)
        return self._answer(function, arguments)

    def _answer(self, function: str, arguments: tuple[Any, ...]) -> Any:
        if function == "nvmlInit":
            if not self.loaded:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
            self.started, self.listed = True, list(self.plugged)
            return None
        if not self.started or not self.loaded:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        if function == "nvmlShutdown":
            self.started = False
            return None
        if function == "nvmlDeviceGetCount":
            return len(self.listed)
        if function == "nvmlDeviceGetHandleByIndex":
            if self.listed[arguments[0]] in self.forbidden:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)
            return self.listed[arguments[0]]
        if function == "nvmlSystemGetDriverVersion":
            return "575.57"
        if function == "nvmlSystemGetProcessName":
            return b"/opt/desk/pricer"
        return self._of_gpu(function, *arguments)

    def _of_gpu(self, function: str, handle: str, *arguments: Any) -> Any:
        if handle not in self.plugged:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if function == "nvmlDeviceGetFanSpeed":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.energy_mj += 500
        return {
            "nvmlDeviceGetUUID": handle,
            "nvmlDeviceGetName": "NVIDIA Test 100",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37, memory=12),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * GIB, used=20 * GIB, free=60 * GIB),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetTemperatureThreshold": 90,
            "nvmlDeviceGetPowerUsage": 310_500,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTotalEnergyConsumption": self.energy_mj,
            "nvmlDeviceGetClockInfo": 1_980,
            "nvmlDeviceGetMaxClockInfo": 1_980,
            "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlClocksEventReasonSwPowerCap,
            "nvmlDeviceGetCurrentClocksThrottleReasons": pynvml.nvmlClocksEventReasonGpuIdle,
            "nvmlDeviceGetPerformanceState": 0,
            "nvmlDeviceGetTotalEccErrors": 3,
            "nvmlDeviceGetRemappedRows": (1, 0, 0, 0),
            "nvmlDeviceGetPcieThroughput": 12_000,
            "nvmlDeviceGetPcieReplayCounter": 4,
            "nvmlDeviceGetCurrPcieLinkGeneration": 5,
            "nvmlDeviceGetCurrPcieLinkWidth": 16,
            "nvmlDeviceGetComputeRunningProcesses": self.processes,
            "nvmlDeviceGetGraphicsRunningProcesses": [],
        }[function]


class Desk:
    """A collector over a fake NVML, with a clock that the test moves."""

    def __init__(self, tmp_path: Path, *uuids: str, **options: Any) -> None:
        self.nvml = FakeNvml(*uuids)
        self.clock = ManualClock()
        self.folder = tmp_path / "gpus"
        self.folder.mkdir(exist_ok=True)
        self.list_in_folder()
        self.collector = GpuCollector(
            self.clock, CollectorOptions(**options), self.nvml, driver_folder=self.folder, proc=tmp_path
        )

    def list_in_folder(self) -> None:
        for entry in self.folder.iterdir():
            entry.rmdir()
        for uuid in self.nvml.plugged:
            (self.folder / uuid).mkdir()

    def tick(self, after_s: float = 1.0) -> Frame:
        self.clock.advance(round(after_s * 1e9))
        return self.collector.collect(self.clock.now_ns())


def value(frame: Frame, name: str, /, **labels: str) -> float:
    return float(frame.values[frame.schema.index[series(f"deskvigil_gpu_{name}", **labels)]])


@pytest.fixture
def one(tmp_path: Path) -> Desk:
    return Desk(tmp_path, "GPU-aaaa")


def test_every_reading_of_a_healthy_gpu_arrives_in_base_units(one: Desk) -> None:
    one.tick()
    frame = one.tick()
    assert value(frame, "devices") == value(frame, "driver_up") == value(frame, "up", gpu="0") == 1
    assert value(frame, "info", gpu="0", name="NVIDIA Test 100", uuid="GPU-aaaa", driver="575.57") == 1
    assert value(frame, "utilisation_ratio", gpu="0") == pytest.approx(0.37)
    assert value(frame, "memory_used_ratio", gpu="0") == pytest.approx(0.25)
    assert value(frame, "temperature_celsius", gpu="0") == 61
    assert value(frame, "temperature_limit_celsius", gpu="0", limit="shutdown") == 90
    assert value(frame, "power_watts", gpu="0") == pytest.approx(310.5)
    assert value(frame, "power_limit_watts", gpu="0") == pytest.approx(700)
    assert value(frame, "clock_hertz", gpu="0", clock="sm") == pytest.approx(1.98e9)
    assert value(frame, "throttle", gpu="0", reason="power_cap") == value(frame, "throttled", gpu="0") == 1
    assert value(frame, "throttle", gpu="0", reason="idle") == 0
    assert value(frame, "ecc_errors_total", gpu="0", kind="uncorrected") == 3
    assert value(frame, "pcie_bytes_per_second", gpu="0", direction="receive") == pytest.approx(12e6)
    assert value(frame, "processes", gpu="0") == 1
    assert value(frame, "process_memory_bytes", gpu="0", pid="4000001", process="pricer") == 2 * GIB
    assert one.collector.absence == ""


def test_an_unsupported_reading_is_missing_and_not_asked_again(one: Desk) -> None:
    first, second = one.tick(), one.tick()
    assert math.isnan(value(first, "fan_ratio", gpu="0"))
    assert math.isnan(value(second, "fan_ratio", gpu="0"))
    assert one.nvml.calls.count("nvmlDeviceGetFanSpeed") == 1


def test_what_never_changes_is_asked_once(one: Desk) -> None:
    for _ in range(3):
        one.tick()
    assert one.nvml.calls.count("nvmlDeviceGetMaxClockInfo") == 4


def test_an_idle_gpu_on_an_old_driver_is_not_called_throttled(one: Desk) -> None:
    one.nvml.refusing["nvmlDeviceGetCurrentClocksEventReasons"] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    frame = one.tick()
    assert value(frame, "throttle", gpu="0", reason="idle") == 1
    assert value(frame, "throttled", gpu="0") == 0


def test_no_driver_is_a_state_in_words(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.nvml.refusing["nvmlInit"] = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    frame = desk.tick()
    assert value(frame, "devices") == value(frame, "driver_up") == 0
    assert len(frame.schema) == 3
    assert desk.collector.absence == "no NVIDIA driver on this host"


def test_the_real_library_on_this_host_gives_a_frame_and_a_state(tmp_path: Path) -> None:
    collector = GpuCollector(ManualClock(), CollectorOptions())
    frame = collector.collect(1)
    assert (value(frame, "devices") > 0) == (collector.absence == "")
    collector.close()


def test_a_driver_without_a_gpu_is_a_state_in_words(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    frame = desk.tick()
    assert (value(frame, "devices"), value(frame, "driver_up")) == (0, 1)
    assert desk.collector.absence == "the NVIDIA driver sees no GPU"


def test_switched_off_asks_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa", gpu=False)
    assert value(desk.tick(), "devices") == 0
    assert desk.nvml.calls == []
    assert "switched off" in desk.collector.absence


def test_an_absent_driver_is_asked_again_after_thirty_seconds_and_not_before(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa")
    desk.nvml.loaded = False
    desk.tick()
    desk.nvml.loaded = True
    assert value(desk.tick(29.0), "devices") == 0
    assert value(desk.tick(1.0), "devices") == 1
    assert desk.collector.absence == ""


def test_a_gpu_pulled_out_stays_known_as_down_and_the_other_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa", "GPU-bbbb")
    before = desk.tick()
    desk.nvml.plugged.remove("GPU-aaaa")
    during = desk.tick()
    after = desk.tick(31.0)  # probed again: the driver does not list it any more
    for frame in (during, after):
        assert value(frame, "up", gpu="0") == 0
        assert math.isnan(value(frame, "temperature_celsius", gpu="0"))
        assert value(frame, "up", gpu="1") == 1
        assert value(frame, "temperature_celsius", gpu="1") == 61
        assert value(frame, "devices") == 1
    assert value(before, "lost_total") == 0
    assert value(after, "lost_total") == 1
    assert desk.collector.absence == ""


def test_the_only_gpu_pulled_out_is_explained_and_comes_back_under_its_label(one: Desk) -> None:
    one.tick()
    one.nvml.plugged.clear()
    one.tick()
    assert "fallen off the bus" in one.collector.absence
    one.nvml.plugged.append("GPU-aaaa")
    frame = one.tick(31.0)
    assert value(frame, "up", gpu="0") == 1
    assert one.collector.absence == ""


def test_a_gpu_plugged_in_makes_a_new_schema(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa")
    before = desk.tick()
    desk.nvml.plugged.append("GPU-bbbb")
    desk.list_in_folder()
    after = desk.tick(31.0)
    assert before.schema is not after.schema
    assert value(after, "up", gpu="1") == 1


def test_a_newcomer_does_not_take_the_label_of_a_gpu_that_is_gone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa")
    desk.tick()
    desk.nvml.plugged[:] = ["GPU-bbbb"]
    desk.tick()
    frame = desk.tick(31.0)
    assert value(frame, "up", gpu="0") == 0
    assert value(frame, "up", gpu="1") == 1


def test_a_driver_unloaded_in_mid_flight_is_survived_and_found_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa", "GPU-bbbb")
    desk.tick()
    desk.nvml.loaded = False
    frame = desk.tick()
    assert value(frame, "devices") == value(frame, "driver_up") == 0
    assert value(frame, "up", gpu="0") == value(frame, "up", gpu="1") == 0
    assert "unloaded" in desk.collector.absence
    desk.nvml.loaded = True
    assert value(desk.tick(31.0), "devices") == 2


def test_one_board_that_refuses_does_not_hide_the_other(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa", "GPU-bbbb")
    desk.nvml.forbidden.add("GPU-aaaa")
    frame = desk.tick()
    assert value(frame, "devices") == 1
    assert value(frame, "up", gpu="1") == 1


def test_the_schema_changes_only_when_the_users_of_the_gpu_do(one: Desk) -> None:
    first, second = one.tick(), one.tick()
    one.nvml.processes = [*one.nvml.processes, SimpleNamespace(pid=4_000_002, usedGpuMemory=None)]
    third = one.tick()
    assert first.schema is second.schema
    assert third.schema is not second.schema
    assert math.isnan(value(third, "process_memory_bytes", gpu="0", pid="4000002", process="pricer"))


def test_only_the_largest_users_get_a_series(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa", max_gpu_processes=3)
    desk.nvml.processes = [SimpleNamespace(pid=5_000_000 + k, usedGpuMemory=k) for k in range(10)]
    frame = desk.tick()
    shown = [one.label("pid") for one in frame.schema.series if one.name == "deskvigil_gpu_process_memory_bytes"]
    assert shown == ["5000007", "5000008", "5000009"]
    assert value(frame, "processes", gpu="0") == 10


def test_pcie_traffic_is_asked_of_one_gpu_a_tick(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "GPU-aaaa", "GPU-bbbb")
    for _ in range(4):
        frame = desk.tick()
    assert desk.nvml.calls.count("nvmlDeviceGetPcieThroughput") == 8
    assert value(frame, "pcie_bytes_per_second", gpu="0", direction="transmit") == pytest.approx(12e6)
    assert value(frame, "pcie_bytes_per_second", gpu="1", direction="transmit") == pytest.approx(12e6)


@pytest.mark.parametrize("code", CODES)
def test_with_every_call_failing_there_is_a_frame_and_a_reason(tmp_path: Path, code: int) -> None:
    desk = Desk(tmp_path, "GPU-aaaa")
    desk.tick()
    desk.nvml.fail_after = (0, code)
    for after_s in (1.0, 31.0, 31.0):
        frame = desk.tick(after_s)
        assert np.isnan(frame.values[frame.schema.index[series("deskvigil_gpu_temperature_celsius", gpu="0")]])
        assert value(frame, "up", gpu="0") == 0
    desk.nvml.fail_after = None
    desk.tick(31.0)
    assert value(desk.tick(31.0), "up", gpu="0") == 1


@settings(max_examples=150, deadline=None)
@given(after=st.integers(0, 80), code=st.sampled_from(CODES), gpus=st.integers(1, 3))
def test_an_unplug_at_any_call_gives_a_whole_frame(
    tmp_path_factory: pytest.TempPathFactory, after: int, code: int, gpus: int
) -> None:
    desk = Desk(tmp_path_factory.mktemp("gpu"), *(f"GPU-{number}" for number in range(gpus)))
    desk.tick()
    desk.nvml.fail_after = (after, code)
    for after_s in (1.0, 1.0, 31.0):
        frame = desk.tick(after_s)
        assert len(frame.values) == len(frame.schema)
    desk.nvml.fail_after = None
    desk.tick(31.0)
    assert value(desk.tick(31.0), "devices") == gpus


def test_every_metric_of_the_readings_is_in_the_catalogue() -> None:
    for reading in (*READINGS, PCIE_TRAFFIC):
        assert reading.series("0")
