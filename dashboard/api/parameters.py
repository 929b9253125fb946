"""Parameters of API requests: from the query string and, of a POST, from its form body, within limits."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from fastapi import Request

from query.errors import QueryError, bad_data
from query.format import parse_duration_ms, parse_time_ms

MOST_FORM_BYTES = 1 << 20
MOST_FIELDS = 200


class TooLargeError(Exception):
    """A request body is larger than its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"request body is larger than {limit} bytes")


async def body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes; TooLargeError as soon as there are more."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLargeError(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLargeError(limit)
        parts.append(part)
    return b"".join(parts)


class Parameters:
    """Named values; a name may occur several times."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    @classmethod
    async def of(cls, request: Request) -> Parameters:
        """Read a request's parameters; those in the body come first, as in Go."""
        fields: dict[str, list[str]] = {}
        if request.method == "POST":
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in ("application/x-www-form-urlencoded", ""):
                text = (await body(request, MOST_FORM_BYTES)).decode("utf-8", errors="surrogateescape")
                try:
                    fields = parse_qs(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
                except ValueError as error:
                    raise bad_data(f"form: {error}") from None
        for name, value in request.query_params.multi_items():
            fields.setdefault(name, []).append(value)
        return cls(fields)

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
        return self.time_ms(name) if self.text(name, "") else None

    def duration_ms(self, name: str) -> int:
        """A duration such as 15s, or seconds."""
        return _named(name, parse_duration_ms, self.text(name))

    def limit(self) -> int | None:
        """The `limit` parameter; 0 or none: no limit."""
        text = self.text("limit", "0")
        if not text.isdigit():
            raise bad_data(f'invalid parameter "limit": {text!r} is not a whole number')
        return int(text) or None


def _named(name: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except QueryError as error:
        raise bad_data(f'invalid parameter "{name}": {error}') from None
