"""Series pages: names and labels of series in the database, many to a row, because they resemble each other."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Iterator

from sqlalchemy import Connection, delete, insert, select

from metrics.series import Series
from storage.tables import series_page

_SERIES_PER_PAGE = 1_000


def encode(some: Iterable[tuple[int, Series]]) -> bytes:
    """Return a page of series with their ids."""
    rows = [[series_id, series.name, dict(series.labels)] for series_id, series in some]
    return zlib.compress(
        json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"), 9
    )


def decode(data: bytes) -> list[tuple[int, Series]]:
    """Return the series of a page with their ids."""
    rows = json.loads(zlib.decompress(data).decode("utf-8", "surrogatepass"))
    return [(series_id, Series(name, tuple(labels.items()))) for series_id, name, labels in rows]


def read(connection: Connection) -> Iterator[tuple[int, Series]]:
    """Return every series with its id; one that two threads wrote at once comes twice."""
    for data in connection.execute(select(series_page.c.data).order_by(series_page.c.id)).scalars():
        yield from decode(data)


def write(connection: Connection, new: Collection[tuple[int, Series]]) -> None:
    """Add series."""
    rows = list(new)
    pages = [rows[start : start + _SERIES_PER_PAGE] for start in range(0, len(rows), _SERIES_PER_PAGE)]
    if pages:
        connection.execute(insert(series_page), [{"n": len(page), "data": encode(page)} for page in pages])


def remove(connection: Connection, gone: Collection[int]) -> None:
    """Delete series by their ids, and put the pages together that have become small."""
    small: list[tuple[int, Series]] = []
    ids: list[int] = []
    for row in connection.execute(select(series_page).order_by(series_page.c.id)).all():
        page = decode(row.data)
        left = [one for one in page if one[0] not in gone]
        if len(left) < len(page) or len(page) < _SERIES_PER_PAGE // 2:
            ids.append(row.id)
            small += left
    for page_id in ids:
        connection.execute(delete(series_page).where(series_page.c.id == page_id))
    write(connection, small)
