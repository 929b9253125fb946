"""Predictive detector: says of rules that ask for it how long until they would fire, and keeps a record of being right.

It runs as a collector. Each rule with `predict` in its `deskvigil` annotation is asked every step of its horizon;
each series that answers has a Trend. What is foretold is published as series that rules select, labelled like the
rule's series and with `rule`. Each prediction is a row of the table `prediction`, closed when the outcome is known.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from alerts.detectors.record import Outcome, Predictions
from alerts.detectors.trend import Ahead, Trend, remembered_s, step_of
from alerts.expression import Comparison
from alerts.rules import Rule, fingerprint
from alerts.source import Samples
from metrics.catalogue import series
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, Frame, IntArray
from metrics.series import Schema, Series

LOG = logging.getLogger(__name__)
NAMES = (
    "deskvigil_time_to_threshold_seconds",
    "deskvigil_time_to_threshold_low_seconds",
    "deskvigil_time_to_threshold_high_seconds",
)
MAX_SERIES = 1000  # of all rules together
HISTORY_STEPS = 8000  # at most; as long as turning points are remembered
LATEST = 2.0  # late ends after which a prediction was false
FORGOTTEN_AFTER_STEPS = 60
UNKNOWN = math.nan


class Plan(Protocol):
    """A prepared expression over a span of time."""

    def instant(self, t_ms: int) -> Vector: ...

    def range(self, start_ms: int, end_ms: int, step_ms: int) -> Matrix: ...


class Vector(Protocol):
    """The answer at an instant."""

    def samples(self) -> Samples: ...


class Matrix(Protocol):
    """The answer over a span."""

    def series(self) -> Sequence[tuple[dict[str, str], IntArray, FloatArray]]: ...


class Planner(Protocol):
    """Prepares expressions; raises a DeskvigilError where one cannot be evaluated."""

    def prepare(self, expression: str) -> Plan: ...


@dataclass(slots=True, eq=False)
class _Foretold:
    """A prediction that is open: its row, until when a breach counts as foretold in time, and when to give it up."""

    key: int
    t_ms: int
    late_ms: int
    false_ms: int


@dataclass(slots=True, eq=False)
class _Course:
    """One series of one rule. breached: whether the threshold was met when last seen."""

    labels: dict[str, str]
    published: tuple[Series, ...]
    trend: Trend
    ahead: Ahead | None = None
    foretold: _Foretold | None = None
    breached: bool = False
    silent: int = 0


@dataclass(slots=True, eq=False)
class _Asked:
    """One rule: its plan, when it is asked next (monotonic), and its series by fingerprint."""

    rule: Rule
    comparison: Comparison
    plan: Plan
    within_s: float
    due_ns: int = 0
    learned: bool = False
    courses: dict[str, _Course] = field(default_factory=dict)


class PredictiveCollector:
    """Foretells breaches of the rules that `rules` gives, now and after each reload.

    monotonic_ns: a clock for schedules. Only `collect`'s thread touches it.
    """

    name = "predictive"
    interval_s = 5.0

    def __init__(
        self,
        rules: Callable[[], Iterable[Rule]],
        query: Planner,
        predictions: Predictions,
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._rules, self._query, self._predictions = rules, query, predictions
        self._monotonic_ns = monotonic_ns
        self._asked: dict[str, _Asked] = {}
        self._resumed: dict[tuple[str, str], _Foretold] | None = None
        self._failures = self._refused = 0
        self._schema: Schema | None = None

    def describe(self) -> Schema:
        """The series as known now."""
        if self._schema is None:
            courses = [one for asked in self._asked.values() for one in asked.courses.values()]
            own = (
                "deskvigil_predictive_series",
                "deskvigil_predictive_failures_total",
                "deskvigil_predictive_refused_total",
            )
            published = dict.fromkeys(one for course in courses for one in course.published)
            self._schema = Schema(self.name, (*published, *(series(name) for name in own)))
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Ask the rules that are due, and say what is ahead."""
        now_ms = now_ns // 1_000_000
        self._take_up()
        self._follow_rules()
        for asked in self._asked.values():
            if self._monotonic_ns() >= asked.due_ns:
                asked.due_ns = self._monotonic_ns() + round(step_of(asked.within_s) * 1e9)
                try:
                    self._ask(asked, now_ms)
                except DeskvigilError as error:
                    self._failures += 1
                    LOG.debug("rule %s: %s", asked.rule.key, error)
        schema = self.describe()
        values = np.full(len(schema), UNKNOWN)
        count = 0
        for asked in self._asked.values():
            for course in asked.courses.values():
                count += 1
                if course.ahead is not None:
                    told = (course.ahead.eta_s, course.ahead.low_s, course.ahead.high_s)
                    for one, value in zip(course.published, told, strict=True):
                        values[schema.index[one]] = value
        values[-3:] = count, self._failures, self._refused
        return Frame(schema, now_ns, values)

    def close(self) -> None:
        """Nothing to close."""

    def _take_up(self) -> None:
        """Predictions that were open at the last stop."""
        if self._resumed is None:
            found = self._predictions.newest(MAX_SERIES, still_open=True)
            self._resumed = {
                (one.rule, one.fingerprint): _foretold(one.key, one.t_ms, one.eta_s, one.high_s or one.eta_s)
                for one in found
            }

    def _follow_rules(self) -> None:
        wanted: dict[str, Rule] = {}
        for rule in self._rules():
            if rule.extension.predict_s:
                wanted[f"{rule.key}\x00{rule.expression.text}\x00{rule.extension.predict_s}"] = rule
        for gone in [key for key in self._asked if key not in wanted]:
            for course in self._asked.pop(gone).courses.values():
                if course.foretold is not None and self._resumed is not None:
                    self._resumed[(gone.partition("\x00")[0], fingerprint(course.labels))] = course.foretold
            self._schema = None
        for key, rule in wanted.items():
            comparison = rule.extension.tiers[0].comparison
            if key not in self._asked and comparison is not None:
                try:
                    plan = self._query.prepare(rule.expression.value_text)
                except DeskvigilError:  # such a rule is shown as failing by those who evaluate it
                    continue
                self._asked[key] = _Asked(rule, comparison, plan, rule.extension.predict_s or 0.0)

    def _ask(self, asked: _Asked, now_ms: int) -> None:
        if not asked.learned:
            asked.learned = True
            step_ms = round(step_of(asked.within_s) * 1000)
            back = min(HISTORY_STEPS, math.ceil(remembered_s(asked.within_s) * 1000 / step_ms))
            past = asked.plan.range(now_ms - back * step_ms, now_ms - step_ms, step_ms)
            for labels, _, values in past.series():
                course = self._course(asked, labels)
                if course is not None:
                    for value in values.tolist():
                        course.trend.take(value)
                        course.breached = asked.comparison.holds(value)
        seen = set()
        for labels, value in asked.plan.instant(now_ms).samples():
            course = self._course(asked, labels)
            if course is not None and math.isfinite(value):
                seen.add(fingerprint(course.labels))
                course.silent = 0
                course.ahead = course.trend.take(value)
                self._account(asked, course, value, now_ms)
        for key, course in list(asked.courses.items()):
            if key not in seen:
                course.ahead = None
                course.silent += 1
                if course.foretold is not None and now_ms > course.foretold.false_ms:
                    self._close(course, Outcome.FALSE, now_ms)
                if course.silent > FORGOTTEN_AFTER_STEPS and course.foretold is None:
                    del asked.courses[key]
                    self._schema = None

    def _course(self, asked: _Asked, labels: Mapping[str, str]) -> _Course | None:
        own = {name: text for name, text in labels.items() if name != "__name__"}
        key = fingerprint(own)
        course = asked.courses.get(key)
        if course is None:
            if sum(len(other.courses) for other in self._asked.values()) >= MAX_SERIES:
                self._refused += 1
                return None
            shown = {**own, "rule": asked.rule.name}
            published = tuple(series(name, **shown) for name in NAMES)
            taken = any(other.rule.name == asked.rule.name and key in other.courses for other in self._asked.values())
            if taken:  # two rules of one name: the series could not be told apart
                self._refused += 1
                return None
            course = _Course(own, published, Trend(asked.comparison, asked.within_s))
            if self._resumed is not None:
                course.foretold = self._resumed.pop((asked.rule.key, key), None)
            asked.courses[key] = course
            self._schema = None
        return course

    def _account(self, asked: _Asked, course: _Course, value: float, now_ms: int) -> None:
        """Open, settle or give up the prediction of one series."""
        breaches = asked.comparison.holds(value)
        first, course.breached = breaches and not course.breached, breaches
        foretold = course.foretold
        if foretold is not None:
            if breaches:
                self._close(course, Outcome.HIT if now_ms <= foretold.late_ms else Outcome.LATE, now_ms)
            elif now_ms > foretold.false_ms:
                self._close(course, Outcome.FALSE, now_ms)
        elif first and course.trend.ready:
            self._predictions.add(
                asked.rule.key, fingerprint(course.labels), course.labels, asked.comparison.threshold, None, now_ms
            )
        elif course.ahead is not None:
            ahead = course.ahead
            key = self._predictions.add(
                asked.rule.key, fingerprint(course.labels), course.labels, asked.comparison.threshold, ahead, now_ms
            )
            course.foretold = _foretold(key, now_ms, ahead.eta_s, ahead.high_s)

    def _close(self, course: _Course, outcome: Outcome, now_ms: int) -> None:
        if course.foretold is not None:
            self._predictions.close(course.foretold.key, outcome, now_ms)
            course.foretold = None


def _foretold(key: int, t_ms: int, eta_s: float, high_s: float) -> _Foretold:
    late_ms = t_ms + round(1000 * max(high_s, eta_s))
    return _Foretold(key, t_ms, late_ms, round(t_ms + LATEST * (late_ms - t_ms)))
