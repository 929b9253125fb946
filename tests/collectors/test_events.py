"""Events that become annotations on charts."""

from __future__ import annotations

import numpy as np
import pytest

from collectors.events import Event, EventWatcher
from metrics.frame import Frame
from metrics.series import Schema, Series

RESTARTS = Series("deskvigil_process_restarts_total", (("process", "engine"),))
STATE = Series("deskvigil_engine_trading_state")
SESSION = Series("deskvigil_engine_session_total")
SCHEMA = Schema("mixed", (RESTARTS, STATE, SESSION))


def _watch(*rows: tuple[float, float, float]) -> list[Event]:
    seen: list[Event] = []
    watcher = EventWatcher(seen.append, reason=lambda process: f"{process} got signal SIGKILL")
    for second, row in enumerate(rows):
        watcher.observe(Frame(SCHEMA, second * 1_000_000_000, np.array(row)))
    return seen


MODE = Series("deskvigil_engine_degraded")
BREAKER = Series("deskvigil_engine_breaker_state", (("breaker", "orders"),))
LEFT_OUT = Series("deskvigil_engine_recovered_poison_record")
POISON = Series("deskvigil_engine_poison_total")


def test_modes_breakers_and_poison_are_told_in_words() -> None:
    seen: list[Event] = []
    watcher = EventWatcher(seen.append)
    schema = Schema("engine", (MODE, BREAKER, LEFT_OUT, POISON))
    rows = [(0, 0, 0, 0), (1, 2, 0, 0), (0, 1, 0, 2), (0, 0, 77, 0), (0, 0, 0, 0)]
    for second, row in enumerate(rows):
        watcher.observe(Frame(schema, second * 1_000_000_000, np.array(row, dtype=float)))
    assert [(event.kind, event.title) for event in seen] == [
        ("degraded", "engine DEGRADED"),
        ("breaker", "breaker orders OPEN"),
        ("degraded", "engine NORMAL"),
        ("breaker", "breaker orders HALF OPEN"),
        ("poison", "2 events or timers failed and were left out"),
        ("breaker", "breaker orders CLOSED"),
        ("poison", "journal record 77 killed the engine twice and is left out"),
    ]


def test_the_first_frame_is_no_event() -> None:
    assert _watch((3, 0, 7)) == []


@pytest.mark.parametrize(("console", "told"), [(0, ["engine restarted"]), (1, []), (np.nan, [])])
def test_a_restart_before_the_first_look_is_told_by_a_console_that_was_there_from_the_start(console, told) -> None:
    seen: list[Event] = []
    watcher = EventWatcher(seen.append)
    schema = Schema("process", (RESTARTS, Series(RESTARTS.name, (("process", "console"),))))
    for second in range(2):
        watcher.observe(Frame(schema, second * 1_000_000_000, np.array([1.0, console])))
    assert [event.title for event in seen] == told


def test_a_restart_is_told_with_its_reason() -> None:
    assert _watch((0, 0, 1), (1, 0, 1)) == [Event(1000, "restart", "engine restarted (engine got signal SIGKILL)")]


def test_a_missing_reading_between_does_not_hide_a_change() -> None:
    assert [event.title for event in _watch((0, 0, 1), (0, np.nan, 1), (0, 2, 1))] == ["trading HALTED"]


def test_a_session_number_that_starts_again_is_not_a_new_session() -> None:
    assert _watch((0, 0, 5), (0, 0, 1)) == []
    assert [event.kind for event in _watch((0, 0, 5), (0, 0, 6))] == ["session"]


def test_a_switch_of_the_live_feed_is_told_once_with_the_feed_that_took_over() -> None:
    first, backup = (Series("deskvigil_feed_active", (("feed", name),)) for name in ("kraken", "coinbase"))
    seen: list[Event] = []
    watcher = EventWatcher(seen.append)
    for second, row in enumerate([(1, 0), (1, 0), (0, 1), (0, 1), (1, 0)]):
        watcher.observe(Frame(Schema("feed", (first, backup)), second * 1_000_000_000, np.array(row, dtype=float)))
    assert seen == [
        Event(2000, "feed", "market data now from coinbase"),
        Event(4000, "feed", "market data now from kraken"),
    ]
