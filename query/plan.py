"""From the syntax tree to a tree of nodes bound to a source."""

# mypy: disable-error-code="type-abstract"
# (the abstract node kinds are handed to `_of` to be checked against, never to be made)

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from query.aggregations import (
    REDUCTIONS,
    Aggregation,
    By,
    CountValues,
    Extremes,
    LimitK,
    LimitRatio,
    Quantile,
)
from query.binary import SET_OPERATORS, ScalarBinary, SetOperation, VectorBinary, VectorScalar
from query.errors import bad_data, execution
from query.functions.elementwise import Clamp, Elementwise, Now
from query.functions.info import Info
from query.functions.range_function import RangeFunction
from query.functions.registry import CALENDAR, COUNTERS, ELEMENTWISE, EXTENDED, RANGE, SCALARS
from query.functions.series import (
    Absent,
    EvaluationTime,
    Sorted,
    SortedByLabel,
    label_join,
    label_replace,
    labels_of_matchers,
)
from query.histogram import HistogramFraction, HistogramQuantile, HistogramQuantiles
from query.lexer import wrong
from query.matchers import Matcher
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
from query.selectors import (
    ExtendedSelector,
    InstantSelector,
    RangeSelector,
    RawSince,
    Shift,
    SmoothedSelector,
    Subquery,
)
from query.source import Source
from query.syntax import (
    AggregateTree,
    BinaryTree,
    CallTree,
    Length,
    LengthTree,
    MatchTree,
    NumberTree,
    ParenTree,
    RangeTree,
    SelectorTree,
    StringTree,
    SubqueryTree,
    Tree,
    UnaryTree,
    place,
    unwrapped,
)

_LONGEST_MS = 200 * 365 * 86_400_000  # keeps times far from the ends of int64
_LATEST_MS = 2**61  # an @ beyond finds nothing, wherever exactly it points
T = TypeVar("T")


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in node.children():
        yield from walk(child)


def selectors(node: Node) -> tuple[tuple[Matcher, ...], ...]:
    """The matchers of every selector of a plan."""
    return tuple(part.matchers for part in walk(node) if isinstance(part, Selecting))


@dataclass(frozen=True, slots=True)
class Span:
    """When a query is asked, for start(), end(), step() and range() in expressions; milliseconds, step 0 for one instant."""

    start_ms: int = 0
    end_ms: int = 0
    step_ms: int = 0


def matchers_of(text: str, options: QueryOptions) -> tuple[Matcher, ...]:
    """The matchers of a plain series selector, as in `match[]` parameters; QueryError where it is anything else."""
    tree = unwrapped(parse(text, options))
    if not isinstance(tree, SelectorTree) or tree.has_offset or tree.at is not None:
        raise bad_data(f"{text!r} is not a series selector")
    return _matchers(tree)


def depends_on_span(tree: Tree) -> bool:
    """Whether a plan of this tree holds for one span of time only: it calls start(), end(), step() or range()."""
    if isinstance(tree, CallTree) and tree.function in _OF_SPAN:
        return True
    if isinstance(tree, LengthTree) and tree.operator in _OF_SPAN:
        return True
    parts: list[object] = []
    for kind in type(tree).__mro__:
        parts += [getattr(tree, name) for name in getattr(kind, "__slots__", ())]
    trees = [part for part in parts if isinstance(part, Tree)]
    trees += [part for some in parts if isinstance(some, tuple) for part in some if isinstance(part, Tree)]
    return any(depends_on_span(part) for part in trees)


_OF_SPAN = ("start", "end", "step", "range")


class Planner:
    """Makes nodes; QueryError for what is not supported."""

    def __init__(self, source: Source, options: QueryOptions, text: str = "", span: Span | None = None) -> None:
        self._source = source
        self._raw_since: RawSince = getattr(source, "raw_since_ms", lambda: None)  # not every source forgets
        self._options = options
        self._text = text
        self._span = span or Span()
        self._kinds: dict[type, Callable[[Any], Node]] = {
            NumberTree: lambda tree: Number(tree.value),
            StringTree: lambda tree: Text(tree.value),
            ParenTree: lambda tree: self.plan(tree.inner),
            UnaryTree: self._unary,
            SelectorTree: self._instant,
            RangeTree: self._range,
            SubqueryTree: self._subquery,
            BinaryTree: self._binary,
            AggregateTree: self._aggregate,
            CallTree: self._call,
        }

    def plan(self, tree: Tree) -> Node:
        """Return the node of a tree."""
        node = self._kinds[type(tree)](tree)
        if isinstance(node, RangeNode | Text):
            return node
        if not isinstance(tree, ParenTree | SelectorTree | NumberTree | CallTree):
            node.pinned = all(child.pinned for child in node.children())
        return pinned(node) if isinstance(node, VectorNode) else node

    def _place(self, tree: Tree) -> str:
        return place(self._text, tree.start)

    # Arguments, by the type they must have; the parser has checked it, so a mismatch is rare.

    def _vector(self, tree: Any) -> VectorNode:
        return _of(VectorNode, self.plan(tree))

    def _scalar(self, tree: Any) -> ScalarNode:
        return _of(ScalarNode, self.plan(tree))

    def _window(self, tree: Any) -> RangeNode:
        return _of(RangeNode, self.plan(tree))

    def _text_of(self, tree: Any) -> str:
        return _of(Text, self.plan(tree)).value

    # Selectors

    def _instant(self, tree: SelectorTree, *, want_time: bool = False) -> VectorNode:
        matchers = _matchers(tree)
        if tree.extended == "smoothed" and not want_time:
            return SmoothedSelector(matchers, self._source.cursor(matchers), self._shift(tree))
        return InstantSelector(
            matchers, self._source.cursor(matchers), self._shift(tree), self._raw_since, want_time=want_time
        )

    def _range(self, tree: RangeTree) -> RangeSelector:
        matchers = _matchers(tree.selector)
        cursor, length = self._source.cursor(matchers), self._length(tree.length, tree)
        if tree.selector.extended:
            return ExtendedSelector(matchers, cursor, self._shift(tree.selector), length, tree.selector.extended)
        return RangeSelector(matchers, cursor, self._shift(tree.selector), length, self._raw_since)

    def _subquery(self, tree: SubqueryTree) -> Subquery:
        step = self._options.subquery_step_ms if tree.step is None else self._length(tree.step, tree)
        inner = self.plan(tree.inner)
        if isinstance(inner, ScalarNode):
            inner = AsVector(inner)
        return Subquery(_of(VectorNode, inner), self._shift(tree), self._length(tree.length, tree), step)

    def _shift(self, tree: SelectorTree | SubqueryTree) -> Shift:
        at = tree.at if not isinstance(tree.at, int) else max(-_LATEST_MS, min(_LATEST_MS, tree.at))
        return Shift(self._length(tree.offset, tree, negative=True), at)

    def _length(self, length: Length, tree: Tree, *, negative: bool = False) -> int:
        """A duration in milliseconds; QueryError where it is none."""
        if isinstance(length, int):
            return length
        seconds = self._seconds(length)
        at = f"{length.start}:{length.end}"
        if not math.isfinite(seconds):
            raise execution(f"{at}: duration is NaN or infinite")
        if seconds <= 0 and not negative:
            raise execution(f"{at}: duration must be greater than 0")
        if abs(seconds) * 1000 > _LONGEST_MS:
            raise execution(f"{at}: duration is out of range")
        milliseconds = int(seconds * 1000)
        return milliseconds if negative else max(milliseconds, 1)

    def _seconds(self, tree: Tree) -> float:
        if isinstance(tree, NumberTree):
            return tree.value
        assert isinstance(tree, LengthTree)  # noqa: S101 - the parser makes nothing else
        if tree.operator == "step":
            return self._span.step_ms / 1000
        if tree.operator == "range":
            return (self._span.end_ms - self._span.start_ms) / 1000
        right = self._seconds(tree.right) if tree.right is not None else 0.0
        if tree.left is None:
            return -right if tree.operator == "-" else right
        left = self._seconds(tree.left)
        if tree.operator in "/%" and right == 0:
            what = "division by zero" if tree.operator == "/" else "modulo by zero"
            raise execution(f"{tree.start}:{tree.end}: {what}")
        with np.errstate(all="ignore"):
            return float(_LENGTHS[tree.operator](left, right))

    # Operators

    def _unary(self, tree: UnaryTree) -> Node:
        inner = self.plan(tree.inner)
        if tree.operator == "+":
            return inner
        if isinstance(inner, ScalarNode):
            return ScalarFunction(np.negative, inner)
        return NegativeVector(_of(VectorNode, inner))

    def _binary(self, tree: BinaryTree) -> Node:
        operator, return_bool = tree.operator, tree.match.return_bool
        left, right = self.plan(tree.left), self.plan(tree.right)
        if isinstance(left, ScalarNode) and isinstance(right, ScalarNode):
            return ScalarBinary(operator, left, right)
        if isinstance(right, ScalarNode):
            return VectorScalar(operator, _of(VectorNode, left), right, swapped=False, return_bool=return_bool)
        if isinstance(left, ScalarNode):
            return VectorScalar(operator, _of(VectorNode, right), left, swapped=True, return_bool=return_bool)
        matching = _matching(tree.match)
        if operator in SET_OPERATORS:
            return SetOperation(operator, _of(VectorNode, left), _of(VectorNode, right), matching)
        return VectorBinary(operator, _of(VectorNode, left), _of(VectorNode, right), matching, return_bool=return_bool)

    def _aggregate(self, tree: AggregateTree) -> VectorNode:
        operator = tree.operator
        inner, by = self._vector(tree.inner), By(tree.labels, tree.without)
        if operator in REDUCTIONS:
            return Aggregation(REDUCTIONS[operator], inner, by)
        assert tree.parameter is not None  # noqa: S101 - the parser gives every other aggregation one
        if operator == "count_values":
            return CountValues(self._text_of(tree.parameter), inner, by)
        parameter, where = self._scalar(tree.parameter), self._place(tree.parameter)
        if operator == "quantile":
            return Quantile(parameter, inner, by, where)
        if operator == "limitk":
            return LimitK(parameter, inner, by)
        if operator == "limit_ratio":
            return LimitRatio(parameter, inner, by, where)
        return Extremes(parameter, inner, by, largest=operator == "topk")

    # Functions

    def _call(self, tree: Any) -> Node:
        name, arguments = tree.function, list(tree.arguments)
        node = self._function(name, arguments, tree)
        if name in ("time", "timestamp") or (name in CALENDAR) or (name in RANGE and not RANGE[name].pinnable):
            # Depends on the evaluation time, except for the time of a sample that @ has chosen.
            node.pinned = name == "timestamp" and isinstance(node, InstantSelector) and node.pinned
        else:
            node.pinned = all(child.pinned for child in node.children())
        return node

    def _function(self, name: str, arguments: list[Any], tree: CallTree) -> Node:
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
        if name.startswith("sort"):
            return self._sort(name, arguments, self._place(tree))
        if name in _OF_SPAN:
            return self._of_span(name)
        special = getattr(self, f"_function_{name}", None)
        if special is None:
            raise wrong(self._text, tree.start, f"function {name} is not supported: there are no native histograms")
        return special(arguments)  # type: ignore[no-any-return]

    def _range_function(self, name: str, arguments: list[Any]) -> RangeFunction:
        spec = RANGE[name]
        planned = [self.plan(argument) for argument in arguments]
        position = next(i for i, node in enumerate(planned) if isinstance(node, RangeNode))
        windows = _of(RangeNode, planned[position])
        scalars = tuple(node for node in planned if isinstance(node, ScalarNode))
        kernel = spec.kernel
        if isinstance(windows, ExtendedSelector):
            extended = EXTENDED[windows.mode]
            if name not in extended:
                raise execution(
                    f"{windows.mode} modifier can only be used with: {', '.join(sorted(extended))} - not with {name}"
                )
            kernel = extended[name]
        return RangeFunction(
            kernel,
            windows,
            scalars,
            least=1 if isinstance(windows, ExtendedSelector) else spec.least,
            keeps_name=spec.keeps_name,
            quantile_at=self._place(arguments[0]) if spec.quantile else "",
            counter_at=self._place(arguments[position]) if name in COUNTERS else "",
            rollup=spec.rollup,
        )

    def _sort(self, name: str, arguments: list[Any], where: str) -> Node:
        descending = name.endswith("_desc")
        if name.startswith("sort_by_label"):
            names = tuple(self._text_of(argument) for argument in arguments[1:])
            return SortedByLabel(self._vector(arguments[0]), names, where, descending=descending)
        return Sorted(self._vector(arguments[0]), where, descending=descending)

    def _of_span(self, name: str) -> Node:
        span = self._span
        milliseconds = {
            "start": span.start_ms,
            "end": span.end_ms,
            "step": span.step_ms,
            "range": span.end_ms - span.start_ms,
        }
        return Number(milliseconds[name] / 1000)

    def _function_time(self, _: list[Any]) -> Node:
        return Time()

    def _function_pi(self, _: list[Any]) -> Node:
        return Number(np.pi)

    def _function_scalar(self, arguments: list[Any]) -> Node:
        return AsScalar(self._vector(arguments[0]))

    def _function_vector(self, arguments: list[Any]) -> Node:
        return AsVector(self._scalar(arguments[0]))

    def _function_timestamp(self, arguments: list[Any]) -> Node:
        tree = unwrapped(arguments[0])
        if isinstance(tree, SelectorTree):
            return self._instant(tree, want_time=True)
        return EvaluationTime(self._vector(tree))

    def _function_info(self, arguments: list[Any]) -> Node:
        matchers = _matchers(arguments[1]) if len(arguments) > 1 else ()
        shift = _first_shift(arguments[0], self._shift)
        return Info(self._vector(arguments[0]), matchers, self._source, shift)

    def _function_clamp(self, arguments: list[Any]) -> Node:
        return Clamp(self._vector(arguments[0]), self._scalar(arguments[1]), self._scalar(arguments[2]))

    def _function_absent(self, arguments: list[Any]) -> Node:
        tree = unwrapped(arguments[0])
        known = _matchers(tree) if isinstance(tree, SelectorTree) else ()
        return Absent(self._vector(tree), labels_of_matchers(known))

    def _function_absent_over_time(self, arguments: list[Any]) -> Node:
        tree = unwrapped(arguments[0])
        known = _matchers(tree.selector) if isinstance(tree, RangeTree) else ()
        return Absent(self._window(tree), labels_of_matchers(known))

    def _function_histogram_quantile(self, arguments: list[Any]) -> Node:
        where = (self._place(arguments[0]),)
        return HistogramQuantile(
            (self._scalar(arguments[0]),), self._vector(arguments[1]), where, self._place(arguments[1])
        )

    def _function_histogram_quantiles(self, arguments: list[Any]) -> Node:
        scalars = tuple(self._scalar(argument) for argument in arguments[2:])
        where = tuple(self._place(argument) for argument in arguments[2:])
        label = self._text_of(arguments[1])
        return HistogramQuantiles(scalars, self._vector(arguments[0]), where, self._place(arguments[0]), label)

    def _function_histogram_fraction(self, arguments: list[Any]) -> Node:
        bounds = (self._scalar(arguments[0]), self._scalar(arguments[1]))
        return HistogramFraction(bounds, self._vector(arguments[2]), (), self._place(arguments[2]))

    def _function_label_replace(self, arguments: list[Any]) -> Node:
        target, replacement, source, pattern = (self._text_of(argument) for argument in arguments[1:5])
        return label_replace(self._vector(arguments[0]), target, replacement, source, pattern)

    def _function_label_join(self, arguments: list[Any]) -> Node:
        target, separator, *sources = (self._text_of(argument) for argument in arguments[1:])
        return label_join(self._vector(arguments[0]), target, separator, tuple(sources))


_LENGTHS: dict[str, Callable[[float, float], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "min_of": np.minimum,
    "max_of": np.maximum,
}


def _of(kind: type[T], node: object) -> T:
    if not isinstance(node, kind):
        raise bad_data(f"expected {kind.__name__}, got {type(node).__name__}")
    return node


def _matchers(tree: SelectorTree) -> tuple[Matcher, ...]:
    return (tree.matchers[-1], *tree.matchers[:-1]) if tree.name else tree.matchers


def _first_shift(tree: Tree, shift: Callable[[SelectorTree | SubqueryTree], Shift]) -> Shift:
    """When the first selector of an expression looks, with the subqueries around it."""
    offset_ms, at = 0, None
    around: list[SelectorTree | SubqueryTree] = []
    while not isinstance(tree, SelectorTree):
        if isinstance(tree, SubqueryTree):
            around.insert(0, tree)
        below = [part for part in _below(tree) if not isinstance(part, NumberTree | StringTree)]
        if not below:
            return Shift()
        tree = below[0]
    for part in (tree, *around):
        own = shift(part)
        offset_ms, at = offset_ms + own.offset_ms, own.at
        if at is not None:
            break
    return Shift(offset_ms, at)


def _below(tree: Tree) -> tuple[Tree, ...]:
    if isinstance(tree, CallTree):
        return tree.arguments
    if isinstance(tree, BinaryTree):
        return (tree.left, tree.right)
    if isinstance(tree, RangeTree):
        return (tree.selector,)
    if isinstance(tree, ParenTree | UnaryTree | SubqueryTree | AggregateTree):
        return (tree.inner,)
    return ()


_CARDINALITIES: dict[str, Cardinality] = {"": "one-to-one", "left": "many-to-one", "right": "one-to-many"}


def _matching(match: MatchTree) -> Matching:
    return Matching(
        _CARDINALITIES[match.group],
        on=match.on,
        labels=match.labels,
        include=match.include,
        fill_left=match.fill_left,
        fill_right=match.fill_right,
    )
