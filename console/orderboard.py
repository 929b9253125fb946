"""Order board: reads the orders' block and the order log five times a second, keeps the blotter, and tells the Orders page what it asks.

A collector like the others (its frame says how many events came and were missed) and, to the pages,
the source of `Services.orders`. Nothing here asks the engine anything: it reads what the engine shows.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np

from console.blotter import STATES, Blotter, Order
from engine.algos.choice import Algo
from engine.gates import STRATEGIES, TradingState
from engine.mailbox import reason_name
from engine.orderboard import LEVELS_SHOWN
from engine.orderlog import Happened, Kind
from engine.orderlogfile import OrderLogReader
from engine.telemetry import BlockReader, Snapshot
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.errors import TransientError
from metrics.frame import Frame
from metrics.series import Schema

FRESH_NS: Final = 2_000_000_000
MOST_ROWS: Final = 100  # of the blotter in one answer: what a screen shows, and some to scroll into
MOST_WORKING: Final = 200
_SERIES = ("up", "working", "board_cost_seconds", "logged_total", "events_total", "events_missed_total")


class OrderBoardCollector:
    """A collector of the orders' block; `view` may be called from any thread.

    block, log: files of the engine. checks: what the reconciliation says, ready for the page (it may ask the database).
    """

    name = "orders"
    interval_s = 0.2

    def __init__(self, block: Path, log: Path, clock: Clock, checks: Callable[[], dict[str, Any]]) -> None:
        self._reader = BlockReader(block)
        self._log = OrderLogReader(log)
        self._clock = clock
        self._checks = checks
        self._schema = Schema(self.name, tuple(series(f"deskvigil_orders_{what}") for what in _SERIES))
        self._lock = threading.Lock()
        self._blotter = Blotter()
        self._snapshot: Snapshot | None = None
        self._start_ns = self._heartbeat_ns = self._log_seen = self._seen = self._read = self._missed = 0
        self._moved_ns: int | None = None
        self._absence = "not read yet"

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Take in what has happened since the last look."""
        try:
            self._log.follow()
            snapshot = self._reader.read()
        except TransientError as error:
            self._absence = str(error)
        else:
            with self._lock:
                self._take(snapshot, now_ns)
        alive = self._is_alive()
        scalars = self._snapshot.scalars if alive and self._snapshot is not None else np.full(3, math.nan)
        return Frame(self._schema, now_ns, np.array([float(alive), *scalars, float(self._read), float(self._missed)]))

    def close(self) -> None:
        self._snapshot = None

    def _take(self, snapshot: Snapshot, now_ns: int) -> None:
        if snapshot.heartbeat_ns != self._heartbeat_ns:
            # As with the engine's block: one that a dead process left behind lives only once it moves.
            if self._heartbeat_ns != 0 or abs(now_ns - snapshot.heartbeat_ns) < FRESH_NS:
                self._moved_ns = self._clock.monotonic_ns()
            self._heartbeat_ns = snapshot.heartbeat_ns
        begun_anew = snapshot.start_ns != self._start_ns
        self._start_ns = snapshot.start_ns
        begins = self._log.log != self._log_seen
        if begins:  # the first there is, or of other instruments: what the older one told cannot be read by this one
            self._log_seen, self._seen, self._blotter = self._log.log, 0, Blotter()
        reading = self._log.read(self._seen, int(snapshot.scalars[2]))
        missed = 0 if begins else reading.missed
        self._blotter.take(reading.events, reading.first)
        self._seen = reading.first + len(reading.events)
        self._read, self._missed = self._read + len(reading.events), self._missed + missed
        working = snapshot.tables["working"]
        if (begun_anew or begins or missed) and snapshot.scalars[0] <= len(working):
            self._blotter.settle(set(working["order_id"].tolist()))
        self._snapshot = snapshot

    def _is_alive(self) -> bool:
        if self._moved_ns is None:
            return False
        if self._clock.monotonic_ns() - self._moved_ns > FRESH_NS:
            self._absence = "the engine has written nothing about its orders"
            return False
        self._absence = ""
        return True

    # What the page asks.

    def view(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Everything on the Orders page for one question of its.

        symbol: whose depth; instrument, strategy, state: what the blotter is filtered by ("" for all);
        first, count: the window of the blotter; upto: number of the newest order to list, 0 for the newest
        there is; order: number of the order whose timeline is open, or 0.
        """
        checks = self._checks()
        with self._lock:
            snapshot = self._snapshot
            alive = self._is_alive()
            age_s = None if self._moved_ns is None else (self._clock.monotonic_ns() - self._moved_ns) / 1e9
            said: dict[str, Any] = {"alive": alive, "why": self._absence, "age": age_s, "missed": self._missed,
                                    "checks": checks, "states": STATES, "strategies": STRATEGIES}  # fmt: skip
            if snapshot is None:
                return {**said, "symbols": [], "blotter": {"total": 0, "matching": 0, "newest": 0, "newer": 0, "first": 0, "rows": []},
                        "working": [], "working_total": 0, "positions": [], "parents": [], "depth": None, "timeline": None}  # fmt: skip
            board = _Words(snapshot)
            return {
                **said,
                "symbols": board.symbols,
                "blotter": self._window(board, question),
                "working": board.working(),
                "working_total": int(snapshot.scalars[0]),
                "positions": board.positions(),
                "parents": board.parents(),
                "depth": board.depth(str(question.get("symbol", ""))),
                "timeline": self._timeline(board, question.get("order")),
            }

    def _window(self, board: _Words, question: Mapping[str, Any]) -> dict[str, Any]:
        newest = self._blotter.newest
        upto = _whole(question.get("upto")) or newest
        wanted = {name: str(question.get(name) or "") for name in ("instrument", "strategy", "state")}

        def matches(order: Order) -> bool:
            return (
                order.number <= upto
                and wanted["instrument"] in ("", board.symbol(order.instrument))
                and wanted["strategy"] in ("", STRATEGIES[order.strategy])
                and wanted["state"] in ("", order.state)
            )

        found = [order for order in self._blotter.newest_first() if matches(order)]
        newer = sum(1 for _ in takewhile(lambda order: order.number > upto, self._blotter.newest_first()))
        count = min(max(_whole(question.get("count")), 1), MOST_ROWS)
        first = min(max(_whole(question.get("first")), 0), max(len(found) - count, 0))
        return {
            "total": len(self._blotter),
            "matching": len(found),
            "newest": newest,
            "newer": newer,
            "first": first,
            "rows": [board.order(order) for order in found[first : first + count]],
        }

    def _timeline(self, board: _Words, number: Any) -> dict[str, Any] | None:
        order = self._blotter.get(_whole(number))
        if order is None:
            return None
        events = [board.event(event) for event in order.events]
        return {"order": board.order(order), "events": events, "dropped": order.events_dropped, "parent": order.intent}


class _Words:
    """One snapshot of the block in the page's units: USD, units, names."""

    def __init__(self, snapshot: Snapshot) -> None:
        info = snapshot.spec.info
        self.symbols: list[str] = list(info["instruments"])
        self._ticks: list[float] = info["ticks"]
        self._lots: list[float] = info["lots"]
        self._tables = snapshot.tables
        names = snapshot.tables["clients"]["name"]
        self._clients: Sequence[str] = [name.decode(errors="replace") for name in names.tolist()]
        n = len(self.symbols)
        self._depth = snapshot.tables["depth"].reshape(n, 2, LEVELS_SHOWN) if len(snapshot.tables["depth"]) else None

    def symbol(self, i: int) -> str:
        return self.symbols[i] if 0 <= i < len(self.symbols) else "?"

    def client(self, order_or_row: int, strategy: int) -> str:
        known = STRATEGIES[strategy] == "clients" and order_or_row < len(self._clients)
        return self._clients[order_or_row] if known else ""

    def _price(self, i: int, ticks: float) -> float | None:
        return ticks * self._ticks[i] if ticks > 0 else None

    def order(self, order: Order) -> dict[str, Any]:
        i, lot = order.instrument, self._lots[order.instrument]
        return {
            "n": order.number,
            "id": str(order.order_id) if order.order_id else "",
            "t": order.wall_ns // 1_000_000,
            "symbol": self.symbol(i),
            "side": "buy" if order.side > 0 else "sell",
            "type": Kind(order.kind).name.lower().replace("_", " ") if order.kind else "",
            "strategy": STRATEGIES[order.strategy],
            "client": self.client(order.client, order.strategy),
            "price": self._price(i, order.price),
            "average": self._price(i, order.notional / order.filled) if order.filled else None,
            "qty": None if order.qty is None else order.qty * lot,
            "filled": order.filled * lot,
            "state": order.state,
            "reason": reason_name(order.reason) if order.reason else "",
            "tick": self._ticks[i],
        }

    def event(self, event: Mapping[str, int]) -> dict[str, Any]:
        i, what = event["instrument"], Happened(event["what"])
        reason = ""
        if what is Happened.FILL:
            reason = "taker" if event["reason"] else "maker"
        elif event["reason"]:
            reason = reason_name(event["reason"])
        stages = ("total_ns", "market_data_ns", "decision_ns", "gate_ns")
        return {
            "t": event["wall_ns"] / 1e6,
            "what": what.name.lower(),
            "price": self._price(i, event["price"]),
            "qty": event["qty"] * self._lots[i],
            "left": event["left"] * self._lots[i],
            "reason": reason,
            "stages": {name.removesuffix("_ns"): event[name] for name in stages} if event["total_ns"] else None,
        }

    def working(self) -> list[dict[str, Any]]:
        rows = []
        for row in self._tables["working"][:MOST_WORKING]:
            i, side, price = int(row["instrument"]), int(row["side"]), int(row["price"])
            rows.append(
                {
                    "id": str(row["order_id"]),
                    "symbol": self.symbol(i),
                    "side": "buy" if side > 0 else "sell",
                    "type": Kind(int(row["kind"])).name.lower().replace("_", " "),
                    "strategy": STRATEGIES[int(row["strategy"])],
                    "client": self.client(int(row["client"]), int(row["strategy"])),
                    "price": self._price(i, price),
                    "left": int(row["left"]) * self._lots[i],
                    "age": float(row["age_s"]),
                    "away": self._away_bps(i, side, price),
                    "tick": self._ticks[i],
                }
            )
        return rows

    def _away_bps(self, i: int, side: int, price: int) -> float | None:
        """How far behind the best price of its own side an order rests, in bps of it."""
        if self._depth is None:
            return None
        best = int(self._depth[i, 0 if side > 0 else 1, 0]["price"])
        return side * (best - price) / best * 1e4 if best > 0 else None

    def positions(self) -> list[dict[str, Any]]:
        names = ("qty", "avg_usd", "mark_usd", "realised_usd", "unrealised_usd", "fees_usd")
        rows = []
        for i, row in enumerate(self._tables["positions"]):
            values = {name.removesuffix("_usd"): _finite(row[name]) for name in names}
            pnl = float(row["realised_usd"] + row["unrealised_usd"] - row["fees_usd"])
            state = TradingState(int(row["state"])).name
            rows.append(
                {"symbol": self.symbol(i), **values, "pnl": _finite(pnl), "state": state, "tick": self._ticks[i]}
            )
        return rows

    def parents(self) -> list[dict[str, Any]]:
        rows = []
        for row in self._tables["parents"]:
            i, filled = int(row["instrument"]), int(row["filled"])
            average = row["notional"] / filled if filled else math.nan
            paid_bps = float(row["side"] * (average - row["arrival"]) / row["arrival"] * 1e4)
            rows.append(
                {
                    "symbol": self.symbol(i),
                    "number": int(row["number"]),
                    "side": "buy" if row["side"] > 0 else "sell",
                    "algo": Algo(int(row["algo"])).label,
                    "control": bool(row["control"]),
                    "target": int(row["target"]) * self._lots[i],
                    "filled": filled * self._lots[i],
                    "done": filled / max(int(row["target"]), 1),
                    "due": float(row["due"]),
                    "left_s": float(row["left_s"]),
                    "slippage": _finite(paid_bps),
                    "orders": int(row["orders"]),
                }
            )
        return rows

    def depth(self, symbol: str) -> dict[str, Any] | None:
        if self._depth is None or not self.symbols:
            return None
        i = self.symbols.index(symbol) if symbol in self.symbols else 0
        sides = [
            [
                [row["price"] * self._ticks[i], row["lots"] * self._lots[i], row["own"] * self._lots[i]]
                for row in self._depth[i, column]
                if row["price"] > 0
            ]
            for column in range(2)
        ]
        return {"symbol": self.symbols[i], "bids": sides[0], "asks": sides[1], "tick": self._ticks[i]}


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
