"""What the query tests share: engines over series held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metrics.clock import SystemClock
from metrics.series import Series, make_labels
from query.engine import QueryEngine, QueryOptions, Result
from query.source import MemorySource


def series(name: str, /, **labels: str) -> Series:
    return Series(name, make_labels(labels))


def engine(
    columns: Mapping[Series, Sequence[float]] | None = None, *, step_ms: int = 1000, options: QueryOptions | None = None
) -> QueryEngine:
    """An engine over columns that begin at 0 and go on in equal steps; None leaves a gap."""
    source = MemorySource()
    for one, values in (columns or {}).items():
        kept = [(i * step_ms, value) for i, value in enumerate(values) if value is not None]
        source.put(one, [t for t, _ in kept], [value for _, value in kept])
    return QueryEngine(source, options or QueryOptions(), SystemClock())


def answer(result: Result) -> dict[str, float]:
    """An instant vector as {series as text: value}."""
    return {
        str(
            Series(labels.get("__name__", ""), make_labels({k: v for k, v in labels.items() if k != "__name__"}))
        ): value
        for labels, value in result.samples()
    }
