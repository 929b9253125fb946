"""AckWatch: how long acknowledgements take and whether the engine trades undisturbed, read off its telemetry block.

For trials of plans (`resources.plantrial`): from the due time of what caused an order to its acceptance by the book. A
wake-up that comes late, which is what a bad placement costs, is in it, and it is what a desk feels.
"""

from __future__ import annotations

import math

import numpy as np

from engine.histogram import quantiles_ns
from engine.telemetry import BlockReader, BlockSpec, Snapshot
from metrics.catalogue import series
from metrics.errors import TransientError
from metrics.frame import IntArray
from resources.plantrial import Look

STALE_NS = 1_000_000_000
STAGES = tuple(series(f"deskvigil_engine_{stage}_seconds") for stage in ("order_to_ack", "client_order_to_ack"))
STATE, DEGRADED = series("deskvigil_engine_trading_state"), series("deskvigil_engine_degraded")
_P99 = np.array([0.99])


class AckWatch:
    """Reads the engine's block at each look. run of a look: process and start of the engine, then the numbers given."""

    def __init__(self, reader: BlockReader) -> None:
        self._reader = reader
        self._spec: BlockSpec | None = None
        self._rows: list[int] = []

    def look(self, now_ns: int, now_s: float, run: tuple[int, ...] = (), late_s: float = math.nan) -> Look:
        """What is seen now (now_ns: the wall clock, as heartbeats are; now_s: monotonic)."""
        try:
            snapshot = self._reader.read()
        except TransientError as error:
            return Look(now_s, np.zeros(0, dtype=np.int64), (), f"the engine is away: {error}")
        if snapshot.spec is not self._spec:
            self._spec = snapshot.spec
            self._rows = [i for i, one in enumerate(snapshot.spec.histograms) if one in STAGES]
        counts: IntArray = snapshot.counts[self._rows].sum(axis=0)
        return Look(now_s, counts, (snapshot.pid, snapshot.start_ns, *run), _unfit(snapshot, now_ns), late_s)


def p99_s(counts: IntArray) -> float:
    """The p99 of a histogram's counts, in seconds; NaN where there are none."""
    return float(quantiles_ns(counts, _P99)[0]) / 1e9


def _unfit(snapshot: Snapshot, now_ns: int) -> str:
    """Why nothing is to be tried on this engine now; "" where it trades undisturbed."""
    if abs(now_ns - snapshot.heartbeat_ns) > STALE_NS:
        return "the engine has not published for more than a second"
    if snapshot.scalar(STATE) != 0.0:
        return "trading is not active"
    if snapshot.scalar(DEGRADED) != 0.0:
        return "the engine is degraded"
    return ""
