"""Sleeping and waking: why a sleep ends, that no waking is lost, and that what is served asleep is served as ever."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import mailbox
from engine.descriptors import readable
from engine.parking import (
    DUE,
    HUNG_UP,
    NOTHING,
    OTHERS,
    REQUESTS,
    WOKEN,
    receive,
    ring_clients,
    send,
    sleep_for_requests,
)
from engine.ring import PORT_WORDS, RECORD_WORDS, RingMemory, may_sleep, pull, shared_memory
from tests.engine.house import House

FORK = multiprocessing.get_context("fork")
LONG_NS = 60_000_000_000  # a waking that is lost ends the test by what it finds, not by this
RECORDS = 64
RINGS = (
    RECORDS,
    RECORDS + mailbox.RESERVE,
)  # who has more answers to read than leave RESERVE free is not served, nor woken for


class Line:
    """One client's two rings and both eventfds, and the engine's table with that client in it."""

    def __init__(self) -> None:
        descriptor = shared_memory(RINGS)
        self.memory = RingMemory(descriptor, RINGS)
        os.close(descriptor)
        self.memory.format()
        self.bell, self.wake = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        self.lifeline, self.far_end = os.pipe()
        self.bells = np.full(mailbox.MAX_SESSIONS, self.wake, dtype=np.int64)
        self.table = mailbox.make_sessions()
        self.table[mailbox.REQUESTS : mailbox.REQUESTS + PORT_WORDS] = self.memory.port(0)
        self.table[mailbox.ANSWERS : mailbox.ANSWERS + PORT_WORDS] = self.memory.port(1)
        self.table[mailbox.S_ACTIVE] = 1
        self.requests, self.answers = self.memory.port(0), self.memory.port(1)
        self.record = np.zeros(RECORD_WORDS, dtype=np.int64)
        self.heard = np.zeros((RECORDS, RECORD_WORDS), dtype=np.int64)

    def sleep(self, until_ns: int, *others: int) -> int:
        return sleep_for_requests(self.table, readable([self.bell, *others]), until_ns, 0)

    def send(self, value: int) -> None:
        self.record[1] = value
        assert send(self.requests, self.record, self.bell)

    def receive(self, until_ns: int) -> int:
        return receive(self.answers, self.heard, readable([self.wake, self.lifeline]), 0, until_ns)

    def echo(self) -> list[int]:
        """The engine's part: take every request, acknowledge it, ring who sleeps; the requests' ids."""
        taken = np.zeros((RECORDS, RECORD_WORDS), dtype=np.int64)
        ports = self.table[mailbox.REQUESTS : mailbox.REQUESTS + PORT_WORDS]
        values = taken[: pull(ports, taken, 0), 1].tolist()
        for value in values:
            self.answer(value)
        ring_clients(self.table, self.bells)
        return values

    def answer(self, value: int) -> None:
        mailbox.answer(self.table, 0, int(mailbox.What.ACK), 0, value, 0, 0, 1, 0, 0, 0, 0)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    for descriptor in (line.bell, line.wake, line.lifeline, line.far_end):
        with suppress(OSError):  # a test may have closed it
            os.close(descriptor)


def soon() -> int:
    return time.monotonic_ns() + 1_000_000


def late() -> int:
    return time.monotonic_ns() + LONG_NS


def test_a_sleep_ends_when_it_is_due_and_not_before(line: Line) -> None:
    until_ns = soon()
    assert line.sleep(until_ns) == DUE
    assert time.monotonic_ns() >= until_ns
    assert line.sleep(0) == DUE  # a time that is over


def test_a_request_that_waits_or_comes_ends_the_engines_sleep(line: Line) -> None:
    line.send(1)
    assert line.sleep(late()) == REQUESTS
    assert line.echo() == [1]
    os.eventfd_write(line.bell, 1)  # rung without a request: it looks, and sleeps on
    assert line.sleep(late()) == REQUESTS
    assert line.sleep(soon()) == DUE


def test_another_descriptor_ends_the_engines_sleep_and_is_told_from_requests(line: Line) -> None:
    os.write(line.far_end, b"x")
    assert line.sleep(late(), line.lifeline) == OTHERS
    os.eventfd_write(line.bell, 1)
    assert line.sleep(late(), line.lifeline) == OTHERS
    os.read(line.lifeline, 1)
    assert line.sleep(soon(), line.lifeline) == DUE  # the bell has been heard


def test_a_signal_ends_a_sleep_so_that_its_handler_runs(line: Line) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: heard.append(number))
    try:
        until_ns = late()
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)  # again and again: one may come before the sleep
        while not heard:
            assert line.sleep(until_ns) == DUE
        assert time.monotonic_ns() < until_ns
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_a_client_hears_what_was_answered_before_it_hears_that_the_engine_has_gone(line: Line) -> None:
    assert line.receive(soon()) == NOTHING
    line.send(5)
    line.echo()
    os.close(line.far_end)
    assert line.receive(late()) == 1
    assert line.heard[0, 1] == 5
    assert line.receive(late()) == HUNG_UP


def test_a_full_ring_takes_nothing(line: Line) -> None:
    for value in range(RECORDS):
        line.send(value)
    assert not send(line.requests, line.record, line.bell)


def test_clients_that_sleep_are_rung_once(line: Line) -> None:
    line.answer(1)
    assert not ring_clients(line.table, line.bells)  # nobody sleeps
    with pytest.raises(BlockingIOError):
        os.eventfd_read(line.wake)
    assert line.receive(soon()) == 1
    assert may_sleep(line.answers)
    line.answer(2)
    assert ring_clients(line.table, line.bells)
    assert not ring_clients(line.table, line.bells)
    assert os.eventfd_read(line.wake) == 1


def _engine(line: Line, count: int) -> None:
    os.close(line.far_end)
    seen = 0
    while seen < count:
        if line.sleep(late()) == REQUESTS:
            seen += len(line.echo())


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=200, max_size=400))
def test_no_waking_is_lost_between_two_processes_that_both_sleep(bursts: list[int]) -> None:
    """A lost waking leaves both asleep until the time is over."""
    line, total = Line(), sum(bursts)
    engine = FORK.Process(target=_engine, args=(line, total))
    engine.start()
    try:
        sent = 0
        for burst in bursts:
            for _ in range(burst):
                line.send(sent)
                sent += 1
            heard: list[int] = []
            until_ns = late()
            while len(heard) < burst:
                count = line.receive(until_ns)
                assert time.monotonic_ns() < until_ns, "a waking was lost"
                heard += line.heard[:count, 1].tolist()
            assert heard == list(range(sent - burst, sent))
        engine.join(30)
        assert engine.exitcode == 0
    finally:
        engine.kill()
        for descriptor in (line.bell, line.wake, line.lifeline, line.far_end):
            os.close(descriptor)


ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["buy", "sell"]),
        st.integers(1, 300),
        st.integers(9_980, 10_020),
        st.sampled_from(["limit", "ioc", "post_only", "fok"]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=15, deadline=None)
@given(ORDERS)
def test_what_is_served_in_a_sleep_is_answered_as_what_is_served_awake(
    tmp_path_factory: pytest.TempPathFactory, orders: list[tuple[str, int, int, str]]
) -> None:
    told = []
    for asleep in (True, False):
        house = House(tmp_path_factory.mktemp("house"))
        session = house.attach()
        for side, qty, cents, kind in orders:
            session.send("AAA", side, qty, cents / 100, kind)
        if asleep:
            assert house.gateway.sleep([], late()) == REQUESTS
        else:
            house.serve()
        told.append([answer._replace(t_ns=0, engine_order=0) for answer in session.poll()])
        assert told[-1]
        house.check()
        session.close()
        house.close()
    assert told[0] == told[1]


def test_the_engine_is_told_whether_a_client_had_to_be_woken(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.attach() as session:
        session.send("AAA", "buy", 1, 98.0)
        assert house.gateway.sleep([], late()) == REQUESTS
        assert session.poll()
        session.send("AAA", "buy", 1, 98.0)
        assert may_sleep(session._answers)
        assert house.gateway.sleep([], late()) == WOKEN
        assert session.wait(5.0)
    house.close()


def test_a_sleep_without_a_door_ends_as_well(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.close()
    assert house.gateway.sleep([], soon()) == DUE
    read, write = os.pipe()
    os.write(write, b"x")
    assert house.gateway.sleep([read], late()) == OTHERS
    os.close(read)
    os.close(write)
