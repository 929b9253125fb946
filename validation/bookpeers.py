"""Book peers: other people's order books on the stream that ours is measured on.

Run by the interpreter of an environment of its own, where what is to be measured is installed:

    python -m venv PEERS && PEERS/bin/pip install limit-order-book lightmatchingengine pyorderbook hftbacktest
    DESKVIGIL_BOOK_PEERS=PEERS/bin/python python app.py bench book

As a program (`bookpeers.py NAME FILE`) it needs nothing of ours. FILE holds int64 rows, of orders (0 add or
1 withdraw, id, side, price, qty) or of levels (time, side, price, qty). It prints seconds and, for a check,
how many orders (levels) are left. Conversion into what the peer wants lies outside the measured part.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[tuple[int, ...]]
Outcome = tuple[float, int]


def limit_order_book(rows: Rows) -> Outcome:
    """C++ behind ctypes, called as its Python interface calls it."""
    from limit_order_book.library import Library  # type: ignore[import-not-found]

    functions, book = Library.functions, Library.functions.new_()
    add, withdraw = functions.limit, functions.cancel
    began = time.process_time()
    for operation, order_id, side, price, qty in rows:
        if operation:
            withdraw(book, order_id)
        else:
            add(book, side > 0, order_id, qty, price)
    return time.process_time() - began, functions.count(book)


def lightmatchingengine(rows: Rows) -> Outcome:
    """Pure Python; it numbers orders itself."""
    from lightmatchingengine.lightmatchingengine import LightMatchingEngine  # type: ignore[import-not-found]

    own: dict[int, int] = {}
    calls = []
    for operation, order_id, side, price, qty in rows:
        if not operation:
            own[order_id] = len(own) + 1
        calls.append((operation, own[order_id], 1 if side > 0 else 2, price, qty))
    engine = LightMatchingEngine()
    began = time.process_time()
    for operation, order_id, side, price, qty in calls:
        if operation:
            engine.cancel_order(order_id, "X")
        else:
            engine.add_order("X", price, qty, side)
    spent = time.process_time() - began
    book = engine.order_books["X"]
    return spent, sum(len(level) for side in (book.bids, book.asks) for level in side.values())


def pyorderbook(rows: Rows) -> Outcome:
    """Pure Python; orders are made before."""
    from pyorderbook import Book, ask, bid  # type: ignore[import-not-found]

    orders: dict[int, Any] = {}
    calls = []
    for operation, order_id, side, price, qty in rows:
        if not operation:
            orders[order_id] = (bid if side > 0 else ask)("X", price, qty)
        calls.append((operation, orders[order_id]))
    book = Book()
    began = time.process_time()
    for operation, order in calls:
        if operation:
            book.cancel(order)
        else:
            book.match(order)
    return time.process_time() - began, len(book.order_map)


def hftbacktest(rows: Rows) -> Outcome:
    """Rust: its backtester goes through level updates of one side of the wire, without orders or strategy."""
    import hftbacktest as hft  # type: ignore[import-not-found]
    import numpy as np

    table = np.array(rows, dtype=np.int64)
    data = np.zeros(len(table), dtype=hft.types.event_dtype)
    side = np.where(table[:, 1] > 0, hft.types.BUY_EVENT, hft.types.SELL_EVENT)
    data["ev"] = side | hft.types.DEPTH_EVENT | hft.types.LOCAL_EVENT
    data["exch_ts"] = data["local_ts"] = table[:, 0] + 1
    data["px"], data["qty"] = table[:, 2], table[:, 3]
    asset = (
        hft.BacktestAsset().data(data).linear_asset(1.0).constant_order_latency(0, 0).risk_adverse_queue_model()
        .no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0).tick_size(1.0).lot_size(1.0)
        .roi_lb(float(table[:, 2].min())).roi_ub(float(table[:, 2].max()))
    )  # fmt: skip
    backtest = hft.ROIVectorMarketDepthBacktest([asset])
    backtest.elapse(0)  # compiles
    began = time.process_time()
    backtest.elapse(int(table[-1, 0]) + 10)
    spent = time.process_time() - began
    depth = backtest.depth(0)
    return spent, int(sum((np.asarray(side) > 0).sum() for side in (depth.bid_depth, depth.ask_depth)))


# Name: which stream, how many columns it has, and who measures.
PEERS: dict[str, tuple[str, int, Callable[[Rows], Outcome]]] = {
    "limit-order-book": ("orders", 5, limit_order_book),
    "lightmatchingengine": ("orders", 5, lightmatchingengine),
    "pyorderbook": ("orders", 5, pyorderbook),
    "hftbacktest": ("levels", 4, hftbacktest),
}
HOW_TO = f"pip install {' '.join(PEERS)} into an environment of its own, DESKVIGIL_BOOK_PEERS=its python"


def main(name: str, path: str) -> None:
    """Measure one peer and print {"seconds": ..., "left": ...}."""
    _, columns, measure = PEERS[name]
    words = array("q")
    words.frombytes(Path(path).read_bytes())
    values = words.tolist()
    rows = list(zip(*(values[column::columns] for column in range(columns)), strict=True))
    with contextlib.redirect_stdout(sys.stderr):
        seconds, left = measure(rows)
    print(json.dumps({"seconds": seconds, "left": left}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
