"""The path of an order: how many go through it between two processes, what one costs, and how soon Python hears back."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.book import apply_all, make_books
from engine.events import CANCEL, EVENT, FILL, IOC, LIMIT, REDUCE, EventArray
from engine.feeds.tape import load_tape
from engine.figures import load_market
from engine.mailbox import What
from engine.session import Answer, OrderSession
from engine.synthetic import SyntheticMarket
from metrics.frame import FloatArray, IntArray
from metrics.paths import RuntimePaths
from resources.process import sleep_exactly
from validation.figure import Figure
from validation.liveengine import live_engine
from validation.orderpath import (
    CAPACITY,
    GATED,
    STAGED,
    TIMED,
    EngineSide,
    drive,
    empty_ring,
    engine_process,
    fill_ring,
    ports_of,
    record_nothing,
)
from validation.wakefloor import round_trips

NAME = "path"
ROUNDS = 9
SPAWN = multiprocessing.get_context("spawn")
PEERS = (
    "matching alone, on recorded flow: liquibook 2.2, limit-order-book 1.35, lightmatchingengine 1.05, pyorderbook 0.35"
)
PARKED, BUSY = 10_000, 10_000
_KINDS = {"limit orders": LIMIT, "immediate ones": IOC, "cancels": CANCEL, "reductions": REDUCE}
WAKINGS = 3000
SPIN_NS = 50_000
PAUSE_NS = 1_000_000  # between two orders that find the engine asleep


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Take all figures: about a minute once the kernels are compiled."""
    events, name = _flow()
    say(f"path: {len(events):,} events of {name}, {ROUNDS} rounds of each kind ...")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "flow.npy", events)
        figures = _one_process(Path(folder), events) + _two_processes(Path(folder), events, name)
    say(f"path: 2 x ({PARKED:,} + {BUSY:,}) orders from Python to a live engine ...")
    return figures + _wakings() + _from_python()


def _flow() -> tuple[EventArray, str]:
    """Recorded order flow where DESKVIGIL_MARKETDATA has some, else synthetic; no more than a ring holds."""
    folder = os.environ.get("DESKVIGIL_MARKETDATA")
    files = sorted(Path(folder).glob("orders/*.orders.csv*")) if folder else []
    if files:
        return np.array(load_tape(files[0]).events[:CAPACITY]), files[0].name.partition(".")[0]
    market = SyntheticMarket(load_market(), seed=1)
    events = np.zeros(100_000, dtype=EVENT)
    written = 0
    while written < len(events):
        written += market.fill(events[written:], np.iinfo(np.int64).max)
    return events[events["instrument"] == 0], "synthetic flow"


def _words(events: EventArray) -> np.ndarray:
    """The events as the words of requests, int64 (n, 5)."""
    return np.ascontiguousarray(events).view(np.int64).reshape(len(events), 5)


def _one_process(folder: Path, events: EventArray) -> list[Figure]:
    """What one order costs the engine: the ring is full before it begins, so nothing is waited for."""
    side, words = EngineSide(folder, events), _words(events)
    seconds: dict[int, list[float]] = {STAGED: [], GATED: [], GATED | TIMED: []}
    each: list[IntArray] = []
    for _ in range(ROUNDS + 1):
        for what, taken in seconds.items():
            side.prepare()
            side.memory.format()
            client = ports_of(side.memory)
            if fill_ring(client, words) != len(words):
                raise RuntimeError("the flow does not fit into the ring")
            taken.append(side.consume(what))
            if empty_ring(client) != len(words):
                raise RuntimeError("not every request was answered")
        each.append(side.times.copy())
    gated = int(np.isin(events["kind"], (LIMIT, IOC)).sum())
    # The first round has cold caches everywhere.
    plain, checked = (float(np.median(seconds[what][1:])) for what in (STAGED, GATED))
    times = np.stack(each[1:])
    p50, p99, p999 = np.percentile(times, [50, 99, 99.9])
    recorder = _recorder_ns()
    expected = apply_all(make_books(1), events, np.zeros(len(events), dtype=FILL))
    return [
        Figure(benchmark=NAME, what="one event: ring, gates, journal, book, answer", value=checked / len(events) * 1e9, unit="ns", decimals=0),
        Figure(benchmark=NAME, what=f"the same in the kernel, {times.size:,} events, p50", value=p50, unit="ns", decimals=0),
        Figure(benchmark=NAME, what="p99", value=p99, unit="ns", decimals=0, limit=500),
        Figure(benchmark=NAME, what="p99.9", value=p999, unit="ns", decimals=0),
        Figure(benchmark=NAME, what="the recorder of these times, in each of them", value=recorder, unit="ns", decimals=0),
        Figure(benchmark=NAME, what="p99 less that recorder", value=p99 - recorder, unit="ns", decimals=0),
        *_tail(events, times, p99),
        Figure(benchmark=NAME, what="gates in the path, against their recorder alone in their place", value=(checked - plain) / gated * 1e9,
               unit="ns", decimals=1, limit=30),
        Figure(benchmark=NAME, what="fills unlike those of the book alone", value=abs(int(side.results[0]) - expected) + int(side.results[1]),
               unit="fills", decimals=0, limit=0),
    ]  # fmt: skip


def _tail(events: EventArray, times: IntArray, p99: float) -> list[Figure]:
    """What the slowest hundredth is made of: the share of each kind of event, and of events that are slow in every round."""
    slow = times > p99
    figures = [
        Figure(benchmark=NAME, what=f"of the slowest 1 %, {name}", value=100 * float(slow[:, events["kind"] == kind].sum() / slow.sum()),
               unit="%", decimals=0)
        for name, kind in _KINDS.items()
    ]  # fmt: skip
    always = 100 * float((times.min(axis=0) > p99).mean())
    slow_each_time = "events slower than that p99 in every round"
    return [*figures, Figure(benchmark=NAME, what=slow_each_time, value=always, unit="%", decimals=2)]


def _recorder_ns() -> float:
    """What the recorder takes of the time that it records; its second reading's end is not in it."""
    times = np.zeros(100_000, dtype=np.int64)
    record_nothing(times[:1000])
    record_nothing(times)
    return float(np.median(times))


def _two_processes(folder: Path, events: EventArray, name: str) -> list[Figure]:
    """Client and engine side by side: from the first request written to the last answer read."""
    mine, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=engine_process, args=(str(folder), theirs))
    process.start()
    theirs.close()
    side_words, memory = _words(events), EngineSide(folder, events).memory
    rates = []
    try:
        for round_ in range(ROUNDS + 1):
            memory.format()
            client = ports_of(memory)
            mine.send(GATED)
            mine.recv()
            began = time.perf_counter()
            answered = drive(client, side_words)
            seconds = time.perf_counter() - began
            mine.recv()
            if answered != len(events):
                raise RuntimeError(f"only {answered} of {len(events)} requests were answered")
            if round_:
                rates.append(len(events) / seconds / 1e6)
        mine.send(None)
        process.join(30)
    finally:
        process.kill()
    return [
        Figure(benchmark=NAME, what=f"two processes, ring + gates + journal + match + ring, {name}, median", value=float(np.median(rates)),
               unit="M orders/s", limit=5, at_most=False, peer=PEERS),
        Figure(benchmark=NAME, what=f"the same, best of {ROUNDS} rounds", value=max(rates), unit="M orders/s"),
    ]  # fmt: skip


def _wakings() -> list[Figure]:
    """Two wakings between two processes: the floor under an order to an engine that sleeps."""
    cores = sorted(os.sched_getaffinity(0))
    places: list[tuple[str, tuple[int, int] | None]] = [("where the system puts them", None)]
    places += [("on one core", (cores[0], cores[0])), ("on two cores", (cores[0], cores[-1]))]
    figures = []
    for where, pair in places:
        times = round_trips(WAKINGS, PAUSE_NS, pair)
        figures += [
            Figure(
                benchmark=NAME, what=f"two processes that sleep wake each other, nothing else, {where}, there and back, {label}",
                value=float(np.percentile(times, q)) / 1e3, unit="us", decimals=1,
            ) for q, label in ((50, "p50"), (99, "p99"))
        ]  # fmt: skip
    return figures


def _from_python() -> list[Figure]:
    """Order to acknowledgement as a Python client sees it, from the intended time, on the synthetic market."""
    sleep_exactly()
    taken: list[tuple[str, FloatArray, float | None]] = []
    with tempfile.TemporaryDirectory() as folder, live_engine(RuntimePaths(Path(folder))) as (paths, symbol, price):
        for spin_ns, how in ((SPIN_NS, "client spins"), (0, "client sleeps")):
            with OrderSession.open(paths, f"bench-{spin_ns}", spin_ns=spin_ns) as session:
                for _ in range(300):
                    _order(session, symbol, price, time.monotonic_ns())
                taken.append((f"engine asleep, {how}", _parked(session, symbol, price), 25.0))
                taken.append((f"one order after the other, {how}", _busy(session, symbol, price), None))
    figures = []
    for what, times, limit in taken:
        for q, label in ((50, "p50"), (99, "p99"), (100, "max")):
            figures.append(
                Figure(
                    benchmark=NAME, what=f"order -> ack from Python, {what}, n = {len(times):,}, {label}",
                    value=float(np.percentile(times, q)), unit="us", decimals=1, limit=limit if q == 50 else None,
                )
            )  # fmt: skip
    return figures


def _parked(session: OrderSession, symbol: str, price: float) -> FloatArray:
    """One order each PAUSE_NS: the engine has gone to sleep in between, unless an event of the market is near."""
    taken = []
    due_ns = time.monotonic_ns()
    for _ in range(PARKED):
        due_ns = max(due_ns + PAUSE_NS, time.monotonic_ns() + PAUSE_NS // 2)
        time.sleep(max(due_ns - time.monotonic_ns() - 50_000, 0) / 1e9)
        while time.monotonic_ns() < due_ns:
            pass
        taken.append(_order(session, symbol, price, due_ns))
    return np.array(taken) / 1e3


def _busy(session: OrderSession, symbol: str, price: float) -> FloatArray:
    """One order after the other: where the client spins, the engine still looks for more when the next one comes."""
    return np.array([_order(session, symbol, price, time.monotonic_ns()) for _ in range(BUSY)]) / 1e3


def _order(session: OrderSession, symbol: str, price: float, due_ns: int) -> int:
    """Send an order, wait for its acknowledgement, cancel it; returns ns from due_ns to the acknowledgement."""
    order = session.send(symbol, "buy", 1, price, intended_ns=due_ns)
    (ack, *_rest) = _until(session, order, What.ACK)
    heard_ns = time.monotonic_ns()
    if ack.what is not What.ACK:
        raise RuntimeError(f"the order was answered by {ack.what.name}: {ack.reason}")
    session.cancel(order)
    _until(session, order, What.CANCEL)
    return heard_ns - due_ns


def _until(session: OrderSession, order: int, what: What) -> list[Answer]:
    while answers := session.wait(10.0):
        found = [answer for answer in answers if answer.order == order]
        if found:
            return found
    raise RuntimeError(f"no {what.name} of order {order} within 10 s")
