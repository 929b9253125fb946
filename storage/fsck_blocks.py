"""Fsck of one block: its chunks are all there, decode, and agree with their headers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metrics.frame import FloatArray, IntArray
from storage.blocks import ID_BITS
from storage.columns import decode_into
from storage.fsck import Problem, Statement
from storage.packs import check as check_pack
from storage.packs import count as columns_of_pack
from storage.packs import pack, unpack_into
from storage.stale import STALE_NAN

_UNTOUCHED = np.uint64(0x7FF8_DEAD_BEEF_0001)
"""Bits that no decoded value is expected to have: what still has them was not written."""


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A block's header; columns: series of its layout; axis_digest: of its encoded times."""

    id: int
    layout_id: int
    columns: int
    t0_ms: int
    t1_ms: int
    n: int
    packed: bool
    rollup_id: int | None
    axis_digest: bytes


class ChunkRow(NamedTuple):
    """A row of `chunk`; low: the lower half of its key, a series id or the number of a pack's first column.

    number: the column `count`: values that are present, of a pack its columns.
    """

    low: int
    number: int
    min: float | None
    max: float | None
    sum: float | None
    last: float | None
    data: bytes | None


def check_block(
    block: BlockRow, series_ids: IntArray, rows: Sequence[ChunkRow], *, samples: bool
) -> tuple[list[Problem], bytes]:
    """Return what is wrong with a block's chunks, and a digest of all their bytes."""
    problems = list(_packs(block, rows, samples) if block.packed else _columns(block, series_ids, rows, samples))
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row[:6]).encode())
        digest.update(row.data or b"")
    return problems, digest.digest()


# --- packs ----------------------------------------------------------------------------------------


def _packs(block: BlockRow, rows: Sequence[ChunkRow], samples: bool) -> Iterator[Problem]:
    expected = 0
    for row in rows:
        where = f"block {block.id}, columns {row.low} to {row.low + row.number - 1}"
        if row.low != expected:
            yield _gap(block, expected, row.low)
        expected = row.low + row.number
        if samples:
            what = _pack_problem(block, row)
            if what is not None:
                yield Problem("chunk", where, what, _as_stale(block, row), f"{row.number} series of this block")
    if expected != block.columns:
        yield _gap(block, expected, block.columns)


def _gap(block: BlockRow, first: int, end: int) -> Problem:
    what = (
        f"columns {first} to {end - 1} are missing" if first < end else f"columns {end} to {first - 1} are there twice"
    )
    fix: tuple[Statement, ...] = ()
    if first < end:
        rows = pack([np.full(block.n, STALE_NAN)] * (end - first))
        fix = tuple(
            (
                "INSERT INTO chunk (id, count, data) VALUES (?, ?, ?)",
                (block.id << ID_BITS | first + one.first, one.columns, one.data),
            )
            for one in rows
        )
    return Problem("chunk", f"block {block.id}", what, fix)


def _pack_problem(block: BlockRow, row: ChunkRow) -> str | None:
    if row.data is None:
        return "there are no bytes"
    wrong = check_pack(row.data)
    if wrong is not None:
        return wrong
    if columns_of_pack(row.data) != row.number:
        return f"holds {columns_of_pack(row.data)} columns, its row says {row.number}"
    out = np.full((row.number, block.n), _UNTOUCHED, np.uint64).view(np.float64)
    try:
        unpack_into(row.data, list(enumerate(out)))
    except Exception as error:  # damaged bytes may fail anyhow
        return f"cannot be decoded: {type(error).__name__}: {error}".splitlines()[0]
    # Whole numbers are decoded in place and then made floats, and so are bits that were left alone.
    short = np.flatnonzero(((out.view(np.uint64) == _UNTOUCHED) | (out == float(_UNTOUCHED))).any(axis=1))
    return f"column {row.low + int(short[0])} has fewer than {block.n} values" if len(short) else None


def _as_stale(block: BlockRow, row: ChunkRow) -> tuple[Statement, ...]:
    """A pack of the same columns without any value: what the damage left."""
    (one,) = pack([np.full(block.n, STALE_NAN)] * row.number)
    key = block.id << ID_BITS | row.low
    return (("UPDATE chunk SET data = ?, count = ? WHERE id = ?", (one.data, one.columns, key)),)


# --- blocks from before there were packs: a row per series ----------------------------------------


def _columns(block: BlockRow, series_ids: IntArray, rows: Sequence[ChunkRow], samples: bool) -> Iterator[Problem]:
    expected = set(series_ids.tolist())
    for missing in sorted(expected - {row.low for row in rows}):
        yield Problem("chunk", f"block {block.id}, series {missing}", "its chunk is missing")
    out = np.empty(block.n)
    for row in rows:
        where = f"block {block.id}, series {row.low}"
        gone = (("DELETE FROM chunk WHERE id = ?", (block.id << ID_BITS | row.low,)),)
        if row.low not in expected:
            yield Problem("orphan", where, "the block's layout has no such series", gone, "this chunk")
            continue
        if not samples:
            continue
        try:
            decode_into(out, row.last, row.data)
        except Exception as error:
            what = f"cannot be decoded: {type(error).__name__}: {error}".splitlines()[0]
            yield Problem("chunk", where, what, gone, "this series in this block")
            continue
        what = ", ".join(_header_problems(row, out))
        if what:
            yield Problem("chunk", where, what)


def _header_problems(row: ChunkRow, values: FloatArray) -> Iterator[str]:
    present = values[~np.isnan(values)]
    if len(present) != row.number:
        yield f"holds {len(present)} values, its header says {row.number}"
        return
    if not len(present):
        return
    with np.errstate(all="ignore"):
        found = {"min": present.min(), "max": present.max(), "sum": present.sum(), "last": present[-1]}
        scale = float(np.abs(present).sum())
    for name, value in found.items():
        told = getattr(row, name)
        told = np.nan if told is None else told  # SQLite keeps NaN as NULL
        near = abs(told - value) <= 1e-9 * scale if name == "sum" and np.isfinite(scale) else False
        if not (told == value or (np.isnan(told) and np.isnan(value)) or near):
            yield f"{name} is {value}, its header says {told}"
