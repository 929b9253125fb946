"""What the alerts room needs of its neighbours, as small protocols: queries, live frames, the write transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

from metrics.frame import Frame, IntArray
from metrics.series import Schema, Series

Samples = Sequence[tuple[dict[str, str], float]]


class Vector(Protocol):
    """The result of an instant query."""

    def samples(self) -> Samples:
        """Label sets (not to be changed) and values of the samples present."""
        ...


class Prepared(Protocol):
    """A reusable plan of one expression."""

    @property
    def kind(self) -> str:
        """What it gives: vector, scalar, matrix or string."""
        ...

    def instant(self, t_ms: int) -> Vector: ...

    def metric_names(self) -> frozenset[str]:
        """Metric names it reads; empty where that depends on the data."""
        ...

    def matches(self, series: Series) -> bool:
        """Whether it would read this series."""
        ...


class Querier(Protocol):
    """Prepares expressions; raises a DeskvigilError where one cannot be evaluated."""

    def prepare(self, expr: str) -> Prepared: ...


class LiveFrames(Protocol):
    """The meeting place of frames."""

    def append(self, frame: Frame) -> None: ...

    def subscribe(self, callback: Callable[[Frame], None]) -> Callable[[], None]: ...

    @property
    def refused(self) -> Mapping[str, str]:
        """The collectors whose frames are not taken at present, and why."""
        ...

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """The present schema of each collector."""
        ...


class Column(Protocol):
    """The samples of one series."""

    @property
    def t_ms(self) -> IntArray: ...


class History(Protocol):
    """Stored samples."""

    def select(self, matchers: Sequence[tuple[str, str, str]], t0_ms: int, t1_ms: int) -> Sequence[Column]: ...


class Transactions(Protocol):
    """The one write transaction, reads, and what became of a transaction whose answer was lost."""

    def write(self) -> AbstractContextManager[Connection]: ...

    def committed(self, token: str) -> bool: ...

    def read(self) -> AbstractContextManager[Connection]: ...


class AlertStore(Transactions, Protocol):
    """The store as the alerts room uses it."""

    @property
    def live(self) -> LiveFrames: ...

    @property
    def reader(self) -> History: ...
