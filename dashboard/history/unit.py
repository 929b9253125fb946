"""Unit: what a question's values are measured in, as far as the expression says it for sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metrics.catalogue import metric_of
from metrics.errors import DeskvigilError
from query.options import QueryOptions
from query.parse import parse
from query.syntax import (
    AggregateTree,
    BinaryTree,
    CallTree,
    NumberTree,
    ParenTree,
    RangeTree,
    SelectorTree,
    SubqueryTree,
    Tree,
    UnaryTree,
)

_SAME_OVER_TIME = frozenset(
    f"{name}_over_time" for name in ("avg", "min", "max", "sum", "quantile", "stddev", "mad", "last", "first")
)
_SAME = _SAME_OVER_TIME | {
    *("abs", "ceil", "floor", "round", "clamp", "clamp_min", "clamp_max", "scalar", "vector", "sort", "sort_desc"),
    *("sort_by_label", "sort_by_label_desc", "label_replace", "label_join", "increase", "delta", "idelta"),
    *("predict_linear", "double_exponential_smoothing", "holt_winters", "max_of", "min_of"),
}
_PER_SECOND = frozenset({"rate", "irate", "deriv"})
_COUNTS = frozenset({"count_over_time", "changes", "resets"})
_AGGREGATIONS = frozenset(
    {"sum", "avg", "min", "max", "quantile", "topk", "bottomk", "stddev", "limitk", "limit_ratio"}
)
_COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
_SCALES = {("seconds", 1e3): "ms", ("seconds", 1e6): "µs", ("seconds", 1e9): "ns", ("ratio", 1e2): "%"}


@dataclass(frozen=True, slots=True)
class Unit:
    """A base unit in the catalogue's words ("" is a plain count), perhaps per second.

    fixed: what the expression has already converted to ("µs"); then nothing is scaled any more.
    buckets: unit of a histogram's bounds, where these are counts of its buckets.
    """

    base: str = ""
    per_second: bool = False
    fixed: str = ""
    buckets: str | None = None

    @property
    def key(self) -> str:
        """Equal for what may share an axis."""
        return self.fixed or self.base + ("/s" if self.per_second else "")


COUNT = Unit()
RATIO = Unit("ratio")


def unit_of(expression: str, options: QueryOptions | None = None) -> Unit | None:
    """The unit of an expression's values; None where it cannot be said for sure."""
    try:
        return _unit(parse(expression, options or QueryOptions()))
    except DeskvigilError:
        return None


def unit_of_series(name: str) -> Unit | None:
    """The unit of a stored series; None for one that the catalogue does not know."""
    metric = metric_of(name)
    if metric is None:
        return None
    if metric.kind == "histogram" and not name.endswith("_sum"):
        return Unit(buckets=metric.unit)
    if metric.unit == "per_second":
        return Unit(per_second=True)
    return Unit("timestamp" if name.endswith("_time_seconds") and metric.kind == "gauge" else metric.unit)


def _unit(tree: Tree) -> Unit | None:
    match tree:
        case ParenTree(inner=inner) | UnaryTree(inner=inner) | SubqueryTree(inner=inner):
            return _unit(inner)
        case SelectorTree(name=name):
            return unit_of_series(name) if name else None
        case RangeTree(selector=selector):
            return _unit(selector)
        case AggregateTree(operator=operator, inner=inner):
            if operator in _AGGREGATIONS:
                return _unit(inner)
            return COUNT if operator in ("count", "count_values", "group") else None
        case CallTree(function=function, arguments=arguments):
            return _call(function, arguments)
        case BinaryTree():
            return _binary(tree)
    return None


def _binary(tree: BinaryTree) -> Unit | None:
    operator = tree.operator
    left, right = _unit(tree.left), _unit(tree.right)
    numbers = _number(tree.left), _number(tree.right)
    if operator in _COMPARISONS:
        return COUNT if tree.match.return_bool else left or right
    if operator in ("and", "unless", "%"):
        return left
    if operator in ("+", "-", "or"):
        if operator != "or" and (numbers[0] is not None or numbers[1] is not None):
            return left if numbers[0] is None else right
        if left is not None and right is not None and {left.base, right.base} == {"timestamp"} and operator == "-":
            return Unit("seconds")
        return left if left is not None and right is not None and left.key == right.key else None
    if operator == "*":
        return _times(left, numbers[1]) if numbers[0] is None else _times(right, numbers[0])
    if operator == "/":
        if numbers[1] is None:
            return _over(left, right)
        return _times(left, 1 / numbers[1] if numbers[1] else None)
    return None


def _times(unit: Unit | None, factor: float | None) -> Unit | None:
    """A known conversion gets its name; any other factor makes a number of its own."""
    if unit is None or factor is None or unit.fixed:
        return None
    if factor in (1.0, -1.0):
        return unit
    name = _SCALES.get((unit.base, factor))
    if name is not None:
        return Unit(unit.base, unit.per_second, name + ("/s" if unit.per_second else ""))
    return unit if unit.base == "" and not unit.per_second else None


def _over(left: Unit | None, right: Unit | None) -> Unit | None:
    if left is None or right is None or left.fixed or right.fixed:
        return None
    if left.base == right.base:
        return RATIO if left.per_second == right.per_second else None
    if right.base not in ("", "ratio"):
        return None
    if left.per_second == right.per_second:
        return Unit(left.base)
    return None if right.per_second else Unit(left.base, left.per_second)


def _number(tree: Tree) -> float | None:
    match tree:
        case NumberTree(value=value):
            return value
        case ParenTree(inner=inner):
            return _number(inner)
        case UnaryTree(operator=operator, inner=inner):
            value_of = _number(inner)
            return None if value_of is None else -value_of if operator == "-" else value_of
    return None


def _call(name: str, arguments: Sequence[Tree]) -> Unit | None:
    if name in _SAME:
        # The vector is not always the first argument (quantile_over_time).
        return next((unit for one in arguments if _number(one) is None and (unit := _unit(one)) is not None), None)
    if name in _PER_SECOND and arguments:
        unit = _unit(arguments[0])
        if unit is None or unit.per_second or unit.fixed:
            return None
        return RATIO if unit.base == "seconds" and not _is_sum(arguments[0]) else replace(unit, per_second=True)
    if name == "histogram_quantile" and len(arguments) > 1:
        unit = _unit(arguments[1])
        return None if unit is None or unit.buckets is None else Unit(unit.buckets)
    if name == "histogram_fraction":
        return RATIO
    if name in ("time", "timestamp"):
        return Unit("timestamp")
    return COUNT if name in _COUNTS else None


def _is_sum(tree: Tree) -> bool:
    """Whether this is a histogram's sum: its rate is divided by the count's, and is no share of the time."""
    return isinstance(tree, RangeTree) and tree.selector.name.endswith("_sum")
