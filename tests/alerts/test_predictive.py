"""Predictions: what is foretold, what is not, and the record of both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.detectors.predictive import PredictiveCollector
from alerts.detectors.record import Outcome, Predictions
from alerts.detectors.trend import Ahead, Trend
from alerts.expression import Comparison
from alerts.extension import parse_extension
from metrics.clock import ManualClock
from metrics.severity import Severity
from tests.alerts.desk import Desk, rules_file

WITHIN_S = 1800.0
STEP_S = 15.0
ABOVE = Comparison(">", 1.0)


def foretold(values: np.ndarray, comparison: Comparison = ABOVE) -> list[tuple[int, Ahead]]:
    trend = Trend(comparison, WITHIN_S)
    said = ((at, trend.take(float(value))) for at, value in enumerate(values))
    return [(at, ahead) for at, ahead in said if ahead is not None]


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.001, n)


def test_steady_growth_is_foretold_before_it_breaches_and_about_when() -> None:
    values = 0.5 + np.arange(2000) * 0.0005 + noise(2000)
    breach = int(np.argmax(values > 1.0))
    at, ahead = foretold(values[:breach])[0]
    left_s = (breach - at) * STEP_S
    assert left_s > 0.5 * WITHIN_S
    assert ahead.low_s <= ahead.eta_s <= ahead.high_s
    assert ahead.low_s <= left_s <= 1.3 * ahead.high_s


def test_a_fall_towards_a_lower_limit_is_foretold_too() -> None:
    values = -(0.5 + np.arange(2000) * 0.0005 + noise(2000))
    assert foretold(values[:980], Comparison("<", -1.0))


def test_a_plateau_a_jump_and_noise_below_the_threshold_are_not() -> None:
    time = np.arange(3000) / 120
    assert not foretold(0.5 + 0.4 * (1 - np.exp(-time / 3)) + noise(3000))
    assert not foretold(0.5 + 0.4 * (time > 8) + noise(3000))
    assert not foretold(0.9 + 20 * noise(3000))


def test_a_saw_tooth_is_foretold_once_at_most_and_then_known() -> None:
    teeth = 0.3 + 0.6 * ((np.arange(6000) % 300) / 300) + noise(6000)
    assert all(at < 300 for at, _ in foretold(teeth))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e9, 1e9), st.sampled_from([0.0, 1e300])),
        max_size=40,
    ),
    st.floats(-1e6, 1e6),
    st.sampled_from([">", "<", ">=", "<="]),
)
def test_whatever_comes_what_is_said_is_in_order(wild: list[float], slope: float, op: str) -> None:
    trend = Trend(Comparison(op, 10.0), WITHIN_S)  # type: ignore[arg-type]
    for at in range(200):
        ahead = trend.take(wild[at % len(wild)] if wild and at % 3 == 0 else slope * at)
        if ahead is not None:
            assert 0 <= ahead.low_s <= ahead.eta_s <= ahead.high_s < math.inf


def test_the_annotation_says_how_long_before() -> None:
    assert parse_extension("predict: {within: 30m}", Severity.WARNING, ABOVE).predict_s == WITHIN_S
    for wrong in ("predict: {within: soon}", "predict: {within: 1s}", "predict: {by: 1h}", "predict: 1h"):
        with pytest.raises(ValueError, match=r"predict"):
            parse_extension(wrong, Severity.WARNING, ABOVE)
    with pytest.raises(ValueError, match=r"predict needs"):
        parse_extension("predict: {within: 1h}", Severity.WARNING, Comparison("==", 1.0))


RULE = """
- alert: Full
  expr: disk_used > 1
  labels: {severity: warning}
  annotations:
    deskvigil: |
      predict: {within: 30m}
"""


class Foretelling:
    """A desk with one rule that foretells; time moves by hand, a step of the horizon at a time."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.desk = Desk(folder, rules_file(folder, RULE), [], self.clock)
        self.record = Predictions(self.desk.store)
        self.collector = self.again()

    def again(self) -> PredictiveCollector:
        return PredictiveCollector(self.desk.service.rule_list, self.desk.query, self.record, self.clock.monotonic_ns)

    def step(self, value: float) -> dict[str, float]:
        self.clock.advance(round(STEP_S * 1e9))
        self.desk.frame("host", {"disk_used{disk=a}": value})
        frame = self.collector.collect(self.clock.now_ns())
        return {str(one): float(read) for one, read in zip(frame.schema.series, frame.values, strict=True)}


@pytest.fixture
def foretelling(tmp_path: Path) -> Iterator[Foretelling]:
    made = Foretelling(tmp_path)
    yield made
    made.desk.close()


ETA = 'deskvigil_time_to_threshold_seconds{disk="a",rule="Full"}'


def until_foretold(one: Foretelling) -> float:
    value = 0.7
    for _ in range(600):
        value += 0.0008
        read = one.step(value)
        if read.get(ETA, math.nan) >= 0:
            return value
    raise AssertionError("nothing was foretold")


def test_a_prediction_is_published_with_the_labels_of_the_rule_s_series_and_becomes_a_hit(
    foretelling: Foretelling,
) -> None:
    value = until_foretold(foretelling)
    assert [one.outcome for one in foretelling.record.newest()] == [Outcome.OPEN]
    while value <= 1.01:
        value += 0.0008
        foretelling.step(value)
    (record,) = foretelling.desk.service.predictions()
    assert (record.rule, record.hit, record.false, record.missed) == ("g/Full", 1, 0, 0)
    assert record.precision == record.recall == 1.0
    assert 0 < (record.lead_s or 0) <= WITHIN_S


def test_what_turns_round_becomes_a_false_one(foretelling: Foretelling) -> None:
    value = until_foretold(foretelling)
    for _ in range(600):
        foretelling.step(value - 0.2)
    (record,) = foretelling.desk.service.predictions()
    assert (record.hit, record.false, record.open) == (0, 1, 0)


def test_a_breach_out_of_nothing_is_recorded_as_missed(foretelling: Foretelling) -> None:
    for _ in range(100):
        foretelling.step(0.5)
    foretelling.step(1.5)
    foretelling.step(1.5)
    (record,) = foretelling.desk.service.predictions()
    assert (record.missed, record.recall) == (1, 0.0)


def test_an_open_prediction_is_settled_after_a_restart(foretelling: Foretelling) -> None:
    until_foretold(foretelling)
    foretelling.collector = foretelling.again()
    foretelling.step(1.2)
    (record,) = foretelling.desk.service.predictions()
    assert (record.hit, record.missed, record.open) == (1, 0, 0)


def test_a_series_that_goes_away_takes_its_prediction_from_the_page(foretelling: Foretelling) -> None:
    until_foretold(foretelling)
    foretelling.clock.advance(600 * 10**9)
    frame = foretelling.collector.collect(foretelling.clock.now_ns())
    assert not [
        value
        for one, value in zip(frame.schema.series, frame.values, strict=True)
        if "time_to" in one.name and value == value
    ]
