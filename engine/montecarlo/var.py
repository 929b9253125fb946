"""Value at risk and expected shortfall of linear positions, by simulation.

A scenario is one draw of correlated Gaussian returns r = L z over the horizon; the loss of position
w (USD, signed) is -w . r. Of n losses in falling order x_1 >= x_2 >= ...:

- VaR at confidence c is their c-quantile, linear between order statistics (NumPy's default, type 7).
- ES at c is the mean of the worst (1 - c) n losses, the last one counted by the fraction that it
  takes part with (Acerbi & Tasche 2002). Its Euler contributions, each position's mean loss in the
  same scenarios, add up to it exactly.
- The standard error of VaR is half the distance between the order statistics one binomial standard
  deviation sqrt(n c (1 - c)) on either side of it (the distribution-free interval at one sigma).

Only the tail is kept: one heap of the worst losses, never a full sort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.jit import inline_kernel, kernel
from engine.montecarlo.normals import normal_pair
from engine.montecarlo.philox import HALF, Word
from metrics.frame import FloatArray, IntArray

BLOCK = 256  # scenarios handled together: their normals and losses stay in the first-level cache


@dataclass(frozen=True, eq=False)
class RiskFigures:
    """All in USD; contributions float64 (positions,) add up to expected_shortfall."""

    var: float
    var_standard_error: float
    expected_shortfall: float
    contributions: FloatArray
    scenarios: int


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


@kernel
def worst_losses(losses: FloatArray, heap: FloatArray, where: IntArray) -> None:
    """The largest losses in falling order and their positions: losses float64 (n,), heap and where (k,), k <= n."""
    size = 0
    for s in range(len(losses)):
        size = offer(heap, where, size, losses[s], s)
    sort_heap(heap, where, size)


@inline_kernel
def counter(scenario: int, pair: int) -> Word:
    """Philox block of a scenario's pair of normals: scenarios count in the low word, pairs in the high one."""
    return np.uint64(scenario) | (np.uint64(pair) << HALF)


@kernel
def simulate(
    seed: Word, stream: Word, scenarios: int, loading: FloatArray, exposure: FloatArray, heap: FloatArray,
    where: IntArray, block: FloatArray,
) -> None:  # fmt: skip
    """Draw `scenarios` losses of the exposure and keep the worst, in falling order, with their scenarios.

    loading float64 (n, n); exposure float64 (n,), USD; heap float64 (k,), where int64 (k,);
    block float64 (BLOCK,) is working space.
    """
    n = len(exposure)
    pairs = (n + 1) // 2
    weight = np.zeros(2 * pairs)
    for j in range(n):  # the loss is linear: its weights on the independent normals are known beforehand
        for i in range(j, n):
            weight[j] -= loading[i, j] * exposure[i]
    size = 0
    for first in range(0, scenarios, BLOCK):
        rows = min(BLOCK, scenarios - first)
        block[:] = 0.0
        for pair in range(pairs):
            w0, w1 = weight[2 * pair], weight[2 * pair + 1]
            base = counter(first, pair)
            for row in range(rows):
                z0, z1 = normal_pair(base + np.uint64(row), stream, seed)
                block[row] += w0 * z0 + w1 * z1
        for row in range(rows):
            size = offer(heap, where, size, block[row], first + row)
    sort_heap(heap, where, size)


@kernel
def scenario_returns(seed: Word, stream: Word, scenario: IntArray, loading: FloatArray, out: FloatArray) -> None:
    """Returns of chosen scenarios, made again from their counters: scenario int64 (m,), out float64 (m, n)."""
    n = loading.shape[0]
    pairs = (n + 1) // 2
    z = np.empty(2 * pairs)
    for row in range(len(scenario)):
        for pair in range(pairs):
            z[2 * pair], z[2 * pair + 1] = normal_pair(counter(scenario[row], pair), stream, seed)
        for i in range(n):
            move = 0.0
            for j in range(i + 1):
                move += loading[i, j] * z[j]
            out[row, i] = move


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


class VarSimulation:
    """Estimates the risk of exposures in n instruments, reusing its memory from run to run.

    The figures depend on (seed, stream, scenarios, loading, exposure) alone. Not safe for two
    threads at once. ValueError where shapes do not fit.
    """

    def __init__(
        self,
        loading: FloatArray,
        *,
        scenarios: int,
        seed: int,
        var_confidence: float = 0.99,
        shortfall_confidence: float = 0.975,
    ) -> None:
        n = loading.shape[0]
        if loading.shape != (n, n) or n == 0:
            raise ValueError(f"loading must be square, it has shape {loading.shape}")
        self._loading = np.ascontiguousarray(loading, dtype=np.float64)
        self._scenarios, self._seed = scenarios, np.uint64(seed)
        self._var_confidence = var_confidence
        self._weights = shortfall_weights(scenarios, shortfall_confidence)
        kept = tail_size(scenarios, var_confidence, shortfall_confidence)
        self._tail: FloatArray = np.zeros(kept)
        self._where: IntArray = np.zeros(kept, dtype=np.int64)
        self._block: FloatArray = np.zeros(BLOCK)
        self._returns: FloatArray = np.zeros((len(self._weights), n))

    def run(self, exposure: FloatArray, stream: int = 0) -> RiskFigures:
        """Figures of one exposure, float64 (n,), USD per instrument, signed."""
        if exposure.shape != (len(self._loading),):
            raise ValueError(
                f"exposure has shape {exposure.shape}, the covariance has {len(self._loading)} instruments"
            )
        # The engine's marks are whatever they are: a position that cannot be valued must not pass as zero risk.
        if not np.isfinite(exposure).all():
            raise ValueError("exposure must be finite")
        number = np.uint64(stream)
        simulate(self._seed, number, self._scenarios, self._loading, exposure, self._tail, self._where, self._block)
        var, error = var_of_tail(self._tail, self._scenarios, self._var_confidence)
        worst = self._where[: len(self._weights)]
        scenario_returns(self._seed, number, worst, self._loading, self._returns)
        contributions: FloatArray = -(self._weights @ self._returns) * exposure
        return RiskFigures(
            var=var,
            var_standard_error=error,
            expected_shortfall=float(contributions.sum()),
            contributions=contributions,
            scenarios=self._scenarios,
        )
