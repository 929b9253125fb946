"""The ring between two processes: order, wrap, a full ring, a producer that dies, an end that lies."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ring
from engine.ring import FULL, RECORD_WORDS, WAKE, WRITTEN, RingError, RingMemory, shared_memory

FORK = multiprocessing.get_context("fork")
RECORD = np.zeros(RECORD_WORDS, dtype=np.int64)


def make(capacity: int = 8) -> tuple[RingMemory, np.ndarray, np.ndarray]:
    descriptor = shared_memory((capacity,))
    try:
        memory = RingMemory(descriptor, (capacity,))
    finally:
        os.close(descriptor)
    memory.format()
    return memory, memory.port(0), memory.port(0)


def record(value: int) -> np.ndarray:
    return np.arange(RECORD_WORDS, dtype=np.int64) + value * 10


def pull(port: np.ndarray, most: int = 64, spin_ns: int = 0) -> list[int]:
    out = np.zeros((most, RECORD_WORDS), dtype=np.int64)
    count = ring.pull(port, out, spin_ns)
    for row in out[:count]:
        assert (row[1:] == record((row[1] - 1) // 10)[1:]).all()
    return [int(row[1] - 1) // 10 for row in out[:count]]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([2, 4, 8]), st.lists(st.one_of(st.just(-1), st.integers(1, 9)), max_size=80))
def test_it_is_a_queue_of_its_capacity_however_often_it_wraps(capacity: int, steps: list[int]) -> None:
    memory, producer, consumer = make(capacity)
    expected: deque[int] = deque()
    sent = 0
    for step in steps:
        if step < 0:
            outcome = ring.push(producer, record(sent))
            assert outcome == (WRITTEN if len(expected) < capacity else FULL)
            if outcome == WRITTEN:
                expected.append(sent)
            sent += 1
        else:
            assert pull(consumer, step) == [expected.popleft() for _ in range(min(step, len(expected)))]
    assert pull(consumer) == list(expected)
    memory.check()


def test_a_record_whose_producer_died_before_the_end_is_never_seen() -> None:
    memory, producer, consumer = make()
    ring.push(producer, record(1))
    whole = memory.words(0)
    at = ring.HEADER_BYTES // 8 + RECORD_WORDS  # the second record: all but its sequence is written
    whole[at + 1 : at + RECORD_WORDS] = record(2)[1:]
    assert pull(consumer) == [1]
    assert pull(consumer) == []


def test_only_a_sleeping_consumer_has_to_be_woken_and_only_once() -> None:
    _memory, producer, consumer = make()
    assert ring.push(producer, record(1)) == WRITTEN
    assert not ring.may_sleep(consumer)  # there is something to read
    assert pull(consumer) == [1]
    assert ring.may_sleep(consumer)
    assert ring.push(producer, record(2)) == WAKE
    assert ring.push(producer, record(3)) == WRITTEN
    ring.wake_up(consumer)
    assert pull(consumer) == [2, 3]


def test_a_consumer_waits_no_longer_than_it_was_told() -> None:
    _memory, _producer, consumer = make()
    assert pull(consumer, spin_ns=1000) == []


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 7), st.integers(-(2**63), 2**63 - 1))
def test_a_hostile_end_cannot_lead_the_other_out_of_the_ring(tail: int, at: int, sequence: int) -> None:
    memory, producer, consumer = make()
    whole = memory.words(0)
    before = whole.copy()
    whole[ring.TAIL // 8] = tail
    whole[ring.HEADER_BYTES // 8 + at * RECORD_WORDS] = sequence
    for value in range(20):
        ring.push(producer, record(value))
    out = np.zeros((64, RECORD_WORDS), dtype=np.int64)
    assert 0 <= ring.pull(consumer, out, 0) <= 64
    assert (whole[:8] == before[:8]).all()  # nothing but records and the consumer's own words were written
    memory.check()


def test_what_is_no_ring_is_refused() -> None:
    memory, _producer, _consumer = make()
    memory.words(0)[0] = 7
    with pytest.raises(RingError, match="header"):
        memory.check()
    descriptor = shared_memory((2,))
    try:
        with pytest.raises(RingError, match="bytes"):
            RingMemory(descriptor, (1024,))
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    finally:
        os.close(descriptor)
    for capacity in (0, 1, 3, 1 << 21):
        with pytest.raises(ValueError, match="power of two"):
            ring.ring_bytes(capacity)


def _produce(memory: RingMemory, port: np.ndarray, count: int) -> None:
    value = 0
    while value < count:
        value += ring.push(port, record(value)) != FULL


def test_two_processes_pass_every_record_once_and_in_order() -> None:
    memory, producer, consumer = make(64)
    count = 200_000
    process = FORK.Process(target=_produce, args=(memory, producer, count))
    process.start()
    got: list[int] = []
    while len(got) < count:
        some = pull(consumer, spin_ns=1_000_000)
        got += some
        assert some or process.is_alive() or len(got) >= count
    process.join()
    assert got == list(range(count))
