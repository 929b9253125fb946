"""Incidents: desk series made from seeds, each with one labelled incident, and the same ones without any.

One sample a minute. The courses are what desk metrics look like: noise with memory, daily seasons, heavy tails,
saw teeth, ratios that mostly stand at one value, random walks, counts. An incident is put on top of what the
course does anyway, sized by the course's own noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray

DT_S = 60.0
SAMPLES = 6000  # a little more than four days
DAY = 1440
Random = np.random.Generator
Course = Callable[[Random, int], FloatArray]


@dataclass(frozen=True, eq=False)
class Case:
    """One series: t_s and values float64 (n,); incident: first and last sample of it, None where there is none."""

    course: str
    kind: str
    t_s: FloatArray
    values: FloatArray
    incident: tuple[int, int] | None


def _memory(random: Random, n: int, rho: float) -> FloatArray:
    out = random.normal(0, np.sqrt(1 - rho * rho), n)
    for i in range(1, n):
        out[i] += rho * out[i - 1]
    return out


def _season(random: Random, n: int, sharpness: float = 1.0) -> FloatArray:
    phase = 2 * np.pi * (np.arange(n) / DAY + random.uniform())
    return np.exp(sharpness * (np.cos(phase) + 0.4 * np.cos(2 * phase + 1.0)))


def _latency(random: Random, n: int) -> FloatArray:
    return 1e-3 * np.exp(0.25 * _memory(random, n, random.uniform(0, 0.9)) + 0.1 * random.standard_t(4, n))


def _throughput(random: Random, n: int) -> FloatArray:
    return 500 * _season(random, n, 0.7) * (1 + 0.08 * _memory(random, n, 0.8))


def _processor(random: Random, n: int) -> FloatArray:
    busy = 0.2 + 0.03 * _memory(random, n, 0.7)
    for at in range(random.integers(0, 60), n, 60):  # an hourly job
        busy[at : at + 4] += 0.3 * random.uniform(0.8, 1.2)
    return np.clip(busy, 0, 1)


def _saw(random: Random, n: int) -> FloatArray:
    period = random.uniform(100, 400)
    return 1e9 * (2 + ((np.arange(n) + random.uniform(0, period)) / period) % 1.0) + 1e7 * _memory(random, n, 0.5)


def _ratio(random: Random, n: int) -> FloatArray:
    dips = (random.random(n) < 0.02) * random.exponential(0.002, n)
    return np.round(1.0 - dips, 5)


def _walk(random: Random, n: int) -> FloatArray:
    return np.cumsum(random.standard_t(5, n)) * 120.0


def _count(random: Random, n: int) -> FloatArray:
    return random.poisson(3.0 * _season(random, n, 0.4)).astype(np.float64)


def _bursts(random: Random, n: int) -> FloatArray:
    burst = (random.random(n) < 0.01) * random.pareto(2.0, n) * 40
    return 20 + 2 * np.abs(_memory(random, n, 0.3)) + burst


COURSES: dict[str, Course] = {
    "latency": _latency,
    "throughput": _throughput,
    "processor": _processor,
    "saw tooth": _saw,
    "fill ratio": _ratio,
    "random walk": _walk,
    "count": _count,
    "bursts": _bursts,
}


def _size(values: FloatArray) -> float:
    """The course's own noise: the 95th percentile of its moves over five minutes."""
    return float(np.quantile(np.abs(values[5:] - values[:-5]), 0.95)) or 1e-3 * float(np.abs(values).max() or 1.0)


def _sign(random: Random) -> float:
    return 1.0 if random.random() < 0.5 else -1.0


def _step(random: Random, x: FloatArray, at: int, size: float) -> int:
    x[at:] += _sign(random) * random.uniform(3, 6) * size
    return at + 60


def _spike(random: Random, x: FloatArray, at: int, size: float) -> int:
    length = int(random.integers(1, 4))
    x[at : at + length] += _sign(random) * random.uniform(6, 12) * size
    return at + length + 5


def _drift(random: Random, x: FloatArray, at: int, size: float) -> int:
    length = int(random.integers(120, 300))
    top = _sign(random) * random.uniform(5, 10) * size
    x[at:] += np.clip(np.arange(len(x) - at) / length, 0, 1) * top
    return at + length + 60


def _spread(random: Random, x: FloatArray, at: int, size: float) -> int:
    length = int(random.integers(60, 180))
    x[at : at + length] += random.normal(0, random.uniform(1.5, 3) * size, length)
    return at + length


def _flat(random: Random, x: FloatArray, at: int, size: float) -> int:
    length = int(random.integers(60, 240))
    x[at : at + length] = x[at]
    return at + length


def _missing(random: Random, x: FloatArray, at: int, size: float) -> int:
    length = int(random.integers(20, 120))
    x[at : at + length] = np.nan
    return at + length


def _broken_season(random: Random, x: FloatArray, at: int, size: float) -> int:
    """Half a day as it was at another time of day."""
    length, shift = DAY // 2, DAY // 2
    x[at : at + length] = x[at - shift : at - shift + length].copy()
    return at + length


INCIDENTS: dict[str, Callable[[Random, FloatArray, int, float], int]] = {
    "step": _step,
    "spike": _spike,
    "drift": _drift,
    "spread": _spread,
    "flat line": _flat,
    "missing": _missing,
    "season": _broken_season,
}
NEVER = {("flat line", "fill ratio"), ("flat line", "count")}  # standing still is what these do
SEASONAL = ("throughput", "count")


def cases(each: int, seed: int = 0) -> Iterator[Case]:
    """`each` cases of every incident on every course it makes sense on, and as many without; the same for a seed."""
    for number in range(each):
        for course, make in COURSES.items():
            for kind in ("none", *INCIDENTS):
                if (kind, course) in NEVER or (kind == "season" and course not in SEASONAL):
                    continue
                names = [*COURSES].index(course), ["none", *INCIDENTS].index(kind)
                random = np.random.default_rng([seed, number, *names])
                values = make(random, SAMPLES)
                incident = None
                if kind != "none":
                    at = int(random.integers(SAMPLES * 3 // 5, SAMPLES - DAY // 2 - 30))
                    incident = at, min(INCIDENTS[kind](random, values, at, _size(values)), SAMPLES - 1)
                yield Case(course, kind, np.arange(SAMPLES, dtype=np.float64) * DT_S, values, incident)
