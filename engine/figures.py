"""Figures: what the synthetic market is made of, read from data/market.json and data/book.json.

market.json holds what was measured on recorded days (python -m validation.calibrate writes it);
book.json holds what was chosen: the instruments and how lively they are, each choice with a reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.events import Instrument
from metrics.errors import ConfigError
from metrics.frame import FloatArray

DATA_DIR = Path(__file__).resolve().parents[1] / "data"
MARKET_FILE = DATA_DIR / "market.json"
BOOK_FILE = DATA_DIR / "book.json"
GROUPS = ("limit", "withdraw", "take")


@dataclass(frozen=True, eq=False)
class Quantiles:
    """A distribution as a table: levels float64 (k,) rising in 0..1, values float64 (k,) not falling."""

    levels: FloatArray
    values: FloatArray

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Quantiles:
        levels, values = np.array(raw["levels"], dtype=np.float64), np.array(raw["values"], dtype=np.float64)
        if (
            levels.shape != values.shape
            or len(levels) < 2
            or np.any(np.diff(levels) <= 0)
            or np.any(np.diff(values) < 0)
        ):
            raise ValueError("a quantile table must rise")
        return cls(levels, values)


@dataclass(frozen=True, eq=False)
class MarketFigures:
    """Everything that a synthetic market needs; n instruments, three event groups, p time scales.

    initial_ticks float64 (n,); daily_volatility float64 (n,) of log returns; correlation float64
    (n, n); baseline_per_s float64 (n, 3), pace and activity included; decay_per_s float64 (p,);
    branching float64 (3, 3, p), children of the column's group in the row's; curves float64 (bins,)
    with mean 1. By spread bucket, whose lower ends are spread_from: improve_probability and
    join_probability float64 (buckets,), event_mix float64 (buckets, 3) with its mean mean_mix (3,).
    Sizes are in shares, distances in ticks, improve_share in parts of the spread.
    """

    instruments: tuple[Instrument, ...]
    initial_ticks: FloatArray
    moves_like: tuple[str, ...]
    daily_volatility: FloatArray
    correlation: FloatArray
    baseline_per_s: FloatArray
    decay_per_s: FloatArray
    branching: FloatArray
    activity_curve: FloatArray
    variance_curve: FloatArray
    session_s: float
    improving_size: Quantiles
    other_size: Quantiles
    partial_size: Quantiles
    beyond_size: Quantiles
    clear_probability: float
    reduce_share: float
    sweep_probability: float
    sweep_reach: Quantiles
    spread_from: FloatArray
    improve_probability: FloatArray
    join_probability: FloatArray
    event_mix: FloatArray
    mean_mix: FloatArray
    improve_share: Quantiles
    behind: Quantiles
    cancel_distance: Quantiles
    mean_spread_ticks: float
    resting_per_side: float
    reversion_sessions: float
    latent_step_s: float


@dataclass(frozen=True, eq=False)
class DailyCovariance:
    """Moves of a day: symbols (n,), volatility float64 (n,), correlation float64 (n, n); `source` says of what."""

    symbols: tuple[str, ...]
    volatility: FloatArray
    correlation: FloatArray
    source: str


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != 1:
        raise ConfigError(f"{path} is not a figures file of format 1")
    return raw


def load_market(market: Path = MARKET_FILE, book: Path = BOOK_FILE, *, activity: float | None = None) -> MarketFigures:
    """Read the figures of the default market; ConfigError where a file is missing or does not fit the other.

    activity: events per event of the recorded pace; None takes the book's own.
    """
    measured, chosen = _read(market), _read(book)
    try:
        return _market(measured, chosen, chosen["activity"] if activity is None else activity)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{market} and {book} do not fit together: {error!r}") from error


def _market(measured: dict[str, Any], chosen: dict[str, Any], activity: float) -> MarketFigures:
    flow, daily, rows = measured["flow"], measured["daily"], chosen["instruments"]
    if tuple(flow["hawkes"]["groups"]) != GROUPS:
        raise ValueError(f"event groups must be {GROUPS}")
    tick, lot = chosen["tick_size_usd"], chosen["lot_size"]
    pick = [daily["symbols"].index(row["moves_like"]) for row in rows]
    pace = np.array([measured["pace"][row["pace_like"]] for row in rows])
    rates, where, taker = flow["rates_per_s"], flow["placement"], flow["aggressor"]
    gone = flow["withdrawal"]
    mix = np.array([rates["limit"], rates["reduce"] + rates["cancel"], rates["ioc"]])
    return MarketFigures(
        instruments=tuple(Instrument(row["symbol"], tick, lot) for row in rows),
        initial_ticks=np.array([row["initial_price_usd"] / tick for row in rows]),
        moves_like=tuple(row["moves_like"] for row in rows),
        daily_volatility=np.array(daily["daily_volatility"])[pick],
        correlation=np.array(daily["correlation"])[np.ix_(pick, pick)],
        baseline_per_s=activity * pace[:, None] * np.array(flow["hawkes"]["baseline_per_s"])[None, :],
        decay_per_s=np.array(flow["hawkes"]["decays_per_s"]),
        branching=np.array(flow["hawkes"]["branching"]),
        activity_curve=np.array(flow["activity_curve"]),
        variance_curve=np.array(measured["variance_curve"]),
        session_s=flow["session_s"],
        improving_size=Quantiles.of(where["improving_size_shares"]),
        other_size=Quantiles.of(where["other_size_shares"]),
        partial_size=Quantiles.of(taker["partial_size_shares"]),
        beyond_size=Quantiles.of(taker["sweep_beyond_shares"]),
        clear_probability=taker["clear_probability"],
        reduce_share=rates["reduce"] / (rates["reduce"] + rates["cancel"]),
        sweep_probability=taker["sweep_probability"],
        sweep_reach=Quantiles.of(taker["sweep_reach_ticks"]),
        spread_from=np.array(where["spread_from_ticks"], dtype=np.float64),
        improve_probability=np.array(where["improve_probability"]),
        join_probability=np.array(where["join_probability"]),
        event_mix=np.array(flow["event_mix_by_spread"]),
        mean_mix=mix / mix.sum(),
        improve_share=Quantiles.of(where["improve_share_of_spread"]),
        behind=Quantiles.of(where["behind_ticks"]),
        cancel_distance=Quantiles.of(gone["distance_ticks"]),
        mean_spread_ticks=measured["recorded"][flow["source"]]["spread_ticks"]["mean"],
        resting_per_side=chosen["depth_factor"] * flow["resting_orders_per_side"],
        reversion_sessions=float(chosen["reversion_sessions"]),
        latent_step_s=chosen["latent_step_s"],
    )


def load_volume_curve(market: Path = MARKET_FILE) -> FloatArray:
    """The share of a session's volume traded until the ends of equal stretches of it, float64 (bins + 1,), from 0 to 1.

    ConfigError where the file is missing or has no such curve.
    """
    try:
        curve = np.array(_read(market)["volume"]["curve"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{market} has no volume curve: {error!r}") from error
    if curve.ndim != 1 or len(curve) == 0 or not np.all(curve >= 0.0) or not curve.sum() > 0.0:
        raise ConfigError(f"{market}: the volume curve must be numbers of 0 or more, one above 0")
    return np.concatenate([[0.0], np.cumsum(curve) / curve.sum()])


def load_covariances(market: Path = MARKET_FILE, book: Path = BOOK_FILE) -> tuple[DailyCovariance, ...]:
    """What is known of how instruments move in a day: the default market's, the recorded stocks', the recorded coins'.

    Between the groups nothing is known. ConfigError where a file is missing or damaged.
    """
    measured, figures = _read(market), load_market(market, book)
    daily = measured["daily"]
    span = f"daily closes {daily['first_day']} to {daily['last_day']}"
    names = tuple(instrument.symbol for instrument in figures.instruments)
    coins = measured["venues"]["btcusdt_spot"]
    return (
        DailyCovariance(names, figures.daily_volatility, figures.correlation, f"figures of the synthetic market ({span})"),
        DailyCovariance(tuple(daily["symbols"]), np.array(daily["daily_volatility"]), np.array(daily["correlation"]), span),
        DailyCovariance(
            ("BTCUSDT",), np.array([coins["daily_volatility"]]), np.eye(1),
            f"1 s mid returns of {coins['span_s']:.0f} recorded seconds, scaled to a day",
        ),
    )  # fmt: skip
