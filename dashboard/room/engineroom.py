"""EngineRoom: what the engine's telemetry says beside series, in the dashboard's words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cause:
    """Why trading is restricted: scope "all", a symbol, strategy:NAME or client:NAME; state REDUCING or HALTED."""

    scope: str
    what: str
    state: str
    who: str
    reason: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class SlowOrder:
    """One of the slowest orders; durations in seconds, parts in the order of PARTS, which add up to the total."""

    t_ms: int
    order_id: int
    symbol: str
    filled: bool
    total_s: float
    parts_s: tuple[float, float, float, float]


PARTS = ("market data", "decision", "gates", "book and queue")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of sums with its 95 % interval; NaN where there is nothing to go by."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class AlgoFigures:
    """One algorithm's finished parents: how many, fill (ratio), slippage (bps), and both less the baseline's."""

    name: str
    parents: int
    fill: Ratio
    slippage: Ratio
    fill_against: Ratio = field(default_factory=Ratio)
    slippage_against: Ratio = field(default_factory=Ratio)


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """absence: why the engine is not there, "" while it is; causes: None where the engine has not told any yet.

    baseline names the algorithm the others are compared with; parents: how many finished ones the figures cover.
    """

    absence: str = ""
    causes: tuple[Cause, ...] | None = None
    slowest: tuple[SlowOrder, ...] = ()
    algos: tuple[AlgoFigures, ...] = ()
    baseline: str = ""
    parents: int = 0
    journal_record_bytes: int = 0
