"""The review: alerts that were not told, and may be now; alerts that were, and are now silenced.

A silence ends, an inhibiting alert resolves, a night is over, a policy is reloaded: nothing about the alert
itself has changed then, so nobody would look at it. At most once a second, and only where something of that
kind has happened, every firing alert is judged anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from alerts.evaluate import Change, Run, Tracked
from alerts.ledger import ANYBODY, settle
from alerts.policy.decide import Routing
from alerts.policy.decision import Decision, Suppression, Why
from alerts.state import AlertState, Instant, Reason

EVERY_MS = 1000


class Review:
    """Not thread-safe: the alert thread's turn owns it."""

    def __init__(self) -> None:
        self._epoch: object = None
        self._due_ms = 0

    def again(self) -> None:
        """Look at all of them at the next opportunity, whatever has happened."""
        self._epoch = None

    def look(self, routing: Routing, runs: Iterable[Run], now: Instant) -> tuple[list[Change], list[Tracked]]:
        """What is told late, applied; and the alerts for which only the reason why nobody is told has changed."""
        if now.mono_ms < self._due_ms:
            return [], []
        self._due_ms = now.mono_ms + EVERY_MS
        epoch = routing.epoch(now.wall_ms)
        if epoch == self._epoch:
            return [], []
        self._epoch = epoch
        changes: list[Change] = []
        moved: list[Tracked] = []
        for run in runs:
            for tracked in run.alerts.values():
                if tracked.live.state is not AlertState.FIRING or tracked.flapping:
                    continue  # what comes and goes is told once it has settled
                labels, severity = run.shown_labels(tracked, tracked.live), tracked.live.severity
                decision = routing.judge(tracked.fingerprint, labels, severity, Reason.UNSUPPRESSED, now.wall_ms)
                if _owes(tracked, decision):
                    if tracked.live.acked_by is None:
                        changes.append(
                            run.change(tracked, replace(tracked.live, notified=now), Reason.UNSUPPRESSED, now)
                        )
                        continue
                    self._epoch = None  # somebody is on it: it is told should the acknowledgement lapse
                before = tracked.suppressed
                settle(tracked, decision)
                if _reasons(before) != _reasons(tracked.suppressed):
                    moved.append(tracked)
        for change in changes:
            change.tracked.live = change.live
        return changes, moved


def _owes(tracked: Tracked, decision: Decision) -> bool:
    if not tracked.owed or not decision.addresses:
        return False
    return ANYBODY in tracked.owed or any(one.key in tracked.owed for one in decision.addresses)


def _reasons(suppressions: tuple[Suppression, ...]) -> list[tuple[Why, str, int | None]]:
    return [(one.why, one.by, one.until_ms) for one in suppressions]
