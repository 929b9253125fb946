"""Breaches: histories made from seeds that do or do not come to a rule's threshold; what the predictive detector is held against.

Each history is what one series of a shipped rule could do over several of its horizons. Some breach: steady growth,
accelerating growth, growth in steps, a leak under noise, a saw tooth whose teeth grow. The others are hard: plateaus
below the threshold, saw teeth and daily seasons that turn round below it, random walks, a jump that stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray

Random = np.random.Generator
HORIZONS = 16  # of a history
STEPS = 120  # of a horizon
LENGTH = HORIZONS * STEPS


@dataclass(frozen=True, eq=False)
class History:
    """values float64 (n,), a step apart; threshold 1.0 is where it breaches. kind: what it is called."""

    kind: str
    values: FloatArray


def _time(n: int) -> FloatArray:
    return np.arange(n) / STEPS  # in horizons


def _noise(random: Random, n: int) -> FloatArray:
    out = random.normal(0, random.uniform(0.001, 0.006), n)
    for i in range(1, n):
        out[i] += 0.7 * out[i - 1]
    return out


def _steady(random: Random, n: int) -> FloatArray:
    return random.uniform(0.3, 0.6) + _time(n) * random.uniform(0.04, 0.12) + _noise(random, n)


def _leak(random: Random, n: int) -> FloatArray:
    begins = random.uniform(4, 8)
    return random.uniform(0.4, 0.6) + np.maximum(_time(n) - begins, 0) * random.uniform(0.06, 0.2) + _noise(random, n)


def _accelerating(random: Random, n: int) -> FloatArray:
    return random.uniform(0.3, 0.5) + (_time(n) / HORIZONS) ** 2 * random.uniform(0.7, 1.2) + _noise(random, n)


def _in_steps(random: Random, n: int) -> FloatArray:
    every = int(random.uniform(0.1, 0.5) * STEPS)
    rise = np.floor(np.arange(n) / every) * every / STEPS * random.uniform(0.05, 0.12)
    return random.uniform(0.3, 0.5) + rise + _noise(random, n)


def _growing_teeth(random: Random, n: int) -> FloatArray:
    period = random.uniform(0.3, 1.0)
    return 0.4 + 0.2 * ((_time(n) / period) % 1.0) + _time(n) * random.uniform(0.03, 0.08) + _noise(random, n)


def _plateau(random: Random, n: int) -> FloatArray:
    low, high = random.uniform(0.2, 0.5), random.uniform(0.75, 0.99)
    rise = 1 - np.exp(-np.maximum(_time(n) - random.uniform(1, 5), 0) / random.uniform(0.3, 4))
    return low + (high - low) * rise + _noise(random, n)


def _saw(random: Random, n: int) -> FloatArray:
    period, top = random.uniform(0.5, 4), random.uniform(0.8, 0.99)
    return 0.3 + (top - 0.3) * ((_time(n) / period + random.uniform()) % 1.0) + _noise(random, n)


def _season(random: Random, n: int) -> FloatArray:
    period, top = random.uniform(2, 6), random.uniform(0.8, 0.99)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (_time(n) / period + random.uniform()))
    return 0.3 + (top - 0.3) * wave + _noise(random, n)


def _walk(random: Random, n: int) -> FloatArray:
    steps = random.normal(0, random.uniform(0.001, 0.003), n)
    path = np.cumsum(steps)
    return 0.6 + np.clip(path, -0.35, 0.35)


def _jump(random: Random, n: int) -> FloatArray:
    return 0.4 + (_time(n) > random.uniform(5, 10)) * random.uniform(0.3, 0.5) + _noise(random, n)


KINDS: dict[str, Callable[[Random, int], FloatArray]] = {
    "steady growth": _steady,
    "leak": _leak,
    "accelerating": _accelerating,
    "in steps": _in_steps,
    "growing teeth": _growing_teeth,
    "plateau": _plateau,
    "saw teeth": _saw,
    "season": _season,
    "random walk": _walk,
    "jump": _jump,
}


def histories(each: int, seed: int = 0) -> Iterator[History]:
    """`each` histories of every kind, cut off a little after their breach; the same for a seed."""
    for number in range(each):
        for index, (kind, make) in enumerate(KINDS.items()):
            values = make(np.random.default_rng([seed, number, index]), LENGTH)
            met = np.flatnonzero(values > 1.0)
            yield History(kind, values[: met[0] + 2] if len(met) else values)
