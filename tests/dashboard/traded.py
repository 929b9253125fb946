"""A real desk that has traded, its orders' block, and what the console makes of it: for the Orders page's tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.blotter import Blotter
from console.orderboard import OrderBoardCollector
from engine.commands import CommandName
from engine.desk import TradingDesk
from engine.figures import load_market
from engine.market import SyntheticFeed
from engine.options import EngineOptions, ParentOptions
from engine.orderlogfile import OrderLogReader
from engine.publisher import Gauges, Publisher
from engine.synthetic import SyntheticMarket
from engine.telemetry import BlockReader, Snapshot
from metrics.clock import SystemClock

SECOND = 1_000_000_000
ORIGIN_NS = 1 << 60  # monotonic time that the machine's clock never reaches: nothing depends on the machine
OPTIONS = EngineOptions(parents=ParentOptions(first_after_s=1.0, shortest_s=5.0, longest_s=9.0, period_s=10.0))
_GAUGES = Gauges(*(0.0 for _ in Gauges._fields))


class Traded:
    """A desk that has traded fifteen seconds of the default market, its events taken in as the console does."""

    def __init__(self, folder: Path) -> None:
        market = SyntheticFeed(SyntheticMarket(load_market(), seed=3))
        self.path = folder / "engine.orders"
        self.publisher = Publisher(folder / "engine.block", market.instruments, {})
        self.desk = TradingDesk(OPTIONS, market, self.publisher)
        self.reader = BlockReader(self.path)
        self.blotter = Blotter(kept=1_000_000)
        self.log = OrderLogReader(folder / "engine.orderlog")
        self.seen = 0
        self.wall_ns = 0
        self.now_ns = ORIGIN_NS
        self.desk.start_session(ORIGIN_NS, 0)
        for _ in range(150):
            self.trade()
            self.take()

    def trade(self) -> None:
        """Another tenth of a second, published."""
        self.now_ns += SECOND // 10
        self.desk.step(self.now_ns)
        self.wall_ns += SECOND
        self.publish(self.wall_ns)

    def publish(self, wall_ns: int) -> None:
        self.desk.publish(self.publisher, wall_ns, _GAUGES, (0,) * len(CommandName))

    def take(self) -> Snapshot:
        """Publish and take in what is new; none may have been overwritten."""
        self.wall_ns += SECOND
        self.publish(self.wall_ns)
        snapshot = self.reader.read()
        self.log.follow()
        reading = self.log.read(self.seen, int(snapshot.scalars[2]))
        assert reading.missed == 0
        self.blotter.take(reading.events, reading.first)
        self.seen += len(reading.events)
        return snapshot

    def newest(self) -> list[Any]:
        return list(self.blotter.newest_first())


class Board:
    """A traded desk that goes on publishing, and the console's collector of it; `alive` False lets it fall silent."""

    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        self.checks: dict[str, Any] = {
            "breaks": [], "why": "", "open_breaks": 0.0, "executions_equal_total": 42.0, "age": 0.4,
        }  # fmt: skip
        self.ask: Callable[[], dict[str, Any]] = lambda: self.checks
        self.folder = folder
        self.collector = self.console()
        self.traded = Traded(folder)
        self.alive = True
        self.cancelled: list[tuple[str, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def console(self) -> OrderBoardCollector:
        """A collector as a console that starts makes it."""
        files = self.folder / "engine.orders", self.folder / "engine.orderlog"
        return OrderBoardCollector(*files, self.clock, lambda: self.ask())

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def cancel(self, _who: str, reason: str, scope: str = "all", /) -> str:
        """As the engine's command does it."""
        self.cancelled.append((scope, reason))
        assert self.traded.desk.cancel_order(int(scope.removeprefix("order:"))) == 1
        return f"{scope} is cancelled"

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            if self.alive:
                self.traded.publish(time.time_ns())
            self.collector.collect(time.time_ns())
