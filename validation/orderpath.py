"""The path of an order without a strategy: ring, gates, book, journal, ring, as one kernel, and its other end.

Both ends work on two rings, requests and answers; a port array holds the port of the first at 0 and of
the second at PORT_WORDS. A request's words after its sequence are those of dtype EVENT.
"""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from engine import account as acc
from engine import counters as at
from engine.book import apply, best_price, reset
from engine.desk import TradingDesk
from engine.deskarrays import LAST_EVENT_NS, desk_of
from engine.events import IOC, LIMIT, EventArray, Instrument, Tape
from engine.gates import CLIENTS, HOUSE, LIMIT_COLLAR, LIMIT_PERIOD_COLLAR, begin
from engine.jit import inline_kernel, kernel
from engine.lend import lend
from engine.market import TapeMarket
from engine.memory import load, store
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.options import EngineOptions, GateOptions
from engine.orders import pass_gates
from engine.ordertimes import record
from engine.publisher import Publisher
from engine.ring import PORT_WORDS, RingMemory, arrived, give_back, publish, ring_bytes, room, taken
from engine.step import mark
from metrics.frame import IntArray

CAPACITY: Final = 1 << 17  # a whole recorded day of orders fits into a ring
BATCH: Final = 64
JOURNAL_RECORDS: Final = 1 << 16
GATED, TIMED, STAGED = 1, 2, 4  # what `consume` does beside matching; STAGED: the gates' own recorder without the gates
_SPINS: Final = 1 << 31  # looks at an empty ring before the other end is taken for dead


@inline_kernel
def append(
    journal: IntArray, position: int, t_ns: int, order_id: int, price: int, qty: int, packed: int, count: int
) -> None:
    """Write one order into the journal with its checksum; the array is a mapped file and wraps."""
    first = (position & (JOURNAL_RECORDS - 1)) * 8
    mixed = np.uint64(t_ns)
    for value in (order_id, price, qty, packed, count):
        mixed = (mixed ^ np.uint64(value)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    journal[first], journal[first + 1], journal[first + 2], journal[first + 3] = position, t_ns, order_id, price
    journal[first + 4], journal[first + 5], journal[first + 6], journal[first + 7] = qty, packed, count, np.int64(mixed)


@kernel
def consume(
    table: IntArray, ports: IntArray, journal: IntArray, times: IntArray, results: IntArray, count: int, what: int,
) -> int:  # fmt: skip
    """The engine's end: take `count` requests, gate, journal, match and answer each; returns how many were taken.

    what: GATED or STAGED, | TIMED. times: int64 (count,), ns from seeing each request to its answer, where
    TIMED. results: int64 (3,), adds fills, orders that a gate refused, and events that the book refused.
    """
    desk = desk_of(table)
    books = desk.books
    done = spins = 0
    while done < count and spins < _SPINS:
        slot = arrived(ports, 0)
        if slot == 0:
            spins += 1
            continue
        spins = 0
        began_ns = clock_ns(CLOCK_MONOTONIC) if what & TIMED else 0
        t_ns, order_id, price = load(slot + 8), load(slot + 16), load(slot + 24)
        qty, packed = load(slot + 32), load(slot + 40)
        i, kind, flags = packed & 0xFFFFFFFF, packed >> 32 & 0xFF, packed >> 48 & 0xFFFF
        side = 1 if packed >> 40 & 0xFF == 1 else -1
        reason, fills = 0, 0
        if what & GATED and kind in (LIMIT, IOC):
            ticks = price if price > 0 else int(desk.account[i, acc.MARK])
            age_ns = t_ns - desk.status[i, LAST_EVENT_NS]
            reason = pass_gates(desk, i, side, ticks, qty, CLIENTS, HOUSE, order_id, t_ns, age_ns)
        elif what & STAGED and kind in (LIMIT, IOC):
            started_ns = clock_ns(CLOCK_MONOTONIC)
            record(desk, at.LATENCY_GATE, clock_ns(CLOCK_MONOTONIC) - started_ns)
        if reason == 0:
            append(journal, done, t_ns, order_id, price, qty, packed, done)
            fills = apply(books, t_ns, order_id, price, qty, i, kind, side, flags)
            mark(desk, best_price(books, i, 1), best_price(books, i, -1), i, t_ns)
            desk.status[i, LAST_EVENT_NS] = t_ns
            results[0] += max(fills, 0)
            results[2] += 1 if fills < 0 else 0
        else:
            results[1] += 1
        taken(ports, 0)
        done += 1
        if done % BATCH == 0 or done == count:
            give_back(ports, 0)
        slot = room(ports, PORT_WORDS)
        while slot == 0:
            slot = room(ports, PORT_WORDS)
        store(slot + 8, order_id)
        store(slot + 16, reason)
        store(slot + 24, fills)
        publish(ports, PORT_WORDS, slot)
        if what & TIMED:
            times[done - 1] = clock_ns(CLOCK_MONOTONIC) - began_ns
    return done


@kernel
def drive(ports: IntArray, words: IntArray) -> int:
    """The client's end: send all of words, int64 (n, 5), and read an answer for each; returns how many came."""
    sent = answered = spins = 0
    while answered < len(words) and spins < _SPINS:
        spins += 1
        for _ in range(BATCH):
            slot = room(ports, 0) if sent < len(words) else 0
            if slot == 0:
                break
            for k in range(5):
                store(slot + 8 + 8 * k, words[sent, k])
            publish(ports, 0, slot)
            sent += 1
            spins = 0
        before = answered
        while arrived(ports, PORT_WORDS) != 0:
            taken(ports, PORT_WORDS)
            answered += 1
        if answered != before:
            give_back(ports, PORT_WORDS)
            spins = 0
    return answered


@kernel
def fill_ring(ports: IntArray, words: IntArray) -> int:
    """Send what has room without reading answers; returns how many."""
    for sent in range(len(words)):
        slot = room(ports, 0)
        if slot == 0:
            return sent
        for k in range(5):
            store(slot + 8 + 8 * k, words[sent, k])
        publish(ports, 0, slot)
    return len(words)


@kernel
def empty_ring(ports: IntArray) -> int:
    """Read all answers that are there; returns how many."""
    count = 0
    while arrived(ports, PORT_WORDS) != 0:
        taken(ports, PORT_WORDS)
        count += 1
    give_back(ports, PORT_WORDS)
    return count


@kernel
def record_nothing(times: IntArray) -> None:
    """What recording costs: the time from one reading of the clock to the next, as `consume` takes it, for each place."""
    for k in range(len(times)):
        began_ns = clock_ns(CLOCK_MONOTONIC)
        times[k] = clock_ns(CLOCK_MONOTONIC) - began_ns


class EngineSide:
    """The engine's end on one flow of orders: a desk with every limit set, though none of them narrow."""

    def __init__(self, folder: Path, events: EventArray) -> None:
        wide, many = 1e18, 10**15
        gates = GateOptions(
            collar_ratio=1.0, period_collar_ratio=1.0, stale_after_s=3600, max_messages_per_s=1e9,
            message_burst=1_000_000_000, max_order_usd=wide, max_order_qty=many, max_position_usd=wide,
            max_working_usd=wide, max_period_usd=wide, max_period_qty=many, max_working_total_usd=wide,
            max_gross_usd=wide, max_identical=many, max_repeats=many,
        )  # fmt: skip
        options = EngineOptions(gates=gates)
        self._events = events
        self._folder = folder
        market = TapeMarket(
            Tape(
                (Instrument("FLOW", 0.01),), events, True, "flow", int(events["t_ns"][0]), int(events["t_ns"][-1]) + 1
            ),
            "flow",
        )
        trading = TradingDesk(options, market, Publisher(folder / "path.block", market.instruments, {}))
        trading.start_session(1, 0)
        self.desk, self.books = trading.arrays
        self.table = lend(self.desk)
        # A recorded day has orders at any price.
        self.desk.gates.limits[:, [LIMIT_COLLAR, LIMIT_PERIOD_COLLAR]] = 1e6
        self.memory = open_rings(folder)
        self.journal = np.memmap(folder / "path.journal", dtype=np.int64, mode="w+", shape=(JOURNAL_RECORDS * 8,))
        self.journal[:] = 0  # every page is there before the first order
        self.times: IntArray = np.zeros(len(events), dtype=np.int64)
        self.results: IntArray = np.zeros(3, dtype=np.int64)

    def prepare(self) -> None:
        """A fresh book, both ports at the rings' starts."""
        reset(self.books)
        limits = self._events[self._events["kind"] == LIMIT]
        self.desk.account[:, acc.MARK] = float(np.median(limits["price"]))
        self.desk.status[:, LAST_EVENT_NS] = int(self._events["t_ns"][0])
        begin(self.desk.gates, int(self._events["t_ns"][0]))
        self.results[:] = 0
        self.ports = ports_of(self.memory)

    def consume(self, what: int) -> float:
        """Take the whole flow off the ring; returns the seconds of CPU it took (other programs' turns left out)."""
        count, plain = len(self._events), self.journal.view(np.ndarray)
        began = time.thread_time()
        done = consume(self.table, self.ports, plain, self.times, self.results, count, what)
        seconds = time.thread_time() - began
        if done != count:
            raise RuntimeError(f"only {done} of {count} requests came")
        return seconds


def open_rings(folder: Path, capacity: int = CAPACITY) -> RingMemory:
    """The rings of this benchmark, mapped; made where they are not there yet."""
    descriptor = os.open(folder / "path.rings", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, 2 * ring_bytes(capacity))
        return RingMemory(descriptor, (capacity, capacity))
    finally:
        os.close(descriptor)


def ports_of(memory: RingMemory) -> IntArray:
    """Fresh ports of both rings, for either end; their other end has to start anew as well."""
    return np.concatenate([memory.port(0), memory.port(1)])


def engine_process(folder: str, pipe: Connection) -> None:
    """The engine's end in a process of its own: one round for each word that comes, until None does."""
    side = EngineSide(Path(folder), np.load(Path(folder) / "flow.npy"))
    while (what := pipe.recv()) is not None:
        side.prepare()
        pipe.send("ready")
        seconds = side.consume(what)
        pipe.send((seconds, side.results.tolist()))
