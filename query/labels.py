"""Label sets of a vector's rows, and what expressions do to them.

Label work depends only on which series came in, and these change rarely. Nodes therefore keep
their last label result (`Last`) and recognise an unchanged input by identity: a rule evaluated ten
times a second does its label work once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Generic, TypeVar

from metrics.series import Labels, Series

NAME = "__name__"
# What describes a metric as it was stored: gone where a function makes something else of it.
METADATA = (NAME, "__type__", "__unit__")
T = TypeVar("T")


class Table:
    """The rows of a vector: label sets (sorted, with `__name__`), and which of them lose their name at the end.

    Names are dropped only when a result leaves the engine, so that `label_replace` and `by (__name__)`
    can still see them (Prometheus 3's delayed name removal). Immutable, compared by identity.
    """

    __slots__ = ("drop", "rows")

    def __init__(self, rows: tuple[Labels, ...], drop: tuple[bool, ...] | None = None) -> None:
        self.rows = rows
        self.drop = drop if drop is not None else (False,) * len(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def dropping(self) -> Table:
        """The same rows, all losing their name."""
        return Table(self.rows, (True,) * len(self.rows))

    def take(self, rows: Iterable[int]) -> Table:
        """The rows with these positions, in this order."""
        positions = list(rows)
        return Table(tuple(self.rows[i] for i in positions), tuple(self.drop[i] for i in positions))

    def final(self) -> tuple[Labels, ...]:
        """The label sets as they leave the engine."""
        return tuple(
            without(labels, METADATA) if drop else labels for labels, drop in zip(self.rows, self.drop, strict=True)
        )


EMPTY = Table(())
BLANK = Table(((),))


class Last(Generic[T]):
    """The last result of a function of tables, kept while the same tables (by identity) come in.

    Safe to share between threads: the entry is replaced as a whole.
    """

    __slots__ = ("_entry",)

    def __init__(self) -> None:
        self._entry: tuple[tuple[object, ...], T] | None = None

    def of(self, build: Callable[..., T], *inputs: object) -> T:
        """Return `build(*inputs)`, or its result of the last time if the inputs are the same objects."""
        entry = self._entry
        if entry is not None and len(entry[0]) == len(inputs) and all(map(_is, entry[0], inputs)):
            return entry[1]
        result = build(*inputs)
        self._entry = (inputs, result)
        return result


def _is(a: object, b: object) -> bool:
    return a is b


def dropping(table: Table) -> Table:
    return table.dropping()


def labels_of(series: Series) -> Labels:
    """Return a series' labels with its name among them, sorted."""
    return tuple(sorted((*series.labels, (NAME, series.name))))


def table_of(series: tuple[Series, ...]) -> Table:
    return Table(tuple(labels_of(one) for one in series))


def joined(*tables: Table) -> Table:
    """Rows of all tables, one table after the other."""
    return Table(
        tuple(row for table in tables for row in table.rows), tuple(flag for table in tables for flag in table.drop)
    )


def get(labels: Labels, name: str) -> str:
    """The value of one label, "" where there is none."""
    for key, value in labels:
        if key == name:
            return value
    return ""


def keep(labels: Labels, names: Collection[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


def without(labels: Labels, names: Collection[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in names)


def with_label(labels: Labels, name: str, value: str) -> Labels:
    """Set one label; an empty value removes it."""
    rest = [pair for pair in labels if pair[0] != name]
    if value:
        rest.append((name, value))
        rest.sort()
    return tuple(rest)


def show(labels: Labels) -> str:
    """A label set as Prometheus's messages have it: {__name__="name", label="value"}."""
    return "{" + ", ".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
