"""Options of the risk process; the defaults are what ships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, kw_only=True)
class RiskOptions:
    """How the position's risk is estimated.

    scenarios per run; period_s between runs. scenario_set "fixed" draws the same market moves in
    every run, so that the figure moves only when positions or prices do; "fresh" draws new ones, so
    that its scatter shows. horizon_days scales the daily covariance. default_daily_volatility is
    used for instruments of which nothing is known. stale_after_s: inputs older than this give no
    figure. hang_after_s: silence after which the supervisor replaces the process. degraded_factor: how
    many times longer period_s is while the engine is degraded.
    """

    scenarios: Annotated[int, Ge(1000), Le(1_000_000)] = 10_000
    period_s: Annotated[float, Ge(0.01), Le(60)] = 0.1
    var_confidence: Annotated[float, Gt(0.5), Le(0.9999)] = 0.99
    shortfall_confidence: Annotated[float, Gt(0.5), Le(0.9999)] = 0.975
    horizon_days: Annotated[float, Gt(0), Le(250)] = 1.0
    scenario_set: Literal["fixed", "fresh"] = "fixed"
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 1
    default_daily_volatility: Annotated[float, Gt(0), Le(1)] = 0.03
    stale_after_s: Annotated[float, Gt(0), Le(3600)] = 2.0
    hang_after_s: Annotated[float, Gt(0), Le(3600)] = 3.0
    degraded_factor: Annotated[int, Ge(1), Le(100)] = 5
