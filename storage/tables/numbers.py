"""Series, frames, chunks and rollups: always SQLite."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, Table, Text

from storage.tables.base import METADATA, Key

series_page = Table(
    "series_page",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("n", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="zlib of JSON [[id, name, labels], ...]"),
)

layout = Table(
    "layout",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("collector", Text, nullable=False, comment="empty: series that came in by ingest"),
    Column("series_ids", LargeBinary, nullable=False, comment="little-endian int64, in the order of the values"),
    comment="which series lie side by side in a frame or block",
)

frame = Table(
    "frame",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False, comment="block_id << 32 | position in the block"),
    Column("layout_id", BigInteger, nullable=False),
    Column("t_ms", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="little-endian float64, one value per series of the layout"),
    comment="the hot tail: one row per collector and second until its block is sealed",
)

ingest = Table(
    "ingest",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="int64 series ids[n], int64 t_ms[n], float64 values[n]"),
    comment="samples that came in from outside, until they are sealed",
)

block = Table(
    "block",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("layout_id", BigInteger, nullable=False),
    Column("t0_ms", BigInteger, nullable=False),
    Column("t1_ms", BigInteger, nullable=False, comment="instant of the last sample"),
    Column("n", Integer, nullable=False),
    Column("times", LargeBinary, nullable=False, comment="pcodec int64[n], shared by all chunks of the block"),
    Column("rollup_id", BigInteger, comment="rollup_block that holds its minutes; NULL: not rolled up yet"),
    Column("sealed_ms", BigInteger, nullable=False),
)

# The comments in the table are those of version 0.1, whose blocks stay readable: one row per series. Now a row is a
# pack (storage/packs.py): the key ends with the position of its first column, count is how many it has, the four
# headers are NULL. series_ids of a layout are pcodec now.
chunk = Table(
    "chunk",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False, comment="block_id << 32 | series_id"),
    Column("count", Integer, nullable=False, comment="samples that are present"),
    Column("min", Double),
    Column("max", Double),
    Column("sum", Double),
    Column("last", Double),
    Column("data", LargeBinary, comment="pcodec float64[n of the block]; NULL: every value equals `last`"),
)

rollup_block = Table(
    "rollup_block",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("layout_id", BigInteger, nullable=False),
    Column("t0_ms", BigInteger, nullable=False),
    Column("t1_ms", BigInteger, nullable=False, comment="start of the last minute"),
    Column("n", Integer, nullable=False),
    Column("times", LargeBinary, nullable=False, comment="pcodec int64[n], starts of minutes"),
    Column("sealed_ms", BigInteger, nullable=False),
)

rollup_chunk = Table(
    "rollup_chunk",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False, comment="rollup_block_id << 32 | series_id"),
    Column("data", LargeBinary, nullable=False, comment="min, max, sum, count, last: five packed columns"),
)

# Kept for whoever needs to tell the groups apart (a PostgreSQL database leaves the first empty).
NUMBERS = (series_page, layout, frame, ingest, block, chunk, rollup_block, rollup_chunk)
ROLLUP_COLUMNS = ("min", "max", "sum", "count", "last")
