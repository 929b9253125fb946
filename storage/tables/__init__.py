"""Every table of Deskvigil, as SQLAlchemy Core; works on SQLite and PostgreSQL.

Instants are int64 milliseconds since the epoch (`*_ms`). `numbers` holds series, frames, chunks and rollups (always
SQLite); `alerts` and `records` hold what people and alerts did. Rows of those two name each other by value, not by
foreign key: histories outlive what they tell of.
"""

from __future__ import annotations

from storage.tables.alerts import (
    alert_event,
    alert_state,
    escalation,
    file_version,
    notification,
    oncall_override,
    outbox,
    prediction,
    silence,
    suppression,
)
from storage.tables.base import METADATA, Words, clean
from storage.tables.numbers import (
    NUMBERS,
    ROLLUP_COLUMNS,
    block,
    chunk,
    frame,
    ingest,
    layout,
    rollup_block,
    rollup_chunk,
    series_page,
)
from storage.tables.records import annotation, audit, fill_break, job_run, meta, profile, saved_view, settlement

__all__ = [
    "METADATA",
    "NUMBERS",
    "ROLLUP_COLUMNS",
    "Words",
    "alert_event",
    "alert_state",
    "annotation",
    "audit",
    "block",
    "chunk",
    "clean",
    "escalation",
    "file_version",
    "fill_break",
    "frame",
    "ingest",
    "job_run",
    "layout",
    "meta",
    "notification",
    "oncall_override",
    "outbox",
    "prediction",
    "profile",
    "rollup_block",
    "rollup_chunk",
    "saved_view",
    "series_page",
    "settlement",
    "silence",
    "suppression",
]
