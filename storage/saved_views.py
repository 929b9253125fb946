"""Saved views: questions to the history that people keep under a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage.database import Database
from storage.tables import saved_view as view_table

MOST = 500


class ViewError(DeskvigilError):
    """A view that cannot be kept or found; the message names it."""


@dataclass(frozen=True, slots=True)
class SavedView:
    """search is the page's query string; instants are ms since the epoch."""

    id: int
    page: str
    name: str
    search: str
    created_by: str
    created_ms: int
    updated_ms: int


class SavedViews:
    """The saved views in the database. Every method may raise StorageUnavailable."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def list(self, page: str) -> Sequence[SavedView]:
        """All views of a page, by name."""
        query = select(view_table).where(view_table.c.page == page)
        with self._database.read() as connection:
            found = [_view(row) for row in connection.execute(query)]
        return sorted(found, key=lambda view: (view.name.casefold(), view.id))

    def save(self, page: str, name: str, search: str, who: str) -> SavedView:
        """Keep a question under a name; what had that name before is replaced. Raises ViewError beyond MOST."""
        now_ms = self._clock.now_ns() // 1_000_000
        same = (view_table.c.page == page) & (view_table.c.name == name)
        with self._database.write() as connection:
            changed = connection.execute(
                update(view_table).where(same).values(search=search, updated_ms=now_ms).returning(*view_table.c)
            ).one_or_none()
            if changed is not None:
                return _view(changed)
            count = connection.execute(select(func.count()).select_from(view_table)).scalar_one()
            if count >= MOST:
                raise ViewError(f"there are {MOST} saved views already; delete one first")
            row = {
                "page": page,
                "name": name,
                "search": search,
                "created_by": who,
                "created_ms": now_ms,
                "updated_ms": now_ms,
            }
            return _view(connection.execute(insert(view_table).values(row).returning(*view_table.c)).one())

    def rename(self, view_id: int, name: str) -> SavedView:
        """Give a view another name. Raises ViewError where there is no such view, or the name is taken."""
        with self._database.write() as connection:
            row = connection.execute(select(view_table).where(view_table.c.id == view_id)).one_or_none()
            if row is None:
                raise ViewError(f"there is no saved view {view_id}")
            taken = (view_table.c.page == row.page) & (view_table.c.name == name) & (view_table.c.id != view_id)
            if connection.execute(select(view_table.c.id).where(taken)).first() is not None:
                raise ViewError(f"there is a view called {name} already")
            values = {"name": name, "updated_ms": self._clock.now_ns() // 1_000_000}
            query = update(view_table).where(view_table.c.id == view_id).values(values).returning(*view_table.c)
            return _view(connection.execute(query).one())

    def delete(self, view_id: int) -> None:
        """Forget a view. Raises ViewError where there is none."""
        with self._database.write() as connection:
            if connection.execute(delete(view_table).where(view_table.c.id == view_id)).rowcount == 0:
                raise ViewError(f"there is no saved view {view_id}")


def _view(row: Any) -> SavedView:
    return SavedView(row.id, row.page, row.name, row.search, row.created_by, row.created_ms, row.updated_ms)
