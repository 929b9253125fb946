"""Trend: how long until one series meets a threshold, by Holt's damped trend, with an interval.

Level and slope are smoothed exponentially and the slope fades with the distance (Gardner and McKenzie, Management Science
1985), so that a rise that flattens out is not drawn on for ever. How far the slope may be wrong is not assumed: each
forecast is held against what came, and the interval is made of those errors. A breach is foretold only where the late
end of the interval meets the threshold too, where the rise has lasted over both halves of the last horizon (a jump that
stays is no trend), and where the series is beyond where it turned round before: saw teeth and daily seasons rise steeply
and end where they always end.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from alerts.expression import Comparison

STEPS_WITHIN = 120  # of a horizon
SHORTEST_STEP_S, LONGEST_STEP_S = 5.0, 3600.0
ALPHA, BETA = 0.4, 0.08
LEAD = 20  # steps ahead of which forecasts are held against what came
LEARNED = 40  # steps before anything is said
ERROR_SHARE = 0.05  # of the newest error in the mean of their squares
SURE = 1.28  # standard errors: 10 % beyond either end
DAMPED_OVER = 2.0  # horizons over which a slope fades to 1/e
REMEMBERED_S, REMEMBERED_HORIZONS = 26 * 3600.0, 12.0  # how long a turning point counts, whichever is longer
TURNING_POINTS = 64
TURNED = 0.25  # of the rise before: a fall by so much is a turn
BEYOND = 0.1  # of the rise before a turning point: so far above it is new ground
LASTING = 0.25  # of the rise over a horizon: what either half must have of it
AGREED = 3  # steps in a row that must say the same


@dataclass(frozen=True, slots=True)
class Ahead:
    """Seconds until the threshold: the expectation, and the early and late ends of the interval (inf: open)."""

    eta_s: float
    low_s: float
    high_s: float


def step_of(within_s: float) -> float:
    """Seconds between samples for a horizon."""
    return min(max(within_s / STEPS_WITHIN, SHORTEST_STEP_S), LONGEST_STEP_S)


def remembered_s(within_s: float) -> float:
    """How long a turning point counts."""
    return max(REMEMBERED_S, REMEMBERED_HORIZONS * within_s)


class Trend:
    """One series against one comparison. Memory is bounded; nothing here reads a clock."""

    def __init__(self, comparison: Comparison, within_s: float) -> None:
        if not comparison.direction:
            raise ValueError("a trend needs a threshold with a direction (> or <)")
        self._comparison = comparison
        self._sign = float(comparison.direction)
        self._within_s = within_s
        self.step_s = step_of(within_s)
        self._fade = DAMPED_OVER * within_s / self.step_s  # steps
        self._phi = math.exp(-1.0 / self._fade)
        self._level = self._slope = 0.0
        self._square = math.nan
        self._n = 0
        self._due: deque[float] = deque(maxlen=LEAD)
        self._turns: deque[tuple[int, float, float]] = deque(maxlen=TURNING_POINTS)
        self._remembered = remembered_s(within_s) / self.step_s  # steps
        self._levels: deque[float] = deque(maxlen=STEPS_WITHIN + 1)
        self._low = self._high = math.nan
        self._agreed = 0

    def take(self, value: float) -> Ahead | None:
        """Take the value of the next step; what is foretold after it, None where nothing is."""
        y = self._sign * value
        if not math.isfinite(y) or abs(y) > 1e150:
            return None
        if self._n == 0:
            self._level = y
        else:
            self._smooth(y)
        self._n += 1
        self._due.append(self._at(LEAD))
        self._remember()
        ahead = None if not self.ready or self._comparison.holds(value) else self._foretell(y)
        self._agreed = 0 if ahead is None else self._agreed + 1
        return ahead if self._agreed >= AGREED else None

    @property
    def ready(self) -> bool:
        """Whether it has seen enough to say something."""
        return self._n >= LEARNED + LEAD

    def _smooth(self, y: float) -> None:
        if len(self._due) == LEAD:
            error = y - self._due[0]
            square = error * error
            if math.isfinite(square):
                before = self._square
                self._square = square if before != before else before + ERROR_SHARE * (square - before)
        forecast = self._level + self._phi * self._slope
        error = y - forecast
        beta = max(BETA, 1.0 / (self._n + 1.0))
        self._level = forecast + ALPHA * error
        self._slope = self._phi * self._slope + ALPHA * beta * error

    def _reach(self, steps: float) -> float:
        return self._fade * (1.0 - math.exp(-steps / self._fade))

    def _at(self, steps: float) -> float:
        return self._level + self._slope * self._reach(steps)

    def _remember(self) -> None:
        """Note where the smoothed series turned round."""
        level = self._level
        self._levels.append(level)
        if not self._low <= level:  # still falling: a rise begins here at the earliest
            self._low = self._high = level
        self._high = max(self._high, level)
        if self._high - level > TURNED * (self._high - self._low) and self._high > self._low:
            self._turns.append((self._n, self._high, self._high + BEYOND * (self._high - self._low)))
            self._low = self._high = level

    def _lasts(self) -> bool:
        """Whether either half of the last horizon (of what there is of it) has its part in the rise."""
        rise = self._level - self._levels[0]
        first = self._levels[len(self._levels) // 2] - self._levels[0]
        return rise > 0 and LASTING * rise <= first <= (1 - LASTING) * rise

    def _foretell(self, y: float) -> Ahead | None:
        threshold = self._sign * self._comparison.threshold
        if self._square != self._square or not self._lasts():
            return None
        for n, peak, new_ground in self._turns:
            if self._level <= new_ground and peak < threshold and self._n - n <= self._remembered:
                return None
        doubt = math.sqrt(self._square) / self._reach(LEAD)
        distance = threshold - max(y, self._level)
        eta, low, high = (
            self._until(distance, slope)
            for slope in (self._slope, self._slope + SURE * doubt, self._slope - SURE * doubt)
        )
        if eta > self._within_s or high > DAMPED_OVER * self._within_s:
            return None
        return Ahead(eta, low, high)

    def _until(self, distance: float, slope: float) -> float:
        """Seconds in which a fading slope covers a distance, inf where it never does."""
        if distance <= 0.0:
            return 0.0
        if slope <= 0.0 or distance >= slope * self._fade:
            return math.inf
        return -self._fade * math.log1p(-distance / (slope * self._fade)) * self.step_s
