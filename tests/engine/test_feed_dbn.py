"""DBN: the recorded CME days against a slow book of Databento's own rules, and records that nobody should send."""

from __future__ import annotations

import datetime
from contextlib import suppress
from types import SimpleNamespace

import cramjam
import databento_dbn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import apply_all, counters, depth, is_halted, make_books
from engine.events import (
    CANCEL,
    CLEAR,
    EXECUTE,
    HALT,
    HIDDEN,
    LEVEL,
    LIMIT,
    REDUCE,
    RESUME,
    TRADE,
    empty_events,
    empty_fills,
)
from engine.feeds.dbn import DbnReader, dbn_tape, read_dbn, records_of, replay_dbn
from engine.feeds.dbnwords import MBO_UNITS
from engine.feeds.tape import recognise
from metrics.errors import DeskvigilError

OPENING, DAY = "cme_mbo/esh4-glbx-mdp3-20231224.mbo.dbn.zst", "cme_mbo/esh4-glbx-mdp3-20231225.mbo.dbn.zst"
TOP = "cme_mbo/esu4-glbx-mdp3-20240701-mbp-1.dbn.zst"
ORDER = np.dtype(databento_dbn.MBOMsg._dtypes)
MBP_1, MBP_10 = np.dtype(databento_dbn.MBP1Msg._dtypes), np.dtype(databento_dbn.MBP10Msg._dtypes)
UNIT = 250_000_000
LAST, SNAPSHOT, BAD_TIME, UNDEFINED = 128, 32, 8, 2**63 - 1


def header(schema: str = "mbo") -> bytes:
    span = {"start_date": datetime.date(2024, 1, 1), "end_date": datetime.date(2024, 1, 2)}
    names = (("ESH4", "7"), ("NQH4", "8"))
    mappings = [
        SimpleNamespace(raw_symbol=symbol, intervals=[SimpleNamespace(symbol=number, **span)])
        for symbol, number in names
    ]
    metadata = databento_dbn.Metadata(
        dataset="GLBX.MDP3", start=1, stype_in=databento_dbn.SType.RAW_SYMBOL, stype_out=databento_dbn.SType.INSTRUMENT_ID,
        schema=databento_dbn.Schema.MBO if schema == "mbo" else databento_dbn.Schema.MBP_1,
        symbols=["ESH4", "NQH4"], partial=[], not_found=[], version=3, mappings=mappings,
    )  # fmt: skip
    return bytes(metadata.encode())


def orders(rows, instrument: int = 7, publisher: int = 1) -> np.ndarray:
    """MBO records from (action, order id, side, price in ticks, size, flags); times count up from 1000."""
    records = np.zeros(len(rows), dtype=ORDER)
    records["length"], records["rtype"] = ORDER.itemsize // 4, 0xA0
    records["publisher_id"], records["instrument_id"] = publisher, instrument
    records["ts_event"] = records["ts_recv"] = 1000 + np.arange(len(rows))
    for k, (action, ref, side, price, size, flags) in enumerate(rows):
        records[k]["action"], records[k]["order_id"], records[k]["side"] = action.encode(), ref, side.encode()
        records[k]["price"], records[k]["size"], records[k]["flags"] = (
            price * UNIT if price < 2**40 else price,
            size,
            flags,
        )
    return records


def parse(data: bytes, block: int = 64):
    file = records_of("test", np.frombuffer(bytearray(data), dtype=np.uint8))
    reader = DbnReader(file, block)
    blocks = [(events.copy(), marks.copy()) for events, marks in reader.blocks()]
    events = np.concatenate([empty_events(0), *(events for events, _ in blocks)])
    events["price"] *= max(int(file.ticks[0]) // UNIT, 1)  # a file's tick is the step of the prices that are in it
    return file, reader.parsed(), events


def told(events) -> list[tuple[int, int, int, int]]:
    """(kind, order id, price, qty) of each event."""
    return [tuple(int(event[name]) for name in ("kind", "order_id", "price", "qty")) for event in events]


class SlowBook:
    """Databento's own rules: A adds, C takes its size off, M sets, R clears, T and F change nothing."""

    def __init__(self) -> None:
        self.orders: dict[int, list[int]] = {}

    def apply(self, action: str, ref: int, side: int, price: int, size: int) -> None:
        if action == "R":
            self.orders.clear()
        elif action == "A" or action == "M":
            self.orders[ref] = [side, price, size]
        elif action == "C":
            self.orders[ref][2] -= size
            assert self.orders[ref][2] >= 0
            if self.orders[ref][2] == 0:
                del self.orders[ref]

    def levels(self, side: int) -> list[tuple[int, int]]:
        """(price, size) of each level, best first."""
        found: dict[int, int] = {}
        for its, price, size in self.orders.values():
            if its == side:
                found[price] = found.get(price, 0) + size
        return sorted(found.items(), reverse=side > 0)


def levels_of(books, side: int, i: int = 0) -> list[tuple[int, int]]:
    prices, quantities = np.zeros(10_000, np.int64), np.zeros(10_000, np.int64)
    count = depth(books, i, side, prices, quantities)
    return list(zip(prices[:count].tolist(), quantities[:count].tolist(), strict=True))


# --- recorded -------------------------------------------------------------------------------------


def test_the_book_of_a_recorded_day_is_the_slow_one_at_every_look(marketdata) -> None:
    file = read_dbn(marketdata / DAY)
    raw = bytes(cramjam.zstd.decompress((marketdata / DAY).read_bytes()))
    records = np.frombuffer(raw[8 + int.from_bytes(raw[4:8], "little") :], dtype=ORDER)
    ends = np.flatnonzero(records["flags"] & LAST)
    books, slow, at, looked, marked = make_books(1), SlowBook(), 0, 0, 0
    for events, marks in DbnReader(file, 4096).blocks():
        applied = 0
        for mark in marks:
            marked += 1
            if marked % 400 and marked != len(ends):
                continue
            apply_all(books, events[applied : mark[0]], empty_fills(0))
            applied = int(mark[0])
            for record in records[at : ends[marked - 1] + 1]:
                side = 1 if record["side"] == b"B" else -1
                slow.apply(
                    record["action"].decode(),
                    int(record["order_id"]),
                    side,
                    int(record["price"]) // UNIT,
                    int(record["size"]),
                )
            at = int(ends[marked - 1]) + 1
            assert (levels_of(books, 1), levels_of(books, -1)) == (slow.levels(1), slow.levels(-1))
            looked += 1
        apply_all(books, events[applied:], empty_fills(0))
    assert (marked, at) == (len(ends), len(records))
    assert looked == len(ends) // 400 + 1
    assert sum(count for name, count in counters(books).items() if name.startswith("refused_")) == 0


def test_a_recorded_day_crosses_in_its_pre_open_only(marketdata) -> None:
    found = replay_dbn(marketdata / DAY)
    assert (found.events, found.book_rows_checked, found.mismatches, found.skipped_lines) == (68_792, 47_022, 0, 0)
    assert (found.crossed_pre_open, found.crossed_open) == (1, 0)
    assert found.contradictions == {}
    opening = replay_dbn(marketdata / OPENING)
    assert (opening.events, opening.mismatches, opening.crossed_open) == (8_725, 0, 0)


def test_every_filled_lot_of_a_recorded_day_is_executed_once(marketdata) -> None:
    file = read_dbn(marketdata / DAY)
    reader = DbnReader(file)
    events = np.concatenate([block.copy() for block, _ in reader.blocks()])
    raw = bytes(cramjam.zstd.decompress((marketdata / DAY).read_bytes()))
    records = np.frombuffer(raw[8 + int.from_bytes(raw[4:8], "little") :], dtype=ORDER)
    filled = int(records["size"][records["action"] == b"F"].sum())
    parsed = reader.parsed()
    shown, hidden = (int(events["qty"][events["kind"] == kind].sum()) for kind in (EXECUTE, HIDDEN))
    assert shown + hidden + parsed.unseen_lots == filled
    assert (parsed.trades, parsed.sideless) == (2_973, 1)
    # Fills of orders never shown are the opening auction's alone.
    assert (parsed.unseen_fills, parsed.unseen_lots) == (7, 14)


def test_the_best_prices_of_recorded_levels_are_the_record_s_every_time(marketdata) -> None:
    found = replay_dbn(marketdata / TOP)
    assert (found.events, found.book_rows_checked, found.mismatches, found.fills) == (2_288, 2_288, 0, 120)


@pytest.mark.parametrize("name", [DAY, TOP])
def test_a_recording_is_a_tape(marketdata, name) -> None:
    tape = dbn_tape(marketdata / name)
    assert recognise(marketdata / name).name == "dbn"
    assert tape.instruments[0].tick_size_usd == pytest.approx(0.25)
    assert tape.level_book == (name == TOP)
    assert tape.start_ns == tape.events["t_ns"][0]


# --- meaning --------------------------------------------------------------------------------------


def test_a_fill_and_what_follows_it_are_one_reduction() -> None:
    rows = [
        ("A", 1, "B", 100, 10, LAST), ("T", 0, "A", 100, 4, 0), ("F", 1, "B", 100, 4, 0), ("M", 1, "B", 100, 6, LAST),
        ("T", 0, "A", 100, 6, 0), ("F", 1, "B", 100, 2, 0), ("F", 1, "B", 100, 4, 0), ("C", 1, "B", 100, 6, LAST),
    ]  # fmt: skip
    _, parsed, events = parse(header() + orders(rows).tobytes())
    assert told(events) == [(LIMIT, 1, 100, 10), (EXECUTE, 1, 100, 4), (EXECUTE, 1, 100, 6)]
    assert (parsed.contradictions, parsed.trades) == ({}, 2)


def test_a_modification_keeps_its_place_only_where_it_gets_smaller() -> None:
    rows = [
        ("A", 1, "A", 100, 10, LAST), ("M", 1, "A", 100, 7, LAST), ("M", 1, "A", 100, 8, LAST), ("M", 1, "A", 101, 8, LAST),
        ("C", 1, "A", 101, 3, LAST), ("C", 1, "A", 101, 5, LAST),
    ]  # fmt: skip
    _, _, events = parse(header() + orders(rows).tobytes())
    assert told(events) == [
        (LIMIT, 1, 100, 10), (REDUCE, 1, 100, 3), (CANCEL, 1, 100, 7), (LIMIT, 1, 100, 8), (CANCEL, 1, 100, 8), (LIMIT, 1, 101, 8),
        (REDUCE, 1, 101, 3), (CANCEL, 1, 101, 5),
    ]  # fmt: skip


def test_an_order_shown_again_after_its_fill_goes_to_the_back_and_the_rest_was_hidden() -> None:
    rows = [("A", 1, "B", 100, 5, LAST), ("F", 1, "B", 100, 12, 0), ("M", 1, "B", 100, 5, LAST)]
    _, _, events = parse(header() + orders(rows).tobytes())
    assert told(events) == [(LIMIT, 1, 100, 5), (EXECUTE, 1, 100, 5), (HIDDEN, 0, 100, 7), (LIMIT, 1, 100, 5)]


def test_a_snapshot_starts_a_pre_open_that_ends_with_the_first_trade() -> None:
    rows = [
        ("R", 0, "N", 0, 0, SNAPSHOT | BAD_TIME), ("A", 1, "B", 101, 5, SNAPSHOT | BAD_TIME), ("A", 2, "A", 100, 5, LAST),
        ("T", 0, "N", 100, 5, 0), ("F", 1, "B", 100, 5, 0), ("C", 1, "B", 101, 5, 0), ("C", 2, "A", 100, 5, LAST),
        ("A", 3, "B", 101, 5, LAST), ("A", 4, "A", 100, 5, LAST), ("R", 0, "N", 0, 0, LAST),
    ]  # fmt: skip
    data = header() + orders(rows).tobytes()
    _, parsed, events = parse(data)
    assert [kind for kind, *_ in told(events) if kind in (CLEAR, HALT, RESUME)] == [HALT, CLEAR, RESUME, CLEAR, HALT]
    assert parsed.sideless == 1


def test_crossed_books_are_told_apart_by_phase(tmp_path) -> None:
    rows = [
        ("A", 1, "B", 101, 5, SNAPSHOT), ("A", 2, "A", 100, 5, LAST), ("C", 2, "A", 100, 5, LAST), ("T", 0, "A", 101, 1, LAST),
        ("A", 3, "A", 101, 5, LAST), ("A", 4, "A", 100, 5, LAST), ("C", 1, "B", 101, 5, LAST),
    ]  # fmt: skip
    path = tmp_path / "crossed.dbn"
    path.write_bytes(header() + orders(rows).tobytes())
    found = replay_dbn(path)
    assert (found.crossed_pre_open, found.crossed_open, found.mismatches) == (1, 1, 2)


def test_a_status_record_says_when_there_is_trading() -> None:
    status = np.zeros(2, dtype=np.dtype(databento_dbn.StatusMsg._dtypes))
    status["length"], status["rtype"], status["publisher_id"], status["instrument_id"] = (
        status.dtype.itemsize // 4,
        0x12,
        1,
        7,
    )
    status["ts_recv"], status["action"] = (1500, 1600), (8, 7)
    data = header() + orders([("A", 1, "B", 100, 5, LAST)]).tobytes() + status.tobytes()
    _, _, events = parse(data)
    assert [int(event["kind"]) for event in events] == [LIMIT, HALT, RESUME]
    books = make_books(1)
    apply_all(books, events[:2], empty_fills(0))
    assert is_halted(books, 0)
    # Where the venue tells its phases, neither a trade opens the market nor a snapshot closes it.
    rows = [("T", 0, "A", 100, 1, LAST), ("R", 0, "N", 0, 0, SNAPSHOT | LAST)]
    pre_open, trading = status[:1].tobytes(), status[1:].tobytes()
    later = orders(rows)
    later["ts_recv"] += 1000
    _, _, events = parse(
        header()
        + orders([("A", 1, "B", 100, 5, LAST)]).tobytes()
        + pre_open
        + later[:1].tobytes()
        + trading
        + later[1:].tobytes()
    )
    assert [int(event["kind"]) for event in events] == [LIMIT, HALT, RESUME, CLEAR]


def test_instruments_and_publishers_are_kept_apart_and_named() -> None:
    row = [("A", 1, "B", 100, 5, LAST)]
    parts = [
        orders(row * 1, 7, 1),
        orders([*row, ("C", 1, "B", 100, 5, LAST)], 8, 1),
        orders([*row, *row, *row], 8, 2),
        orders(row, 99, 1),
    ]
    file, parsed, events = parse(header() + b"".join(part.tobytes() for part in parts))
    assert file.symbols == ("NQH4.2", "NQH4.1", "ESH4", "99")
    assert [int(event["instrument"]) for event in events] == [2, 1, 1, 0, 3]
    assert parsed.contradictions == {"order id used twice": 2}
    few = records_of("test", file.data, 2)
    assert (few.symbols, few.left_out) == (("NQH4.2", "NQH4.1"), 2)


def test_untrusted_times_are_the_venue_s_and_none_goes_back() -> None:
    records = orders([("A", k, "B", 100, 5, LAST) for k in range(1, 5)])
    records["flags"][1] |= BAD_TIME
    records["ts_event"] = (1, 1700, 3, 4)
    records["ts_recv"] = (1500, 2**63 - 5, 1600, 1800)
    _, parsed, events = parse(header() + records.tobytes())
    assert events["t_ns"].tolist() == [1500, 1700, 1700, 1800]
    assert parsed.late == 1


def test_what_is_malformed_is_skipped_with_its_position_and_the_rest_is_read() -> None:
    good = orders([("A", 1, "B", 100, 5, LAST), ("A", 2, "B", 100, 5, LAST)])
    bad = orders(
        [
            ("A", 3, "B", UNDEFINED, 5, LAST),
            ("A", 4, "N", 100, 5, LAST),
            ("A", 5, "B", 100, 0, LAST),
            ("A", 6, "B", 100, 5, LAST | 64),
        ]
    )
    short = np.zeros(1, dtype=ORDER)
    short["length"], short["rtype"] = 5, 0xA0
    start = header()
    tail = good[1:].tobytes()[:-7]
    data = start + good[:1].tobytes() + bad.tobytes() + short.tobytes()[:20] + good[1:].tobytes() + tail
    _, parsed, events = parse(data)
    assert [ref for _, ref, *_ in told(events)] == [1, 2]
    at = len(start) + 56
    places = {f"byte {at + 56 * k}: impossible value" for k in range(3)} | {
        f"byte {at + 56 * 3}: aggregated level among orders", f"byte {at + 56 * 4}: wrong length", f"byte {len(data) - len(tail)}: cut short",
    }  # fmt: skip
    assert set(parsed.where) == places
    assert parsed.skipped == len(places)


def book_of(levels: list[tuple[int, int]], side: str, record) -> None:
    for k, (price, size) in enumerate(levels):
        record[f"{side}_px_{k:02}"], record[f"{side}_sz_{k:02}"] = price * UNIT, size


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=10), st.lists(st.tuples(st.integers(40, 70), st.integers(1, 9)), max_size=10),
                       st.sampled_from("ACMT"), st.sampled_from("ABN")), min_size=1, max_size=20),
    st.sampled_from([1, 10]),
)  # fmt: skip
def test_levels_shown_are_the_book_s_levels(rows, count) -> None:
    kind = MBP_1 if count == 1 else MBP_10
    records = np.zeros(len(rows), dtype=kind)
    records["length"], records["rtype"], records["publisher_id"], records["instrument_id"] = (
        kind.itemsize // 4,
        1 if count == 1 else 10,
        1,
        7,
    )
    for name in records.dtype.names:
        if "_px_" in name:
            records[name] = UNDEFINED
    shown = []
    for k, (bids, asks, action, side) in enumerate(rows):
        bids, asks = sorted(dict(bids).items(), reverse=True)[:count], sorted(dict(asks).items())[:count]
        records[k]["action"], records[k]["side"], records[k]["price"], records[k]["size"] = (
            action.encode(),
            side.encode(),
            35 * UNIT,
            1,
        )
        records[k]["ts_recv"] = k + 1
        book_of(bids, "bid", records[k])
        book_of(asks, "ask", records[k])
        shown.append((bids, asks))
    if not any(bids or asks for bids, asks in shown):
        return
    file = records_of("test", np.frombuffer(header("mbp-1") + records.tobytes(), dtype=np.uint8))
    tick = int(file.ticks[0]) // UNIT if int(file.ticks[0]) % UNIT == 0 else 1
    books, row = make_books(1, level_book=True), 0
    reader = DbnReader(file, 64)
    for events, marks in reader.blocks():
        at = 0
        for mark in marks:
            part = events[at : mark[0]]
            apply_all(books, part[part["kind"] == LEVEL], empty_fills(0))
            at = int(mark[0])
            for side, expected in zip((1, -1), shown[row], strict=True):
                assert [(price * tick, size) for price, size in levels_of(books, side)] == expected
            row += 1
    assert row == len(rows)
    assert reader.parsed().trades == sum(action == "T" for *_, action, _ in rows)


def test_a_print_of_levels_carries_the_aggressor_s_side() -> None:
    record = np.zeros(2, dtype=MBP_1)
    record["length"], record["rtype"], record["publisher_id"], record["instrument_id"] = 20, 1, 1, 7
    record["action"], record["side"], record["price"], record["size"] = b"T", (b"B", b"A"), (4 * UNIT, 3 * UNIT), 2
    record["bid_px_00"], record["bid_sz_00"], record["ask_px_00"], record["ask_sz_00"] = 3 * UNIT, 5, 4 * UNIT, 5
    _, _, events = parse(header("mbp-1") + record.tobytes())
    assert [int(event["side"]) for event in events if event["kind"] == TRADE] == [1, -1]


small_orders = st.lists(
    st.tuples(st.sampled_from("AACCMMFTR"), st.integers(1, 6), st.sampled_from("AB"), st.integers(95, 105), st.integers(1, 9), st.sampled_from([0, LAST])),
    min_size=1, max_size=60,
)  # fmt: skip


@settings(max_examples=300)
@given(small_orders)
def test_any_flow_leaves_the_levels_of_the_slow_book(rows) -> None:
    """Records that no venue sends are left out first: two orders of one id, and changes of what is not there or that large."""
    slow, sound = SlowBook(), []
    for action, ref, side, price, size, flags in rows:
        known = slow.orders.get(ref)
        if action == "A" and known:
            continue
        if action in "CMF" and not known:
            continue
        if action in "CMF":
            side = "B" if known[0] > 0 else "A"
        if action == "C":
            size = min(size, known[2])
        slow.apply(action, ref, 1 if side == "B" else -1, price, size)
        sound.append((action, ref, side, price, size, flags))
    if not sound:
        return
    _, parsed, events = parse(header() + orders(sound).tobytes(), 64)
    books = make_books(1)
    apply_all(books, events[(events["kind"] != HALT) & (events["kind"] != RESUME)], empty_fills(0))
    for side in (1, -1):
        assert [(price, size) for price, size in levels_of(books, side)] == slow.levels(side)
    assert parsed.contradictions == {}
    assert sum(count for name, count in counters(books).items() if name.startswith("refused_")) == 0


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, lambda data: bytes(cramjam.zstd.compress(data))])
def test_a_file_is_read_plain_and_packed(tmp_path, pack) -> None:
    path = tmp_path / "x.dbn"
    path.write_bytes(pack(header() + orders([("A", 1, "B", 100, 5, LAST)]).tobytes()))
    assert recognise(path).name == "dbn"
    assert len(dbn_tape(path).events) == 1


def test_a_packed_file_cut_short_gives_what_it_has(marketdata, tmp_path) -> None:
    path = tmp_path / "cut.zst"
    path.write_bytes((marketdata / DAY).read_bytes()[:500_000])
    file = read_dbn(path)
    assert 10_000 < len(file.where) < 68_792
    assert file.skips[-1].endswith("cut short")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"DBN",
        b"DBN\x03\xff\xff\xff\xff",
        b"DBN\x09\x00\x00\x00\x00",
        b"DBN\x03\x04\x00\x00\x00abcd",
        b"\x28\xb5\x2f\xfdbroken",
        b"other",
    ],
)
def test_a_foreign_or_damaged_file_is_refused_by_name(tmp_path, content) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    with pytest.raises(DeskvigilError, match=r"foreign\.bin"):
        read_dbn(path)


def read_any(data: bytes) -> None:
    with suppress(DeskvigilError):
        _, _, events = parse(data)
        assert (np.diff(events["t_ns"]) >= 0).all()


@settings(max_examples=100)
@given(
    small_orders,
    st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), max_size=6),
    st.integers(0, 60),
    st.binary(max_size=80),
)
def test_hostile_bytes_neither_crash_nor_hang(rows, flips, cut, noise) -> None:
    start = header()
    raw = bytearray(start + orders(rows).tobytes())
    for at, bits in flips:
        raw[at % len(raw)] ^= bits
    read_any(bytes(raw[: len(raw) - cut]))
    read_any(start + noise)
    read_any(bytes(raw) + noise)
    assert ORDER.itemsize == MBO_UNITS * 4
