"""What a rule's expression says: a value and a threshold where it can be told apart, else a whole.

`deskvigil_host_cpu_busy_ratio > 0.9` is the value `deskvigil_host_cpu_busy_ratio` and the comparison
`> 0.9`. Told apart, a rule can show its threshold, compare with further tiers, recover at another
threshold than it fires at, and tell "below the threshold" from "no data".
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import promql_parser

Op = Literal[">", ">=", "<", "<=", "==", "!="]
MAX_EXPRESSION = 8192
MAX_NESTING = 100

_COMPARE: dict[Op, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_OPS: dict[str, Op] = {op: op for op in _COMPARE}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A side of a threshold; NaN is on no side, as in PromQL (except `!=`)."""

    op: Op
    threshold: float

    def holds(self, value: float) -> bool:
        return _COMPARE[self.op](value, self.threshold)

    @property
    def direction(self) -> int:
        """+1 where larger values are worse, -1 where smaller ones are, 0 where neither (== and !=)."""
        return {">": 1, ">=": 1, "<": -1, "<=": -1}.get(self.op, 0)

    def __str__(self) -> str:
        return f"{self.op} {self.threshold:g}"


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression as written, the part that gives the value, and the comparison where there is one.

    plain: the value is one selector without offset: it can be read off a frame directly.
    """

    text: str
    value_text: str
    comparison: Comparison | None
    plain: bool


class ExpressionError(ValueError):
    """The expression cannot be parsed; the message says where."""


def parse_expression(text: str) -> Expression:
    """Parse PromQL and split it; ExpressionError where it is none."""
    _check_size(text)
    try:
        node = promql_parser.parse(text)
    except BaseException as error:  # the parser's Rust panics arrive as BaseException
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        raise ExpressionError(f"cannot parse {text!r}: {error}") from None
    split = _split(node)
    value_text = None if split is None else _source_before(text, split[1].op, str(split[0]))
    if split is None or value_text is None:
        return Expression(text, text, None, plain=False)
    return Expression(text, value_text, split[1], plain=_is_plain(split[0]))


def _check_size(text: str) -> None:
    if not text.strip():
        raise ExpressionError("the expression is empty")
    if len(text) > MAX_EXPRESSION:
        raise ExpressionError(f"the expression is longer than {MAX_EXPRESSION} characters")
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        raise ExpressionError(f"the expression nests deeper than {MAX_NESTING}")


def _split(node: promql_parser.Expr) -> tuple[promql_parser.Expr, Comparison] | None:
    if not isinstance(node, promql_parser.BinaryExpr) or node.modifier is not None:
        return None
    op = _OPS.get(str(node.op))
    threshold = _number(node.rhs)
    if op is None or threshold is None or math.isnan(threshold) or _number(node.lhs) is not None:
        return None
    return node.lhs, Comparison(op, threshold)


def _source_before(text: str, op: Op, printed: str) -> str | None:
    """Return the text left of the comparison: what the parser prints back is not always what it read."""
    end = text.rfind(op)
    while end > 0:
        source = text[:end].strip()
        try:
            if source and str(promql_parser.parse(source)) == printed:
                return source
        except ValueError:
            pass
        end = text.rfind(op, 0, end)
    return None


def _unwrap(node: promql_parser.Expr) -> promql_parser.Expr:
    while isinstance(node, promql_parser.ParenExpr):
        node = node.expr
    return node


def _number(node: promql_parser.Expr) -> float | None:
    node = _unwrap(node)
    if isinstance(node, promql_parser.NumberLiteral):
        return float(node.val)
    if isinstance(node, promql_parser.UnaryExpr):
        inner = _number(node.expr)
        return None if inner is None else -inner
    if isinstance(node, promql_parser.BinaryExpr):
        return _arithmetic(node)
    return None


def _arithmetic(node: promql_parser.BinaryExpr) -> float | None:
    """Fold constants: thresholds are written as `8 * 1024 * 1024 * 1024` or `50 / 100`."""
    left, right = _number(node.lhs), _number(node.rhs)
    if left is None or right is None:
        return None
    match str(node.op):
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/" if right != 0:
            return left / right
    return None


def _is_plain(node: promql_parser.Expr) -> bool:
    node = _unwrap(node)
    return (
        isinstance(node, promql_parser.VectorSelector)
        and bool(node.name)
        and node.offset is None
        and node.at is None
        and not node.matchers.or_matchers
    )
