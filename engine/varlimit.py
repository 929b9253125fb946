"""VarLimit: the value at risk as a pre-trade limit. Compiled code only compares one word; here it is set.

Where the limit is set (`gates.max_var_usd`), an order that does not reduce its position is refused while
the live VaR is above it, while there is none, and while it rests on positions older than `gates.max_var_age_s`.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from engine.desk import TradingDesk
from engine.gates import VAR_STOP, Reason
from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.errors import TransientError

LOG = logging.getLogger("deskvigil.engine")
LIMIT = "max_var_usd"
AGE = series("deskvigil_risk_position_age_seconds")


class VarLimit:
    """Looks at the risk process's block and says so to a desk's gates. Everything happens in the engine's thread."""

    def __init__(self, block: Path, desk: TradingDesk, max_age_s: float) -> None:
        self._reader, self._desk, self._max_age_s = BlockReader(block), desk, max_age_s
        self._heartbeat: int | None = None
        self._moved_ns: int | None = None
        self._var_usd, self._age_s = math.nan, math.nan
        self.reason = ""

    def look(self, now_ns: int) -> None:
        """Set the gates' word as of `now_ns` (monotonic)."""
        limit = self._desk.limits.value(LIMIT)
        before, self.reason = self.reason, self._problem(limit, now_ns) if limit > 0.0 else ""
        self._desk.arrays[0].gates.words[VAR_STOP] = int(Reason.VAR_LIMIT) if self.reason else 0
        if bool(self.reason) is not bool(before):
            LOG.warning(
                "%s", f"only reducing orders: {self.reason}" if self.reason else "the value at risk is within its limit"
            )

    def status(self) -> dict[str, Any]:
        """For the status answer; var_usd and age_s None where there is none."""
        return {
            "limit_usd": self._desk.limits.value(LIMIT),
            "var_usd": self._var_usd if math.isfinite(self._var_usd) else None,
            "reason": self.reason,
        }

    def _problem(self, limit: float, now_ns: int) -> str:
        self._follow(now_ns)
        if self._moved_ns is None:
            return "no sign of life from the risk process yet"
        age_s = self._age_s + (now_ns - self._moved_ns) / 1e9
        if not math.isfinite(self._var_usd):
            return "the risk process has no value at risk"
        if not age_s <= self._max_age_s:
            return f"the value at risk is {age_s:.1f} s old, more than {self._max_age_s:g} s"
        if not self._var_usd <= limit:
            return f"the value at risk is {self._var_usd:,.0f} USD, the limit is {limit:,.0f}"
        return ""

    def _follow(self, now_ns: int) -> None:
        """Read the block where its heartbeat has moved; a first one may be of a process that is gone."""
        heartbeat = self._reader.heartbeat()
        if heartbeat is None or heartbeat == self._heartbeat:
            return
        seen_before, self._heartbeat = self._heartbeat is not None, heartbeat
        try:
            snapshot = self._reader.read()
        except TransientError:
            self._var_usd = math.nan
            return
        # The block's first scalar is the value at risk.
        self._var_usd, self._age_s = float(snapshot.scalars[0]), snapshot.scalar(AGE)
        if seen_before:
            self._moved_ns = now_ns
