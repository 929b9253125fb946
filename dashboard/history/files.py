"""Files: an answer's every point as CSV or Parquet, in long form, with the question in front."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import cast

import numpy as np

from dashboard.history.answer import Answer, Curve, Part, curve_name
from dashboard.history.question import Question
from dashboard.history.unit import Unit
from dashboard.timerange import show_time, spoken
from metrics.frame import IntArray
from storage.export_parquet import Column, Kind, ParquetWriter

COLUMNS = ("time", "t_ms", "query", "series", "unit", "value", "window")


def unit_words(unit: Unit | None) -> str:
    """The unit of a file's values: base units, nothing is scaled there."""
    if unit is None:
        return "unknown"
    return unit.key or "count"


def heading(answer: Answer, question: Question) -> dict[str, str]:
    """What a file says of itself."""
    head = {
        "program": "Deskvigil",
        "from": f"{show_time(answer.span.start_ms)} UTC",
        "to": f"{show_time(answer.span.end_ms)} UTC",
        "step": spoken(answer.step_ms),
        "address": "/history" + question.to_search(),
    }
    if answer.comparison is not None:
        head["compared with"] = answer.comparison.words
    for part in answer.parts:
        head[f"query {part.letter}"] = part.expression
        head[f"unit {part.letter}"] = unit_words(part.unit)
        if part.problem is not None:
            head[f"error {part.letter}"] = part.problem.message
    return head


def rows(answer: Answer) -> Iterator[tuple[Part, str, str, IntArray, Curve]]:
    """Per series: its part, name, window ("now" or "before"), the times of its samples, int64 ms, and itself.

    The times of an earlier window are those at which its samples were taken.
    """
    offset = answer.comparison.offset_ms if answer.comparison is not None else 0
    for part in answer.parts:
        for row, curve in enumerate(part.curves):
            name = curve_name(curve.labels) or part.expression
            yield part, name, "now", answer.t_ms, curve
            before = part.before[row] if part.before else None
            if before is not None:
                yield part, name, "before", answer.t_ms - offset, before


def to_csv(answer: Answer, question: Question) -> Iterator[str]:
    """`# key: value` lines, then one sample a line, in pieces: time RFC 3339 UTC, values in base units."""
    buffer = io.StringIO()
    for key, value in heading(answer, question).items():
        # A line break in a query must not end the comment.
        buffer.write(f"# {key}: {' '.join(value.split())}\r\n")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for part, name, window, times, curve in rows(answer):
        unit, series = unit_words(part.unit), _safe(name)
        kept = np.flatnonzero(curve.present)
        for t_ms, value in zip(times[kept].tolist(), curve.values[kept].tolist(), strict=True):
            writer.writerow((_rfc3339(t_ms), t_ms, part.letter, series, unit, repr(value), window))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _rfc3339(t_ms: int) -> str:
    return show_time(t_ms).replace(" ", "T") + f".{t_ms % 1000:03d}Z"


def _safe(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def to_parquet(answer: Answer, question: Question) -> bytes:
    """The same rows and columns; the question is the file's key-value metadata."""
    names = {"time": "timestamp", "t_ms": "int64", "value": "double"}
    columns = [Column(name, cast(Kind, names.get(name, "string"))) for name in COLUMNS]
    file = io.BytesIO()
    with ParquetWriter(file, columns, heading(answer, question)) as writer:
        for part, name, window, times, curve in rows(answer):
            kept = np.flatnonzero(curve.present)
            same: IntArray = np.zeros(len(kept), np.int64)
            writer.write(
                {
                    "time": times[kept],
                    "t_ms": times[kept],
                    "query": (same, [part.letter]),
                    "series": (same, [name]),
                    "unit": (same, [unit_words(part.unit)]),
                    "value": curve.values[kept],
                    "window": (same, [window]),
                }
            )
    return file.getvalue()
