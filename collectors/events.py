"""Events: what changed between two frames that a person wants to see on a chart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from metrics.frame import Frame
from metrics.series import Schema, Series

RESTARTS = "deskvigil_process_restarts_total"
WATCHED = (
    RESTARTS,
    "deskvigil_engine_session_total",
    "deskvigil_engine_trading_state",
    "deskvigil_engine_degraded",
    "deskvigil_engine_breaker_state",
    "deskvigil_engine_recovered_poison_record",
    "deskvigil_engine_poison_total",
    "deskvigil_feed_active",
)
TRADING_STATES = ("ACTIVE", "REDUCING", "HALTED")
MODES = ("NORMAL", "DEGRADED", "SHEDDING")
BREAKER_STATES = ("CLOSED", "HALF OPEN", "OPEN")
_CONSOLE = Series(RESTARTS, (("process", "console"),))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one moment; kind is restart, session, trading, degraded, breaker, poison or feed."""

    t_ms: int
    kind: str
    title: str


class EventWatcher:
    """Compares each frame with the one before it and tells the sink what happened.

    Watches the restart counter of each process; the engine's session number, trading state, mode,
    breakers, which live feed it trades on, and what it left out because it failed on it. The sink is
    called in the collector's thread and must be quick.
    """

    def __init__(self, sink: Callable[[Event], None], reason: Callable[[str], str] = lambda process: "") -> None:
        self._sink = sink
        self._reason = reason
        self._watches: dict[Schema, tuple[tuple[int, Series], ...]] = {}
        self._last: dict[Series, float] = {}

    def observe(self, frame: Frame) -> None:
        """Look at one frame."""
        watches = self._watches.get(frame.schema)
        if watches is None:
            watches = self._find(frame.schema)
        values = {series: float(frame.values[column]) for column, series in watches}
        for series, value in values.items():
            if math.isnan(value):
                continue
            # A console that was not restarted itself has seen the program's start: what restarted before its
            # first look did so since then.
            unseen = series.name == RESTARTS and values.get(_CONSOLE) == 0.0
            before = self._last.get(series, 0.0 if unseen else None)
            self._last[series] = value
            if before is not None and value != before:
                event = self._tell(series, before, value, frame.t_ms)
                if event is not None:
                    self._sink(event)

    def _find(self, schema: Schema) -> tuple[tuple[int, Series], ...]:
        found = tuple((column, series) for column, series in enumerate(schema.series) if series.name in WATCHED)
        # A collector's schema changes when a device comes or goes: only its newest one is kept.
        self._watches = {known: rows for known, rows in self._watches.items() if known.collector != schema.collector}
        self._watches[schema] = found
        return found

    def _tell(self, series: Series, before: float, value: float, t_ms: int) -> Event | None:
        if series.name == RESTARTS and value > before:
            process = series.label("process")
            reason = self._reason(process)
            return Event(t_ms, "restart", f"{process} restarted" + (f" ({reason})" if reason else ""))
        if series.name == "deskvigil_engine_session_total" and value > before:
            return Event(t_ms, "session", f"session {value:.0f} begins: positions flattened and settled")
        if series.name == "deskvigil_feed_active" and value == 1.0:
            return Event(t_ms, "feed", f"market data now from {series.label('feed')}")
        if series.name == "deskvigil_engine_trading_state":
            return Event(t_ms, "trading", f"trading {_word(TRADING_STATES, value)}")
        if series.name == "deskvigil_engine_degraded":
            return Event(t_ms, "degraded", f"engine {_word(MODES, value)}")
        if series.name == "deskvigil_engine_breaker_state":
            return Event(t_ms, "breaker", f"breaker {series.label('breaker')} {_word(BREAKER_STATES, value)}")
        if series.name == "deskvigil_engine_recovered_poison_record" and value > 0:
            return Event(t_ms, "poison", f"journal record {value:.0f} killed the engine twice and is left out")
        if series.name == "deskvigil_engine_poison_total" and value > before:
            return Event(t_ms, "poison", f"{value - before:.0f} events or timers failed and were left out")
        return None


def _word(words: tuple[str, ...], value: float) -> str:
    index = int(value)
    return words[index] if 0 <= index < len(words) else f"state {index}"
