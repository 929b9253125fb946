"""SyntheticMarket: a seeded market of correlated instruments, its figures calibrated on recorded days.

Its order flow does not see our own orders, just as a recording would not: it keeps a shadow book of
its own. Where our resting order trades in place of one of its own, that one is withdrawn a little
later, so a withdrawal of an order that is gone already is part of the normal flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.events import EVENT, EventArray, Instrument, empty_events
from engine.figures import MarketFigures, Quantiles, load_market
from engine.flow import GHOSTS, KEEP, Counters, Ghosts, Habits, Latents, Placing, Tables, World, generate
from engine.hawkes import Arrivals, Streams, Table
from engine.shadow import CAPACITY, Shadow
from metrics.frame import FloatArray, IntArray

NS = 1_000_000_000


class SyntheticMarket:
    """Generates the events of all instruments in time order, lazily.

    The same figures, seed and start give bit-identical events, independent of how `fill` is called.
    Time is session time: sessions of `session_ns` repeat back to back, the first begins at 0, and
    `start_ns` says where in it the market opens its books. Not safe for use by two threads at once.
    """

    def __init__(self, figures: MarketFigures, seed: int, *, start_ns: int = 0) -> None:
        if start_ns < 0:
            raise ValueError(f"start_ns must not be negative, it is {start_ns}")
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed must fit 64 bits, it is {seed}")
        if 4.0 * figures.resting_per_side >= CAPACITY:
            raise ValueError(f"resting_per_side must be below {CAPACITY // 4}, it is {figures.resting_per_side}")
        self.instruments: tuple[Instrument, ...] = figures.instruments
        self.figures = figures
        self.seed = seed
        self.session_ns = round(figures.session_s * NS)
        self.start_ns = start_ns
        self.now_ns = start_ns
        n = len(self.instruments)
        opening = max(2 * KEEP, round(2 * figures.resting_per_side))
        self._counters: Counters = (
            _zeros(n), np.full(n, opening, dtype=np.int64), _zeros(n), np.full(n, start_ns, dtype=np.int64),
            np.array([start_ns], dtype=np.int64),
        )  # fmt: skip
        groups, scales = figures.baseline_per_s.shape[1], len(figures.decay_per_s)
        # One starting point per instrument, none derived from another's sequence.
        words = np.asarray(np.random.SeedSequence(seed).generate_state(n, dtype=np.uint64), dtype=np.uint64)
        self._streams: Streams = (words, np.full(n, start_ns, dtype=np.int64), np.zeros((n, groups, scales)))
        side = (n, 2, CAPACITY)
        self._shadow: Shadow = (_zeros(*side), _zeros(*side), _zeros(*side), _zeros(n, 2))
        ring = (n, GHOSTS)
        self._ghosts: Ghosts = (_zeros(*ring), _zeros(*ring), _zeros(*ring), _zeros(*ring), _zeros(n), _zeros(n))
        self._arrivals = _arrivals_of(figures, self.session_ns)
        self._latents, self._world = _latents_of(figures, seed, start_ns, self.session_ns)
        self._habits: Habits = (
            figures.mean_spread_ticks / 2.0, figures.resting_per_side, figures.reduce_share,
            figures.clear_probability, figures.sweep_probability,
        )  # fmt: skip
        self._placing: Placing = (
            figures.spread_from, figures.improve_probability, figures.join_probability, figures.event_mix, figures.mean_mix,
        )  # fmt: skip
        lots = 1.0 / self.instruments[0].lot_size
        self._tables: Tables = (
            _table(figures.improving_size, lots), _table(figures.other_size, lots), _table(figures.partial_size, lots),
            _table(figures.beyond_size, lots), _table(figures.sweep_reach), _table(figures.improve_share),
            _table(figures.behind), _table(figures.cancel_distance),
        )  # fmt: skip

    def fill(self, out: EventArray, until_ns: int) -> int:
        """Write the next events with t_ns < until_ns into `out` (dtype EVENT); returns how many.

        A return of len(out) means that there may be more: call again with the same until_ns.
        """
        if out.dtype != EVENT:
            raise ValueError(f"out must have dtype EVENT, it has {out.dtype}")
        written = generate(
            out, until_ns, self._counters, self._streams, self._shadow, self._ghosts, self._latents, self._arrivals,
            self._world, self._habits, self._placing, self._tables,
        )  # fmt: skip
        if written < len(out):
            self.now_ns = max(self.now_ns, until_ns)
        elif written:
            self.now_ns = int(out["t_ns"][written - 1])
        return written

    def state(self) -> list[npt.NDArray[Any]]:
        """Everything that changes as events are drawn, copies: `restore` makes a market of the same figures and seed go on from there."""
        return [array.copy() for array in (*self._moving(), np.array([self.now_ns]))]

    def restore(self, state: Sequence[npt.NDArray[Any]]) -> None:
        """Go on from a `state`; ValueError where it is of a market of another size."""
        *arrays, now_ns = state
        for mine, other in zip(self._moving(), arrays, strict=True):
            if mine.shape != other.shape or mine.dtype != other.dtype:
                raise ValueError("the state is of another market")
            mine[...] = other
        self.now_ns = int(now_ns[0])

    def _moving(self) -> tuple[npt.NDArray[Any], ...]:
        return *self._counters, *self._streams, *self._shadow, *self._ghosts, *self._latents[:2]

    def session_of(self, t_ns: int) -> int:
        """Number of the session that a time lies in; the first is 0."""
        return t_ns // self.session_ns

    def next_boundary_ns(self, t_ns: int) -> int:
        """Start of the session after the one that a time lies in."""
        return (self.session_of(t_ns) + 1) * self.session_ns

    def latent_prices_usd(self) -> FloatArray:
        """Latent value of each instrument as of the last event, float64 (n,): what its mid is drawn to."""
        ticks = self.figures.initial_ticks * np.exp(self._latents[0])
        sizes: FloatArray = np.array([instrument.tick_size_usd for instrument in self.instruments])
        return ticks * sizes


def _zeros(*shape: int) -> IntArray:
    return np.zeros(shape, dtype=np.int64)


def _table(quantiles: Quantiles, scale: float = 1.0) -> Table:
    return quantiles.levels, quantiles.values * scale


def _arrivals_of(figures: MarketFigures, session_ns: int) -> Arrivals:
    pull: FloatArray = np.ascontiguousarray((figures.branching * figures.decay_per_s).sum(axis=0))
    curve = figures.activity_curve
    baseline = np.ascontiguousarray(figures.baseline_per_s)
    return baseline, figures.decay_per_s, figures.branching, pull, curve, float(curve.max()), session_ns


def _latents_of(figures: MarketFigures, seed: int, start_ns: int, session_ns: int) -> tuple[Latents, World]:
    step_ns = round(figures.latent_step_s * NS)
    steps_per_session = session_ns / step_ns
    covariance = figures.correlation * np.outer(figures.daily_volatility, figures.daily_volatility)
    loading = np.ascontiguousarray(np.linalg.cholesky(covariance / steps_per_session))
    reversion = float(np.log(2.0) / (figures.reversion_sessions * steps_per_session))
    step = np.array([start_ns // step_ns], dtype=np.int64)
    latents = (np.zeros(len(figures.instruments)), step, loading, figures.initial_ticks)
    return latents, (step_ns, session_ns, np.uint64(seed), reversion, figures.variance_curve)


def warm() -> None:
    """Compile (or load) the generator's kernel with a tiny run."""
    SyntheticMarket(load_market(), seed=0).fill(empty_events(4), 1)
