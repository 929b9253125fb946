"""The engine collector over real telemetry blocks."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.engine import LE_NS, EngineCollector, histogram_series
from collectors.kpi import QUANTILES, Window
from engine import counters as at
from engine.account import COLUMNS, MARK
from engine.buckets import bucket_of
from engine.commands import CommandName
from engine.events import Instrument
from engine.publisher import FILLS, FILLS_KEPT, Gauges, Publisher
from engine.recorder import note_order
from engine.telemetry import BlockSpec, BlockWriter
from metrics.catalogue import metric_of
from metrics.clock import ManualClock
from metrics.series import Series, make_labels

INSTRUMENTS = (Instrument("AAA", 0.01), Instrument("BBB", 0.5, 0.001))
TICK_S = 0.1


class Desk:
    """A stand-in for the engine's loop: counts on demand, publishes with the clock."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.path = folder / "engine.block"
        self.clock = clock
        self.collector = EngineCollector(self.path, "engine", clock)
        self.start()

    def start(self) -> None:
        self.publisher = Publisher(self.path, INSTRUMENTS, {"source": "synthetic", "speed": 1.0})
        self.counts, self.sums = at.empty_counts(), at.empty_sums()
        self.rows = np.zeros((2, COLUMNS))
        self.rows[:, MARK] = 1000.0
        self.pnl, self.drawdown = 0.0, 0.0

    def publish(self) -> None:
        gauges = Gauges(*range(len(Gauges._fields)))._replace(pnl_usd=self.pnl, drawdown_usd=self.drawdown)
        self.publisher.publish(
            self.clock.now_ns(),
            self.counts,
            self.sums,
            gauges,
            tuple(range(1, len(CommandName) + 1)),
            self.rows,
            np.full(2, 2.0),
            np.ones((2, 2)),
        )

    def tick(self) -> dict[str, float]:
        """A tenth of a second passes, the engine publishes, the collector reads."""
        self.clock.advance(round(TICK_S * 1e9))
        self.publish()
        return self.read()

    def read(self) -> dict[str, float]:
        frame = self.collector.collect(self.clock.now_ns())
        return {str(series): value for series, value in zip(frame.schema.series, frame.values.tolist(), strict=True)}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, ManualClock())


def kpi(values: dict[str, float], name: str) -> float:
    return values[f"deskvigil_kpi_{name}"]


def test_without_a_block_the_engine_is_down_and_the_key_figures_have_no_data(tmp_path: Path) -> None:
    collector = EngineCollector(tmp_path / "engine.block", "engine", ManualClock())
    frame = collector.collect(5)
    assert frame.values[0] == 0.0
    assert np.isnan(frame.values[1:]).all()
    assert frame.schema is collector.describe()
    assert "has not started" in collector.absence
    assert Series("deskvigil_kpi_fill_ratio") in frame.schema.index
    assert collector.info() == {}
    assert len(collector.last_fills()) == 0


def test_scalars_come_through_as_they_are(desk: Desk) -> None:
    desk.counts[at.FILLS_MAKER] = 7
    desk.sums[at.SLIPPAGE_COST] = -3.5
    desk.rows[1, :2] = [-4.0, 990.0]
    values = desk.tick()
    assert values["deskvigil_engine_up"] == 1.0
    assert values["deskvigil_engine_heartbeat_age_seconds"] == 0.0
    assert values["deskvigil_engine_start_time_seconds"] == pytest.approx(time.time(), abs=60)
    assert values['deskvigil_engine_fills_total{liquidity="maker"}'] == 7.0
    assert values["deskvigil_engine_slippage_cost_usd"] == -3.5
    assert values['deskvigil_engine_position{symbol="BBB"}'] == pytest.approx(-0.004)
    assert values['deskvigil_engine_mid_usd{symbol="BBB"}'] == 500.0
    assert values['deskvigil_engine_spread_bps{symbol="AAA"}'] == pytest.approx(20.0)
    assert desk.collector.info()["instruments"] == ["AAA", "BBB"]
    assert desk.collector.absence == ""


def test_every_series_is_in_the_catalogue_with_its_labels(desk: Desk) -> None:
    desk.tick()
    for series in desk.collector.describe().series:
        metric = metric_of(series.name)
        assert metric is not None, series
        assert {key for key, _ in series.labels} - {"le"} == set(metric.labels), series


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2 * 10**10), max_size=200))
def test_classic_buckets_count_what_lies_below_their_bound(durations: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder), ManualClock())
        for duration in durations:
            desk.publisher.latencies[at.LATENCY_GATE, bucket_of(duration)] += 1
            desk.publisher.latency_sums_ns[at.LATENCY_GATE] += duration
        values = desk.tick()
    parts = [str(series) for series in histogram_series(at.HISTOGRAMS[at.LATENCY_GATE])]
    found = [values[part] for part in parts]
    assert found[: len(LE_NS)] == [sum(duration < bound for duration in durations) for bound in LE_NS]
    assert found[len(LE_NS)] == found[-1] == len(durations)
    assert found[-2] == pytest.approx(sum(durations) / 1e9)


def test_there_are_16_to_20_bounds_from_250_ns_to_10_s() -> None:
    assert 16 <= len(LE_NS) <= 20
    assert 200 <= LE_NS[0] <= 300
    assert 8e9 <= LE_NS[-1] <= 10e9
    assert list(LE_NS) == sorted(set(LE_NS))


def test_a_heartbeat_that_stops_takes_the_values_away_and_keeps_the_series(desk: Desk) -> None:
    desk.tick()
    schema = desk.collector.describe()
    desk.clock.advance(1_000_000_000)
    assert desk.read()["deskvigil_engine_up"] == 1.0
    desk.clock.advance(1)
    values = desk.read()
    assert values["deskvigil_engine_up"] == 0.0
    assert values["deskvigil_engine_heartbeat_age_seconds"] == pytest.approx(1.0)
    assert np.isnan([value for name, value in values.items() if "up" not in name and "age" not in name]).all()
    assert desk.collector.describe() is schema
    assert "more than a second" in desk.collector.absence
    assert desk.tick()["deskvigil_engine_up"] == 1.0


def test_a_stepped_wall_clock_does_not_make_a_living_engine_look_dead(desk: Desk) -> None:
    desk.tick()
    for step_s in (3600, -7200):
        desk.clock.step_wall(step_s * 1_000_000_000)
        assert desk.read()["deskvigil_engine_up"] == 1.0
        assert desk.tick()["deskvigil_engine_up"] == 1.0


def test_a_block_left_by_a_dead_process_is_not_alive_at_first_sight(desk: Desk) -> None:
    desk.publish()
    desk.clock.advance(3_600_000_000_000)
    late = EngineCollector(desk.path, "engine", desk.clock)
    assert late.collect(desk.clock.now_ns()).values[0] == 0.0
    assert "left a block behind" in late.absence
    desk.clock.advance(100_000_000)
    desk.publish()
    assert late.collect(desk.clock.now_ns()).values[0] == 1.0


def test_a_removed_block_is_down_and_comes_back(desk: Desk) -> None:
    desk.tick()
    desk.path.unlink()
    assert desk.read()["deskvigil_engine_up"] == 0.0
    schema = desk.collector.describe()
    desk.start()
    assert desk.tick()["deskvigil_engine_up"] == 1.0
    assert desk.collector.describe() is schema


def test_a_block_with_other_series_brings_a_new_schema(desk: Desk) -> None:
    desk.tick()
    schema = desk.collector.describe()
    desk.publisher = Publisher(desk.path, INSTRUMENTS[:1], {})
    desk.rows = desk.rows[:1]
    desk.clock.advance(1)
    gauges = Gauges(*range(len(Gauges._fields)))
    desk.publisher.publish(
        desk.clock.now_ns(),
        desk.counts,
        desk.sums,
        gauges,
        (0,) * len(CommandName),
        desk.rows,
        np.ones(1),
        np.ones((2, 1)),
    )
    desk.read()
    assert len(desk.collector.describe()) < len(schema)


def test_any_other_process_block_needs_no_key_figures(tmp_path: Path) -> None:
    clock = ManualClock()
    spec = BlockSpec("risk", (Series("deskvigil_risk_var_usd", make_labels({"confidence": "0.99"})),))
    writer = BlockWriter(tmp_path / "risk.block", spec)
    writer.scalars[0] = 12.0
    writer.publish(clock.now_ns())
    frame = EngineCollector(tmp_path / "risk.block", "risk", clock).collect(clock.now_ns())
    assert [series.name for series in frame.schema.series] == [
        "deskvigil_risk_up", "deskvigil_risk_heartbeat_age_seconds", "deskvigil_risk_start_time_seconds", "deskvigil_risk_var_usd",
    ]  # fmt: skip
    assert frame.values[[0, 3]].tolist() == [1.0, 12.0]


def test_the_last_fills_are_records(desk: Desk) -> None:
    for number in range(FILLS_KEPT + 3):
        row = desk.publisher.fills[number % FILLS_KEPT]
        row["order_id"], row["price_usd"] = -number - 1, number / 4
        desk.publisher.fills_written[0] += 1
    desk.tick()
    fills = desk.collector.last_fills()
    assert fills.dtype.names == FILLS.names
    assert fills["order_id"].tolist() == [-number - 1 for number in range(3, FILLS_KEPT + 3)]


def test_key_figures_without_activity_are_no_data(desk: Desk) -> None:
    for _ in range(10):
        values = desk.tick()
    for name in ("fill_ratio", "slippage_bps", "impact_bps", "reject_ratio"):
        assert np.isnan(kpi(values, name))
    assert np.isnan(kpi(values, 'order_to_fill_seconds{quantile="0.99"}'))
    assert kpi(values, "throughput_orders_per_second") == 0.0
    assert kpi(values, "pnl_usd") == 0.0


def test_key_figures_follow_their_definitions(desk: Desk) -> None:
    desk.tick()
    desk.sums[at.PARENT_ORDERED], desk.sums[at.PARENT_FILLED] = 2000.0, 1900.0
    desk.sums[at.SLIPPAGE_COST], desk.sums[at.SLIPPAGE_VALUE] = 0.19, 1900.0
    desk.sums[at.IMPACT], desk.counts[at.IMPACT_PARENTS] = -3.0, 4
    desk.counts[at.SUBMITTED_MAKER], desk.counts[at.SUBMITTED_PARENT] = 150, 50
    desk.counts[at.REJECTED_FOR + 5], desk.counts[at.REJECTED_FOR + 10] = 1, 1
    desk.counts[at.MARKET_ORDERS] = 800
    desk.pnl, desk.drawdown = -12.5, 20.0
    for duration in (1_000, 2_000, 4_000, 1_000_000):
        desk.publisher.latencies[at.LATENCY_FILL, bucket_of(duration)] += 1
    for _ in range(10):
        values = desk.tick()
    assert kpi(values, "fill_ratio") == pytest.approx(0.95)
    assert kpi(values, "slippage_bps") == pytest.approx(1.0)
    assert kpi(values, "impact_bps") == pytest.approx(-0.75)
    assert kpi(values, "reject_ratio") == pytest.approx(0.01)
    assert kpi(values, "throughput_orders_per_second") == pytest.approx(1000 / 1.0)
    assert kpi(values, "pnl_usd") == -12.5
    assert kpi(values, "drawdown_usd") == 20.0
    assert kpi(values, 'order_to_fill_seconds{quantile="0.5"}') == pytest.approx(2e-6, rel=0.13)
    assert kpi(values, 'order_to_fill_seconds{quantile="0.999"}') == pytest.approx(1e-3, rel=0.13)


def test_key_figures_forget_what_is_older_than_their_window(desk: Desk) -> None:
    desk.tick()
    desk.sums[at.PARENT_ORDERED], desk.sums[at.PARENT_FILLED] = 100.0, 0.0
    desk.counts[at.MARKET_ORDERS] = 1000
    desk.publisher.latencies[at.LATENCY_FILL, bucket_of(5_000)] += 1
    values = [desk.tick() for _ in range(3100)]
    at_s = {second: values[int(second / TICK_S) - 1] for second in (9, 11, 59, 61, 299, 301)}
    assert kpi(at_s[9], "throughput_orders_per_second") > 0.0
    assert kpi(at_s[11], "throughput_orders_per_second") == 0.0
    assert kpi(at_s[59], 'order_to_fill_seconds{quantile="0.5"}') > 0.0
    assert np.isnan(kpi(at_s[61], 'order_to_fill_seconds{quantile="0.5"}'))
    assert kpi(at_s[299], "fill_ratio") == 0.0
    assert np.isnan(kpi(at_s[301], "fill_ratio"))


def test_key_figures_carry_on_over_a_restart_of_the_engine(desk: Desk) -> None:
    desk.tick()
    desk.sums[at.PARENT_ORDERED], desk.sums[at.PARENT_FILLED] = 1000.0, 1000.0
    desk.publisher.latencies[at.LATENCY_FILL, bucket_of(1_000)] += 3
    desk.tick()
    desk.path.unlink()
    assert np.isnan(kpi(desk.read(), "fill_ratio"))
    desk.start()
    desk.sums[at.PARENT_ORDERED], desk.sums[at.PARENT_FILLED] = 1000.0, 0.0
    desk.publisher.latencies[at.LATENCY_FILL, bucket_of(1_000_000)] += 1
    values = desk.tick()
    assert kpi(values, "fill_ratio") == pytest.approx(0.5)
    assert kpi(values, 'order_to_fill_seconds{quantile="0.5"}') == pytest.approx(1e-6, rel=0.13)
    assert kpi(values, 'order_to_fill_seconds{quantile="0.999"}') == pytest.approx(1e-3, rel=0.13)
    assert desk.tick() is not None
    assert kpi(desk.tick(), "fill_ratio") == pytest.approx(0.5)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5_000_000_000), st.integers(0, 50)), min_size=1, max_size=150),
    st.sampled_from([1.0, 10.0]),
)
def test_a_window_equals_a_search_through_all_readings(steps, span_s) -> None:
    window = Window(1, np.float64, span_s, 0.1)
    now, value, readings = 0, 0, []
    for gap, more in steps:
        now, value = now + gap, value + more
        readings.append((now, value))
        window.push(now, np.array([value], dtype=np.float64))
        old = [reading for reading in readings if reading[0] <= now - span_s * 1e9]
        base = old[-1] if old else readings[max(0, len(readings) - (int(span_s / 0.1 * 1.25) + 16))]
        assert window.growth()[0] == value - base[1]
        assert window.seconds() == pytest.approx((now - base[0]) / 1e9)


def test_quantiles_shown_are_the_ones_asked_for() -> None:
    assert QUANTILES == (0.5, 0.95, 0.99, 0.999)


def test_reading_a_block_is_cheap(desk: Desk) -> None:
    for _ in range(700):
        desk.tick()
    durations = []
    for _ in range(500):
        desk.clock.advance(100_000_000)
        desk.publish()
        before = time.thread_time_ns()
        desk.collector.collect(desk.clock.now_ns())
        durations.append(time.thread_time_ns() - before)
    median_us = float(np.median(durations)) / 1e3
    assert median_us < 1000, f"{median_us:.0f} us"  # the aim is 150; ten times slower machines must still pass


def test_every_stages_quantiles_are_those_of_the_last_minute(desk: Desk) -> None:
    name = 'deskvigil_kpi_latency_seconds{quantile="%s",stage="%s"}'
    desk.tick()
    for _ in range(100):
        desk.publisher.latencies[at.LATENCY_GATE, bucket_of.py_func(1_000)] += 1
    for _ in range(11):
        values = desk.tick()
    assert values[name % ("0.5", "gate")] == pytest.approx(1e-6, rel=0.125)
    assert np.isnan(values[name % ("0.5", "decision")])
    desk.publisher.latencies[at.LATENCY_GATE, bucket_of.py_func(1_000_000)] += 2
    for _ in range(11):
        values = desk.tick()
    assert values[name % ("0.95", "gate")] == pytest.approx(1e-6, rel=0.125)
    assert values[name % ("0.99", "gate")] == pytest.approx(1e-3, rel=0.125)
    assert values[name % ("0.999", "gate")] == pytest.approx(1e-3, rel=0.125)
    desk.start()  # a new engine counts from 0; what the one before had recorded stays in the window
    for _ in range(11):
        values = desk.tick()
    assert values[name % ("0.5", "gate")] == pytest.approx(1e-6, rel=0.125)
    for _ in range(620):
        values = desk.tick()
    assert np.isnan(values[name % ("0.5", "gate")])


def test_the_slowest_orders_come_slowest_first(desk: Desk) -> None:
    for k in range(30):
        note_order(desk.publisher.slowest, desk.publisher.stages, 100 + 7 * k % 50, 1, 1, 1, k, -k - 4, 0, 0)
    desk.tick()
    rows = desk.collector.slowest_orders()
    assert len(rows) == 20
    assert rows["total_ns"].tolist() == sorted((100 + 7 * k % 50 for k in range(30)), reverse=True)[:20]
