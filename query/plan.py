"""From the parser's tree to a tree of nodes bound to a source."""

# mypy: disable-error-code="type-abstract"
# (the abstract node kinds are handed to `_of` to be checked against, never to be made)

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import promql_parser as ast

from query.aggregations import REDUCTIONS, Aggregation, By, CountValues, Extremes, Quantile
from query.binary import SET_OPERATORS, ScalarBinary, SetOperation, VectorBinary, VectorScalar
from query.errors import bad_data
from query.functions.elementwise import Clamp, Elementwise, Now
from query.functions.range_function import RangeFunction
from query.functions.registry import CALENDAR, ELEMENTWISE, RANGE, SCALARS
from query.functions.series import (
    Absent,
    EvaluationTime,
    Sorted,
    SortedByLabel,
    label_join,
    label_replace,
    labels_of_matchers,
)
from query.histogram import HistogramFraction, HistogramQuantile
from query.labels import NAME
from query.matchers import Matcher, check
from query.matching import Cardinality, Matching
from query.nodes import (
    AsScalar,
    AsVector,
    NegativeVector,
    Node,
    Number,
    RangeNode,
    ScalarFunction,
    ScalarNode,
    Selecting,
    Text,
    Time,
    VectorNode,
    pinned,
)
from query.options import QueryOptions
from query.parse import parse
from query.selectors import InstantSelector, RangeSelector, Shift, Subquery
from query.source import Source

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = timedelta(days=200 * 365)  # keeps times in milliseconds far from the ends of int64
# The parser's enums cannot be hashed, so these are pairs.
_OPS = (
    (ast.MatchOp.Equal, "="),
    (ast.MatchOp.NotEqual, "!="),
    (ast.MatchOp.Re, "=~"),
    (ast.MatchOp.NotRe, "!~"),
)
_CARDINALITIES: tuple[tuple[Any, Cardinality], ...] = (
    (ast.VectorMatchCardinality.OneToOne, "one-to-one"),
    (ast.VectorMatchCardinality.ManyToOne, "many-to-one"),
    (ast.VectorMatchCardinality.OneToMany, "one-to-many"),
    (ast.VectorMatchCardinality.ManyToMany, "many-to-many"),
)
T = TypeVar("T")


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in node.children():
        yield from walk(child)


def selectors(node: Node) -> tuple[tuple[Matcher, ...], ...]:
    """The matchers of every selector of a plan."""
    return tuple(part.matchers for part in walk(node) if isinstance(part, Selecting))


def matchers_of(text: str, options: QueryOptions) -> tuple[Matcher, ...]:
    """The matchers of a plain series selector, as in `match[]` parameters; QueryError where it is anything else."""
    tree = _unwrapped(parse(text, options))
    if not isinstance(tree, ast.VectorSelector) or tree.offset is not None or tree.at is not None:
        raise bad_data(f"{text!r} is not a series selector")
    return _matchers(tree)


class Planner:
    """Makes nodes; QueryError(bad_data) for what is not supported."""

    def __init__(self, source: Source, options: QueryOptions) -> None:
        self._source = source
        self._options = options
        self._kinds: dict[type, Callable[[Any], Node]] = {
            ast.NumberLiteral: lambda tree: Number(float(tree.val)),
            ast.StringLiteral: lambda tree: Text(tree.val),
            ast.ParenExpr: lambda tree: self.plan(tree.expr),
            ast.UnaryExpr: self._unary,
            ast.VectorSelector: self._instant,
            ast.MatrixSelector: self._range,
            ast.SubqueryExpr: self._subquery,
            ast.BinaryExpr: self._binary,
            ast.AggregateExpr: self._aggregate,
            ast.Call: self._call,
        }

    def plan(self, tree: Any) -> Node:
        """Return the node of a parser's tree."""
        make = self._kinds.get(type(tree))
        if make is None:
            raise bad_data(f"expression of kind {type(tree).__name__} is not supported")
        node = make(tree)
        if isinstance(node, RangeNode | Text):
            return node
        if not isinstance(tree, ast.ParenExpr | ast.VectorSelector | ast.NumberLiteral | ast.Call):
            node.pinned = all(child.pinned for child in node.children())
        return pinned(node) if isinstance(node, VectorNode) else node

    # Arguments, by the type they must have; the parser has checked it, so a mismatch is rare.

    def _vector(self, tree: Any) -> VectorNode:
        return _of(VectorNode, self.plan(tree))

    def _scalar(self, tree: Any) -> ScalarNode:
        return _of(ScalarNode, self.plan(tree))

    def _window(self, tree: Any) -> RangeNode:
        return _of(RangeNode, self.plan(tree))

    def _text(self, tree: Any) -> str:
        return _of(Text, self.plan(tree)).value

    # Selectors

    def _instant(self, tree: Any, *, want_time: bool = False) -> InstantSelector:
        matchers = _matchers(tree)
        shift = Shift(_milliseconds(tree, "offset"), _at(tree))
        return InstantSelector(matchers, self._source.cursor(matchers), shift, want_time=want_time)

    def _range(self, tree: Any) -> RangeSelector:
        inner = tree.vector_selector
        matchers = _matchers(inner)
        shift = Shift(_milliseconds(inner, "offset"), _at(inner))
        return RangeSelector(matchers, self._source.cursor(matchers), shift, _milliseconds(tree, "range"))

    def _subquery(self, tree: Any) -> Subquery:
        step = _milliseconds(tree, "step") or self._options.subquery_step_ms
        inner = self.plan(tree.expr)
        if isinstance(inner, ScalarNode):
            inner = AsVector(inner)
        shift = Shift(_milliseconds(tree, "offset"), _at(tree))
        return Subquery(_of(VectorNode, inner), shift, _milliseconds(tree, "range"), step)

    # Operators

    def _unary(self, tree: Any) -> Node:
        inner = self.plan(tree.expr)
        if isinstance(inner, ScalarNode):
            return ScalarFunction(np.negative, inner)
        return NegativeVector(_of(VectorNode, inner))

    def _binary(self, tree: Any) -> Node:
        operator = str(tree.op)
        left, right = self.plan(tree.lhs), self.plan(tree.rhs)
        return_bool = tree.modifier is not None and tree.modifier.return_bool
        if isinstance(left, ScalarNode) and isinstance(right, ScalarNode):
            return ScalarBinary(operator, left, right)
        if isinstance(right, ScalarNode):
            return VectorScalar(operator, _of(VectorNode, left), right, swapped=False, return_bool=return_bool)
        if isinstance(left, ScalarNode):
            return VectorScalar(operator, _of(VectorNode, right), left, swapped=True, return_bool=return_bool)
        matching = _matching(tree.modifier)
        if operator in SET_OPERATORS:
            return SetOperation(operator, _of(VectorNode, left), _of(VectorNode, right), matching)
        return VectorBinary(operator, _of(VectorNode, left), _of(VectorNode, right), matching, return_bool=return_bool)

    def _aggregate(self, tree: Any) -> VectorNode:
        operator = str(tree.op)
        inner, by = self._vector(tree.expr), _by(tree.modifier)
        if operator in REDUCTIONS:
            return Aggregation(REDUCTIONS[operator], inner, by)
        if operator == "quantile":
            return Quantile(self._scalar(tree.param), inner, by)
        if operator in ("topk", "bottomk"):
            return Extremes(self._scalar(tree.param), inner, by, largest=operator == "topk")
        if operator == "count_values":
            return CountValues(self._text(tree.param), inner, by)
        raise bad_data(f"aggregation {operator} is not supported")

    # Functions

    def _call(self, tree: Any) -> Node:
        name, arguments = tree.func.name, list(tree.args)
        node = self._function(name, arguments)
        if name in ("time", "timestamp") or (name in CALENDAR) or (name in RANGE and not RANGE[name].pinnable):
            # Depends on the evaluation time, except for the time of a sample that @ has chosen.
            node.pinned = name == "timestamp" and isinstance(node, InstantSelector) and node.pinned
        else:
            node.pinned = all(child.pinned for child in node.children())
        return node

    def _function(self, name: str, arguments: list[Any]) -> Node:
        if name in RANGE:
            return self._range_function(name, arguments)
        if name in ELEMENTWISE:
            scalars = tuple(self._scalar(argument) for argument in arguments[1:])
            return Elementwise(ELEMENTWISE[name], self._vector(arguments[0]), scalars)
        if name in CALENDAR:
            function = CALENDAR[name]
            return Elementwise(function, self._vector(arguments[0])) if arguments else Now(function)
        if name in SCALARS:
            return ScalarFunction(SCALARS[name], *(self._scalar(argument) for argument in arguments))
        special = getattr(self, f"_function_{name}", None)
        if special is None:
            raise bad_data(f"function {name} is not supported")
        return special(arguments)  # type: ignore[no-any-return]

    def _range_function(self, name: str, arguments: list[Any]) -> RangeFunction:
        spec = RANGE[name]
        planned = [self.plan(argument) for argument in arguments]
        windows = [node for node in planned if isinstance(node, RangeNode)]
        scalars = tuple(node for node in planned if isinstance(node, ScalarNode))
        if len(windows) != 1 or len(scalars) != len(planned) - 1:
            raise bad_data(f"wrong arguments in call to {name}")
        return RangeFunction(
            spec.kernel, windows[0], scalars, least=spec.least, keeps_name=spec.keeps_name, quantile=spec.quantile
        )

    def _function_time(self, _: list[Any]) -> Node:
        return Time()

    def _function_pi(self, _: list[Any]) -> Node:
        return Number(np.pi)

    def _function_scalar(self, arguments: list[Any]) -> Node:
        return AsScalar(self._vector(arguments[0]))

    def _function_vector(self, arguments: list[Any]) -> Node:
        return AsVector(self._scalar(arguments[0]))

    def _function_timestamp(self, arguments: list[Any]) -> Node:
        tree = _unwrapped(arguments[0])
        if isinstance(tree, ast.VectorSelector):
            return self._instant(tree, want_time=True)
        return EvaluationTime(self._vector(tree))

    def _function_clamp(self, arguments: list[Any]) -> Node:
        return Clamp(self._vector(arguments[0]), self._scalar(arguments[1]), self._scalar(arguments[2]))

    def _function_absent(self, arguments: list[Any]) -> Node:
        tree = _unwrapped(arguments[0])
        known = _matchers(tree) if isinstance(tree, ast.VectorSelector) else ()
        return Absent(self._vector(tree), labels_of_matchers(known))

    def _function_absent_over_time(self, arguments: list[Any]) -> Node:
        tree = _unwrapped(arguments[0])
        known = _matchers(tree.vector_selector) if isinstance(tree, ast.MatrixSelector) else ()
        return Absent(self._window(tree), labels_of_matchers(known))

    def _function_histogram_quantile(self, arguments: list[Any]) -> Node:
        return HistogramQuantile((self._scalar(arguments[0]),), self._vector(arguments[1]))

    def _function_histogram_fraction(self, arguments: list[Any]) -> Node:
        bounds = (self._scalar(arguments[0]), self._scalar(arguments[1]))
        return HistogramFraction(bounds, self._vector(arguments[2]))

    def _function_label_replace(self, arguments: list[Any]) -> Node:
        target, replacement, source, pattern = (self._text(argument) for argument in arguments[1:5])
        return label_replace(self._vector(arguments[0]), target, replacement, source, pattern)

    def _function_label_join(self, arguments: list[Any]) -> Node:
        target, separator, *sources = (self._text(argument) for argument in arguments[1:])
        return label_join(self._vector(arguments[0]), target, separator, tuple(sources))

    def _function_sort(self, arguments: list[Any]) -> Node:
        return Sorted(self._vector(arguments[0]), descending=False)

    def _function_sort_desc(self, arguments: list[Any]) -> Node:
        return Sorted(self._vector(arguments[0]), descending=True)

    def _function_sort_by_label(self, arguments: list[Any]) -> Node:
        names = tuple(self._text(argument) for argument in arguments[1:])
        return SortedByLabel(self._vector(arguments[0]), names, descending=False)

    def _function_sort_by_label_desc(self, arguments: list[Any]) -> Node:
        names = tuple(self._text(argument) for argument in arguments[1:])
        return SortedByLabel(self._vector(arguments[0]), names, descending=True)


def _of(kind: type[T], node: object) -> T:
    if not isinstance(node, kind):
        raise bad_data(f"expected {kind.__name__}, got {type(node).__name__}")
    return node


def _named(pairs: tuple[tuple[Any, T], ...], member: Any) -> T:
    for candidate, name in pairs:
        if candidate == member:
            return name
    raise bad_data(f"{member} is not supported")


def _unwrapped(tree: Any) -> Any:
    while isinstance(tree, ast.ParenExpr):
        tree = tree.expr
    return tree


def _milliseconds(tree: Any, name: str) -> int:
    """One duration of a tree, 0 where it is not given; the parser converts, and may fail, as it is read."""
    try:
        duration: timedelta | None = getattr(tree, name)
    except (ValueError, OverflowError) as error:
        raise bad_data(f"parse error: {name}: {error}") from None
    if duration is None:
        return 0
    if abs(duration) > _LONGEST:
        raise bad_data(f"a duration of {duration.days // 365} years is too long")
    return duration // timedelta(milliseconds=1)


def _at(tree: Any) -> Any:
    modifier = tree.at
    if modifier is None:
        return None
    if modifier.type == ast.AtModifierType.Start:
        return "start"
    if modifier.type == ast.AtModifierType.End:
        return "end"
    try:
        return (modifier.at - _EPOCH) // timedelta(milliseconds=1)
    except (OverflowError, ValueError):
        raise bad_data("timestamp after @ is out of range") from None


def _matchers(tree: Any) -> tuple[Matcher, ...]:
    if tree.matchers.or_matchers:
        raise bad_data("`or` between label matchers is not PromQL")
    found = [Matcher(matcher.name, _named(_OPS, matcher.op), matcher.value) for matcher in tree.matchers.matchers]
    if tree.name is not None:
        found.insert(0, Matcher(NAME, "=", tree.name))
    check(found)
    return tuple(found)


def _by(modifier: Any) -> By:
    if modifier is None:
        return By()
    return By(tuple(modifier.labels), without=modifier.type == ast.AggModifierType.Without)


def _matching(modifier: Any) -> Matching:
    if modifier is None:
        return Matching()
    fill = modifier.fill_values
    if fill is not None and (fill.lhs is not None or fill.rhs is not None):
        raise bad_data("fill modifiers are not supported")
    labels = modifier.matching
    return Matching(
        _named(_CARDINALITIES, modifier.card),
        on=labels is not None and labels.type == ast.LabelModifierType.Include,
        labels=tuple(labels.labels) if labels is not None else (),
        include=tuple(modifier.group_labels or ()),
    )
