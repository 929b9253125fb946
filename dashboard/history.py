"""History: one question about the past and its answer, without any web in it."""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np

from dashboard.services import QueryResult, Reader, Services
from dashboard.timerange import TimeRange, show_time, time_range
from metrics.catalogue import CATALOGUE
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray

MAX_EXPRESSION = 8_192
VALUE_ROWS = 500
VALUE_SERIES = 12
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class Question:
    """What an address asks for; metric and labels only restore the picker."""

    expression: str
    preset: str = ""
    start: str = ""
    end: str = ""
    metric: str = ""
    labels: str = ""

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> Question:
        """Read the address's parameters; what is missing is empty."""
        names = ("expr", "range", "start", "end", "metric", "labels")
        return cls(*(parameters.get(name, "").strip() for name in names))

    def to_search(self) -> str:
        """The query string that `from_parameters` reads back."""
        pairs = {
            "expr": self.expression,
            "range": "" if self.start or self.end else self.preset,
            "start": self.start,
            "end": self.end,
            "metric": self.metric,
            "labels": self.labels,
        }
        return "?" + urlencode({name: value for name, value in pairs.items() if value})


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One series of an answer: times int64 (n,), values float64 (n,), without what is absent."""

    name: str
    labels: Mapping[str, str]
    t_ms: IntArray
    values: FloatArray

    def statistics(self) -> dict[str, Any]:
        """min, mean, max and last of the finite values, None where there are none, and how many."""
        finite = self.values[np.isfinite(self.values)]
        if len(finite) == 0:
            return {"min": None, "mean": None, "max": None, "last": None, "points": 0}
        return {
            "min": float(finite.min()),
            "mean": float(finite.mean()),
            "max": float(finite.max()),
            "last": float(finite[-1]),
            "points": len(finite),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Curves over a range; left_out counts series beyond the limit; nothing says why there are none."""

    span: TimeRange
    step_ms: int
    curves: Sequence[Curve]
    left_out: int = 0
    nothing: str = ""
    warnings: Sequence[str] = ()


def ask(services: Services, question: Question) -> Answer:
    """Evaluate a question; blocks. Raises a DeskvigilError that says what is wrong with it, and where."""
    if not question.expression:
        raise DeskvigilError("Choose a metric, or write a PromQL expression.")
    if len(question.expression) > MAX_EXPRESSION:
        raise DeskvigilError(f"the expression is longer than {MAX_EXPRESSION} characters")
    now_ms = services.clock.now_ns() // 1_000_000
    span = time_range(question.preset, question.start, question.end, now_ms)
    step_ms = span.step_ms(services.options.history_points)
    # Steps are counted back from the end, so that the newest sample is among them.
    start_ms = span.end_ms - (span.end_ms - span.start_ms) // step_ms * step_ms
    result = services.query.range(question.expression, start_ms, span.end_ms, step_ms)
    curves = list(_curves(result))
    limit = services.options.history_series
    nothing = "" if curves else _why_nothing(question.expression, span, services.reader)
    warnings = tuple(str(warning) for warning in result.warnings)
    return Answer(span, step_ms, curves[:limit], max(len(curves) - limit, 0), nothing, warnings)


def _curves(result: QueryResult) -> Iterator[Curve]:
    for row, labels in enumerate(result.labels):
        present = result.present[row]
        if present.any():
            yield Curve(curve_name(labels), labels, result.t_ms[present], result.values[row][present])


def curve_name(labels: Mapping[str, str]) -> str:
    """A series' name as Prometheus writes it, without the quotes that hinder reading."""
    inner = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "__name__")
    name = labels.get("__name__", "")
    return f"{name}{{{inner}}}" if inner and name else name or (f"{{{inner}}}" if inner else "value")


def _why_nothing(expression: str, span: TimeRange, reader: Reader) -> str:
    """Say why an expression gave no series: an unknown name, no samples then, or a condition never met."""
    known = {one.name for one in reader.series()}
    words = [word for word in _NAME.findall(expression) if word.startswith("deskvigil_") or word in known]
    unknown = [word for word in words if word not in known]
    if unknown:
        similar = difflib.get_close_matches(unknown[0], known | set(CATALOGUE), n=3)
        stored = [name for name in similar if name in known]
        hint = f" Similar: {', '.join(stored)}." if stored else ""
        return f"Nothing called {unknown[0]} has been stored yet.{hint}"
    between = f"between {show_time(span.start_ms)} and {show_time(span.end_ms)} UTC"
    if words:
        return f"{words[0]} exists, but no sample of it fits this expression {between}."
    return f"The expression gives no series {between}."


def value_rows(answer: Answer) -> tuple[list[str], list[dict[str, Any]]]:
    """A table of the newest steps: column names, and rows keyed time, c0, c1, ... newest first."""
    curves = list(answer.curves[:VALUE_SERIES])
    times = np.unique(np.concatenate([curve.t_ms for curve in curves]))[-VALUE_ROWS:] if curves else np.empty(0, int)
    rows: dict[int, dict[str, Any]] = {int(t): {"time": show_time(int(t))} for t in times[::-1]}
    for column, curve in enumerate(curves):
        for t, value in zip(curve.t_ms[-VALUE_ROWS:].tolist(), curve.values[-VALUE_ROWS:].tolist(), strict=True):
            if t in rows and math.isfinite(value):
                rows[t][f"c{column}"] = value
    return [curve.name for curve in curves], list(rows.values())


def to_csv(answer: Answer) -> Iterator[str]:
    """Long form, one sample a line, in pieces: time (RFC 3339 UTC), time in ms, series, value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("time", "t_ms", "series", "value"))
    for curve in answer.curves:
        name = _safe(curve.name)
        for t_ms, value in zip(curve.t_ms.tolist(), curve.values.tolist(), strict=True):
            stamp = show_time(t_ms).replace(" ", "T") + f".{t_ms % 1000:03d}Z"
            writer.writerow((stamp, t_ms, name, repr(value)))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _safe(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text
