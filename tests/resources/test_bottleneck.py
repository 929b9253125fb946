from __future__ import annotations

import re

import numpy as np
import pytest

from metrics.frame import FloatArray
from resources.bottleneck import GAP_S, LEAST_S, RECENT_S, Baseline, Cause, Column, Symptom, baseline_of, find

USUAL = {
    Column.LATENCY_P99_S: 60e-6, Column.CONSOLE_LATE_S: 1e-3, Column.UNDURABLE_S: 0.02, Column.FEED_AGE_S: 0.05,
    Column.OTHERS_CPU: 0.2, Column.STEAL_RATIO: 0.0, Column.RUNNING: 0.5,
    Column.RUN_DELAY: 1e-3, Column.COMMIT_S: 5e-3, Column.IO_PRESSURE: 0.0, Column.IOWAIT_RATIO: 0.01,
    Column.THREAD_CPU: 0.05, Column.GC_RATIO: 1e-3, Column.GC_LONGEST_S: 1e-3, Column.WAITING: 3.0,
    Column.ARRIVALS: 500.0, Column.MAJOR_FAULTS: 0.1, Column.MINOR_FAULTS: 200.0, Column.MEMORY_PRESSURE: 0.0,
}  # fmt: skip
# What each trouble does to the readings, with the side effects that could mislead; `validation.bottlenecks` injects real ones.
TROUBLES: dict[Cause, dict[Column, float]] = {
    Cause.CPU_HOG: {
        Column.LATENCY_P99_S: 4e-3, Column.CONSOLE_LATE_S: 0.03, Column.OTHERS_CPU: 1.6, Column.RUNNING: 2.5,
        Column.RUN_DELAY: 0.2, Column.COMMIT_S: 0.15, Column.WAITING: 30.0,
    },
    Cause.SLOW_DISK: {
        Column.UNDURABLE_S: 0.8, Column.COMMIT_S: 0.9, Column.IO_PRESSURE: 0.5, Column.IOWAIT_RATIO: 0.4,
    },
    Cause.GIL_HOG: {Column.CONSOLE_LATE_S: 0.06, Column.THREAD_CPU: 0.9, Column.COMMIT_S: 0.12},
    Cause.GC: {Column.CONSOLE_LATE_S: 0.2, Column.GC_RATIO: 0.4, Column.GC_LONGEST_S: 0.3, Column.THREAD_CPU: 0.6},
    Cause.QUEUE: {Column.LATENCY_P99_S: 20e-3, Column.WAITING: 5_000.0, Column.ARRIVALS: 60_000.0, Column.OTHERS_CPU: 0.9, Column.RUNNING: 1.4},
    Cause.FEED_STALL: {Column.FEED_AGE_S: 8.0, Column.ARRIVALS: 0.0},
    Cause.MEMORY: {Column.LATENCY_P99_S: 2e-3, Column.MAJOR_FAULTS: 300.0, Column.IO_PRESSURE: 0.3, Column.IOWAIT_RATIO: 0.3},
}  # fmt: skip


def _calm(seconds: int, seed: int = 1) -> FloatArray:
    """Readings of a calm desk: their usual values, a log-normal noise, and now and then an outlier."""
    random = np.random.default_rng(seed)
    usual = np.array([USUAL[column] for column in Column])
    rows: FloatArray = usual * np.exp(random.normal(0.0, 0.3, (seconds, len(usual))))
    outliers = random.random(rows.shape) < 0.004
    rows[outliers] *= 10.0
    return rows


def _baseline(seconds: int = 1_800, seed: int = 1) -> Baseline:
    found = baseline_of(_calm(seconds, seed), np.ones(seconds, dtype=np.bool_))
    assert found is not None
    return found


def _recent(trouble: dict[Column, float], seed: int = 2) -> FloatArray:
    rows = _calm(RECENT_S, seed)
    for column, value in trouble.items():
        rows[:, column] = value * np.exp(np.random.default_rng(seed).normal(0.0, 0.1, RECENT_S))
    return rows


@pytest.mark.parametrize("cause", TROUBLES)
@pytest.mark.parametrize("seed", range(5))
def test_each_trouble_is_named(cause: Cause, seed: int) -> None:
    found = find(_recent(TROUBLES[cause], seed), _baseline(), "collector-host")
    assert found.cause is cause
    assert " because " in found.sentence
    assert found.sentence.endswith(".")


def test_the_sentence_gives_the_figure_and_the_cause() -> None:
    found = find(_recent(TROUBLES[Cause.GIL_HOG]), _baseline(), "collector-host")
    assert found.symptom is Symptom.CONSOLE
    assert re.match(r"The console answers late \((9\d\d µs|1\.0\d ms) to 59\.6 ms\) because ", found.sentence)
    assert "one thread of the console (collector-host) holds Python's lock" in found.sentence


def test_nothing_is_claimed_in_a_calm_hour() -> None:
    rows = _calm(3_600 + 3_600, seed=7)
    calm = np.ones(len(rows), dtype=np.bool_)
    claims = []
    baseline = _baseline()
    for second in range(3_600, len(rows)):
        if second % 30 == 0:
            baseline = baseline_of(rows[:second], calm[:second]) or baseline
        claims.append(find(rows[second - RECENT_S : second], baseline).cause)
    assert len(claims) == 3_600
    assert not any(claims)


def test_a_busy_machine_whose_figures_are_good_is_no_bottleneck() -> None:
    trouble = {key: value for key, value in TROUBLES[Cause.CPU_HOG].items() if key > Column.FEED_AGE_S}
    found = find(_recent(trouble), _baseline())
    assert found.symptom is None
    assert found.sentence == ""
    assert found.scores[Cause.CPU_HOG] > 1.0


def test_a_rise_that_nothing_explains_is_not_known() -> None:
    found = find(_recent({Column.LATENCY_P99_S: 5e-3}), _baseline())
    assert found.cause is Cause.UNKNOWN
    assert "why is not known" in found.sentence


def test_what_is_usual_here_is_not_called_a_rise() -> None:
    rows = np.vstack([_recent(TROUBLES[Cause.CPU_HOG], seed) for seed in range(100)])
    usual = baseline_of(rows, np.ones(len(rows), dtype=np.bool_))
    assert usual is not None
    assert find(_recent(TROUBLES[Cause.CPU_HOG], 101), usual).symptom is None


def test_seconds_of_trouble_are_no_baseline() -> None:
    rows = np.vstack([_calm(1_000), *(_recent(TROUBLES[Cause.SLOW_DISK], seed) for seed in range(100))])
    calm = np.arange(len(rows)) < 1_000
    with_them, without = baseline_of(rows, np.ones_like(calm)), baseline_of(rows, calm)
    assert with_them is not None
    assert without is not None
    recent = _recent(TROUBLES[Cause.SLOW_DISK], 200)
    assert find(recent, without).cause is Cause.SLOW_DISK
    assert find(recent, with_them).cause is None


def test_missing_readings_are_evidence_of_nothing() -> None:
    recent = _recent(TROUBLES[Cause.SLOW_DISK])
    recent[:, [Column.COMMIT_S, Column.IO_PRESSURE, Column.IOWAIT_RATIO]] = np.nan
    assert find(recent, _baseline()).cause is Cause.SLOW_DISK  # the journal says so
    assert find(np.full((RECENT_S, len(Column)), np.nan), _baseline()).symptom is None
    nothing = baseline_of(np.full((1_000, len(Column)), np.nan), np.ones(1_000, dtype=np.bool_))
    assert nothing is not None
    assert find(_recent(TROUBLES[Cause.SLOW_DISK]), nothing).symptom is None


def test_nothing_is_said_before_there_is_a_baseline() -> None:
    few = LEAST_S + GAP_S + RECENT_S - 1
    assert baseline_of(_calm(few), np.ones(few, dtype=np.bool_)) is None
    assert baseline_of(_calm(few + 1), np.ones(few + 1, dtype=np.bool_)) is not None
    with pytest.raises(ValueError, match="rows must be"):
        baseline_of(np.zeros((5, 2)), np.ones(5, dtype=np.bool_))
