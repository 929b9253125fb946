"""Risk runner: the process that prices what is held, ten times a second.

It reads the engine's telemetry block and publishes one of its own. While there is nothing sound to
price (no engine, positions too old, a position without a price) or nothing sound to price it with (a covariance
that is none, an option book that cannot be read) every figure is NaN and the state says why: no figure is ever made up.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np

from engine.figures import DailyCovariance, load_covariances
from engine.montecarlo import warm
from engine.montecarlo.book import Book, Position
from engine.montecarlo.covariance import Covariance, covariance_for
from engine.montecarlo.distribution import convergence, histogram
from engine.montecarlo.gpu.accelerator import Accelerator
from engine.montecarlo.heldoptions import HeldOptions
from engine.montecarlo.options import RiskOptions
from engine.montecarlo.simulation import BY_COUNTER, TRADING_DAY, BookRisk, BookSimulation
from engine.montecarlo.stress import stress_grid
from engine.riskblock import Outcome, Pictures, RiskBlock, RiskState
from engine.telemetry import BlockReader, Snapshot
from metrics.catalogue import series
from metrics.clock import Clock, SystemClock
from metrics.errors import DeskvigilError, TransientError
from metrics.frame import FloatArray
from metrics.paths import RuntimePaths
from resources.process import end_with_parent
from resources.relief import relieve

log = logging.getLogger("deskvigil.risk")
NAN = float("nan")
DEGRADED = series("deskvigil_engine_degraded")
PICTURES_NS: Final = 1_000_000_000  # between two histograms, convergences and stress grids


def symbols_of(snapshot: Snapshot) -> tuple[str, ...]:
    """The engine's instruments in index order, from its block's constants."""
    listed: Sequence[Any] = snapshot.spec.info.get("instruments", ())
    return tuple(str(item["symbol"] if isinstance(item, dict) else item) for item in listed)


def holdings_of(snapshot: Snapshot, count: int) -> tuple[FloatArray, FloatArray]:
    """Quantity in units and mark in USD of each instrument, float64 (count,); NaN marks where there is none."""
    quantity, mark = np.zeros(count), np.full(count, NAN)
    rows = snapshot.tables["positions"]
    rows = rows[(rows["instrument"] >= 0) & (rows["instrument"] < count)]
    quantity[rows["instrument"]], mark[rows["instrument"]] = rows["qty"], rows["mark_usd"]
    return quantity, mark


class RiskRunner:
    """Does one run after the other when told to; owns the risk block. For one thread."""

    def __init__(
        self, options: RiskOptions, engine_block: Path, risk_block: Path, clock: Clock, known: Sequence[DailyCovariance],
        accelerator: Accelerator | None = None,
    ) -> None:  # fmt: skip
        self._options, self._clock, self._known = options, clock, tuple(known)
        self._reader = BlockReader(engine_block)
        self._beat_ns, self._beat_seen_ns = -1, 0
        self._degraded = False  # as the engine's block said last
        self._state: RiskState | None = None
        self._options_held = HeldOptions(options.book)
        self._covariance: Covariance | None = None
        self._simulations: dict[str, BookSimulation] = {}
        self._pictures, self._pictures_due_ns = Pictures(), 0
        self._accelerator = accelerator or Accelerator(options.device, options.gpu_memory_mib << 20, clock)
        if options.draw not in BY_COUNTER:
            self._accelerator.leave(f"the normals of draw {options.draw} come ready-made from the CPU")
        self._accelerator.start()
        self._block = RiskBlock(risk_block, options)
        self._publish(Outcome(RiskState.NO_ENGINE, NAN))

    def run(self) -> Outcome:
        """Read the positions, simulate, publish."""
        begun_ns = self._clock.monotonic_ns()
        outcome = self._price()
        if outcome.figures is not None and outcome.book is not None:
            self._block.time(self._clock.monotonic_ns() - begun_ns)
            if begun_ns >= self._pictures_due_ns:
                self._pictures_due_ns = begun_ns + PICTURES_NS
                self._draw(outcome.figures, outcome.book)
        # The positions have grown older meanwhile: many scenarios of many options take seconds.
        outcome = replace(outcome, age_s=outcome.age_s + (self._clock.monotonic_ns() - begun_ns) / 1e9)
        self._publish(outcome)
        return outcome

    def missed(self, turns: int) -> None:
        """Count turns that passed without a run."""
        self._block.late += turns

    def _price(self) -> Outcome:
        try:
            snapshot = self._reader.read()
        except TransientError:
            self._beat_ns = -1
            return Outcome(RiskState.NO_ENGINE, NAN)
        age_s = self._age_s(snapshot.heartbeat_ns)
        self._follow(snapshot.scalar(DEGRADED))
        if age_s > self._options.stale_after_s:
            return Outcome(RiskState.STALE, age_s)
        symbols = symbols_of(snapshot)
        if not symbols or "positions" not in snapshot.tables:
            return Outcome(RiskState.NO_ENGINE, age_s)
        quantity, mark = holdings_of(snapshot, len(symbols))
        try:
            return self._priced(age_s, symbols, quantity, mark)
        except DeskvigilError as error:
            return Outcome(RiskState.FAILED, age_s, str(error))
        except (ArithmeticError, np.linalg.LinAlgError) as error:
            return Outcome(RiskState.FAILED, age_s, f"the book is beyond the range of numbers: {error}")

    def _priced(self, age_s: float, symbols: tuple[str, ...], quantity: FloatArray, mark: FloatArray) -> Outcome:
        held, expired = self._options_held.at(self._clock.now_ns())
        under = {option.symbol for option in held}
        if unknown := sorted(under - set(symbols)):
            raise DeskvigilError(
                f"the option book {self._options.book}: nothing is known of {', '.join(unknown)}, which the engine does not trade"
            )
        priced = np.isfinite(mark) & (mark > 0.0)
        for i, symbol in enumerate(symbols):
            if not np.isfinite(quantity[i]) or ((quantity[i] != 0.0 or symbol in under) and not priced[i]):
                return Outcome(RiskState.NO_MARKS, age_s, f"{symbol}: a quantity of {quantity[i]:g} at {mark[i]:g} USD")
        loading = self._loading_of(symbols)
        stocks = [Position(symbol=symbol, quantity=float(quantity[i])) for i, symbol in enumerate(symbols)]
        # A spot of 1 stands for a price that nobody has and no position needs.
        book = Book.of([*stocks, *held], symbols, np.where(priced, mark, 1.0))
        return Outcome(RiskState.OK, age_s, "", self._simulated(book, loading), book, expired)

    def _simulated(self, book: Book, loading: FloatArray) -> BookRisk:
        options = self._options
        # Of a flat book there is nothing to vary or to twist towards a tail.
        draw = options.draw if book.quantity.any() else "plain"
        simulation = self._simulations.get(draw)
        if simulation is None:
            simulation = self._simulations[draw] = BookSimulation(
                book, loading, scenarios=options.scenarios, seed=options.seed,
                horizon_years=options.horizon_days * TRADING_DAY, var_confidence=options.var_confidence,
                shortfall_confidence=options.shortfall_confidence, draw=draw, accelerator=self._accelerator,
            )  # fmt: skip
        else:
            simulation.take(book)
        found = simulation.run(self._block.runs if options.scenario_set == "fresh" else 0)
        figures = (
            found.var, found.var_standard_error, found.expected_shortfall, found.shortfall_standard_error,
        )  # fmt: skip
        if not np.isfinite(figures).all():
            raise DeskvigilError(f"VaR, ES and their errors are not all finite: {figures}")
        return found

    def _draw(self, figures: BookRisk, book: Book) -> None:
        """Make the tables that people look at."""
        options = self._options
        grid = stress_grid(book, options.stress_spots, options.stress_volatilities)
        volatilities, spots = np.meshgrid(options.stress_volatilities, options.stress_spots, indexing="ij")
        self._pictures = Pictures(
            histogram(figures), convergence(figures, options.var_confidence),
            np.column_stack([volatilities.ravel(), spots.ravel(), grid.ravel()]),
        )  # fmt: skip

    @property
    def pace(self) -> int:
        """How many times longer than usual to wait between two runs."""
        return self._options.degraded_factor if self._degraded else 1

    def _follow(self, mode: float) -> None:
        """Do less, and give memory back once, when the engine says that it is degraded; NaN says nothing."""
        degraded = mode > 0.0
        if degraded is not self._degraded:
            self._degraded = degraded
            log.warning("%s, as the engine", "degraded: fewer runs" if degraded else "no longer degraded")
            if degraded:
                relieve()

    def _age_s(self, heartbeat_ns: int) -> float:
        """Age of the positions: by the monotonic clock since their heartbeat was seen to move.

        Only a heartbeat seen for the first time is held against the wall clock, which may have been stepped.
        """
        now_ns = self._clock.monotonic_ns()
        if heartbeat_ns != self._beat_ns:
            first = self._beat_ns < 0
            already_ns = max(0, self._clock.now_ns() - heartbeat_ns) if first else 0
            self._beat_ns, self._beat_seen_ns = heartbeat_ns, now_ns - already_ns
        return (now_ns - self._beat_seen_ns) / 1e9

    def _loading_of(self, symbols: tuple[str, ...]) -> FloatArray:
        """The factor of these instruments' covariance; DeskvigilError where what is known is none."""
        if self._covariance is not None and self._covariance.symbols == symbols:
            return self._covariance.loading
        self._covariance = None
        options = self._options
        self._covariance = covariance_for(
            symbols, self._known, default_volatility=options.default_daily_volatility, horizon_days=options.horizon_days
        )
        self._simulations.clear()
        self._pictures_due_ns = 0
        self._block.begin(symbols, self._covariance)
        return self._covariance.loading

    def _publish(self, outcome: Outcome) -> None:
        if outcome.state is not self._state:
            log.info("risk state is %s%s", outcome.state.value, f": {outcome.words}" if outcome.words else "")
            self._state = outcome.state
        self._block.publish(outcome, self._pictures, self._accelerator.figures(), self._clock.now_ns())


def run_until(runner: RiskRunner, clock: Clock, stop: threading.Event, period_s: float) -> None:
    """Let a runner run at a fixed rate, without drift, until `stop` is set; missed turns are counted, not made up for."""
    period_ns = round(period_s * 1e9)
    due_ns = clock.monotonic_ns()
    while not stop.is_set():
        runner.run()
        due_ns += period_ns * runner.pace
        behind_ns = clock.monotonic_ns() - due_ns
        if behind_ns > 0:
            turns = behind_ns // period_ns + 1
            runner.missed(turns)
            due_ns += turns * period_ns
        clock.wait(stop, max(0.0, (due_ns - clock.monotonic_ns()) / 1e9))


def run_risk(options: RiskOptions, paths: RuntimePaths) -> None:
    """Run the risk process until SIGTERM or SIGINT, or until the parent is gone; call it in a process's main thread."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    end_with_parent()
    warm()  # before the first heartbeat: who gave a sign of life is expected to go on giving them
    clock = SystemClock()
    runner = RiskRunner(options, paths.engine_block, paths.risk_block, clock, load_covariances())
    run_until(runner, clock, stop, options.period_s)
