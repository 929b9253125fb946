from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.figures import DATA_DIR, DailyCovariance, load_covariances, load_market
from engine.montecarlo.distribution import convergence, histogram
from engine.montecarlo.gpu.accelerator import Accelerator, GpuState, devices_of
from engine.montecarlo.options import RiskOptions
from engine.montecarlo.simulation import BookRisk
from engine.riskblock import RiskState
from engine.riskrunner import RiskRunner, run_risk, run_until
from engine.telemetry import BlockReader, BlockSpec, BlockWriter, Snapshot, TableSpec
from metrics.catalogue import CATALOGUE, series
from metrics.clock import ManualClock, SystemClock
from metrics.errors import TransientError
from metrics.paths import RuntimePaths
from tests.engine.fake_cupy import CUDARuntimeError, FakeCupy
from tests.engine.gpu_host import HostDevice

POSITION = [("instrument", "<i4"), ("qty", "<f8"), ("mark_usd", "<f8"), ("avg_usd", "<f8")]
VAR = series("deskvigil_risk_var_usd", confidence="0.99")
SHORTFALL = series("deskvigil_risk_expected_shortfall_usd", confidence="0.975")
AGE = series("deskvigil_risk_position_age_seconds")
RUNS = series("deskvigil_risk_runs_total")
LATE = series("deskvigil_risk_late_runs_total")


class Engine:
    """Writes an engine block as the engine process does."""

    def __init__(self, path: Path, symbols: list[str]) -> None:
        spec = BlockSpec("engine", (), (), {"positions": TableSpec(POSITION, len(symbols))}, {"instruments": symbols})
        self._block = BlockWriter(path, spec)
        self._block.written[0] = len(symbols)

    def publish(self, now_ns: int, qty: list[float], mark: list[float]) -> None:
        table = self._block.tables["positions"]
        table["instrument"], table["qty"], table["mark_usd"] = range(len(qty)), qty, mark
        self._block.publish(now_ns)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def paths(tmp_path: Path) -> RuntimePaths:
    return RuntimePaths(tmp_path)


class Desk:
    """A runner on blocks in a folder of its own."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.engine_block, self.risk_block, self.clock = folder / "engine.block", folder / "risk.block", clock

    def runner(self, known: Sequence[DailyCovariance] | None = None, **options: object) -> RiskRunner:
        given = RiskOptions(**{"scenarios": 2_000, **options})
        found = load_covariances() if known is None else known
        return RiskRunner(given, self.engine_block, self.risk_block, self.clock, found)

    def engine(self, *symbols: str) -> Engine:
        return Engine(self.engine_block, list(symbols))

    def published(self) -> Snapshot:
        return BlockReader(self.risk_block).read()


@pytest.fixture
def desk(tmp_path: Path, clock: ManualClock) -> Desk:
    return Desk(tmp_path, clock)


def state_of(snapshot: Snapshot) -> str:
    held = [
        state.value for state in RiskState if snapshot.scalar(series("deskvigil_risk_state", state=state.value)) == 1.0
    ]
    assert len(held) == 1
    return held[0]


def test_without_an_engine_there_is_no_figure_and_the_state_says_so(desk: Desk) -> None:
    desk.runner().run()
    published = desk.published()
    assert state_of(published) == "no_engine"
    assert math.isnan(published.scalar(VAR))
    assert math.isnan(published.scalar(SHORTFALL))
    assert published.scalar(RUNS) == 0


def test_positions_are_priced_and_published_with_contributions(desk: Desk, clock: ManualClock) -> None:
    runner, engine = desk.runner(), desk.engine("AMZN", "AAPL")
    engine.publish(clock.now_ns(), [100.0, -50.0], [220.0, 580.0])
    outcome = runner.run()
    published = desk.published()
    assert state_of(published) == "ok"
    assert outcome.figures is not None
    assert published.scalar(VAR) == outcome.figures.var > 0
    shares = [published.scalar(series("deskvigil_risk_contribution_usd", symbol=name)) for name in ("AMZN", "AAPL")]
    assert sum(shares) == pytest.approx(published.scalar(SHORTFALL))
    assert published.scalar(series("deskvigil_risk_gross_exposure_usd")) == 100 * 220 + 50 * 580
    assert published.scalar(RUNS) == 1
    assert published.counts.sum() == 1
    assert "daily closes" in published.spec.info["covariance"]["AMZN"]


def test_every_published_series_is_in_the_catalogue(desk: Desk, clock: ManualClock) -> None:
    runner = desk.runner()
    desk.engine("AMZN").publish(clock.now_ns(), [1.0], [220.0])
    runner.run()
    spec = desk.published().spec
    assert {item.name for item in (*spec.scalars, *spec.histograms)} <= set(CATALOGUE)


def test_the_figure_moves_with_positions_only_unless_fresh_scenarios_are_asked_for(
    desk: Desk, clock: ManualClock
) -> None:
    desk.engine("AMZN").publish(clock.now_ns(), [10.0], [220.0])
    fixed, fresh = desk.runner(), desk.runner(scenario_set="fresh")
    values = {
        name: {runner.run().figures.var for _ in range(3)} for name, runner in (("fixed", fixed), ("fresh", fresh))
    }
    assert len(values["fixed"]) == 1
    assert len(values["fresh"]) == 3


def test_old_positions_give_no_figure_although_the_wall_clock_was_stepped(desk: Desk, clock: ManualClock) -> None:
    runner, engine = desk.runner(), desk.engine("AMZN")
    engine.publish(clock.now_ns(), [10.0], [220.0])
    runner.run()
    clock.step_wall(3_600_000_000_000)
    assert runner.run().state is RiskState.OK, "a stepped clock makes nothing old"
    clock.advance(1_500_000_000)
    assert runner.run().age_s == pytest.approx(1.5)
    clock.advance(1_000_000_000)
    assert runner.run().state is RiskState.STALE
    published = desk.published()
    assert state_of(published) == "stale"
    assert math.isnan(published.scalar(VAR))
    assert published.scalar(AGE) == pytest.approx(2.5)
    engine.publish(clock.now_ns(), [10.0], [220.0])
    assert runner.run().state is RiskState.OK


def test_a_block_left_behind_by_a_dead_engine_is_stale_from_the_start(desk: Desk, clock: ManualClock) -> None:
    desk.engine("AMZN").publish(clock.now_ns(), [10.0], [220.0])
    clock.advance(60_000_000_000)
    assert desk.runner().run().state is RiskState.STALE


def test_a_held_position_without_a_price_gives_no_figure_and_an_empty_one_does_not_matter(
    desk: Desk, clock: ManualClock
) -> None:
    runner, engine = desk.runner(), desk.engine("AMZN", "AAPL")
    engine.publish(clock.now_ns(), [0.0, 5.0], [math.nan, 580.0])
    assert runner.run().state is RiskState.OK
    engine.publish(clock.now_ns(), [1.0, 5.0], [math.nan, 580.0])
    assert runner.run().state is RiskState.NO_MARKS
    assert math.isnan(desk.published().scalar(VAR))


def test_an_engine_that_comes_back_with_other_instruments_is_followed_and_counters_go_on(
    desk: Desk, clock: ManualClock
) -> None:
    runner, reader = desk.runner(), BlockReader(desk.risk_block)
    desk.engine("AMZN").publish(clock.now_ns(), [1.0], [220.0])
    runner.run()
    assert reader.read().scalar(RUNS) == 1
    desk.engine("BTCUSDT", "DV-ALPHA").publish(clock.now_ns(), [0.1, 10.0], [60_000.0, 223.0])
    runner.run()
    published = reader.read()
    assert published.scalar(RUNS) == 2
    assert published.counts.sum() == 2
    assert published.spec.info["instruments"] == ["BTCUSDT", "DV-ALPHA"]
    assert not math.isnan(published.scalar(series("deskvigil_risk_contribution_usd", symbol="DV-ALPHA")))


DRAWS = ("plain", "antithetic", "sobol", "control", "importance")


def option_book(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text(json.dumps({"format": 1, "positions": list(rows)}))
    return path


@pytest.mark.parametrize("draw", DRAWS)
def test_every_way_to_draw_gives_the_same_figures_within_their_errors(
    desk: Desk, clock: ManualClock, tmp_path: Path, draw: str
) -> None:
    put = {"symbol": "AMZN", "kind": "put", "quantity": 150, "strike": 210, "days": 30, "volatility": 0.3}
    book = option_book(tmp_path / "book.json", put)
    desk.engine("AMZN", "AAPL").publish(clock.now_ns(), [100.0, -50.0], [220.0, 580.0])
    outcome = desk.runner(draw=draw, book=book, scenarios=4_096).run()
    exact = desk.runner(book=book, draw="plain", scenarios=400_000, seed=7).run()
    assert outcome.figures is not None
    assert exact.figures is not None
    for name, error in (("var", "var_standard_error"), ("expected_shortfall", "shortfall_standard_error")):
        off = abs(getattr(outcome.figures, name) - getattr(exact.figures, name))
        assert off < 4 * math.hypot(getattr(outcome.figures, error), getattr(exact.figures, error))
    assert outcome.figures.var_contributions.sum() == pytest.approx(outcome.figures.var)


def test_what_people_look_at_is_published_and_fits_the_figures(desk: Desk, clock: ManualClock, tmp_path: Path) -> None:
    call = {"symbol": "AAPL", "kind": "call", "quantity": -20, "strike": 600, "days": 20, "volatility": 0.4}
    runner = desk.runner(book=option_book(tmp_path / "book.json", call), draw="plain")
    desk.engine("AMZN", "AAPL").publish(clock.now_ns(), [100.0, 0.0], [220.0, 580.0])
    outcome = runner.run()
    published = desk.published()
    tables, figures = published.tables, outcome.figures
    assert figures is not None
    lines = tables["positions"]
    assert [bytes(row["name"]).decode() for row in lines] == ["AMZN", "AAPL call 600, 20 d"]
    assert lines["shortfall_usd"].sum() == pytest.approx(figures.expected_shortfall)
    assert lines["var_usd"].sum() == pytest.approx(figures.var)
    by_symbol = [published.scalar(series("deskvigil_risk_var_contribution_usd", symbol=s)) for s in ("AMZN", "AAPL")]
    assert by_symbol == pytest.approx(list(lines["var_usd"]))
    bars = tables["histogram"]
    assert bars["share"].sum() == pytest.approx(1.0)
    assert (bars["low_usd"][0], bars["high_usd"][-1]) == pytest.approx((figures.gains.min(), figures.gains.max()))
    steps = tables["convergence"]
    assert steps["scenarios"][-1] == 2_000
    assert (steps["var_usd"][-1], steps["error_usd"][-1]) == pytest.approx((figures.var, figures.var_standard_error))
    grid = {(row["volatility"], row["spot"]): row["gain_usd"] for row in tables["stress"]}
    assert len(grid) == 45
    assert grid[0.0, 0.0] == 0.0
    assert grid[1.0, 0.0] < 0.0, "a sold call loses when volatility rises"
    assert grid[0.0, -0.2] == pytest.approx(-0.2 * 22_000, rel=0.2)


def test_the_histogram_and_the_convergence_know_the_weights_of_importance_sampling(
    desk: Desk, clock: ManualClock
) -> None:
    desk.engine("AMZN").publish(clock.now_ns(), [100.0], [220.0])
    twisted, plain = desk.runner(draw="importance").run().figures, desk.runner(draw="plain").run().figures
    assert twisted is not None
    assert plain is not None
    bars = histogram(twisted)
    beyond = float(bars[bars[:, 1] < -twisted.var, 2].sum())
    assert 0.005 < beyond < 0.0101, "although nine in ten scenarios were drawn from losses"
    n, var, error = convergence(twisted, 0.99)[-1]
    assert n == 2_000
    assert abs(var - twisted.var) < 1e-6 * var
    assert error < convergence(plain, 0.99)[-1, 2]


def test_an_expired_option_is_left_out_and_counted(desk: Desk, clock: ManualClock, tmp_path: Path) -> None:
    day_s = 86_400_000_000_000
    when = [datetime.fromtimestamp((clock.now_ns() + k * day_s) / 1e9, UTC).isoformat() for k in (-1, 5)]
    rows = [
        {"symbol": "AMZN", "kind": "call", "quantity": 1, "strike": 200, "expires": end, "volatility": 0.2}
        for end in when
    ]
    runner = desk.runner(book=option_book(tmp_path / "book.json", *rows))
    engine = desk.engine("AMZN")
    engine.publish(clock.now_ns(), [100.0], [220.0])
    runner.run()
    counted = [desk.published().scalar(series(f"deskvigil_risk_{what}")) for what in ("options", "expired_options")]
    assert counted == [1.0, 1.0]
    clock.advance(6 * day_s)
    engine.publish(clock.now_ns(), [100.0], [220.0])
    assert runner.run().state is RiskState.OK
    counted = [desk.published().scalar(series(f"deskvigil_risk_{what}")) for what in ("options", "expired_options")]
    assert counted == [0.0, 2.0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"strike": math.nan}, "strike must be a finite number"),
        ({"volatility": -0.1}, "volatility not negative"),
        ({"kind": "swap"}, "call or put"),
        ({"symbol": "NOBODY"}, "book.json: nothing is known of NOBODY, which the engine does not trade"),
        ({"days": None}, "days must be a finite number"),
        ({"colour": "red"}, "no fields but"),
    ],
)
def test_a_bad_option_book_fails_with_words_and_a_mended_one_is_read_again(
    desk: Desk, clock: ManualClock, tmp_path: Path, row: dict[str, object], words: str
) -> None:
    sound = {"symbol": "AMZN", "kind": "put", "quantity": 1, "strike": 200, "days": 9, "volatility": 0.2}
    path = option_book(tmp_path / "book.json", sound | row)
    runner = desk.runner(book=path)
    desk.engine("AMZN").publish(clock.now_ns(), [1.0], [220.0])
    assert runner.run().state is RiskState.FAILED
    published = desk.published()
    assert state_of(published) == "failed"
    assert math.isnan(published.scalar(VAR))
    assert words in bytes(published.tables["words"]["words"][0]).decode()
    assert len(published.tables["positions"]) == len(published.tables["histogram"]) == 0
    option_book(path, sound, sound)
    assert runner.run().state is RiskState.OK
    path.unlink()
    assert "cannot be read" in runner.run().words


PUT = {"symbol": "AMZN", "kind": "put", "quantity": 1, "strike": 200, "days": 9, "volatility": 0.2}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "cannot be read"),
        ("\0" * 2_000_000, "no file of at most 1 MiB"),
        (json.dumps({"format": 1, "positions": [PUT | {"symbol": "\ud800"}]}), "not '\\ud800' and 'put'"),
        (json.dumps({"format": 1, "positions": [PUT | {"rate": -1e9, "days": 9_000}]}), "not finite"),
    ],
)
def test_garbage_in_the_option_book_ends_no_process(
    desk: Desk, clock: ManualClock, tmp_path: Path, text: str, words: str
) -> None:
    path = option_book(tmp_path / "book.json", PUT)
    runner = desk.runner(book=path)
    desk.engine("AMZN").publish(clock.now_ns(), [1.0], [220.0])
    assert runner.run().state is RiskState.OK
    path.write_text(text)
    assert runner.run().state is RiskState.FAILED
    published = desk.published()
    assert math.isnan(published.scalar(VAR))
    assert words in bytes(published.tables["words"]["words"][0]).decode()
    option_book(path, PUT)
    assert runner.run().state is RiskState.OK


def test_a_pipe_as_option_book_is_refused_and_not_waited_for(desk: Desk, clock: ManualClock, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "book.json")
    runner = desk.runner(book=tmp_path / "book.json")
    desk.engine("AMZN").publish(clock.now_ns(), [1.0], [220.0])
    assert "no file of at most" in runner.run().words


def test_another_book_of_the_same_size_and_time_is_read(desk: Desk, clock: ManualClock, tmp_path: Path) -> None:
    path = option_book(tmp_path / "book.json", PUT | {"quantity": 1})
    runner = desk.runner(book=path)
    desk.engine("AMZN").publish(clock.now_ns(), [0.0], [220.0])
    before = runner.run().book
    other = option_book(tmp_path / "other.json", PUT | {"quantity": 7})
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    after = runner.run().book
    assert before is not None
    assert after is not None
    assert (before.quantity[-1], after.quantity[-1]) == (1.0, 7.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("quantity", [1e160, 1e300])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_quantity_beyond_the_range_of_numbers_gives_a_state_and_no_figure(
    desk: Desk, clock: ManualClock, draw: str, quantity: float
) -> None:
    desk.engine("AMZN").publish(clock.now_ns(), [quantity], [220.0])
    assert desk.runner(draw=draw).run().state is RiskState.FAILED
    assert math.isnan(desk.published().scalar(VAR))


def test_positions_age_while_they_are_priced(desk: Desk, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    runner = desk.runner()
    desk.engine("AMZN").publish(clock.now_ns(), [1.0], [220.0])
    simulated = RiskRunner._simulated

    def slow(self: RiskRunner, *given: Any) -> Any:
        clock.advance(1_700_000_000)
        return simulated(self, *given)

    monkeypatch.setattr(RiskRunner, "_simulated", slow)
    assert runner.run().state is RiskState.OK
    assert desk.published().scalar(AGE) == pytest.approx(1.7)


@pytest.mark.parametrize("gains", [np.full(1_000, 1e17), np.r_[np.full(999, -5.0), np.nextafter(-5.0, -6.0)]])
def test_a_histogram_of_profits_that_hardly_differ_has_bins(gains: np.ndarray) -> None:
    bars = histogram(BookRisk(gains, 0.0, 0.0, np.zeros(0), 0.0, 0.0, np.zeros(0)))
    assert bars[:, 2].sum() == pytest.approx(1.0)
    assert bars[0, 0] < gains.min() <= gains.max() < bars[-1, 1]


def test_a_covariance_that_is_none_and_a_quantity_that_is_none_give_a_state_and_no_figure(
    desk: Desk, clock: ManualClock
) -> None:
    bad = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    engine = desk.engine("A", "B", "C")
    engine.publish(clock.now_ns(), [1.0, 1.0, 1.0], [10.0, 10.0, 10.0])
    outcome = desk.runner([DailyCovariance(("A", "B", "C"), np.full(3, 0.01), bad, "made up")]).run()
    assert outcome.state is RiskState.FAILED
    assert "not positive definite" in outcome.words
    nowhere = desk.runner([DailyCovariance(("A",), np.array([math.nan]), np.eye(1), "made up")]).run()
    assert nowhere.state is RiskState.FAILED
    engine.publish(clock.now_ns(), [1.0, math.nan, 1.0], [10.0, 10.0, 10.0])
    assert desk.runner().run().state is RiskState.NO_MARKS
    engine.publish(clock.now_ns(), [1.0, 1.0, 1.0], [10.0, math.inf, 10.0])
    assert desk.runner().run().state is RiskState.NO_MARKS


@pytest.mark.parametrize("draw", DRAWS)
def test_a_flat_desk_has_no_risk_however_it_is_drawn(desk: Desk, clock: ManualClock, draw: str) -> None:
    desk.engine("AMZN", "AAPL").publish(clock.now_ns(), [0.0, 0.0], [220.0, math.nan])
    outcome = desk.runner(draw=draw).run()
    assert outcome.state is RiskState.OK
    assert outcome.figures is not None
    assert (outcome.figures.var, outcome.figures.expected_shortfall) == (0.0, 0.0)


def test_the_option_book_that_is_shipped_can_be_priced_with_the_default_market(desk: Desk, clock: ManualClock) -> None:
    market = load_market()
    names = [instrument.symbol for instrument in market.instruments]
    prices = (market.initial_ticks * 0.01).tolist()
    desk.engine(*names).publish(clock.now_ns(), [0.0] * len(names), prices)
    outcome = desk.runner(book=DATA_DIR / "options.json").run()
    assert outcome.figures is not None
    assert outcome.figures.var > 0.0


def test_turns_that_passed_during_a_slow_run_are_counted_and_not_made_up_for(desk: Desk, clock: ManualClock) -> None:
    runner, stop, begun = desk.runner(), threading.Event(), []

    class Slow:
        def run(self) -> None:
            begun.append(clock.monotonic_ns())
            clock.advance(250_000_000 if len(begun) == 2 else 10_000_000)
            if len(begun) == 4:
                stop.set()

        missed = staticmethod(runner.missed)
        pace = 1

    run_until(Slow(), clock, stop, 0.1)
    assert [t_ns // 1_000_000 for t_ns in begun] == [0, 100, 400, 500]
    runner.run()
    assert desk.published().scalar(LATE) == 2


def test_while_the_engine_is_degraded_it_runs_a_fifth_as_often(desk: Desk, clock: ManualClock) -> None:
    mode = series("deskvigil_engine_degraded")
    block = BlockWriter(desk.engine_block, BlockSpec("engine", (mode,), (), {}, {"instruments": []}))
    runner = desk.runner()
    paces = []
    for value in (math.nan, 0.0, 1.0, 2.0, math.nan, 0.0):
        block.scalars[0] = value
        block.publish(clock.now_ns())
        runner.run()
        paces.append(runner.pace)
    assert paces == [1, 1, 5, 5, 1, 1]


def test_the_pace_is_what_is_waited(desk: Desk, clock: ManualClock) -> None:
    stop, begun = threading.Event(), []

    class Degraded:
        pace = 5

        def run(self) -> None:
            begun.append(clock.monotonic_ns() // 1_000_000)
            if len(begun) == 3:
                stop.set()

        def missed(self, turns: int) -> None:
            raise AssertionError(f"{turns} turns are counted as missed")

    first = clock.monotonic_ns() // 1_000_000
    run_until(Degraded(), clock, stop, 0.1)
    assert [t - first for t in begun] == [0, 500, 1000]


@pytest.fixture
def process(paths: RuntimePaths):
    context = multiprocessing.get_context("spawn")
    started = context.Process(target=run_risk, args=(RiskOptions(scenarios=1_000), paths), daemon=True)
    started.start()
    yield started
    started.kill()
    started.join(60)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    clock, never = SystemClock(), threading.Event()
    for _ in range(round(seconds / 0.02)):
        if condition():
            return
        clock.wait(never, 0.02)
    pytest.fail("waited in vain")


def test_the_process_prices_ten_times_a_second_and_ends_with_zero_on_sigterm(paths: RuntimePaths, process) -> None:
    engine, clock, reader = Engine(paths.engine_block, ["DV-ALPHA"]), SystemClock(), BlockReader(paths.risk_block)

    def runs() -> float:
        engine.publish(clock.now_ns(), [100.0], [223.0])
        try:
            return reader.read().scalar(RUNS)
        except TransientError:
            return 0.0

    wait_for(lambda: runs() >= 1)
    first, t0 = runs(), clock.monotonic_ns()
    wait_for(lambda: runs() >= first + 10)
    elapsed_s = (clock.monotonic_ns() - t0) / 1e9
    assert elapsed_s > 0.85, "no faster than its rate"
    assert np.isfinite(reader.read().scalar(VAR))
    process.terminate()
    process.join(60)
    assert process.exitcode == 0


def gpu_state_of(snapshot: Snapshot) -> str:
    held = [s.value for s in GpuState if snapshot.scalar(series("deskvigil_risk_gpu_state", state=s.value)) == 1.0]
    assert len(held) == 1
    return held[0]


def gpu_words_of(snapshot: Snapshot) -> str:
    return bytes(snapshot.tables["device"]["words"][0]).decode()


def test_figures_from_a_gpu_are_the_processors_and_a_gpu_that_vanishes_takes_none(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cupy = FakeCupy(HostDevice(tmp_path_factory.mktemp("kernels")))
    desks = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        desks.append(Desk(tmp_path / name, clock))
    here, there = desks
    accelerator = Accelerator("auto", 1 << 24, clock, lambda size, at: devices_of(cupy, size, at))
    options = RiskOptions(scenarios=2_000)
    runners = [
        here.runner(),
        RiskRunner(options, there.engine_block, there.risk_block, clock, load_covariances(), accelerator),
    ]
    engines = [one.engine("AMZN", "AAPL") for one in desks]

    def run(quantity: float) -> Snapshot:
        for engine, runner in zip(engines, runners, strict=True):
            engine.publish(clock.now_ns(), [quantity, -50.0], [220.0, 580.0])
            assert runner.run().state is RiskState.OK
        a, b = here.published(), there.published()
        for figure in (VAR, SHORTFALL, series("deskvigil_risk_contribution_usd", symbol="AMZN")):
            assert a.scalar(figure) == b.scalar(figure)
        return b

    published = run(100.0)
    assert gpu_state_of(published) == "on"
    assert gpu_words_of(published) == "Fake 0"
    assert published.scalar(series("deskvigil_risk_gpu_runs_total")) == 1
    assert published.scalar(series("deskvigil_risk_gpu_pool_held_bytes")) > 2 * 2_000 * 8
    cupy.launch_error = CUDARuntimeError("cudaErrorNoDevice: gone")
    published = run(200.0)
    assert gpu_state_of(published) == "failed"
    assert "cudaErrorNoDevice: gone" in gpu_words_of(published)
    assert published.scalar(series("deskvigil_risk_gpu_fallbacks_total")) == 1
    cupy.launch_error = None
    assert gpu_state_of(run(300.0)) == "on"


def test_the_state_says_why_no_gpu_is_used(desk: Desk) -> None:
    desk.runner(device="cpu").run()
    assert (gpu_state_of(desk.published()), gpu_words_of(desk.published())) == ("off", "off by choice")
    desk.runner(draw="sobol").run()
    assert gpu_state_of(desk.published()) == "off"
    assert "sobol" in gpu_words_of(desk.published())
