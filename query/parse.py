"""From text to a checked syntax tree, within limits."""

from __future__ import annotations

import re

from query.errors import bad_data
from query.options import QueryOptions
from query.parser import Parser
from query.signatures import Checker
from query.syntax import Tree

# Strings (all three kinds of quotes) and comments, in which brackets and operators mean nothing.
_OPAQUE = re.compile(
    r'"(?:[^"\\]|\\.)*(?:"|\Z)' r"|'(?:[^'\\]|\\.)*(?:'|\Z)" r"|`[^`]*(?:`|\Z)" r"|\#[^\n]*", re.DOTALL
)
_BRACKET = re.compile(r"[()\[\]{}]")
_OPERATOR = re.compile(r"[-+*/%^<>=!]|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)


def parse(text: str, options: QueryOptions) -> Tree:
    """Return the syntax tree of `text`; QueryError(bad_data) says where and what is wrong."""
    _check(text, options)
    tree = Parser(text).whole()
    Checker(text).check(tree)
    return tree


def _check(text: str, options: QueryOptions) -> None:
    """Limits that keep the parser's stack and the plan's depth small, whatever the text."""
    size = len(text.encode("utf-8", errors="surrogatepass"))
    if size > options.max_expression_bytes:
        raise bad_data(f"expression of {size} bytes is longer than the limit of {options.max_expression_bytes}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise bad_data("expression is not valid UTF-8")
    plain = _OPAQUE.sub("", text)
    deepest = depth = 0
    for match in _BRACKET.finditer(plain):
        depth += 1 if match.group() in "([{" else -1
        deepest = max(deepest, depth)
    if deepest > options.max_nesting:
        raise bad_data(f"expression is nested {deepest} deep, the limit is {options.max_nesting}")
    operators = sum(1 for _ in _OPERATOR.finditer(plain))
    if operators > options.max_operators:
        raise bad_data(f"expression has {operators} operators, the limit is {options.max_operators}")
