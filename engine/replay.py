"""Replay: a recording through the books as fast as they go (or paced), and how it compares with what the venue says.

Each format has its own proof: LOBSTER days carry the venue's book after every message, Binance captures
its best quotes and a chain of update ids, order files have one right list of fills.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.book import apply_all, make_books
from engine.events import TRADE, EventArray, Tape, empty_events, empty_fills
from engine.feeds.binance import capture_tape, check_capture, read_capture
from engine.feeds.lobster import read_lobster
from engine.feeds.lobsterflow import flow_tape
from engine.feeds.orders import match_orders, orders_tape, read_orders
from engine.journalreplay import replay_journal
from engine.reconcile import reconcile
from metrics.errors import DeskvigilError

PACE_STEP_S: Final = 0.02  # how finely a paced replay follows the recorded times
PACED_ORDERS: Final = 1 << 18


@dataclass(kw_only=True)
class Result:
    """What a replay found; the fields are the keys of the JSON object that is printed.

    events: messages replayed; seconds: for the books alone, without reading the file; fills: trades in
    the recording, or given by matching (orders); what a format does not have is 0 or None.
    """

    events: int = 0
    seconds: float = 0.0
    events_per_second: float = 0.0
    fills: int = 0
    fills_crc32: int | None = None
    book_rows_checked: int = 0
    mismatches: int = 0
    levels_from_book: int = 0
    checksums_ok: int = 0
    checksums_bad: int = 0
    gaps: int = 0
    skipped_lines: int = 0


def replay(
    format: str, path: Path, *, fills_out: Path | None = None, speed: float | None = None, verify: bool = False
) -> dict[str, Any]:
    """Replay one recording; format: lobster, binance, orders or journal.

    fills_out: where to write the fills as CSV (orders and journal). speed: recorded seconds per second, None for
    as fast as it goes. The comparison with the venue's own figures is always made; `verify` is for the
    caller, who may fail on it. Raises DeskvigilError for a file that is not of that format.
    """
    formats: dict[str, Callable[[Path, float | None, Path | None], Result]] = {
        "lobster": _replay_lobster,
        "binance": _replay_binance,
        "orders": _replay_orders,
        "journal": _replay_journal,
    }
    if format not in formats:
        raise DeskvigilError(f"unknown format {format!r}: expected {', '.join(formats)}")
    if fills_out is not None and format not in ("orders", "journal"):
        raise DeskvigilError(f"fills are written for the formats orders and journal only, not for {format}")
    if speed is not None and not speed > 0:
        raise DeskvigilError(f"a replay at speed {speed} would never end: expected a number above 0")
    _load_kernels()
    result = formats[format](path, speed, fills_out)
    result.events_per_second = round(result.events / result.seconds, 1) if result.seconds > 0 else 0.0
    result.seconds = round(result.seconds, 6)
    return dataclasses.asdict(result)


def _load_kernels() -> None:
    """Compile the book or load it from the cache, so that it is not measured."""
    apply_all(make_books(1, max_orders=16), empty_events(0), empty_fills(0))


def _replay_lobster(path: Path, speed: float | None, _: Path | None) -> Result:
    day = read_lobster(path)
    reconcile(dataclasses.replace(day, messages=day.messages[:1], book=day.book[:1]))  # compiles, unmeasured
    started = time.perf_counter()
    found = reconcile(day)
    seconds = time.perf_counter() - started if speed is None else _paced(flow_tape(day), speed)
    return Result(
        events=len(day.messages), seconds=seconds, fills=found.fills, book_rows_checked=found.rows,
        mismatches=found.mismatches, levels_from_book=found.levels_from_book,
    )  # fmt: skip


def _replay_binance(path: Path, speed: float | None, _: Path | None) -> Result:
    capture = read_capture(path)
    started = time.perf_counter()
    found = check_capture(capture)
    seconds = time.perf_counter() - started if speed is None else _paced(capture_tape(capture), speed)
    return Result(
        events=len(capture.events), seconds=seconds, fills=int(np.count_nonzero(capture.events["kind"] == TRADE)),
        book_rows_checked=found.rows, mismatches=found.mismatches, gaps=capture.gaps, skipped_lines=capture.skipped_lines,
    )  # fmt: skip


def _replay_orders(path: Path, speed: float | None, fills_out: Path | None) -> Result:
    orders = read_orders(path)
    started = time.perf_counter()
    fills = match_orders(orders)
    seconds = time.perf_counter() - started if speed is None else _paced(orders_tape(orders), speed)
    if fills_out is not None:
        fills.write(fills_out)
    return Result(events=len(orders.events), seconds=seconds, fills=len(fills.row), fills_crc32=fills.crc32())


def _replay_journal(path: Path, speed: float | None, fills_out: Path | None) -> Result:
    if speed is not None:
        raise DeskvigilError("a journal is replayed as fast as it goes: --speed is for recordings")
    found = replay_journal(path)
    fills = found.fills()
    if fills_out is not None:
        fills.write(fills_out)
    return Result(
        events=found.events, seconds=found.seconds, fills=len(fills.row), fills_crc32=fills.crc32(),
        book_rows_checked=found.books_checked, mismatches=found.mismatches, checksums_ok=found.records,
        checksums_bad=found.damaged, gaps=found.gaps, skipped_lines=found.skipped,
    )  # fmt: skip


def _paced(tape: Tape, speed: float) -> float:
    """Apply a tape at `speed` times its recorded pace; returns the seconds that took."""
    books, no_fills = make_books(1, max_orders=PACED_ORDERS, level_book=tape.level_book), empty_fills(0)
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
