"""Bulk: columns that are complete already (a burst, an import) become sealed blocks at once, durable when written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from metrics.clock import Clock
from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.blocks import Blocks
from storage.database import Database
from storage.layouts import Layout, Layouts
from storage.matching import SeriesIndex
from storage.sealing import SealedBlock, insert_sealed, seal


class Bulk:
    """Writes blocks past the hot tail: every sample is encoded once and written once. Thread-safe."""

    def __init__(
        self,
        database: Database,
        index: SeriesIndex,
        layouts: Layouts,
        blocks: Blocks,
        new_block_id: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._database = database
        self._index = index
        self._layouts = layouts
        self._blocks = blocks
        self._new_block_id = new_block_id
        self._clock = clock

    def layout(self, collector: str, series: Sequence[Series]) -> Layout:
        """The layout of series that lie side by side; SeriesLimitError where there are too many."""
        with self._layouts.existence:
            return self._layouts.intern(collector, np.array([self._index.intern(one) for one in series], np.int64))

    def encode(self, layout: Layout, t_ms: IntArray, columns: Iterable[FloatArray]) -> SealedBlock:
        """Encode a block: times int64 [n] strictly ascending, columns float64 [n] in the layout's order. Slow part."""
        return seal(self._new_block_id(), layout.id, t_ms, columns)

    def store(self, sealed: Sequence[SealedBlock]) -> None:
        """Write encoded blocks in one transaction; durable and readable when it returns.

        Raises StorageUnavailable, having stored nothing.
        """
        with self._layouts.existence:
            with self._database.write() as connection:
                written = self._layouts.persist(connection)
                for block in sealed:
                    insert_sealed(connection, block, self._clock.now_ns() // 1_000_000)
            self._layouts.persisted(written)
            self._blocks.add([block.header for block in sealed])
            self._index.generation.bump()
