"""QueryEngine: PromQL in, columns out."""

from __future__ import annotations

import numpy as np

from metrics.clock import Clock
from metrics.frame import IntArray
from metrics.series import Series
from query.context import Budget, Context, times
from query.errors import QueryError, bad_data
from query.labels import NAME, Last, Table, get, labels_of
from query.matchers import predicate
from query.merging import Merging
from query.nodes import Node, RangeNode, ScalarNode, Text, VectorNode
from query.options import QueryOptions
from query.parse import parse
from query.plan import Planner, Span, depends_on_span, selectors
from query.printer import pretty
from query.result import Kind, Result, nothing
from query.source import Source
from query.syntax import Tree
from query.values import Vector
from query.windows import Windows


class QueryEngine:
    """Answers PromQL over a source. Stateless: any number of threads may ask at once."""

    def __init__(self, source: Source, options: QueryOptions, clock: Clock) -> None:
        self.source = source
        self.options = options
        self._clock = clock

    def prepare(self, expression: str) -> Prepared:
        """Parse and plan once, evaluate often; QueryError(bad_data) where the text is wrong."""
        return Prepared(expression, parse(expression, self.options), self.source, self.options, self._clock)

    def limited(self, options: QueryOptions, clock: Clock) -> QueryEngine:
        """The same engine under other limits: those of one request."""
        return QueryEngine(self.source, options, clock)

    def prettify(self, expression: str) -> str:
        """The expression in the parser's uniform layout; QueryError(bad_data) where it is wrong."""
        return pretty(parse(expression, self.options))

    def instant(self, expression: str, t_ms: int, timeout_s: float | None = None) -> Result:
        """Evaluate at one time; timeout_s: less than the options' timeout, if given."""
        return self.prepare(expression).instant(t_ms, timeout_s)

    def range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int, timeout_s: float | None = None
    ) -> Result:
        """Evaluate at start, start + step, ... up to end; timeout_s as in `instant`."""
        return self.prepare(expression).range(start_ms, end_ms, step_ms, timeout_s)


class Prepared:
    """A parsed and planned expression, bound to the engine's source.

    Keeps the series that its selectors match and all label work until the set of series changes,
    so that evaluating a rule again costs a few array operations. Use one from one thread at a time.
    """

    def __init__(self, expression: str, tree: Tree, source: Source, options: QueryOptions, clock: Clock) -> None:
        self.expression = expression
        self._tree = tree
        self._source = source
        self._options = options
        self._span = Span()
        self._depends_on_span = depends_on_span(tree)
        self._root = self._planned(self._span, checked=not self._depends_on_span)
        self._clock = clock
        self._merging = Merging(Table.final)
        self._dicts: Last[tuple[dict[str, str], ...]] = Last()
        self.selectors = selectors(self._root)
        self._tests = [[(matcher.name, predicate(matcher)) for matcher in matchers] for matchers in self.selectors]

    def _planned(self, span: Span, *, checked: bool = True) -> Node:
        """The plan for one span of time; unchecked, a span that the expression cannot do with is replaced by another."""
        try:
            return Planner(self._source, self._options, self.expression, span).plan(self._tree)
        except QueryError:
            if checked:
                raise
            return Planner(self._source, self._options, self.expression, Span(0, 60_000, 60_000)).plan(self._tree)

    def _for(self, span: Span) -> Node:
        """The plan to use for a span: made anew where the expression asks for it with start(), step() and so on."""
        if self._depends_on_span and span != self._span:
            self._span, self._root = span, self._planned(span)
        return self._root

    @property
    def kind(self) -> Kind:
        """What an instant evaluation gives."""
        if isinstance(self._root, VectorNode):
            return "vector"
        if isinstance(self._root, ScalarNode):
            return "scalar"
        return "string" if isinstance(self._root, Text) else "matrix"

    def metric_names(self) -> frozenset[str]:
        """The metric names that the expression's selectors ask for exactly."""
        return frozenset(
            matcher.value
            for matchers in self.selectors
            for matcher in matchers
            if matcher.name == NAME and matcher.op == "="
        )

    def matches(self, series: Series) -> bool:
        """Whether the expression reads this series."""
        labels = labels_of(series)
        return any(all(test(get(labels, name)) for name, test in tests) for tests in self._tests)

    def instant(self, t_ms: int, timeout_s: float | None = None) -> Result:
        """Evaluate at one time; timeout_s: less than the options' timeout, if given."""
        at = np.array([t_ms], dtype=np.int64)
        root = self._for(Span(t_ms, t_ms, 0))
        context = self._context(at, 0, t_ms, timeout_s)
        with np.errstate(all="ignore"):
            if isinstance(root, VectorNode):
                return self._vector(root.evaluate(context), context)
            if isinstance(root, ScalarNode):
                value = root.evaluate(context)[None, :]
                return Result("scalar", ({},), at, value, np.ones((1, 1), dtype=np.bool_), _told(context))
            if isinstance(root, RangeNode):
                return _matrix(root.windows(context), context)
        return Result("string", (), at, np.empty((0, 1)), np.empty((0, 1), dtype=np.bool_), (), root.value)

    def range(self, start_ms: int, end_ms: int, step_ms: int, timeout_s: float | None = None) -> Result:
        """Evaluate at start, start + step, ... up to end; timeout_s as in `instant`."""
        if step_ms <= 0:
            raise bad_data("zero or negative query resolution step widths are not accepted. Try a positive integer")
        if end_ms < start_ms:
            raise bad_data("end timestamp must not be before start time")
        if (end_ms - start_ms) // step_ms + 1 > self._options.max_steps:
            raise bad_data(
                f"exceeded maximum resolution of {self._options.max_steps:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
        root = self._for(Span(start_ms, end_ms, step_ms))
        if isinstance(root, RangeNode | Text):
            kind = "range vector" if isinstance(root, RangeNode) else "string"
            raise bad_data(f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector')
        context = self._context(times(start_ms, end_ms, step_ms), step_ms, end_ms, timeout_s)
        with np.errstate(all="ignore"):
            if isinstance(root, ScalarNode):
                value = root.evaluate(context)[None, :]
                return Result("matrix", ({},), context.t_ms, value, np.ones(value.shape, bool), _told(context))
            return self._vector(root.evaluate(context), context)

    def _context(self, t_ms: IntArray, step_ms: int, end_ms: int, timeout_s: float | None) -> Context:
        limit_s = self._options.timeout_s if timeout_s is None else min(timeout_s, self._options.timeout_s)
        deadline = self._clock.monotonic_ns() + round(limit_s * 1e9)
        budget = Budget(self._options, self._clock, deadline, limit_s)
        return Context(t_ms, step_ms, int(t_ms[0]), end_ms, budget)

    def _vector(self, vector: Vector, context: Context) -> Result:
        """Drop names, merge what is then the same series, leave out what is absent everywhere."""
        kind: Kind = "matrix" if context.step_ms else "vector"
        if not len(vector.table):
            return _with_warnings(nothing(kind, context.t_ms), context)
        vector = self._merging.merge(vector)
        if vector.present is not None and not vector.present.any():
            return _with_warnings(nothing(kind, context.t_ms), context)
        labels = self._dicts.of(_dicts, vector.table)
        mask, values = vector.mask(), vector.values
        if vector.present is not None:
            rows = np.flatnonzero(mask.any(axis=1))
            if len(rows) < len(labels):
                labels = tuple(labels[row] for row in rows.tolist())
                mask, values = mask[rows], values[rows]
        if context.step_ms:
            order = sorted(range(len(labels)), key=lambda row: sorted(labels[row].items()))
            labels, mask, values = tuple(labels[row] for row in order), mask[order], values[order]
        return Result(kind, labels, context.t_ms, values, mask, _told(context))


def _dicts(table: Table) -> tuple[dict[str, str], ...]:
    return tuple(dict(labels) for labels in table.final())


def _told(context: Context) -> tuple[str, ...]:
    return context.budget.annotations.texts()


def _with_warnings(result: Result, context: Context) -> Result:
    warnings = _told(context)
    if not warnings:
        return result
    return Result(result.kind, result.labels, result.t_ms, result.values, result.present, warnings)


def _matrix(windows: Windows, context: Context) -> Result:
    """A range selector's raw samples, on the union of the series' time axes."""
    parts = [(block, slice(int(block.lo[0]), int(block.hi[0]))) for block in windows.blocks]
    seen = [block.t[part] for block, part in parts]
    axis = np.unique(np.concatenate(seen)) if seen else np.empty(0, dtype=np.int64)
    shape = (len(windows.table), len(axis))
    context.budget.spend(shape[0] * shape[1])
    values, present = np.full(shape, np.nan), np.zeros(shape, dtype=np.bool_)
    row = 0
    for (block, part), t in zip(parts, seen, strict=True):
        columns = np.searchsorted(axis, t)
        values[row : row + len(block.v), columns] = block.v[:, part]
        present[row : row + len(block.v), columns] = True
        row += len(block.v)
    labels = _dicts(windows.table)
    rows = [i for i in range(len(labels)) if present[i].any()]
    rows.sort(key=lambda i: sorted(labels[i].items()))
    return Result("matrix", tuple(labels[i] for i in rows), axis, values[rows], present[rows], _told(context))


__all__ = ["Prepared", "QueryEngine", "QueryError", "QueryOptions", "Result"]
