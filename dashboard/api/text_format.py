"""Reads the text exposition format: `name{label="value"} number [milliseconds]`, one sample a line."""

from __future__ import annotations

import re

from dashboard.api.samples import BadSampleError, Samples, checked_series, ordered
from metrics.series import Series

_LINE = re.compile(
    r"(?P<series>[^\s{]*(?:\s*\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*\})?)\s*"
    r"(?<=[\s}])(?P<value>\S+)(?:\s+(?P<time>[-+]?\d{1,18}))?\s*(?:\#.*)?\Z"
)
_LABEL = re.compile(r'\s*([^\s=,{}"]+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|\Z)')
_ESCAPE = re.compile(r"\\(.)")
_VALUE = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf(?:inity)?|nan)\Z", re.IGNORECASE)


def read(text: str, now_ms: int) -> Samples:
    """Return the samples of a text; lines without time get `now_ms`.

    All or nothing: BadSampleError names the first bad line, and nothing of the text is used, so
    that a sender can correct and send the whole again.
    """
    columns: dict[Series, tuple[list[int], list[float]]] = {}
    known: dict[str, tuple[list[int], list[float]]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise BadSampleError(f"line {number}: {_short(line)} is not `name{{labels}} value [milliseconds]`")
        written, value, time = match.group("series", "value", "time")
        if not _VALUE.match(value):
            raise BadSampleError(f"line {number}: {_short(value)} is not a number")
        column = known.get(written)
        if column is None:
            try:
                column = known[written] = columns.setdefault(_series(written), ([], []))
            except BadSampleError as error:
                raise BadSampleError(f"line {number}: {error}") from None
        column[0].append(int(time) if time else now_ms)
        column[1].append(float(value))
    return ordered(columns)


def _series(written: str) -> Series:
    name, _, inner = written.partition("{")
    pairs = [("__name__", name.rstrip())]
    inner, position = inner.removesuffix("}").strip(), 0
    while position < len(inner):
        match = _LABEL.match(inner, position)
        if match is None:
            raise BadSampleError(f'labels {_short(inner[position:])} are not `name="value", ...`')
        pairs.append((match.group(1), _ESCAPE.sub(_unescaped, match.group(2))))
        position = match.end()
    return checked_series(pairs)


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match.group(1) == "n" else match.group(1)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
