"""Problem: what is wrong with an expression, and where in its text."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PLACE = re.compile(r"^(\d+):(\d+): (?:parse error: )?")
_WORD = re.compile(r"[\w:.]+|\S")
_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}
_OPAQUE = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`|#[^\n]*', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """message in words; start and end are characters of the expression, None where nothing points to a place."""

    message: str
    start: int | None = None
    end: int | None = None


def problem_of(expression: str, message: str) -> Problem:
    """Read the place off a parser's message ("line:column: parse error: ...", columns in bytes)."""
    told = _PLACE.match(message)
    if told is None:
        return Problem(message)
    text = message[told.end() :]
    start = _character(expression, int(told.group(1)), int(told.group(2)))
    if text.startswith(("unclosed", "unexpected end of input inside")):
        # The parser says where it noticed; a person wants to see which bracket it is.
        opened = _unclosed(expression)
        if opened is not None:
            return Problem(text, opened, opened + 1)
    word = _WORD.match(expression, start)
    return Problem(text, start, word.end() if word is not None else start)


def _character(expression: str, line: int, column: int) -> int:
    lines = expression.split("\n")
    line = min(max(line, 1), len(lines))
    before = sum(len(one) + 1 for one in lines[: line - 1])
    here = lines[line - 1].encode(errors="replace")[: max(column - 1, 0)]
    return before + len(here.decode(errors="ignore"))


def _unclosed(expression: str) -> int | None:
    """Where the innermost bracket was opened that nobody closes."""
    plain = _OPAQUE.sub(lambda match: " " * len(match.group()), expression)
    stack: list[int] = []
    for place, char in enumerate(plain):
        if char in _CLOSED_BY:
            stack.append(place)
        elif stack and char == _CLOSED_BY[plain[stack[-1]]]:
            stack.pop()
    return stack[-1] if stack else None
