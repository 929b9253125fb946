"""Placement: into which block each frame goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metrics.frame import FloatArray
from storage.blocks import ID_BITS
from storage.layouts import Layout
from storage.tail import Tail


@dataclass(frozen=True, eq=False, slots=True)
class Pending:
    """One frame that waits for its commit. values: float64 [series], missing readings marked stale.

    farewell: no collector's frame, but the stale markers of series that a collector describes no more.
    """

    layout: Layout
    t_ms: int
    values: FloatArray
    farewell: bool = False

    @property
    def bytes(self) -> int:
        return self.values.nbytes + 64


@dataclass(frozen=True, eq=False, slots=True)
class Placed:
    """A frame with its block and row key."""

    frame: Pending
    tail: Tail
    key: int


@dataclass(slots=True)
class _Open:
    tail: Tail
    filled: int
    positions: int
    t0_ms: int
    t1_ms: int


class Placement:
    """Plans one transaction without touching what is open: a transaction may fail.

    A block takes frames of one layout with ascending times, up to its capacity and to the end of
    its stretch of wall-clock time. A clock that is set back therefore begins a new block, and
    blocks may overlap in time.
    """

    def __init__(
        self, open_tails: Mapping[int, Tail], new_block: Callable[[], int], seal_ms: int, tail_bytes: int
    ) -> None:
        self._open = {
            layout_id: _Open(tail, tail.n, tail.positions, tail.t0_ms, tail.t1_ms)
            for layout_id, tail in open_tails.items()
        }
        self._seal_ms = seal_ms
        self._tail_bytes = tail_bytes
        self._new_block = new_block
        self.begun: list[Tail] = []

    def place(self, frame: Pending) -> Placed:
        """Give one frame its block and key."""
        target = self._open.get(frame.layout.id)
        if target is None or not self._fits(target, frame.t_ms):
            tail = Tail(self._new_block(), frame.layout, self._capacity(frame.layout))
            self.begun.append(tail)
            target = self._open[frame.layout.id] = _Open(tail, 0, 0, frame.t_ms, frame.t_ms)
        key = target.tail.block_id << ID_BITS | target.positions
        target.filled += 1
        target.positions += 1
        target.t1_ms = frame.t_ms
        return Placed(frame, target.tail, key)

    def _fits(self, target: _Open, t_ms: int) -> bool:
        later = t_ms > target.t1_ms
        same_stretch = t_ms // self._seal_ms == target.t0_ms // self._seal_ms
        return later and same_stretch and target.filled < target.tail.capacity

    def _capacity(self, layout: Layout) -> int:
        """Frames per block: one a second for its stretch and some to spare, unless memory is the limit."""
        by_time = self._seal_ms // 1000 + 60
        by_memory = self._tail_bytes // (8 * (len(layout.series_ids) + 1))
        return max(min(by_time, by_memory), 1)
