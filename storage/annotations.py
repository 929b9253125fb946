"""Annotations: marks in time, put there by the program or by a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from metrics.clock import Clock
from storage.database import Database
from storage.deferred import Deferred
from storage.tables import annotation as annotation_table
from storage.tables import clean

KIND_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something that happened at t_ms, or from t_ms to t_end_ms."""

    id: int
    t_ms: int
    t_end_ms: int | None
    kind: str
    title: str
    text: str
    tags: tuple[str, ...]


class Annotations:
    """The annotations in the database."""

    def __init__(self, database: Database, clock: Clock, deferred: Deferred) -> None:
        self._database = database
        self._clock = clock
        self._deferred = deferred

    def add(
        self,
        kind: str,
        title: str,
        text: str = "",
        tags: Sequence[str] = (),
        *,
        t_ms: int | None = None,
        t_end_ms: int | None = None,
    ) -> int:
        """Add one, by default at this moment; returns its id. Raises StorageUnavailable."""
        with self._database.write() as connection:
            return add(
                connection,
                t_ms=self._clock.now_ns() // 1_000_000 if t_ms is None else t_ms,
                kind=kind,
                title=title,
                text=text,
                tags=tags,
                t_end_ms=t_end_ms,
            )

    def note(self, kind: str, title: str, text: str = "", *, t_ms: int) -> None:
        """Add one without waiting for the database: it comes as soon as that can be written."""
        self._deferred.put(f"annotation {title!r}", lambda c: add(c, t_ms=t_ms, kind=kind, title=title, text=text))

    def list(self, t0_ms: int, t1_ms: int, limit: int = 500) -> list[Annotation]:
        """Return those that touch t0..t1, the newest `limit` of them, oldest first."""
        table = annotation_table
        touching = (table.c.t_ms <= t1_ms) & (func.coalesce(table.c.t_end_ms, table.c.t_ms) >= t0_ms)
        query = select(table).where(touching).order_by(table.c.t_ms.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [Annotation(r.id, r.t_ms, r.t_end_ms, r.kind, r.title, r.text, tuple(r.tags)) for r in reversed(rows)]


def add(
    connection: Connection,
    *,
    t_ms: int,
    kind: str,
    title: str,
    text: str = "",
    tags: Sequence[str] = (),
    t_end_ms: int | None = None,
) -> int:
    """Add an annotation inside the caller's transaction; returns its id."""
    row = {
        "t_ms": t_ms,
        "t_end_ms": t_end_ms,
        "kind": clean(kind)[:KIND_CHARACTERS],
        "title": title,
        "text": text,
        "tags": list(tags),
    }
    result = connection.execute(insert(annotation_table).values(row).returning(annotation_table.c.id))
    return int(result.scalar_one())
