"""QueryError: why a query got no answer, in Prometheus's words."""

from __future__ import annotations

from typing import Literal

from metrics.errors import DeskvigilError

ErrorKind = Literal["bad_data", "execution", "timeout"]


class QueryError(DeskvigilError):
    """A query cannot be answered.

    kind is Prometheus's errorType: bad_data (the text or a parameter is wrong), execution (the
    data do not fit the expression, or a limit is reached) or timeout.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind

    @property
    def message(self) -> str:
        return str(self)


def bad_data(message: str) -> QueryError:
    return QueryError("bad_data", message)


def execution(message: str) -> QueryError:
    return QueryError("execution", message)
