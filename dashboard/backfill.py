"""Backfill: the past of the live series, so that a page's charts are full when it opens.

One answer per page and range is made at most once a second, in a worker thread, and shared by all
who ask: many viewers reconnecting at once cost one reading.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from dashboard.selection import PAGES, shown_on
from dashboard.services import Reader, SeriesValues
from metrics.clock import Clock
from metrics.series import Series

RANGES_S = (300, 900, 3600)
POINTS = 900
_FRESH_NS = 1_000_000_000
_COUNTERS = ("_total", "_sum", "_count")


class Backfill:
    """Makes history messages: a common grid of at most `POINTS` steps of at least one second."""

    def __init__(self, reader: Reader, clock: Clock, live_series: Callable[[], Sequence[Series]]) -> None:
        self._reader = reader
        self._clock = clock
        self._live_series = live_series
        self._locks = {(page, span): asyncio.Lock() for page in PAGES for span in RANGES_S}
        self._made: dict[tuple[str, int], tuple[int, bytes]] = {}

    async def message(self, page: str, span_s: int) -> bytes:
        """The history of `page`'s series over the last `span_s` seconds; KeyError for an unknown pair."""
        async with self._locks[page, span_s]:
            made = self._made.get((page, span_s))
            now_ns = self._clock.monotonic_ns()
            if made is None or now_ns - made[0] > _FRESH_NS:
                made = (now_ns, await asyncio.to_thread(self._make, page, span_s))
                self._made[page, span_s] = made
            return made[1]

    def _make(self, page: str, span_s: int) -> bytes:
        wanted = {one for one in self._live_series() if shown_on(page, one)}
        step_ms = max(span_s * 1000 // POINTS, 1000)
        end_ms = self._clock.now_ns() // 1_000_000
        start_ms = (end_ms - span_s * 1000) // step_ms * step_ms
        steps = (end_ms - start_ms) // step_ms + 1
        found = self._select(wanted, start_ms, end_ms)
        rows = {str(data.series): _on_grid(data, start_ms, step_ms, steps) for data in found if data.series in wanted}
        head = {"k": "history", "page": page, "range": span_s, "t0": start_ms, "step": step_ms, "n": steps}
        return orjson.dumps({**head, "series": rows}, option=orjson.OPT_SERIALIZE_NUMPY)

    def _select(self, wanted: set[Series], start_ms: int, end_ms: int) -> Sequence[SeriesValues]:
        if not wanted:
            return ()
        names = "|".join(sorted({re.escape(one.name) for one in wanted}))
        return self._reader.select([("__name__", "=~", names)], start_ms, end_ms)


def _on_grid(data: SeriesValues, start_ms: int, step_ms: int, steps: int) -> npt.NDArray[Any]:
    """The last sample of each step, shape (steps,); NaN where there is none.

    float32 prints in half the characters, and its seven digits are more than a chart can show; a
    counter keeps float64, since the chart shows differences between its large values.
    """
    grid: npt.NDArray[Any] = np.full(steps, np.nan, np.float64 if data.series.name.endswith(_COUNTERS) else np.float32)
    inside = (data.t_ms >= start_ms) & (data.t_ms < start_ms + steps * step_ms)
    with np.errstate(invalid="ignore"):  # a stale marker is a signalling NaN
        grid[(data.t_ms[inside] - start_ms) // step_ms] = data.values[inside]
    return grid
