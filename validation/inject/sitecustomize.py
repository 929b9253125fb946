"""Injected trouble, for `validation.bottlenecks` only: it puts this folder into PYTHONPATH, so that the program's real
processes do, while a file KIND lies in the folder that BOTTLENECK_INJECT names, what a real fault would do to them.

The thread begins in the children, not in the forkserver: threads do not survive a fork.
"""

import gc
import multiprocessing
import os
import sys
import threading
import time

LOOK_S = 0.1
SYNC_S = 0.6
OBJECTS = 1_500_000


def _holds(kind):
    return os.path.exists(os.path.join(os.environ["BOTTLENECK_INJECT"], kind))


def _hog():
    """One thread of the console that never lets go of Python's lock by itself."""
    while _holds("gil_hog"):
        for _ in range(300_000):
            pass


def _collect():
    """Many containers that live, and collections of all of them."""
    kept = [[i] for i in range(OBJECTS)]
    while _holds("gc"):
        gc.collect()
        time.sleep(0.1)
    del kept


def _slow_disk():
    """A disk that takes SYNC_S for each sync of the journal."""
    real = os.fdatasync

    def slow(descriptor):
        if _holds("slow_disk"):
            time.sleep(SYNC_S)
        real(descriptor)

    os.fdatasync = slow


def _stalling_feed():
    """A market that has nothing to say for a while."""
    from engine.events import empty_events
    from engine.synthetic import SyntheticMarket

    real = SyntheticMarket.take
    state = {"looked": 0.0, "stalls": False}

    def take(self, until_ns):
        now = time.monotonic()
        if now - state["looked"] > LOOK_S:
            state["looked"], state["stalls"] = now, _holds("feed_stall")
        return empty_events(0) if state["stalls"] else real(self, until_ns)

    SyntheticMarket.take = take


def _watch():
    name = multiprocessing.current_process().name
    if name == "engine":
        _slow_disk()
        _stalling_feed()
    while name == "console":
        time.sleep(LOOK_S)
        if _holds("gil_hog"):
            _hog()
        if _holds("gc"):
            _collect()


def _begin():
    threading.Thread(target=_watch, name="injected", daemon=True).start()


if "BOTTLENECK_INJECT" in os.environ:
    if "--multiprocessing-fork" in sys.orig_argv:  # the console is spawned, the others are forks of the forkserver
        _begin()
    else:
        os.register_at_fork(after_in_child=_begin)
