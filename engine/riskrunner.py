"""Risk runner: the process that prices the engine's positions, ten times a second.

It reads the engine's telemetry block and publishes one of its own. While there is nothing sound to
price (no engine, positions too old, a position without a price) every figure is NaN and the state
says why: no figure is ever made up.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from engine.buckets import bucket_of
from engine.figures import DailyCovariance, load_covariances
from engine.montecarlo import warm
from engine.montecarlo.covariance import Covariance, covariance_for
from engine.montecarlo.options import RiskOptions
from engine.montecarlo.var import RiskFigures, VarSimulation
from engine.telemetry import BlockReader, BlockSpec, BlockWriter, Snapshot
from metrics.catalogue import series
from metrics.clock import Clock, SystemClock
from metrics.errors import TransientError
from metrics.frame import FloatArray
from metrics.paths import RuntimePaths
from metrics.series import Series
from resources.process import end_with_parent
from resources.relief import relieve

log = logging.getLogger("deskvigil.risk")
NAN = float("nan")
DEGRADED = series("deskvigil_engine_degraded")


class RiskState(Enum):
    """Whether there are figures, and if not, why; the value is the label of deskvigil_risk_state."""

    OK = "ok"
    NO_ENGINE = "no_engine"
    STALE = "stale"
    NO_MARKS = "no_marks"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one run came to; figures only where the state is OK. Exposure float64 (n,) in USD."""

    state: RiskState
    age_s: float
    figures: RiskFigures | None = None
    exposure: FloatArray | None = None


def symbols_of(snapshot: Snapshot) -> tuple[str, ...]:
    """The engine's instruments in index order, from its block's constants."""
    listed: Sequence[Any] = snapshot.spec.info.get("instruments", ())
    return tuple(str(item["symbol"] if isinstance(item, dict) else item) for item in listed)


def exposure_of(snapshot: Snapshot, count: int) -> FloatArray:
    """Signed value of each position in USD, float64 (count,); NaN where one is held that has no mark."""
    exposure = np.zeros(count)
    rows = snapshot.tables["positions"]
    rows = rows[(rows["instrument"] >= 0) & (rows["instrument"] < count)]
    exposure[rows["instrument"]] = np.where(rows["qty"] == 0.0, 0.0, rows["qty"] * rows["mark_usd"])
    return exposure


class RiskRunner:
    """Does one run after the other when told to; owns the risk block. For one thread."""

    def __init__(
        self, options: RiskOptions, engine_block: Path, risk_block: Path, clock: Clock, known: Sequence[DailyCovariance]
    ) -> None:
        self._options, self._clock, self._known = options, clock, tuple(known)
        self._reader = BlockReader(engine_block)
        self._risk_block = risk_block
        self._beat_ns, self._beat_seen_ns = -1, 0
        self._runs, self._late = 0, 0
        self._degraded = False  # as the engine's block said last
        self._state: RiskState | None = None
        self._covariance: Covariance | None = None
        self._simulation: VarSimulation | None = None
        self._block = BlockWriter(risk_block, self._spec(()))
        self._publish(Outcome(RiskState.NO_ENGINE, NAN))

    def run(self) -> Outcome:
        """Read the positions, simulate, publish."""
        begun_ns = self._clock.monotonic_ns()
        outcome = self._price()
        if outcome.figures is not None:
            self._runs += 1
            took_ns = self._clock.monotonic_ns() - begun_ns
            self._block.counts[0, bucket_of(took_ns)] += 1
            self._block.sums_ns[0] += took_ns
        self._publish(outcome)
        return outcome

    def missed(self, turns: int) -> None:
        """Count turns that passed without a run."""
        self._late += turns

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
        simulation = self._simulation_for(symbols)
        exposure = exposure_of(snapshot, len(symbols))
        if not np.isfinite(exposure).all():
            return Outcome(RiskState.NO_MARKS, age_s)
        stream = self._runs if self._options.scenario_set == "fresh" else 0
        return Outcome(RiskState.OK, age_s, simulation.run(exposure, stream), exposure)

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

    def _simulation_for(self, symbols: tuple[str, ...]) -> VarSimulation:
        if self._simulation is not None and self._covariance is not None and self._covariance.symbols == symbols:
            return self._simulation
        options = self._options
        self._covariance = covariance_for(
            symbols, self._known, default_volatility=options.default_daily_volatility, horizon_days=options.horizon_days
        )
        self._simulation = VarSimulation(
            self._covariance.loading, scenarios=options.scenarios, seed=options.seed,
            var_confidence=options.var_confidence, shortfall_confidence=options.shortfall_confidence,
        )  # fmt: skip
        # Other instruments are other series, and a block's series are fixed: a new one takes its place.
        before = self._block
        self._block = BlockWriter(self._risk_block, self._spec(symbols, self._covariance))
        self._block.counts[:], self._block.sums_ns[:] = before.counts, before.sums_ns
        return self._simulation

    def _spec(self, symbols: tuple[str, ...], covariance: Covariance | None = None) -> BlockSpec:
        options = self._options
        var, shortfall = f"{options.var_confidence:g}", f"{options.shortfall_confidence:g}"
        scalars: list[Series] = [
            series("deskvigil_risk_var_usd", confidence=var),
            series("deskvigil_risk_var_standard_error_usd"),
            series("deskvigil_risk_expected_shortfall_usd", confidence=shortfall),
            series("deskvigil_risk_gross_exposure_usd"),
            series("deskvigil_risk_position_age_seconds"),
            series("deskvigil_risk_scenarios"),
            series("deskvigil_risk_runs_total"),
            series("deskvigil_risk_late_runs_total"),
            *(series("deskvigil_risk_state", state=state.value) for state in RiskState),
            *(series("deskvigil_risk_contribution_usd", symbol=symbol) for symbol in symbols),
        ]
        info = {
            "instruments": list(symbols),
            "method": f"{options.scenarios} Gaussian scenarios of linear positions over {options.horizon_days:g} day(s)",
            "scenario_set": options.scenario_set,
            "covariance": dict(zip(symbols, covariance.source, strict=True)) if covariance else {},
        }
        return BlockSpec("risk", tuple(scalars), (series("deskvigil_risk_run_seconds"),), {}, info)

    def _publish(self, outcome: Outcome) -> None:
        if outcome.state is not self._state:
            log.info("risk state is %s", outcome.state.value)
            self._state = outcome.state
        scalars, figures = self._block.scalars, outcome.figures
        scalars[:] = NAN
        if figures is not None and outcome.exposure is not None:
            gross = float(np.abs(outcome.exposure).sum())
            scalars[:4] = figures.var, figures.var_standard_error, figures.expected_shortfall, gross
            scalars[8 + len(RiskState) :] = figures.contributions
        scalars[4:8] = outcome.age_s, self._options.scenarios, self._runs, self._late
        scalars[8 : 8 + len(RiskState)] = [float(state is outcome.state) for state in RiskState]
        self._block.publish(self._clock.now_ns())


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
