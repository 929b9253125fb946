"""A race of senders, 64 threads and 8 processes, against tight limits: no limit is passed, no order lost or doubled."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine import account as acc
from engine import blotter as blot
from engine import counters as at
from engine.gates import GROSS_USD, WORKING_USD, Reason
from engine.mailbox import What
from engine.options import EngineOptions, EntryOptions
from engine.session import OrderSession, SessionError
from metrics.paths import RuntimePaths
from tests.engine.house import FORK, House, with_gates

THREADS, EACH_THREAD = 64, 12
PROCESSES, EACH_PROCESS = 8, 100
SYMBOLS = ("AAA", "BBB")
MAX_LOTS = 50
LOT_USD = 100.0  # the mid stays at 100 USD: nothing steps the desk
BURST = 600
MANY, WIDE = 10**12, 1e15
FREE = {"max_identical": MANY, "max_repeats": MANY, "max_period_qty": MANY, "max_period_usd": WIDE}


class Mix(NamedTuple):
    """What is sent. The gates' tables of identical and repeated orders hold a few hundred at a time, so those races
    keep to fewer terms."""

    each_thread: int = EACH_THREAD
    each_process: int = EACH_PROCESS
    prices: int = 8
    lots: int = 3
    replacements: int = 0  # of each order

    @property
    def orders(self) -> int:
        return THREADS * self.each_thread + PROCESSES * self.each_process


FULL = Mix()
FEW_TERMS = Mix(prices=2, lots=1)
FEW_ORDERS = Mix(each_thread=1, each_process=4, replacements=4)


class Accepted(NamedTuple):
    """The terms of an order that was acknowledged or replaced."""

    client: str
    order: int
    symbol: str
    side: str
    ticks: int
    lots: int


class Sender:
    """Sends a random mix and keeps account of it; `told` counts the answers by order."""

    def __init__(self, session: OrderSession, client: str, mix: Mix) -> None:
        self.session = session
        self.client = client
        self.mix = mix
        self.sent: list[int] = []
        self.replaced = 0
        self.told: Counter[tuple[int, What]] = Counter()
        self.accepted: list[Accepted] = []
        self.fills = 0.0
        self._lock = threading.Lock()

    def send(self, count: int, seed: int) -> None:
        dice = random.Random(seed)
        mine: list[int] = []
        for _ in range(count):
            symbol, side = dice.choice(SYMBOLS), dice.choice(["buy", "sell"])
            kind = dice.choice(["limit", "limit", "limit", "ioc"])
            sign = 1 if side == "buy" else -1
            price = 100.0 + (0.01 if kind == "ioc" else -dice.randrange(1, self.mix.prices + 1) / 100) * sign
            order = self._push(self.session.send, symbol, side, dice.randrange(1, self.mix.lots + 1), price, kind)
            mine.append(order)
            for k in range(self.mix.replacements):
                self._push(self.session.replace, order, symbol, 1, 100.0 - (0.10 + k / 100) * sign)
            if dice.random() < 0.3:
                self._push(self.session.cancel, dice.choice(mine))
        with self._lock:
            self.sent += mine
            self.replaced += count * self.mix.replacements

    def _push(self, ask: Any, *terms: Any) -> Any:
        while True:
            try:
                return ask(*terms)
            except SessionError:  # the ring is full: the engine has to catch up first
                self.hear(self.session.poll())

    def hear(self, answers: list[Any]) -> None:
        with self._lock:
            for a in answers:
                self.told[a.order, a.what] += 1
                self.fills += a.qty if a.what is What.FILL else 0.0
                if a.what in (What.ACK, What.REPLACED):
                    terms = (a.symbol, a.side, round(a.price_usd * 100), round(a.qty))
                    self.accepted.append(Accepted(self.client, a.order, *terms))

    def listen(self) -> None:
        """Read until every order has been acknowledged or rejected, every replacement answered."""
        first, again = {What.ACK, What.REJECT}, {What.REPLACED, What.REFUSED}
        while self._count(first) < len(self.sent) or self._count(again) < self.replaced:
            self.hear(self.session.wait(5.0))
        self.hear(self.session.poll())

    def _count(self, whats: set[What]) -> int:
        return sum(n for (_, what), n in self.told.items() if what in whats)

    def check(self) -> tuple[int, int]:
        """Every order was answered once; returns how many were accepted and how many rejected."""
        assert len(set(self.sent)) == len(self.sent)
        accepted = [order for order in self.sent if self.told[order, What.ACK]]
        for order in self.sent:
            assert self.told[order, What.ACK] + self.told[order, What.REJECT] == 1
            assert self.told[order, What.CANCEL] <= 1
        return len(accepted), len(self.sent) - len(accepted)


class Race(NamedTuple):
    """What a race came to: the largest of each, as looked at after every single request."""

    house: House
    position: float  # lots of one instrument that fills could lead to
    working_usd: float
    working_total_usd: float
    gross_usd: float
    live: int
    accepted: list[Accepted]

    def sent(self, usd: bool) -> float:
        """Lots, or USD, accepted in the instrument that has the most of them."""
        totals: Counter[str] = Counter()
        for a in self.accepted:
            totals[a.symbol] += a.lots * a.ticks if usd else a.lots
        return max(totals.values()) / (100.0 if usd else 1.0)


def _process(paths: RuntimePaths, number: int, mix: Mix, pipe: Connection) -> None:
    name = f"process-{number}"
    with OrderSession.open(paths, name, cancel_on_disconnect=False, timeout_s=60) as session:
        sender = Sender(session, name, mix)
        sender.send(mix.each_process, number)
        sender.listen()
        pipe.send((*sender.check(), sender.fills, sender.accepted))
        pipe.recv()


def _threads(session: OrderSession, sender: Sender, seed: int) -> None:
    threads = [
        threading.Thread(target=sender.send, args=(sender.mix.each_thread, seed * 1000 + k)) for k in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sender.listen()


def _look(house: House, options: EngineOptions) -> tuple[float, float, float, float, int]:
    """Every limit over what works and is held, from the account and the books' lots, not from the gates' sums."""
    desk, gates = house.desk._desk, options.gates
    held, buying, selling = desk.account[:, acc.POSITION], desk.working[:, 0], desk.working[:, 1]
    worst = np.maximum(np.abs(held + buying), np.abs(held - selling))
    working = (buying + selling) * LOT_USD
    live = int(desk.blotter[blot.LIVE])
    assert worst.max() * LOT_USD <= gates.max_position_usd
    assert working.max() <= gates.max_working_usd
    assert working.sum() <= gates.max_working_total_usd
    assert worst.sum() * LOT_USD <= gates.max_gross_usd
    assert live <= options.entry.max_orders
    assert desk.counts[at.ACKED] <= gates.message_burst
    return float(worst.max()), float(working.max()), float(working.sum()), float(worst.sum() * LOT_USD), live


def _race(folder: Path, options: EngineOptions, seed: int, mix: Mix) -> Race:
    """One race; looks at every limit after each single request. The caller closes the house."""
    house = House(folder, options, SYMBOLS)
    desk = house.desk._desk
    pipes, processes = [], []
    for number in range(PROCESSES):
        mine, theirs = FORK.Pipe()
        processes.append(FORK.Process(target=_process, args=(house.paths, number, mix, theirs)))
        pipes.append(mine)
    for process in processes:
        process.start()
    session = house.attach("threads", cancel_on_disconnect=False)
    sender = Sender(session, "threads", mix)
    main = threading.Thread(target=_threads, args=(session, sender, seed))
    main.start()
    results: list[tuple[int, int, float, list[Accepted]]] = []
    reached = (0.0, 0.0, 0.0, 0.0, 0)
    while main.is_alive() or len(results) < PROCESSES:
        house.gateway.poll()
        for _ in range(64):
            if not house.serve_one():
                break
            seen = _look(house, options)
            reached = tuple(max(pair) for pair in zip(reached, seen, strict=True))  # type: ignore[assignment]
        house.gateway.tell()
        results += [pipe.recv() for pipe in pipes if pipe.poll()]
    main.join()
    house.check()
    results.append((*sender.check(), sender.fills, sender.accepted))
    accepted, rejected, filled = (sum(column) for column in list(zip(*results, strict=True))[:3])
    assert accepted + rejected == mix.orders
    assert accepted == desk.counts[at.ACKED]
    assert filled == desk.account[:, [acc.BOUGHT, acc.SOLD]].sum()
    assert accepted > 0
    assert rejected > 0
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("go")
        process.join(30)
        assert process.exitcode == 0
    session.close()
    # What the gates have added up, order by order, is what the account and the books say.
    _, _, working, gross, _ = _look(house, options)
    counted = desk.gates.total_exposure
    assert counted[WORKING_USD] == pytest.approx(working, rel=1e-9, abs=1e-6)
    assert counted[GROSS_USD] == pytest.approx(gross, rel=1e-9, abs=1e-6)
    house.close()
    return Race(house, *reached, [a for result in results for a in result[3]])


def _against_each_limit(folder: Path, seed: int) -> None:
    def race(name: str, mix: Mix = FULL, **limits: Any) -> Race:
        return _race(folder / name, with_gates(**{**FREE, **limits}), seed, mix)

    # Filled to the last unit, not one more.
    assert race("position", max_position_usd=MAX_LOTS * LOT_USD).position == MAX_LOTS
    assert race("working", max_working_usd=MAX_LOTS * LOT_USD).working_usd == MAX_LOTS * LOT_USD
    assert race("all-working", max_working_total_usd=60 * LOT_USD).working_total_usd == 60 * LOT_USD
    assert race("gross", max_gross_usd=60 * LOT_USD).gross_usd == 60 * LOT_USD
    # Engine time stands still: no period ends, no bucket is filled again.
    assert race("lots", max_period_qty=300).sent(usd=False) == 300
    assert 29_690.0 <= race("value", max_period_usd=30_000.0).sent(usd=True) <= 30_000.0
    by_rate = race("rate", message_burst=BURST, max_messages_per_s=1.0)
    counts = by_rate.house.desk.counts
    assert counts[at.ACKED] + counts[at.REJECTED_FOR + Reason.VENUE] == BURST
    identical = Counter(a._replace(order=0) for a in race("identical", FEW_TERMS, max_identical=2).accepted)
    assert max(identical.values()) == 2
    repeated = race("repeats", FEW_ORDERS, max_repeats=3)
    assert max(Counter((a.client, a.order) for a in repeated.accepted).values()) == 3
    names = ["threads", *(f"process-{k}" for k in range(PROCESSES))]
    assert sorted(repeated.house.desk.latched()) == sorted(f"client:{name}" for name in names)
    by_count = _race(
        folder / "count",
        replace(with_gates(**FREE), entry=EntryOptions(max_orders=32, max_orders_per_client=16)),
        seed,
        Mix(),
    )
    assert by_count.live == 32


def test_no_limit_is_passed_by_one_unit_and_no_order_is_lost_or_doubled(tmp_path: Path) -> None:
    _against_each_limit(tmp_path, 1)


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_the_race_twenty_times(tmp_path: Path) -> None:
    for seed in range(int(os.environ.get("DESKVIGIL_RACES", "20"))):
        (tmp_path / str(seed)).mkdir()
        _against_each_limit(tmp_path / str(seed), seed)
        np.testing.assert_equal(len(os.listdir(tmp_path)), seed + 1)
