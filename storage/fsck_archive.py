"""Fsck of the numbers: series, layouts, frames, ingested samples, blocks with their chunks, rollups."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from metrics.frame import IntArray
from metrics.series import Series
from storage import series_pages
from storage.blocks import ID_BITS
from storage.columns import PACKED, decode_times
from storage.fsck import MOST_PROBLEMS, Problem, Report, Say, Statement, rows_of
from storage.fsck_blocks import BlockRow, ChunkRow, check_block
from storage.fsck_rollups import check_rollups
from storage.ingest import MAX_T_MS, decode_row
from storage.layouts import INGESTED, _ids
from storage.snapshot import SnapshotDatabase

_LOW = (1 << ID_BITS) - 1
_PROGRESS_EVERY = 500


@dataclass(slots=True)
class Known:
    """What was found so far, for the checks that come after."""

    series: dict[int, Series] = field(default_factory=dict)
    layouts: dict[int, tuple[str, IntArray]] = field(default_factory=dict)
    blocks: dict[int, BlockRow] = field(default_factory=dict)


def check_archive(database: SnapshotDatabase, report: Report, say: Say, *, samples: bool) -> None:
    """Check everything that holds samples; samples=False reads no chunk's data."""
    known = Known()
    say("series and layouts ...")
    for check in (_series, _layouts, _blocks, _frames, _ingested):
        check(database, known, report)
    _chunks(database, known, report, say, samples=samples)
    check_rollups(database, known.layouts, known.blocks, report, say, samples=samples)


def _series(database: SnapshotDatabase, known: Known, report: Report) -> None:
    identities: dict[Series, int] = {}
    for page_id, n, data in rows_of(database, "SELECT id, n, data FROM series_page ORDER BY id"):
        try:
            page = series_pages.decode(data)
        except Exception as error:  # damaged bytes may fail anyhow
            report.problems.append(Problem("series", f"series_page {page_id}", f"cannot be read: {_words(error)}"))
            continue
        if len(page) != n:
            report.problems.append(Problem("series", f"series_page {page_id}", f"holds {len(page)} series, not {n}"))
        for series_id, series in page:
            before = known.series.setdefault(series_id, series)
            if before != series:
                report.problems.append(Problem("series", f"series {series_id}", f"is {before} and also {series}"))
            twin = identities.setdefault(series, series_id)
            if twin != series_id:
                report.problems.append(Problem("series", f"series {series_id}", f"{series} has the id {twin} too"))
            if not series.name or list(series.labels) != sorted(dict(series.labels).items()):
                report.problems.append(Problem("series", f"series {series_id}", f"{series} is no proper label set"))
    report.count("series", len(known.series))


def _layouts(database: SnapshotDatabase, known: Known, report: Report) -> None:
    identities: dict[tuple[str, bytes], int] = {}
    for layout_id, collector, data in rows_of(database, "SELECT id, collector, series_ids FROM layout ORDER BY id"):
        where = f"layout {layout_id}"
        try:
            ids = np.asarray(_ids(data), np.int64)
        except Exception as error:
            report.problems.append(Problem("layout", where, f"its list of series cannot be read: {_words(error)}"))
            continue
        known.layouts[layout_id] = (collector, ids)
        missing = [i for i in ids.tolist() if i not in known.series]
        if missing:
            report.problems.append(Problem("layout", where, f"names series that do not exist: {_some(missing)}"))
        if len(np.unique(ids)) != len(ids):
            report.problems.append(Problem("layout", where, "names a series twice"))
        twin = identities.setdefault((collector, ids.tobytes()), layout_id)
        if twin != layout_id:
            report.problems.append(Problem("layout", where, f"is the same as layout {twin}"))
    report.count("layouts", len(known.layouts))


def _blocks(database: SnapshotDatabase, known: Known, report: Report) -> None:
    """Headers and time axes."""
    statement = "SELECT id, layout_id, t0_ms, t1_ms, n, times, rollup_id FROM block ORDER BY id"
    for block_id, layout_id, t0_ms, t1_ms, n, times, rollup_id in rows_of(database, statement):
        packed = bytes(times[: len(PACKED)]) == PACKED
        layout = known.layouts.get(layout_id)
        columns = 0 if layout is None else len(layout[1])
        block = BlockRow(
            block_id, layout_id, columns, t0_ms, t1_ms, n, packed, rollup_id, hashlib.sha256(times).digest()
        )
        known.blocks[block_id] = block
        problems: list[str] = []
        if layout is None:
            problems.append(f"its layout {layout_id} does not exist")
        try:
            axis = decode_times(times)
        except Exception as error:
            problems.append(f"its times cannot be read: {_words(error)}")
        else:
            problems += _axis_problems(axis, t0_ms, t1_ms, n)
        gone = (
            ("DELETE FROM chunk WHERE id >= ? AND id < ?", (block_id << ID_BITS, block_id + 1 << ID_BITS)),
            ("DELETE FROM block WHERE id = ?", (block_id,)),
        )
        report.problems += [Problem("block", f"block {block_id}", what, gone, "the whole block") for what in problems]
    report.count("blocks", len(known.blocks))


def _axis_problems(axis: IntArray, t0_ms: int, t1_ms: int, n: int) -> Iterator[str]:
    if len(axis) != n or n < 1:
        yield f"has {len(axis)} times, its header says {n}"
    elif (np.diff(axis) <= 0).any():
        yield "its times do not ascend"
    elif (int(axis[0]), int(axis[-1])) != (t0_ms, t1_ms):
        yield f"its times go from {axis[0]} to {axis[-1]}, its header says {t0_ms} to {t1_ms}"


def _frames(database: SnapshotDatabase, known: Known, report: Report) -> None:
    """Frames wait in blocks of their own, in order; none may be sealed already."""
    statement = "SELECT id, layout_id, t_ms, length(data) FROM frame ORDER BY id"
    frames = 0
    for block_id, rows in groupby(rows_of(database, statement), key=lambda row: row[0] >> ID_BITS):
        low, high = block_id << ID_BITS, block_id + 1 << ID_BITS
        where = f"frames of block {block_id}"
        all_rows = list(rows)
        frames += len(all_rows)
        if block_id in known.blocks:
            fix = (("DELETE FROM frame WHERE id >= ? AND id < ?", (low, high)),)
            report.problems.append(
                Problem("frame", where, f"{len(all_rows)} frames of a block that is sealed already", fix)
            )
        if len({row[1] for row in all_rows}) > 1:
            report.problems.append(Problem("frame", where, "belong to different layouts"))
        for before, row in zip([None, *all_rows], all_rows, strict=False):
            one = (("DELETE FROM frame WHERE id = ?", (row[0],)),)
            name = f"frame {block_id}:{row[0] & _LOW}"
            layout = known.layouts.get(row[1])
            if layout is None:
                report.problems.append(Problem("frame", name, f"its layout {row[1]} does not exist", one, "the frame"))
            elif row[3] != 8 * len(layout[1]):
                what = f"has {row[3]} bytes, {8 * len(layout[1])} are expected"
                report.problems.append(Problem("frame", name, what, one, "the frame"))
            if before is not None and row[2] <= before[2]:
                what = f"its time {row[2]} is not after the frame's before it"
                report.problems.append(Problem("frame", name, what, one, "the frame"))
    report.count("frames", frames)


def _ingested(database: SnapshotDatabase, known: Known, report: Report) -> None:
    count = 0
    for row_id, n, data in rows_of(database, "SELECT id, n, data FROM ingest ORDER BY id"):
        where = f"ingest {row_id}"
        fix = (("DELETE FROM ingest WHERE id = ?", (row_id,)),)
        try:
            ids, t_ms, values = decode_row(n, data)
        except Exception as error:
            report.problems.append(Problem("ingest", where, f"cannot be read: {_words(error)}", fix, f"{n} samples"))
            continue
        count += len(ids)
        if not len(ids) == len(t_ms) == len(values) == n:
            what = f"holds {len(ids)} ids, {len(t_ms)} times and {len(values)} values instead of {n}"
            report.problems.append(Problem("ingest", where, what, fix, f"{n} samples"))
            continue
        missing = [i for i in np.unique(ids).tolist() if i not in known.series]
        if missing:
            what = f"names series that do not exist: {_some(missing)}"
            report.problems.append(Problem("ingest", where, what, fix, f"{n} samples"))
        if n and (t_ms.min() < 0 or t_ms.max() > MAX_T_MS):
            report.problems.append(
                Problem("ingest", where, "has a time before 1970 or after 9999", fix, f"{n} samples")
            )
    report.count("unsealed ingested samples", count)


def _chunks(database: SnapshotDatabase, known: Known, report: Report, say: Say, *, samples: bool) -> None:
    """All chunks in one go along the key; decoding in threads, which let go of the interpreter."""
    columns = "id, count, min, max, sum, last, " + ("data" if samples else "NULL")
    rows = rows_of(database, f"SELECT {columns} FROM chunk ORDER BY id")  # noqa: S608 - both are ours
    seen: set[int] = set()
    twins: dict[tuple[int, bytes, bytes], int] = {}
    threads = len(os.sched_getaffinity(0))
    waiting: deque[tuple[BlockRow, Future[tuple[list[Problem], bytes]]]] = deque()

    def finish(most: int) -> None:
        while len(waiting) > most:
            block, future = waiting.popleft()
            problems, digest = future.result()
            report.problems += problems
            report.count("samples", block.n * block.columns)
            collector = known.layouts.get(block.layout_id, (INGESTED,))[0]
            twin = twins.setdefault((block.layout_id, block.axis_digest, digest), block.id)
            # A sender may send everything again; a collector cannot measure the same instants twice.
            if samples and twin != block.id and collector != INGESTED and block.n > 1:
                low, high = block.id << ID_BITS, block.id + 1 << ID_BITS
                fix: tuple[Statement, ...] = (
                    ("DELETE FROM chunk WHERE id >= ? AND id < ?", (low, high)),
                    ("DELETE FROM block WHERE id = ?", (block.id,)),
                )
                report.problems.append(
                    Problem("duplicate", f"block {block.id}", f"holds the same samples as block {twin}", fix)
                )

    with ThreadPoolExecutor(threads, "fsck") as pool:
        for block_id, some in groupby(rows, key=lambda row: row[0] >> ID_BITS):
            of_block = [ChunkRow(row[0] & _LOW, *row[1:]) for row in some]
            seen.add(block_id)
            report.count("chunks", len(of_block))
            block = known.blocks.get(block_id)
            if block is None:
                low, high = block_id << ID_BITS, block_id + 1 << ID_BITS
                orphaned: tuple[Statement, ...] = (("DELETE FROM chunk WHERE id >= ? AND id < ?", (low, high)),)
                what = f"{len(of_block)} chunks of a block that does not exist"
                report.problems.append(Problem("orphan", f"block {block_id}", what, orphaned, "these chunks"))
                continue
            layout = known.layouts.get(block.layout_id)
            if layout is not None:
                task: Callable[[], Any] = _task(block, layout[1], of_block, samples)
                waiting.append((block, pool.submit(task)))
            finish(2 * threads)
            if len(seen) % _PROGRESS_EVERY == 0:
                say(f"{len(seen):,} of {len(known.blocks):,} blocks")
            if len(report.problems) > MOST_PROBLEMS:
                report.notes.append(f"stopped after {MOST_PROBLEMS:,} problems")
                break
        finish(0)
    if len(report.problems) <= MOST_PROBLEMS:
        for block_id, block in known.blocks.items():
            if block_id not in seen and block.columns:
                empty: tuple[Statement, ...] = (("DELETE FROM block WHERE id = ?", (block_id,)),)
                report.problems.append(Problem("block", f"block {block_id}", "has no chunks at all", empty))


def _task(
    block: BlockRow, ids: IntArray, rows: list[ChunkRow], samples: bool
) -> Callable[[], tuple[list[Problem], bytes]]:
    return lambda: check_block(block, ids, rows, samples=samples)


def _some(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
