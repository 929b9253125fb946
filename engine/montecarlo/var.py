"""Value at risk and expected shortfall of linear positions, by simulation.

A scenario is one draw of correlated Gaussian returns r = L z over the horizon; the loss of position
w (USD, signed) is -w . r. VaR and ES of the losses are those of `tail`; the Euler contributions to
ES, each position's mean loss in the same scenarios, add up to it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.jit import kernel
from engine.montecarlo.normals import counter, normal_pair
from engine.montecarlo.philox import Word
from engine.montecarlo.tail import offer, shortfall_weights, sort_heap, tail_size, var_of_tail
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
