"""How stocks move together: volatilities and a shrunk correlation matrix of daily returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metrics.frame import FloatArray
from validation.calibration.recordings import DailyCloses

TRADING_DAYS = 252


@dataclass(frozen=True, eq=False)
class DailyMoves:
    """volatility float64 (n,): standard deviation of a day's log return; correlation float64 (n, n), positive definite."""

    symbols: tuple[str, ...]
    first: str
    last: str
    days: npt.NDArray[np.int64]
    volatility: FloatArray
    correlation: FloatArray
    shrinkage: float

    def figures(self) -> dict[str, Any]:
        """The measures as plain numbers."""
        return {
            "symbols": list(self.symbols),
            "first_day": self.first,
            "last_day": self.last,
            "returns_per_symbol": self.days.tolist(),
            "daily_volatility": self.volatility.tolist(),
            "correlation": self.correlation.tolist(),
            "shrinkage": self.shrinkage,
        }


def log_returns(close: FloatArray) -> FloatArray:
    """Daily log returns, NaN where today or yesterday has no close: a gap is never bridged."""
    with np.errstate(invalid="ignore"):
        returns: FloatArray = np.diff(np.log(close), axis=0)
    return returns


def pairwise_correlation(returns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Correlation over each pair's common days, and the variance of each estimate.

    returns float64 (days, n) with NaN gaps. The variance is that of the mean product of
    standardised returns, as Schaefer & Strimmer (2005), eq. 8, need it.
    """
    present = ~np.isnan(returns)
    mean = np.nanmean(returns, axis=0)
    deviation = np.nanstd(returns, axis=0, ddof=1)
    scaled = np.where(present, (returns - mean) / deviation, 0.0)
    days = present.astype(np.float64).T @ present
    correlation = (scaled.T @ scaled) / (days - 1)
    squares = (scaled**2).T @ (scaled**2)
    variance = (squares - days * (correlation * (days - 1) / days) ** 2) * days / (days - 1) ** 3
    return correlation, variance


def shrink(correlation: FloatArray, variance: FloatArray) -> tuple[FloatArray, float]:
    """Shrink towards the constant mean correlation with Schaefer & Strimmer's intensity (target D without variances)."""
    away = ~np.eye(len(correlation), dtype=bool)
    mean = correlation[away].mean()
    scatter = ((correlation[away] - mean) ** 2).sum()
    intensity = float(np.clip(variance[away].sum() / scatter, 0.0, 1.0)) if scatter > 0.0 else 1.0
    shrunk = np.where(away, (1 - intensity) * correlation + intensity * mean, 1.0)
    return nearest_correlation(shrunk), intensity


def nearest_correlation(matrix: FloatArray, floor: float = 1e-4) -> FloatArray:
    """Lift eigenvalues below `floor` (pairwise estimates need not be positive definite) and rescale to a unit diagonal."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values.min() < floor:
        matrix = (vectors * np.maximum(values, floor)) @ vectors.T
    scale = 1.0 / np.sqrt(np.diag(matrix))
    result: FloatArray = matrix * scale[:, None] * scale[None, :]
    return (result + result.T) / 2


def measure_moves(closes: DailyCloses, first: str) -> DailyMoves:
    """Volatility and correlation of all stocks from day `first` on."""
    rows = closes.dates >= np.datetime64(first)
    returns = log_returns(closes.close[rows])
    correlation, variance = pairwise_correlation(returns)
    shrunk, intensity = shrink(correlation, variance)
    dates = closes.dates[rows]
    return DailyMoves(
        symbols=closes.symbols,
        first=str(dates[0]),
        last=str(dates[-1]),
        days=(~np.isnan(returns)).sum(axis=0).astype(np.int64),
        volatility=np.nanstd(returns, axis=0, ddof=1),
        correlation=shrunk,
        shrinkage=intensity,
    )
