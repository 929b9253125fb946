"""The order log's file: what a reader gets of a ring that is written meanwhile, replaced, or gone on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Instrument
from engine.orderlog import EVENTS_KEPT
from engine.orderlogfile import OrderLog, OrderLogReader
from metrics.errors import TransientError

INSTRUMENTS = (Instrument("AAA", 0.01), Instrument("BBB", 0.25))


def write(log: OrderLog, count: int) -> None:
    """Events whose order id is their number in the log."""
    numbers = np.arange(count) + log.events_written[0]
    log.events[numbers % EVENTS_KEPT, 2] = numbers
    log.events_written[0] += count


def reader_of(path: Path) -> OrderLogReader:
    reader = OrderLogReader(path)
    reader.follow()
    return reader


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 3 * EVENTS_KEPT // 2), st.integers(0, 50), st.booleans()), max_size=8))
def test_a_reader_gets_every_event_once_in_order_or_is_told_how_many_it_missed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "engine.orderlog"
    log = OrderLog(path, INSTRUMENTS)
    reader, after, got, missed = reader_of(path), 0, [], 0
    for published, further, looks in steps:
        write(log, published)
        upto = int(log.events_written[0])
        write(log, further)  # not published yet: not shown, but it may have overwritten what is
        if looks:
            reading = reader.read(after, upto)
            assert reading.first - after == reading.missed
            got += [int(event["order_id"]) for event in reading.events]
            missed += reading.missed
            after = reading.first + len(reading.events)
            assert after == upto
    assert got == sorted(set(got))
    assert len(got) + missed == after


def test_an_engine_that_replaces_another_goes_on_in_its_log(tmp_path: Path) -> None:
    path = tmp_path / "engine.orderlog"
    write(OrderLog(path, INSTRUMENTS), 7)
    reader = reader_of(path)
    again = OrderLog(path, INSTRUMENTS)
    write(again, 2)
    reader.follow()
    assert reader.log == 1
    assert reader.read(0, 9).events["order_id"].tolist() == list(range(9))


@pytest.mark.parametrize("other", [(Instrument("AAA", 0.01),), (Instrument("AAA", 0.01), Instrument("BBB", 0.5))])
def test_of_other_instruments_there_is_another_log(tmp_path: Path, other: tuple[Instrument, ...]) -> None:
    path = tmp_path / "engine.orderlog"
    write(OrderLog(path, INSTRUMENTS), 7)
    reader = reader_of(path)
    write(OrderLog(path, other), 3)
    reader.follow()
    assert reader.log == 2
    assert len(reader.read(0, 7).events) == 3  # the block of before says 7, but this log has three


def test_what_is_no_log_of_this_version_is_made_anew_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "engine.orderlog"
    with pytest.raises(TransientError, match=r"engine\.orderlog"):
        reader_of(path)
    path.write_bytes(b"something else")
    with pytest.raises(TransientError, match=r"engine\.orderlog"):
        reader_of(path)
    write(OrderLog(path, INSTRUMENTS), 1)
    assert len(reader_of(path).read(0, 1).events) == 1
