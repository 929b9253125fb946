"""Warm: compile every kernel, or load it from the cache, by running each part once on tiny inputs."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
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
    """Compile here what is not compiled yet, or load it, naming each part; returns the seconds it took."""
    started = time.perf_counter()
    remove_stale_caches()
    for number, name in enumerate(PARTS, 1):
        progress(f"compiling kernels {number}/{len(PARTS)}: {name} ...")
        progress(f"  {name}: {_run(name):.1f} s")
    return time.perf_counter() - started


def compile_apart(progress: Callable[[str], None]) -> float:
    """Compile what is not compiled yet in a process for each core; returns the seconds it took.

    A part that needs what another one has compiled by then finds it in the cache.
    """
    started = time.perf_counter()
    remove_stale_caches()
    workers = min(len(os.sched_getaffinity(0)), len(PARTS))
    progress(f"compiling kernels in {workers} processes: {', '.join(PARTS)} ...")
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        names = {pool.submit(_run, name): name for name in PARTS}
        for part in as_completed(names):
            progress(f"  {names[part]}: {part.result():.1f} s")
    return time.perf_counter() - started


def _run(name: str) -> float:
    """Run one part; returns the seconds it took."""
    began = time.perf_counter()
    gc.disable()  # it would look through all that has been compiled, again and again: an eighth of the time
    try:
        PARTS[name]()
    finally:
        gc.enable()
    return time.perf_counter() - began


def _new_desk(file: Path) -> tuple[TradingDesk, SyntheticFeed, Publisher]:
    market = SyntheticFeed(SyntheticMarket(load_market(), seed=0))
    publisher = Publisher(file, market.instruments, {})
    return TradingDesk(EngineOptions(), market, publisher), market, publisher


def _desk() -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk, _, _ = _new_desk(Path(folder) / "warm.block")
        desk.start_session(0, 0)
        desk.step(1_000_000)


def _entry() -> None:
    gateway.warm()
    with tempfile.TemporaryDirectory() as folder:
        desk, _, publisher = _new_desk(Path(folder) / "warm.block")
        desk.serve_clients(1_000_000)
        if sys.platform == "linux":
            desk.attend(readable([]), np.zeros(MAX_SESSIONS, dtype=np.int64), 0, 0)
        desk.forget_client(0, False, 0)
        desk.gauges(1_000_000)
        publisher.orders.publish(0, 0, *desk.arrays, ("house",))


def _rarely() -> None:
    """What the desk needs to start again, to halt and to end."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):  # a journal's first start, and one that recovers what the first has written
            desk, market, _ = _new_desk(Path(folder) / f"{number}.block")
            keeper = JournalKeeper(Path(folder) / "journal", JournalOptions(min_free_mb=0), desk, market, 0)
            if not keeper.start(0, 0):
                desk.start_session(0, 0)
            keeper.close()
        desk.set_states([TradingState.ACTIVE] * len(market.instruments))
        desk.withdraw_quotes()
        step.close_parent(desk._table, 0, 0)
        desk.end_session()


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


# The longest first; last those that find the books compiled by then, with the desk.
PARTS: dict[str, Callable[[], object]] = {
    "trading desk": _desk,
    "synthetic market": synthetic.warm,
    "Monte-Carlo": montecarlo.warm,
    "live market": feedrunner.warm,
    "recordings": _recordings,
    "order entry": _entry,
    "halt and recovery": _rarely,
}
