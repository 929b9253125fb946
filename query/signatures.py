"""Which arguments each function takes, and of which type an expression is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from query.errors import QueryError
from query.labels import NAME
from query.lexer import wrong
from query.matchers import predicate
from query.syntax import (
    AggregateTree,
    BinaryTree,
    CallTree,
    NumberTree,
    ParenTree,
    RangeTree,
    SelectorTree,
    StringTree,
    SubqueryTree,
    Tree,
    UnaryTree,
    unwrapped,
)

Type = Literal["scalar", "instant vector", "range vector", "string"]
_KINDS: dict[str, Type] = {"s": "scalar", "v": "instant vector", "m": "range vector", "t": "string"}
COMPARISONS = frozenset(("==", "!=", ">", "<", ">=", "<="))
SETS = frozenset(("and", "or", "unless"))
WITH_PARAMETER = frozenset(("topk", "bottomk", "quantile", "limitk", "limit_ratio", "count_values"))


@dataclass(frozen=True, slots=True)
class Signature:
    """Types of the arguments; optional: how many of the last may be missing (0 or 1), more: how often the last repeats (-1: any)."""

    arguments: tuple[Type, ...]
    result: Type = "instant vector"
    variadic: int = 0


def _signatures() -> dict[str, Signature]:
    table = {
        "v": (
            "abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor histogram_avg histogram_count "
            "histogram_sum histogram_stddev histogram_stdvar ln log10 log2 rad sgn sin sinh sort sort_desc sqrt "
            "tan tanh timestamp start_timestamp"
        ),
        "m": (
            "absent_over_time avg_over_time changes count_over_time delta deriv first_over_time idelta increase irate "
            "last_over_time mad_over_time max_over_time min_over_time present_over_time rate resets stddev_over_time "
            "stdvar_over_time sum_over_time ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time "
            "ts_of_min_over_time"
        ),
        "vss": "clamp",
        "vs": "clamp_max clamp_min",
        "ssv": "histogram_fraction",
        "sv": "histogram_quantile",
        "mss": "double_exponential_smoothing holt_winters",
        "ms": "predict_linear",
        "sm": "quantile_over_time",
        "vtttt": "label_replace",
    }
    found = {
        name: Signature(tuple(_KINDS[kind] for kind in kinds))
        for kinds, names in table.items()
        for name in names.split()
    }
    for name in ["days_in_month", "day_of_month", "day_of_week", "day_of_year", "hour", "minute", "month", "year"]:
        found[name] = Signature(("instant vector",), variadic=1)
    for name in ("time", "pi", "start", "end", "step", "range"):
        found[name] = Signature((), "scalar")
    for name in ("max_of", "min_of"):
        found[name] = Signature(("scalar", "scalar"), "scalar")
    found["scalar"] = Signature(("instant vector",), "scalar")
    found["vector"] = Signature(("scalar",))
    found["round"] = Signature(("instant vector", "scalar"), variadic=1)
    found["info"] = Signature(("instant vector", "instant vector"), variadic=1)
    found["histogram_quantiles"] = Signature(("instant vector", "string", "scalar", "scalar"), variadic=9)
    found["label_join"] = Signature(("instant vector", "string", "string", "string"), variadic=-1)
    for name in ("sort_by_label", "sort_by_label_desc"):
        found[name] = Signature(("instant vector", "string"), variadic=-1)
    return found


SIGNATURES = _signatures()


def type_of(tree: Tree) -> Type:
    """The type of a value that the expression has."""
    tree = unwrapped(tree)
    if isinstance(tree, NumberTree):
        return "scalar"
    if isinstance(tree, StringTree):
        return "string"
    if isinstance(tree, UnaryTree):
        return type_of(tree.inner)
    if isinstance(tree, RangeTree | SubqueryTree):
        return "range vector"
    if isinstance(tree, BinaryTree):
        both = type_of(tree.left) == "scalar" and type_of(tree.right) == "scalar"
        return "scalar" if both else "instant vector"
    if isinstance(tree, CallTree):
        return SIGNATURES[tree.function].result
    return "instant vector"


class Checker:
    """Checks types from the leaves up; raises QueryError(bad_data) at the first that does not fit."""

    def __init__(self, text: str) -> None:
        self._text = text

    def check(self, tree: Tree) -> Type:
        if isinstance(tree, ParenTree):
            return self.check(tree.inner)
        if isinstance(tree, UnaryTree):
            found = self.check(tree.inner)
            if found not in ("scalar", "instant vector"):
                raise self._wrong(
                    tree,
                    f'unary expression only allowed on expressions of type scalar or instant vector, got "{found}"',
                )
            return found
        if isinstance(tree, RangeTree):
            self.check(tree.selector)
            return "range vector"
        if isinstance(tree, SubqueryTree):
            found = self.check(tree.inner)
            if found != "instant vector":
                short = {"range vector": "matrix"}.get(found, found)
                raise self._wrong(tree, f"subquery is only allowed on instant vector, got {short} instead")
            return "range vector"
        if isinstance(tree, AggregateTree):
            return self._aggregate(tree)
        if isinstance(tree, BinaryTree):
            return self._binary(tree)
        if isinstance(tree, CallTree):
            return self._call(tree)
        if isinstance(tree, SelectorTree):
            self.selector(tree)
        return type_of(tree)

    def selector(self, tree: SelectorTree) -> None:
        """A selector needs a condition that not everything meets, and one name."""
        if tree.name:
            for matcher in tree.matchers[:-1]:
                if matcher.name == NAME:
                    raise self._wrong(tree, f'metric name must not be set twice: "{tree.name}" or "{matcher.value}"')
            return
        if not any(not predicate(matcher)("") for matcher in tree.matchers):
            raise self._wrong(tree, "vector selector must contain at least one non-empty matcher")

    def _wrong(self, tree: Tree, message: str) -> QueryError:
        return wrong(self._text, tree.start, message)

    def _expect(self, tree: Tree, wanted: Type, where: str) -> None:
        found = self.check(tree)
        if found != wanted:
            raise self._wrong(tree, f"expected type {wanted} in {where}, got {found}")

    def _aggregate(self, tree: AggregateTree) -> Type:
        self._expect(tree.inner, "instant vector", "aggregation expression")
        if tree.parameter is not None:
            wanted: Type = "string" if tree.operator == "count_values" else "scalar"
            self._expect(tree.parameter, wanted, "aggregation parameter")
        return "instant vector"

    def _binary(self, tree: BinaryTree) -> Type:
        left, right = self.check(tree.left), self.check(tree.right)
        operator, match = tree.operator, tree.match
        scalars = left == "scalar" and right == "scalar"
        if match.return_bool and operator not in COMPARISONS:
            raise wrong(self._text, tree.at, "bool modifier can only be used on comparison operators")
        if operator in COMPARISONS and not match.return_bool and scalars:
            raise wrong(self._text, tree.at, "comparisons between scalars must use BOOL modifier")
        if match.on:
            for label in match.labels:
                if label in match.include:
                    raise wrong(self._text, tree.at, f'label "{label}" must not occur in ON and GROUP clause at once')
        for side, found in ((tree.left, left), (tree.right, right)):
            if found not in ("scalar", "instant vector"):
                raise self._wrong(side, "binary expression must contain only scalar and instant vector types")
        fills = match.fill_left is not None or match.fill_right is not None
        if left == "scalar" or right == "scalar":
            if match.labels:
                raise self._wrong(tree, "vector matching only allowed between instant vectors")
            if fills:
                raise self._wrong(tree, "filling in missing series only allowed between instant vectors")
            if operator in SETS:
                raise self._wrong(tree, f'set operator "{operator}" not allowed in binary scalar expression')
        elif operator in SETS:
            if match.group:
                raise self._wrong(tree, f'no grouping allowed for "{operator}" operation')
            if fills:
                raise self._wrong(tree, "filling in missing series not allowed for set operators")
        return "scalar" if scalars else "instant vector"

    def _call(self, tree: CallTree) -> Type:
        name, signature = tree.function, SIGNATURES[tree.function]
        wanted, given = len(signature.arguments), len(tree.arguments)
        if signature.variadic == 0:
            if wanted != given:
                raise self._wrong(tree, f'expected {wanted} argument(s) in call to "{name}", got {given}')
        elif given < wanted - 1:
            raise self._wrong(tree, f'expected at least {wanted - 1} argument(s) in call to "{name}", got {given}')
        elif 0 < signature.variadic < given - (wanted - 1):
            most = wanted - 1 + signature.variadic
            raise self._wrong(tree, f'expected at most {most} argument(s) in call to "{name}", got {given}')
        for i, argument in enumerate(tree.arguments):
            if name == "info" and i == 1:
                if not isinstance(argument, SelectorTree):
                    raise self._wrong(argument, "expected label selectors only")
                if argument.name:
                    raise self._wrong(argument, "expected label selectors only, got vector selector instead")
                continue
            kind = signature.arguments[min(i, wanted - 1)]
            found = self.check(argument)
            if found != kind:
                raise self._wrong(argument, f'expected type {kind} in call to function "{name}", got {found}')
        return signature.result
