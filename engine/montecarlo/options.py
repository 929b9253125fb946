"""Options of the risk process; the defaults are what ships."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

MOST_SHOCKS = 15


@dataclass(frozen=True, kw_only=True)
class RiskOptions:
    """How the position's risk is estimated.

    scenarios per run; period_s between runs. draw: how scenarios are drawn and corrected, a choice of variance
    reduction (engine/montecarlo/simulation.py). book: a file of option positions that are held besides what the
    engine trades (data/options.json is one); none by default. scenario_set "fixed" draws the same market moves in
    every run, so that the figure moves only when positions or prices do; "fresh" draws new ones, so
    that its scatter shows. horizon_days scales the daily covariance. default_daily_volatility is
    used for instruments of which nothing is known. stale_after_s: inputs older than this give no
    figure. hang_after_s: silence after which the supervisor replaces the process. degraded_factor: how
    many times longer period_s is while the engine is degraded. stress_spots, stress_volatilities: the grid's shocks,
    relative (-0.1: ten per cent less), of all spots at once and of all options' volatilities at once.
    device: "auto" simulates on NVIDIA GPUs where they work, "gpu" too and warns where there is none, "cpu" never does;
    the figures have the same bits. gpu_memory_mib: ceiling of the memory taken on each.
    """

    scenarios: Annotated[int, Ge(1000), Le(1_000_000)] = 2_000
    period_s: Annotated[float, Ge(0.01), Le(60)] = 0.1
    var_confidence: Annotated[float, Gt(0.5), Le(0.9999)] = 0.99
    shortfall_confidence: Annotated[float, Gt(0.5), Le(0.9999)] = 0.975
    horizon_days: Annotated[float, Gt(0), Le(250)] = 1.0
    draw: Literal["plain", "antithetic", "sobol", "control", "importance"] = "control"
    book: Path | None = None
    scenario_set: Literal["fixed", "fresh"] = "fixed"
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 1
    default_daily_volatility: Annotated[float, Gt(0), Le(1)] = 0.03
    stale_after_s: Annotated[float, Gt(0), Le(3600)] = 2.0
    hang_after_s: Annotated[float, Gt(0), Le(3600)] = 5.0
    degraded_factor: Annotated[int, Ge(1), Le(100)] = 5
    device: Literal["auto", "cpu", "gpu"] = "auto"
    gpu_memory_mib: Annotated[int, Ge(1), Le(1 << 20)] = 256
    stress_spots: tuple[float, ...] = (-0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2)
    stress_volatilities: tuple[float, ...] = (-0.25, 0.0, 0.25, 0.5, 1.0)

    def __post_init__(self) -> None:
        if self.draw == "antithetic" and self.scenarios % 2:
            raise ValueError(f"antithetic scenarios come in pairs: {self.scenarios} is odd")
        for name in ("stress_spots", "stress_volatilities"):
            shocks = getattr(self, name)
            if not 1 <= len(shocks) <= MOST_SHOCKS or not all(math.isfinite(one) and one > -1.0 for one in shocks):
                raise ValueError(f"{name} must be 1 to {MOST_SHOCKS} numbers above -1, they are {shocks}")
