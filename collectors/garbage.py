"""GarbageWatch: how often, how long and in which generation Python's garbage collector stops this process."""

from __future__ import annotations

import gc
import time

from metrics.catalogue import series

GENERATIONS = (0, 1, 2)


class GarbageWatch:
    """Counts and times collections through gc.callbacks, until closed.

    The interpreter calls back in whichever thread triggered the collection, and never in two at once.
    """

    def __init__(self, process: str) -> None:
        self._began_ns = 0
        self._collections = [0] * len(GENERATIONS)
        self._pause_ns = self._longest_ns = 0
        self.series = (
            *(
                series("deskvigil_process_gc_collections_total", process=process, generation=str(g))
                for g in GENERATIONS
            ),
            series("deskvigil_process_gc_pause_seconds_total", process=process),
            series("deskvigil_process_gc_pause_max_seconds", process=process),
        )
        gc.callbacks.append(self._called)

    def read(self, elapsed_s: float) -> list[float]:
        """Collections by generation, seconds paused in all, and the longest pause since the last read."""
        longest_ns, self._longest_ns = self._longest_ns, 0
        return [*map(float, self._collections), self._pause_ns / 1e9, longest_ns / 1e9]

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
        self._longest_ns = max(self._longest_ns, took_ns)
