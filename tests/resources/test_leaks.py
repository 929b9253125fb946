"""Leaks are told from what memory does otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.errors import DeskvigilError
from resources.leaks import LeakLimits, LeakReport, LeakVerdict, floor, growth_of, judge
from validation.leaktraces import KINDS, LEAK_MB_MIN, MB, Trace, traces

LIMITS = LeakLimits()
MINUTE = 60.0
T = np.arange(0, 150) * MINUTE
LEAK = 1e6 * T / MINUTE


def verdict(resident: np.ndarray, in_use: np.ndarray | None = None, started_s: float = 0.0) -> LeakVerdict:
    return judge(T, resident, [resident if in_use is None else in_use], started_s, LIMITS).verdict


def at_the_end(trace: Trace) -> LeakReport:
    same = trace.starts_s == trace.starts_s[-1]
    return judge(trace.t_s[same], trace.resident[same], [trace.in_use[same]], float(trace.starts_s[-1]), LIMITS)


def test_a_steady_leak_is_named_with_its_slope() -> None:
    report = judge(T, LEAK, [LEAK], 0.0, LIMITS)
    assert report.verdict is LeakVerdict.LEAK
    assert report.growth.slope == pytest.approx(1e6 / MINUTE, rel=0.02)
    assert report.growth.low <= report.growth.slope <= report.growth.high
    assert report.growth.confidence > 0.999


def test_growth_that_the_allocators_know_nothing_of_is_suspected_only() -> None:
    assert verdict(LEAK, np.full_like(T, 1e8)) is LeakVerdict.SUSPECTED


def test_nothing_is_said_of_a_process_that_has_just_started() -> None:
    assert verdict(LEAK, started_s=float(T[-1]) - LIMITS.warm_up_s - LIMITS.least_s + 1) is LeakVerdict.WARMING_UP


def test_a_step_is_no_leak_wherever_it_stands() -> None:
    for at in range(len(T)):
        assert verdict(np.where(np.arange(len(T)) < at, 1e8, 3e8)) is LeakVerdict.CALM


@given(st.integers(2, 60), st.integers(0, 59), st.floats(1e6, 1e9))
@settings(deadline=None)
def test_a_saw_that_falls_back_is_no_leak(period: int, phase: int, height: float) -> None:
    assert verdict(height * (((T / MINUTE + phase) % period) / period)) is LeakVerdict.CALM


def test_one_dip_hides_no_leak() -> None:
    dipped = LEAK + 2e8
    dipped[140] = 0.0
    assert verdict(dipped) is LeakVerdict.LEAK


def test_missing_readings_are_left_out() -> None:
    holes = LEAK.copy()
    holes[::3] = np.nan
    assert verdict(holes, LEAK) is LeakVerdict.LEAK
    assert verdict(np.full_like(T, np.nan)) is LeakVerdict.WARMING_UP


@given(st.lists(st.floats(0, 1e9), min_size=3, max_size=60))
def test_the_floor_is_what_is_never_undercut_later(values: list[float]) -> None:
    filled = list(values)
    for i in range(1, len(values) - 1):
        before, after = values[i - 1], values[i + 1]
        if min(before, after) - values[i] > abs(after - before):
            filled[i] = min(before, after)
    assert floor(np.array(values)) == pytest.approx([min(filled[i:]) for i in range(len(values))], abs=1e-6)


@given(st.lists(st.floats(0, 1e3), min_size=9, max_size=30))
@settings(deadline=None)
def test_the_slope_is_the_median_of_all_pairs_of_the_floor(values: list[float]) -> None:
    t_s = np.arange(len(values)) * 300.0
    rising = floor(np.array(values))
    pairs = [(rising[j] - rising[i]) / (300.0 * (j - i)) for j in range(len(values)) for i in range(j)]
    assert growth_of(t_s, np.array(values)).slope == pytest.approx(float(np.median(pairs)), abs=1e-12)


def test_most_labelled_traces_end_with_the_right_verdict() -> None:
    hard = {"filling cache"}  # fills as evenly as a leak for one to two hours: nobody can tell in the window
    made = [trace for trace in traces(3) if trace.kind not in hard]
    claims = [at_the_end(trace).verdict is LeakVerdict.LEAK for trace in made if trace.leak_s is None]
    found = [at_the_end(trace).verdict is LeakVerdict.LEAK for trace in made if trace.leak_s is not None]
    assert len(claims) == len(found) == 3 * (len(KINDS) - len(hard))
    assert sum(claims) <= 1
    assert sum(found) >= len(found) - 2


def test_a_leaking_trace_differs_from_its_twin_by_the_leak_alone() -> None:
    calm, leaking = list(traces(1))[:2]
    minutes = np.clip(calm.t_s - (leaking.leak_s or 0.0), 0, None) / 60.0
    np.testing.assert_allclose(leaking.resident - calm.resident, LEAK_MB_MIN * MB * minutes, atol=1.0)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DeskvigilError, match=r"in_use\[0\]"):
        judge(T, LEAK, [LEAK[1:]], 0.0, LIMITS)
    with pytest.raises(DeskvigilError, match="ascend"):
        judge(T[::-1], LEAK, [LEAK], 0.0, LIMITS)
