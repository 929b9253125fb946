"""GarbageWatch: how often, how long and in which generation Python's garbage collector stops this process."""

from __future__ import annotations

import gc
import time
from bisect import bisect_left
from itertools import accumulate

from metrics.catalogue import series

GENERATIONS = (0, 1, 2)
PAUSES_S = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)  # upper bounds of the histogram's buckets
_PAUSES_NS = [round(bound * 1e9) for bound in PAUSES_S]


class GarbageWatch:
    """Counts and times collections through gc.callbacks, until closed.

    The interpreter calls back in whichever thread triggered the collection, and never in two at once.
    """

    def __init__(self, process: str) -> None:
        self._began_ns = self._longest_ever_ns = 0
        self._collections = [0] * len(GENERATIONS)
        self._pause_ns = self._longest_ns = 0
        self._pauses = [0] * (len(PAUSES_S) + 1)
        self.series = (
            *(
                series("deskvigil_process_gc_collections_total", process=process, generation=str(g))
                for g in GENERATIONS
            ),
            series("deskvigil_process_gc_pause_seconds_total", process=process),
            series("deskvigil_process_gc_pause_max_seconds", process=process),
            series("deskvigil_process_gc_pause_longest_seconds", process=process),
            *(
                series("deskvigil_process_gc_pause_duration_seconds_bucket", process=process, le=bound)
                for bound in (*(f"{bound:g}" for bound in PAUSES_S), "+Inf")
            ),
            series("deskvigil_process_gc_pause_duration_seconds_sum", process=process),
            series("deskvigil_process_gc_pause_duration_seconds_count", process=process),
        )
        gc.callbacks.append(self._called)

    def read(self, elapsed_s: float) -> list[float]:
        """Collections by generation, seconds paused in all, the longest pause since the last read and of all, and all as histogram."""
        longest_ns, self._longest_ns = self._longest_ns, 0
        self._longest_ever_ns = max(self._longest_ever_ns, longest_ns)
        paused_s = self._pause_ns / 1e9
        buckets = [float(count) for count in accumulate(self._pauses)]
        longest = (longest_ns / 1e9, self._longest_ever_ns / 1e9)
        return [*map(float, self._collections), paused_s, *longest, *buckets, paused_s, buckets[-1]]

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if self._called in gc.callbacks:
            gc.callbacks.remove(self._called)

    def _called(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = time.perf_counter_ns()
            return
        took_ns = time.perf_counter_ns() - self._began_ns
        self._collections[info["generation"]] += 1
        self._pause_ns += took_ns
        self._pauses[bisect_left(_PAUSES_NS, took_ns)] += 1
        self._longest_ns = max(self._longest_ns, took_ns)
