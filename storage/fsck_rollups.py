"""Fsck of rollups: minutes are whole, and say what the samples they were made of say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

from metrics.frame import FloatArray, IntArray
from storage.blocks import ID_BITS, Block
from storage.chunks import Wanted
from storage.columns import decode_times, unpack_into
from storage.fsck import Problem, Report, Say, Statement, rows_of
from storage.fsck_blocks import BlockRow
from storage.merge import merge
from storage.minutes import COUNT, LAST, MAX, MIN, MINUTE_MS, SUM, minutes
from storage.snapshot import Snapshot, SnapshotDatabase

_LOW = (1 << ID_BITS) - 1
_SAMPLES_AT_ONCE = 4_000_000
_NAMES = {MIN: "min", MAX: "max", SUM: "sum", COUNT: "count", LAST: "last"}


def check_rollups(
    database: SnapshotDatabase,
    layouts: Mapping[int, tuple[str, IntArray]],
    blocks: Mapping[int, BlockRow],
    report: Report,
    say: Say,
    *,
    samples: bool,
) -> None:
    """Check every rollup; samples=False compares none with its samples."""
    sources: dict[int, list[BlockRow]] = {}
    for block in blocks.values():
        if block.rollup_id is not None:
            sources.setdefault(block.rollup_id, []).append(block)
    # Retention deletes the oldest first: after a rolled-up block that is still there, nothing is gone.
    whole_since_ms = min((block.t1_ms for some in sources.values() for block in some), default=0)
    known: set[int] = set()
    good: list[tuple[int, int, IntArray, int]] = []
    statement = "SELECT id, layout_id, t0_ms, t1_ms, n, times FROM rollup_block ORDER BY id"
    for rollup_id, layout_id, t0_ms, t1_ms, n, times in rows_of(database, statement):
        known.add(rollup_id)
        what = _header_problem(layouts, layout_id, t0_ms, t1_ms, n, times)
        if what is not None:
            report.problems.append(Problem("rollup", f"rollup {rollup_id}", what, _again(rollup_id), _LOSES))
            continue
        good.append((rollup_id, layout_id, decode_times(times), t0_ms))
    for rollup_id in sorted(set(sources) - known):
        what = f"does not exist, but {len(sources[rollup_id])} blocks say that it holds their minutes"
        report.problems.append(Problem("rollup", f"rollup {rollup_id}", what, _again(rollup_id)))
    report.count("rollups", len(known))
    report.problems += _orphans(database, known)
    if samples and good:
        say(f"comparing {len(good)} rollups with their samples ...")
        _compare_all(database, layouts, good, sources, whole_since_ms, report)


_LOSES = "minutes of which the samples are deleted already"


def _again(rollup_id: int) -> tuple[Statement, ...]:
    """Drop a rollup, so that the program makes it anew of the samples."""
    low, high = rollup_id << ID_BITS, rollup_id + 1 << ID_BITS
    return (
        ("DELETE FROM rollup_chunk WHERE id >= ? AND id < ?", (low, high)),
        ("DELETE FROM rollup_block WHERE id = ?", (rollup_id,)),
        ("UPDATE block SET rollup_id = NULL WHERE rollup_id = ?", (rollup_id,)),
    )


def _header_problem(
    layouts: Mapping[int, tuple[str, IntArray]], layout_id: int, t0_ms: int, t1_ms: int, n: int, times: bytes
) -> str | None:
    if layout_id not in layouts:
        return f"its layout {layout_id} does not exist"
    try:
        axis = decode_times(times)
    except Exception as error:  # damaged bytes may fail anyhow
        return f"its times cannot be read: {type(error).__name__}: {error}".splitlines()[0]
    if len(axis) != n or n < 1:
        return f"has {len(axis)} minutes, its header says {n}"
    if (axis % MINUTE_MS).any() or (np.diff(axis) <= 0).any():
        return "its times are no ascending minutes"
    if (int(axis[0]), int(axis[-1])) != (t0_ms, t1_ms):
        return f"its minutes go from {axis[0]} to {axis[-1]}, its header says {t0_ms} to {t1_ms}"
    return None


def _orphans(database: SnapshotDatabase, known: set[int]) -> Iterator[Problem]:
    for rollup_id, rows in groupby(
        rows_of(database, "SELECT id FROM rollup_chunk ORDER BY id"), lambda r: r[0] >> ID_BITS
    ):
        count = sum(1 for _ in rows)
        if rollup_id not in known:
            what = f"{count} chunks of a rollup that does not exist"
            yield Problem("orphan", f"rollup {rollup_id}", what, _again(rollup_id)[:1], "these minutes")


def _compare_all(
    database: SnapshotDatabase,
    layouts: Mapping[int, tuple[str, IntArray]],
    good: Sequence[tuple[int, int, IntArray, int]],
    sources: Mapping[int, Sequence[BlockRow]],
    whole_since_ms: int,
    report: Report,
) -> None:
    try:
        chunks = Snapshot(database).store._chunks
    except Exception as error:  # a damaged store; the other checks tell what is wrong
        report.notes.append(
            f"rollups were not compared with their samples: {type(error).__name__}: {error}".splitlines()[0]
        )
        return
    for rollup_id, layout_id, axis, t0_ms in good:
        ids = layouts[layout_id][1]
        stored, problems = _stored(database, rollup_id, ids, len(axis))
        report.problems += problems
        some = sources.get(rollup_id, ())
        if not some or problems:
            continue
        headers = [Block(b.id, b.layout_id, b.t0_ms, b.t1_ms, b.n) for b in some]
        at_once = max(_SAMPLES_AT_ONCE // sum(b.n for b in headers), 1)
        for start in range(0, len(ids), at_once):
            part = ids[start : start + at_once]
            wanted = Wanted(part, headers, min(b.t0_ms for b in headers), max(b.t1_ms for b in headers))
            try:
                found = chunks.read([wanted], keep=False)[0]
            except Exception as error:  # what is wrong with the chunk is told where that was checked
                report.notes.append(
                    f"rollup {rollup_id} is not compared with its samples, which cannot be read: {error}"
                )
                continue
            t_ms, values = merge([piece for _, piece in sorted(found, key=lambda one: one[0])], len(part))
            if not len(t_ms):
                continue
            rows = [stored.get(i) for i in part.tolist()]
            wrong = _difference(axis, rows, *minutes(t_ms, values), complete=t0_ms > whole_since_ms)
            if wrong is not None:
                where = f"rollup {rollup_id}, series {part[wrong[0]]}"
                report.problems.append(Problem("rollup", where, wrong[1], _again(rollup_id), ""))
                break
    chunks.close()


def _stored(
    database: SnapshotDatabase, rollup_id: int, ids: IntArray, n: int
) -> tuple[dict[int, FloatArray], list[Problem]]:
    """A rollup's columns by series id, float64 [5, n]; and what of it cannot be read."""
    expected = set(ids.tolist())
    found: dict[int, FloatArray] = {}
    problems = []
    statement = "SELECT id, data FROM rollup_chunk WHERE id >= ? AND id < ?"
    for key, data in rows_of(database, statement, rollup_id << ID_BITS, rollup_id + 1 << ID_BITS):
        where = f"rollup {rollup_id}, series {key & _LOW}"
        if key & _LOW not in expected:
            fix = (("DELETE FROM rollup_chunk WHERE id = ?", (key,)),)
            problems.append(Problem("orphan", where, "the rollup's layout has no such series", fix, "these minutes"))
            continue
        columns = np.empty((5, n))
        try:
            unpack_into(data, list(columns))
        except Exception as error:
            what = f"cannot be decoded: {type(error).__name__}: {error}".splitlines()[0]
            problems.append(Problem("rollup", where, what, _again(rollup_id), _LOSES))
            continue
        found[key & _LOW] = columns
    return found, problems


def _difference(
    axis: IntArray, rows: Sequence[FloatArray | None], t_ms: IntArray, made: FloatArray, *, complete: bool
) -> tuple[int, str] | None:
    """The first series (its number) whose minutes differ from its samples', and how.

    Where samples were deleted since, a minute may know of more than are left.
    """
    places = np.searchsorted(axis, t_ms).clip(max=len(axis) - 1)
    if (axis[places] != t_ms).any():
        return 0, f"the minute {int(t_ms[axis[places] != t_ms][0])} is missing"
    for row, stored in enumerate(rows):
        ours = made[:, row]
        if stored is None:
            if ours[COUNT].any():
                return row, "its minutes are missing"
            continue
        theirs = stored[:, places]
        counts = ours[COUNT] != theirs[COUNT] if complete else ours[COUNT] > theirs[COUNT]
        if counts.any():
            at = int(np.flatnonzero(counts)[0])
            return row, f"minute {t_ms[at]} counts {theirs[COUNT, at]:g} samples, there are {ours[COUNT, at]:g}"
        same = (ours[COUNT] == theirs[COUNT]) & (ours[COUNT] > 0)
        for name in (MIN, MAX, SUM, LAST):
            one, other = ours[name][same], theirs[name][same]
            with np.errstate(all="ignore"):
                near = np.isclose(
                    one, other, rtol=1e-9, atol=1e-9 * np.nanmax(np.abs(one), initial=0.0), equal_nan=True
                )
            wrong = ~near if name == SUM else ~((one == other) | (np.isnan(one) & np.isnan(other)))
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                return row, f"minute {t_ms[same][at]}: {_NAMES[name]} is {other[at]}, of the samples {one[at]}"
    return None
