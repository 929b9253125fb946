"""ITCH written from tapes of orders: what comes back is the tape, event for event, and its book is the venue's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.events import HALT, MAX_QTY_LOTS, RESUME, EventArray, Tape
from engine.feeds.itch import ItchReader, ItchReplay, replay_itch, survey_itch
from engine.feeds.itchwrite import batch, merge, write_itch
from engine.feeds.lobster import read_lobster
from engine.feeds.lobsterflow import flow_tape
from engine.feeds.published import published
from metrics.errors import DeskvigilError
from tests.engine.test_feed_lobster import shares_equal
from tests.engine.venue import recorded

FIELDS = ("t_ns", "price", "qty", "kind", "side", "flags")


def read_back(tape: Tape) -> tuple[EventArray, float]:
    """The events of the tape written as ITCH and parsed, without the day's first HALT and RESUME and its last HALT; and the
    tick in the tape's ticks: a file's tick is the step of the prices that are in it."""
    reader = ItchReader(survey_itch(tape.source, write_itch(tape)), len(tape.instruments))
    events: EventArray = np.concatenate([block.copy() for block in reader.blocks()])
    parsed = reader.parsed()
    assert (parsed.skipped, parsed.contradictions, parsed.late) == (0, {}, 0)
    assert reader.instruments[0].symbol == tape.instruments[0].symbol
    assert events["kind"][[0, 1, -1]].tolist() == [HALT, RESUME, HALT]
    assert (events["t_ns"][[0, -1]] == (tape.start_ns, tape.end_ns)).all()
    return events[2:-1], reader.instruments[0].tick_size_usd / tape.instruments[0].tick_size_usd


def assert_comes_back(tape: Tape) -> EventArray:
    expected, (events, ratio) = published(tape), read_back(tape)
    assert len(events) == len(expected)
    events["price"] *= round(ratio)
    for name in FIELDS:
        assert np.array_equal(events[name], expected[name]), name
    # Reference numbers are others, but the same order has the same.
    pairs = np.unique(np.stack((events["order_id"], expected["order_id"]), axis=1), axis=0)
    named = pairs[pairs[:, 1] > 0]
    assert len(np.unique(named[:, 0])) == len(np.unique(named[:, 1])) == len(named)
    return events


@pytest.mark.parametrize("stock", ["AMZN_2012-06-21_5", "AMZN_2012-06-21_1", "AAPL_2012-06-21_1"])
def test_a_recorded_day_comes_back_event_for_event_and_its_book_is_the_venues(marketdata: Path, stock: str) -> None:
    day = read_lobster(marketdata / f"lobster/LOBSTER_SampleFile_{stock}.zip")
    # But for moments where the venue left time order, as in the recording itself.
    assert shares_equal(day, 25, assert_comes_back(flow_tape(day))) > 0.995


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(levels=st.integers(1, 4), seed=st.integers(0, 10**6), before=st.sampled_from([0, 5, 40]))
def test_any_day_of_a_venue_comes_back(tmp_path: Path, levels: int, seed: int, before: int) -> None:
    day = read_lobster(recorded(levels, seed, before=before).write(tmp_path))
    assert shares_equal(day, 1, assert_comes_back(flow_tape(day))) == 1.0


def test_a_replay_of_what_was_written_finds_nothing_wrong(marketdata: Path, tmp_path: Path) -> None:
    tape = flow_tape(read_lobster(marketdata / "lobster/LOBSTER_SampleFile_AMZN_2012-06-21_1.zip"))
    path = tmp_path / "day.itch"
    path.write_bytes(write_itch(tape).tobytes())
    found = replay_itch(path)
    assert isinstance(found, ItchReplay)
    assert (found.mismatches, found.gaps, found.skipped_lines) == (0, 0, 0)
    assert found.fills > 1000


def test_several_stocks_are_told_apart_again(tmp_path: Path) -> None:
    tapes = [flow_tape(read_lobster(recorded(2, seed).write(tmp_path))) for seed in (1, 2, 3)]
    events = np.concatenate([tape.events for tape in tapes])
    events["instrument"] = np.repeat(np.arange(3), [len(tape.events) for tape in tapes])
    instruments = tuple(dataclasses.replace(tapes[0].instruments[0], symbol=f"S{k}") for k in range(3))
    order = np.argsort(events["t_ns"], kind="stable")
    tape = dataclasses.replace(tapes[0], instruments=instruments, events=events[order])
    reader = ItchReader(survey_itch("three", write_itch(tape)), 3)
    found = np.concatenate([block.copy() for block in reader.blocks()])
    assert reader.parsed().contradictions == {}
    told = published(tape)
    for i, instrument in enumerate(reader.instruments):
        of_tape = told[told["instrument"] == int(instrument.symbol[1:])]
        of_file = found[found["instrument"] == i][2:-1]
        assert of_file["qty"].tolist() == of_tape["qty"].tolist()
        assert of_file["kind"].tolist() == of_tape["kind"].tolist()


def test_what_four_bytes_do_not_hold_is_refused(tmp_path: Path) -> None:
    tape = flow_tape(read_lobster(recorded(1, 5).write(tmp_path)))
    events = tape.events.copy()
    events["qty"][3] = min(1 << 33, MAX_QTY_LOTS)
    with pytest.raises(DeskvigilError, match="TEST"):
        write_itch(dataclasses.replace(tape, events=events))
    with pytest.raises(DeskvigilError, match="price levels"):
        write_itch(dataclasses.replace(tape, level_book=True))


def test_messages_of_one_time_keep_their_rank() -> None:
    t_ns, rank = np.array([5, 5]), np.array([3, 1])
    data, order = merge([batch("D", t_ns, rank, order_reference=np.array([7, 8])), batch("W", t_ns[:1], np.array([2]))])
    assert order.tolist() == [1, 2, 0]
    assert [data[k + 2] for k in (0, 21, 35)] == [ord("D"), ord("W"), ord("D")]
    with pytest.raises(ValueError, match="colour"):
        batch("D", t_ns, rank, colour=1)
