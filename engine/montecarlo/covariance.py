"""Covariance: how the engine's instruments move together over the risk horizon, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.figures import DailyCovariance
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

    Raises ValueError where a symbol occurs twice or a group's matrix is not positive definite.
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
    try:
        loading = np.linalg.cholesky(correlation * np.outer(volatility, volatility))
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the covariance of {list(symbols)} is not positive definite") from error
    return Covariance(tuple(symbols), volatility, correlation, np.ascontiguousarray(loading), tuple(source))
