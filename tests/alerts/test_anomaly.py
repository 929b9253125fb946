"""The anomaly detector: what it finds, what it keeps quiet about, and that nothing it is fed breaks it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.detectors import anomaly, surprise
from alerts.detectors.anomaly import AnomalyCollector
from alerts.detectors.bank import Bank
from alerts.detectors.surprise import View
from alerts.errors import RuleError
from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.series import Schema, Series, make_labels
from tests.alerts.desk import Desk

SECOND_NS = 1_000_000_000


def fed(values: np.ndarray, bank: Bank | None = None) -> tuple[np.ndarray, np.ndarray]:
    bank = bank or Bank()
    bank.hold(1)
    return bank.replay(np.arange(len(values)) * 60.0, values, 0)


def noise(n: int = 3000, seed: int = 1) -> np.ndarray:
    return 100 + np.random.default_rng(seed).normal(0, 1, n)


def incidents(scores: np.ndarray, bank: Bank | None = None) -> list[int]:
    above = scores >= surprise.TUNING.threshold
    return [int(at) for at in np.flatnonzero(above & ~np.r_[False, above[:-1]])]


def test_a_spike_is_found_when_it_comes_and_once() -> None:
    values = noise()
    values[2000] += 30
    found = [at for at in incidents(fed(values)[0]) if at >= 1990]
    assert found == [2000]


def test_a_step_is_one_incident_found_within_a_few_samples() -> None:
    values = noise()
    values[2000:] += 12
    found = [at for at in incidents(fed(values)[0]) if 2000 <= at < 2200]
    assert len(found) == 1
    assert found[0] < 2010


def test_a_dead_sensor_is_found_and_named() -> None:
    values = noise()
    values[2000:2100] = values[2000]
    scores, views = fed(values)
    at = next(at for at in incidents(scores) if at >= 2000)
    assert at < 2030
    assert views[at] == View.FLAT


def test_missing_readings_are_found_and_named() -> None:
    values = noise()
    values[2000:2060] = np.nan
    scores, views = fed(values)
    at = next(at for at in incidents(scores) if at >= 2000)
    assert at < 2020
    assert views[at] == View.MISSING


def test_spikes_that_always_come_are_nothing_to_tell() -> None:
    values = noise()
    values[50::50] += 20
    assert not [at for at in incidents(fed(values)[0]) if at > 1000]


def test_the_same_course_at_another_scale_has_the_same_scores() -> None:
    values = noise()
    values[2000:2010] += 8
    small, large = fed(values)[0], fed(values * 2.0**40)[0]
    assert np.allclose(small, large, atol=1e-3)


def test_a_course_unlike_any_before_is_seen_by_its_shape() -> None:
    values = 10 * np.sin(np.arange(3000) / 8.0) + np.random.default_rng(2).normal(0, 0.3, 3000)
    values[2000:2050] = 10 * np.sin(np.arange(50) / 2.0)  # within its range and about its level
    blind = surprise.TUNING._replace(
        jump_weight=0.0, level_weight=0.0, range_weight=0.0, spread_weight=0.0, season_weight=0.0, flat_weight=0.0
    )
    found = [at for at in incidents(fed(values, Bank(blind))[0]) if at >= 2000]
    assert found
    assert found[0] < 2060
    assert not [at for at in incidents(fed(values, Bank(blind._replace(shape_weight=0.0)))[0]) if at >= 2000]


def nearest(values: np.ndarray) -> float:
    """The slow obvious form of the shape's distance, for the last sample."""
    m, kept = surprise.COURSE, surprise.MEMORY - surprise.COURSE
    last = values[-m:] - values[-m:].mean()
    best = math.inf
    for lag in range(m, min(len(values), kept) - m):
        other = values[len(values) - m - lag : len(values) - lag]
        best = min(best, float(((last - (other - other.mean())) ** 2).mean()))
    return math.sqrt(best)


def test_the_nearest_course_is_what_the_slow_form_finds() -> None:
    values = np.random.default_rng(3).normal(0, 1, 5000).cumsum()
    state, ring = np.zeros(surprise.COLUMNS), np.zeros((4, 2 * surprise.MEMORY))
    for at, x in enumerate(values):
        found = surprise._stranger(x, state, ring)
        if at % 611 == 610 or at in (127, 128, 2047, 2048, 2049, 3072):
            expected = nearest(values[: at + 1]) if at + 1 >= 4 * surprise.COURSE else -1.0
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


WILD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e-320, 1e300, -1e300, 1e149, 5.0, math.nan, math.inf]),
)


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.tuples(WILD, st.floats(-1e12, 1e12), st.integers(1, 120)), min_size=1, max_size=12),
    times=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=5),
)
def test_whatever_it_is_fed_scores_are_numbers_within_bounds(
    pieces: list[tuple[float, float, int]], times: list[int]
) -> None:
    values = np.concatenate([np.r_[first, first + slope * np.arange(n)] for first, slope, n in pieces])
    t_s = np.array([times[at % len(times)] + at for at in range(len(values))], np.float64)
    bank = Bank()
    bank.hold(1)
    scores, views = bank.replay(t_s, values, 0)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert (scores <= surprise.MAX_SCORE).all()
    assert set(views) <= {float(view) for view in View}
    assert bank.finding(0).text


def test_state_does_not_grow_with_samples() -> None:
    bank = Bank()
    fed(noise(2000), bank)
    before = bank.bytes
    fed(noise(20_000), bank)
    assert bank.bytes == before


class Watching:
    """A desk whose store the detector watches; time moves by hand."""

    def __init__(self, folder: Path, *selectors: str, **limits: float) -> None:
        self.clock = ManualClock()
        self.desk = Desk(folder, None, [], self.clock)
        self.notes: list[str] = []
        self.collector = AnomalyCollector(
            selectors, self.desk.store.live, self.desk.store.reader, self.desk.query, self._note, **limits
        )
        self.schemas: dict[tuple[Series, ...], Schema] = {}

    def _note(self, text: str, t_ms: int) -> None:
        self.notes.append(text)

    def tick(self, values: dict[Series, float], collector: str = "probe") -> Frame:
        self.clock.advance(SECOND_NS)
        if values:
            schema = self.schemas.setdefault(tuple(values), Schema(collector, tuple(values)))
            self.desk.store.live.append(Frame(schema, self.clock.now_ns(), np.array(list(values.values()))))
        return self.collector.collect(self.clock.now_ns())

    def score(self, frame: Frame, one: Series, window: str = "1s") -> float:
        labels = make_labels({"series": str(one), "window": window})
        return float(frame.values[frame.schema.index[Series("deskvigil_anomaly_score", labels)]])


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    made = Watching(tmp_path, "gauge", '{__name__=~"work_.*"}', max_series=3)
    yield made
    made.desk.close()


GAUGE, COUNTER = Series("gauge"), Series("work_total")


def test_scores_are_published_for_what_is_selected_and_an_incident_is_noted_in_words(watching: Watching) -> None:
    random = np.random.default_rng(5)
    for _ in range(400):
        frame = watching.tick({GAUGE: 5 + random.normal(0, 0.1), Series("other"): 1.0})
    assert watching.score(frame, GAUGE) < surprise.TUNING.threshold
    before = len(watching.notes)
    frame = watching.tick({GAUGE: 50.0, Series("other"): 1.0})
    assert watching.score(frame, GAUGE) >= surprise.TUNING.threshold
    assert len(watching.notes) == before + 1
    assert "gauge jumped to 50, where the samples before were about" in watching.notes[-1]
    assert watching.collector.anomalies()[0].series == GAUGE
    assert not [one for one in frame.schema.series if "other" in str(one)]


def test_a_counter_is_taken_as_its_rate_and_may_begin_anew(watching: Watching) -> None:
    random, total = np.random.default_rng(6), 0.0
    for _ in range(300):
        total += 100 + random.normal(0, 2)
        watching.tick({COUNTER: total})
    noted = len(watching.notes)
    for at in range(60):  # begins anew, goes on as before
        total = 100.0 if at == 0 else total + 100 + random.normal(0, 2)
        frame = watching.tick({COUNTER: total})
    assert watching.score(frame, COUNTER) < surprise.TUNING.threshold
    assert len(watching.notes) == noted
    frame = watching.tick({COUNTER: total + 900})
    assert watching.score(frame, COUNTER) >= surprise.TUNING.threshold


def test_a_collector_that_falls_silent_is_missing(watching: Watching) -> None:
    random = np.random.default_rng(7)
    for _ in range(300):
        watching.tick({GAUGE: random.normal()})
    for _ in range(30):
        watching.tick({})
    assert "has had no reading" in watching.notes[-1]


def test_more_series_than_the_limit_are_counted_and_left_out(watching: Watching) -> None:
    many = {Series(f"work_{n}"): float(n) for n in range(10)}
    frame = watching.tick(many)
    read = dict(zip((one.name for one in frame.schema.series), frame.values, strict=True))
    assert read["deskvigil_anomaly_series"] == 3
    assert read["deskvigil_anomaly_series_refused"] == 7


def test_ten_thousand_series_take_no_more_than_the_limit_s_memory(watching: Watching) -> None:
    for generation in range(3):  # each time others
        frame = watching.tick({Series(f"work_{generation}_{n}"): float(n) for n in range(10_000)})
    read = dict(zip((one.name for one in frame.schema.series), frame.values, strict=True))
    assert (read["deskvigil_anomaly_series"], read["deskvigil_anomaly_series_refused"]) == (3, 10_000)
    assert sum(bank.bytes for bank in watching.collector._banks) < 2_000_000


def test_a_place_is_free_again_once_its_series_is_long_gone(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anomaly, "FORGOTTEN_AFTER", 5)
    watching.tick({Series(f"work_{n}"): float(n) for n in range(3)})
    for _ in range(8):
        frame = watching.tick({GAUGE: 1.0})
    shown = {one.label("series") for one in frame.schema.series if one.name == "deskvigil_anomaly_score"}
    assert shown == {"gauge"}


def test_series_come_and_go_without_a_nan_where_a_score_was(watching: Watching) -> None:
    random = np.random.default_rng(8)
    for at in range(300):
        values = {GAUGE: random.normal()}
        if at % 50 < 25:
            values[Series("work_sometimes")] = random.normal()
        frame = watching.tick(values)
    assert math.isfinite(watching.score(frame, GAUGE))


def test_after_a_start_it_knows_what_was_stored(tmp_path: Path) -> None:
    watching = Watching(tmp_path, "gauge")
    random = np.random.default_rng(9)
    for _ in range(500):
        watching.tick({GAUGE: 5 + random.normal(0, 0.1)})
    again = AnomalyCollector(
        ["gauge"], watching.desk.store.live, watching.desk.store.reader, watching.desk.query, lambda text, t_ms: None
    )
    watching.collector = again
    frame = watching.tick({GAUGE: 50.0})
    assert watching.score(frame, GAUGE) >= surprise.TUNING.threshold
    watching.desk.close()


def test_a_selector_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"alerts\.detectors\.anomaly: 'sum\('"):
        Watching(tmp_path, "sum(")
