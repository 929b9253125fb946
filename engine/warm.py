"""Warm: compile every kernel, or load it from the cache, by running each part once on tiny inputs."""

from __future__ import annotations

import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine import gateway, montecarlo, step, synthetic
from engine.descriptors import readable
from engine.desk import TradingDesk
from engine.feeds.tape import load_tape, recognise
from engine.figures import load_market
from engine.gates import TradingState
from engine.jit import remove_stale_caches
from engine.journalkeeper import JournalKeeper
from engine.live import feedrunner
from engine.mailbox import MAX_SESSIONS
from engine.market import SyntheticFeed, TapeMarket
from engine.options import EngineOptions, JournalOptions
from engine.publisher import Publisher
from engine.replay import replay
from engine.synthetic import SyntheticMarket

TINY_ORDERS = b"ts_ns,order_id,kind,side,price,qty\n1,1,limit,buy,100,5\n2,2,limit,sell,200,5\n3,,ioc,buy,200,1\n"
TINY_MESSAGES = b"34200.1,1,11,10,1000000,1\n34200.2,4,11,5,1000000,1\n"
TINY_BOOK = b"1010000,10,1000000,10\n1010000,10,1000000,5\n"


def warm(progress: Callable[[str], None]) -> float:
    """Compile what is not compiled yet, naming each part; returns the seconds it took."""
    started = time.perf_counter()
    remove_stale_caches()
    parts: list[tuple[str, Callable[[], object]]] = [
        ("synthetic market", synthetic.warm),
        ("trading desk", _desk),
        ("order entry", gateway.warm),
        ("recordings", _recordings),
        ("live market", feedrunner.warm),
        ("Monte-Carlo", montecarlo.warm),
    ]
    for number, (name, part) in enumerate(parts, 1):
        began = time.perf_counter()
        progress(f"compiling kernels {number}/{len(parts)}: {name} ...")
        part()
        progress(f"  {name}: {time.perf_counter() - began:.1f} s")
    return time.perf_counter() - started


def _desk() -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = EngineOptions()
        market = SyntheticFeed(SyntheticMarket(load_market(), seed=0))
        publisher = Publisher(Path(folder) / "warm.block", market.instruments, {})
        desk = TradingDesk(options, market, publisher)
        desk.start_session(0, 0)
        desk.step(1_000_000)
        desk.set_states([TradingState.ACTIVE] * len(market.instruments))
        desk.gauges(1_000_000)
        desk.serve_clients(1_000_000)
        if sys.platform == "linux":
            desk.attend(readable([]), np.zeros(MAX_SESSIONS, dtype=np.int64), 0, 0)
        publisher.orders.publish(0, 0, *desk.arrays, ("house",))
        desk.forget_client(0, False, 0)
        desk.end_session()
        for number in range(2):  # a journal's first start, and one that recovers what the first has written
            desk = TradingDesk(options, market, Publisher(Path(folder) / f"{number}.block", market.instruments, {}))
            keeper = JournalKeeper(Path(folder) / "journal", JournalOptions(min_free_mb=0), desk, market, 0)
            if not keeper.start(0, 0):
                desk.start_session(0, 0)
            keeper.close()
        step.close_parent(desk._table, 0, 0)
        step.withdraw_quotes(desk._table, 0)


def _recordings() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        orders = folder / "tiny.csv"
        orders.write_bytes(TINY_ORDERS)
        TapeMarket(load_tape(orders), orders.name)
        archive = folder / "tiny.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("TINY_2020-01-01_34200000_57600000_message_1.csv", TINY_MESSAGES)
            file.writestr("TINY_2020-01-01_34200000_57600000_orderbook_1.csv", TINY_BOOK)
        load_tape(archive)
        for path in (orders, archive):
            replay(recognise(path).name, path)
