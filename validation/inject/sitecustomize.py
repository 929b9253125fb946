"""Injected trouble, for `validation.bottlenecks` only: it puts this folder into PYTHONPATH, so that the program's real
processes do, while a file KIND lies in the folder that BOTTLENECK_INJECT names, what a real fault would do to them.

The thread begins in the children, not in the forkserver: threads do not survive a fork.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
import time
from typing import Any

LOOK_S = 0.1
SYNC_S = 0.6
OBJECTS = 1_500_000


def _holds(kind: str) -> bool:
    return os.path.exists(os.path.join(os.environ["BOTTLENECK_INJECT"], kind))


def _hog() -> None:
    """One thread of the console that never lets go of Python's lock by itself."""
    while _holds("gil_hog"):
        for _ in range(300_000):
            pass


def _collect() -> None:
    """Many containers that live, and collections of all of them."""
    kept = [[i] for i in range(OBJECTS)]
    while _holds("gc"):
        gc.collect()
        time.sleep(0.1)
    del kept


def _slow_disk() -> None:
    """A disk that takes SYNC_S for each sync of the journal."""
    real = os.fdatasync

    def slow(descriptor: Any) -> None:
        if _holds("slow_disk"):
            time.sleep(SYNC_S)
        real(descriptor)

    os.fdatasync = slow  # type: ignore[assignment]


def _stalling_feed() -> None:
    """A market that has nothing to say for a while."""
    from engine.events import EventArray, empty_events
    from engine.market import SyntheticFeed

    real = SyntheticFeed.take
    looked_s, stalls = 0.0, False

    def take(self: SyntheticFeed, until_ns: int) -> EventArray:
        nonlocal looked_s, stalls
        now_s = time.monotonic()
        if now_s - looked_s > LOOK_S:
            looked_s, stalls = now_s, _holds("feed_stall")
        return empty_events(0) if stalls else real(self, until_ns)

    SyntheticFeed.take = take  # type: ignore[method-assign]


def _watch() -> None:
    while (name := multiprocessing.current_process().name) == "MainProcess":  # it is told its name a little later
        time.sleep(LOOK_S)
    if name == "engine":
        _slow_disk()
        _stalling_feed()
    while name == "console":
        time.sleep(LOOK_S)
        if _holds("gil_hog"):
            _hog()
        if _holds("gc"):
            _collect()


def _begin() -> None:
    threading.Thread(target=_watch, name="injected", daemon=True).start()


if "BOTTLENECK_INJECT" in os.environ:
    if "--multiprocessing-fork" in sys.orig_argv:  # the console is spawned, the others are forks of the forkserver
        _begin()
    else:
        os.register_at_fork(after_in_child=_begin)
