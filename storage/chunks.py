"""Chunks: reads sealed values back, for many series and blocks in few statements."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray
from storage.blocks import ID_BITS, Block
from storage.cache import TimesCache
from storage.columns import decode_into, decode_times
from storage.database import Database
from storage.merge import Piece
from storage.stale import STALE_NAN

_KEYS_PER_STATEMENT = 20_000


@dataclass(eq=False, slots=True)
class Wanted:
    """Some series of some blocks of one layout, t0 <= t <= t1.

    `values`, float64 [series, samples of all blocks], is filled in by the reader.
    """

    series_ids: IntArray
    blocks: Sequence[Block]
    t0_ms: int
    t1_ms: int
    values: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.values = np.full((len(self.series_ids), sum(block.n for block in self.blocks)), STALE_NAN)


NumberedPiece = tuple[int, Piece]
"""The id of the (last) block that a piece comes from: the order of writing; and the piece."""


class ChunkReader:
    """Decodes chunks straight into their place; time axes are cached. Thread-safe."""

    def __init__(self, database: Database, times: TimesCache, max_samples: int) -> None:
        self._database = database
        self._times = times
        self._max_samples = max_samples

    def check_size(self, samples: int) -> None:
        """Raise DeskvigilError where a read would load more than it may."""
        if samples > self._max_samples:
            raise DeskvigilError(
                f"this would read {samples:,} samples, more than storage.select_max_samples = {self._max_samples:,}: "
                "take a shorter time range or fewer series"
            )

    def read(self, wanted: Sequence[Wanted]) -> list[list[NumberedPiece]]:
        """Return for each of `wanted` its pieces.

        A block that retention has deleted meanwhile is left out.
        """
        if not wanted:
            return []
        with self._database.read() as connection:
            cursor: Any = connection.connection.cursor()
            try:
                axes = self._axes(cursor, {block.id for one in wanted for block in one.blocks})
                self._fill(cursor, wanted)
            finally:
                cursor.close()
        return [list(_pieces(one, axes)) for one in wanted]

    def _axes(self, cursor: Any, block_ids: set[int]) -> dict[int, IntArray]:
        axes = {block_id: axis for block_id in block_ids if (axis := self._times.get(block_id)) is not None}
        for keys in _statements(sorted(block_ids - set(axes))):
            for block_id, data in cursor.execute(
                "SELECT id, times FROM block WHERE id IN (SELECT value FROM json_each(?))", (keys,)
            ):
                axes[block_id] = decode_times(data)
                self._times.put(block_id, axes[block_id])
        return axes

    def _fill(self, cursor: Any, wanted: Sequence[Wanted]) -> None:
        places: dict[int, FloatArray] = {}
        for one in wanted:
            offset = 0
            for block in one.blocks:
                base = block.id << ID_BITS
                for row, series_id in enumerate(one.series_ids.tolist()):
                    places[base | series_id] = one.values[row, offset : offset + block.n]
                offset += block.n
        for keys in _statements(sorted(places)):
            for key, last, data in cursor.execute(
                "SELECT id, last, data FROM chunk WHERE id IN (SELECT value FROM json_each(?))", (keys,)
            ):
                decode_into(places[key], last, data)


def _statements(keys: list[int]) -> Iterator[str]:
    for start in range(0, len(keys), _KEYS_PER_STATEMENT):
        yield json.dumps(keys[start : start + _KEYS_PER_STATEMENT])


def _pieces(wanted: Wanted, axes: dict[int, IntArray]) -> Iterator[NumberedPiece]:
    """Cut to the time range; blocks in order of time, none missing, are one piece without a copy."""
    blocks = wanted.blocks
    in_order = all(before.t1_ms < after.t0_ms for before, after in pairwise(blocks))
    if in_order and all(block.id in axes for block in blocks):
        yield blocks[-1].id, _cut(np.concatenate([axes[block.id] for block in blocks]), wanted.values, wanted)
        return
    offset = 0
    for block in blocks:
        if block.id in axes:
            yield block.id, _cut(axes[block.id], wanted.values[:, offset : offset + block.n], wanted)
        offset += block.n


def _cut(t_ms: IntArray, values: FloatArray, wanted: Wanted) -> Piece:
    low, high = np.searchsorted(t_ms, [wanted.t0_ms, wanted.t1_ms + 1]).tolist()
    return t_ms[low:high], values[:, low:high]
