"""A race of senders, 64 threads and 8 processes, against tight limits: no limit is passed, no order lost or doubled."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import account as acc
from engine import blotter as blot
from engine import counters as at
from engine.gates import Reason
from engine.mailbox import What
from engine.options import EngineOptions
from engine.session import OrderSession, SessionError
from metrics.paths import RuntimePaths
from tests.engine.house import FORK, House, with_entry, with_gates

THREADS, EACH_THREAD = 64, 12
PROCESSES, EACH_PROCESS = 8, 100
MAX_LOTS = 50
MAX_USD = MAX_LOTS * 100.0  # the mid stays at 100 USD as long as no level of the still book is used up
BURST = 600


class Sender:
    """Sends a random mix and keeps account of it; `told` counts the answers by order."""

    def __init__(self, session: OrderSession) -> None:
        self.session = session
        self.sent: list[int] = []
        self.told: Counter[tuple[int, What]] = Counter()
        self.fills = 0.0
        self._lock = threading.Lock()

    def send(self, count: int, seed: int) -> None:
        dice = random.Random(seed)
        mine: list[int] = []
        for _ in range(count):
            side = dice.choice(["buy", "sell"])
            kind = dice.choice(["limit", "limit", "limit", "ioc"])
            price = 100.0 + (0.01 if kind == "ioc" else -dice.randrange(1, 9) / 100) * (1 if side == "buy" else -1)
            while True:
                try:
                    order = self.session.send("AAA", side, dice.randrange(1, 4), price, kind)
                    break
                except SessionError:  # the ring is full: the engine has to catch up first
                    self.hear(self.session.poll())
            mine.append(order)
            if dice.random() < 0.3:
                self.session.cancel(dice.choice(mine))
        with self._lock:
            self.sent += mine

    def hear(self, answers: list[Any]) -> None:
        with self._lock:
            for answer in answers:
                self.told[answer.order, answer.what] += 1
                self.fills += answer.qty if answer.what is What.FILL else 0.0

    def listen(self) -> None:
        """Read until every order has been acknowledged or rejected."""
        while sum(n for (_, what), n in self.told.items() if what in (What.ACK, What.REJECT)) < len(self.sent):
            self.hear(self.session.wait(5.0))
        self.hear(self.session.poll())

    def check(self) -> tuple[int, int]:
        """Every order was answered once; returns how many were accepted and how many rejected."""
        assert len(set(self.sent)) == len(self.sent)
        accepted = [order for order in self.sent if self.told[order, What.ACK]]
        for order in self.sent:
            assert self.told[order, What.ACK] + self.told[order, What.REJECT] == 1
            assert self.told[order, What.CANCEL] <= 1
        return len(accepted), len(self.sent) - len(accepted)


def _process(paths: RuntimePaths, number: int, pipe: Connection) -> None:
    with OrderSession.open(paths, f"process-{number}", cancel_on_disconnect=False, timeout_s=60) as session:
        sender = Sender(session)
        sender.send(EACH_PROCESS, number)
        sender.listen()
        pipe.send((*sender.check(), sender.fills))
        pipe.recv()


def _threads(session: OrderSession, sender: Sender, seed: int) -> None:
    threads = [threading.Thread(target=sender.send, args=(EACH_THREAD, seed * 1000 + k)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sender.listen()


def _race(folder: Path, options: EngineOptions, seed: int) -> House:
    """One race; looks at every limit after each single request. The caller closes the house."""
    house = House(folder, options)
    desk = house.desk._desk
    pipes, processes = [], []
    for number in range(PROCESSES):
        mine, theirs = FORK.Pipe()
        processes.append(FORK.Process(target=_process, args=(house.paths, number, theirs)))
        pipes.append(mine)
    for process in processes:
        process.start()
    session = house.attach("threads", cancel_on_disconnect=False)
    sender = Sender(session)
    main = threading.Thread(target=_threads, args=(session, sender, seed))
    main.start()
    results: list[tuple[int, int, float]] = []
    worst, peak = 0.0, 0
    while main.is_alive() or len(results) < PROCESSES:
        house.gateway.poll()
        for _ in range(64):
            if not house.serve_one():
                break
            held = desk.account[0, acc.POSITION]
            worst = max(worst, held + desk.working[0, 0], -(held - desk.working[0, 1]))
            peak = max(peak, int(desk.blotter[blot.LIVE]))
            assert worst * desk.account[0, acc.MARK] * desk.account[0, acc.USD] <= options.gates.max_position_usd
            assert peak <= options.entry.max_orders
            assert desk.counts[at.ACKED] <= options.gates.message_burst
        house.gateway.tell()
        results += [pipe.recv() for pipe in pipes if pipe.poll()]
    main.join()
    house.check()
    results.append((*sender.check(), sender.fills))
    sent = THREADS * EACH_THREAD + PROCESSES * EACH_PROCESS
    accepted, rejected, filled = (sum(column) for column in zip(*results, strict=True))
    assert accepted + rejected == sent
    assert accepted == desk.counts[at.ACKED]
    assert filled == desk.account[0, acc.BOUGHT] + desk.account[0, acc.SOLD]
    assert accepted > 0
    assert rejected > 0
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("go")
        process.join(30)
        assert process.exitcode == 0
    session.close()
    house.reached = (worst, peak)  # type: ignore[attr-defined]
    return house


def _against_each_limit(folder: Path, seed: int) -> None:
    by_position = _race(folder / "position", with_gates(max_position_usd=MAX_USD), seed)
    assert by_position.reached[0] == MAX_LOTS  # type: ignore[attr-defined]  # filled to the last unit, not one more
    by_position.close()
    # Engine time stands still, so the bucket is never filled again: exactly BURST orders may pass.
    by_rate = _race(folder / "rate", with_gates(message_burst=BURST, max_messages_per_s=1.0), seed)
    counts = by_rate.desk._desk.counts
    assert counts[at.ACKED] + counts[at.REJECTED_FOR + Reason.VENUE] == BURST
    by_rate.close()
    by_count = _race(folder / "count", with_entry(max_orders=32, max_orders_per_client=16), seed)
    assert by_count.reached[1] == 32  # type: ignore[attr-defined]
    by_count.close()


def test_no_limit_is_passed_by_one_unit_and_no_order_is_lost_or_doubled(tmp_path: Path) -> None:
    _against_each_limit(tmp_path, 1)


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_the_race_twenty_times(tmp_path: Path) -> None:
    for seed in range(int(os.environ.get("DESKVIGIL_RACES", "20"))):
        (tmp_path / str(seed)).mkdir()
        _against_each_limit(tmp_path / str(seed), seed)
        np.testing.assert_equal(len(os.listdir(tmp_path)), seed + 1)
