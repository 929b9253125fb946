"""Planner: has the plan in force that the trial wants, and says in words how things stand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resources.placer import PlacementError, Placer
from resources.plans import Plan
from resources.plantrial import BASE, Look, Outcome, Phase, PlanTrial

log = logging.getLogger("deskvigil.cpu")


@dataclass(frozen=True)
class PlanState:
    """How things stand. in_force: name of a plan, "" none; why: what the phase waits for; outcomes: of the plans tried
    so far; impossible: why others are not tried; left: threads whose former state could not be put back yet."""

    phase: Phase
    in_force: str
    why: str
    progress: float
    outcomes: tuple[Outcome, ...]
    impossible: Mapping[str, str]
    left: int

    def in_words(self) -> str:
        """One sentence for a page."""
        tried = "; ".join(f"{one.plan} {one.why}" for one in self.outcomes)
        parts = [f"tried {len(self.outcomes)}: {tried}"] if self.outcomes else []
        if self.phase is Phase.OFF:
            parts = ["switched off: resources.cpu.plan is none"]
        elif self.phase is Phase.WAITING:
            parts.insert(0, f"waits: {self.why}")
        elif self.phase is Phase.TRYING:
            parts.insert(0, f"{self.why} is being tried, {self.progress:.0%} done")
        elif self.phase is Phase.NONE_KEPT:
            parts = [
                f"tried {len(self.outcomes)}, none helped: {tried}" if self.outcomes else "no plan can be tried here"
            ]
        if self.impossible and self.phase in (Phase.KEPT, Phase.NONE_KEPT):
            parts.append("not tried: " + "; ".join(f"{name}: {why}" for name, why in self.impossible.items()))
        if self.left:
            parts.append(f"{self.left} threads could not be put back yet")
        return f"Plan in force: {self.in_force or 'none'} ({'; '.join(parts)})"


OFF = PlanState(Phase.OFF, BASE, "", 0.0, (), {}, 0)


class Planner:
    """Looks, decides and places, once for each call of `step`. For one thread.

    pids: number of each of our processes by name. decided: told what was kept or rolled back, once the trial has ended.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        impossible: Mapping[str, str],
        trial: PlanTrial,
        placer: Placer,
        pids: Callable[[], Mapping[str, int]],
        decided: Callable[[PlanState], None],
    ) -> None:
        self._plans, self._impossible = plans, impossible
        self._trial, self._placer = trial, placer
        self._pids, self._decided = pids, decided
        self._told = 0
        self.state = self._state()

    def step(self, look: Look) -> None:
        """Take what is seen, and have in force what it comes to."""
        phase = self._trial.phase
        self._trial.look(look)
        try:
            self._place(self._trial.wanted)
        except PlacementError as error:
            self._trial.refuse(str(error))
            self._placer.undo()
        for outcome in self._trial.outcomes[self._told :]:
            log.info("processors: plan %s: %s", outcome.plan, outcome.why)
        self._told = len(self._trial.outcomes)
        self.state = self._state()
        if self._trial.phase is not phase and self._trial.phase in (Phase.KEPT, Phase.NONE_KEPT):
            log.info("processors: %s", self.state.in_words())
            self._decided(self.state)

    def stop(self) -> None:
        """Put everything back."""
        self._placer.undo()
        self.state = self._state()

    def _place(self, wanted: str) -> None:
        in_force = self._placer.plan.name if self._placer.plan is not None else BASE
        if wanted == BASE:
            if self._placer.changed:
                self._placer.undo()
        elif wanted == in_force:
            self._placer.keep(self._pids())
        else:
            self._placer.apply(self._plans[wanted], self._pids())

    def _state(self) -> PlanState:
        trial, plan = self._trial, self._placer.plan
        return PlanState(
            trial.phase, plan.name if plan is not None else BASE,
            trial.trying or trial.waits_for, trial.progress, tuple(trial.outcomes), self._impossible,
            self._placer.changed if plan is None else 0,
        )  # fmt: skip
