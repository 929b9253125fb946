"""Reconciliation: recorded days agree with the venue's book on every row, and a single wrong message shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from engine.events import Instrument
from engine.feeds.lobster import (
    ADD,
    DELETE,
    DIRECTION,
    EXECUTION,
    HIDDEN_EXECUTION,
    ID,
    PARTIAL_CANCEL,
    PRICE,
    SIZE,
    TIME,
    TYPE,
    LobsterDay,
    read_lobster,
)
from engine.reconcile import reconcile

DAYS = {
    "AMZN_2012-06-21_5": (155_935, 15_327),
    "AMZN_2012-06-21_1": (57_515, 10_970),
    "AAPL_2012-06-21_1": (118_497, 25_900),
}


def corrupted(day: LobsterDay, row: int, column: int, value: int) -> LobsterDay:
    messages = day.messages.copy()
    messages[row, column] = value
    return dataclasses.replace(day, messages=messages)


def wrong_values(day: LobsterDay, row: int, random: np.random.Generator) -> dict[str, tuple[int, int]]:
    """For each field of a message a value that it does not have."""
    message = day.messages[row]
    other_id = int(day.messages[int(random.integers(len(day.messages))), ID])
    new_id = (int(message[ID]) + 1, int(random.integers(1, 400_000_000)), other_id)[int(random.integers(3))]
    return {
        "size": (SIZE, max(int(message[SIZE]) + int(random.choice([-7, -1, 1, 100])), 1) + (message[SIZE] == 1)),
        "price": (PRICE, int(message[PRICE]) + int(random.choice([-300, -2, -1, 1, 2, 300]))),
        "direction": (DIRECTION, -int(message[DIRECTION])),
        "id": (ID, new_id if new_id not in (0, message[ID]) else int(message[ID]) + 3),
    }


@pytest.mark.parametrize("name", DAYS)
def test_a_recorded_day_agrees_on_every_row_and_takes_no_level_without_need(marketdata, name) -> None:
    rows, taken = DAYS[name]
    found = reconcile(read_lobster(marketdata / "lobster" / f"LOBSTER_SampleFile_{name}.zip"))
    assert (found.rows, found.mismatches, found.levels_from_book) == (rows, 0, taken)


@pytest.mark.parametrize("name", ["AMZN_2012-06-21_1", "AAPL_2012-06-21_1"])
def test_a_wrong_size_price_or_direction_always_shows(marketdata, name) -> None:
    day = read_lobster(marketdata / "lobster" / f"LOBSTER_SampleFile_{name}.zip")
    random = np.random.default_rng(1)
    visible = np.flatnonzero(day.messages[:, TYPE] <= EXECUTION)
    for row in random.choice(visible[visible > 0], 25, replace=False):
        wrong = wrong_values(day, int(row), random)
        for field in ("size", "price", "direction"):
            found = reconcile(corrupted(day, int(row), *wrong[field]))
            assert found.mismatches > 0, (field, row)
            assert found.first_row <= row, (field, row)  # at once, not by luck later


def test_a_wrong_order_id_shows_where_anything_else_in_the_file_speaks_against_it(marketdata) -> None:
    day = read_lobster(marketdata / "lobster" / "LOBSTER_SampleFile_AMZN_2012-06-21_1.zip")
    random = np.random.default_rng(2)
    _, order_of, uses = np.unique(day.messages[:, ID], return_inverse=True, return_counts=True)
    # An id that occurs once is a mere name: the file would be as consistent with another.
    visible = np.flatnonzero((day.messages[:, TYPE] <= EXECUTION) & (uses[order_of] > 1))
    rows = random.choice(visible[visible > 0], 100, replace=False)
    shown = sum(
        reconcile(corrupted(day, int(row), *wrong_values(day, int(row), random)["id"])).mismatches > 0 for row in rows
    )
    assert (
        shown >= 85
    )  # the rest: the file is as consistent with the other id, for all that a level that left the view can tell


# --- small days, by hand --------------------------------------------------------------------------

EMPTY = (0, 0)


def small_day(levels: int, *rows: tuple) -> LobsterDay:
    """rows: ((type, id, size, price, direction), [(ask, size)...], [(bid, size)...])."""
    messages = np.array([(k, *message) for k, (message, _, _) in enumerate(rows)], dtype=np.int64)
    book = np.zeros((len(rows), 4 * levels), dtype=np.int64)
    for k, (_, asks, bids) in enumerate(rows):
        for j, (price, size) in enumerate(asks):
            book[k, 4 * j : 4 * j + 2] = price, size
        for j, (price, size) in enumerate(bids):
            book[k, 4 * j + 2 : 4 * j + 4] = price, size
    return LobsterDay(Instrument("XY", 0.01), "2020-01-02", 0, 1000, levels, messages, book, "by hand")


def outcome(day: LobsterDay) -> tuple[int, int]:
    found = reconcile(day)
    return found.mismatches, found.levels_from_book


ASKS = [(110, 5)]


def test_a_level_from_beyond_the_view_is_taken_and_counted() -> None:
    day = small_day(
        1,
        ((ADD, 1, 10, 100, 1), ASKS, [(100, 10)]),
        ((DELETE, 1, 10, 100, 1), ASKS, [(98, 7)]),
    )
    assert outcome(day) == (0, 1)


def test_a_level_within_the_view_is_never_taken() -> None:
    day = small_day(
        2,
        ((ADD, 1, 10, 100, 1), ASKS, [(100, 10)]),
        ((PARTIAL_CANCEL, 1, 4, 100, 1), ASKS, [(100, 6), (98, 7)]),  # one level shown of two: 98 was empty
    )
    assert outcome(day) == (1, 0)


def test_a_remembered_level_that_comes_back_as_it_was_is_not_taken() -> None:
    day = small_day(
        1,
        ((ADD, 1, 10, 100, 1), ASKS, [(100, 10)]),
        ((ADD, 2, 3, 101, 1), ASKS, [(101, 3)]),
        ((DELETE, 2, 3, 101, 1), ASKS, [(100, 10)]),
        ((EXECUTION, 1, 4, 100, 1), ASKS, [(100, 6)]),
    )
    assert outcome(day) == (0, 0)


def test_a_remembered_level_that_is_gone_counts_as_taken() -> None:
    day = small_day(
        1,
        ((ADD, 1, 10, 100, 1), ASKS, [(100, 10)]),
        ((ADD, 2, 3, 101, 1), ASKS, [(101, 3)]),
        ((DELETE, 2, 3, 101, 1), ASKS, [(99, 8)]),
    )
    assert outcome(day) == (0, 2)


def test_a_message_about_an_order_that_cannot_be_there_is_a_contradiction() -> None:
    rows = [
        ((ADD, 1, 10, 100, 1), ASKS, [(100, 10)]),
        ((ADD, 2, 5, 100, 1), ASKS, [(100, 15)]),
        ((DELETE, 2, 5, 100, 1), ASKS, [(100, 10)]),
    ]
    assert outcome(small_day(1, *rows)) == (0, 0)
    for wrong in ((DELETE, 77, 5, 100, 1), (DELETE, 1, 5, 100, 1), (EXECUTION, 2, 5, 99, 1)):
        assert outcome(small_day(1, *rows[:2], (wrong, *rows[2][1:])))[0] > 0
    again = ((DELETE, 2, 5, 100, 1), ASKS, [(100, 5)])
    assert outcome(small_day(1, *rows, again))[0] > 0


def test_hidden_executions_and_halts_leave_the_book_alone() -> None:
    rows = [
        ((ADD, 1, 10, 100, 1), ASKS, [(100, 10)]),
        ((HIDDEN_EXECUTION, 0, 3, 104, 1), ASKS, [(100, 10)]),
        ((7, 0, 0, -1, -1), ASKS, [(100, 10)]),
        ((7, 0, 0, 1, -1), ASKS, [(100, 10)]),
    ]
    assert outcome(small_day(1, *rows)) == (0, 0)
    assert outcome(small_day(1, rows[0], (rows[1][0], ASKS, [(100, 7)])))[0] == 1
    assert outcome(small_day(1, rows[0], ((HIDDEN_EXECUTION, 0, 3, 140, 1), ASKS, [(100, 10)])))[0] == 1
    assert outcome(small_day(1, rows[0], ((HIDDEN_EXECUTION, 4, 3, 104, 1), ASKS, [(100, 10)])))[0] == 1


def test_time_that_goes_back_and_a_row_that_is_no_book_are_mismatches() -> None:
    rows = [((ADD, 1, 10, 100, 1), ASKS, [(100, 10)]), ((ADD, 2, 5, 100, 1), ASKS, [(100, 15)])]
    assert outcome(corrupted(small_day(1, *rows), 1, TIME, -1))[0] == 1
    unsorted = [((ADD, 1, 10, 100, 1), ASKS, [(100, 10), (101, 4)])]
    assert outcome(small_day(2, *unsorted))[0] == 1
