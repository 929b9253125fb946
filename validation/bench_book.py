"""How fast the order book matches and updates: the shipped synthetic flow, and a recorded day where one is at hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.book import apply_all, counters, make_books, reset
from engine.events import EVENT, FILL, IOC, LIMIT
from engine.figures import load_market
from engine.synthetic import SyntheticMarket
from validation.figure import Figure

NAME = "book"
EVENTS = 500_000
ROUNDS = 7
# A cancellation of an order that has just traded is normal; these are not.
FAULTS = ("book_full", "duplicate_id", "invalid")
PEERS = (
    "on recorded flow: match liquibook 2.2, limit-order-book 1.35, lightmatchingengine 1.05, pyorderbook 0.35; "
    "book updates nautilus 7.5, hftbacktest 6.8"
)


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Apply the same events to fresh books several times; the median round is reported."""
    say(f"book: {EVENTS:,} synthetic events, {ROUNDS} rounds ...")
    market = SyntheticMarket(load_market(), seed=1)
    events = np.zeros(EVENTS, dtype=EVENT)
    written = 0
    while written < EVENTS:
        written += market.fill(events[written:], np.iinfo(np.int64).max)
    fills = np.zeros(EVENTS, dtype=FILL)
    books = make_books(len(market.instruments))
    apply_all(books, events[:1000], fills)
    seconds = []
    matched = 0
    for _ in range(ROUNDS):
        reset(books)
        began = time.perf_counter()
        matched = apply_all(books, events, fills)
        seconds.append(time.perf_counter() - began)
    spent = float(np.median(seconds))
    orders = int(np.isin(events["kind"], (LIMIT, IOC)).sum())
    counted = counters(books)
    faults = counted["lost_fills"] + sum(counted[f"refused_{name}"] for name in FAULTS)
    figures = [
        Figure(benchmark=NAME, what=f"synthetic flow, {orders / EVENTS:.0%} orders, {matched:,} fills", value=EVENTS / spent / 1e6,
               unit="M events/s", peer=PEERS),
        Figure(benchmark=NAME, what="synthetic flow, one event", value=spent / EVENTS * 1e9, unit="ns", decimals=0),
        Figure(benchmark=NAME, what="synthetic flow, events the book could not take", value=faults, unit="events", decimals=0, limit=0),
    ]  # fmt: skip
    recorded = _recorded_day()
    return figures + (_replay(recorded, say) if recorded is not None else [])


def _recorded_day() -> Path | None:
    """The smallest LOBSTER day in the folder that DESKVIGIL_MARKETDATA names."""
    folder = os.environ.get("DESKVIGIL_MARKETDATA")
    days = sorted(Path(folder).rglob("*LOBSTER*.zip"), key=lambda path: path.stat().st_size) if folder else []
    return days[0] if days else None


def _replay(path: Path, say: Callable[[str], None]) -> list[Figure]:
    from engine.replay import replay

    say(f"book: replay of {path.name} ...")
    result = replay("lobster", path, fills_out=None, speed=None, verify=True)
    return [
        Figure(benchmark=NAME, what=f"recorded {path.stem}, verified", value=result["events_per_second"] / 1e6, unit="M events/s"),
        Figure(benchmark=NAME, what="recorded day, rows unlike the venue's", value=result["mismatches"], unit="rows", decimals=0, limit=0),
    ]  # fmt: skip
