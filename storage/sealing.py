"""Sealing: columns in memory become a block of compressed chunks in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert

from metrics.frame import FloatArray, IntArray
from storage.blocks import ID_BITS, Block
from storage.columns import encode, encode_times
from storage.tables import block as block_table
from storage.tables import chunk as chunk_table


@dataclass(frozen=True, eq=False, slots=True)
class SealedBlock:
    """A block with its rows, ready to be inserted: encoding is slow and happens outside any transaction."""

    header: Block
    times: bytes
    chunks: list[dict[str, object]]


def seal(block_id: int, layout_id: int, series_ids: Sequence[int], t_ms: IntArray, values: FloatArray) -> SealedBlock:
    """Encode a block: times int64 [n] ascending, values float64 [series, n] in the order of series_ids."""
    chunks: list[dict[str, object]] = []
    for series_id, row in zip(series_ids, values, strict=True):
        column = encode(row)
        chunks.append(
            {
                "id": block_id << ID_BITS | series_id,
                "count": column.count,
                "min": column.min,
                "max": column.max,
                "sum": column.sum,
                "last": column.last,
                "data": column.data,
            }
        )
    chunks.sort(key=lambda chunk: int(str(chunk["id"])))
    header = Block(block_id, layout_id, int(t_ms[0]), int(t_ms[-1]), len(t_ms))
    return SealedBlock(header, encode_times(t_ms), chunks)


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
    if sealed.chunks:
        connection.execute(insert(chunk_table), sealed.chunks)
