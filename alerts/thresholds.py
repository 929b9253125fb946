"""Thresholds that would have fired about so often, and how much a history of that length can say about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alerts.expression import Comparison
from metrics.frame import FloatArray
from metrics.severity import Severity

CANDIDATES = 400
TARGETS = (("1 a day", 1.0), ("1 a week", 1 / 7), ("1 a month", 1 / 30))
_Z90 = 1.6449


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A threshold that fired `fired` times in the history; aim: how often it was meant to.

    low, high: the 90 % interval of the episodes that the same history would have again (Poisson); sure is
    "good" from 10 episodes on, "fair" from 3, else "weak".
    """

    aim: str
    threshold: float
    severity: Severity
    fired: int
    low: float
    high: float
    sure: str


def suggest(comparison: Comparison, values: FloatArray, hold: int, days: float, severity: Severity) -> list[Suggestion]:
    """Thresholds for one rule's direction. values: [series, steps], NaN where absent; hold: steps that `for` lasts.

    None for a direction that is none (== and !=), and none that history is too short for.
    """
    if not comparison.direction or values.size == 0:
        return []
    worst = held(values * comparison.direction, hold)
    finite = worst[np.isfinite(worst)]
    if not len(finite):
        return []
    candidates = np.unique(np.quantile(finite, 1 - np.geomspace(1e-6, 1, CANDIDATES)))[::-1]
    counts = [rises(worst, float(candidate)) for candidate in candidates]
    found = []
    for aim, a_day in TARGETS:
        if a_day * days < 1:
            continue
        chosen = None
        for candidate, count in zip(candidates.tolist(), counts, strict=True):
            if count > a_day * days:
                break
            chosen = candidate
        if chosen is None:
            continue
        threshold = _rounded(chosen * comparison.direction, comparison.direction)
        fired = rises(worst, threshold * comparison.direction)
        low, high = poisson_interval(fired)
        sure = "good" if fired >= 10 else "fair" if fired >= 3 else "weak"
        found.append(Suggestion(aim, threshold, severity, fired, low, high, sure))
    return found


def held(values: FloatArray, steps: int) -> FloatArray:
    """The value that was held for so many steps up to each one: a running minimum, -inf where there is none yet."""
    out = np.where(np.isnan(values), -np.inf, values)
    span = 1
    while span < steps + 1:
        shift = min(span, steps + 1 - span)
        out = (
            np.concatenate([np.full((len(out), shift), -np.inf), np.minimum(out[:, shift:], out[:, :-shift])], axis=1)
            if shift < out.shape[1]
            else np.full(out.shape, -np.inf)
        )
        span += shift
    return out


def rises(values: FloatArray, threshold: float) -> int:
    """How often some series goes above a threshold."""
    above = values > threshold
    return int((above[:, 1:] & ~above[:, :-1]).sum() + above[:, :1].sum())


def poisson_interval(n: int) -> tuple[float, float]:
    """The 90 % interval of the mean of which n were seen (Garwood's, by Wilson and Hilferty's approximation)."""
    low = 0.0 if n == 0 else n * (1 - 1 / (9 * n) - _Z90 / (3 * math.sqrt(n))) ** 3
    above = n + 1
    high = above * (1 - 1 / (9 * above) + _Z90 / (3 * math.sqrt(above))) ** 3
    return low, high


def _rounded(threshold: float, direction: int) -> float:
    """Three figures, rounded to the severer side, so that it fires no more often than meant."""
    if threshold == 0 or not math.isfinite(threshold):
        return threshold
    unit = 10.0 ** (math.floor(math.log10(abs(threshold))) - 2)
    steps = threshold / unit
    return float(f"{(math.ceil(steps) if direction > 0 else math.floor(steps)) * unit:.12g}")
