"""Matcher: one condition of a selector on one label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import re2

from query.errors import bad_data


class Matcher(NamedTuple):
    """name op value, with op one of =, !=, =~, !~. A missing label has the value ""; the metric's name is `__name__`."""

    name: str
    op: str
    value: str


def full_regex(pattern: str) -> Any:
    """Compile a pattern that must match the whole text, RE2 syntax, `.` matching newlines too."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise bad_data(f"invalid regular expression {pattern!r}: {_words(error)}") from None


def _words(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)


def predicate(matcher: Matcher) -> Callable[[str], bool]:
    """The test of one label value."""
    _, op, value = matcher
    if op == "=":
        return lambda text: text == value
    if op == "!=":
        return lambda text: text != value
    full = full_regex(value).fullmatch
    if op == "=~":
        return lambda text: full(text) is not None
    return lambda text: full(text) is None


def check(matchers: Sequence[Matcher]) -> None:
    """Raise QueryError where a regular expression is not one."""
    for matcher in matchers:
        if matcher.op in ("=~", "!~"):
            full_regex(matcher.value)
