"""Comparison: the synthetic market's days beside the recorded one, measured by the same functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.events import EventArray, empty_events
from engine.figures import BOOK_FILE, MARKET_FILE, MarketFigures, load_market
from engine.synthetic import SyntheticMarket
from metrics.frame import FloatArray
from validation.calibration.orderflow import (
    GROUPS,
    aggressors_of,
    face_figures,
    flow_of,
    lifetimes,
    resting_orders,
    withdrawal,
)
from validation.calibration.recordings import ADD, DELETE, OrderDay
from validation.calibration.replayed import replayed_day

CHUNK = 65_536


@dataclass(frozen=True)
class Line:
    """One measure: what the recording gave, what the synthetic market gives."""

    name: str
    recorded: float
    synthetic: float

    @property
    def ratio(self) -> float:
        return self.synthetic / self.recorded if self.recorded else float("nan")


def synthetic_events(figures: MarketFigures, seed: int, seconds: float) -> EventArray:
    """All events of the default market's first seconds."""
    market, parts = SyntheticMarket(figures, seed), []
    while True:
        out = empty_events(CHUNK)
        written = market.fill(out, round(seconds * 1e9))
        parts.append(out[:written])
        if written < CHUNK:
            return np.concatenate(parts)


def measures(day: OrderDay) -> dict[str, float]:
    """A day in the numbers that are compared."""
    face, (_, kind) = face_figures(day), flow_of(day)
    spread, size = face["spread_ticks"], day.qty[day.kind == ADD]
    gone = withdrawal(day)
    takes, life = aggressors_of(day), lifetimes(day)
    share = {f"{name} share of events": float((kind == k).mean()) for k, name in enumerate(GROUPS)}
    return {
        "events per minute": face["events_per_minute"],
        **share,
        "dispersion of counts, 1 s": face["dispersion"]["1s"],
        "dispersion of counts, 10 s": face["dispersion"]["10s"],
        "dispersion of counts, 60 s": face["dispersion"]["60s"],
        "spread mean, ticks": spread["mean"],
        **{
            f"spread {level:.0%}, ticks": value
            for level, value in zip(spread["levels"], spread["values"], strict=True)
            if level in (0.1, 0.5, 0.9)
        },
        "limit order size mean, shares": float(size.mean()),
        "limit order size median, shares": float(np.median(size)),
        "aggressor size mean, shares": float(takes.qty.mean()),
        "aggressor size median, shares": float(np.median(takes.qty)),
        "depth at touch, shares": face["depth_shares_by_level"][0],
        "depth at level 5, shares": face["depth_shares_by_level"][4],
        "withdrawals at the touch": gone["touch_probability"],
        "withdrawals that clear the touch": gone["clears_touch_probability"],
        "aggressors that clear the touch": float((takes.qty >= takes.shown).mean()),
        "aggressors that sweep a price": float((takes.reach > 0).mean()),
        "resting orders a side in 5 levels": resting_orders(day),
        "lifetime median, s": float(np.median(life)),
        "lifetime 90 %, s": float(np.quantile(life, 0.9)),
        "withdrawn share of orders": float((day.kind == DELETE).sum() / len(size)),
        **{f"mid volatility on a {every} grid": value for every, value in face["mid_volatility_per_session"].items()},
        "activity, first half hour over mean": face["activity_curve"][0],
        "activity, middle of the session over mean": float(np.mean(face["activity_curve"][5:8])),
    }


def compare(recorded: OrderDay, *, seed: int = 1, market: Path = MARKET_FILE, book: Path = BOOK_FILE) -> list[Line]:
    """The first instrument at the recorded pace (activity 1) beside the recorded day."""
    figures = load_market(market, book, activity=1.0)
    events = synthetic_events(figures, seed, figures.session_s)
    day = replayed_day(events[events["instrument"] == 0], round(figures.session_s * 1e9))
    mine, theirs = measures(day), measures(recorded)
    return [Line(name, value, mine[name]) for name, value in theirs.items()]


def correlation_of(events: EventArray, figures: MarketFigures, seconds: float, every_s: float) -> FloatArray:
    """Correlation of the instruments' mid returns on a grid, float64 (n, n)."""
    mids = []
    for i in range(len(figures.instruments)):
        day = replayed_day(events[events["instrument"] == i], round(seconds * 1e9), levels=1)
        index = np.searchsorted(day.time_s, np.arange(every_s, seconds, every_s), side="right") - 1
        mids.append((day.ask_price[index, 0] + day.bid_price[index, 0]) / 2.0)
    matrix: FloatArray = np.corrcoef(np.diff(np.log(np.array(mids)), axis=1))
    return matrix


def print_comparison(lines: list[Line]) -> None:
    """A table for people."""
    print(f"{'measure':44s} {'recorded':>12s} {'synthetic':>12s} {'ratio':>8s}")
    for line in lines:
        print(f"{line.name:44s} {line.recorded:12.4g} {line.synthetic:12.4g} {line.ratio:8.2f}")
