"""Knight: a strategy whose parents spawn ever more children, with the gates and without them.

Modelled on 1 August 2012: a router that no longer saw its parent orders as filled sent child after
child, buying at the ask and selling at the bid. Here each instrument has a parent that sends
1, 2, 4, ... children, more every 50 ms, on the synthetic market; the same seed gives the same run.
What was lost is the session's P&L, open positions marked at mid.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import account as acc
from engine.book import Books, apply, best_price
from engine.control import THROTTLE, Cause, TradingControl, key_of
from engine.desk import TradingDesk
from engine.deskarrays import CHILD, LAST_ID, desk_of
from engine.events import IOC
from engine.figures import load_market
from engine.gates import HOUSE, PARENTS, TradingState
from engine.jit import kernel
from engine.lend import lend
from engine.market import SyntheticFeed
from engine.options import EngineOptions, MakerOptions, ParentOptions
from engine.orders import pass_gates
from engine.ownfills import book_fills
from engine.publisher import Publisher
from engine.strategy import crossing_price
from engine.synthetic import SyntheticMarket
from metrics.frame import IntArray
from validation.figure import Figure

NAME = "knight"
SEED = 2012
ORIGIN_NS = 1 << 60  # monotonic time that the machine's clock never reaches: nothing depends on the machine
MS = 1_000_000
ONSET_MS = 5_000
LASTS_MS = 30_000
GENERATION_MS = 50
HOUSEKEEPING_MS = 40  # as often as the engine's loop looks at what the gates have latched
MOST_CHILDREN = 128  # in one generation of one parent: what one router could send
LOTS = 20
REACH = 0.002
OPTIONS = EngineOptions(maker=MakerOptions(enabled=False), parents=ParentOptions(enabled=False))


@kernel
def spawn(table: IntArray, books: Books, i: int, children: int, intent: int, lots: int, t_ns: int, gated: bool) -> int:
    """Send children that cross the spread, buying and selling in turn; returns how many reached the book."""
    desk = desk_of(table)
    sent = 0
    desk.arrival[i] = desk.account[i, acc.MARK]
    for k in range(children):
        side = 1 - 2 * (k & 1)
        opposite = best_price(books, i, -side)
        if opposite == 0:
            continue
        ticks = crossing_price(side, desk.account[i, acc.MARK], opposite, REACH)
        if gated and pass_gates(desk, i, side, ticks, lots, PARENTS, HOUSE, intent, t_ns, 0) != 0:
            continue
        desk.clockwork[LAST_ID] += 1
        order_id = -(desk.clockwork[LAST_ID] * 4 + CHILD)
        count = apply(books, t_ns, order_id, ticks, lots, i, IOC, side, 0)
        if count >= 0:
            book_fills(desk, books.fills, count, t_ns)
            sent += 1
    return sent


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: the P&L in USD, children that reached the book and were asked for, ms of engine time from the
    onset until the strategy was halted (None: never)."""

    pnl_usd: float
    sent: int
    asked: int
    halted_after_ms: int | None


def run(gated: bool, seed: int = SEED, lasts_ms: int = LASTS_MS) -> Outcome:
    """Let the bug loose; where `gated`, every child passes the gates and a latched strategy is halted."""
    with tempfile.TemporaryDirectory() as folder:
        market = SyntheticFeed(SyntheticMarket(load_market(), seed))
        desk = TradingDesk(OPTIONS, market, Publisher(Path(folder) / "knight.block", market.instruments, {}))
        symbols = tuple(row.symbol for row in market.instruments)
        control = TradingControl(Path(folder) / "state.json", symbols)
        desk.start_session(ORIGIN_NS, 0)
        children, sent, asked, halted_ms = 1, 0, 0, None
        for now_ms in range(0, ONSET_MS + lasts_ms + 1, 10):
            now_ns = ORIGIN_NS + now_ms * MS
            desk.step(now_ns)
            if now_ms >= ONSET_MS and now_ms % GENERATION_MS == 0:
                for i in range(len(symbols)):
                    arrays, books = desk.arrays
                    sent += spawn(lend(arrays), books, i, children, i, LOTS, desk.engine_ns(now_ns), gated)
                    asked += children
                children = min(2 * children, MOST_CHILDREN)
            if now_ms % HOUSEKEEPING_MS == 0:
                for scope in desk.latched():
                    cause = Cause(TradingState.HALTED, "engine", "the same parent again and again", now_ns)
                    if control.restrict(key_of(THROTTLE, scope), cause):
                        desk.apply(control)
                        halted_ms = now_ms - ONSET_MS
        return Outcome(desk.gauges(now_ns)["pnl_usd"], sent, asked, halted_ms)


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Run the same bug with the gates and without."""
    say(f"knight: parents whose children multiply, {LASTS_MS // 1000} s of engine time with and without gates ...")
    guarded, bare = run(True), run(False)
    halted_ms = float("nan") if guarded.halted_after_ms is None else float(guarded.halted_after_ms)
    avoided_usd = guarded.pnl_usd - bare.pnl_usd
    return [
        Figure(benchmark=NAME, what="onset of the bug until its strategy is halted, engine time", value=halted_ms, unit="ms", decimals=0, limit=1000),
        Figure(benchmark=NAME, what=f"children that reached the book, of {guarded.asked:,}", value=guarded.sent, unit="orders", decimals=0),
        Figure(benchmark=NAME, what="the same without gates", value=bare.sent, unit="orders", decimals=0),
        Figure(benchmark=NAME, what="P&L with gates", value=guarded.pnl_usd, unit="USD"),
        Figure(benchmark=NAME, what="P&L without gates", value=bare.pnl_usd, unit="USD"),
        Figure(benchmark=NAME, what="loss avoided", value=avoided_usd, unit="USD", limit=0, at_most=False,
               peer="Knight lost about 460 M USD in 45 minutes"),
    ]  # fmt: skip
