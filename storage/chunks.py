"""Chunks: reads sealed values back, for many series and blocks in few statements."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray
from storage.blocks import ID_BITS, Block
from storage.cache import Cache
from storage.columns import PACKED, decode_into, decode_times
from storage.database import Database
from storage.layouts import Layouts
from storage.merge import Piece
from storage.minutes import Part
from storage.packs import count, unpack_into
from storage.stale import STALE_NAN

_KEYS_PER_STATEMENT = 20_000
_POSITION = (1 << ID_BITS) - 1
_ALL_OF_IT = 4
"""Where at least one column in so many is wanted between the first and the last one, all between them are read."""
_WORTH_A_THREAD = 250_000
_OF_IDS = "WHERE id IN (SELECT value FROM json_each(?))"
_PACKS_BETWEEN = (
    "SELECT id, data FROM chunk WHERE id >= coalesce((SELECT max(id) FROM chunk WHERE id BETWEEN ? AND ?), ?) "
    "AND id <= ? ORDER BY id"
)
_PACKS_AT = (
    "SELECT k.value, c.id & 4294967295, c.data FROM json_each(?) AS k JOIN chunk AS c "
    "ON c.id = (SELECT max(id) FROM chunk WHERE id <= k.value) WHERE c.id >> 32 = k.value >> 32"
)


@dataclass(frozen=True, eq=False, slots=True)
class Wanted:
    """Some series of some blocks of one layout, t0 <= t <= t1."""

    series_ids: IntArray
    blocks: Sequence[Block]
    t0_ms: int
    t1_ms: int
    absent: list[int] = field(default_factory=list)
    """Set by the reader: blocks that were deleted meanwhile."""

    @property
    def samples(self) -> int:
        return len(self.series_ids) * sum(block.n for block in self.blocks)


NumberedPiece = tuple[int, Piece]
"""The id of the (last written) block that a piece comes from: the order of writing; and the piece."""


@dataclass(frozen=True, eq=False, slots=True)
class _Axis:
    t_ms: IntArray
    packed: bool


@dataclass(frozen=True, slots=True)
class Task:
    """Decoding of one row: fills some float64 views; `samples` says how long it takes."""

    run: Callable[[], None]
    samples: int


class ChunkReader:
    """Decodes chunks straight into their place, in several threads where it is much. Thread-safe.

    Blocks never change, so what was decoded is kept, and a question that is asked again (a page that
    refreshes) gets views of the same arrays: they are read-only.
    """

    def __init__(
        self, database: Database, layouts: Layouts, axis_bytes: int, column_bytes: int, max_samples: int
    ) -> None:
        self._database = database
        self._layouts = layouts
        self._axes: Cache[_Axis] = Cache(axis_bytes)
        self.columns: Cache[list[NumberedPiece]] = Cache(column_bytes // 2)
        self.minutes: Cache[list[Part]] = Cache(column_bytes - column_bytes // 2)
        self._max_samples = max_samples
        self.version = 0
        """Grows when blocks were rewritten: part of the key of everything that is kept decoded."""
        self._threads = min(os.cpu_count() or 1, 4)
        self._pool = ThreadPoolExecutor(self._threads, "storage-decode")

    @property
    def bytes(self) -> int:
        """Memory of what is kept decoded."""
        return self._axes.bytes + self.columns.bytes + self.minutes.bytes

    def forget(self) -> None:
        """Drop everything that is kept decoded; what a reader decodes meanwhile from before is not kept either."""
        self.version += 1
        self._axes.clear()
        self.columns.clear()
        self.minutes.clear()

    def close(self) -> None:
        self._pool.shutdown()

    def check_size(self, samples: int) -> None:
        """Raise DeskvigilError where a read would load more than it may."""
        if samples > self._max_samples:
            raise DeskvigilError(
                f"this would read {samples:,} samples, more than storage.select_max_samples = {self._max_samples:,}: "
                "take a shorter time range or fewer series"
            )

    def read(self, wanted: Sequence[Wanted], *, keep: bool = True) -> list[list[NumberedPiece]]:
        """Return for each of `wanted` its pieces; keep=False for what will not be asked for again.

        A block that retention has deleted meanwhile is left out.
        """
        if not wanted:
            return []
        keys = [(self.version, one.series_ids.tobytes(), *(block.id for block in one.blocks)) for one in wanted]
        found = [self.columns.get(key) for key in keys]
        missing = [i for i, pieces in enumerate(found) if pieces is None]
        if missing:
            with self._database.read() as connection, connection.begin():  # one snapshot for all statements
                cursor: Any = connection.connection.cursor()
                try:
                    loaded = self._load(cursor, [wanted[i] for i in missing])
                finally:
                    cursor.close()
            for i, pieces in zip(missing, loaded, strict=True):
                found[i] = pieces
                if keep and not wanted[i].absent:
                    self.columns.put(keys[i], pieces, sum(t.nbytes + v.nbytes for _, (t, v) in pieces))
        return [[_cut(piece, one) for piece in pieces or []] for one, pieces in zip(wanted, found, strict=True)]

    def _load(self, cursor: Any, wanted: Sequence[Wanted]) -> list[list[NumberedPiece]]:
        axes = self._read_axes(cursor, {block.id for one in wanted for block in one.blocks})
        values = [np.empty((len(one.series_ids), sum(block.n for block in one.blocks))) for one in wanted]
        tasks: list[Task] = []
        for one, out in zip(wanted, values, strict=True):
            self._plan(cursor, one, out, axes, tasks)
        self.decode(tasks)
        return [list(_pieces(one, out, axes)) for one, out in zip(wanted, values, strict=True)]

    def _read_axes(self, cursor: Any, block_ids: set[int]) -> dict[int, _Axis]:
        axes = {block_id: axis for block_id in block_ids if (axis := self._axes.get(block_id)) is not None}
        for keys in _statements(sorted(block_ids - set(axes))):
            for block_id, data in cursor.execute(f"SELECT id, times FROM block {_OF_IDS}", (keys,)):  # noqa: S608
                axes[block_id] = axis = _Axis(decode_times(data), data.startswith(PACKED))
                if axis.packed:  # an old block may be packed by the next rewrite
                    self._axes.put(block_id, axis, axis.t_ms.nbytes)
        return axes

    def _plan(self, cursor: Any, one: Wanted, out: FloatArray, axes: dict[int, _Axis], tasks: list[Task]) -> None:
        """Read the rows that hold what is wanted, and add their decoding to `tasks`."""
        position = self._layouts.get(one.blocks[0].layout_id).position
        ids = one.series_ids.tolist()
        columns = sorted((position[series_id], row) for row, series_id in enumerate(ids))
        whole = len(columns) * _ALL_OF_IT > columns[-1][0] - columns[0][0]
        picked: dict[int, tuple[Block, int]] = {}
        offset = 0
        for block in one.blocks:
            axis = axes.get(block.id)
            if axis is None:
                pass
            elif not axis.packed:
                self._plan_unpacked(cursor, block, ids, out[:, offset : offset + block.n], tasks)
            elif whole:
                if not _plan_whole(cursor, block, columns, out[:, offset : offset + block.n], tasks):
                    del axes[block.id]
            else:
                picked.update({block.id << ID_BITS | column: (block, offset) for column, _ in columns})
            offset += block.n
        for block_id in _plan_picked(cursor, picked, dict(columns), out, tasks):
            axes.pop(block_id, None)

    def _plan_unpacked(self, cursor: Any, block: Block, ids: list[int], out: FloatArray, tasks: list[Task]) -> None:
        """A block from before there were packs: one row per series, with its series id in the key."""
        base = block.id << ID_BITS
        rows = {base | series_id: row for row, series_id in enumerate(ids)}
        out.fill(STALE_NAN)
        for keys in _statements(sorted(rows)):
            for key, last, data in cursor.execute(f"SELECT id, last, data FROM chunk {_OF_IDS}", (keys,)):  # noqa: S608
                place = out[rows[key]]
                tasks.append(Task(lambda p=place, x=last, d=data: decode_into(p, x, d), block.n))  # type: ignore[misc]

    def decode(self, tasks: Sequence[Task]) -> None:
        """Run tasks, in several threads where it is worth it: pcodec lets go of the interpreter's lock."""
        shares = min(self._threads, 1 + sum(task.samples for task in tasks) // _WORTH_A_THREAD)
        if shares == 1:
            _run_all(tasks)
            return
        # One queue for all, as tasks take unequal times; the caller's thread works too: it would only wait.
        waiting = deque(tasks)
        others = [self._pool.submit(_run_waiting, waiting) for _ in range(1, shares)]
        try:
            _run_waiting(waiting)
        finally:
            for other in others:
                other.result()


def _run_all(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.run()


def _run_waiting(waiting: deque[Task]) -> None:
    while True:
        try:
            task = waiting.popleft()
        except IndexError:  # somebody has taken the last one
            return
        task.run()


def _plan_whole(
    cursor: Any, block: Block, columns: Sequence[tuple[int, int]], out: FloatArray, tasks: list[Task]
) -> bool:
    """Plan to decode many columns of a packed block; False where it is not (any more) there."""
    base = block.id << ID_BITS
    low, high = base | columns[0][0], base | columns[-1][0]
    position = 0
    for key, data in cursor.execute(_PACKS_BETWEEN, (base, low, base, high)):
        first = key & _POSITION
        end = first + count(data)
        places: list[tuple[int, FloatArray]] = []
        while position < len(columns) and columns[position][0] < end:
            places.append((columns[position][0] - first, out[columns[position][1]]))
            position += 1
        if places:
            tasks.append(Task(lambda d=data, p=places: unpack_into(d, p), block.n * len(places)))  # type: ignore[misc]
    return position == len(columns)


def _plan_picked(
    cursor: Any,
    picked: dict[int, tuple[Block, int]],
    rows: dict[int, int],
    out: FloatArray,
    tasks: list[Task],
) -> set[int]:
    """Plan to decode columns of packed blocks, each in the last pack that begins at or before its position.

    Returns the blocks that are not (any more) there.
    """
    absent = set(picked)
    for keys in _statements(sorted(picked)):
        for key, first, data in cursor.execute(_PACKS_AT, (keys,)):
            block, offset = picked[key]
            position = key & _POSITION
            if position - first < count(data):
                place = [(position - first, out[rows[position], offset : offset + block.n])]
                tasks.append(Task(lambda d=data, p=place: unpack_into(d, p), block.n))  # type: ignore[misc]
                absent.discard(key)
    return {key >> ID_BITS for key in absent}


def _statements(keys: list[int]) -> Iterator[str]:
    for start in range(0, len(keys), _KEYS_PER_STATEMENT):
        yield json.dumps(keys[start : start + _KEYS_PER_STATEMENT])


def _pieces(wanted: Wanted, values: FloatArray, axes: dict[int, _Axis]) -> Iterator[NumberedPiece]:
    """Blocks in order of time, none missing, are one piece without a copy."""
    blocks = wanted.blocks
    values.setflags(write=False)
    in_order = all(before.t1_ms < after.t0_ms for before, after in pairwise(blocks))
    if in_order and all(block.id in axes for block in blocks):
        t_ms = np.concatenate([axes[block.id].t_ms for block in blocks])
        t_ms.setflags(write=False)
        yield max(block.id for block in blocks), (t_ms, values)
        return
    offset = 0
    for block in blocks:
        if block.id not in axes:
            wanted.absent.append(block.id)
        else:
            yield block.id, (axes[block.id].t_ms, values[:, offset : offset + block.n])
        offset += block.n


def _cut(numbered: NumberedPiece, wanted: Wanted) -> NumberedPiece:
    number, (t_ms, values) = numbered
    low, high = np.searchsorted(t_ms, [wanted.t0_ms, wanted.t1_ms + 1]).tolist()
    return number, (t_ms[low:high], values[:, low:high])
