"""FeedRunner: the feed process. It holds the sockets, follows the better feed, and fills the engine's ring.

What the engine gets is one market: the books of the active feed, in ticks and lots of one grid that both
feeds fit into. HALT (BLIND) and RESUME in it say whether a book may be traded on; they are written here,
from the feeds' states, so that a switch, a lost connection and a wrong checksum look alike to the engine.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from functools import partial

from engine.events import BLIND, CLEAR, HALT, LEVEL, MAX_PRICE_TICKS, MAX_QTY_LOTS, RESUME, TRADE, empty_events
from engine.feeds.decimals import Increments
from engine.feeds.decoder import FeedState, Update
from engine.live.eventring import CAPACITY, EventProducer, Grid, new_grid, read_grid
from engine.live.failover import Failover
from engine.live.feedstatus import STATES, FeedStatus
from engine.live.options import LiveOptions
from engine.live.socketfeed import NS, SocketFeed
from metrics.paths import RuntimePaths
from resources.process import end_with_parent

LOG = logging.getLogger("deskvigil.feed")
TURN_S = 0.02  # how often the engine's wishes and the feeds' states are looked at
PUBLISH_NS = NS // 10
GRID_WAIT_NS = 10 * NS  # how long a feed that does not tell its ticks holds up the other
LEVELS_OF_A_FULL_BOOK = 100_000  # Coinbase sends all of it

Row = tuple[int, int, int, int, int, int]  # instrument, kind, side, price, qty, flags


class FeedRunner:
    """Feeds, failover, grid and ring; `run` until cancelled. For one event loop."""

    def __init__(self, options: LiveOptions, paths: RuntimePaths) -> None:
        paths.block_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._options, self._paths = options, paths
        self._n = len(options.symbols)
        self._ring = EventProducer(paths.feed_ring, paths.feed_bell)
        self._status = FeedStatus(paths.feed_block, options.names, options.symbols)
        self._source = " / ".join(options.names)
        self._grid = self._known_grid()
        self._clock = self._grid or new_grid(self._source, options.symbols, (), 0)
        self._feeds = tuple(
            SocketFeed(name, feed, options, self._now_ns, partial(self._take, k))
            for k, (name, feed) in enumerate(zip(options.names, options.feeds, strict=True))
        )
        self._started_ns = time.monotonic_ns()
        self._failover = Failover(
            round(options.switch_after_s * NS), round(options.return_after_s * NS), self._started_ns
        )
        self._seen = [[FeedState.DISCONNECTED] * self._n for _ in self._feeds]
        self._off_grid = [[False] * self._n for _ in self._feeds]
        self._off_grid_count = [0] * len(self._feeds)
        self._told_live = [False] * self._n  # what the engine believes of each instrument
        self._answered = 0
        self._is_due = True  # a handover
        self._cause = 0
        self._missed: set[str] = set()  # symbols that nobody knows, named in the log
        self._events = self._handovers = 0

    async def run(self) -> None:
        """Run the feeds and look after everything until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for feed in self._feeds:
                tasks.create_task(feed.run())
            tasks.create_task(self._look_after())

    async def _look_after(self) -> None:
        next_publish_ns = 0
        while True:
            now_ns = time.monotonic_ns()
            self.turn(now_ns)
            if now_ns >= next_publish_ns:
                next_publish_ns = now_ns + PUBLISH_NS
                self.publish()
            await asyncio.sleep(TURN_S)

    def turn(self, now_ns: int) -> None:
        """What is done every now and then: the grid, the better feed, the engine's wishes."""
        if self._grid is None:
            self._find_grid(now_ns)
        before = self._failover.active
        if self._failover.decide([self._is_live(k) for k in range(len(self._feeds))], now_ns):
            self._cause = STATES.index(self._feeds[before].state)
            names = self._options.names
            LOG.warning(
                "market data now from %s: %s is %s",
                names[self._failover.active],
                names[before],
                STATES[self._cause].value,
            )
            self._is_due = True
        if self._ring.requested != self._answered:
            self._answered = self._ring.requested
            self._is_due = True
        if self._is_due and self._grid is not None and self._answered > 0:
            self._hand_over()
        self._ring.beat(now_ns, self._failover.active, self._failover.switches, self._cause)

    def publish(self) -> None:
        """Show how everything is."""
        of_all = self._failover.active, self._failover.switches, self._events, self._ring.lost, self._handovers
        self._status.publish(self._feeds, self._off_grid_count, self._failover.active, of_all)

    def close(self) -> None:
        """Let go of the ring."""
        self._ring.close()

    def _now_ns(self) -> int:
        return self._clock.now_ns(time.monotonic_ns())

    def _is_live(self, k: int) -> bool:
        return all(self._may_trade(k, i) for i in range(self._n))

    def _may_trade(self, k: int, i: int) -> bool:
        return self._seen[k][i] is FeedState.LIVE and not self._off_grid[k][i]

    # The grid.

    def _known_grid(self) -> Grid | None:
        """The grid of a feed process before this one, so that the engine's numbers go on meaning the same."""
        grid = read_grid(self._paths.feed_grid)
        if grid is None or (grid.source, grid.symbols) != (self._source, self._options.symbols):
            return None
        return grid

    def _find_grid(self, now_ns: int) -> None:
        """Ticks and lots that all feeds fit into; a feed that stays silent is not waited for for ever."""
        told = [[feed.increments(i) for feed in self._feeds] for i in range(self._n)]
        late = now_ns - self._started_ns > GRID_WAIT_NS
        steps: list[tuple[int, int]] = []
        for of_feeds in told:
            known = [one for one in of_feeds if one is not None]
            symbol = self._options.symbols[len(steps)]
            if not known and late and symbol not in self._missed:
                self._missed.add(symbol)
                LOG.error("no feed knows %s: nothing is traded before one does", symbol)
            if not known or (len(known) < len(of_feeds) and not late):
                return
            steps.append((math.gcd(*(one.tick for one in known)), math.gcd(*(one.lot for one in known))))
        coinbase = any(feed.venue == "coinbase" for feed in self._options.feeds)
        levels = LEVELS_OF_A_FULL_BOOK if coinbase else self._options.depth * 2
        clock = self._clock
        self._grid = Grid(self._source, self._options.symbols, tuple(steps), levels, clock.wall_ns, clock.monotonic_ns)
        self._grid.write(self._paths.feed_grid)
        LOG.info("trading %s on %s", ", ".join(self._options.symbols), self._source)

    # From the feeds to the engine.

    def _take(self, k: int, updates: list[Update]) -> None:
        """What feed k has just said; its mirror has it already."""
        rows: list[Row] = []
        is_active = k == self._failover.active and self._grid is not None and not self._is_due
        for update in updates:
            if update.kind == CLEAR:
                self._off_grid[k][update.instrument] = False
            if update.kind in (LEVEL, TRADE, CLEAR) and self._grid is not None:
                row = self._row(k, update.instrument, update.kind, update.side, update.price, update.qty)
                if row is not None and is_active:
                    rows.append(row)
        feed = self._feeds[k]
        for i, state in enumerate(feed.states):
            if state is not self._seen[k][i]:
                self._seen[k][i] = state
                self._status.note(k, i, state, self._failover.active)
                if state is not FeedState.LIVE:
                    LOG.warning("%s %s is %s: %s", feed.name, self._options.symbols[i], state.value, feed.reason(i))
            if is_active and self._may_trade(k, i) != self._told_live[i]:
                rows.append(self._told(i, self._may_trade(k, i)))
        self._write(rows)

    def _told(self, i: int, is_live: bool) -> Row:
        self._told_live[i] = is_live
        return (i, RESUME, 0, 0, 0, 0) if is_live else (i, HALT, 0, 0, 0, BLIND)

    def _row(self, k: int, i: int, kind: int, side: int, price: int, qty: int) -> Row | None:
        """An event in ticks and lots; None where its price lies off the grid, which takes the instrument out."""
        if kind == CLEAR or self._grid is None:
            return i, CLEAR, 0, 0, 0, 0
        steps = Increments(*self._grid.steps[i])
        ticks, rest = divmod(price, steps.tick)
        if ticks > MAX_PRICE_TICKS:  # an order at ten million dollars a coin: no book needs it, nor holds it
            return None
        if rest:
            self._off_grid_count[k] += 1
            if kind == LEVEL and not self._off_grid[k][i]:
                self._off_grid[k][i] = True
                LOG.error(
                    "%s %s: a price of %.18g is no multiple of the tick %.18g: not traded on until it is",
                    self._options.names[k], self._options.symbols[i], price / 1e18, steps.tick / 1e18,
                )  # fmt: skip
            return None
        lots = min(steps.lots(qty), MAX_QTY_LOTS)
        return i, kind, side, ticks, lots, 0

    def _hand_over(self) -> None:
        """Every book anew: closed for trading, emptied, filled from the active feed's mirror, opened if it is LIVE."""
        k = self._failover.active
        mirror = self._feeds[k].mirror
        count = sum(len(mirror.levels(i)) + 3 for i in range(self._n))
        if count > CAPACITY:
            raise RuntimeError(f"books of {count} levels do not fit into a ring of {CAPACITY}")
        if not self._ring.has_room(count):
            return  # it stays due: the engine has to take what is there first
        rows: list[Row] = []
        for i in range(self._n):
            rows += [self._told(i, False), (i, CLEAR, 0, 0, 0, 0)]
            levels = [self._row(k, i, LEVEL, side, price, qty) for side, price, qty in mirror.levels(i)]
            if self._may_trade(k, i):
                rows += [row for row in levels if row is not None]
                rows.append(self._told(i, True))
        self._is_due = False
        self._handovers += 1
        self._write(rows)

    def _write(self, rows: list[Row]) -> None:
        """Write events; where the engine has not made room for them every book is due anew."""
        if not rows or self._answered == 0:
            return
        events = empty_events(len(rows))
        events["t_ns"] = self._now_ns()
        for column, values in zip(
            ("instrument", "kind", "side", "price", "qty", "flags"), zip(*rows, strict=True), strict=True
        ):
            events[column] = values
        self._events += len(rows)
        if not self._ring.write(events, self._answered):
            LOG.error("the engine does not take its events: the books will be handed over anew")
            self._is_due = True


def warm() -> None:
    """Compile or load the ring's kernels."""
    import tempfile
    from pathlib import Path

    from engine.live.eventring import EventConsumer

    with tempfile.TemporaryDirectory() as name:
        ring, bell = Path(name) / "ring", Path(name) / "bell"
        producer = EventProducer(ring, bell)
        consumer = EventConsumer(ring, bell)
        consumer.park()
        producer.write(empty_events(1), producer.requested)
        consumer.unpark()
        consumer.take()
        consumer.close()
        producer.close()


def run_feed(options: LiveOptions, paths: RuntimePaths) -> None:
    """Run the feed process until SIGTERM or SIGINT, or until the parent is gone; call it in a process's main thread."""
    runner = FeedRunner(options, paths)
    end_with_parent()

    async def until_stopped() -> None:
        task = asyncio.ensure_future(runner.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            LOG.info("feeds closed")

    try:
        asyncio.run(until_stopped())
    finally:
        runner.close()
