"""The syntax tree of an expression: what was written, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from query.matchers import Matcher

Position: TypeAlias = int


@dataclass(slots=True, kw_only=True)
class Tree:
    """One part of an expression: text[start:end], in characters."""

    start: Position
    end: Position


@dataclass(slots=True)
class NumberTree(Tree):
    """A number, or a duration as seconds (`duration` says which, for printing)."""

    value: float
    duration: bool = False


@dataclass(slots=True)
class StringTree(Tree):
    """A string literal, without quotes."""

    value: str


@dataclass(slots=True)
class ParenTree(Tree):
    """(inner)."""

    inner: Tree


@dataclass(slots=True)
class UnaryTree(Tree):
    """+inner or -inner."""

    operator: str
    inner: Tree


@dataclass(slots=True)
class LengthTree(Tree):
    """A duration that is computed: operators, step(), range(), min_of(), max_of(), or a wrapped one."""

    operator: str
    left: Tree | None = None
    right: Tree | None = None


# A duration in whole milliseconds, or an expression that gives one.
Length: TypeAlias = int | Tree


@dataclass(slots=True, kw_only=True)
class Shifted(Tree):
    """What `offset` and `@` may follow; at: milliseconds, or the query's start or end."""

    offset: Length = 0
    has_offset: bool = False
    at: int | Literal["start", "end"] | None = None


@dataclass(slots=True)
class SelectorTree(Shifted):
    """name{matchers}; `matchers` holds the name too, last, where it was written before the braces."""

    name: str
    matchers: tuple[Matcher, ...]
    extended: Literal["", "anchored", "smoothed"] = ""


@dataclass(slots=True)
class RangeTree(Tree):
    """selector[length]; offset and @ are the selector's."""

    selector: SelectorTree
    length: Length


@dataclass(slots=True)
class SubqueryTree(Shifted):
    """inner[length:step]; step None where none is written."""

    inner: Tree
    length: Length
    step: Length | None


@dataclass(slots=True)
class MatchTree:
    """What stands between a binary operator and its right side."""

    return_bool: bool = False
    on: bool = False
    labels: tuple[str, ...] = ()
    group: Literal["", "left", "right"] = ""
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(slots=True)
class BinaryTree(Tree):
    """left operator right; `at` is where the operator begins."""

    operator: str
    left: Tree
    right: Tree
    at: Position
    match: MatchTree = field(default_factory=MatchTree)


@dataclass(slots=True)
class AggregateTree(Tree):
    """operator by|without (labels) (parameter, inner)."""

    operator: str
    inner: Tree
    parameter: Tree | None
    labels: tuple[str, ...]
    without: bool


@dataclass(slots=True)
class CallTree(Tree):
    """function(arguments)."""

    function: str
    arguments: tuple[Tree, ...]


def unwrapped(tree: Tree) -> Tree:
    """The tree inside any parentheses."""
    while isinstance(tree, ParenTree):
        tree = tree.inner
    return tree


def place(text: str, position: Position) -> str:
    """line:column as Prometheus counts them: from 1, columns in bytes."""
    before = text[:position]
    line_start = before.rfind("\n") + 1
    return f"{before.count(chr(10)) + 1}:{len(before[line_start:].encode(errors='replace')) + 1}"
