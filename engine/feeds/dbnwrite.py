"""DBN write: tapes of orders as Databento's market-by-order and market-by-price files, in the records of their own package.

Header and record layouts are databento-dbn's. An execution is told as Databento tells it: the trade (T), the fill of the
resting order (F), then the cancel (C) that takes it off the book. What a record of levels says of a level's number of
orders, and of the level that changed, is 0: nobody reads it.
"""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.book import Books, apply_event, depth, make_books
from engine.events import CANCEL, EXECUTE, HALT, HIDDEN, LIMIT, REDUCE, RESUME, EventArray, Tape
from engine.feeds.published import MAX_ORDERS, published
from engine.feeds.scan import ByteArray
from engine.jit import kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

DATASET: Final = "XNAS.ITCH"
PUBLISHER: Final = 2  # XNAS.ITCH.XNAS
PRICE_UNIT_USD: Final = 1e-9
LAST: Final = 128  # flag: the last record of one of the venue's events
MAX_SIZE: Final = (1 << 32) - 1
LEVELS: Final = 10
MBO_TYPE, MBP_10_TYPE, STATUS_TYPE = 0xA0, 0x0A, 0x12
PRE_OPEN, TRADING, HALTED, POST_CLOSE = 1, 7, 8, 13  # of a status record
UNDEFINED: Final = (1 << 63) - 1
DAY_NS: Final = 86_400 * 10**9
OPENING_RANK, EVENT_RANK, CLOSING_RANK = 0, 1 << 20, 1 << 40  # places among the records of one time
BUY, SELL = b"B", b"A"

Records = npt.NDArray[Any]


def write_dbn(tape: Tape, market_hours: tuple[int, int] | None = None, levels: bool = False) -> ByteArray:
    """A tape of orders as a DBN file of MBO records, or with `levels` of MBP-10 ones: its bytes, uint8 (n,).

    market_hours: first and last ns in which the venue trades, the tape's span where not given. DeskvigilError where the tape
    is of levels, or a size is larger than DBN can say.
    """
    events = published(tape)
    if not len(events) or events["qty"].max() > MAX_SIZE:
        raise DeskvigilError(f"{tape.source}: expected events, none with a size above what four bytes hold")
    scale = np.array([round(row.tick_size_usd / PRICE_UNIT_USD) for row in tape.instruments], dtype=np.int64)
    opens_ns, closes_ns = market_hours or (tape.start_ns, tape.end_ns)
    first_ns = min(tape.start_ns, opens_ns, int(events["t_ns"][0]))
    n = len(tape.instruments)
    told = _levels(tape, events, scale) if levels else _orders(events, scale)
    parts = [
        _status(np.full(n, first_ns), np.arange(n), PRE_OPEN, OPENING_RANK + np.arange(n)),
        _status(np.full(n, opens_ns), np.arange(n), TRADING, OPENING_RANK + n + np.arange(n)),
        *told,
        *(_halts(events, kind, action) for kind, action in ((HALT, HALTED), (RESUME, TRADING))),
        _status(np.full(n, closes_ns), np.arange(n), POST_CLOSE, CLOSING_RANK + np.arange(n)),
    ]
    return np.concatenate([np.frombuffer(_header(tape, first_ns, levels), dtype=np.uint8), _merge(parts)])


def _header(tape: Tape, start_ns: int, levels: bool) -> bytes:
    import databento_dbn  # here, since the package takes a moment to load and few runs need it

    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=start_ns // DAY_NS)
    span = {"start_date": day, "end_date": day + datetime.timedelta(days=1)}
    symbols = [row.symbol for row in tape.instruments]
    mappings = [
        SimpleNamespace(raw_symbol=symbol, intervals=[SimpleNamespace(symbol=str(k + 1), **span)])
        for k, symbol in enumerate(symbols)
    ]
    metadata_of: Any = databento_dbn.Metadata  # its stubs take the members of its enumerations for text
    metadata = metadata_of(
        dataset=DATASET, start=start_ns, stype_in=databento_dbn.SType.RAW_SYMBOL, stype_out=databento_dbn.SType.INSTRUMENT_ID,
        schema=databento_dbn.Schema.MBP_10 if levels else databento_dbn.Schema.MBO, symbols=symbols, partial=[], not_found=[],
        version=3, mappings=mappings,
    )  # fmt: skip
    return bytes(metadata.encode())


def _blank(layout: str, kind: int, t_ns: IntArray, instrument: IntArray) -> Records:
    """Records of one of the package's layouts, with their headers."""
    import databento_dbn

    records = np.zeros(len(t_ns), dtype=np.dtype(getattr(databento_dbn, layout)._dtypes))
    records["length"], records["rtype"], records["publisher_id"] = records.dtype.itemsize // 4, kind, PUBLISHER
    records["instrument_id"], records["ts_event"], records["ts_recv"] = instrument + 1, t_ns, t_ns
    return records


def _merge(parts: list[tuple[Records, IntArray]]) -> ByteArray:
    """One stream of all records, by time and then by rank."""
    times = np.concatenate([records["ts_recv"].astype(np.int64) for records, _ in parts])
    order = np.lexsort((np.concatenate([rank for _, rank in parts]), times))
    lengths = np.concatenate([np.full(len(records), records.dtype.itemsize) for records, _ in parts])
    starts = np.empty(len(order), dtype=np.int64)
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    data = np.empty(int(lengths.sum()), dtype=np.uint8)
    at = 0
    for records, _ in parts:
        size = records.dtype.itemsize
        where = starts[at : at + len(records)]
        data[where[:, None] + np.arange(size)] = records.view(np.uint8).reshape(-1, size)
        at += len(records)
    return data


def _status(t_ns: IntArray, instrument: IntArray, action: int, rank: IntArray) -> tuple[Records, IntArray]:
    records = _blank("StatusMsg", STATUS_TYPE, t_ns, instrument)
    records["action"], records["is_trading"], records["is_quoting"] = action, b"Y" if action == TRADING else b"N", b"Y"
    return records, rank


def _ranks(events: EventArray) -> IntArray:
    """Each event's place among those of its time, with room for three records."""
    return EVENT_RANK + 4 * np.arange(len(events), dtype=np.int64)


def _halts(events: EventArray, kind: int, action: int) -> tuple[Records, IntArray]:
    chosen = events["kind"] == kind
    return _status(events["t_ns"][chosen], events["instrument"][chosen], action, _ranks(events)[chosen])


def _orders(events: EventArray, scale: IntArray) -> list[tuple[Records, IntArray]]:
    """MBO records."""
    rank = _ranks(events)
    rests = np.where(events["side"] > 0, BUY, SELL)
    aggressor = np.where(events["side"] > 0, SELL, BUY)

    def of(
        kinds: tuple[int, ...], action: bytes, place: int, side: Any, named: bool, flags: int
    ) -> tuple[Records, IntArray]:
        chosen = np.isin(events["kind"], kinds)
        picked = events[chosen]
        records = _blank("MBOMsg", MBO_TYPE, picked["t_ns"], picked["instrument"])
        records["order_id"] = picked["order_id"] if named else 0
        records["price"], records["size"] = picked["price"] * scale[picked["instrument"]], picked["qty"]
        records["action"], records["side"], records["flags"] = action, side[chosen], flags
        return records, rank[chosen] + place

    return [
        of((LIMIT,), b"A", 0, rests, True, LAST), of((REDUCE, CANCEL), b"C", 0, rests, True, LAST),
        of((EXECUTE,), b"T", 0, aggressor, False, 0), of((EXECUTE,), b"F", 1, rests, True, 0),
        of((EXECUTE,), b"C", 2, rests, True, LAST), of((HIDDEN,), b"T", 0, aggressor, False, LAST),
    ]  # fmt: skip


@kernel
def _views(books: Books, events: EventArray, prices: IntArray, sizes: IntArray) -> None:
    """Apply events; the ten best levels of its instrument behind each, int64 (n, 2, LEVELS), bids first, 0 where there is none."""
    for k in range(len(events)):
        apply_event(books, events[k])
        for s in range(2):
            depth(books, events[k].instrument + 0, 1 - 2 * s, prices[k, s], sizes[k, s])


def _levels(tape: Tape, events: EventArray, scale: IntArray) -> list[tuple[Records, IntArray]]:
    """MBP-10 records: a trade as of before it, and every change of the ten best levels behind it."""
    n, stock = len(tape.instruments), events["instrument"]
    prices, sizes = (np.zeros((len(events), 2, LEVELS), dtype=np.int64) for _ in range(2))
    _views(make_books(n, max_orders=MAX_ORDERS), events, prices, sizes)
    before = np.full(len(events), -1, dtype=np.int64)  # of each event: the row of its instrument's event before
    for i in range(n):
        rows = np.flatnonzero(stock == i)
        before[rows[1:]] = rows[:-1]
    changed = (prices != prices[before]).any(axis=(1, 2)) | (sizes != sizes[before]).any(axis=(1, 2))
    changed |= before < 0
    changed &= np.isin(events["kind"], (LIMIT, REDUCE, CANCEL, EXECUTE))
    traded = np.isin(events["kind"], (EXECUTE, HIDDEN)) & (before >= 0)

    def of(chosen: npt.NDArray[np.bool_], view: IntArray, action: Any, side: Any, flags: int, place: int) -> Any:
        picked = events[chosen]
        by = scale[picked["instrument"]]
        records = _blank("MBP10Msg", MBP_10_TYPE, picked["t_ns"], picked["instrument"])
        records["price"], records["size"], records["flags"] = picked["price"] * by, picked["qty"], flags
        records["action"], records["side"] = action, side[chosen]
        for s, name in enumerate(("bid", "ask")):
            for k in range(LEVELS):
                price, size = prices[view, s, k], sizes[view, s, k]
                records[f"{name}_px_{k:02}"] = np.where(size > 0, price * by, UNDEFINED)
                records[f"{name}_sz_{k:02}"] = size
        return records, _ranks(events)[chosen] + place

    rests = np.where(events["side"] > 0, BUY, SELL)
    aggressor = np.where(events["side"] > 0, SELL, BUY)
    actions = np.where(events["kind"][changed] == LIMIT, b"A", b"C")
    return [
        of(traded, before[traded], b"T", aggressor, LAST, 0), of(changed, np.flatnonzero(changed), actions, rests, LAST, 1),
    ]  # fmt: skip
