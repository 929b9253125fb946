"""Questions to a remote store: PromQL that it answers over its HTTP API, and the local store where it does not.

Only pages and the API ask this way; rules keep asking the local store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from metrics.clock import Clock
from metrics.frame import FloatArray, IntArray
from metrics.series import Series, make_labels
from query.context import times
from query.engine import Prepared, QueryEngine
from query.errors import ErrorKind, QueryError, bad_data, execution
from query.labels import NAME
from query.matchers import Matcher
from query.options import QueryOptions
from query.parse import parse
from query.result import Kind, Result, nothing
from query.source import Cursor, Source
from storage.remote.client import RemoteAway, RemoteClient
from storage.rest import Rest

_LONGEST_REST_S = 15.0
_SERIES_BACK_MS = 30 * 86_400_000
_KINDS: dict[str, ErrorKind] = {"bad_data": "bad_data", "execution": "execution", "timeout": "timeout"}
_BY_STATUS: dict[int, ErrorKind] = {400: "bad_data", 422: "execution"}
# VictoriaMetrics hides the newest 30 s and keeps old answers; both can be asked off, and others ignore it.
_FRESH = (("nocache", "1"), ("latency_offset", "1ms"))


class RemoteStore:
    """One remote store's query API, left alone for a while after it failed. Thread-safe."""

    def __init__(self, client: RemoteClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._rest = Rest(clock, _LONGEST_REST_S)

    def ask(self, path: str, parameters: Sequence[tuple[str, str]], timeout_s: float) -> tuple[Any, tuple[str, ...]]:
        """Return `data` and warnings of an answer.

        QueryError where the question is at fault, RemoteAway where the store is.
        """
        if reason := self._rest.reason:
            raise RemoteAway(reason)
        try:
            answer = self._client.ask(path, parameters, timeout_s, post=not path.startswith("label/"))
            found = _decoded(answer.body)
            if answer.status != 200 and not (found and answer.status in _BY_STATUS):
                raise RemoteAway(f"the remote store answered {answer.status}: {answer.first_line or 'no reason given'}")
            if not isinstance(found, dict):
                raise RemoteAway("the remote store answered something that is not Prometheus's JSON")
        except RemoteAway as error:
            self._rest.failed(str(error))
            raise
        self._rest.worked()
        if found.get("status") != "success":
            kind = _KINDS.get(str(found.get("errorType"))) or _BY_STATUS.get(answer.status, "execution")
            raise QueryError(kind, f"the remote store says: {found.get('error', 'no reason given')}")
        return found.get("data"), tuple(str(one) for one in [*found.get("warnings", ()), *found.get("infos", ())])

    def note(self, error: RemoteAway) -> str:
        """What a fallback is called in the answer's warnings."""
        return f"{error}. This answer comes from the local store, which knows this desk only and keeps less."


class RemoteEngine(QueryEngine):
    """A QueryEngine whose questions go to a remote store first; what is local answers while that is away."""

    def __init__(self, local: Source, remote: RemoteStore, options: QueryOptions, clock: Clock) -> None:
        super().__init__(local, options, clock)
        self.source = RemoteSource(local, remote, options, clock)
        self._remote = remote
        self._local = local

    def prepare(self, expression: str) -> Prepared:
        """Parse here, so that mistakes read the same as ever; evaluate there."""
        return RemotePrepared(expression, self._local, self._remote, self.options, self._clock)

    def limited(self, options: QueryOptions, clock: Clock) -> QueryEngine:
        return RemoteEngine(self._local, self._remote, options, clock)


class RemotePrepared(Prepared):
    """An expression that the remote store evaluates."""

    def __init__(
        self, expression: str, local: Source, remote: RemoteStore, options: QueryOptions, clock: Clock
    ) -> None:
        super().__init__(expression, parse(expression, options), local, options, clock)
        self._remote = remote

    def instant(self, t_ms: int, timeout_s: float | None = None) -> Result:
        """Evaluate at one time."""
        limit_s = self._options.timeout_s if timeout_s is None else min(timeout_s, self._options.timeout_s)
        parameters = [("query", self.expression), ("time", _seconds(t_ms)), *self._limits(limit_s)]
        try:
            data, warnings = self._remote.ask("query", parameters, limit_s)
            return _instant(data, t_ms, warnings, self._options)
        except RemoteAway as error:
            return _noted(super().instant(t_ms, timeout_s), self._remote.note(error))

    def range(self, start_ms: int, end_ms: int, step_ms: int, timeout_s: float | None = None) -> Result:
        """Evaluate at start, start + step, ... up to end."""
        if step_ms <= 0 or end_ms < start_ms or (end_ms - start_ms) // step_ms + 1 > self._options.max_steps:
            return super().range(start_ms, end_ms, step_ms, timeout_s)  # which says what is wrong
        limit_s = self._options.timeout_s if timeout_s is None else min(timeout_s, self._options.timeout_s)
        parameters = [
            ("query", self.expression),
            ("start", _seconds(start_ms)),
            ("end", _seconds(end_ms)),
            ("step", _seconds(step_ms)),
            *self._limits(limit_s),
        ]
        try:
            data, warnings = self._remote.ask("query_range", parameters, limit_s)
            return _range(data, times(start_ms, end_ms, step_ms), step_ms, warnings, self._options)
        except RemoteAway as error:
            return _noted(super().range(start_ms, end_ms, step_ms, timeout_s), self._remote.note(error))

    def _limits(self, timeout_s: float) -> list[tuple[str, str]]:
        return [("timeout", f"{timeout_s:g}s"), *_FRESH]


class RemoteSource:
    """Series and labels as the remote store knows them; samples are read from the local store."""

    def __init__(self, local: Source, remote: RemoteStore, options: QueryOptions, clock: Clock) -> None:
        self._local = local
        self._remote = remote
        self._options = options
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        """Whatever else the local source can do."""
        return getattr(self._local, name)

    def cursor(self, matchers: Sequence[Matcher]) -> Cursor:
        return self._local.cursor(matchers)

    def series(
        self, matchers: Sequence[Matcher] = (), t0_ms: int | None = None, t1_ms: int | None = None
    ) -> list[Series]:
        chosen = matchers or [Matcher(NAME, "!=", "")]
        parameters = [("match[]", selector(chosen)), *self._span(t0_ms, t1_ms)]
        try:
            data, _ = self._remote.ask("series", parameters, self._options.timeout_s)
        except RemoteAway:
            return self._local.series(matchers, t0_ms, t1_ms)
        return [_series(labels) for labels in data or ()]

    def label_names(self, matchers: Sequence[Matcher] = ()) -> list[str]:
        try:
            data, _ = self._remote.ask("labels", self._about(matchers), self._options.timeout_s)
        except RemoteAway:
            return self._local.label_names(matchers)
        return sorted(str(name) for name in data or ())

    def label_values(self, name: str, matchers: Sequence[Matcher] = ()) -> list[str]:
        try:
            data, _ = self._remote.ask(f"label/{name}/values", self._about(matchers), self._options.timeout_s)
        except RemoteAway:
            return self._local.label_values(name, matchers)
        return sorted(str(value) for value in data or ())

    def _about(self, matchers: Sequence[Matcher]) -> list[tuple[str, str]]:
        chosen = [("match[]", selector(matchers))] if matchers else []
        return [*chosen, *self._span(None, None)]

    def _span(self, t0_ms: int | None, t1_ms: int | None) -> list[tuple[str, str]]:
        """The time range of a question; without one VictoriaMetrics would look at the last minutes only."""
        now_ms = self._clock.now_ns() // 1_000_000
        end_ms = now_ms if t1_ms is None else t1_ms
        return [("start", _seconds(end_ms - _SERIES_BACK_MS if t0_ms is None else t0_ms)), ("end", _seconds(end_ms))]


def selector(matchers: Sequence[Matcher]) -> str:
    """Matchers as PromQL writes them."""
    return "{" + ",".join(f"{one.name}{one.op}{_quoted(one.value)}" for one in matchers) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _seconds(t_ms: int) -> str:
    whole, rest = divmod(abs(t_ms), 1000)
    return f"{'-' if t_ms < 0 else ''}{whole}.{rest:03d}"


def _decoded(body: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _series(labels: dict[str, str]) -> Series:
    return Series(labels.get(NAME, ""), make_labels({name: v for name, v in labels.items() if name != NAME}))


def _noted(result: Result, note: str) -> Result:
    return replace(result, warnings=(note, *result.warnings))


def _instant(data: Any, t_ms: int, warnings: tuple[str, ...], options: QueryOptions) -> Result:
    kind, found = _typed(data)
    at = np.array([t_ms], np.int64)
    if kind == "string":
        return Result("string", (), at, np.empty((0, 1)), np.empty((0, 1), np.bool_), warnings, str(found[1]))
    if kind == "scalar":
        return Result("scalar", ({},), at, np.array([[float(found[1])]]), np.ones((1, 1), np.bool_), warnings)
    if kind == "matrix":
        axes = [_axis(one["values"]) for one in found]
        axis = np.unique(np.concatenate(axes)) if axes else np.empty(0, np.int64)
        return _filled(found, axis, [np.searchsorted(axis, own) for own in axes], warnings, options)
    if not found:
        return replace(nothing("vector", at), warnings=warnings)
    values = np.array([[float(one["value"][1])] for one in found])
    return Result("vector", tuple(one["metric"] for one in found), at, values, np.ones(values.shape, bool), warnings)


def _range(data: Any, grid: IntArray, step_ms: int, warnings: tuple[str, ...], options: QueryOptions) -> Result:
    kind, found = _typed(data)
    if kind != "matrix":
        raise RemoteAway(f"the remote store answered a range with a {kind}")
    places = []
    for one in found:
        columns, rest = np.divmod(_axis(one["values"]) - grid[0], step_ms)
        if len(columns) and (rest.any() or columns[0] < 0 or columns[-1] >= len(grid)):
            raise RemoteAway("the remote store answered at other times than it was asked for")
        places.append(columns)
    return _filled(found, grid, places, warnings, options)


def _filled(
    found: Sequence[Any], axis: IntArray, places: Sequence[IntArray], warnings: tuple[str, ...], options: QueryOptions
) -> Result:
    """Series over one axis: places say at which steps each has its values."""
    if len(found) * len(axis) > options.max_samples:
        raise execution(f"the remote store's answer has more than {options.max_samples:,} points (query.max_samples)")
    if not found:
        return replace(nothing("matrix", axis), warnings=warnings)
    order = sorted(range(len(found)), key=lambda i: sorted(found[i]["metric"].items()))
    values: FloatArray = np.full((len(found), len(axis)), np.nan)
    present = np.zeros(values.shape, np.bool_)
    for row, i in enumerate(order):
        values[row, places[i]] = np.array([value for _, value in found[i]["values"]]).astype(np.float64)
        present[row, places[i]] = True
    return Result("matrix", tuple(found[i]["metric"] for i in order), axis, values, present, warnings)


def _axis(pairs: Sequence[Any]) -> IntArray:
    """Times of [seconds, text] pairs in ms."""
    return np.rint(np.array([t for t, _ in pairs], np.float64) * 1000).astype(np.int64)


def _typed(data: Any) -> tuple[Kind, Any]:
    try:
        kind, found = data["resultType"], data["result"]
    except (KeyError, TypeError):
        raise RemoteAway("the remote store's answer has no result") from None
    if kind not in ("vector", "scalar", "matrix", "string"):
        raise bad_data(f"the remote store answered with the unknown type {kind!r}")
    return kind, found
