"""How long trading is interrupted: engines killed with little and with much to recover, and engines that hang.

The engine runs under the real supervisor with a waiting spare, without console and risk. *Serving* is
the first publication of the new process: its command socket answers by then.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from engine.options import EngineOptions, JournalOptions
from engine.telemetry import BlockReader
from metrics.paths import RuntimePaths
from resources.standby import REFILL_AFTER_S, Standby
from resources.supervisor import ChildSpec, Supervisor, read_status
from validation.figure import Figure

NAME = "recovery"
KILLS = 50
STOPS = 10
TAIL = 1_000_000
EMPTY_LIMIT_MS, TAIL_LIMIT_MS, HANG_LIMIT_MS = 100.0, 200.0, 1000.0
START_S = 600.0  # where kernels have to be compiled first
LIVE_S = REFILL_AFTER_S + 0.8  # between two kills: the spare has opened its market again
PLAY_NS = 1 << 60  # an instant that the machine's clock never reaches
# No snapshot, so that the tail stays as long as it was made.
KEPT = JournalOptions(snapshot_s=86_400.0, snapshot_records=100_000_000, min_free_mb=0)
OPTIONS = EngineOptions(journal=KEPT)


def measure(
    say: Callable[[str], None] = print, *, kills: int = KILLS, stops: int = STOPS, tail: int = TAIL
) -> list[Figure]:
    """Kill and stop engines; return the figures."""
    from validation.console import scratch_paths  # engines import this module, and that one takes a second

    multiprocessing.get_context("forkserver").set_forkserver_preload(["engine.preload"])
    figures: list[Figure] = []
    with scratch_paths() as paths, _running(OPTIONS, paths) as engine:
        say(f"recovery: killing an engine with a short journal {kills} times ...")
        took = [engine.killed(signal.SIGKILL) for _ in range(kills)]
        figures += _figures(f"SIGKILL until serving, short journal, n = {kills}", took, EMPTY_LIMIT_MS)
        say(f"recovery: stopping an engine {stops} times ...")
        took = [engine.killed(signal.SIGSTOP, found=True) for _ in range(stops)]
        figures += _figures(f"SIGSTOP until the supervisor has killed it, n = {stops}", took, HANG_LIMIT_MS)
    with scratch_paths() as paths:
        say(f"recovery: writing a journal of {tail:,} records ...")
        _write_journal(paths, tail)
        with _running(OPTIONS, paths) as engine:
            say(f"recovery: killing an engine with {tail:,} records to replay {kills} times ...")
            took = [engine.killed(signal.SIGKILL) for _ in range(kills)]
        figures += _figures(f"SIGKILL until serving, {tail:,} records to replay, n = {kills}", took, TAIL_LIMIT_MS)
    return figures


class _Engine:
    """A supervised engine."""

    def __init__(self, paths: RuntimePaths) -> None:
        self._paths = paths
        self._reader = BlockReader(paths.engine_block)
        self._pause = threading.Event()

    def killed(self, number: signal.Signals, *, found: bool = False) -> float:
        """Milliseconds from a signal to the next publication, or (found) to the end of the signalled process."""
        self._pause.wait(LIVE_S)
        pid = self.pid
        since_ns, began = time.time_ns(), time.monotonic()
        os.kill(pid, number)
        if found:
            self.until(lambda: self.pid not in (pid, 0))
            took = (time.monotonic() - began) * 1e3
            self.until(lambda: (self._reader.heartbeat() or 0) > since_ns + 10**9)
            return took
        self.until(lambda: (self._reader.heartbeat() or 0) > since_ns and self._published_by() != pid)
        return (time.monotonic() - began) * 1e3

    @property
    def pid(self) -> int:
        return next((state.pid for state in read_status(self._paths.supervisor_status)), 0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Look each millisecond."""
        end = time.monotonic() + START_S
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError("the engine did not come back")
            self._pause.wait(0.001)

    def wait_first(self) -> None:
        """Until something is published."""
        self.until(lambda: self._reader.heartbeat() is not None)

    def _published_by(self) -> int:
        return self._reader.read().pid


@contextmanager
def _running(options: EngineOptions, paths: RuntimePaths) -> Iterator[_Engine]:
    standby = Standby(partial(_engine, options, paths), "engine")
    spec = ChildSpec("engine", standby.make, BlockReader(paths.engine_block).heartbeat, options.hang_after_s)
    supervisor = Supervisor([spec], paths.supervisor_status, on_poll=standby.refill, young_s=0.5)
    thread = threading.Thread(target=supervisor.run, name="supervisor")
    thread.start()
    try:
        engine = _Engine(paths)
        engine.wait_first()
        yield engine
    finally:
        supervisor.request_stop()
        thread.join()
        standby.close()


def _engine(options: EngineOptions, paths: RuntimePaths, wait: Callable[[], None]) -> None:
    from engine.runner import run_engine

    run_engine(options, paths, wait)


def _write_journal(paths: RuntimePaths, records: int) -> None:
    """Trade, as fast as it goes, until the journal holds that many; it ends as after a kill."""
    from engine.desk import NS, TradingDesk
    from engine.journalkeeper import JournalKeeper
    from engine.market import open_market
    from engine.publisher import Publisher

    market = open_market(OPTIONS)
    desk = TradingDesk(OPTIONS, market, Publisher(paths.data_dir / "writer.block", market.instruments, {}))
    keeper = JournalKeeper(paths.journal, KEPT, desk, market, OPTIONS.seed)
    keeper.start(PLAY_NS, time.time_ns())
    desk.start_session(PLAY_NS, time.time_ns())
    now_ns = PLAY_NS
    while keeper.gauges(0)["journal_records_total"] < records:
        keeper.make_room()
        now_ns += NS // 4
        desk.step(now_ns)
        keeper.look(now_ns, time.time_ns())
    keeper.close()


def _figures(what: str, took_ms: list[float], limit_ms: float) -> list[Figure]:
    p50, p95, worst = (float(value) for value in np.percentile(took_ms, [50, 95, 100]))
    return [
        Figure(benchmark=NAME, what=f"{what}: p50", value=p50, unit="ms", decimals=0),
        Figure(benchmark=NAME, what="  p95", value=p95, unit="ms", decimals=0, limit=limit_ms),
        Figure(benchmark=NAME, what="  slowest", value=worst, unit="ms", decimals=0),
    ]
