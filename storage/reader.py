"""Reader: one view over the live ring, unsealed frames, ingested samples and sealed chunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.archive import Archive
from storage.blocks import Blocks
from storage.chunks import ChunkReader, Wanted
from storage.groups import Group, Groups
from storage.ingest import Ingest
from storage.layouts import Layouts
from storage.matching import MatcherLike, SeriesIndex
from storage.merge import Piece, merge
from storage.ring import NEVER_MS
from storage.rollups import RollupData, RollupReader

EVER = (NEVER_MS, -NEVER_MS)


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

    def blocks(self, t0_ms: int, t1_ms: int) -> list[Block]:
        """Return the samples with t0 <= t <= t1; series without any may be missing.

        Needs neither database nor locks where the ring reaches back to t0.
        """
        out: list[Block] = []
        rest: list[Group] = []
        for group in self._resolved():
            if group.ring is not None and group.ring.covers(t0_ms):
                times, values = group.ring.window(group.rows, t0_ms, t1_ms)
                if len(times) and group.ring.covers(t0_ms):
                    out.append(Block(group.series, times, values))
                    continue
                if len(times) == 0:
                    continue
            rest.append(group)
        return out + self._reader.load(rest, t0_ms, t1_ms) if rest else out

    def last(self, t0_ms: int, t1_ms: int) -> list[Block]:
        """Return of each series the newest sample with t0 <= t <= t1, as blocks of one column."""
        out: list[Block] = []
        rest: list[Group] = []
        for group in self._resolved():
            newest = None if group.ring is None else group.ring.newest
            if newest is not None and t0_ms <= newest.t_ms <= t1_ms:
                out.append(Block(group.series, newest.times, newest.values[group.rows][:, None]))
            else:
                rest.append(group)
        if rest:
            blocks = self._reader.load(rest, t0_ms, t1_ms)
            out += [Block(block.series, block.t_ms[-1:], block.values[:, -1:]) for block in blocks]
        return out

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
    set back, a sample sent again) the later one counts. Recent samples of fast collectors are as
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
    ) -> None:
        self._index = index
        self._layouts = layouts
        self._groups = groups
        self._archive = archive
        self._ingest = ingest
        self._blocks = blocks
        self._chunks = chunks
        self._rollups = rollups

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
        return [self._index.series(series_id) for series_id in found]

    def label_names(self, matchers: Sequence[MatcherLike] = ()) -> list[str]:
        """Return the names of all labels, or of those of matching series, sorted."""
        return self._index.label_names(self._index.match(matchers) if matchers else None)

    def label_values(self, name: str, matchers: Sequence[MatcherLike] = ()) -> list[str]:
        """Return the values of one label, or of matching series', sorted."""
        return self._index.label_values(name, self._index.match(matchers) if matchers else None)

    def rollup(self, matchers: Sequence[MatcherLike], t0_ms: int, t1_ms: int) -> list[RollupData]:
        """Return minutes (min, max, sum, count, last) instead of samples: years long, where samples end after 30 days.

        What is not rolled up yet is computed from its samples, so that the view is whole.
        """
        ids = self._index.match(matchers)
        return self._rollups.read(ids, t0_ms, t1_ms, self._unrolled)

    def load(self, groups: Sequence[Group], t0_ms: int, t1_ms: int) -> list[Block]:
        """Read groups from all places; see Cursor.blocks."""
        out: list[Block] = []
        held = [self._in_memory(group, t0_ms, t1_ms) for group in groups]
        sealed = self._sealed(groups, [cut for _, _, cut in held], t0_ms)
        for group, (memory, ingested, _), pieces in zip(groups, held, sealed, strict=True):
            t_ms, values = merge([*pieces, *memory], len(group.series))
            out += self._with_ingested(group, t_ms, values, ingested)
        return _regrouped(out) if any(group.ingested for group in groups) else out

    def _in_memory(self, group: Group, t0_ms: int, t1_ms: int) -> tuple[list[Piece], dict[int, list[Piece]], int]:
        """Return pieces of tails and rings, ingested pieces by row, and until when older places are to be asked.

        Rings first, then tails, then blocks: samples move the other way, so none is missed.
        """
        rings = [source.ring.window(rows, t0_ms, t1_ms) for source, rows in group.rings]
        cut = t1_ms
        if group.ring is not None and len(group.rings) == 1 and group.ring.shadow_ms < group.ring.oldest_ms:
            cut = min(t1_ms, group.ring.oldest_ms - 1)  # what is younger is in the ring
        ingested = self._ingest.windows(group.ids, t0_ms, t1_ms) if group.ingested else {}
        tails = [
            (tail.block_id, tail.window(rows, t0_ms, cut))
            for layout, rows in group.layouts
            for tail in self._archive.tails(layout.id)
        ]
        return [piece for _, piece in sorted(tails, key=lambda one: one[0])] + rings, ingested, cut

    def _sealed(self, groups: Sequence[Group], cuts: Sequence[int], t0_ms: int) -> list[list[Piece]]:
        owners: list[int] = []
        wanted: list[Wanted] = []
        samples = 0
        plans = []
        for position, (group, cut) in enumerate(zip(groups, cuts, strict=True)):
            for layout, _ in group.layouts:
                blocks = self._blocks.overlapping(layout.id, t0_ms, cut)
                if blocks:
                    samples += len(group.ids) * sum(block.n for block in blocks)
                    plans.append((position, group.ids, blocks))
        self._chunks.check_size(samples)
        for position, ids, blocks in plans:
            owners.append(position)
            wanted.append(Wanted.of(ids, blocks))
        pieces: list[list[Piece]] = [[] for _ in groups]
        for one, owner, found in zip(
            wanted, owners, self._chunks.read(wanted, t0_ms, max(cuts, default=t0_ms)), strict=True
        ):
            pieces[owner].extend(found)
            del one
        return pieces

    def _with_ingested(
        self, group: Group, t_ms: IntArray, values: FloatArray, ingested: dict[int, list[Piece]]
    ) -> list[Block]:
        if not ingested:
            return [Block(group.series, t_ms, values)] if len(t_ms) else []
        out = []
        for row, series in enumerate(group.series):
            own = merge([(t_ms, values[row : row + 1]), *ingested.get(row, [])], 1)
            if len(own[0]):
                out.append(Block((series,), *own))
        return out

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

    def _unrolled(self, series_ids: Sequence[int], t0_ms: int, t1_ms: int) -> list[Block]:
        """Samples that no rollup holds yet."""
        return self.load(self._groups.make(series_ids, unrolled=True), t0_ms, t1_ms)


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
