"""Queries: /query, /query_range, /query_exemplars, /format_query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dashboard.api import answers
from dashboard.api.endpoint import Call
from dashboard.api.meter import ApiMeter
from dashboard.api.parameters import Parameters
from metrics.clock import Clock
from query.engine import Prepared, QueryEngine
from query.errors import QueryError, bad_data
from query.result import Result

TRUNCATED = "results truncated due to limit"


class QueryApi:
    """One method per endpoint: parameters in, JSON bytes out."""

    def __init__(self, query: QueryEngine, clock: Clock, meter: ApiMeter) -> None:
        self._query = query
        self._clock = clock
        self._meter = meter

    def instant(self, parameters: Parameters, call: Call) -> bytes:
        """query, time, timeout, lookback_delta, limit, stats."""
        expression = parameters.text("query")
        at = parameters.time_ms("time", self._clock.now_ns() // 1_000_000)
        return self._answered(parameters, call, expression, lambda prepared: prepared.instant(at))

    def range(self, parameters: Parameters, call: Call) -> bytes:
        """query, start, end, step, timeout, lookback_delta, limit, stats."""
        expression = parameters.text("query")
        start, end = parameters.time_ms("start"), parameters.time_ms("end")
        if end < start:
            raise bad_data('invalid parameter "end": end timestamp must not be before start time')
        step = parameters.duration_ms("step")
        if step <= 0:
            raise bad_data(
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. '
                "Try a positive integer"
            )
        return self._answered(parameters, call, expression, lambda prepared: prepared.range(start, end, step))

    def _answered(
        self, parameters: Parameters, call: Call, expression: str, evaluate: Callable[[Prepared], Result]
    ) -> bytes:
        limit = parameters.limit()
        engine = self._engine(parameters, call)
        began = self._clock.monotonic_ns()
        with self._meter.query():
            try:
                prepared = engine.prepare(expression)
                planned = self._clock.monotonic_ns()
                answer = evaluate(prepared)
            except QueryError as error:
                if error.kind == "bad_data" and not error.message.startswith("exceeded maximum resolution"):
                    raise bad_data(f'invalid parameter "query": {error.message}') from None
                raise
        ended = self._clock.monotonic_ns()
        data = answers.result(answer, limit)
        if parameters.text("stats", ""):
            data["stats"] = {
                "timings": {
                    "evalTotalTime": (ended - began) / 1e9,
                    "resultSortTime": 0,
                    "queryPreparationTime": (planned - began) / 1e9,
                    "innerEvalTime": (ended - planned) / 1e9,
                    "execQueueTime": 0,
                    "execTotalTime": (ended - began) / 1e9,
                }
            }
        warnings = list(answer.warnings)
        if limit is not None and answer.kind in ("vector", "matrix") and len(answer.labels) > limit:
            warnings.append(TRUNCATED)
        return answers.success(data, warnings)

    def _engine(self, parameters: Parameters, call: Call) -> QueryEngine:
        """The engine under this request's own limits: no longer than asked for, nor when nobody waits any more."""
        options = self._query.options
        if parameters.text("timeout", ""):
            timeout_s = parameters.duration_ms("timeout") / 1000
            if timeout_s <= 0:
                raise bad_data('invalid parameter "timeout": must be greater than 0')
            options = replace(options, timeout_s=min(timeout_s, options.timeout_s))
        if parameters.text("lookback_delta", ""):
            lookback_s = parameters.duration_ms("lookback_delta") / 1000
            if lookback_s <= 0:
                raise bad_data('invalid parameter "lookback_delta": must be greater than 0')
            options = replace(options, lookback_s=lookback_s)
        return self._query.limited(options, call.clock(self._clock))

    def exemplars(self, parameters: Parameters, _: Call) -> bytes:
        """query, start, end: exemplars are not stored, so there are none."""
        expression = parameters.text("query")
        start, end = parameters.time_ms("start"), parameters.time_ms("end")
        if end < start:
            raise bad_data('invalid parameter "end": end timestamp must not be before start timestamp')
        self._query.prettify(expression)
        return answers.success([])

    def format(self, parameters: Parameters, _: Call) -> bytes:
        """query: the expression in a uniform layout."""
        return answers.success(self._query.prettify(parameters.text("query")))
