"""Kraken: every recorded checksum comes out right, and generated books of any precision and depth do too."""

from __future__ import annotations

import json
import lzma
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.book import apply_all, depth, make_books
from engine.events import CLEAR, HALT, LEVEL, RESUME, TRADE, empty_fills
from engine.feeds.capture import Capture
from engine.feeds.decimals import UNIT
from engine.feeds.decoder import FeedState, Remedy
from engine.feeds.kraken import KrakenDecoder, load, read
from engine.replay import replay
from metrics.errors import DeskvigilError

RECORDED = "kraken_l2/KRAKEN.ws.50.0.xz"
URL = "wss://ws.kraken.com"


class Pair:
    """A pair at the venue: books as plain dicts of text, and the messages it sends."""

    def __init__(self, name: str, price_decimals: int, qty_decimals: int, depth: int, seed: int) -> None:
        self.name, self.depth = name, depth
        self.price_decimals, self.qty_decimals = price_decimals, qty_decimals
        self.random = random.Random(seed)
        self.sides: dict[int, dict[int, str]] = {1: {}, -1: {}}
        for side in (1, -1):
            for distance in self.random.sample(range(1, 40), min(depth, 12)):
                self.sides[side][500 - side * distance] = self._qty()

    def _qty(self) -> str:
        return f"{self.random.randrange(1, 10**6) / 10**self.qty_decimals:.{self.qty_decimals}f}"

    def price(self, ticks: int) -> str:
        return f"{ticks / 10**self.price_decimals:.{self.price_decimals}f}"

    def best(self, side: int) -> list[int]:
        return sorted(self.sides[side], reverse=side > 0)

    def rows(self, side: int) -> list[list[str]]:
        return [[self.price(ticks), self.sides[side][ticks], "1.5"] for ticks in self.best(side)]

    def snapshot(self) -> str:
        return json.dumps([7, {"as": self.rows(-1), "bs": self.rows(1)}, f"book-{self.depth}", self.name])

    def checksum(self) -> int:
        text = ""
        for side in (-1, 1):
            for ticks in self.best(side)[:10]:
                text += self.price(ticks).replace(".", "").lstrip("0")
                text += self.sides[side][ticks].replace(".", "").lstrip("0")
        return zlib.crc32(text.encode())

    def update(self) -> str:
        """One or both sides change; what falls out of the depth is forgotten on both ends of the wire."""
        parts: list[dict[str, object]] = []
        for side, key in self.random.choice([((1, "b"),), ((-1, "a"),), ((-1, "a"), (1, "b"))]):
            ticks = 500 - side * self.random.randrange(1, 40)
            qty = self._qty() if self.random.random() < 0.6 else f"{0:.{self.qty_decimals}f}"
            if float(qty):
                self.sides[side][ticks] = qty
            else:
                self.sides[side].pop(ticks, None)
            for beyond in self.best(side)[self.depth :]:
                del self.sides[side][beyond]
            more = ["r"] if self.random.random() < 0.2 else []
            parts.append({key: [[self.price(ticks), qty, "2.5", *more]]})
        parts[-1]["c"] = str(self.checksum())
        return json.dumps([7, *parts, f"book-{self.depth}", self.name])


def write(folder: Path, messages: list[str]) -> Path:
    path = folder / "capture.xz"
    lines = [f"{URL} <-> 1618678132.5"] + [f"{1618678133 + k / 1000:.6f}: {text}" for k, text in enumerate(messages)]
    path.write_bytes(lzma.compress(("\n".join(lines) + "\n").encode()))
    return path


def test_every_recorded_checksum_is_right_and_the_compiled_book_agrees(marketdata) -> None:
    found = replay("kraken", marketdata / RECORDED, verify=True)
    assert (found["checksums_ok"], found["checksums_bad"]) == (4269, 0)
    assert (found["book_rows_checked"], found["mismatches"]) == (4269, 0)
    assert (found["gaps"], found["skipped_lines"]) == (0, 0)


def test_the_recorded_pairs_are_a_tape_of_ten_level_books(marketdata) -> None:
    tape = load(marketdata / RECORDED)
    assert tape.level_book
    assert len(tape.instruments) == 10
    assert {row.symbol: row.tick_size_usd for row in tape.instruments}["XBT/CHF"] == pytest.approx(0.1)
    assert tape.start_ns == 1618678132_385815100


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    price_decimals=st.integers(0, 10), qty_decimals=st.integers(0, 8), depth=st.sampled_from([10, 25, 1000]),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_books_of_any_precision_and_depth_come_out_as_the_venue_has_them(
    tmp_path, price_decimals, qty_decimals, depth, seed
) -> None:
    pair = Pair("ANY/THING", price_decimals, qty_decimals, depth, seed)
    messages = [pair.snapshot()] + [pair.update() for _ in range(60)]
    capture = read(write(tmp_path, messages))
    assert (capture.counters.checksums_ok, capture.counters.checksums_bad) == (60, 0)
    assert capture.counters.skipped == 0
    found, row = in_the_book(capture), capture.instruments[0]
    for side in (1, -1):
        assert [price * row.tick_size_usd for price in found[side]] == pytest.approx(
            [float(pair.price(ticks)) for ticks in pair.best(side)], rel=1e-12
        )
        assert [lots * row.lot_size for lots in found[side].values()] == pytest.approx(
            [float(pair.sides[side][ticks]) for ticks in pair.best(side)], rel=1e-12
        )


def in_the_book(capture: Capture) -> dict[int, dict[int, int]]:
    """What the compiled book holds in the end: lots by price of each side, best first."""
    books = make_books(1, level_book=True)
    apply_all(books, capture.events, empty_fills(0))
    found = {}
    for side in (1, -1):
        prices, lots = np.zeros(2000, dtype=np.int64), np.zeros(2000, dtype=np.int64)
        count = depth(books, 0, side, prices, lots)
        found[side] = dict(zip(prices[:count].tolist(), lots[:count].tolist(), strict=True))
    return found


def test_a_wrong_checksum_voids_the_book_until_the_next_snapshot(tmp_path) -> None:
    pair, other = Pair("A/B", 2, 3, 10, 1), Pair("C/D", 2, 3, 10, 2)
    messages = [pair.snapshot(), other.snapshot(), pair.update()]
    wrong = json.loads(pair.update())
    wrong[-3]["c"] = str(int(wrong[-3]["c"]) ^ 1)
    messages += [json.dumps(wrong), pair.update(), other.update(), pair.snapshot(), pair.update()]
    found = replay("kraken", write(tmp_path, messages))
    assert (found["checksums_ok"], found["checksums_bad"], found["mismatches"]) == (3, 1, 0)

    decoder = KrakenDecoder()
    states = []
    for k, message in enumerate(messages):
        updates = decoder.decode(message.encode(), k)
        states.append(decoder.state("A/B"))
        if k == 3:
            assert [update.kind for update in updates][-2:] == [CLEAR, HALT]
            assert decoder.requires("A/B") is Remedy.RESUBSCRIBE
            assert "checksum" in decoder.reason("A/B")
        if k == 6:
            assert updates[0].kind == CLEAR
            assert updates[-1].kind == RESUME
    bad, live = FeedState.BAD_CHECKSUM, FeedState.LIVE
    assert states == [live, live, live, bad, bad, bad, live, live]
    assert decoder.state("C/D") is live


def test_a_lost_update_shows_in_the_next_checksum_that_covers_it(tmp_path) -> None:
    pair = Pair("A/B", 2, 3, 10, 5)
    messages = [pair.snapshot()] + [pair.update() for _ in range(40)]
    del messages[7]
    assert replay("kraken", write(tmp_path, messages))["checksums_bad"] == 1


def test_damaged_lines_are_counted_with_their_places_and_change_nothing(tmp_path) -> None:
    pair = Pair("A/B", 2, 3, 10, 9)
    whole = [pair.snapshot()] + [pair.update() for _ in range(6)]
    damaged = [
        whole[0],
        *whole[1:3],
        whole[3][: len(whole[3]) // 2],
        '[7, {"b": [["-1", "2", "3"]], "c": "1"}, "book-10", "A/B"]',
        '[7, {"b": [["4.99", "x", "3"]], "c": "1"}, "book-10", "A/B"]',
        '[7, {"b": [["4.99"]]}, "book-ten", "A/B"]',
        "[]",
        "null",
        *whole[3:],
    ]
    capture = read(write(tmp_path, damaged))
    assert capture.counters.skipped == 6
    assert [line for line, _ in capture.counters.skipped_at] == [5, 6, 7, 8, 9, 10]
    assert (capture.counters.checksums_ok, capture.counters.checksums_bad) == (6, 0)
    assert in_the_book(capture) == in_the_book(read(write(tmp_path, whole)))


def test_prints_carry_the_aggressor_s_side(tmp_path) -> None:
    pair = Pair("A/B", 2, 3, 10, 3)
    trades = [[["4.99", "0.500", "1.5", "s", "m", ""], ["5.01", "0.250", "1.5", "b", "l", ""]], "trade", "A/B"]
    events = load(write(tmp_path, [pair.snapshot(), json.dumps([8, *trades])])).events
    prints = events[events["kind"] == TRADE]
    assert list(prints["side"]) == [-1, 1]


def test_a_new_connection_voids_every_book(tmp_path) -> None:
    pair = Pair("A/B", 2, 3, 10, 4)
    path = write(tmp_path, [pair.snapshot(), pair.update()])
    text = lzma.decompress(path.read_bytes()).decode()
    again = f"{URL} <-> 1618678140.0\n1618678140.100000: {pair.update()}\n1618678141.000000: {pair.snapshot()}\n"
    path.write_bytes(lzma.compress((text + again).encode()))
    capture = read(path)
    kinds = capture.events["kind"][capture.events["t_ns"] >= 1618678140 * 10**9].tolist()
    assert kinds[:3] == [CLEAR, HALT, CLEAR]
    assert set(kinds[3:-1]) == {LEVEL}
    assert kinds[-1] == RESUME
    assert capture.counters.checksums_ok == 1


def test_the_venue_s_list_of_pairs_gives_ticks_and_lots_before_any_message(marketdata) -> None:
    body = lzma.decompress((marketdata / "kraken_l2/KRAKEN.0.xz").read_bytes()).split(b": ", 1)[1].split(b"\n")[0]
    decoder = KrakenDecoder()
    assert decoder.increments("XBT/CHF") is None
    decoder.learn(body)
    found = decoder.increments("XBT/CHF")
    assert found is not None
    assert (found.tick, found.lot) == (UNIT // 10, UNIT // 10**8)
    decoder.learn(b"not a list")
    assert decoder.increments("XBT/CHF") == found


def test_without_that_list_the_decimals_of_the_snapshot_do() -> None:
    pair = Pair("A/B", 3, 5, 10, 4)
    decoder = KrakenDecoder()
    decoder.decode(pair.snapshot().encode(), 1)
    assert decoder.increments("A/B") == (UNIT // 10**3, UNIT // 10**5)


def test_a_capture_without_a_book_is_an_error_that_says_so(tmp_path) -> None:
    with pytest.raises(DeskvigilError, match=r"capture\.xz: expected a kraken capture.*1 lines skipped"):
        read(write(tmp_path, ['{"event":"heartbeat"}', "[1,"]))
