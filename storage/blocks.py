"""Blocks: sealed stretches of one layout in the database, and which of them a time range touches."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from sqlalchemy import Connection, Table, select

from metrics.frame import IntArray

ID_BITS = 32
"""Rows of a block have the key block_id << 32 | series_id: one integer key, in order of time."""


@dataclass(frozen=True, slots=True)
class Block:
    """The header of one sealed block: n samples per series, from t0_ms to t1_ms, both included."""

    id: int
    layout_id: int
    t0_ms: int
    t1_ms: int
    n: int
    rolled: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class _OfLayout:
    blocks: tuple[Block, ...]
    t0_ms: IntArray
    t1_ms: IntArray


def in_time(blocks: Sequence[Block]) -> Sequence[Block]:
    """Blocks in order of time where none overlaps another, else as they are: in the order of writing."""
    ordered = sorted(blocks, key=lambda one: one.t0_ms)
    apart = all(before.t1_ms < after.t0_ms for before, after in pairwise(ordered))
    return ordered if apart else blocks


class Blocks:
    """Headers of all blocks, in memory, in the order in which they were written. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_layout: dict[int, _OfLayout] = {}
        self._count = 0
        self.version = 0
        """Grows with every change."""
        self.publication = threading.RLock()
        """Held while something is done here and in the database, or in two of these, that belongs together."""

    def __len__(self) -> int:
        return self._count

    def load(self, connection: Connection, table: Table) -> None:
        """Read the headers of `block` or `rollup_block`."""
        columns = [table.c.id, table.c.layout_id, table.c.t0_ms, table.c.t1_ms, table.c.n]
        rolled = table.c.get("rollup_id")
        rows = connection.execute(select(*columns, *([rolled] if rolled is not None else [])).order_by(table.c.id))
        self.add([Block(r[0], r[1], r[2], r[3], r[4], rolled is not None and r[5] is not None) for r in rows])

    def add(self, blocks: Sequence[Block]) -> None:
        grouped: dict[int, list[Block]] = {}
        for block in blocks:
            grouped.setdefault(block.layout_id, []).append(block)
        with self._lock:
            for layout_id, some in grouped.items():
                before = self._of_layout.get(layout_id)
                self._put(layout_id, (*(before.blocks if before else ()), *some))
            self._count += len(blocks)
            self.version += 1

    def overlapping(self, layout_id: int, t0_ms: int, t1_ms: int) -> list[Block]:
        """Blocks of a layout with a sample time range that touches [t0, t1], in the order of writing."""
        found = self._of_layout.get(layout_id)
        if found is None:
            return []
        touched = np.flatnonzero((found.t1_ms >= t0_ms) & (found.t0_ms <= t1_ms))
        return [found.blocks[i] for i in touched.tolist()]

    def of_layout(self, layout_id: int) -> tuple[Block, ...]:
        """A layout's blocks, in the order of writing."""
        found = self._of_layout.get(layout_id)
        return () if found is None else found.blocks

    def newest_ms(self, layout_id: int) -> int | None:
        """The largest instant that a layout's blocks hold."""
        found = self._of_layout.get(layout_id)
        return None if found is None else int(found.t1_ms.max())

    def all(self) -> list[Block]:
        return sorted((block for found in list(self._of_layout.values()) for block in found.blocks), key=lambda b: b.id)

    def layouts(self) -> set[int]:
        return set(self._of_layout)

    def remove(self, ids: Collection[int]) -> None:
        gone = set(ids)
        with self._lock:
            for layout_id, found in list(self._of_layout.items()):
                left = tuple(block for block in found.blocks if block.id not in gone)
                self._count -= len(found.blocks) - len(left)
                self._put(layout_id, left)
            self.version += 1

    def replace(self, ids: Collection[int], block: Block) -> None:
        """Put one block in the place of those that it was joined from."""
        gone = set(ids)
        with self._lock:
            found = self._of_layout[block.layout_id]
            left = [one for one in found.blocks if one.id not in gone]
            self._count -= len(found.blocks) - len(left) - 1
            self._put(block.layout_id, tuple(sorted([*left, block], key=lambda one: one.id)))
            self.version += 1

    def mark_rolled(self, ids: Collection[int]) -> None:
        rolled = set(ids)
        with self._lock:
            for layout_id, found in list(self._of_layout.items()):
                if any(block.id in rolled for block in found.blocks):
                    self._put(layout_id, tuple(replace(b, rolled=True) if b.id in rolled else b for b in found.blocks))
            self.version += 1

    def _put(self, layout_id: int, blocks: tuple[Block, ...]) -> None:
        if blocks:
            self._of_layout[layout_id] = _OfLayout(
                blocks, _array(b.t0_ms for b in blocks), _array(b.t1_ms for b in blocks)
            )
        else:
            self._of_layout.pop(layout_id, None)


def _array(numbers: Iterable[int]) -> IntArray:
    return np.fromiter(numbers, np.int64)
