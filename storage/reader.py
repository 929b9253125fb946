"""Reader: one view over the live ring, unsealed frames, ingested samples and sealed chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.archive import Archive
from storage.blocks import Block as SealedHeader
from storage.blocks import Blocks, in_time
from storage.chunks import ChunkReader, NumberedPiece, Steps, Wanted
from storage.groups import Group, Groups
from storage.ingest import Ingest
from storage.layouts import Layouts
from storage.matching import MatcherLike, SeriesIndex
from storage.merge import Piece, merge
from storage.minutes import COUNT, EVERY, MINUTE_MS, MinuteBlock, Part, join, minutes
from storage.ring import NEVER_MS
from storage.rollups import RollupData, RollupReader

EVER = (NEVER_MS, -NEVER_MS)
_ATTEMPTS = 5


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    """What memory holds of a group: pieces in the order of writing, ingested ones by row, and until when to ask further."""

    pieces: list[Piece]
    ingested: dict[int, list[Piece]]
    until_ms: int


@dataclass(frozen=True, eq=False, slots=True)
class SeriesData:
    """One series: t_ms int64 [n] strictly ascending, values float64 [n]; stale markers included."""

    series: Series
    t_ms: IntArray
    values: FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """Series that share their times: t_ms int64 [n] strictly ascending, values float64 [series, n].

    `series` is the same tuple as long as the set of series has not changed.
    """

    series: tuple[Series, ...]
    t_ms: IntArray
    values: FloatArray


class Cursor:
    """The series that match one selector, looked up again only when the set of series has changed.

    For one thread at a time; any number of cursors may be used beside the writer.
    """

    def __init__(self, reader: Reader, index: SeriesIndex, groups: Groups, matchers: Sequence[MatcherLike]) -> None:
        self._reader = reader
        self._index = index
        self._grouping = groups
        self._matchers = tuple(matchers)
        self._generation = -1
        self._groups: list[Group] = []

    def blocks(self, t0_ms: int, t1_ms: int, steps_ms: tuple[int, int] | None = None) -> list[Block]:
        """Return the samples with t0 <= t <= t1; series without any may be missing.

        steps_ms: (first, every), for a question at steps: samples that are not the newest ones at or before one
        of them may be missing. Needs neither database nor locks where the ring reaches back to t0.
        """
        out: list[Block] = []
        rest: list[Group] = []
        for group in self._resolved():
            ring = group.ring
            if ring is None or not ring.covers(t0_ms):
                rest.append(group)
                continue
            times, values = ring.window(group.rows, t0_ms, t1_ms)
            if not ring.covers(t0_ms):  # the writer came round meanwhile
                rest.append(group)
            elif len(times):
                out.append(Block(group.series, times, values))
        steps = None if steps_ms is None else Steps(*steps_ms)
        return out + self._reader.load(rest, t0_ms, t1_ms, steps=steps) if rest else out

    def last(self, t0_ms: int, t1_ms: int) -> list[Block]:
        """Return of each series the newest sample with t0 <= t <= t1, as blocks of one column."""
        out: list[Block] = []
        rest: list[Group] = []
        for group in self._resolved():
            ring = group.ring
            newest = None if ring is None else ring.newest
            if ring is None or newest is None:
                rest.append(group)
            elif t0_ms <= newest.t_ms <= t1_ms:
                out.append(Block(group.series, newest.times, newest.values[group.rows][:, None]))
            elif ring.covers(t0_ms):
                times, values = ring.last(group.rows, t0_ms, t1_ms)
                if len(times):
                    out.append(Block(group.series, times, values))
            else:
                rest.append(group)
        if rest:
            blocks = self._reader.load(rest, t0_ms, t1_ms)
            out += [Block(block.series, block.t_ms[-1:], block.values[:, -1:]) for block in blocks]
        return out

    def minutes(self, t0_ms: int, t1_ms: int, wanted: Sequence[int] = EVERY) -> list[MinuteBlock]:
        """Return the minutes that start in t0..t1, up to now: years long, where samples end after some days.

        What is not rolled up yet is computed from its samples; the running minute is not whole. wanted: which
        columns are needed besides COUNT; the others hold anything, and cost nothing.
        """
        return self._reader.load_minutes(self._resolved(), t0_ms, t1_ms, sorted({COUNT, *wanted}))

    def series(self) -> list[Series]:
        """The series that match, whether they have samples or not."""
        return [series for group in self._resolved() for series in group.series]

    def _resolved(self) -> list[Group]:
        generation = self._index.generation.value
        if generation != self._generation:
            self._groups = self._grouping.make(self._index.match(self._matchers))
            self._generation = generation
        return self._groups


class Reader:
    """Answers what was measured. Thread-safe.

    Samples come sorted by time, each instant once; where an instant was written twice (a clock
    set back, a sample sent again) the later one counts, as long as both came in the same schema. Recent samples of fast collectors are as
    fine as they came, older ones one a second.
    """

    def __init__(
        self,
        index: SeriesIndex,
        layouts: Layouts,
        groups: Groups,
        archive: Archive,
        ingest: Ingest,
        blocks: Blocks,
        chunks: ChunkReader,
        rollups: RollupReader,
        raw_since_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._index = index
        self._layouts = layouts
        self._groups = groups
        self._archive = archive
        self._ingest = ingest
        self._blocks = blocks
        self._chunks = chunks
        self._rollups = rollups
        self.raw_since_ms = raw_since_ms
        """From when on every sample is there; older ones may be minutes only. None: nothing was deleted."""

    def cursor(self, matchers: Sequence[MatcherLike]) -> Cursor:
        """Return a cursor; raises DeskvigilError at the first use for a wrong regular expression."""
        return Cursor(self, self._index, self._groups, matchers)

    def select(self, matchers: Sequence[MatcherLike], t0_ms: int, t1_ms: int) -> list[SeriesData]:
        """Return every matching series with samples in t0 <= t <= t1.

        matchers: (name, op, value) with op one of =, !=, =~, !~. Series with the same times share
        the array. Raises DeskvigilError where the read would be too large, StorageUnavailable
        where the database cannot be read.
        """
        return [
            SeriesData(series, block.t_ms, values)
            for block in self.cursor(matchers).blocks(t0_ms, t1_ms)
            for series, values in zip(block.series, block.values, strict=True)
        ]

    def series(
        self, matchers: Sequence[MatcherLike] = (), t0_ms: int | None = None, t1_ms: int | None = None
    ) -> list[Series]:
        """Return the matching series, of a time range those whose blocks touch it."""
        found = self._index.match(matchers)
        if t0_ms is not None or t1_ms is not None:
            since, until = EVER[0] if t0_ms is None else t0_ms, EVER[1] if t1_ms is None else t1_ms
            found = [series_id for series_id in found if self._has_data(series_id, since, until)]
        return list(self._index.series(found).values())

    def label_names(self, matchers: Sequence[MatcherLike] = ()) -> list[str]:
        """Return the names of all labels, or of those of matching series, sorted."""
        return self._index.label_names(self._index.match(matchers) if matchers else None)

    def label_values(self, name: str, matchers: Sequence[MatcherLike] = ()) -> list[str]:
        """Return the values of one label, or of matching series', sorted."""
        return self._index.label_values(name, self._index.match(matchers) if matchers else None)

    def rollup(self, matchers: Sequence[MatcherLike], t0_ms: int, t1_ms: int) -> list[RollupData]:
        """Return Cursor.minutes series by series, each without the minutes in which it has no sample."""
        out = []
        for block in self.cursor(matchers).minutes(t0_ms, t1_ms):
            for row, series in enumerate(block.series):
                held = block.columns[COUNT, row] > 0
                if held.any():
                    out.append(RollupData(series, block.t_ms[held], *block.columns[:, row, held]))
        return out

    def load_minutes(
        self, groups: Sequence[Group], t0_ms: int, t1_ms: int, wanted: Sequence[int] = EVERY
    ) -> list[MinuteBlock]:
        """Read groups by minutes; see Cursor.minutes."""
        first, last = -(-t0_ms // MINUTE_MS) * MINUTE_MS, t1_ms // MINUTE_MS * MINUTE_MS
        out: list[MinuteBlock] = []
        for group in groups:
            t_ms, columns = self._group_minutes(group, first, last, wanted)
            if len(t_ms):
                out.append(MinuteBlock(group.series, t_ms, columns))
        return out

    def _group_minutes(
        self, group: Group, first_ms: int, last_ms: int, wanted: Sequence[int]
    ) -> tuple[IntArray, FloatArray]:
        rows = {series: row for row, series in enumerate(group.series)}
        for _ in range(_ATTEMPTS):
            version = self._rollups.version
            fresh = []
            for block in self.load([group], first_ms, last_ms + MINUTE_MS - 1, unrolled=True):
                place = np.array([rows[series] for series in block.series], np.int64)
                fresh.append(Part(place, *minutes(block.t_ms, block.values)))
            parts = [
                part
                for layout, _ in group.layouts
                for part in self._rollups.parts(layout.id, group.ids, first_ms, last_ms, wanted)
            ]
            if self._rollups.version == version:  # else a rollup was written meanwhile, and samples may be in twice
                break
        return join([*parts, *fresh], len(group.series), wanted)

    def load(
        self, groups: Sequence[Group], t0_ms: int, t1_ms: int, *, unrolled: bool = False, steps: Steps | None = None
    ) -> list[Block]:
        """Read groups from all places (see Cursor.blocks), or only what is stored and in no rollup yet."""
        held = [self._in_memory(group, t0_ms, t1_ms, rings=not unrolled) for group in groups]
        sealed = self._sealed(groups, t0_ms, [one.until_ms for one in held], unrolled, steps)
        out: list[Block] = []
        for group, one, pieces in zip(groups, held, sealed, strict=True):
            out += _with_ingested(group, merge([*pieces, *one.pieces], len(group.series)), one.ingested)
        return _regrouped(out) if any(group.ingested for group in groups) else out

    def _in_memory(self, group: Group, t0_ms: int, t1_ms: int, rings: bool) -> _Held:
        """Rings first, then tails, then (by the caller) blocks: samples move that way, so none is missed."""
        newest = [source.ring.window(rows, t0_ms, t1_ms) for source, rows in group.rings] if rings else []
        until_ms = t1_ms
        ring = group.ring
        if rings and ring is not None and len(group.rings) == 1 and ring.shadow_ms < ring.oldest_ms:
            until_ms = min(t1_ms, ring.oldest_ms - 1)
        ingested = self._ingest.windows(group.ids, t0_ms, t1_ms) if group.ingested else {}
        tails = [
            (tail.block_id, tail.window(rows, t0_ms, until_ms))
            for layout, rows in group.layouts
            for tail in self._archive.tails(layout.id)
        ]
        tails.sort(key=lambda one: one[0])
        return _Held([piece for _, piece in tails] + newest, ingested, until_ms)

    def _sealed(
        self, groups: Sequence[Group], t0_ms: int, until_ms: Sequence[int], unrolled: bool, steps: Steps | None
    ) -> list[list[Piece]]:
        """Return each group's pieces from chunks, in the order of writing.

        Where blocks were deleted while they were read, others may have taken their place: look again.
        """
        for _ in range(_ATTEMPTS):
            pieces, absent = self._sealed_now(groups, t0_ms, until_ms, unrolled, steps)
            if not absent:
                break
            with self._blocks.publication:
                pass  # whoever deleted them has put the others in
        return pieces

    def _sealed_now(
        self, groups: Sequence[Group], t0_ms: int, until_ms: Sequence[int], unrolled: bool, steps: Steps | None
    ) -> tuple[list[list[Piece]], bool]:
        plans: list[tuple[int, Sequence[SealedHeader]]] = []
        for position, (group, until) in enumerate(zip(groups, until_ms, strict=True)):
            for layout, _ in group.layouts:
                blocks = self._blocks.overlapping(layout.id, t0_ms, until)
                if unrolled:
                    blocks = [block for block in blocks if not block.rolled]
                if blocks:
                    plans.append((position, in_time(blocks)))
        self._chunks.check_size(sum(len(groups[i].ids) * sum(b.n for b in blocks) for i, blocks in plans))
        wanted = [Wanted(groups[i].ids, blocks, t0_ms, until_ms[i], steps) for i, blocks in plans]
        numbered: list[list[NumberedPiece]] = [[] for _ in groups]
        for (position, _), found in zip(plans, self._chunks.read(wanted), strict=True):
            numbered[position] += found
        absent = any(one.absent for one in wanted)
        return [[piece for _, piece in sorted(found, key=lambda one: one[0])] for found in numbered], absent

    def _has_data(self, series_id: int, t0_ms: int, t1_ms: int) -> bool:
        for columns, row in self._groups.live.of_series(series_id):
            if len(columns.ring.window(slice(row, row + 1), t0_ms, t1_ms)[0]):
                return True
        for layout in self._layouts.of_series(series_id):
            if any(tail.t0_ms <= t1_ms and tail.t1_ms >= t0_ms for tail in self._archive.tails(layout.id)):
                return True
            if self._blocks.overlapping(layout.id, t0_ms, t1_ms):
                return True
        return bool(self._ingest.windows(np.array([series_id], np.int64), t0_ms, t1_ms))


def _with_ingested(group: Group, whole: Piece, ingested: dict[int, list[Piece]]) -> list[Block]:
    """Add unsealed ingested samples, which come for each series at its own times."""
    if not ingested:
        return [Block(group.series, *whole)] if len(whole[0]) else []
    out = []
    for row, series in enumerate(group.series):
        own = merge([(whole[0], whole[1][row : row + 1]), *ingested.get(row, [])], 1)
        if len(own[0]):
            out.append(Block((series,), *own))
    return out


def _regrouped(blocks: Iterable[Block]) -> list[Block]:
    """Put series with the same times together again."""
    groups: dict[bytes, list[Block]] = {}
    for block in blocks:
        groups.setdefault(block.t_ms.tobytes(), []).append(block)
    return [
        some[0]
        if len(some) == 1
        else Block(
            tuple(series for block in some for series in block.series),
            some[0].t_ms,
            np.concatenate([block.values for block in some]),
        )
        for some in groups.values()
    ]
