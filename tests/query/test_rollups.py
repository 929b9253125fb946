"""Answers from minutes beside those from samples, with the tolerances that docs/PROMQL.md states."""

import numpy as np
import pytest

from metrics.clock import SystemClock
from query.engine import QueryEngine, QueryOptions
from query.rollups import TOLD
from query.source import MemorySource
from query.values import STALE
from tests.query.engines import answer, series

MINUTE = 60_000
T0 = 1_700_000_040_000  # begins a minute
HOURS = 6
SAMPLES = HOURS * 3600
AUTO = QueryOptions(rollup_samples=0, max_samples=100_000_000)
NEVER = QueryOptions(rollups="never", max_samples=100_000_000)


@pytest.fixture(scope="module")
def source():
    """Six hours at 1 s: a wandering gauge, a counter with resets, one that is there half of the time."""
    rng = np.random.default_rng(11)
    t = T0 + 1000 * np.arange(SAMPLES, dtype=np.int64)
    made = MemorySource()
    made.put(series("level"), t, np.cumsum(rng.normal(0, 1, SAMPLES)))
    counter = np.cumsum(rng.integers(0, 20, SAMPLES)).astype(float)
    for reset in (5_000, 12_345):
        counter[reset:] -= counter[reset]
    made.put(series("work_total"), t, counter)
    here = (np.arange(SAMPLES) // 1800) % 2 == 0
    made.put(series("half"), t[here], np.cumsum(rng.normal(0, 1, SAMPLES))[here])
    return made


def engines(source):
    return QueryEngine(source, AUTO, SystemClock()), QueryEngine(source, NEVER, SystemClock())


def both(source, expression, start=T0 + 40 * MINUTE, end=T0 + HOURS * 60 * MINUTE - 5 * MINUTE, step=10 * MINUTE):
    minutes, samples = (one.range(expression, start, end, step) for one in engines(source))
    assert any(TOLD in text for text in minutes.warnings)
    assert not any(TOLD in text for text in samples.warnings)
    assert minutes.labels == samples.labels
    return minutes, samples


def test_reductions_are_the_same_but_for_one_sample_on_each_edge(source):
    for function in ("min", "max", "avg", "count", "sum"):
        minutes, samples = both(source, f"{function}_over_time(level[30m])")
        spread = np.ptp(source.column(series("level"))[1])
        tolerance = {"sum": spread, "count": 1.0}.get(function, spread / 1800)
        assert np.abs(minutes.values - samples.values).max() <= 2 * tolerance


def test_rates_with_resets_are_within_a_minute_of_the_range(source):
    for function in ("rate", "increase"):
        minutes, samples = both(source, f"{function}(work_total[30m])")
        assert np.abs(minutes.values / samples.values - 1).max() < 1 / 30
    minutes, samples = both(source, "delta(level[30m])")
    steps = np.abs(np.diff(source.column(series("level"))[1].reshape(-1, 60)[:, -1])).max()
    assert np.abs(minutes.values - samples.values).max() < 3 * steps


def test_a_reset_inside_a_minute_is_counted(source):
    t = T0 + 1000 * np.arange(3600, dtype=np.int64)
    values = np.arange(3600, dtype=float)
    values[1830:] -= 1825  # falls to 5 in the middle of a minute, and is below 1829 at its end
    made = MemorySource()
    made.put(series("c_total"), t, values)
    auto, raw = (
        one.range("increase(c_total[30m])", T0 + 45 * MINUTE, T0 + 55 * MINUTE, 5 * MINUTE) for one in engines(made)
    )
    np.testing.assert_allclose(auto.values, raw.values, rtol=2e-3)


def test_a_selector_shows_a_value_of_the_last_minute(source):
    minutes, samples = both(source, "level")
    values = source.column(series("level"))[1]
    for t, value in zip(minutes.t_ms.tolist(), minutes.values[0].tolist(), strict=True):
        position = (t - T0) // 1000
        assert value in values[position - 60 : position + 1]
    assert (minutes.present == samples.present).all()


def test_gaps_stay_gaps(source):
    minutes, samples = both(source, "half")
    assert not samples.present.all()
    assert (minutes.present != samples.present).sum() <= 6  # a begin shows when its first minute is whole
    minutes, samples = both(source, "count_over_time(half[10m])")
    seen = minutes.present & samples.present
    assert (minutes.present != samples.present).sum() <= 6
    assert np.abs(minutes.values - samples.values)[seen].max() <= 1


def test_last_over_time_keeps_the_name(source):
    minutes, _ = both(source, "last_over_time(level[30m])")
    assert minutes.labels[0]["__name__"] == "level"
    minutes, _ = both(source, "max_over_time(level[30m])")
    assert minutes.labels == ({},)


@pytest.mark.parametrize(
    ("expression", "step"),
    [("level", MINUTE), ("rate(work_total[5m])", 10 * MINUTE), ("quantile_over_time(0.5, level[30m])", 10 * MINUTE)],
)
def test_fine_queries_and_those_without_a_counterpart_read_samples(source, expression, step):
    auto, _ = engines(source)
    assert not any(TOLD in text for text in auto.range(expression, T0 + 60 * MINUTE, T0 + 90 * MINUTE, step).warnings)


def test_few_samples_are_read_as_they_are(source):
    modest = QueryEngine(source, QueryOptions(), SystemClock())
    assert modest.range("rate(work_total[30m])", T0 + 40 * MINUTE, T0 + 300 * MINUTE, 10 * MINUTE).warnings == ()


def test_where_samples_are_gone_minutes_answer_and_behind_them_samples(source):
    since = T0 + 3 * 60 * MINUTE
    source.since_ms = since
    try:
        engine = QueryEngine(source, QueryOptions(), SystemClock())
        for expression, tolerance in (
            ("level", 40.0),
            ("rate(work_total[5m])", 1.0),
            ("max_over_time(level[5m])", 5.0),
        ):
            got = engine.range(expression, T0 + 30 * MINUTE, T0 + 5 * 60 * MINUTE, MINUTE)
            source.since_ms = None
            raw = engine.range(expression, T0 + 30 * MINUTE, T0 + 5 * 60 * MINUTE, MINUTE)
            source.since_ms = since
            assert any(TOLD in text for text in got.warnings)
            assert got.labels == raw.labels
            assert got.present.all()
            behind = got.t_ms > since + 6 * MINUTE
            np.testing.assert_array_equal(got.values[:, behind], raw.values[:, behind])
            assert np.abs(got.values - raw.values).max() < tolerance
        assert answer(engine.instant("level", T0 + 60 * MINUTE)) != {}
        assert answer(engine.instant("absent_over_time(level[10m])", T0 + 60 * MINUTE)) == {}
        assert answer(engine.instant("changes(level[10m])", T0 + 60 * MINUTE)) == {
            "": 9.0
        }  # of ten minutes' last values
        assert engine.instant("level", T0 + 5 * 60 * MINUTE).warnings == ()
        never = QueryEngine(source, QueryOptions(rollups="never"), SystemClock())
        assert answer(never.instant("level", T0 + 60 * MINUTE)) == {}
    finally:
        source.since_ms = None


def test_stale_markers_are_no_values():
    made = MemorySource()
    made.put(series("x"), [T0, T0 + 1000], [1.0, STALE])
    made.since_ms = T0 + 100 * MINUTE
    engine = QueryEngine(made, QueryOptions(), SystemClock())
    assert answer(engine.instant("sum_over_time(x[2m])", T0 + MINUTE)) == {"": 1.0}
