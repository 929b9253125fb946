"""LOBSTER as order flow: the engine's book must stay the venue's."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.book import apply_all, counters, depth, make_books
from engine.events import CANCEL, HALT, HIDDEN, IOC, LIMIT, REST_ONLY, RESUME, EventArray, empty_fills
from engine.feeds.lobster import EXECUTION, HIDDEN_EXECUTION, SIZE, TIME, TYPE, LobsterDay, read_lobster
from engine.feeds.lobsterflow import flow_tape, walk_day
from engine.feeds.tape import load_tape
from engine.replay import replay
from tests.engine.venue import NAME, recorded

AMZN_5 = "lobster/LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"


def shares_equal(day: LobsterDay, every: int, events: EventArray) -> float:
    """Share of (every n-th) instants at which the engine's book, driven by these events, shows the venue's rows."""
    times = day.messages[:, TIME]
    last_of_instant = np.flatnonzero(np.append(np.diff(times) > 0, True))[::every]
    books, no_fills = make_books(1), empty_fills(0)
    prices, quantities = np.zeros(day.levels, np.int64), np.zeros(day.levels, np.int64)
    at = equal = 0
    for row in last_of_instant:
        until = int(np.searchsorted(events["t_ns"], times[row], side="right"))
        apply_all(books, events[at:until], no_fills)
        at = until
        same = True
        for side, column in ((1, 2), (-1, 0)):
            count = depth(books, 0, side, prices, quantities)
            shown = [
                pair for pair in zip(day.book[row, column::4], day.book[row, column + 1 :: 4], strict=True) if pair[1]
            ]
            same = same and shown == list(zip(prices[:count], quantities[:count], strict=True))[: len(shown)]
            same = same and (count == len(shown) or len(shown) == day.levels)
        equal += same
    assert counters(books)["refused_invalid"] == 0
    return equal / len(last_of_instant)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(levels=st.integers(1, 4), seed=st.integers(0, 10**6), before=st.sampled_from([0, 5, 40]))
def test_the_engine_s_book_driven_by_the_flow_is_the_venue_s_at_every_instant(tmp_path, levels, seed, before) -> None:
    day = read_lobster(recorded(levels, seed, before=before).write(tmp_path))
    flow = walk_day(day)
    assert (flow.mismatches, flow.first_mismatch) == (0, -1)
    assert shares_equal(day, 1, flow.events) == 1.0


@pytest.mark.parametrize(
    ("stock", "levels_from_book"),
    [("AMZN_2012-06-21_5", 15_327), ("AMZN_2012-06-21_1", 10_970), ("AAPL_2012-06-21_1", 25_900)],
)
def test_a_recorded_day_never_contradicts_the_venue_s_book(marketdata, stock, levels_from_book) -> None:
    flow = walk_day(read_lobster(marketdata / f"lobster/LOBSTER_SampleFile_{stock}.zip"))
    assert flow.mismatches == 0
    assert flow.levels_from_book == levels_from_book


def test_the_engine_s_book_stays_the_venue_s_but_for_moments_where_the_venue_left_time_order(marketdata) -> None:
    day = read_lobster(marketdata / AMZN_5)
    assert shares_equal(day, 25, flow_tape(day).events) > 0.995


def test_executions_become_aggressors_of_the_same_size(marketdata) -> None:
    tape = load_tape(marketdata / AMZN_5)
    messages = read_lobster(marketdata / AMZN_5).messages
    kinds, quantities = tape.events["kind"], tape.events["qty"]
    executed = messages[messages[:, TYPE] == EXECUTION]
    assert quantities[kinds == IOC].sum() == executed[:, SIZE].sum()
    # No more aggressors than distinct instants and sides among the executions.
    assert np.count_nonzero(kinds == IOC) >= len(np.unique(executed[:, [TIME, 5]], axis=0))
    assert np.count_nonzero(kinds == HIDDEN) == np.count_nonzero(messages[:, TYPE] == HIDDEN_EXECUTION)
    assert tape.instruments[0].symbol == "AMZN"
    assert tape.instruments[0].tick_size_usd == pytest.approx(0.01)
    assert (tape.start_ns, tape.end_ns) == (34_200 * 10**9, 57_600 * 10**9)
    assert not tape.simulated_market
    assert not tape.level_book


def write_day(folder: Path, messages: str, rows: str, levels: int = 1) -> Path:
    path = folder / "day.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{NAME}_message_{levels}.csv", messages)
        archive.writestr(f"{NAME}_orderbook_{levels}.csv", rows)
    return path


BOTH = "10100,50,9900,40\n"


def test_a_sweep_over_levels_that_come_into_view_meanwhile_is_one_aggressor_that_finds_them(tmp_path) -> None:
    path = write_day(
        tmp_path,
        "34200.1,5,0,1,10000,1\n34201.5,4,7,50,10100,-1\n34201.5,5,0,5,10150,-1\n34201.5,4,8,20,10200,-1\n34202,1,9,5,9900,1\n",
        BOTH + "10200,30,9900,40\n" * 2 + "10200,10,9900,40\n" + "10200,10,9900,45\n",
    )
    events = load_tape(path).events
    [sweep] = events[events["kind"] == IOC]
    assert (sweep["side"], sweep["price"], sweep["qty"]) == (1, 102, 70)
    visible = events[events["kind"] != HIDDEN]
    fills = empty_fills(16)
    assert apply_all(make_books(1), visible, fills) == 2
    assert list(zip(fills["price"][:2], fills["qty"][:2], strict=True)) == [(101, 50), (102, 20)]
    assert list(events["kind"][:2]) == [LIMIT, LIMIT]
    assert all(events["flags"][:2] == REST_ONLY)


def test_halts_and_resumptions_are_passed_on_and_resumed_quoting_is_not(tmp_path) -> None:
    halts = "34201,7,0,0,-1,-1\n34202,7,0,0,0,-1\n34203,7,0,0,1,-1\n"
    events = load_tape(write_day(tmp_path, "34200,1,7,40,9900,1\n" + halts, BOTH * 4)).events
    assert [kind for kind in events["kind"] if kind in (HALT, RESUME)] == [HALT, RESUME]


def test_messages_that_contradict_the_book_are_left_out_and_logged(tmp_path, caplog) -> None:
    path = write_day(tmp_path, "34200,1,7,40,9900,1\n34201,3,12345,999,9900,1\n", BOTH * 2)
    events = load_tape(path).events
    assert CANCEL not in events["kind"]
    assert "1 messages contradict" in caplog.text
    assert "line 2" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "34201,9,7,40,9900,1",
        "34201,1,1000,0,9900,1",
        "34201,1,1000,5,9900,0",
        "34201,1,1000,5,0,1",
        "34201,1,0,5,9900,1",
        "34199,1,1000,5,9900,1",
        "34201,1,1000,five,9900,1",
        "34201,1,1000",
        "\x00",
    ],
)
def test_a_damaged_message_is_left_out_and_logged(tmp_path, caplog, line) -> None:
    path = write_day(tmp_path, f"34200,1,7,40,9900,1\n{line}\n34202,3,7,40,9900,1\n", BOTH * 3)
    events = load_tape(path).events
    assert 7 in events["order_id"]
    assert 1000 not in events["order_id"]
    assert "TEST" in caplog.text
    assert "line 2" in caplog.text or "number 2" in caplog.text


def test_damaged_lines_of_either_file_are_left_out_with_the_other_s_and_counted(tmp_path) -> None:
    path = recorded(levels=2, seed=4).write(tmp_path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    for name, lines in files.items():
        lines[9 if "_message_" in name else 20] = "damaged"
    with zipfile.ZipFile(path, "w") as archive:
        for name, lines in files.items():
            archive.writestr(name, "\n".join(lines) + "\n")
    found = replay("lobster", path)
    assert found["skipped_lines"] == 2
    assert found["events"] == len(next(iter(files.values()))) - 2
