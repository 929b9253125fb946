"""Covariance: how the engine's instruments move together over the risk horizon, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.figures import DailyCovariance
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray


@dataclass(frozen=True, eq=False)
class Covariance:
    """volatility float64 (n,) of returns over the horizon; correlation and loading float64 (n, n).

    loading is the lower Cholesky factor of the covariance. source (n,) tells for every symbol what
    its figure rests on; between groups of different sources the correlation is 0, as unknown.
    """

    symbols: tuple[str, ...]
    volatility: FloatArray
    correlation: FloatArray
    loading: FloatArray
    source: tuple[str, ...]


def covariance_for(
    symbols: Sequence[str], known: Sequence[DailyCovariance], *, default_volatility: float, horizon_days: float = 1.0
) -> Covariance:
    """Put together the covariance of some instruments; the first group that knows a symbol speaks for it.

    ValueError where a symbol occurs twice; DeskvigilError where a group's matrix is not positive definite.
    """
    if len(set(symbols)) != len(symbols):
        raise ValueError(f"symbols must differ: {list(symbols)}")
    n = len(symbols)
    volatility, correlation = np.full(n, default_volatility), np.eye(n)
    source = [f"default volatility of {default_volatility:.1%} a day, uncorrelated"] * n
    taken: set[int] = set()
    for group in known:
        here = [
            (i, group.symbols.index(name)) for i, name in enumerate(symbols) if name in group.symbols and i not in taken
        ]
        if not here:
            continue
        ours, theirs = [i for i, _ in here], [j for _, j in here]
        volatility[ours] = group.volatility[theirs]
        correlation[np.ix_(ours, ours)] = group.correlation[np.ix_(theirs, theirs)]
        for i in ours:
            source[i] = group.source
        taken.update(ours)
    volatility = volatility * np.sqrt(horizon_days)
    loading = correlation_factor(correlation, f"{list(symbols)}") * volatility[:, None]
    return Covariance(tuple(symbols), volatility, correlation, np.ascontiguousarray(loading), tuple(source))


def correlation_factor(correlation: FloatArray, of: str) -> FloatArray:
    """Lower factor of a correlation matrix, float64 (n, n): factor times its transpose is the matrix.

    A matrix at the edge (assets that move as one) is moved inside by 1e-8. DeskvigilError, naming `of`, where it is
    no correlation matrix: not finite, not symmetric, a diagonal other than 1, or not positive semidefinite.
    """
    if correlation.ndim != 2 or correlation.shape[0] != correlation.shape[1] or not np.isfinite(correlation).all():
        raise DeskvigilError(f"the correlation of {of} must be a square of finite numbers")
    if np.abs(correlation - correlation.T).max() > 1e-9 or np.abs(np.diag(correlation) - 1.0).max() > 1e-9:
        raise DeskvigilError(f"the correlation of {of} must be symmetric, with 1 on its diagonal")
    lowest = float(np.linalg.eigvalsh(correlation)[0])
    if lowest < -1e-8:
        raise DeskvigilError(f"the correlation of {of} is not positive definite: its lowest eigenvalue is {lowest:.3g}")
    if lowest < 1e-10:
        correlation = (correlation + 1e-8 * np.eye(len(correlation))) / (1.0 + 1e-8)
    return np.asarray(np.linalg.cholesky(correlation), dtype=np.float64)
