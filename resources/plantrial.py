"""PlanTrial: which plan is to be in force now, and which one is kept in the end. Decisions only: it places nothing.

Each plan and the base (nothing changed) take turns in windows of some seconds, A B B A A B B A ...; a window gives one
p99 of order to acknowledgement. A plan that beats the base by more than chance, and does not make the console later,
is tried a second time, since the best of several may have been lucky; only one that wins again is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from metrics.frame import IntArray
from resources.optimiser import FEWEST, Effect, Trial, Verdict

BASE = ""
PARTIAL_S = 1.0  # from when on a window is looked at for a plan that does harm


class Phase(Enum):
    """What the trial is at; the value is the series' number."""

    OFF = 0
    WAITING = 1
    TRYING = 2
    KEPT = 3
    NONE_KEPT = 4


@dataclass(frozen=True, eq=False)
class Look:
    """What is seen now. counts: all acknowledgements so far by duration, int64 (buckets,); run: changes where a
    process has been replaced, so that windows before and after are not compared. unfit: why nothing is to be tried now
    ("" : it may). late_s: how long the console was kept waiting, at the worst since the last look; NaN: not known."""

    now_s: float
    counts: IntArray
    run: tuple[int, ...]
    unfit: str = ""
    late_s: float = math.nan


@dataclass(frozen=True)
class TrialLimits:
    """window_s, settle_s: of each window, and before it, for what the former plan has left behind. pairs: windows on
    either side. fewest: acknowledgements in a window, whose p99 is that of a handful otherwise. calm_s: how long all must
    be well before anything is tried. worse_factor: a plan whose p99 is so many times the base's is given up at once."""

    window_s: float = 5.0
    settle_s: float = 1.0
    pairs: int = 8
    fewest: int = 200
    calm_s: float = 30.0
    longest_s: float = 60.0
    worse_factor: float = 5.0


@dataclass(frozen=True)
class Outcome:
    """What came of one plan. trial: its p99s in seconds and the base's, with their verdict; None where it was not tried
    to the end. why: in words."""

    plan: str
    trial: Trial | None
    verdict: Verdict | None
    helps: bool
    why: str


class PlanTrial:
    """Tries plans in the order given. p99_s: of counts; NaN where there are none. For one thread."""

    def __init__(
        self, plans: Sequence[str], p99_s: Callable[[IntArray], float], limits: TrialLimits | None = None
    ) -> None:
        self._limits = limits or TrialLimits()
        if self._limits.pairs < FEWEST:
            raise ValueError(f"a trial takes {FEWEST} windows on either side at least, not {self._limits.pairs}")
        self._p99_s = p99_s
        self._queue = list(plans)
        self._confirming = ""
        self.outcomes: list[Outcome] = []
        self.phase = Phase.WAITING if plans else Phase.NONE_KEPT
        self.waits_for = "begins"
        self.kept = BASE
        self._calm: Look | None = None  # since when all has been well
        self._begun: Look | None = None  # when the window's side was put in force
        self._window: Look | None = None  # the look that the window counts from
        self._late_s = math.nan
        self._samples: tuple[list[float], list[float]] = ([], [])
        self._lates: tuple[list[float], list[float]] = ([], [])

    @property
    def wanted(self) -> str:
        """The plan that is to be in force now; BASE: none."""
        if self.phase is Phase.KEPT:
            return self.kept
        return self._queue[0] if self.phase is Phase.TRYING and self._side else BASE

    @property
    def trying(self) -> str:
        """The plan that is compared with the base now; "": none is."""
        return self._queue[0] if self.phase is Phase.TRYING else ""

    @property
    def progress(self) -> float:
        """Share of the running comparison that is done."""
        return (len(self._samples[0]) + len(self._samples[1])) / (2 * self._limits.pairs)

    @property
    def _side(self) -> int:
        """0: the next window is the base's, 1: the plan's. A B B A."""
        return (0, 1, 1, 0)[(len(self._samples[0]) + len(self._samples[1])) % 4]

    def look(self, look: Look) -> None:
        """Take what is seen; afterwards `wanted` says what is to be in force."""
        if self.phase is Phase.WAITING:
            self._wait(look)
        elif self.phase is Phase.TRYING:
            self._try(look)

    def refuse(self, why: str) -> None:
        """The plan that is wanted cannot be put in force."""
        if self.phase is Phase.TRYING:
            self._close(Outcome(self.trying, None, None, False, why))
        elif self.phase is Phase.KEPT:
            self.outcomes.append(Outcome(self.kept, None, None, False, why))
            self.phase, self.kept = Phase.NONE_KEPT, BASE

    def _wait(self, look: Look) -> None:
        if look.unfit or self._calm is None or self._calm.run != look.run:
            self.waits_for = look.unfit or f"{self._limits.calm_s:g} calm seconds"
            self._calm = None if look.unfit else look
            return
        since_s = look.now_s - self._calm.now_s
        if since_s < self._limits.calm_s:
            return
        rate = _grown(look, self._calm) / since_s
        if rate * self._limits.longest_s < self._limits.fewest:
            self.waits_for = f"orders: {rate * 60.0:.0f} a minute are too few to tell a p99 by"
            self._calm = look
            return
        self.phase, self._calm = Phase.TRYING, None
        self._begin_window(look)

    def _try(self, look: Look) -> None:
        begun, before = self._begun, self._window
        if look.unfit or begun is None or begun.run != look.run:
            self._pause(look.unfit or "a process was replaced")
            return
        if before is None:
            if look.now_s - begun.now_s >= self._limits.settle_s:
                self._window, self._late_s = look, math.nan
            return
        self._late_s = float(np.fmax(self._late_s, look.late_s))
        passed_s, orders = look.now_s - before.now_s, _grown(look, before)
        if orders >= self._limits.fewest:
            p99 = self._p99_s(look.counts - before.counts)
            if self._is_much_worse(p99) and passed_s >= PARTIAL_S:
                usual = float(np.median(self._samples[0]))
                why = f"given up within a window: p99 {usual * 1e6:,.0f} -> {p99 * 1e6:,.0f} us"
                self._close(Outcome(self.trying, None, None, False, why))
                self._begin_window(look)
            elif passed_s >= self._limits.window_s:
                self._samples[side := self._side].append(p99)
                self._lates[side].append(self._late_s)
                if len(self._samples[0]) == len(self._samples[1]) == self._limits.pairs:
                    self._judge()
                self._begin_window(look)
        elif passed_s >= self._limits.longest_s:
            self._pause(f"orders: {orders} in {passed_s:.0f} s are too few to tell a p99 by")

    def _is_much_worse(self, p99: float) -> bool:
        base = self._samples[0]
        return self._side == 1 and bool(base) and p99 > self._limits.worse_factor * max(base)

    def _pause(self, why: str) -> None:
        """Back to the base; the samples taken so far stay."""
        self.phase, self._window, self._calm, self.waits_for = Phase.WAITING, None, None, why

    def _begin_window(self, look: Look) -> None:
        self._window, self._begun = None, look

    def _judge(self) -> None:
        trial = Trial(*(np.array(side) for side in self._samples))
        verdict = trial.verdict()
        change = f"p99 {verdict.before * 1e6:,.0f} -> {verdict.after * 1e6:,.0f} us"
        lates = [np.array(side) for side in self._lates]
        later = None
        if all(np.isfinite(side).all() for side in lates):
            later = Trial(*lates).verdict()
        if verdict.helps and later is not None and later.effect is Effect.HARMS:
            words = f"{change}, but the console is later: {later.before * 1e3:.1f} -> {later.after * 1e3:.1f} ms"
            self._close(Outcome(self.trying, trial, verdict, False, words))
        else:
            self._close(Outcome(self.trying, trial, verdict, verdict.helps, f"{change}, {verdict.effect.value}"))

    def _close(self, outcome: Outcome) -> None:
        """Write down what came of a plan, and go on to the next, to the second trial of the best, or to the end."""
        self._queue.pop(0)
        self._samples, self._lates, self._window = ([], []), ([], []), None
        self.outcomes.append(outcome)
        if self._queue:
            return
        if self._confirming:
            self.kept = outcome.plan if outcome.helps else BASE
        elif helping := [
            (one.verdict.after / one.verdict.before, one.plan) for one in self.outcomes if one.helps and one.verdict
        ]:
            self._confirming = min(helping)[1]
            self._queue = [self._confirming]
            return
        self.phase = Phase.KEPT if self.kept else Phase.NONE_KEPT


def _grown(look: Look, before: Look) -> int:
    return int((look.counts - before.counts).sum())
