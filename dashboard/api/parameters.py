"""Parameters of API requests: from the query string and, of a POST, from its form body, within limits."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import anyio
from fastapi import Request

from query.errors import QueryError, bad_data
from query.format import parse_duration_ms, parse_time_ms

MOST_FORM_BYTES = 1 << 20
MOST_FIELDS = 200
RECEIVE_S = 30.0
# What Prometheus's Go client sends for "since ever" and "for ever".
_EVER = {"-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z"}


class TooLargeError(Exception):
    """A request body is larger than its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"request body is larger than {limit} bytes")


async def body(request: Request, limit: int, hold: Callable[[int], None] = lambda _: None) -> bytes:
    """Read a body of at most `limit` bytes; TooLargeError as soon as there are more.

    hold is told the size of each part that has come, and may refuse by raising.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLargeError(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        hold(len(part))
        if size > limit:
            raise TooLargeError(limit)
        parts.append(part)
    return b"".join(parts)


class Parameters:
    """Named values; a name may occur several times. path: parts of the address; client: who asks."""

    def __init__(self, fields: dict[str, list[str]], path: dict[str, str] | None = None, client: str = "") -> None:
        self._fields = fields
        self.path = path or {}
        self.client = client

    @classmethod
    async def of(cls, request: Request) -> Parameters:
        """Read a request's parameters; those in the body come first, as in Go.

        QueryError(bad_data) where they are malformed or too many, QueryError(timeout) where a body does not arrive.
        """
        fields: dict[str, list[str]] = {}
        if request.method in ("POST", "PUT", "PATCH"):
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in ("application/x-www-form-urlencoded", ""):
                try:
                    with anyio.fail_after(RECEIVE_S):
                        content = await body(request, MOST_FORM_BYTES)
                except TimeoutError:
                    raise QueryError("timeout", f"the body did not arrive within {RECEIVE_S:g} s") from None
                fields = _parsed(content)
        for name, values in _parsed(request.scope.get("query_string", b"")).items():
            fields.setdefault(name, []).extend(values)
        client = request.client.host if request.client is not None else "unknown"
        return cls(fields, dict(request.path_params), client)

    def all(self, name: str) -> list[str]:
        return self._fields.get(name, [])

    def text(self, name: str, default: str | None = None) -> str:
        """The first value; bad_data where there is none and no default."""
        values = self._fields.get(name)
        if values:
            return values[0]
        if default is None:
            raise bad_data(f'invalid parameter "{name}": missing')
        return default

    def time_ms(self, name: str, default_ms: int | None = None) -> int:
        """Unix seconds or RFC 3339, as milliseconds."""
        text = self.text(name, None if default_ms is None else "")
        if not text and default_ms is not None:
            return default_ms
        return _named(name, parse_time_ms, text)

    def maybe_time_ms(self, name: str) -> int | None:
        """As time_ms; None where there is none, or one that means "ever"."""
        text = self.text(name, "").removeprefix("+")
        return self.time_ms(name) if text and text not in _EVER else None

    def time_range(self) -> tuple[int | None, int | None]:
        """start and end, each None where it is open."""
        return self.maybe_time_ms("start"), self.maybe_time_ms("end")

    def flag(self, name: str) -> bool:
        """A boolean as Go reads it; absent is False."""
        text = self.text(name, "")
        if text in ("", "0", "f", "F", "false", "FALSE", "False"):
            return False
        if text in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        raise bad_data(f'invalid parameter "{name}": {text!r} is neither true nor false')

    def duration_ms(self, name: str) -> int:
        """A duration such as 15s, or seconds."""
        return _named(name, parse_duration_ms, self.text(name))

    def limit(self, name: str = "limit") -> int | None:
        """A number of things; 0 or none: no limit."""
        text = self.text(name, "") or "0"
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise bad_data(f'invalid parameter "{name}": {text[:40]!r} is not a non-negative whole number')
        return int(text) or None


def _parsed(content: bytes) -> dict[str, list[str]]:
    try:
        text = content.decode("utf-8", errors="surrogateescape")
        return parse_qs(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="surrogateescape")
    except ValueError as error:
        raise bad_data(f"error parsing form values: {error}") from None


def _named(name: str, parse: Callable[[str], int], text: str) -> int:
    try:
        if "_" in text:  # which Python takes for digits apart, and Go does not
            raise bad_data(f"cannot parse {text!r}")
        return parse(text)
    except QueryError as error:
        raise bad_data(f'invalid parameter "{name}": {error}') from None
