"""Answer: what the queries of one question gave, each with its unit, its mistakes and its earlier self."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dashboard.history.absence import Absence, why_nothing
from dashboard.history.comparison import Comparison, comparison_of
from dashboard.history.problem import Problem, problem_of
from dashboard.history.question import MAX_EXPRESSION, Question
from dashboard.history.unit import Unit, unit_of, unit_of_series
from dashboard.services import QueryResult, Services
from dashboard.timerange import TimeRange, time_range
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

INFO, WARNING = "PromQL info: ", "PromQL warning: "
_FINE_MS = 30_000
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One series on the answer's steps: values float64 (steps,), present bool (steps,)."""

    labels: Labels
    values: FloatArray
    present: npt.NDArray[np.bool_]

    def finite(self) -> FloatArray:
        """The values that are numbers, in time order."""
        return self.values[self.present & np.isfinite(self.values)]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One query's answer; before: the earlier curves, in the order of `curves`, None where there is none."""

    letter: str
    expression: str
    curves: Sequence[Curve] = ()
    before: Sequence[Curve | None] = ()
    unit: Unit | None = None
    left_out: int = 0
    problem: Problem | None = None
    absence: Absence | None = None
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Parts over the steps t_ms int64 (steps,). lines: levels in the first part's unit."""

    span: TimeRange
    step_ms: int
    t_ms: IntArray
    parts: Sequence[Part]
    comparison: Comparison | None = None
    lines: Sequence[float] = ()


def ask(services: Services, question: Question) -> Answer:
    """Evaluate a question; blocks. A query's mistake is told in its part, a wrong range raises RangeError."""
    now_ms = services.clock.now_ns() // 1_000_000
    span = time_range(question.preset, question.start, question.end, now_ms)
    step_ms = span.step_ms(services.options.history_points)
    if not question.end and (question.follow or step_ms <= _FINE_MS):
        # Whole multiples of the step: asked again, the same instants are evaluated, and the line does not tremble.
        end_ms = span.end_ms // step_ms * step_ms
        span = replace(span, start_ms=span.start_ms - span.end_ms + end_ms, end_ms=end_ms)
    # Steps are counted back from the end, so that the newest sample is among them.
    start_ms = span.end_ms - (span.end_ms - span.start_ms) // step_ms * step_ms
    t_ms = np.arange(start_ms, span.end_ms + 1, step_ms, dtype=np.int64)
    comparison = comparison_of(services, question.compare, span)
    asking = _Asking(services, span, t_ms, step_ms, comparison, now_ms)
    return Answer(span, step_ms, t_ms, [asking.part(*one) for one in question.asked()], comparison, question.lines)


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    """What all queries of a question have in common."""

    services: Services
    span: TimeRange
    t_ms: IntArray
    step_ms: int
    comparison: Comparison | None
    now_ms: int

    def part(self, letter: str, expression: str) -> Part:
        if len(expression) > MAX_EXPRESSION:
            return Part(letter, expression[:100], problem=Problem(f"longer than {MAX_EXPRESSION} characters"))
        try:
            result = self._range(expression, 0)
            limit = self.services.options.history_series
            curves = list(_curves(result))
            shown = curves[:limit]
            return Part(
                letter,
                expression,
                shown,
                self._before(expression, shown),
                _common_unit(expression, shown),
                len(curves) - len(shown),
                absence=None if curves else self._why_nothing(expression),
                warnings=tuple(text.removeprefix(WARNING) for text in result.warnings if not text.startswith(INFO)),
                infos=tuple(text.removeprefix(INFO) for text in result.warnings if text.startswith(INFO)),
            )
        except DeskvigilError as error:
            return Part(letter, expression, problem=problem_of(expression, str(error)))

    def _range(self, expression: str, back_ms: int) -> QueryResult:
        start, end = int(self.t_ms[0]) - back_ms, int(self.t_ms[-1]) - back_ms
        return self.services.query.range(expression, start, end, self.step_ms)

    def _before(self, expression: str, curves: Sequence[Curve]) -> Sequence[Curve | None]:
        if self.comparison is None or not self.comparison.offset_ms:
            return [None] * len(curves)
        earlier = {_key(one.labels): one for one in _curves(self._range(expression, self.comparison.offset_ms))}
        return [earlier.get(_key(curve.labels)) for curve in curves]

    def _why_nothing(self, expression: str) -> Absence:
        selectors = self.services.query.prepare(expression).selectors
        return why_nothing(self.services, selectors, self.span, self.now_ms)


def _key(labels: Labels) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _curves(result: QueryResult) -> list[Curve]:
    return [
        Curve(labels, result.values[row], result.present[row])
        for row, labels in enumerate(result.labels)
        if result.present[row].any()
    ]


def _common_unit(expression: str, curves: Sequence[Curve]) -> Unit | None:
    """By the expression; else by the names of its series, where all agree."""
    unit = unit_of(expression)
    if unit is not None:
        return unit
    found = {unit_of_series(curve.labels.get("__name__", "")) for curve in curves}
    return next(iter(found)) if len(found) == 1 else None


def curve_name(labels: Labels) -> str:
    """A series' name as Prometheus writes it, without the quotes that hinder reading."""
    inner = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "__name__")
    name = labels.get("__name__", "")
    return f"{name}{{{inner}}}" if inner and name else name or (f"{{{inner}}}" if inner else "")


def short_names(part: Part) -> list[str]:
    """What tells the series of one query apart: the labels in which they differ; of a single one its name."""
    if len(part.curves) == 1:
        return [curve_name(part.curves[0].labels) or part.expression]
    pairs = [frozenset(curve.labels.items()) for curve in part.curves]
    shared = frozenset.intersection(*pairs) if pairs else frozenset()
    return [_short(dict(pair - shared)) or part.expression for pair in pairs]


def _short(labels: dict[str, str]) -> str:
    name = labels.pop("__name__", "")
    inner = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{name} {inner}".strip()
