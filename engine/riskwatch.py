"""RiskWatch: whether the risk process lives and has a figure, by its telemetry block."""

from __future__ import annotations

import math
from pathlib import Path

from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.errors import TransientError

SILENT_S = 2.0  # without a new heartbeat: ten times as long as a restart of the process takes
# States in which there are positions and no figure for them; without an engine to read there is nothing to price.
BLIND = tuple((state, series("deskvigil_risk_state", state=state)) for state in ("stale", "no_marks"))


class RiskWatch:
    """Looks at the block. Before the first heartbeat that moves there is nothing to miss."""

    def __init__(self, block: Path) -> None:
        self._reader = BlockReader(block)
        self._heartbeat: int | None = None
        self._moved_ns: int | None = None

    def look(self, now_ns: int) -> str | None:
        """What is wrong, "" where there is a sound figure, None where nothing can be said (yet); monotonic time."""
        heartbeat = self._reader.heartbeat()
        if heartbeat is not None and heartbeat != self._heartbeat:
            if self._heartbeat is not None:
                self._moved_ns = now_ns
            self._heartbeat = heartbeat
        if self._moved_ns is None:
            return None
        silent_s = (now_ns - self._moved_ns) / 1e9
        if silent_s > SILENT_S:
            return f"no sign of life from the risk process for {silent_s:.1f} s"
        try:
            snapshot = self._reader.read()
        except TransientError as error:
            return str(error)
        for state, which in BLIND:
            if snapshot.scalar(which) == 1.0:
                return f"the risk process cannot price the positions: {state}"
        # The block's first scalar is the value at risk; a flat desk without a figure is no failure.
        return None if math.isnan(float(snapshot.scalars[0])) else ""
