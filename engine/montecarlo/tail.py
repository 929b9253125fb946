"""The tail of a loss distribution: the worst of n losses, and the figures that rest on them.

Of n losses in falling order x_1 >= x_2 >= ...:

- VaR at confidence c is their c-quantile, linear between order statistics (NumPy's default, type 7).
- ES at c is the mean of the worst (1 - c) n losses, the last one counted by the fraction that it
  takes part with (Acerbi & Tasche 2002).
- The standard error of VaR is half the distance between the order statistics one binomial standard
  deviation sqrt(n c (1 - c)) on either side of it (the distribution-free interval at one sigma).
- The standard error of ES at c is sqrt((v + c (ES - VaR)^2) / ((1 - c) n)), v the variance of the
  losses in the tail and VaR the quantile at the same c (Manistre & Hancock 2005).

Only the tail is kept: one heap of the worst losses, never a full sort.
"""

from __future__ import annotations

import math

import numpy as np

from engine.jit import inline_kernel
from metrics.frame import FloatArray, IntArray


@inline_kernel
def _sift_down(heap: FloatArray, where: IntArray, size: int, k: int) -> None:
    value, index = heap[k], where[k]
    while True:
        child = 2 * k + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[k], where[k] = heap[child], where[child]
        k = child
    heap[k], where[k] = value, index


@inline_kernel
def offer(heap: FloatArray, where: IntArray, size: int, loss: float, scenario: int) -> int:
    """Offer a loss to the heap of the worst (smallest on top); returns its size afterwards."""
    capacity = len(heap)
    if size == capacity:
        if loss > heap[0]:
            heap[0], where[0] = loss, scenario
            _sift_down(heap, where, size, 0)
        return size
    k = size
    while k > 0 and heap[(k - 1) >> 1] > loss:
        heap[k], where[k] = heap[(k - 1) >> 1], where[(k - 1) >> 1]
        k = (k - 1) >> 1
    heap[k], where[k] = loss, scenario
    return size + 1


@inline_kernel
def sort_heap(heap: FloatArray, where: IntArray, size: int) -> None:
    """Turn the heap into falling order, in place."""
    for last in range(size - 1, 0, -1):
        heap[0], heap[last] = heap[last], heap[0]
        where[0], where[last] = where[last], where[0]
        _sift_down(heap, where, last, 0)


def tail_size(scenarios: int, var_confidence: float, shortfall_confidence: float) -> int:
    """How many of the worst losses the figures need."""
    spread = math.sqrt(scenarios * var_confidence * (1.0 - var_confidence))
    return min(
        scenarios,
        math.ceil(max(scenarios * (1.0 - var_confidence) + spread, scenarios * (1.0 - shortfall_confidence))) + 2,
    )


def _order_statistic(tail: FloatArray, rank: float) -> float:
    """Loss at a fractional rank of the falling order, 0 the largest; ranks outside the tail take its ends."""
    rank = min(max(rank, 0.0), len(tail) - 1.0)
    low = int(rank)
    high = min(low + 1, len(tail) - 1)
    return float(tail[low] + (rank - low) * (tail[high] - tail[low]))


def var_of_tail(tail: FloatArray, scenarios: int, confidence: float) -> tuple[float, float]:
    """VaR and its standard error from the worst losses in falling order."""
    rank = (1.0 - confidence) * (scenarios - 1)
    spread = math.sqrt(scenarios * confidence * (1.0 - confidence))
    error = (_order_statistic(tail, rank - spread) - _order_statistic(tail, rank + spread)) / 2.0
    return _order_statistic(tail, rank), error


def shortfall_weights(scenarios: int, confidence: float) -> FloatArray:
    """Weights on the falling losses whose sum of products is the expected shortfall; they add up to 1."""
    share = scenarios * (1.0 - confidence)
    whole = math.floor(share + 1e-9)
    rest = max(share - whole, 0.0)
    weights = np.full(whole + (rest > 1e-9), 1.0)
    if rest > 1e-9:
        weights[-1] = rest
    normalised: FloatArray = weights / weights.sum()
    return normalised


def shortfall_error(tail: FloatArray, weights: FloatArray, scenarios: int, confidence: float) -> float:
    """Standard error of the expected shortfall, from the worst losses in falling order and the shortfall's weights."""
    worst = tail[: len(weights)]
    shortfall = float(weights @ worst)
    spread = float(weights @ (worst - shortfall) ** 2)
    quantile = _order_statistic(tail, (1.0 - confidence) * (scenarios - 1))
    return math.sqrt((spread + confidence * (shortfall - quantile) ** 2) / ((1.0 - confidence) * scenarios))
