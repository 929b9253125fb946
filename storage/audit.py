"""Audit: who did what, as a chain in which every row's hash covers the row before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from metrics.clock import Clock
from storage.database import Database
from storage.tables import audit as audit_table
from storage.tables import clean

GENESIS = "0" * 64
"""The hash before the first row."""
_ROWS_AT_ONCE = 5_000
_CHAIN_LOCK = 0x6465736B76696769  # the key of PostgreSQL's advisory lock


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row; detail is what was given, as JSON knows it."""

    id: int
    t_ms: int
    who: str
    action: str
    object: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """Whether the chain holds; broken_id: the first row that does not follow from the one before, problem: in words."""

    ok: bool
    rows: int
    broken_id: int | None
    problem: str


class Audit:
    """The audit in the database. Rows are only ever appended."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def append(self, who: str, action: str, object_: str, detail: Mapping[str, Any] | None = None) -> int:
        """Append an entry at this moment; returns its id. Raises StorageUnavailable."""
        t_ms = self._clock.now_ns() // 1_000_000
        with self._database.write() as connection:
            return record(connection, t_ms=t_ms, who=who, action=action, object_=object_, detail=detail)

    def list(self, limit: int = 100, before_id: int | None = None) -> list[AuditEntry]:
        """Return the newest entries, newest first; before_id: older ones than that."""
        query = select(audit_table).order_by(audit_table.c.id.desc()).limit(limit)
        if before_id is not None:
            query = query.where(audit_table.c.id < before_id)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [AuditEntry(r.id, r.t_ms, r.who, r.action, r.object, json.loads(r.detail), r.hash) for r in rows]

    def verify(self) -> AuditCheck:
        """Recompute the whole chain: changed, missing, inserted and reordered rows show; a cut-off end does not."""
        previous, rows = GENESIS, 0
        with self._database.read() as connection:
            while True:
                query = select(audit_table).where(audit_table.c.id > rows).order_by(audit_table.c.id)
                found = connection.execute(query.limit(_ROWS_AT_ONCE)).all()
                for row in found:
                    if row.id != rows + 1:
                        return AuditCheck(False, rows, row.id, f"entry {rows + 1} is missing")
                    expected = _hash(row.id, row.t_ms, row.who, row.action, row.object, row.detail, previous)
                    if row.prev_hash != previous or row.hash != expected:
                        return AuditCheck(False, rows, row.id, f"entry {row.id} was changed")
                    previous, rows = row.hash, row.id
                if not found:
                    return AuditCheck(True, rows, None, "")


def record(
    connection: Connection,
    *,
    t_ms: int,
    who: str,
    action: str,
    object_: str,
    detail: Mapping[str, Any] | None = None,
) -> int:
    """Append an entry inside the caller's write transaction; returns its id.

    Two programs on one PostgreSQL (a command beside the console) append one after the other: the
    lock is held until the transaction ends.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_CHAIN_LOCK)))
    who, action, object_ = clean(who), clean(action), clean(object_)
    newest = connection.execute(
        select(audit_table.c.id, audit_table.c.hash).order_by(audit_table.c.id.desc()).limit(1)
    ).first()
    row_id, previous = (newest.id + 1, newest.hash) if newest else (1, GENESIS)
    text = clean(json.dumps(dict(detail or {}), sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    row = {
        "id": row_id,
        "t_ms": t_ms,
        "who": who,
        "action": action,
        "object": object_,
        "detail": text,
        "prev_hash": previous,
        "hash": _hash(row_id, t_ms, who, action, object_, text, previous),
    }
    connection.execute(insert(audit_table), row)
    return int(row_id)


def _hash(row_id: int, t_ms: int, who: str, action: str, object_: str, detail: str, previous: str) -> str:
    text = json.dumps([row_id, t_ms, who, action, object_, detail, previous], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
