"""Pressure: what is read from /proc and control groups, and a state that does not flap."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.pressure import (
    CpuTimes,
    PressureGauge,
    Reading,
    Strain,
    StrainLimits,
    busy_ratio,
    cpu_quota,
    group_cpu_s,
    machine_times,
    memory_limit,
    resident_bytes,
)

SECOND = 1_000_000_000
NAN = float("nan")
LIMITS = StrainLimits(
    enter_cpu_ratio=0.9, leave_cpu_ratio=0.75, enter_memory_ratio=1.0, leave_memory_ratio=0.9, enter_s=10, leave_s=30
)
HERTZ = os.sysconf("SC_CLK_TCK")


def files(folder: Path, **content: str) -> Path:
    for name, text in content.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def cpu(ratio: float, memory: float = 0.1) -> Reading:
    return Reading(ratio, NAN, memory)


def test_busy_is_all_but_idle_and_waiting_for_a_disk(tmp_path: Path) -> None:
    files(tmp_path, stat="cpu  100 10 50 700 100 5 5 30 999 999\ncpu0 1 2 3 4\n")
    assert machine_times(tmp_path) == CpuTimes(200 / HERTZ, 1000 / HERTZ)
    assert busy_ratio(CpuTimes(1.0, 10.0), CpuTimes(4.0, 14.0)) == 0.75
    assert math.isnan(busy_ratio(CpuTimes(1.0, 10.0), CpuTimes(1.0, 10.0)))
    assert math.isnan(machine_times(tmp_path / "nowhere").busy_s)


def test_limits_of_control_groups_of_both_versions(tmp_path: Path) -> None:
    two = files(tmp_path / "v2", cpu_dot_max="150000 100000\n", memory_dot_max="1073741824\n",
                cpu_dot_stat="usage_usec 2500000\nuser_usec 1\n")  # fmt: skip
    assert (cpu_quota(two), memory_limit(two), group_cpu_s(two)) == (1.5, 2.0**30, 2.5)
    one = tmp_path / "v1"
    files(one, cpu__cpu_dot_cfs_quota_us="50000\n", cpu__cpu_dot_cfs_period_us="100000\n")
    files(one, memory__memory_dot_limit_in_bytes="9223372036854771712\n", cpuacct__cpuacct_dot_usage="1500000000\n")
    assert cpu_quota(one) == 0.5
    assert math.isnan(memory_limit(one))
    assert group_cpu_s(one) == 1.5
    for free in (files(tmp_path / "free", cpu_dot_max="max 100000\n", memory_dot_max="max\n"), tmp_path / "none"):
        assert math.isnan(cpu_quota(free))
        assert math.isnan(memory_limit(free))


def test_memory_is_of_all_processes_each_once_and_the_dead_count_nothing() -> None:
    own = resident_bytes([os.getpid(), os.getpid(), 2**22 + 1])
    assert 1 << 20 < own < 1 << 36


def test_the_gauge_takes_the_scarcer_of_machine_and_quota(tmp_path: Path) -> None:
    proc = files(tmp_path / "proc", stat="cpu  0 0 0 1000 0 0 0 0\n")
    group = files(tmp_path / "group", cpu_dot_max="50000 100000\n", cpu_dot_stat="usage_usec 0\n", memory_dot_max="max")
    gauge = PressureGauge(1e9, proc, group)
    first = gauge.read(0, 0, [])
    assert math.isnan(first.cpu_ratio)
    assert math.isnan(first.core_ratio)
    files(tmp_path / "proc", stat="cpu  100 0 0 1100 0 0 0 0\n")
    files(tmp_path / "group", cpu_dot_stat="usage_usec 400000\n")
    second = gauge.read(SECOND, SECOND // 4, [])
    assert second.cpu_ratio == pytest.approx(0.8)  # 0.4 s of a quota of half a processor; the machine is half busy
    assert second.core_ratio == 0.25


def test_the_gauge_reads_this_machine() -> None:
    gauge = PressureGauge(8e9)
    gauge.read(0, 0, [os.getpid()])
    reading = gauge.read(SECOND, 0, [os.getpid()])
    assert 0.0 < reading.memory_ratio < 1.0


def test_it_goes_on_after_the_whole_while_and_off_after_the_whole_while() -> None:
    strain = Strain(LIMITS)
    changes = [t for t in range(12) if strain.look(t * SECOND, cpu(0.95))]
    assert changes == [10]
    assert "95%" in strain.reason
    assert [t for t in range(12, 60) if strain.look(t * SECOND, cpu(0.8))] == []  # between the two ratios it stays
    assert [t for t in range(60, 100) if strain.look(t * SECOND, cpu(0.5))] == [90]
    assert not strain.on


def test_one_look_on_the_other_side_begins_the_while_anew() -> None:
    strain = Strain(LIMITS)
    for t in range(50):
        assert not strain.look(t * SECOND, cpu(0.89 if t % 9 == 0 else 1.0))


def test_memory_at_its_limit_is_enough_and_keeps_it_on() -> None:
    strain = Strain(LIMITS)
    assert [t for t in range(20) if strain.look(t * SECOND, Reading(NAN, NAN, 1.0))] == [10]
    assert [t for t in range(20, 80) if strain.look(t * SECOND, cpu(0.1, memory=0.95))] == []
    assert [t for t in range(80, 120) if strain.look(t * SECOND, cpu(0.1, memory=0.85))] == [110]


def test_what_cannot_be_read_is_no_pressure() -> None:
    strain = Strain(LIMITS)
    assert not any(strain.look(t * SECOND, Reading(NAN, NAN, NAN)) for t in range(60))


def test_a_stopped_process_does_not_take_its_standstill_for_pressure() -> None:
    strain = Strain(LIMITS)
    assert not strain.look(0, cpu(1.0))
    assert not strain.look(60 * SECOND, cpu(1.0))
    assert [t for t in range(61, 75) if strain.look(t * SECOND, cpu(1.0))] == [70]


@given(st.lists(st.sampled_from([0.2, 0.74, 0.76, 0.89, 0.9, 1.0]), max_size=150))
def test_it_is_what_the_last_looks_say(ratios: list[float]) -> None:
    strain, on = Strain(LIMITS), False
    for t, ratio in enumerate(ratios):
        strain.look(t * SECOND, cpu(ratio))
        last_11, last_31 = ratios[max(t - 10, 0) : t + 1], ratios[max(t - 30, 0) : t + 1]
        if not on and len(last_11) == 11 and min(last_11) >= 0.9:
            on = True
        elif on and len(last_31) == 31 and max(last_31) < 0.75:
            on = False
        assert strain.on is on
