"""Replay: a recording through the books as fast as they go (or paced), and how it compares with what the venue says.

Each format has its own proof (see docs/FEEDS.md): LOBSTER days carry the venue's book after every message,
Binance captures its best quotes and a chain of update ids, order files have one right list of fills.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.book import apply_all, make_books
from engine.events import EventArray, Tape, empty_events, empty_fills
from engine.feeds.tape import FORMATS, format_named
from metrics.errors import DeskvigilError

PACE_STEP_S: Final = 0.02  # how finely a paced replay follows the recorded times
PACED_ORDERS: Final = 1 << 18


def replay(
    format: str, path: Path, *, fills_out: Path | None = None, speed: float | None = None, verify: bool = False
) -> dict[str, Any]:
    """Replay one recording; format: a name of `engine.feeds.tape.FORMATS`.

    fills_out: where to write the fills as CSV, where the format has any. speed: recorded seconds per second, None for
    as fast as it goes. The comparison with the venue's own figures is always made; `verify` is for the
    caller, who may fail on it. Raises DeskvigilError for a file that is not of that format.
    """
    known = format_named(format)
    if fills_out is not None and not known.writes_fills:
        writing = ", ".join(format.name for format in FORMATS if format.writes_fills)
        raise DeskvigilError(f"fills are written for the format {writing} only, not for {format}")
    if speed is not None and not speed > 0:
        raise DeskvigilError(f"a replay at speed {speed} would never end: expected a number above 0")
    _load_kernels()
    result = known.prove(path, fills_out)
    if speed is not None:
        result.seconds = _paced(known.load(path), speed)
    result.events_per_second = round(result.events / result.seconds, 1) if result.seconds > 0 else 0.0
    result.seconds = round(result.seconds, 6)
    return dataclasses.asdict(result)


def _load_kernels() -> None:
    """Compile the book or load it from the cache, so that it is not measured."""
    apply_all(make_books(1, max_orders=16), empty_events(0), empty_fills(0))


def _paced(tape: Tape, speed: float) -> float:
    """Apply a tape at `speed` times its recorded pace; returns the seconds that took."""
    books = make_books(len(tape.instruments), max_orders=PACED_ORDERS, level_book=tape.level_book)
    no_fills = empty_fills(0)
    events: EventArray = tape.events
    times = events["t_ns"]
    started, at = time.perf_counter(), 0
    while at < len(events):
        due_ns = int(times[0]) + int((time.perf_counter() - started) * speed * 1e9)
        until = int(np.searchsorted(times, due_ns, side="right"))
        apply_all(books, events[at:until], no_fills)
        at = max(at, until)
        if at < len(events):
            ahead_s = (int(times[at]) - due_ns) / 1e9 / speed
            time.sleep(min(max(ahead_s, 0.0), PACE_STEP_S))
    return time.perf_counter() - started
