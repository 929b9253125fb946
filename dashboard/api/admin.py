"""Prometheus's admin API: /admin/tsdb/*. Off unless the program was started with --enable-admin-api."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dashboard.api.endpoint import Call
from dashboard.api.parameters import Parameters
from dashboard.api.samples import T_MAX_MS, T_MIN_MS
from dashboard.api.selection import selections_of
from metrics.errors import TransientError
from query.engine import QueryEngine
from query.errors import QueryError, bad_data

DISABLED = "admin APIs disabled"


class SeriesDeleter(Protocol):
    """Deletes samples; returns in how many series. Raises DeskvigilError, having deleted nothing or only older blocks."""

    def __call__(self, matchers: Sequence[tuple[str, str, str]], t0_ms: int, t1_ms: int, who: str, /) -> int: ...


class AdminApi:
    """One method per endpoint: parameters in, JSON bytes out, none where there is nothing to tell."""

    def __init__(self, query: QueryEngine, deleter: SeriesDeleter | None) -> None:
        self._query = query
        self._deleter = deleter

    def delete_series(self, parameters: Parameters, _: Call) -> bytes:
        """match[], start, end: delete the samples of the matching series in this time, both ends included."""
        deleter = self._enabled()
        selections = selections_of(parameters, self._query)
        if not selections:
            raise bad_data("no match[] parameter provided")
        start, end = parameters.time_range()
        t0_ms = max(T_MIN_MS, T_MIN_MS if start is None else start)
        t1_ms = min(T_MAX_MS, T_MAX_MS if end is None else end)
        if t1_ms < t0_ms:
            raise bad_data('invalid parameter "end": end timestamp must not be before start time')
        for matchers in selections:
            deleter([(str(m.name), str(m.op), str(m.value)) for m in matchers], t0_ms, t1_ms, parameters.client)
        return b""

    def clean_tombstones(self, _parameters: Parameters, _: Call) -> bytes:
        """Nothing to do: deleting rewrites the data at once."""
        self._enabled()
        return b""

    def snapshot(self, _parameters: Parameters, _: Call) -> bytes:
        """Not offered over HTTP: `app.py backup` makes one of a running desk."""
        self._enabled()
        raise QueryError("execution", "snapshots are made by `python app.py backup`, while the desk runs")

    def _enabled(self) -> SeriesDeleter:
        if self._deleter is None:
            raise TransientError(DISABLED)
        return self._deleter
