"""How fast the books match and update, event by event and in bulk, beside other people's books on the same stream."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.book import Books, apply_all, apply_event, counters, make_books
from engine.buckets import bucket_of
from engine.events import EventArray, empty_events, empty_fills
from engine.histogram import BUCKETS, quantiles_ns
from engine.jit import kernel
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from metrics.frame import IntArray
from validation import bookflows, bookpeers
from validation.bookflows import Flow
from validation.figure import Figure

NAME = "book"
ROUNDS = 7
MATCHING_M_PER_S, UPDATES_M_PER_S, P99_NS = 10.0, 15.0, 500.0
QUANTILES = np.array([0.5, 0.99, 0.999])
PEERS_PYTHON = "DESKVIGIL_BOOK_PEERS"
PEER_LIMIT_S = 300.0
# A cancellation of an order that has just traded is normal; these are not.
FAULTS = ("book_full", "duplicate_id", "invalid")


@kernel
def _apply_timed(books: Books, events: EventArray, counts: IntArray) -> int:
    """Apply events as the engine does, one call each; durations go into counts. Returns the longest in ns."""
    longest = 0
    before = clock_ns(CLOCK_MONOTONIC)
    for k in range(len(events)):
        apply_event(books, events[k])
        now = clock_ns(CLOCK_MONOTONIC)
        counts[bucket_of(now - before)] += 1
        longest = max(longest, now - before)
        before = now
    return longest


@kernel
def _record_only(events: EventArray, counts: IntArray) -> int:
    """What `_apply_timed` does around the books: the recorder's own cost."""
    longest = 0
    before = clock_ns(CLOCK_MONOTONIC)
    for _ in range(len(events)):
        now = clock_ns(CLOCK_MONOTONIC)
        counts[bucket_of(now - before)] += 1
        longest = max(longest, now - before)
        before = now
    return longest


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Apply the same events to the same books several times; the median round is reported.

    Rates, the peers' too, are per second of CPU time, so that neighbours on the machine count less.
    """
    recorded = bookflows.recorded_orders()
    flows = [bookflows.synthetic()] if recorded is None else [recorded, bookflows.synthetic()]
    updates = [bookflows.levels(), *bookflows.recorded_levels()]
    _warm()
    peers = _peers(recorded or flows[0], updates[0], say)
    figures = []
    for k, flow in enumerate(flows):
        peer = peers["orders"] if k == 0 else ""
        figures += _bulk(flow, "orders", MATCHING_M_PER_S if k == 0 else None, peer, say) + _single(flow, say)
    figures += _bulk(bookflows.deep(), "orders", None, "", say)
    for k, flow in enumerate(updates):
        figures += _bulk(flow, "updates", UPDATES_M_PER_S, peers["levels"] if k == 0 else "", say)
    figures += _single(updates[0], say)
    day = bookflows.recorded_day()
    return figures + (_replay(day, say) if day is not None else [])


def _warm() -> None:
    nothing, counts = empty_fills(1), np.zeros(BUCKETS, dtype=np.int64)
    books = make_books(1, max_orders=1)
    events = empty_events(1)
    apply_all(books, events, nothing)
    _apply_timed(books, events, counts)
    _record_only(events, counts)


def _bulk(flow: Flow, unit: str, limit: float | None, peer: str, say: Callable[[str], None]) -> list[Figure]:
    """Millions of events a second, and the events that the books could not take."""
    say(f"book: {flow.name}, {len(flow.events):,} events, {ROUNDS} rounds ...")
    books = flow.books()
    start, fills, seconds = books.words.copy(), empty_fills(len(flow.events)), []
    matched = 0
    for _ in range(ROUNDS):
        books.words[:] = start
        began = time.process_time()
        matched = apply_all(books, flow.events, fills)
        seconds.append(time.process_time() - began)
    counted = counters(books)
    faults = counted["lost_fills"] + sum(counted[f"refused_{name}"] for name in FAULTS)
    what = f"{flow.name}: {len(flow.events):,} events, {matched:,} fills"
    return [
        Figure(benchmark=NAME, what=what, value=len(flow.events) / float(np.median(seconds)) / 1e6, unit=f"M {unit}/s",
               limit=limit, at_most=False, peer=peer),
        Figure(benchmark=NAME, what=f"{flow.name}: events the books could not take", value=faults, unit="events",
               decimals=0, limit=0),
    ]  # fmt: skip


def _single(flow: Flow, say: Callable[[str], None]) -> list[Figure]:
    """Nanoseconds of one event inside the kernel, by the call that the engine makes.

    The recorder's median (a clock and a bucket) is taken off every quantile. The rounds are pooled; the longest
    of all is whatever the machine did to the process meanwhile.
    """
    say(f"book: {flow.name}, event by event ...")
    books = flow.books()
    start = books.words.copy()
    counts, own = np.zeros(BUCKETS, dtype=np.int64), np.zeros(BUCKETS, dtype=np.int64)
    longest = 0
    for _ in range(ROUNDS):
        books.words[:] = start
        longest = max(longest, _apply_timed(books, flow.events, counts))
        _record_only(flow.events, own)
    cost = float(quantiles_ns(own, QUANTILES[:1])[0])
    values = [*(quantiles_ns(counts, QUANTILES) - cost), longest - cost]
    limits = (None, P99_NS, None, None)
    return [
        Figure(benchmark=NAME, what=f"{flow.name}: one event, {name}", value=value, unit="ns", decimals=0, limit=limit)
        for name, value, limit in zip(("p50", "p99", "p99.9", "max"), values, limits, strict=True)
    ] + [
        Figure(
            benchmark=NAME, what=f"{flow.name}: the recorder's own cost, taken off", value=cost, unit="ns", decimals=0
        )
    ]


def _peers(orders: Flow, updates: Flow, say: Callable[[str], None]) -> dict[str, str]:
    """What other books give on the same orders and level updates, in words."""
    python = os.environ.get(PEERS_PYTHON)
    if not python:
        return dict.fromkeys(("orders", "levels"), f"not measured: {bookpeers.HOW_TO}")
    operations = bookflows.peer_operations(orders)
    fields = ("t_ns", "side", "price", "qty")
    table = np.column_stack([updates.events[name].astype(np.int64) for name in fields])
    words: dict[str, list[str]] = {"orders": [], "levels": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, _, _) in bookpeers.PEERS.items():
            say(f"book: {name} ...")
            stream = operations if kind == "orders" else table
            path = Path(folder) / kind
            stream.tofile(path)
            words[kind].append(f"{name} {_peer(python, name, path, len(stream))}")
    ours = Flow("as the peers get it", bookflows.operation_events(operations))
    value = _bulk(ours, "orders", None, "", say)[0].value
    words["orders"].append(f"ours on exactly their stream {value:.1f}")
    return {kind: "here, M/s: " + ", ".join(parts) for kind, parts in words.items()}


def _peer(python: str, name: str, path: Path, rows: int) -> str:
    """A peer's millions of operations a second, or why there is no figure."""
    try:
        done = subprocess.run(
            [python, bookpeers.__file__, name, str(path)], capture_output=True, text=True, timeout=PEER_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"(could not be measured: {type(error).__name__})"
    if done.returncode != 0:
        return f"(could not be measured: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:80]})"
    outcome = json.loads(done.stdout.strip().splitlines()[-1])
    return f"{rows / outcome['seconds'] / 1e6:.2f} ({outcome['left']:,} left)"


def _replay(path: Path, say: Callable[[str], None]) -> list[Figure]:
    from engine.replay import replay

    say(f"book: replay of {path.name} ...")
    result = replay("lobster", path, fills_out=None, speed=None, verify=True)
    return [
        Figure(benchmark=NAME, what=f"recorded {path.stem}, verified", value=result["events_per_second"] / 1e6, unit="M events/s"),
        Figure(benchmark=NAME, what="recorded day, rows unlike the venue's", value=result["mismatches"], unit="rows", decimals=0, limit=0),
    ]  # fmt: skip
