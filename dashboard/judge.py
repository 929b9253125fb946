"""Judge: which key figure is off its target, and since when.

A figure that dances around its target must not make the page flash: it has to stay on the other
side for `HOLD_S` before the verdict changes, and the verdict's time is that of the first crossing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from metrics.kpi import Kpi
from metrics.severity import Severity

HOLD_S = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """met: None where the figure is unknown; since_ms: wall clock of the crossing that led here."""

    kpi: Kpi
    met: bool | None
    value: float
    since_ms: int

    @property
    def severity(self) -> Severity | None:
        """How bad a miss is: a limit is worse than a target; None where nothing is wrong."""
        if self.met is not False:
            return None
        return Severity.CRITICAL if self.kpi.target_word == "limit" else Severity.WARNING


class KpiJudge:
    """Keeps the verdict on one key figure."""

    def __init__(self, kpi: Kpi) -> None:
        self._kpi = kpi
        self._verdict = Verdict(kpi, None, math.nan, 0)
        self._turned_ms: int | None = None
        self._turned_ns = 0

    @property
    def verdict(self) -> Verdict:
        return self._verdict

    def update(self, value: float, t_ms: int, monotonic_ns: int) -> Verdict:
        """Take one sample (in the series' own unit) and return the verdict that holds now."""
        shown = value * self._kpi.scale
        met = self._is_met(shown)
        held = self._verdict
        if met == held.met or held.met is None or met is None:
            self._turned_ms = None
            since_ms = held.since_ms if met == held.met else t_ms
            self._verdict = Verdict(self._kpi, met, shown, since_ms)
            return self._verdict
        if self._turned_ms is None:
            self._turned_ms, self._turned_ns = t_ms, monotonic_ns
        if monotonic_ns - self._turned_ns >= HOLD_S * 1e9:
            self._verdict = Verdict(self._kpi, met, shown, self._turned_ms)
            self._turned_ms = None
        else:
            self._verdict = Verdict(self._kpi, held.met, shown, held.since_ms)
        return self._verdict

    def _is_met(self, shown: float) -> bool | None:
        if not math.isfinite(shown):
            return None
        return shown >= self._kpi.target if self._kpi.better == "higher" else shown <= self._kpi.target
