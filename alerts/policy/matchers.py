"""Label matchers in Alertmanager's words: `a="b"`, `c!="d"`, `e=~"f|g"`, `h!~"i"`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from query import matchers as promql
from query.errors import QueryError

OPS = ("=", "!=", "=~", "!~")
MAX_MATCHERS = 64
MAX_VALUE = 4096
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_MATCHER = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*(.*?)\s*\Z", re.DOTALL)
_ESCAPES = {'\\"': '"', "\\\\": "\\", "\\n": "\n"}


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; a label that is missing has the value "". Regular expressions match whole values.

    ValueError where the name is none or the regular expression cannot be read.
    """

    name: str
    op: str
    value: str
    test: Callable[[str], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError(f"{self.name[:80]!r} is not a label name")
        if self.op not in OPS:
            raise ValueError(f"{self.op!r} is not one of {', '.join(OPS)}")
        if len(self.value) > MAX_VALUE:
            raise ValueError(f"the value for {self.name} is longer than {MAX_VALUE} characters")
        try:
            test = promql.predicate(promql.Matcher(self.name, self.op, self.value))
        except QueryError as error:
            raise ValueError(str(error)) from None
        object.__setattr__(self, "test", test)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a label set fulfils it."""
        return self.test(labels.get(self.name, ""))

    def __str__(self) -> str:
        quoted = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op}"{quoted}"'


Matchers = tuple[Matcher, ...]


def matches_all(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether a label set fulfils all of them (none: it does)."""
    return all(one.test(labels.get(one.name, "")) for one in matchers)


def show_matchers(matchers: Iterable[Matcher]) -> str:
    """As `{a="b",c=~"d"}`."""
    return "{" + ",".join(map(str, matchers)) + "}"


def parse_matcher(text: str) -> Matcher:
    """Read one, its value quoted or not; ValueError says what is wrong."""
    found = _MATCHER.match(text)
    if found is None:
        raise ValueError(f'{text[:80]!r} is not a matcher such as severity="critical"')
    name, op, value = found.groups()
    return Matcher(name, op, _unquoted(value, text))


def parse_matchers(text: str) -> Matchers:
    """Read `{a="b",c=~"d"}`, with or without the braces; ValueError says what is wrong."""
    inner = text.strip()
    if inner.startswith("{") != inner.endswith("}"):
        raise ValueError(f"{text[:80]!r} has one brace only")
    inner = inner[1:-1] if inner.startswith("{") else inner
    parts = _split(inner)
    if parts and not parts[-1].strip():
        parts.pop()  # a comma may end the list
    if len(parts) > MAX_MATCHERS:
        raise ValueError(f"more than {MAX_MATCHERS} matchers")
    return tuple(parse_matcher(part) for part in parts)


def matcher_of_json(raw: Any) -> Matcher:
    """Read API v2's `{name, value, isRegex, isEqual}` (isEqual may be left out); ValueError says what is wrong."""
    if not isinstance(raw, dict):
        raise ValueError("a matcher must be an object")
    name, value, regex, equal = raw.get("name"), raw.get("value"), raw.get("isRegex"), raw.get("isEqual", True)
    if not isinstance(name, str) or not isinstance(value, str):
        raise ValueError("a matcher needs the texts name and value")
    if not isinstance(regex, bool) or not isinstance(equal, bool):
        raise ValueError(f"matcher {name[:80]!r}: isRegex and isEqual must be true or false")
    return Matcher(name, ("=~" if equal else "!~") if regex else ("=" if equal else "!="), value)


def matcher_json(matcher: Matcher) -> dict[str, Any]:
    """As API v2 shows it."""
    return {
        "name": matcher.name,
        "value": matcher.value,
        "isRegex": matcher.op in ("=~", "!~"),
        "isEqual": matcher.op in ("=", "=~"),
    }


def _split(text: str) -> list[str]:
    """The parts between commas that are not within quotes."""
    parts, quoted, escaped, part = [], False, False, ""
    for character in text:
        if character == "," and not quoted:
            parts.append(part)
            part = ""
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        part += character
    if quoted:
        raise ValueError(f"{text[:80]!r} has a quote that does not end")
    return [*parts, part] if parts or part.strip() else []


def _unquoted(value: str, text: str) -> str:
    if not value.startswith('"'):
        if '"' in value.replace('\\"', ""):
            raise ValueError(f"{text[:80]!r} has a quote inside its value")
        return value
    inner = value[1:-1]
    if len(value) < 2 or not value.endswith('"') or re.search(r'(?<!\\)(?:\\\\)*"', inner):
        raise ValueError(f"{text[:80]!r} has a quote that does not end where its value does")
    return re.sub(r'\\["\\n]', lambda found: _ESCAPES[found.group()], inner)
