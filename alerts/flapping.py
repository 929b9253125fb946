"""Flapping: an alert that comes and goes is told once as that, and again when it has made up its mind.

Pure: no clock, no I/O. More than `changes` changes between firing and resolved within `window_ms` begin it; it
ends once no more than half as many are left in the window (hysteresis, as Nagios has it). Meanwhile its coming and going is
recorded as suppressed; a rise to critical or worse than anybody was told is told all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from alerts.state import Reason
from metrics.severity import Severity

COUNTED = frozenset({Reason.FIRST, Reason.RESOLVED})
DAMPED = frozenset({Reason.FIRST, Reason.RESOLVED, Reason.ESCALATED, Reason.TIER_FELL})


@dataclass(frozen=True, slots=True)
class FlappingOptions:
    """What is flapping: more than `changes` within `window_ms`; changes 0: nothing is."""

    changes: int = 5
    window_ms: int = 600_000


class Verdict(StrEnum):
    """What becomes of a change."""

    TOLD = "told"
    BEGINS = "begins"  # told, as the one by which flapping began
    DAMPED = "damped"  # recorded, and nobody is told


@dataclass(frozen=True, slots=True)
class Course:
    """What is remembered of one alert: the monotonic instants of its late changes, whether it flaps, and the worst tier
    that people were told of since it began."""

    changes: tuple[int, ...] = ()
    flapping: bool = False
    told: Severity = Severity.INFO

    def lately(self, now_ms: int, options: FlappingOptions) -> Course:
        """Without the changes that have left the window."""
        if not self.changes or now_ms - self.changes[0] < options.window_ms:
            return self
        return replace(self, changes=tuple(at for at in self.changes if now_ms - at < options.window_ms))

    def is_calm(self, options: FlappingOptions) -> bool:
        """Whether so few changes are left that flapping is over."""
        return len(self.changes) <= options.changes // 2


def judge(
    course: Course, reason: Reason, severity: Severity, now_ms: int, options: FlappingOptions
) -> tuple[Course, Verdict]:
    """What is remembered after a change, and what becomes of it. Same arguments, same answer."""
    course = course.lately(now_ms, options)
    if course.flapping and course.is_calm(options):
        course = replace(course, flapping=False)
    if reason in COUNTED:
        course = replace(course, changes=(*course.changes[-4 * options.changes :], now_ms))
    if not course.flapping:
        if options.changes <= 0 or len(course.changes) <= options.changes or reason not in COUNTED:
            return course, Verdict.TOLD
        return replace(course, flapping=True, told=severity), Verdict.BEGINS
    if reason not in DAMPED:
        return course, Verdict.TOLD
    if reason is not Reason.RESOLVED and severity >= Severity.CRITICAL and severity > course.told:
        return replace(course, told=severity), Verdict.TOLD
    return course, Verdict.DAMPED
