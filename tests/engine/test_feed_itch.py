"""ITCH: every message field by field, the fast parser against the table, and bytes that nobody should send."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import apply_all, counters, make_books
from engine.events import CANCEL, EXECUTE, HALT, HIDDEN, LIMIT, REDUCE, REST_ONLY, RESUME, empty_fills
from engine.feeds.itch import ItchReader, is_itch, itch_tape, read_itch, replay_itch, survey_itch
from engine.feeds.itchpackets import unwrap_pcap
from engine.feeds.itchparse import NON_PRINTABLE
from engine.feeds.itchtable import MESSAGES, NUMBER, decode, encode, frame
from engine.feeds.tape import recognise
from metrics.errors import DeskvigilError

PACKETS = "itch_packets/omi_nasdaq_itch50_packets.tar.xz"
OLD, NEW = "Nasdaq.Equities.TotalView.Itch.v5.0", "Nasdaq.Equities.TotalView.Itch.v5.0.20230822"


def head(kind: str, locate: int, tracking: int, t_ns: int) -> dict[str, int | str]:
    return {"type": kind, "stock_locate": locate, "tracking_number": tracking, "timestamp_ns": t_ns}


# The first message of each recorded packet, read off its bytes with the specification beside it.
RECORDED = {
    f"{OLD}/OrderDeleteMessage": head("D", 0x0DBD, 0, 0x1F1ACED85AD8) | {"order_reference": 0x01668BD6},
    f"{OLD}/OrderExecutedMessage": head("E", 0x0929, 2, 0x1F1ACED8F061)
    | {"order_reference": 0x0166929A, "shares": 25, "match_number": 0x3E63B},
    f"{OLD}/StockTradingActionMessage": head("H", 0x01D0, 0, 0x1F9DF77C9E20)
    | {"stock": "AMC", "trading_state": "T", "reserved": "", "reason": ""},
    f"{OLD}/NetOrderImbalanceIndicatorMessage": head("I", 0x193E, 0, 0x1F1ACEDE0AB2)
    | {"paired_shares": 1, "imbalance_shares": 0, "imbalance_direction": "N", "stock": "MDC", "far_price": 464_400,
       "near_price": 464_400, "reference_price": 464_400, "cross_type": "O", "price_variation": "L"},
    f"{OLD}/AddOrderNoMpidAttributionMessage": head("A", 0x1598, 0, 0x1F1ACED85306)
    | {"order_reference": 0x0166B53E, "side": "B", "shares": 0x640, "stock": "IVOO", "price": 873_900},
    f"{OLD}/OrderReplaceMessage": head("U", 0x1DB3, 0, 0x1F1ACED771E9)
    | {"order_reference": 0xE6897F, "new_order_reference": 0x0145F2C7, "shares": 100, "price": 1_062_600},
    f"{OLD}/MarketParticipantPositionMessage": head("L", 0x0E93, 0, 0x1F2082DAF82D)
    | {"mpid": "MAXM", "stock": "FGMC", "primary_market_maker": "Y", "market_maker_mode": "N", "participant_state": "A"},
    f"{OLD}/Multiple.Packets": head("D", 0x0AB1, 0, 0x1F1ACF4C4EB7) | {"order_reference": 0x01665D6A},
    f"{NEW}/RegSHORestriction": head("Y", 0x24BD, 0, 0x1F1AD5CC18B7) | {"stock": "SOPA", "action": "1"},
    f"{NEW}/AddOrderWithMPID": head("F", 0x06CA, 0, 0x1F1ACED99936)
    | {"order_reference": 0x0120BE75, "side": "S", "shares": 100, "stock": "CASY", "price": 2_555_200, "attribution": "FLTU"},
    f"{NEW}/NonCrossTrade": head("P", 0x1193, 2, 0x1F1ACEE462A9)
    | {"order_reference": 0, "side": "B", "shares": 100, "stock": "GOOGL", "price": 1_284_600, "match_number": 0x3E642},
    f"{NEW}/OrderCancel": head("X", 0x24C5, 0, 0x1F1ACEFE785D) | {"order_reference": 0x02041A00, "shares": 100},
    f"{NEW}/OrderExecuted": head("E", 0x0929, 2, 0x1F1ACED8F061)
    | {"order_reference": 0x0166929A, "shares": 25, "match_number": 0x3E63B},
    f"{NEW}/StockTradingAction": head("H", 0x2C3D, 0, 0x1F1E7036E465)
    | {"stock": "ZXZZT", "trading_state": "P", "reserved": "", "reason": "LUDP"},
    f"{NEW}/AddOrderNoMPID": head("A", 0x1598, 0, 0x1F1ACED85306)
    | {"order_reference": 0x0166B53E, "side": "B", "shares": 0x640, "stock": "IVOO", "price": 873_900},
    f"{NEW}/OrderDelete": head("D", 0x0D19, 0, 0x1F1ACED840ED) | {"order_reference": 0x0165B51A},
    f"{NEW}/OrderExecutedWithPrice": head("C", 0x13E4, 1, 0x1F1ACEEBB03B)
    | {"order_reference": 0x013113DE, "shares": 4926, "match_number": 0x3E65D, "printable": "N", "price": 224_800},
    f"{NEW}/SystemEvent": head("S", 0, 0, 0x1F1ACEDB02F0) | {"event_code": "Q"},
    f"{NEW}/NetOrderImbalanceIndicator": head("I", 0x1EAD, 0, 0x1F1ACEDB43F1)
    | {"paired_shares": 0, "imbalance_shares": 0, "imbalance_direction": "O", "stock": "PFTAW", "far_price": 0,
       "near_price": 0, "reference_price": 0, "cross_type": "O", "price_variation": ""},
    f"{NEW}/OrderReplace": head("U", 0x1DB3, 0, 0x1F1ACED771E9)
    | {"order_reference": 0xE6897F, "new_order_reference": 0x0145F2C7, "shares": 100, "price": 1_062_600},
    f"{NEW}/LULDAuctionCollar": head("J", 0x2C3D, 0, 0x1F1E703B4F95)
    | {"stock": "ZXZZT", "reference_price": 0x20918, "upper_price": 0x22344, "lower_price": 0x1AA90, "extension": 0},
    f"{NEW}/MarketParticipantPosition": head("L", 0x0E40, 0, 0x1F208142F846)
    | {"mpid": "MAXM", "stock": "FDLS", "primary_market_maker": "Y", "market_maker_mode": "N", "participant_state": "A"},
    f"{NEW}/CrossTrade": head("Q", 0x03D7, 1, 0x1F1ACEE15003)
    | {"shares": 0, "stock": "BAC-Q", "cross_price": 0, "match_number": 0x3E63E, "cross_type": "O"},
}  # fmt: skip
# The types that no recorded packet has, laid out from the specification by hand.
TIME = bytes.fromhex("1f1aced85ad8")
T_NS = 0x1F1ACED85AD8
BY_HAND = [
    (b"R" + struct.pack(">HH6s8sccIcc2scccccIc", 7, 1, TIME, b"AAPL    ", b"Q", b"N", 100, b"N", b"C", b"Z ", b"P", b"N", b"N", b"1",
                        b"N", 3, b"N"),
     head("R", 7, 1, T_NS) | {"stock": "AAPL", "market_category": "Q", "financial_status": "N", "round_lot_size": 100,
      "round_lots_only": "N", "issue_classification": "C", "issue_sub_type": "Z", "authenticity": "P", "short_sale_threshold": "N",
      "ipo_flag": "N", "luld_reference_price_tier": "1", "etp_flag": "N", "etp_leverage_factor": 3, "inverse": "N"}),
    (b"V" + struct.pack(">HH6sQQQ", 0, 1, TIME, 4_100_00000000, 3_900_00000000, 3_500_00000001),
     head("V", 0, 1, T_NS) | {"level_1": 4_100_00000000, "level_2": 3_900_00000000, "level_3": 3_500_00000001}),
    (b"W" + struct.pack(">HH6sc", 0, 1, TIME, b"2"), head("W", 0, 1, T_NS) | {"breached_level": "2"}),
    (b"K" + struct.pack(">HH6s8sIcI", 9, 1, TIME, b"NEWCO   ", 36_000, b"A", 170_000),
     head("K", 9, 1, T_NS) | {"stock": "NEWCO", "release_time_s": 36_000, "release_qualifier": "A", "ipo_price": 170_000}),
    (b"h" + struct.pack(">HH6s8scc", 9, 1, TIME, b"NEWCO   ", b"Q", b"H"),
     head("h", 9, 1, T_NS) | {"stock": "NEWCO", "market_code": "Q", "halt_action": "H"}),
    (b"B" + struct.pack(">HH6sQ", 9, 1, TIME, 2**64 - 2), head("B", 9, 1, T_NS) | {"match_number": 2**64 - 2}),
    (b"N" + struct.pack(">HH6s8sc", 9, 1, TIME, b"NEWCO   ", b"A"), head("N", 9, 1, T_NS) | {"stock": "NEWCO", "interest_flag": "A"}),
    (b"O" + struct.pack(">HH6s8scIIIQII", 9, 1, TIME, b"NEWCO   ", b"Y", 100_000, 300_000, 200_000, 37_800_000_000_000, 180_000, 220_000),
     head("O", 9, 1, T_NS) | {"stock": "NEWCO", "open_eligibility": "Y", "minimum_price": 100_000, "maximum_price": 300_000,
      "near_execution_price": 200_000, "near_execution_time_ns": 37_800_000_000_000, "lower_collar_price": 180_000,
      "upper_collar_price": 220_000}),
]  # fmt: skip
LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36, "F": 40, "E": 31, "C": 36,
    "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19, "I": 50, "N": 20, "O": 48,
}  # fmt: skip


@pytest.fixture(scope="module")
def packets(marketdata) -> dict[str, bytes]:
    """The recorded captures by their name in the archive."""
    with tarfile.open(marketdata / PACKETS) as archive:
        files = [member for member in archive if member.isfile()]
        return {m.name.removeprefix("Nasdaq/").removesuffix(".pcap"): archive.extractfile(m).read() for m in files}


def messages_of(data) -> list[bytes]:
    """Messages out of framed bytes, the slow way."""
    raw, found, at = bytes(data), [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        found.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    return found


def test_recorded_packets_are_decoded_field_by_field(packets) -> None:
    assert packets.keys() == RECORDED.keys()
    for name, expected in RECORDED.items():
        assert decode(messages_of(unwrap_pcap(packets[name], name).data)[0]) == expected, name


def test_every_recorded_message_is_whole_and_comes_back_from_its_fields(packets) -> None:
    found = [message for name, data in packets.items() for message in messages_of(unwrap_pcap(data, name).data)]
    assert len(found) == 117
    assert [encode(decode(message)) for message in found] == found


@pytest.mark.parametrize(
    ("message", "expected"), BY_HAND, ids=lambda value: value.get("type") if isinstance(value, dict) else ""
)
def test_what_no_recording_has_is_decoded_as_the_specification_says(message, expected) -> None:
    assert decode(message) == expected
    assert encode(expected) == message


def test_every_type_has_its_length() -> None:
    assert {kind: layout.length for kind, layout in MESSAGES.items()} == LENGTHS


def test_the_archive_is_read_as_one_stream(marketdata) -> None:
    file = read_itch(marketdata / PACKETS)
    assert (file.messages, file.gaps) == (117, 1)
    [gap] = [capture for _, capture in file.packets if capture.gaps]
    # The second packet of the session's capture comes 38 s later: 0x220E5D follows 0xE149D0 + 1, by their hex.
    assert gap.missing == 0x01220E5D - (0xE149D0 + 1)
    found = replay_itch(marketdata / PACKETS)
    assert (found.events, found.gaps, found.skipped_lines) == (117, 1, 0)


def test_wrong_type_length_or_value_is_named() -> None:
    with pytest.raises(DeskvigilError, match="unknown type 'z'"):
        decode(b"z123")
    with pytest.raises(DeskvigilError, match=r"D \(order_delete\) of 3 bytes, expected 19"):
        decode(b"D12")
    with pytest.raises(DeskvigilError, match="field shares"):
        encode(head("X", 1, 0, 0) | {"order_reference": 1, "shares": 2**32})
    with pytest.raises(DeskvigilError, match="field order_reference: None"):
        encode(head("D", 1, 0, 0))


# --- the fast parser ------------------------------------------------------------------------------


def values(kind: str) -> st.SearchStrategy[dict[str, int | str]]:
    """Any values that a message of a type can carry."""
    fields = {"type": st.just(kind)}
    for name, _, size, form in MESSAGES[kind].fields:
        text = st.text(alphabet="ABCNQTHSX 1", max_size=size).map(lambda text: text.rstrip(" "))
        fields[name] = st.integers(0, 2 ** (8 * size) - 1) if form == NUMBER else text
    return st.fixed_dictionaries(fields)


@given(st.sampled_from(sorted(MESSAGES)).flatmap(values))
def test_any_values_go_to_bytes_and_back(message) -> None:
    assert decode(encode(message)) == message
    assert len(encode(message)) == LENGTHS[message["type"]]


small_ref = st.integers(0, 12)
shares = st.integers(0, 5)
price = st.sampled_from([0, 100, 200, 250, 300])
busy_message = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from("AF"), "order_reference": small_ref, "side": st.sampled_from("BSX"),
                           "shares": shares, "price": price, "stock": st.just("T"), "attribution": st.just("")}),
    st.fixed_dictionaries({"type": st.just("E"), "order_reference": small_ref, "shares": shares, "match_number": st.just(1)}),
    st.fixed_dictionaries({"type": st.just("C"), "order_reference": small_ref, "shares": shares, "match_number": st.just(1),
                           "printable": st.sampled_from("YN"), "price": price}),
    st.fixed_dictionaries({"type": st.just("X"), "order_reference": small_ref, "shares": shares}),
    st.fixed_dictionaries({"type": st.just("D"), "order_reference": small_ref}),
    st.fixed_dictionaries({"type": st.just("U"), "order_reference": small_ref, "new_order_reference": small_ref, "shares": shares,
                           "price": price}),
    st.fixed_dictionaries({"type": st.just("P"), "order_reference": st.just(0), "side": st.sampled_from("BS"), "shares": shares,
                           "stock": st.just("T"), "price": price, "match_number": st.just(2)}),
    st.fixed_dictionaries({"type": st.just("H"), "stock": st.just("T"), "trading_state": st.sampled_from("HPQT"),
                           "reserved": st.just(""), "reason": st.just("")}),
    st.fixed_dictionaries({"type": st.just("h"), "stock": st.just("T"), "market_code": st.sampled_from("QBX"),
                           "halt_action": st.sampled_from("HT")}),
    st.fixed_dictionaries({"type": st.just("S"), "event_code": st.sampled_from("OSQMEC")}),
    st.fixed_dictionaries({"type": st.just("Q"), "shares": shares, "stock": st.just("T"), "cross_price": price,
                           "match_number": st.just(3), "cross_type": st.just("O")}),
    st.fixed_dictionaries({"type": st.just("B"), "match_number": st.just(3)}),
)  # fmt: skip
flow = st.lists(st.tuples(busy_message, st.integers(1, 3), st.integers(0, 10**6)), max_size=60)


def stream(rows) -> list[dict[str, int | str]]:
    """Messages with their headers; times go back now and then, as they are drawn."""
    return [message | head(message["type"], locate, 0, t_ns) for message, locate, t_ns in rows]


def slow_events(messages, ticks: dict[int, int], place: dict[int, int]) -> tuple[list[tuple[int, ...]], int, int]:
    """Events, skipped messages and contradictions, one message at a time with a dictionary."""
    events, orders, halted = [], {}, {}
    skipped = wrong = latest = 0

    def enter(ref, i, side, qty, price) -> None:
        nonlocal wrong
        if (i, ref) in orders:
            wrong += 1
        else:
            orders[i, ref] = [i, side, qty, price]
            events.append((latest, ref, price, qty, i, LIMIT, side, REST_ONLY))

    for m in messages:
        kind, locate = m["type"], m["stock_locate"]
        if kind == "S":
            latest = max(latest, m["timestamp_ns"])
            for i in range(len(place)):
                why = halted.setdefault(i, set())
                before = bool(why)
                (why.discard if m["event_code"] == "Q" else why.add)("hours")
                if m["event_code"] == "O":
                    why.add("H")
                if before != bool(why):
                    events.append((latest, 0, 0, 0, i, HALT if why else RESUME, 0, 0))
            continue
        if locate not in place:
            continue
        i, tick = place[locate], ticks[locate]
        latest = max(latest, m["timestamp_ns"])
        ref, qty, price = m.get("order_reference", 1), m.get("shares", 1), m.get("price", 1)
        if kind in "AF":
            if ref < 1 or m["side"] not in ("B", "S") or qty < 1 or price < 1 or price % tick:
                skipped += 1
            else:
                enter(ref, i, 1 if m["side"] == "B" else -1, qty, price // tick)
        elif kind in "ECXDU":
            new = m.get("new_order_reference", 1)
            if ref < 1 or new < 1 or qty < 1 or price < 1 or (kind == "U" and price % tick):
                skipped += 1
                continue
            if (i, ref) not in orders:
                wrong += 1
                continue
            order = orders[i, ref]
            taken = order[2] if kind in "DU" else min(qty, order[2])
            wrong += kind in "ECX" and qty > order[2]
            at, flags = order[3], 0
            what = EXECUTE if kind in "EC" else CANCEL if taken == order[2] else REDUCE
            if kind == "C":
                at, flags = max(price // tick, 1), NON_PRINTABLE if m["printable"] == "N" else 0
            events.append((latest, ref, at, taken, i, what, order[1], flags))
            order[2] -= taken
            if order[2] == 0:
                del orders[i, ref]
            if kind == "U":
                enter(new, i, order[1], qty, price // tick)
        elif kind == "P":
            if qty < 1 or price < 1:
                skipped += 1
            else:
                events.append((latest, 0, price // tick, qty, i, HIDDEN, 1 if m["side"] == "B" else -1, 0))
        elif kind in "Hh" and not (kind == "h" and m["market_code"] != "Q"):
            why = halted.setdefault(i, set())
            before = bool(why)
            (why.discard if m.get("trading_state", m.get("halt_action")) == "T" else why.add)(kind)
            if before != bool(why):
                events.append((latest, 0, 0, 0, i, HALT if why else RESUME, 0, 0))
    return events, skipped, wrong


FIELDS = ("t_ns", "order_id", "price", "qty", "instrument", "kind", "side", "flags")


def fast_events(data: bytes, instruments: int, block: int = 7):
    file = survey_itch("test", np.frombuffer(bytearray(data), dtype=np.uint8))
    reader = ItchReader(file, instruments, block)
    events = [tuple(int(event[name]) for name in FIELDS) for part in reader.blocks() for event in part.copy()]
    return file, reader, events


@settings(max_examples=400)
@given(rows=flow, instruments=st.integers(1, 3))
def test_the_fast_parser_gives_what_the_table_and_a_dictionary_give(rows, instruments) -> None:
    messages = stream(rows)
    if not messages:
        return
    file, reader, events = fast_events(b"".join(frame(encode(m)) for m in messages), instruments)
    place = {int(locate): i for i, locate in enumerate(file.locates[:instruments])}
    expected, skipped, wrong = slow_events(
        messages, dict(zip(map(int, file.locates), map(int, file.ticks), strict=True)), place
    )
    assert events == expected
    parsed = reader.parsed()
    assert (parsed.skipped, sum(parsed.contradictions.values())) == (skipped, wrong)
    assert file.messages == len(messages)


@settings(max_examples=60)
@given(rows=flow)
def test_a_book_takes_every_event_of_the_parser(rows) -> None:
    if not rows:
        return
    data = b"".join(frame(encode(m)) for m in stream(rows))
    reader = ItchReader(survey_itch("test", np.frombuffer(bytearray(data), dtype=np.uint8)), 3)
    books = make_books(3, max_orders=64)
    for block in reader.blocks():
        apply_all(books, block, empty_fills(0))
    # A halt lifted lets crossed orders trade in the book, which a venue would have told: those may be unknown after.
    if not any(message["type"] in "HhS" for message, _, _ in rows):
        assert sum(count for name, count in counters(books).items() if name.startswith("refused_")) == 0


def add(ref: int, locate: int = 1, t_ns: int = 1, price: int = 10_000, side: str = "B", shares: int = 10) -> bytes:
    return frame(encode(head("A", locate, 0, t_ns) | {"order_reference": ref, "side": side, "shares": shares, "stock": f"S{locate}",
                                                      "price": price}))  # fmt: skip


def test_more_living_orders_than_the_first_table_holds_are_all_followed() -> None:
    refs = [k * 64 + 1 for k in range(20_000)]
    deletes = [frame(encode(head("D", 1, 0, 2) | {"order_reference": ref})) for ref in refs]
    _, reader, events = fast_events(b"".join([*map(add, refs), *deletes]), 1, 1000)
    assert [event[1] for event in events] == refs + refs
    assert reader.parsed().contradictions == {}


def test_what_is_malformed_is_skipped_with_its_position_and_the_rest_is_read() -> None:
    bad = [
        b"\x00\x03zzz",
        b"\x00\x05D1234",
        frame(b""),
        frame(encode(head("D", 1, 0, 5) | {"order_reference": 0})),
        b"\x00\x24A123",
    ]
    data = add(1) + bad[0] + add(2) + bad[1] + bad[2] + bad[3] + add(3) + bad[4]
    _, reader, events = fast_events(data, 1)
    assert [event[1] for event in events] == [1, 2, 3]
    at = [38, 38 + 5 + 38, 38 + 5 + 38 + 7 + 2, len(data) - len(bad[4])]
    reasons = ("unknown type", "wrong length", "impossible value", "cut short")
    assert reader.parsed().where == tuple(f"byte {k}: {why}" for k, why in zip(at, reasons, strict=True))


def test_the_most_active_stocks_come_first_and_the_others_stay_out(tmp_path) -> None:
    path = tmp_path / "day"
    path.write_bytes(add(1, 5) + add(2, 9, price=10_050) + add(3, 9, price=10_100))
    tape = itch_tape(path)
    assert [row.symbol for row in tape.instruments] == ["S9", "S5"]
    assert [row.tick_size_usd for row in tape.instruments] == [pytest.approx(0.005), pytest.approx(1.0)]
    _, _, events = fast_events(path.read_bytes(), 1)
    assert [event[1] for event in events] == [2, 3]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_file_is_recognised_and_read_however_it_is_packed(tmp_path, pack) -> None:
    path = tmp_path / "day.bin"
    path.write_bytes(pack(add(1) + add(2)))
    assert recognise(path).name == "itch"
    assert read_itch(path).messages == 2
    assert not is_itch(Path(__file__).read_bytes()[:512])


def test_members_of_an_archive_follow_each_other(tmp_path) -> None:
    path = tmp_path / "days.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        for name, data in (("a", add(1)), ("b", add(2))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert read_itch(path).messages == 2


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x00", b"\x0a\x0d\x0d\x0aabc", b"\xd4\xc3\xb2\xa1" + b"\x00" * 20]
)
def test_a_file_without_a_message_is_refused_by_name(tmp_path, content) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    with pytest.raises(DeskvigilError, match=r"foreign\.bin"):
        read_itch(path)


# --- packets --------------------------------------------------------------------------------------


def packet(session: bytes, sequence: int, messages: list[bytes], tags: bytes = b"", count: int | None = None) -> bytes:
    mold = (
        session.ljust(10)
        + struct.pack(">QH", sequence, len(messages) if count is None else count)
        + b"".join(map(frame, messages))
    )
    udp = struct.pack(">HHHH", 1, 2, 8 + len(mold), 0) + mold
    ip = (
        struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x0a\x00\x00\x01", b"\xef\x00\x00\x01")
        + udp
    )
    return b"\x01" * 12 + tags + b"\x08\x00" + ip


def capture(frames: list[bytes], order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, 1)
    return head + b"".join(struct.pack(order + "IIII", 1, 2, len(f), len(f)) + f for f in frames)


def delete(ref: int) -> bytes:
    return encode(head("D", 1, 0, ref) | {"order_reference": ref})


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_either_byte_order_and_clock_of_a_capture_is_read(order, magic) -> None:
    data = capture([packet(b"S", 1, [delete(1)], tags=b"\x81\x00\x00\x01\x81\x00\x00\x02")], order, magic)
    assert messages_of(unwrap_pcap(data, "x").data) == [delete(1)]


def test_gaps_are_counted_and_what_comes_twice_is_read_once() -> None:
    frames = [
        packet(b"A", 1, [delete(1), delete(2)]),
        packet(b"B", 7, [delete(70)]),  # another session, seen from its middle on
        packet(b"A", 1, [delete(1), delete(2)]),  # the other line of the feed
        packet(b"A", 2, [delete(2), delete(3)]),  # overlaps
        packet(b"A", 4, [], count=0),  # heartbeat
        packet(b"A", 6, [delete(6)]),  # 4 and 5 are lost
        packet(b"A", 7, [], count=0xFFFF),  # end of session
        b"\x01" * 12 + b"\x08\x06" + b"\x00" * 40,  # ARP
    ]
    found = unwrap_pcap(capture(frames), "x")
    assert [decode(message)["order_reference"] for message in messages_of(found.data)] == [1, 2, 70, 3, 6]
    assert (found.gaps, found.missing, found.duplicates, found.foreign, found.damaged) == (1, 2, 3, 1, 0)


def test_a_capture_cut_short_gives_what_is_whole_and_says_where() -> None:
    whole = capture([packet(b"A", 1, [delete(1)]), packet(b"A", 2, [delete(2), delete(3)])])
    for cut in range(1, 60):
        found = unwrap_pcap(whole[:-cut], "x")
        assert messages_of(found.data)[0] == delete(1)
        assert (found.damaged, found.first_damaged) == (1, 24 + 16 + len(packet(b"A", 1, [delete(1)])))


# --- hostile bytes --------------------------------------------------------------------------------


def read_any(data: bytes) -> None:
    """Parse bytes as they are, and wrapped; never anything but events or a DeskvigilError."""
    try:
        file, reader, events = fast_events(data, 3)
    except DeskvigilError:
        return
    assert len(events) <= 3 * file.messages
    assert all(0 <= event[4] < 3 and event[3] >= 0 for event in events)
    reader.parsed()


@settings(max_examples=150)
@given(st.binary(max_size=400))
def test_random_bytes_neither_crash_nor_hang(data) -> None:
    read_any(data)
    for magic in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d"):
        try:
            found = unwrap_pcap(magic + bytes(16) + b"\x01\x00\x00\x00" + data, "x")
        except DeskvigilError:
            continue
        assert len(found.data) <= len(data)


@settings(max_examples=150)
@given(
    rows=flow, flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), max_size=6), cut=st.integers(0, 40)
)
def test_flipped_and_missing_bytes_neither_crash_nor_hang(rows, flips, cut) -> None:
    messages = [encode(m) for m in stream(rows)]
    for data in (b"".join(map(frame, messages)), capture([packet(b"S", 1, messages)])):
        raw = bytearray(data)
        for at, bits in flips:
            if raw:
                raw[at % len(raw)] ^= bits
        raw = raw[: len(raw) - cut]
        read_any(bytes(raw))
        with suppress(DeskvigilError):
            read_any(bytes(unwrap_pcap(bytes(raw), "x").data))
