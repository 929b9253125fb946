"""RiskRoom: what the risk process says of one run, in the dashboard's words."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """One position's value and its shares of VaR and ES, USD."""

    name: str
    quantity: float
    value: float
    var: float
    shortfall: float


@dataclass(frozen=True, slots=True)
class RiskRoom:
    """absence: why the risk process is not there, "" while it is; state: its own word, words: what it says about it.

    Figures in USD, NaN where there are none; age_s of the positions they rest on. bars: (low, high, share) of the
    profit and loss; steps: (scenarios, VaR, standard error); stress: (volatility shock, spot shock, profit), row by row.
    device: what GPUs do ("on", "off", "absent", "failed"), device_words: which, or why not. draw: how scenarios are drawn; confidences of VaR and ES; options alive, expired (left out).
    """

    absence: str = ""
    state: str = ""
    words: str = ""
    var: float = math.nan
    var_error: float = math.nan
    shortfall: float = math.nan
    shortfall_error: float = math.nan
    gross: float = math.nan
    age_s: float = math.nan
    scenarios: float = math.nan
    options: float = math.nan
    expired: float = math.nan
    confidences: tuple[float, float] = (math.nan, math.nan)
    horizon_days: float = math.nan
    draw: str = ""
    device: str = ""
    device_words: str = ""
    positions: tuple[Share, ...] = ()
    bars: tuple[tuple[float, float, float], ...] = ()
    steps: tuple[tuple[float, float, float], ...] = ()
    stress: tuple[tuple[float, float, float], ...] = ()
