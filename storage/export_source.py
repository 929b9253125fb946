"""Samples of a snapshot in the order of files: series by series, each from its first sample to its last, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from metrics.series import Series
from storage.export import NAME, ColumnBlock
from storage.matching import MatcherLike
from storage.reader import Block
from storage.snapshot import Snapshot

SAMPLES_AT_ONCE = 4_000_000
"""Decoded samples held at a time: 32 MB of values and about as much again on their way."""


def labels_of(series: Series) -> dict[str, str]:
    """Labels with the metric's name among them."""
    return {NAME: series.name, **dict(series.labels)}


def matching(snapshot: Snapshot, matchers: Sequence[MatcherLike]) -> list[tuple[int, Series]]:
    """Ids and series that match, sorted by name and labels. DeskvigilError for a wrong regular expression."""
    index = snapshot.store.index
    found = index.series(index.match(matchers))
    return sorted(found.items(), key=lambda one: (one[1].name, one[1].labels))


def samples(
    snapshot: Snapshot,
    series: Sequence[tuple[int, Series]],
    t0_ms: int,
    t1_ms: int,
    samples_at_once: int = SAMPLES_AT_ONCE,
) -> Iterator[ColumnBlock]:
    """The samples with t0 <= t <= t1 of some series, in their order, each series' times ascending."""
    sizes = _sizes(snapshot, t0_ms, t1_ms)
    of_series = snapshot.store._layouts.of_series
    batch: list[tuple[int, Series]] = []
    waiting = 0
    for one in series:
        size = sum(sizes.get(layout.id, 0) for layout in of_series(one[0]))
        if batch and waiting + size > samples_at_once:
            yield from _load(snapshot, batch, t0_ms, t1_ms)
            batch, waiting = [], 0
        if size > samples_at_once:
            yield from _in_windows(snapshot, one, t0_ms, t1_ms, samples_at_once)
            continue
        batch.append(one)
        waiting += size
    if batch:
        yield from _load(snapshot, batch, t0_ms, t1_ms)


def _in_windows(
    snapshot: Snapshot, one: tuple[int, Series], t0_ms: int, t1_ms: int, samples_at_once: int
) -> Iterator[ColumnBlock]:
    """One long series in stretches of time, made of whole blocks where those do not overlap."""
    blocks = [
        block
        for layout in snapshot.store._layouts.of_series(one[0])
        for block in snapshot.store._blocks.overlapping(layout.id, t0_ms, t1_ms)
    ]
    blocks.sort(key=lambda block: block.t0_ms)
    starts, waiting = [t0_ms], 0
    for block in blocks:
        waiting += block.n
        if waiting > samples_at_once and block.t0_ms > starts[-1]:
            starts.append(block.t0_ms)
            waiting = block.n
    for start, end in zip(starts, [*(later - 1 for later in starts[1:]), t1_ms], strict=True):
        yield from _load(snapshot, [one], start, end)


def _load(snapshot: Snapshot, series: Sequence[tuple[int, Series]], t0_ms: int, t1_ms: int) -> Iterator[ColumnBlock]:
    store = snapshot.store
    groups = store.reader._groups.make([series_id for series_id, _ in series])
    found: dict[Series, tuple[Block, int]] = {}
    for block in store.reader.load(groups, t0_ms, t1_ms):
        for row, one in enumerate(block.series):
            found[one] = (block, row)
    rows: list[tuple[Series, Block, int]] = [(one, *found[one]) for _, one in series if one in found]
    first = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end][1] is not rows[first][1]:
            block = rows[first][1]
            numbers = np.array([row for _, _, row in rows[first:end]])
            yield ColumnBlock([labels_of(one) for one, _, _ in rows[first:end]], block.t_ms, block.values[numbers])
            first = end


def _sizes(snapshot: Snapshot, t0_ms: int, t1_ms: int) -> dict[int, int]:
    """Samples per series of each layout in a time range, about."""
    sizes: dict[int, int] = {}
    for block in snapshot.store._blocks.all():
        if block.t0_ms <= t1_ms and block.t1_ms >= t0_ms:
            sizes[block.layout_id] = sizes.get(block.layout_id, 0) + block.n
    for layout_id in snapshot.store.archive.layout_ids():
        waiting = sum(tail.n for tail in snapshot.store.archive.tails(layout_id))
        sizes[layout_id] = sizes.get(layout_id, 0) + waiting
    return sizes
