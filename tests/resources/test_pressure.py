"""Pressure: what is read from /proc and control groups, and a state that does not flap."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.pressure import (
    BusiestProcess,
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
    enter_cpu_ratio=0.9,
    leave_cpu_ratio=0.75,
    enter_memory_ratio=1.0,
    leave_memory_ratio=0.9,
    enter_s=20,
    leave_s=30,
    memory_s=10,
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


def test_it_goes_on_and_off_by_the_mean_of_a_whole_while() -> None:
    strain = Strain(LIMITS)
    changes = [t for t in range(25) if strain.look(t * SECOND, cpu(0.95))]
    assert changes == [20]
    assert "processors 95%" in strain.reason
    assert "mean of 20 s" in strain.reason
    assert [t for t in range(25, 80) if strain.look(t * SECOND, cpu(0.8))] == []  # between the two ratios it stays
    # 30 looks of 0.8 give way to those of 0.5: their mean is below 0.75 with the sixth.
    assert [t for t in range(80, 120) if strain.look(t * SECOND, cpu(0.5))] == [85]
    assert not strain.on


def test_peaks_are_no_strain_and_a_dip_does_not_hide_it() -> None:
    peaks, dips = Strain(LIMITS), Strain(LIMITS)
    assert not any(peaks.look(t * SECOND, cpu(1.0 if t % 4 else 0.5)) for t in range(200))
    assert [t for t in range(60) if dips.look(t * SECOND, cpu(0.5 if t % 9 == 0 else 1.0))][:1] == [20]


def test_one_processor_and_the_whole_machine_do_not_add_up() -> None:
    strain = Strain(LIMITS)
    for t in range(60):  # each is high half of the time only
        assert not strain.look(t * SECOND, Reading(1.0, 0.2, 0.1) if t % 2 else Reading(0.2, 1.0, 0.1))


def test_memory_at_its_limit_is_enough_and_keeps_it_on() -> None:
    strain = Strain(LIMITS)
    assert [t for t in range(20) if strain.look(t * SECOND, Reading(NAN, NAN, 1.0))] == [10]
    assert [t for t in range(20, 80) if strain.look(t * SECOND, cpu(0.1, memory=0.95))] == []
    assert [t for t in range(80, 120) if strain.look(t * SECOND, cpu(0.1, memory=0.85))] == [110]


def test_memory_below_its_limit_for_one_look_begins_the_while_anew() -> None:
    strain = Strain(LIMITS)
    for t in range(50):
        assert not strain.look(t * SECOND, cpu(0.1, memory=0.99 if t % 9 == 0 else 1.2))


def test_what_cannot_be_read_is_no_pressure() -> None:
    strain = Strain(LIMITS)
    assert not any(strain.look(t * SECOND, Reading(NAN, NAN, NAN)) for t in range(60))
    assert [t for t in range(60, 75) if strain.look(t * SECOND, Reading(NAN, NAN, 1.0))] == [70]
    assert [t for t in range(75, 120) if strain.look(t * SECOND, Reading(NAN, NAN, NAN))] == [105]


def test_a_stopped_process_does_not_take_its_standstill_for_pressure() -> None:
    strain = Strain(LIMITS)
    assert not strain.look(0, cpu(1.0))
    assert not strain.look(60 * SECOND, cpu(1.0))
    assert [t for t in range(61, 90) if strain.look(t * SECOND, cpu(1.0))] == [80]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.2, 0.74, 0.76, 0.89, 0.9, 1.0]), st.sampled_from([0.1, 0.95, 1.0])), max_size=150
    )
)
def test_it_is_what_the_looks_since_the_last_change_say(looks: list[tuple[float, float]]) -> None:
    strain, on, since = Strain(LIMITS), False, 0
    for t, (ratio, memory) in enumerate(looks):
        strain.look(t * SECOND, cpu(ratio, memory))
        count = 30 if on else 20
        counted, whole = looks[since : t + 1][-count:], t - since >= count - (since > 0)
        mean = sum(ratio for ratio, _ in counted) / len(counted)
        memories = [memory for _, memory in looks[since : t + 1]]
        if on:
            changes = whole and mean < 0.75 and len(memories) > 30 and max(memories[-31:]) < 0.9
        else:
            changes = (whole and mean >= 0.9) or (len(memories) > 10 and min(memories[-11:]) >= 1.0)
        if changes:
            on, since = not on, t + 1
        assert strain.on is on


def _processes(proc: Path, **used_s: float) -> Path:
    for pid, (name, seconds) in enumerate(used_s.items(), 1):
        fields = ["R", *["0"] * 10, str(round(seconds * HERTZ)), "0", *["0"] * 30]
        files(proc, **{f"{pid}__stat": f"{pid} ({name}) " + " ".join(fields)})
    return proc


def test_the_busiest_process_is_named_with_its_share(tmp_path: Path) -> None:
    busiest = BusiestProcess(_processes(tmp_path, old=1000.0, worker=5.0, console=5.0))
    assert busiest.in_words(SECOND, {}) == ""
    busiest.begin(SECOND)
    _processes(tmp_path, old=1000.5, worker=20.0, console=6.0)
    assert busiest.in_words(11 * SECOND, {}) == "most by worker (pid 2), 150% of one processor"
    _processes(tmp_path, old=1000.5, worker=20.0, console=66.0)
    assert busiest.in_words(11 * SECOND, {3: "our console"}) == "most by our console (pid 3), 610% of one processor"


def test_a_name_may_hold_anything_and_what_is_no_process_is_passed_over(tmp_path: Path) -> None:
    busiest = BusiestProcess(_processes(tmp_path, **{"a) R (b": 1.0}))
    files(tmp_path, **{"7__stat": "", "uptime": "1 2"})
    busiest.begin(0)
    _processes(tmp_path, **{"a) R (b": 2.0})
    assert busiest.in_words(SECOND, {}) == "most by a) R (b (pid 1), 100% of one processor"
    assert BusiestProcess(tmp_path / "none").in_words(SECOND, {}) == ""


def test_the_busiest_of_this_machine_can_be_told() -> None:
    busiest = BusiestProcess()
    busiest.begin(0)
    assert "(pid " in busiest.in_words(SECOND, {})
