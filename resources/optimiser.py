"""Optimiser: one change that promises to cost less, and the trial that it has to pass on this machine.

An optimiser that does not help here says so and is not applied. Whether it helps is read off samples taken without
and with it: the difference of their medians, with a 95 % bootstrap interval that must lie wholly below zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

DRAWS = 2000
LEVELS = (0.025, 0.975)
FEWEST = 5  # samples on either side: the medians of fewer have no interval worth the name


class Effect(Enum):
    """What a change did; the value is the word of the table."""

    HELPS = "helps"
    NO_DIFFERENCE = "no difference: not applied"
    HARMS = "harms: not applied"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Medians without and with the change, and the interval of their difference (with less without)."""

    before: float
    after: float
    low: float
    high: float
    effect: Effect

    @property
    def helps(self) -> bool:
        """Whether the change is worth applying."""
        return self.effect is Effect.HELPS


@dataclass(frozen=True, eq=False)
class Trial:
    """Samples without and with a change, float64 (n,) and (m,), n and m >= FEWEST; lower is better.

    Each sample is to be of a round of its own (best: a process of its own), and the rounds of the two sides are to
    take turns: neighbouring rounds share whatever else the machine was doing. DeskvigilError where there are too few
    samples or some are not finite.
    """

    before: FloatArray
    after: FloatArray

    def __post_init__(self) -> None:
        for side, samples in (("before", self.before), ("after", self.after)):
            if samples.ndim != 1 or len(samples) < FEWEST:
                raise DeskvigilError(f"trial: {side} has shape {samples.shape}; at least {FEWEST} samples are needed")
            if not np.isfinite(samples).all():
                raise DeskvigilError(f"trial: {side} has samples that are not finite")

    def verdict(self, seed: int = 1) -> Verdict:
        """What the change did: HELPS or HARMS only where chance is a poor explanation."""
        random = np.random.default_rng(seed)
        low, high = np.quantile(_medians(self.after, random) - _medians(self.before, random), LEVELS)
        effect = Effect.HELPS if high < 0.0 else Effect.HARMS if low > 0.0 else Effect.NO_DIFFERENCE
        before, after = float(np.median(self.before)), float(np.median(self.after))
        return Verdict(before, after, float(low), float(high), effect)


@dataclass(frozen=True)
class Optimiser:
    """One optimiser: its name, the settings key that switches it off, the samples' unit, and how to try it.

    measure runs in child processes and leaves this one as it was.
    """

    name: str
    key: str
    unit: str
    measure: Callable[[], Trial]


def _medians(samples: FloatArray, random: np.random.Generator) -> FloatArray:
    drawn = random.integers(0, len(samples), size=(DRAWS, len(samples)))
    medians: FloatArray = np.median(samples[drawn], axis=1)
    return medians
