"""Bank: the anomaly detector's state of many series seen at one resolution, and what it says of them in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.detectors import surprise
from alerts.detectors.surprise import BinArray, FloatArray, Tuning, View
from metrics.frame import IntArray

FIRST_ROWS = 8

SAYINGS = {
    View.JUMP: "jumped to {value:.4g}, where the samples before were about {usual:.4g}",
    View.LEVEL: "stands at {value:.4g}; over the last hundreds of samples it stood at {usual:.4g}",
    View.RANGE: "at {value:.4g} is as far from its long mean of {usual:.4g} as hardly ever",
    View.SPREAD: "moves by {move:.4g} a sample; it used to move by {usual:.4g}",
    View.SEASON: "is {value:.4g}; at this time of earlier days it was {usual:.4g}",
    View.SHAPE: "runs a course unlike any before (now {value:.4g})",
    View.FLAT: "has stood still at {value:.4g} for {run:.0f} samples",
    View.MISSING: "has had no reading for {gap:.0f} samples",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is said of one series: score is -log10 of the probability, reason what it was seen by, text a sentence's end."""

    score: float
    reason: View
    text: str


class Bank:
    """Series by row. Not thread-safe. Rows are added as needed and used again after `clear`."""

    def __init__(self, tuning: Tuning = surprise.TUNING) -> None:
        self.tuning = tuning
        self._state: FloatArray = np.zeros((0, surprise.COLUMNS))
        self._bins: BinArray = np.zeros((0, surprise.ROWS, 2, surprise.BINS), np.float32)
        self._season: FloatArray = np.zeros((0, surprise.SLOTS, 2))
        self._rings: FloatArray = np.zeros((0, 4, 2 * surprise.MEMORY))
        self._told: FloatArray = np.zeros((0, 3))

    @property
    def bytes(self) -> int:
        """What the state takes."""
        return sum(array.nbytes for array in (self._state, self._bins, self._season, self._rings, self._told))

    def hold(self, rows: int) -> None:
        """Make room for so many rows."""
        have = len(self._state)
        if rows > have:
            more = max(rows, 2 * have, FIRST_ROWS) - have
            self._state = _longer(self._state, more)
            self._bins = _longer(self._bins, more)
            self._season = _longer(self._season, more)
            self._rings = _longer(self._rings, more)
            self._told = _longer(self._told, more)

    def clear(self, row: int) -> None:
        """Forget a series."""
        for array in (self._state, self._bins, self._season, self._rings, self._told):
            array[row] = 0

    def observe(self, t_s: float, values: FloatArray, rows: IntArray) -> None:
        """Take one sample of each of some series: values and rows (k,), NaN where there is no reading."""
        surprise.observe(t_s, values, rows, self._state, self._bins, self._season, self._rings, self.tuning, self._told)

    def replay(self, t_s: FloatArray, values: FloatArray, row: int) -> tuple[FloatArray, FloatArray]:
        """Take many samples of one series; returns its scores and views, float64 (n,)."""
        scores, views = np.empty(len(values)), np.empty(len(values))
        own = slice(row, row + 1)
        surprise.replay(
            np.asarray(t_s, np.float64), np.asarray(values, np.float64), self._state[own], self._bins[own],
            self._season[own], self._rings[own], self.tuning, scores, views,
        )  # fmt: skip
        return scores, views

    def scores(self, rows: IntArray) -> FloatArray:
        """The present scores, float64 (k,); NaN while a series is too young to be judged."""
        young = self._state[rows, surprise.N] <= self.tuning.warm
        return np.where(young, np.nan, self._told[rows, 0])

    def reasons(self, rows: IntArray) -> FloatArray:
        """The most surprised view of each, float64 (k,)."""
        reasons: FloatArray = self._told[rows, 1]
        return reasons

    def incidents(self, rows: IntArray) -> FloatArray:
        """1 where an incident lasts, else 0."""
        lasting: FloatArray = self._state[rows, surprise.INCIDENT]
        return lasting

    def finding(self, row: int) -> Finding:
        """What is to be said of a series now."""
        state, (score, reason, usual) = self._state[row], self._told[row].tolist()
        view = View(int(reason))
        text = SAYINGS[view].format(
            value=state[surprise.X],
            usual=usual,
            move=state[surprise.MOVE_FAST],
            run=1 + state[surprise.RUN],
            gap=state[surprise.GAP],
        )
        return Finding(score, view, text)


def _longer(array: npt.NDArray[Any], more: int) -> npt.NDArray[Any]:
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])


def warm() -> None:
    """Compile the kernels where that is not done already."""
    bank = Bank()
    bank.hold(1)
    bank.observe(0.0, np.zeros(1), np.zeros(1, np.int64))
    bank.replay(np.zeros(1), np.zeros(1), 0)
