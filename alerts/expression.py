"""What a rule's expression says: a value and a threshold where it can be told apart, else a whole.

`deskvigil_host_cpu_busy_ratio > 0.9` is the value `deskvigil_host_cpu_busy_ratio` and the comparison
`> 0.9`. Told apart, a rule can show its threshold, compare with further tiers, recover at another
threshold than it fires at, and tell "below the threshold" from "no data".
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from query.errors import QueryError
from query.options import QueryOptions
from query.parse import parse
from query.syntax import BinaryTree, MatchTree, NumberTree, SelectorTree, Tree, UnaryTree, unwrapped

Op = Literal[">", ">=", "<", "<=", "==", "!="]
_LIMITS = QueryOptions()
_SHOWN = 200

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

    def of(self, labels: Mapping[str, str]) -> str:
        """What gives the value for these series' labels alone; all series where that is not a plain selector."""
        text = self.value_text.strip()
        if not self.plain or not labels or not (text.endswith("}") or text.replace(":", "_").isidentifier()):
            return text
        head, brace, matchers = text.removesuffix("}").partition("{")
        wanted = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(labels.items())]
        given = matchers.strip().rstrip(",").rstrip()
        return f"{head}{{{', '.join([given, *wanted] if brace and given else wanted)}}}"


class ExpressionError(ValueError):
    """The expression cannot be parsed; the message says where."""


def parse_expression(text: str) -> Expression:
    """Parse PromQL and split it; ExpressionError where it is none, or larger than a query may be."""
    if not text.strip():
        raise ExpressionError("the expression is empty")
    try:
        tree = parse(text, _LIMITS)
    except QueryError as error:
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
        raise ExpressionError(f"cannot parse {shown!r}: {error}") from None
    if not isinstance(tree, BinaryTree) or tree.match != MatchTree():
        return Expression(text, text, None, plain=False)
    op, threshold = _OPS.get(tree.operator), _number(tree.right)
    if op is None or threshold is None or math.isnan(threshold) or _number(tree.left) is not None:
        return Expression(text, text, None, plain=False)
    value = text[tree.left.start : tree.left.end]
    return Expression(text, value, Comparison(op, threshold), plain=_is_plain(tree.left))


def _number(tree: Tree) -> float | None:
    """A constant's value: thresholds are written as `8 * 1024 * 1024 * 1024` or `50 / 100`, too."""
    tree = unwrapped(tree)
    if isinstance(tree, NumberTree):
        return tree.value
    if isinstance(tree, UnaryTree):
        inner = _number(tree.inner)
        return None if inner is None else -inner if tree.operator == "-" else inner
    if isinstance(tree, BinaryTree):
        return _arithmetic(tree)
    return None


def _arithmetic(tree: BinaryTree) -> float | None:
    left, right = _number(tree.left), _number(tree.right)
    if left is None or right is None:
        return None
    match tree.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/" if right != 0:
            return left / right
    return None


def _is_plain(tree: Tree) -> bool:
    tree = unwrapped(tree)
    return (
        isinstance(tree, SelectorTree)
        and bool(tree.name)
        and not tree.has_offset
        and tree.at is None
        and not tree.extended
    )
