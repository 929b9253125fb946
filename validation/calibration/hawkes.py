"""Clustering of arrivals: a Hawkes process with a sum of exponentials, fitted by EM.

Intensity of type i: lambda_i(t) = mu_i c(t) + sum_jp N_ijp beta_p exp(-beta_p (t - t_k)) over the
earlier events k of type j. N_ijp is the mean number of type-i events that one event of type j
brings about at scale p; c(t) is the intraday curve with mean 1. EM as in Veen & Schoenberg (2008),
the exponential sums by Ozaki's (1979) recursion, so that one pass costs O(events).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.jit import kernel
from metrics.frame import FloatArray, IntArray

DECAY_GRID_PER_S = (
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    1000.0,
    2000.0,
    5000.0,
)


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Events of k types in order: time_s float64 (n,), kind int64 (n,), curve float64 (bins,) with mean 1 over span_s."""

    time_s: FloatArray
    kind: IntArray
    kinds: int
    curve: FloatArray
    span_s: float

    @property
    def counts(self) -> IntArray:
        return np.bincount(self.kind, minlength=self.kinds).astype(np.int64)


@dataclass(frozen=True, eq=False)
class HawkesFit:
    """baseline float64 (k,), events per second; decay float64 (p,), per second; branching float64 (k, k, p)."""

    baseline: FloatArray
    decay: FloatArray
    branching: FloatArray
    log_likelihood: float
    poisson_log_likelihood: float
    residual_ks: FloatArray
    poisson_ks: FloatArray
    events: int

    @property
    def branching_ratio(self) -> float:
        """Spectral radius of the branching matrix summed over scales; below 1 the process is stationary."""
        return float(np.abs(np.linalg.eigvals(self.branching.sum(axis=2))).max())

    def figures(self) -> dict[str, Any]:
        """The fit as plain numbers."""
        return {
            "decays_per_s": self.decay.tolist(),
            "branching": self.branching.tolist(),
            "baseline_per_s": self.baseline.tolist(),
            "branching_ratio": self.branching_ratio,
            "goodness": {
                "events": self.events,
                "log_likelihood_gain_per_event": (self.log_likelihood - self.poisson_log_likelihood) / self.events,
                "residual_ks_distance": self.residual_ks.tolist(),
                "poisson_ks_distance": self.poisson_ks.tolist(),
            },
        }


@kernel
def em_pass(
    time_s: FloatArray, kind: IntArray, curve: FloatArray, span_s: float, baseline: FloatArray, decay: FloatArray,
    branching: FloatArray, base_sum: FloatArray, child_sum: FloatArray, residual: FloatArray,
) -> float:  # fmt: skip
    """One expectation step over all events; returns the log-likelihood of the parameters handed in.

    base_sum (k,) and child_sum (k, k, p) receive the expected numbers of immigrants and children;
    residual (n,) the compensator between an event and the one of its type before it (Exp(1) if the
    model is right).
    """
    kinds, scales = len(baseline), len(decay)
    base_sum[:] = 0.0
    child_sum[:] = 0.0
    bin_s = span_s / len(curve)
    excitation = np.zeros((kinds, scales))
    compensator = np.zeros(kinds)
    likelihood = 0.0
    last_s = 0.0
    for k in range(len(time_s)):
        elapsed = time_s[k] - last_s
        bin_index = min(int(time_s[k] / bin_s), len(curve) - 1)
        for i in range(kinds):
            compensator[i] += baseline[i] * curve[bin_index] * elapsed
        for p in range(scales):
            keep = np.exp(-decay[p] * elapsed)
            for j in range(kinds):
                lost = excitation[j, p] * (1.0 - keep)
                for i in range(kinds):
                    compensator[i] += branching[i, j, p] * lost
                excitation[j, p] *= keep
        i = kind[k]
        base = baseline[i] * curve[bin_index]
        intensity = base
        for j in range(kinds):
            for p in range(scales):
                intensity += branching[i, j, p] * decay[p] * excitation[j, p]
        base_sum[i] += base / intensity
        for j in range(kinds):
            for p in range(scales):
                child_sum[i, j, p] += branching[i, j, p] * decay[p] * excitation[j, p] / intensity
        residual[k] = compensator[i]
        likelihood += np.log(intensity) - compensator[i]
        compensator[i] = 0.0
        for p in range(scales):
            excitation[i, p] += 1.0
        last_s = time_s[k]
    bin_index = len(curve) - 1
    for i in range(kinds):
        likelihood -= compensator[i] + baseline[i] * curve[bin_index] * (span_s - last_s)
    return float(likelihood)


@kernel
def exposure(time_s: FloatArray, kind: IntArray, span_s: float, decay: FloatArray, out: FloatArray) -> None:
    """out (k, p): how many decayed-out events of type j the span has seen (children cut off at its end do not count)."""
    out[:] = 0.0
    for k in range(len(time_s)):
        for p in range(len(decay)):
            out[kind[k], p] += 1.0 - np.exp(-decay[p] * (span_s - time_s[k]))


def ks_exponential(residual: FloatArray) -> float:
    """Kolmogorov-Smirnov distance of residuals from the unit exponential."""
    ordered = np.sort(residual)
    model = -np.expm1(-ordered)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - model).max(), (model - steps[:-1]).max()))


def fit_at(arrivals: Arrivals, decay: FloatArray, passes: int) -> HawkesFit:
    """Fit baseline and branching by `passes` EM steps for given decays."""
    kinds, scales = arrivals.kinds, len(decay)
    rate = arrivals.counts / arrivals.span_s
    baseline, branching = 0.3 * rate, np.full((kinds, kinds, scales), 0.6 / (kinds * scales))
    base_sum, child_sum = np.zeros(kinds), np.zeros((kinds, kinds, scales))
    residual, seen = np.zeros(len(arrivals.time_s)), np.zeros((kinds, scales))
    exposure(arrivals.time_s, arrivals.kind, arrivals.span_s, decay, seen)
    step = (arrivals.time_s, arrivals.kind, arrivals.curve, arrivals.span_s)
    for _ in range(passes):
        em_pass(*step, baseline, decay, branching, base_sum, child_sum, residual)
        baseline, branching = base_sum / arrivals.span_s, child_sum / seen[None, :, :]
    likelihood = em_pass(*step, baseline, decay, branching, base_sum, child_sum, residual)
    ks = np.array([ks_exponential(residual[arrivals.kind == i]) for i in range(kinds)])
    none = np.zeros_like(branching)
    poisson = em_pass(*step, rate, decay, none, base_sum, child_sum, residual)
    poisson_ks = np.array([ks_exponential(residual[arrivals.kind == i]) for i in range(kinds)])
    return HawkesFit(baseline, decay, branching, likelihood, poisson, ks, poisson_ks, len(arrivals.time_s))


def fit(
    arrivals: Arrivals, start: tuple[float, ...] = (0.1, 5.0, 500.0), *, search: int = 15, passes: int = 120
) -> HawkesFit:
    """Fit decays too: each moves along the grid while the likelihood grows, then the last fit runs to convergence."""
    chosen = [DECAY_GRID_PER_S.index(value) for value in start]

    def likelihood(indices: list[int]) -> float:
        decay = np.array([DECAY_GRID_PER_S[index] for index in indices])
        return fit_at(arrivals, decay, search).log_likelihood

    best = likelihood(chosen)
    moved = True
    while moved:
        moved = False
        for position in range(len(chosen)):
            for direction in (-1, 1):
                trial = chosen.copy()
                trial[position] += direction
                if not 0 <= trial[position] < len(DECAY_GRID_PER_S) or len(set(trial)) < len(trial):
                    continue
                found = likelihood(trial)
                if found > best:
                    best, chosen, moved = found, trial, True
                    break
    return fit_at(arrivals, np.array([DECAY_GRID_PER_S[index] for index in sorted(chosen)]), passes)
