"""ITCH written from LOBSTER: what comes back is the recording, message for message."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.events import CANCEL, EXECUTE, HALT, HIDDEN, LIMIT, REDUCE, RESUME, EventArray
from engine.feeds.itch import ItchReader, survey_itch
from engine.feeds.itchwrite import batch, merge, write_itch
from engine.feeds.lobster import DELETE, DIRECTION, ID, PRICE, SIZE, TIME, TYPE, LobsterDay, read_lobster
from engine.feeds.lobsterflow import walk_day
from engine.reconcile import reconcile
from metrics.errors import DeskvigilError
from tests.engine.venue import recorded

LOBSTER_TYPES = {LIMIT: 1, REDUCE: 2, CANCEL: 3, EXECUTE: 4, HIDDEN: 5, HALT: 7, RESUME: 7}


def through_itch(day: LobsterDay) -> LobsterDay:
    """The day written as ITCH, parsed, and laid out as LOBSTER messages again."""
    written = write_itch([day])
    reader = ItchReader(survey_itch(day.source, written.data), 1)
    events: EventArray = np.concatenate([block.copy() for block in reader.blocks()])
    parsed = reader.parsed()
    assert (parsed.skipped, parsed.contradictions, parsed.late) == (0, {}, 0)
    assert reader.instruments[0].symbol == day.instrument.symbol
    # System events, the directory and the first trading action give no event; all else gives one each.
    gives = ~written.inserted
    silent = np.flatnonzero(written.inserted)[:4]
    inserted = np.delete(written.inserted, silent)
    assert len(inserted) == len(events)
    assert gives.sum() == len(day.messages)
    events = events[~inserted]
    rows = np.zeros((len(events), 6), dtype=np.int64)
    rows[:, TIME], rows[:, SIZE], rows[:, DIRECTION] = events["t_ns"], events["qty"], events["side"]
    rows[:, TYPE] = [LOBSTER_TYPES[int(kind)] for kind in events["kind"]]
    rows[:, ID] = np.where(events["order_id"] > 0, written.ids[events["order_id"] - 1], 0)
    ratio = reader.instruments[0].tick_size_usd / day.instrument.tick_size_usd
    rows[:, PRICE] = events["price"] * round(ratio)
    return dataclasses.replace(day, messages=rows)


def assert_same(day: LobsterDay, back: LobsterDay) -> None:
    hidden = day.messages[:, TYPE] == 5
    expected = day.messages.copy()
    expected[hidden, ID] = 0  # ITCH gives no number to what is hidden
    assert np.array_equal(back.messages, expected)


@pytest.mark.parametrize("stock", ["AMZN_2012-06-21_5", "AMZN_2012-06-21_1", "AAPL_2012-06-21_1"])
def test_a_recorded_day_comes_back_message_for_message(marketdata, stock) -> None:
    day = read_lobster(marketdata / f"lobster/LOBSTER_SampleFile_{stock}.zip")
    back = through_itch(day)
    assert_same(day, back)
    assert np.array_equal(walk_day(back).events, walk_day(day).events)
    assert reconcile(back) == reconcile(day)
    assert reconcile(back).mismatches == 0


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(levels=st.integers(1, 4), seed=st.integers(0, 10**6), before=st.sampled_from([0, 5, 40]))
def test_any_day_of_a_venue_comes_back(tmp_path, levels, seed, before) -> None:
    day = read_lobster(recorded(levels, seed, before=before).write(tmp_path))
    assert_same(day, through_itch(day))


def test_several_stocks_are_told_apart_again(tmp_path) -> None:
    days = [read_lobster(recorded(2, seed).write(tmp_path)) for seed in (1, 2, 3)]
    named = [
        dataclasses.replace(day, instrument=dataclasses.replace(day.instrument, symbol=f"S{k}"))
        for k, day in enumerate(days)
    ]
    reader = ItchReader(survey_itch("three", write_itch(named).data), 3)
    events = np.concatenate([block.copy() for block in reader.blocks()])
    assert reader.parsed().contradictions == {}
    for i, instrument in enumerate(reader.instruments):
        day = named[int(instrument.symbol[1:])]
        deletes = np.count_nonzero(day.messages[:, TYPE] == DELETE)
        assert np.count_nonzero((events["instrument"] == i) & (events["kind"] == CANCEL)) >= deletes


def test_what_four_bytes_do_not_hold_is_refused(tmp_path) -> None:
    day = read_lobster(recorded(1, 5).write(tmp_path))
    messages = day.messages.copy()
    messages[3, SIZE] = 1 << 33
    with pytest.raises(DeskvigilError, match="TEST"):
        write_itch([dataclasses.replace(day, messages=messages)])


def test_messages_of_one_time_keep_their_rank() -> None:
    t_ns, rank = np.array([5, 5]), np.array([3, 1])
    data, order = merge([batch("D", t_ns, rank, order_reference=np.array([7, 8])), batch("W", t_ns[:1], np.array([2]))])
    assert order.tolist() == [1, 2, 0]
    assert [data[k + 2] for k in (0, 21, 35)] == [ord("D"), ord("W"), ord("D")]
    with pytest.raises(ValueError, match="colour"):
        batch("D", t_ns, rank, colour=1)
