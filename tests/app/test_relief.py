"""The console cleans up once each time the engine becomes degraded."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from console.relief import DEGRADED, Relief
from metrics.catalogue import series
from metrics.frame import Frame
from metrics.series import Schema

SCHEMA = Schema("engine", (series("deskvigil_engine_up"), DEGRADED))


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


def garbage() -> weakref.ref[Ring]:
    return weakref.ref(Ring())


def test_it_cleans_up_when_the_mode_is_entered_and_not_while_it_lasts() -> None:
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as pool:
            relief = Relief(pool)
            found = []
            for value in (0.0, np.nan, 1.0, np.nan, 2.0, 1.0, 0.0, 1.0):
                left = garbage()
                relief.observe(Frame(SCHEMA, 0, np.array([1.0, value])))
                pool.submit(lambda: None).result()
                found.append(left() is None)
            assert found == [False, False, True, False, False, False, False, True]
    finally:
        gc.enable()


def test_other_frames_and_engines_without_the_series_are_let_pass() -> None:
    with ThreadPoolExecutor(1) as pool:
        relief = Relief(pool)
        relief.observe(Frame(Schema("host", (DEGRADED,)), 0, np.array([1.0])))
        relief.observe(Frame(Schema("engine", (series("deskvigil_engine_up"),)), 0, np.array([1.0])))
        assert pool._work_queue.qsize() == 0
