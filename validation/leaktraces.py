"""Leak traces: labelled courses of memory over hours, made from seeds; what a detector of leaks is held against.

Each trace is one reading a minute of a process that does what processes do to their memory. Of each kind there are
traces without a leak and, with the same noise, ones in which a leak of 1 MB a minute begins after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray

MB = 1e6
MINUTES = 360
LEAK_MB_MIN = 1.0
LEAK_BEGINS = (30, 150)  # minute after the start, drawn evenly
Shape = Callable[[np.random.Generator, FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, eq=False)
class Trace:
    """One process's memory: t_s, resident and in_use (bytes), float64 (n,); starts_s: when the process of each reading
    had started; leak_s: when the leak begins, None where there is none."""

    kind: str
    t_s: FloatArray
    resident: FloatArray
    in_use: FloatArray
    starts_s: FloatArray
    leak_s: float | None


def _flat(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
    wander = np.convolve(random.normal(0, 1.0, len(minutes) + 30), np.ones(31) / 5.6, "valid")
    used = wander * random.uniform(0.3, 3.0)
    return used + np.abs(random.normal(0, 1.0, len(minutes))), used


def _steps(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
    used = np.zeros(len(minutes))
    for _ in range(random.integers(1, 5)):
        used += random.uniform(20, 200) * (minutes > random.uniform(30, MINUTES))
    return used, used


def _saw(shortest: float, longest: float, height: tuple[float, float]) -> Shape:
    def saw(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
        period = random.uniform(shortest, longest)
        used = random.uniform(*height) * (((minutes + random.uniform(0, period)) / period) % 1.0)
        return used, used

    return saw


def _diurnal(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
    used = random.uniform(10, 60) * np.sin(2 * np.pi * (minutes / 1440.0 + random.uniform()))
    return used, used


def _settling(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
    used = random.uniform(50, 300) * (1.0 - np.exp(-minutes / random.uniform(5, 25)))
    return used, used


def _dips(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pages are reclaimed now and then and come back within some minutes; what is in use is not touched by it."""
    resident = np.zeros(len(minutes))
    for at in random.uniform(0, MINUTES, random.integers(2, 8)):
        since = minutes - at
        resident -= random.uniform(20, 80) * np.where(since >= 0, np.exp(-since / random.uniform(1, 3)), 0.0)
    return resident, np.zeros(len(minutes))


def _fragmentation(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The heap grows by its holes: what is in use stays the same."""
    return random.uniform(0.3, 0.8) * minutes, random.normal(0, 1.0, len(minutes))


def _cache(random: np.random.Generator, minutes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A bounded cache fills at an even pace in one to two hours, and is full from then on."""
    used = random.uniform(60, 200) * np.minimum((minutes - random.uniform(0, 60)).clip(0) / random.uniform(60, 120), 1)
    return used, used


KINDS: dict[str, Shape] = {
    "flat": _flat,
    "steps": _steps,
    "garbage saw": _saw(1, 9, (10, 60)),
    "cache saw": _saw(20, 60, (10, 40)),
    "hourly seal": _saw(60, 60, (20, 40)),
    "diurnal": _diurnal,
    "settling": _settling,
    "reclaim dips": _dips,
    "restarts": _flat,
    "fragmentation": _fragmentation,
    "filling cache": _cache,
}


def traces(each: int, seed: int = 5) -> Iterator[Trace]:
    """`each` traces of every kind without a leak, and as many with one."""
    for number, (kind, shape) in enumerate(KINDS.items()):
        for leaks in (False, True):
            for i in range(each):
                yield _made(kind, shape, np.random.default_rng((seed, number, i)), leaks=leaks)


def _made(kind: str, shape: Shape, random: np.random.Generator, *, leaks: bool) -> Trace:
    minutes = np.arange(MINUTES, dtype=np.float64)
    base = random.uniform(100, 600)
    resident, in_use = shape(random, minutes)
    noise = random.uniform(0.1, 2.0)
    resident = resident + np.abs(random.normal(0, noise, MINUTES))
    in_use = in_use + random.normal(0, noise / 4, MINUTES)
    starts = np.zeros(MINUTES)
    if kind == "restarts":
        for at in np.sort(random.uniform(60, 200, random.integers(1, 3))):
            starts[minutes >= at] = at
        since = minutes - starts
        grown = random.uniform(20, 60) * (1 - np.exp(-since / 5.0))
        resident, in_use = resident + grown, in_use + grown
    begins = random.uniform(*LEAK_BEGINS)
    if leaks:  # a new process leaks from its start on
        leaked = LEAK_MB_MIN * (minutes - np.where(starts > 0, starts, begins)).clip(0)
        resident, in_use = resident + leaked, in_use + leaked
    return Trace(
        kind, minutes * 60.0, (base + resident) * MB, (0.8 * base + in_use) * MB, starts * 60.0,
        max(begins if kind != "restarts" else 0.0, starts[-1]) * 60.0 if leaks else None,
    )  # fmt: skip
