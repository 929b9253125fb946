"""Distribution: what a simulation's losses look like, for people: a histogram, and how VaR settles with their number."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from engine.montecarlo.simulation import BookRisk
from engine.montecarlo.tail import tail_size, var_of_tail
from metrics.frame import FloatArray

BINS: Final = 48
STEPS: Final = 24
FEWEST: Final = 100  # scenarios that the convergence begins with


def histogram(risk: BookRisk) -> FloatArray:
    """Profit and loss in equal bins, float64 (BINS, 3): low and high in USD, share of the probability.

    The shares add up to 1; with importance sampling only on average, as its many scenarios lie in the tail.
    A book that cannot move has one value, and all of it in one bin.
    """
    gains = risk.gains.astype(np.float64)
    low, high = float(gains.min()), float(gains.max())
    if high - low <= BINS * math.ulp(max(abs(low), abs(high))):  # no room for bins between them
        low, high = low - max(0.5, 1e-9 * abs(low)), high + max(0.5, 1e-9 * abs(high))
    found, edges = np.histogram(gains, BINS, (low, high), weights=risk.weights)
    return np.column_stack([edges[:-1], edges[1:], found / len(gains)])


def convergence(risk: BookRisk, confidence: float) -> FloatArray:
    """VaR of the first n scenarios alone, float64 (steps, 3): n rising to all of them, VaR and its standard error in USD.

    Without the control variate's correction, which needs all scenarios.
    """
    losses = -risk.gains.astype(np.float64)
    total = len(losses)
    counts = np.unique(np.geomspace(min(FEWEST, total), total, STEPS).round().astype(np.int64))
    rows = []
    for n in counts.tolist():
        if risk.weights is None:
            kept = tail_size(n, confidence, confidence)
            tail = np.sort(np.partition(losses[:n], n - kept)[n - kept :])[::-1]
            rows.append((n, *var_of_tail(tail, n, confidence)))
        else:
            rows.append((n, *_weighted(losses[:n], risk.weights[:n], confidence)))
    return np.array(rows, dtype=np.float64)


def _weighted(losses: FloatArray, ratio: FloatArray, confidence: float) -> tuple[float, float]:
    """VaR of losses with likelihood ratios, and its standard error by that of the tail's probability."""
    order, n = np.argsort(-losses), len(losses)
    beyond = np.cumsum(ratio[order]) / n

    def quantile(probability: float) -> float:
        return float(np.interp(probability, beyond, losses[order]))

    rare = 1.0 - confidence
    var = quantile(rare)
    off = float((ratio * (losses > var)).std()) / math.sqrt(n)
    return var, 0.5 * (quantile(rare - off) - quantile(rare + off))
