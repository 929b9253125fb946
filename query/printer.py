"""An expression in Prometheus's uniform layout, as promtool and /api/v1/format_query give it."""

from __future__ import annotations

import re

from query.annotations import go_g
from query.format import format_value
from query.labels import NAME
from query.matchers import Matcher
from query.signatures import SETS
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
    Shifted,
    StringTree,
    SubqueryTree,
    Tree,
    UnaryTree,
)

WIDEST = 100
_INDENT = "  "
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_UNITS = (("y", 31_536_000_000), ("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


def pretty(tree: Tree, level: int = 0) -> str:
    """The expression on one line, or on several with indents where one would be longer than WIDEST."""
    line, indent = one_line(tree), _INDENT * level
    if len(line) <= WIDEST or isinstance(tree, SelectorTree | RangeTree | NumberTree | StringTree):
        return indent + line
    if isinstance(tree, ParenTree):
        return f"{indent}(\n{pretty(tree.inner, level + 1)}\n{indent})"
    if isinstance(tree, UnaryTree):
        return f"{indent}{tree.operator}{pretty(tree.inner, level).strip()}"
    if isinstance(tree, CallTree):
        inner = ",\n".join(pretty(argument, level + 1) for argument in tree.arguments)
        return f"{indent}{tree.function}(\n{inner}\n{indent})"
    if isinstance(tree, AggregateTree):
        parts = [part for part in (tree.parameter, tree.inner) if part is not None]
        inner = ",\n".join(pretty(part, level + 1) for part in parts)
        return f"{indent}{_aggregation(tree)}(\n{inner}\n{indent})"
    if isinstance(tree, BinaryTree):
        left, right = pretty(tree.left, level + 1), pretty(tree.right, level + 1)
        return f"{left}\n{indent}{tree.operator}{_match(tree)}\n{right}"
    if isinstance(tree, SubqueryTree):
        return f"{pretty(tree.inner, level)}{_subquery_suffix(tree)}"
    return indent + line


def one_line(tree: Tree) -> str:
    """The expression on one line."""
    if isinstance(tree, NumberTree):
        if tree.duration:
            sign = "-" if tree.value < 0 else ""
            return sign + duration(round(abs(tree.value) * 1000))
        return format_value(tree.value)
    if isinstance(tree, StringTree):
        return _quoted(tree.value)
    if isinstance(tree, ParenTree):
        return f"({one_line(tree.inner)})"
    if isinstance(tree, UnaryTree):
        return tree.operator + one_line(tree.inner)
    if isinstance(tree, LengthTree):
        return _length_expression(tree)
    if isinstance(tree, SelectorTree):
        return _selector(tree) + _at(tree) + _extended(tree) + _offset(tree)
    if isinstance(tree, RangeTree):
        selector = tree.selector
        return f"{_selector(selector)}[{_length(tree.length)}]{_extended(selector)}{_at(selector)}{_offset(selector)}"
    if isinstance(tree, SubqueryTree):
        return one_line(tree.inner) + _subquery_suffix(tree)
    if isinstance(tree, BinaryTree):
        return f"{one_line(tree.left)} {tree.operator}{_match(tree)} {one_line(tree.right)}"
    if isinstance(tree, AggregateTree):
        parts = [part for part in (tree.parameter, tree.inner) if part is not None]
        return f"{_aggregation(tree)}({', '.join(one_line(part) for part in parts)})"
    if isinstance(tree, CallTree):
        return f"{tree.function}({', '.join(one_line(argument) for argument in tree.arguments)})"
    raise TypeError(type(tree).__name__)


def duration(milliseconds: int) -> str:
    """As Prometheus writes durations: 1h30m; years, weeks only where nothing is left over."""
    if milliseconds == 0:
        return "0s"
    text = ""
    for unit, size in _UNITS:
        if unit in ("y", "w", "d") and (milliseconds % size or milliseconds < size) and unit != "d":
            continue
        count, milliseconds = divmod(milliseconds, size)
        text += f"{count}{unit}" if count else ""
    return text + (f"{milliseconds}ms" if milliseconds else "")


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    shown = "".join(escapes.get(char, char if char.isprintable() else f"\\u{ord(char):04x}") for char in text)
    return f'"{shown}"'


def _label(name: str) -> str:
    return name if _NAME.fullmatch(name) else _quoted(name)


def _matcher(matcher: Matcher) -> str:
    return f"{_label(matcher.name)}{matcher.op}{_quoted(matcher.value)}"


def _selector(tree: SelectorTree) -> str:
    matchers = tree.matchers[:-1] if tree.name else tree.matchers
    shown = []
    for matcher in matchers:
        plain_name = matcher.name == NAME and matcher.op == "="
        shown.append(
            _quoted(matcher.value) if plain_name and not _METRIC.fullmatch(matcher.value) else _matcher(matcher)
        )
    inner = f"{{{','.join(sorted(shown))}}}" if shown or not tree.name else ""
    return tree.name + inner


def _at(tree: Shifted) -> str:
    if tree.at is None:
        return ""
    return f" @ {tree.at}()" if isinstance(tree.at, str) else f" @ {tree.at / 1000:.3f}"


def _offset(tree: Shifted) -> str:
    if isinstance(tree.offset, Tree):
        return f" offset {one_line(tree.offset)}"
    if tree.offset == 0:
        return ""
    return f" offset {'-' if tree.offset < 0 else ''}{duration(abs(tree.offset))}"


def _extended(tree: SelectorTree) -> str:
    return f" {tree.extended}" if tree.extended else ""


def _length(length: Length) -> str:
    return one_line(length) if isinstance(length, Tree) else duration(length)


def _length_expression(tree: LengthTree) -> str:
    right = one_line(tree.right) if tree.right is not None else ""
    if tree.operator in ("step", "range"):
        return f"{tree.operator}()"
    if tree.operator == "()":
        return f"({right})"
    if tree.left is None:
        return right if tree.operator == "+" else tree.operator + right
    if tree.operator in ("min_of", "max_of"):
        return f"{tree.operator}({one_line(tree.left)}, {right})"
    return f"{one_line(tree.left)} {tree.operator} {right}"


def _subquery_suffix(tree: SubqueryTree) -> str:
    step = "" if tree.step is None else _length(tree.step)
    return f"[{_length(tree.length)}:{step}]{_at(tree)}{_offset(tree)}"


def _labels(labels: tuple[str, ...]) -> str:
    return ", ".join(_label(name) for name in labels)


def _aggregation(tree: AggregateTree) -> str:
    if tree.without:
        return f"{tree.operator} without ({_labels(tree.labels)}) "
    return f"{tree.operator} by ({_labels(tree.labels)}) " if tree.labels else tree.operator


def _match(tree: BinaryTree) -> str:
    match: MatchTree = tree.match
    text = " bool" if match.return_bool else ""
    if match.labels or match.on or match.group:
        text += f" {'on' if match.on else 'ignoring'} ({_labels(match.labels)})"
    if match.group and tree.operator not in SETS:
        text += f" group_{match.group} ({_labels(match.include)})"
    if match.fill_left is not None and match.fill_left == match.fill_right:
        return f"{text} fill ({go_g(match.fill_left)})"
    if match.fill_left is not None:
        text += f" fill_left ({go_g(match.fill_left)})"
    if match.fill_right is not None:
        text += f" fill_right ({go_g(match.fill_right)})"
    return text
