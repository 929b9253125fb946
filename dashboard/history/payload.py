"""Payload: an answer as the History page reads it, in one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dashboard.history.answer import Answer, Part, ask, curve_name, short_names
from dashboard.history.figure import COLOURS, Placed, figure, place
from dashboard.history.marks import KINDS, Mark, marks
from dashboard.history.question import Question
from dashboard.history.statistics import Statistics, statistics
from dashboard.services import Services
from dashboard.timerange import show_time, spoken

_FIGURES = ("last", "min", "mean", "max", "p50", "p95", "p99", "change", "before", "versus")


def payload(services: Services, question: Question) -> dict[str, Any]:
    """Ask, and put together what the page draws; blocks. Raises DeskvigilError for a wrong range."""
    answer = ask(services, question)
    placed = place(answer.parts)
    noted, left_out = marks(services, answer.span, question.without)
    return {
        "start": answer.span.start_ms,
        "end": answer.span.end_ms,
        "step": answer.step_ms,
        "note": note(answer),
        "search": question.to_search(),
        "parts": [_part(part, where) for part, where in zip(answer.parts, placed, strict=True)],
        "series": list(_series(answer, placed)),
        "figure": figure(answer, placed),
        "comparison": None if answer.comparison is None else asdict(answer.comparison),
        "marks": [_mark(mark) for mark in noted],
        "marks_left_out": left_out,
        "kinds": dict(KINDS),
    }


def note(answer: Answer) -> str:
    """The window and what one point stands for, in words."""
    span = f"{show_time(answer.span.start_ms)} – {show_time(answer.span.end_ms)} UTC"
    return f"{span} · 1 point = {spoken(answer.step_ms)}"


def _part(part: Part, where: Placed) -> dict[str, Any]:
    return {
        "letter": part.letter,
        "expression": part.expression,
        "series": len(part.curves),
        "left_out": part.left_out,
        "axis": where.axis,
        "unit": where.scale.words,
        "refusal": where.refusal,
        "problem": None if part.problem is None else asdict(part.problem),
        "absence": None if part.absence is None else asdict(part.absence),
        "warnings": part.warnings,
        "infos": part.infos,
    }


def _series(answer: Answer, placed: Sequence[Placed]) -> list[dict[str, Any]]:
    """One row a series: name, colour, statistics in words of its own scale, as the axis has it where it is drawn."""
    rows: list[dict[str, Any]] = []
    for part, where in zip(answer.parts, placed, strict=True):
        names = short_names(part)
        for row, curve in enumerate(part.curves):
            before = part.before[row] if part.before else None
            figures = statistics(curve, before)
            rows.append(
                {
                    "letter": part.letter,
                    "curve": row,
                    "name": names[row],
                    "full": curve_name(curve.labels) or part.expression,
                    "colour": COLOURS[len(rows) % len(COLOURS)],
                    "drawn": bool(where.axis),
                    "unit": where.scale.words,
                    "factor": where.scale.factor,
                    "n": figures.n,
                    "missing": before is None and answer.comparison is not None and answer.comparison.offset_ms > 0,
                    "ratio": _ratio(figures),
                    "statistics": {name: _scaled(figures, name, where) for name in _FIGURES},
                }
            )
    return rows


def _scaled(figures: Statistics, name: str, where: Placed) -> float | None:
    value = getattr(figures, name)
    return None if value is None else value * where.scale.factor


def _ratio(figures: Statistics) -> float | None:
    """By how much the mean differs from the earlier one, as a share of that."""
    if figures.before in (None, 0.0) or figures.versus is None:
        return None
    return figures.versus / abs(figures.before or 1.0)


def _mark(mark: Mark) -> dict[str, Any]:
    return {
        "t": mark.t_ms,
        "end": mark.end_ms,
        "span": mark.is_span,
        "kind": mark.kind,
        "text": mark.text,
        "detail": mark.detail,
        "href": mark.href,
        "severity": None if mark.severity is None else mark.severity.label,
    }


__all__ = ["note", "payload"]
