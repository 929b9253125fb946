"""Replay: every format proves itself against figures that somebody else computed."""

from __future__ import annotations

import gzip
import json
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import REPLAY_FORMATS
from engine.feeds.tape import FORMATS
from engine.replay import replay
from metrics.errors import DeskvigilError
from tests.engine.venue import recorded

KEYS = {
    "events", "seconds", "events_per_second", "fills", "fills_crc32", "book_rows_checked", "mismatches",
    "levels_from_book", "checksums_ok", "checksums_bad", "gaps", "skipped_lines",
}  # fmt: skip
ORDERS = "orders/AMZN_2012-06-21.orders.csv.xz"
FUTURES = "binance/usdm_btcusdt_20240808.gz"


@pytest.mark.parametrize(
    ("stock", "rows", "levels_from_book"),
    [
        ("AMZN_2012-06-21_5", 155_935, 15_327),
        ("AMZN_2012-06-21_1", 57_515, 10_970),
        ("AAPL_2012-06-21_1", 118_497, 25_900),
    ],
)
def test_a_lobster_day_equals_the_venue_s_book_on_every_row(marketdata, stock, rows, levels_from_book) -> None:
    found = replay("lobster", marketdata / f"lobster/LOBSTER_SampleFile_{stock}.zip", verify=True)
    assert found.keys() == KEYS
    assert (found["events"], found["book_rows_checked"], found["mismatches"]) == (rows, rows, 0)
    assert found["levels_from_book"] == levels_from_book


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(levels=st.integers(1, 4), seed=st.integers(0, 10**6), before=st.sampled_from([0, 5, 40]))
def test_a_venue_that_keeps_its_own_rules_never_mismatches(tmp_path, levels, seed, before) -> None:
    assert replay("lobster", recorded(levels, seed, before=before).write(tmp_path))["mismatches"] == 0


def test_one_changed_size_is_a_mismatch(tmp_path) -> None:
    path = recorded(levels=2, seed=4).write(tmp_path)
    assert replay("lobster", path)["mismatches"] == 0
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            lines = text.splitlines()
            if "_message_" in name:
                at = next(k for k in range(100, len(lines)) if lines[k].split(",")[1] == "1")
                cells = lines[at].split(",")
                cells[3] = str(int(cells[3]) + 1)
                lines[at] = ",".join(cells)
            archive.writestr(name, "\n".join(lines) + "\n")
    assert replay("lobster", path)["mismatches"] > 0


def test_a_futures_capture_agrees_with_its_quotes_and_has_no_gap(marketdata) -> None:
    found = replay("binance", marketdata / FUTURES)
    assert found.keys() == KEYS
    assert (found["book_rows_checked"], found["mismatches"], found["gaps"], found["skipped_lines"]) == (126, 0, 0, 0)
    assert found["fills"] == 21_313


def test_a_lost_depth_line_is_a_gap(marketdata, tmp_path) -> None:
    lines = gzip.decompress((marketdata / FUTURES).read_bytes()).split(b"\n")
    del lines[[k for k, line in enumerate(lines) if b"@depth" in line][500]]
    path = tmp_path / "lost"
    path.write_bytes(b"\n".join(lines))
    assert replay("binance", path)["gaps"] == 1


def test_an_order_file_gives_exactly_the_fills_of_strict_priority(marketdata, tmp_path) -> None:
    found = replay("orders", marketdata / ORDERS, fills_out=tmp_path / "fills.csv")
    assert found.keys() == KEYS
    assert (found["events"], found["fills"], found["fills_crc32"]) == (130_854, 7_907, 1_441_236_958)
    lines = (tmp_path / "fills.csv").read_text().splitlines()
    assert lines[:2] == ["row,resting_order_id,qty,price", "27,11885113,21,2238100"]
    assert len(lines) == 7_908


def test_the_result_is_json_and_two_replays_differ_in_time_only(marketdata) -> None:
    first, second = (replay("orders", marketdata / ORDERS) for _ in range(2))
    assert json.loads(json.dumps(first)) == first
    for key in ("seconds", "events_per_second"):
        assert first.pop(key) > 0
        second.pop(key)
    assert first == second


def test_a_paced_replay_takes_the_recorded_time_over_the_speed(tmp_path) -> None:
    path = tmp_path / "slow.csv"
    path.write_text("ts_ns,order_id,kind,side,price,qty\n0,1,limit,buy,100,1\n1000000000,1,cancel,buy,100,1\n")
    found = replay("orders", path, speed=10.0)
    assert found["seconds"] >= 0.1
    assert found["events"] == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"format": "tea-leaves"}, "unknown format .tea-leaves.: expected lobster, .*orders"),
        ({"format": "lobster", "fills_out": "x.csv"}, "orders, journal only"),
        ({"format": "orders", "speed": 0.0}, "speed 0.0"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, arguments, expected) -> None:
    with pytest.raises(DeskvigilError, match=expected):
        replay(path=tmp_path / "any", **arguments)


@pytest.mark.parametrize("format", [format.name for format in FORMATS])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, format) -> None:
    path = tmp_path / "foreign.txt"
    path.write_text("nothing of the kind\n")
    with pytest.raises(DeskvigilError, match=r"foreign\.txt"):
        replay(format, path)


def test_the_command_line_takes_every_format_there_is() -> None:
    assert {format.name for format in FORMATS} <= set(REPLAY_FORMATS)
