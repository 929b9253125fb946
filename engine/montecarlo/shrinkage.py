"""Covariance from daily prices: returns with gaps, shrunk, and made positive definite.

Correlations of n series over few days are noisy; Ledoit & Wolf ("A well-conditioned estimator for
large-dimensional covariance matrices", 2004) pull such a matrix towards a simple target, by the ratio of its
entries' own scatter to their distance from the target. Here the matrix is the correlation and the target
"uncorrelated", so volatilities stay what was measured; and the scatter is a correlation's, by its
influence function x y - r (x^2 + y^2) / 2 of standardised returns. Their formula for covariances, x y - r, counts
the scatter of volatilities as well and shrinks strong correlations far too much (tested). With gaps each
pair of series uses the days that both have; what that does to positive definiteness is repaired by
lifting the eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.figures import DailyCovariance
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

LEAST_DAYS: Final = 20  # returns that each pair of series needs to share
LOWEST_EIGENVALUE: Final = 1e-6


def daily_covariance(symbols: Sequence[str], closes: FloatArray, source: str) -> DailyCovariance:
    """Estimate how daily log returns move together from closing prices, float64 (days, n), NaN where there is none.

    A return needs both of its days. A price that never moves has no volatility and no correlation.
    DeskvigilError names the symbols where a price is not positive or a pair shares fewer than 20 returns.
    """
    prices = np.array(closes, dtype=np.float64)
    if prices.ndim != 2 or prices.shape[1] != len(symbols) or not symbols:
        raise DeskvigilError(f"closes must be (days, {len(symbols)}) for {list(symbols)}, they are {prices.shape}")
    for i, symbol in enumerate(symbols):
        if np.any(prices[:, i] <= 0.0) or np.any(np.isinf(prices[:, i])):
            raise DeskvigilError(f"the closes of {symbol} must be finite and above 0")
    returns = np.diff(np.log(prices), axis=0)
    there = np.isfinite(returns)
    shared = there.T.astype(np.float64) @ there
    if shared.min() < LEAST_DAYS:
        i, j = divmod(int(np.argmin(shared)), len(symbols))
        raise DeskvigilError(
            f"{symbols[i]} and {symbols[j]} share {shared[i, j]:.0f} daily returns, {LEAST_DAYS} are needed"
        )
    mean = np.nanmean(returns, axis=0)
    volatility = np.sqrt(np.nanmean(np.square(returns - mean), axis=0))
    moves = volatility > 1e-12
    standard = np.where(there & moves, (returns - mean) / np.where(moves, volatility, 1.0), 0.0)
    correlation, shrunk = _shrink(standard, shared)
    correlation, lifted = _lift(correlation)
    note = f"{source}, {len(returns)} returns, shrunk by {shrunk:.0%}{', eigenvalues lifted' if lifted else ''}"
    return DailyCovariance(tuple(symbols), volatility, correlation, note)


def _shrink(standard: FloatArray, shared: FloatArray) -> tuple[FloatArray, float]:
    """Correlation of standardised returns (days, n), 0 where missing, and the share of the target in it."""
    sample = (standard.T @ standard) / shared
    there = (standard != 0.0).astype(np.float64)
    squares = np.square(standard)
    both, cubes = (squares.T @ squares) / shared, ((squares * standard).T @ standard) / shared
    fourths = (np.square(squares).T @ there) / shared
    scatter = both - sample * (cubes + cubes.T) + 0.25 * np.square(sample) * (fourths + fourths.T + 2.0 * both)
    noise = float((scatter / shared).sum())
    distance = float(np.square(sample - np.eye(len(sample))).sum())
    share = min(max(noise, 0.0) / distance, 1.0) if distance > 0.0 else 1.0
    correlation = (1.0 - share) * sample
    np.fill_diagonal(correlation, 1.0)
    return correlation, share


def _lift(correlation: FloatArray) -> tuple[FloatArray, bool]:
    """The matrix with its eigenvalues lifted to the lowest allowed and its diagonal back at 1, and whether that was needed."""
    values, vectors = np.linalg.eigh(correlation)
    if values[0] >= LOWEST_EIGENVALUE:
        return correlation, False
    lifted = (vectors * np.maximum(values, LOWEST_EIGENVALUE)) @ vectors.T
    scale = np.sqrt(np.diag(lifted))
    result: FloatArray = lifted / np.outer(scale, scale)
    np.fill_diagonal(result, 1.0)
    return 0.5 * (result + result.T), True
