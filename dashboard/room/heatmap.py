"""Heatmap: how one stage's latencies lay over time, from the histogram's buckets, with quantiles and limit drawn in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dashboard.room.stages import STAGES, limits
from dashboard.services import QueryResult, Services
from dashboard.timerange import RangeError, time_range
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray

COLUMNS = 180
RANGES = ("15m", "1h", "6h", "24h", "7d")
FIRST_S = 128e-9  # where the first bucket is drawn to begin; it holds everything shorter too
LINES = (("0.5", "p50"), ("0.99", "p99"))


class StageError(DeskvigilError):
    """A stage that there is none of."""


def heatmap(services: Services, stage: str, preset: str) -> dict[str, Any]:
    """Everything the page draws, times in ms, latencies in seconds; blocks.

    t: starts of the columns and the end of the last, (n + 1,); edges: bounds of the rows, (m + 1,); share:
    of the column's durations in the row, (m, n), None where nothing was recorded; counts (n,). Raises
    StageError or RangeError for what there is none of, DeskvigilError where the store cannot answer.
    """
    if stage not in STAGES:
        raise StageError(f"stage {stage!r} is not one of {', '.join(STAGES)}")
    if preset not in RANGES:
        raise RangeError(f"range {preset!r} is not one of {', '.join(RANGES)}")
    span = time_range(preset, "", "", services.clock.now_ns() // 1_000_000)
    step_ms = max(span.step_ms(COLUMNS), 5_000)
    end_ms = span.end_ms // step_ms * step_ms
    start_ms = end_ms - (span.end_ms - span.start_ms) // step_ms * step_ms
    name = f"deskvigil_engine_{stage}_seconds"
    question = f"sum by (le) (increase({name}_bucket[{step_ms // 1000}s]))"
    result = services.query.range(question, start_ms + step_ms, end_ms, step_ms)
    edges, grown = _rows(result)
    totals = grown.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(grown > 0.0, grown / totals, np.nan)
    bound, words = limits(services.alerts).get(stage, (math.nan, ""))
    return {
        "stage": stage,
        "title": STAGES[stage][0],
        "words": STAGES[stage][1],
        "range": preset,
        "step_s": step_ms // 1000,
        "t": np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64),
        "edges": edges,
        "share": list(share),
        "counts": totals,
        "recorded": float(totals.sum()),
        "lines": _lines(services, stage, start_ms + step_ms, end_ms, step_ms),
        "limit": bound if math.isfinite(bound) else None,
        "limit_words": words,
    }


def _rows(result: QueryResult) -> tuple[FloatArray, FloatArray]:
    """Bounds (m + 1,), and durations in each row and column, (m, n), of cumulative buckets."""
    bounds = [float(labels.get("le", "nan").replace("+Inf", "inf")) for labels in result.labels]
    order = np.argsort(bounds)
    if len(order) == 0:
        return np.zeros(0), np.zeros((0, len(result.t_ms)))
    cumulative = np.where(result.present, np.nan_to_num(result.values), 0.0)[order]
    grown = np.maximum(np.diff(cumulative, axis=0, prepend=0.0), 0.0)
    sorted_bounds = np.array(bounds)[order]
    if math.isinf(sorted_bounds[-1]):  # drawn one row high
        sorted_bounds[-1] = sorted_bounds[-2] * 2 if len(sorted_bounds) > 1 else 1.0
    return np.concatenate([[FIRST_S], sorted_bounds]), grown


def _lines(services: Services, stage: str, start_ms: int, end_ms: int, step_ms: int) -> list[dict[str, Any]]:
    # Only samples of the column itself: PromQL's lookback would draw a line on while the engine is dead.
    chosen = f'deskvigil_kpi_latency_seconds{{stage="{stage}",quantile=~"0.5|0.99"}}'
    question = f"last_over_time({chosen}[{step_ms // 1000}s])"
    result = services.query.range(question, start_ms, end_ms, step_ms)
    names = dict(LINES)
    return [
        {"name": names[labels["quantile"]], "values": np.where(there, values, np.nan)}
        for labels, values, there in zip(result.labels, result.values, result.present, strict=True)
        if labels.get("quantile") in names
    ]
