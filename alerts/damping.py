"""Damping: the courses of all alerts, and which of their changes people are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from alerts.evaluate import Change, Run, Tracked, new_event_id
from alerts.flapping import Course, FlappingOptions, Verdict, judge
from alerts.options import AlertOptions
from alerts.state import NOTIFIED, AlertState, Instant, Live, Reason
from alerts.views import AlertEvent

MAX_COURSES = 20_000
SETTLE_EVERY_MS = 1_000


class Damper:
    """Judges every change once, when it is made. Not thread-safe: the alert thread owns it."""

    def __init__(self, options: AlertOptions) -> None:
        self._options = FlappingOptions(options.flapping_changes, round(1000 * options.flapping_window_s))
        self._courses: dict[str, Course] = {}
        self._looked_ms = 0
        self._open: dict[str, Change] = {}  # what people were last told fires, and not yet that it is over

    def damp(self, changes: Iterable[Change]) -> list[Change]:
        """The same changes, each with what becomes of it."""
        return [self._damp(change) for change in changes]

    def settled(self, now: Instant, find: Callable[[str], tuple[Run, Tracked] | None]) -> list[Change]:
        """What is to be told of the alerts that have stopped flapping. find: the alert of a fingerprint, where alive."""
        if now.mono_ms - self._looked_ms < SETTLE_EVERY_MS:
            return []
        self._looked_ms = now.mono_ms
        changes = []
        for key, course in list(self._courses.items()):
            course = course.lately(now.mono_ms, self._options)
            if course.flapping and course.is_calm(self._options):
                changes += self._settle(key, find(key), now)
                course = replace(course, flapping=False)
            if course.changes:
                self._courses[key] = course
            else:
                del self._courses[key]
        return changes

    def restore(self, events: Iterable[AlertEvent], told: Callable[[str], set[str]], now: Instant) -> None:
        """Judge the history of the last window again: a restart forgets nothing. told: channels by alert."""
        for event in events:
            at = Instant(event.t_ms, now.mono_ms - max(0, now.wall_ms - event.t_ms))
            course = self._courses.get(event.fingerprint, Course())
            course, verdict = judge(course, event.reason, event.severity, at.mono_ms, self._options)
            self._courses[event.fingerprint] = course
            if verdict is Verdict.DAMPED or event.reason not in NOTIFIED:
                continue
            if event.to_state is AlertState.INACTIVE:
                self._open.pop(event.fingerprint, None)
            else:
                self._open[event.fingerprint] = _change(event, told, at)
        self._open = {key: one for key, one in self._open.items() if self._courses[key].flapping}

    def is_flapping(self, fingerprint: str) -> bool:
        """Whether an alert flaps now."""
        course = self._courses.get(fingerprint)
        return course is not None and course.flapping

    def _damp(self, change: Change) -> Change:
        key = change.tracked.fingerprint
        before = self._courses.get(key, Course())
        course, verdict = judge(before, change.reason, change.live.severity, change.at.mono_ms, self._options)
        if course.changes and (key in self._courses or len(self._courses) < MAX_COURSES):
            self._courses[key] = course
        change.tracked.flapping = course.flapping
        if verdict is not Verdict.DAMPED and change.reason in NOTIFIED:
            if change.after is None:
                self._open.pop(key, None)
            else:
                self._open[key] = change
        if verdict is Verdict.BEGINS:
            words = (
                f"It comes and goes: {len(course.changes)} changes within {self._options.window_ms / 60_000:g} minutes. "
                "Until it is quiet, only a rise to a worse critical tier is told."
            )
            return replace(change, verdict=verdict, annotations={**change.annotations, "flapping": words})
        return change if verdict is Verdict.TOLD else replace(change, verdict=verdict)

    def _settle(self, key: str, alive: tuple[Run, Tracked] | None, now: Instant) -> list[Change]:
        told = self._open.get(key)
        if alive is not None and alive[1].live.state is AlertState.FIRING:
            run, tracked = alive
            tracked.flapping = False
            change = run.change(tracked, tracked.live, Reason.SETTLED, now)
            self._open[key] = change
            return [change]
        if told is None or told.after is None:
            return []
        del self._open[key]
        ended = replace(told, before=told.after, after=None, reason=Reason.SETTLED, at=now, event_id=new_event_id())
        return [replace(ended, verdict=Verdict.TOLD)]


def _change(event: AlertEvent, told: Callable[[str], set[str]], at: Instant) -> Change:
    """The change that an event tells of."""

    def instant(wall_ms: int | None) -> Instant:
        return at if wall_ms is None else Instant(wall_ms, at.mono_ms - max(0, at.wall_ms - wall_ms))

    live = Live(AlertState.FIRING, event.severity, instant(event.active_since_ms), instant(event.fired_at_ms))
    labels = {name: text for name, text in event.labels.items() if name != "severity"}
    tracked = Tracked(event.alert_id, event.fingerprint, labels, live, event.value, stored=True)
    tracked.told.update(dict.fromkeys(told(event.alert_id), at.mono_ms))
    return Change(
        event.rule, tracked, None, live, event.reason, at, event.value, event.annotations, None, new_event_id()
    )
