"""Chunks: reads sealed values back, for many series and blocks in few statements."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray
from storage.blocks import ID_BITS, Block
from storage.cache import Cache
from storage.columns import PACKED, decode_into, decode_times
from storage.database import Database
from storage.decoding import Decoders, Decoding, Task
from storage.layouts import Layouts
from storage.merge import Piece
from storage.minutes import Part
from storage.packs import count, unpack_into
from storage.stale import STALE_NAN

_KEYS_PER_STATEMENT = 20_000
_POSITION = (1 << ID_BITS) - 1
_ALL_OF_IT = 4
"""Where at least one column in so many is wanted between the first and the last one, all between them are read."""
_SCRATCH = 1 << 16
"""Samples (half a megabyte) that are decoded at once where few of them are kept."""
_THIN = 4
"""Where at least so many samples come on a step, only those that a step sees are kept."""
_OF_IDS = "WHERE id IN (SELECT value FROM json_each(?))"
_PACKS_BETWEEN = (
    "SELECT id, data FROM chunk WHERE id >= coalesce((SELECT max(id) FROM chunk WHERE id BETWEEN ? AND ?), ?) "
    "AND id <= ? ORDER BY id"
)
_PACKS_AT = (
    "SELECT k.value, c.id & 4294967295, c.data FROM json_each(?) AS k JOIN chunk AS c "
    "ON c.id = (SELECT max(id) FROM chunk WHERE id <= k.value) WHERE c.id >> 32 = k.value >> 32"
)


@dataclass(frozen=True, slots=True)
class Steps:
    """Instants ..., at, at + every, ..., at each of which only the newest sample at or before it is asked for."""

    at_ms: int
    every_ms: int

    def thins(self, blocks: Sequence[Block]) -> bool:
        """Whether most samples of the blocks are seen by no step."""
        steps = sum((block.t1_ms - block.t0_ms) // self.every_ms + 2 for block in blocks)
        return steps * _THIN <= sum(block.n for block in blocks)

    def seen(self, t_ms: IntArray) -> IntArray:
        """Positions of the samples that some step sees, int64 ascending; t_ms int64 [n >= 1] ascending.

        Steps go on beyond the question's, so that the next question (a page that moves on) finds the same.
        """
        first = int(t_ms[0]) + (self.at_ms - int(t_ms[0])) % self.every_ms
        steps = np.arange(first, int(t_ms[-1]) + self.every_ms, self.every_ms)
        return np.unique(np.searchsorted(t_ms, steps, side="right") - 1)


@dataclass(frozen=True, eq=False, slots=True)
class Wanted:
    """Some series of some blocks of one layout, t0 <= t <= t1.

    steps: where given, samples that none of them sees may be missing.
    """

    series_ids: IntArray
    blocks: Sequence[Block]
    t0_ms: int
    t1_ms: int
    steps: Steps | None = None
    absent: list[int] = field(default_factory=list)
    """Set by the reader: blocks that were deleted meanwhile."""

    def key(self, version: int) -> tuple[object, ...]:
        """What this is kept under; the same for a question whose steps are the same ones, moved on."""
        if self.steps is None:
            return (version, self.series_ids.tobytes(), *(block.id for block in self.blocks))
        grid = (self.steps.at_ms % self.steps.every_ms, self.steps.every_ms)
        return (version, grid, self.series_ids.tobytes(), *(block.id for block in self.blocks))


NumberedPiece = tuple[int, Piece]
"""The id of the (last written) block that a piece comes from: the order of writing; and the piece."""


@dataclass(frozen=True, eq=False, slots=True)
class _Axis:
    t_ms: IntArray
    packed: bool


@dataclass(frozen=True, eq=False, slots=True)
class _Room:
    """Where one block's samples go: columns offset .. of the values; kept: which samples, None for all."""

    block: Block
    offset: int
    n: int
    kept: IntArray | None

    def of(self, out: FloatArray, row: int) -> FloatArray:
        place: FloatArray = out[row, self.offset : self.offset + self.n]
        return place


class ChunkReader:
    """Decodes chunks straight into their place, in several threads where it is much. Thread-safe.

    Blocks never change, so what was decoded is kept, and a question that is asked again (a page that
    refreshes) gets views of the same arrays: they are read-only.
    """

    def __init__(
        self,
        database: Database,
        layouts: Layouts,
        axis_bytes: int,
        column_bytes: int,
        max_samples: int,
        helpers: int | None = None,
    ) -> None:
        self._database = database
        self._layouts = layouts
        self._axes: Cache[_Axis] = Cache(axis_bytes)
        self.columns: Cache[list[NumberedPiece]] = Cache(column_bytes // 2)
        self.minutes: Cache[list[Part]] = Cache(column_bytes - column_bytes // 2)
        self._max_samples = max_samples
        self.version = 0
        """Grows when blocks were rewritten: part of the key of everything that is kept decoded."""
        self.decoders = Decoders(helpers)

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
        self.decoders.close()

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
        wanted = [self._thinned(one) for one in wanted]
        keys = [one.key(self.version) for one in wanted]
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

    def _thinned(self, one: Wanted) -> Wanted:
        """The same without its steps, where they would save nothing or all samples are kept decoded anyway."""
        if one.steps is None:
            return one
        whole = replace(one, steps=None)
        if one.steps.thins(one.blocks) and whole.key(self.version) not in self.columns:
            return one
        return whole

    def _load(self, cursor: Any, wanted: Sequence[Wanted]) -> list[list[NumberedPiece]]:
        axes = self._read_axes(cursor, {block.id for one in wanted for block in one.blocks})
        rooms = [_rooms(one, axes) for one in wanted]
        values = [
            np.empty((len(one.series_ids), sum(room.n for room in some)))
            for one, some in zip(wanted, rooms, strict=True)
        ]
        with self.decoders.begin() as work:
            for one, some, out in zip(wanted, rooms, values, strict=True):
                self._read_columns(cursor, one, some, out, axes, work)
        return [list(_pieces(one, some, out, axes)) for one, some, out in zip(wanted, rooms, values, strict=True)]

    def _read_axes(self, cursor: Any, block_ids: set[int]) -> dict[int, _Axis]:
        axes = {block_id: axis for block_id in block_ids if (axis := self._axes.get(block_id)) is not None}
        for keys in _statements(sorted(block_ids - set(axes))):
            for block_id, data in cursor.execute(f"SELECT id, times FROM block {_OF_IDS}", (keys,)):  # noqa: S608
                axes[block_id] = axis = _Axis(decode_times(data), data.startswith(PACKED))
                if axis.packed:  # an old block may be packed by the next rewrite
                    self._axes.put(block_id, axis, axis.t_ms.nbytes)
        return axes

    def _read_columns(
        self, cursor: Any, one: Wanted, rooms: Sequence[_Room], out: FloatArray, axes: dict[int, _Axis],
        work: Decoding,
    ) -> None:  # fmt: skip
        """Read the rows that hold what is wanted, and have them decoded."""
        position = self._layouts.get(one.blocks[0].layout_id).position
        ids = one.series_ids.tolist()
        columns = sorted((position[series_id], row) for row, series_id in enumerate(ids))
        whole = len(columns) * _ALL_OF_IT > columns[-1][0] - columns[0][0]
        picked: dict[int, _Room] = {}
        for room in rooms:
            axis = axes.get(room.block.id)
            if axis is None:
                continue
            if not axis.packed:
                _read_unpacked(cursor, room, ids, out, work)
            elif whole:
                if not _read_whole(cursor, room, columns, out, work):
                    del axes[room.block.id]
            else:
                picked.update({room.block.id << ID_BITS | column: room for column, _ in columns})
        for block_id in _read_picked(cursor, picked, dict(columns), out, work):
            axes.pop(block_id, None)


def _rooms(one: Wanted, axes: dict[int, _Axis]) -> list[_Room]:
    """Where the samples of each block go."""
    rooms, offset = [], 0
    for block in one.blocks:
        axis = axes.get(block.id)
        kept = None if one.steps is None or axis is None else one.steps.seen(axis.t_ms)
        rooms.append(_Room(block, offset, block.n if kept is None else len(kept), kept))
        offset += rooms[-1].n
    return rooms


_scratch = threading.local()


def _lent(columns: int, n: int) -> FloatArray:
    """float64 [columns, n] of this thread's own: memory it has had before costs a fraction of fresh one."""
    buffer: FloatArray | None = getattr(_scratch, "buffer", None)
    if buffer is None or len(buffer) < columns * n:
        _scratch.buffer = buffer = np.empty(max(columns * n, _SCRATCH))
    return buffer[: columns * n].reshape(columns, n)


def _fill(room: _Room, place: FloatArray, decode: Callable[[FloatArray], None]) -> None:
    """Decode a column into its place, by way of scratch memory where only some of it is kept."""
    if room.kept is None:
        decode(place)
        return
    (whole,) = _lent(1, room.block.n)
    decode(whole)
    whole.take(room.kept, out=place, mode="clip")


def _fill_of_pack(room: _Room, data: bytes, places: Sequence[tuple[int, FloatArray]]) -> None:
    """The same for columns of a pack."""
    if room.kept is None:
        unpack_into(data, places)
        return
    at_once = max(_SCRATCH // room.block.n, 1)
    for start in range(0, len(places), at_once):
        some = places[start : start + at_once]
        lent = _lent(len(some), room.block.n)
        unpack_into(data, [(number, whole) for (number, _), whole in zip(some, lent, strict=True)])
        for (_, place), whole in zip(some, lent, strict=True):
            whole.take(room.kept, out=place, mode="clip")


def _read_unpacked(cursor: Any, room: _Room, ids: list[int], out: FloatArray, work: Decoding) -> None:
    """Have a block from before there were packs decoded: one row per series, with its series id in the key."""
    base = room.block.id << ID_BITS
    rows = {base | series_id: row for row, series_id in enumerate(ids)}
    out[:, room.offset : room.offset + room.n] = STALE_NAN
    for keys in _statements(sorted(rows)):
        for key, last, data in cursor.execute(f"SELECT id, last, data FROM chunk {_OF_IDS}", (keys,)):  # noqa: S608
            place = room.of(out, rows[key])
            decode = partial(decode_into, last=last, data=data)
            work.add(Task(partial(_fill, room, place, decode), room.block.n))


def _read_whole(cursor: Any, room: _Room, columns: Sequence[tuple[int, int]], out: FloatArray, work: Decoding) -> bool:
    """Have many columns of a packed block decoded; False where it is not (any more) there."""
    base = room.block.id << ID_BITS
    low, high = base | columns[0][0], base | columns[-1][0]
    position = 0
    for key, data in cursor.execute(_PACKS_BETWEEN, (base, low, base, high)):
        first = key & _POSITION
        end = first + count(data)
        places: list[tuple[int, FloatArray]] = []
        while position < len(columns) and columns[position][0] < end:
            places.append((columns[position][0] - first, room.of(out, columns[position][1])))
            position += 1
        if places:
            work.add(Task(partial(_fill_of_pack, room, data, places), room.block.n * len(places)))
    return position == len(columns)


def _read_picked(
    cursor: Any,
    picked: dict[int, _Room],
    rows: dict[int, int],
    out: FloatArray,
    work: Decoding,
) -> set[int]:
    """Have columns of packed blocks decoded, each in the last pack that begins at or before its position.

    Returns the blocks that are not (any more) there.
    """
    absent = set(picked)
    for keys in _statements(sorted(picked)):
        for key, first, data in cursor.execute(_PACKS_AT, (keys,)):
            room = picked[key]
            position = key & _POSITION
            if position - first < count(data):
                place = [(position - first, room.of(out, rows[position]))]
                work.add(Task(partial(_fill_of_pack, room, data, place), room.block.n))
                absent.discard(key)
    return {key >> ID_BITS for key in absent}


def _statements(keys: list[int]) -> Iterator[str]:
    for start in range(0, len(keys), _KEYS_PER_STATEMENT):
        yield json.dumps(keys[start : start + _KEYS_PER_STATEMENT])


def _pieces(
    wanted: Wanted, rooms: Sequence[_Room], values: FloatArray, axes: dict[int, _Axis]
) -> Iterator[NumberedPiece]:
    """Blocks in order of time, none missing, are one piece without a copy."""
    values.setflags(write=False)
    in_order = all(before.t1_ms < after.t0_ms for before, after in pairwise(wanted.blocks))
    if in_order and all(block.id in axes for block in wanted.blocks):
        t_ms = np.concatenate([_times(room, axes) for room in rooms])
        t_ms.setflags(write=False)
        yield max(block.id for block in wanted.blocks), (t_ms, values)
        return
    for room in rooms:
        if room.block.id not in axes:
            wanted.absent.append(room.block.id)
        else:
            yield room.block.id, (_times(room, axes), values[:, room.offset : room.offset + room.n])


def _times(room: _Room, axes: dict[int, _Axis]) -> IntArray:
    t_ms = axes[room.block.id].t_ms
    return t_ms if room.kept is None else t_ms[room.kept]


def _cut(numbered: NumberedPiece, wanted: Wanted) -> NumberedPiece:
    number, (t_ms, values) = numbered
    low, high = np.searchsorted(t_ms, [wanted.t0_ms, wanted.t1_ms + 1]).tolist()
    return number, (t_ms[low:high], values[:, low:high])
