"""Sealing: columns in memory become a block of compressed packs in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, insert

from metrics.frame import FloatArray, IntArray
from storage.blocks import ID_BITS, Block
from storage.columns import PACKED, encode_times
from storage.packs import pack
from storage.tables import block as block_table
from storage.tables import chunk as chunk_table


@dataclass(frozen=True, eq=False, slots=True)
class SealedBlock:
    """A block with its rows, ready to be inserted: encoding is slow and happens outside any transaction."""

    header: Block
    times: bytes
    rows: list[dict[str, object]]


def seal(block_id: int, layout_id: int, t_ms: IntArray, columns: Iterable[FloatArray]) -> SealedBlock:
    """Encode a block: times int64 [n] ascending; columns float64 [n] each, in the layout's order of series."""
    rows: list[dict[str, object]] = [
        {"id": block_id << ID_BITS | one.first, "count": one.columns, "data": one.data} for one in pack(columns)
    ]
    header = Block(block_id, layout_id, int(t_ms[0]), int(t_ms[-1]), len(t_ms))
    return SealedBlock(header, PACKED + encode_times(t_ms), rows)


def insert_sealed(connection: Connection, sealed: SealedBlock, sealed_ms: int) -> None:
    """Write a sealed block inside the caller's transaction."""
    header = sealed.header
    connection.execute(
        insert(block_table),
        {
            "id": header.id,
            "layout_id": header.layout_id,
            "t0_ms": header.t0_ms,
            "t1_ms": header.t1_ms,
            "n": header.n,
            "times": sealed.times,
            "sealed_ms": sealed_ms,
        },
    )
    if sealed.rows:
        connection.execute(insert(chunk_table), sealed.rows)
