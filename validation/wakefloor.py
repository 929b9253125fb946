"""WakeFloor: what it costs here that two sleeping processes wake each other, with nothing else done.

An order to a parked engine needs two wakings, there and back. Both ends are kernels that sleep on an
eventfd, as the engine and its clients do, so no Python runs in between: no order can be answered sooner.
"""

from __future__ import annotations

import multiprocessing
import os
import time

import numpy as np

from engine.descriptors import hush, readable, ring_bell, sleep_until
from engine.jit import kernel
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from metrics.frame import FloatArray, IntArray
from resources.process import sleep_exactly

FORK = multiprocessing.get_context("fork")
PATIENCE_NS = 30_000_000_000
UNMEASURED = 100


@kernel
def _answer(mine: int, files: IntArray, theirs: int, count: int, until_ns: int) -> None:
    """Ring back as often as one is rung for."""
    for _ in range(count):
        if not sleep_until(files, until_ns):
            return
        hush(mine)
        ring_bell(theirs)


@kernel
def _ask(mine: int, files: IntArray, theirs: int, pause_ns: int, times: IntArray, until_ns: int) -> int:
    """Fill times with the ns from a ring to the ring back, asleep for pause_ns before each; returns how many came back."""
    for k in range(len(times)):
        sleep_until(files, clock_ns(CLOCK_MONOTONIC) + pause_ns)  # nobody rings now
        began_ns = clock_ns(CLOCK_MONOTONIC)
        ring_bell(theirs)
        if not sleep_until(files, until_ns):
            return k
        hush(mine)
        times[k] = clock_ns(CLOCK_MONOTONIC) - began_ns
    return len(times)


def round_trips(count: int, pause_ns: int, cores: tuple[int, int] | None = None) -> FloatArray:
    """Times, ns, of `count` wakings there and back, pause_ns apart; on these two cores, or where the system likes.

    RuntimeError where one does not come back.
    """
    mine, theirs = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
    times = np.zeros(count + UNMEASURED, dtype=np.int64)
    _answer(theirs, readable([theirs]), mine, 0, 0)  # compiled before anything is measured
    _ask(mine, readable([mine]), theirs, 0, times[:0], 0)
    before = os.sched_getaffinity(0)
    other = FORK.Process(target=_other_end, args=(theirs, mine, len(times), cores and cores[1]))
    other.start()
    try:
        if cores:
            os.sched_setaffinity(0, {cores[0]})
        sleep_exactly()
        came = _ask(mine, readable([mine]), theirs, pause_ns, times, time.monotonic_ns() + PATIENCE_NS)
        if came != len(times):
            raise RuntimeError(f"only {came} of {len(times)} wakings came back")
    finally:
        os.sched_setaffinity(0, before)
        other.kill()
        other.join()
        os.close(mine)
        os.close(theirs)
    return times[UNMEASURED:].astype(np.float64)


def _other_end(mine: int, theirs: int, count: int, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    _answer(mine, readable([mine]), theirs, count, time.monotonic_ns() + PATIENCE_NS)
