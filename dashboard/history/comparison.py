"""Comparison: by how much the earlier time lies back that a question is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dashboard.history.question import COMPARE_WORDS, Compare
from dashboard.services import Services
from dashboard.timerange import TimeRange, show_time
from metrics.errors import DeskvigilError

_DAY_MS = 86_400_000
_STARTED = "deskvigil_engine_session_start_time_seconds"
_STEPS = 5_000
_LOOK_BACK_MS = 8 * _DAY_MS


@dataclass(frozen=True, slots=True)
class Comparison:
    """The earlier window begins offset_ms before the one shown; words name it; without an offset they say why."""

    kind: Compare
    words: str
    offset_ms: int = 0


def comparison_of(services: Services, kind: Compare, span: TimeRange) -> Comparison | None:
    """What `span` is compared with; None where nothing is. Blocks."""
    if not kind:
        return None
    if kind == "session":
        return _session(services, span)
    return Comparison(kind, COMPARE_WORDS[kind], _DAY_MS if kind == "day" else 7 * _DAY_MS)


def _session(services: Services, span: TimeRange) -> Comparison:
    """Align on the time since the session began: the one that runs at the window's end, and the one before it."""
    starts = session_starts(services, span.end_ms - _LOOK_BACK_MS, span.end_ms)
    if not starts:
        return Comparison("session", "There is no session to compare with: the engine has not said when one began.")
    if len(starts) < 2:
        return Comparison(
            "session", f"There is no earlier session in the store: the first one began {show_time(starts[0])} UTC."
        )
    return Comparison("session", COMPARE_WORDS["session"], starts[-1] - starts[-2])


def session_starts(services: Services, t0_ms: int, t1_ms: int) -> list[int]:
    """When sessions began that ran between t0 and t1, ascending."""
    step_ms = max((t1_ms - t0_ms) // _STEPS, 1_000)
    try:
        result = services.query.range(f"max_over_time({_STARTED}[{-(-step_ms // 1000)}s])", t0_ms, t1_ms, step_ms)
    except DeskvigilError:
        return []
    values = result.values[result.present]
    found = np.unique(np.round(values[np.isfinite(values) & (values > 0)] * 1000.0).astype(np.int64))
    return [int(start) for start in found if start <= t1_ms]
