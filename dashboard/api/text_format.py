"""Reads the text exposition format: `name{label="value"} number [milliseconds]`, one sample a line."""

from __future__ import annotations

import re

from dashboard.api.options import IngestOptions
from dashboard.api.samples import (
    DEFAULTS,
    T_MAX_MS,
    T_MIN_MS,
    BadSampleError,
    Samples,
    checked_series,
    of_lists,
    short,
)
from metrics.series import Series
from storage.keys import SeriesKey, SeriesKeys

MOST_LINE = 1 << 20

_LINE = re.compile(
    r"(?P<series>[^\s{]*(?:\s*\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*\})?)\s*"
    r"(?<=[\s}])(?P<value>\S+)(?:\s+(?P<time>[-+]?\d{1,18}))?\s*(?:\#.*)?\Z"
)
_LABEL = re.compile(r'\s*([^\s=,{}"]+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|\Z)')
_ESCAPE = re.compile(r"\\(.)")
_VALUE = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf(?:inity)?|nan)\Z", re.IGNORECASE)


def read(text: str, now_ms: int, limits: IngestOptions = DEFAULTS, keys: SeriesKeys | None = None) -> Samples:
    """Return the samples of a text; lines without time get `now_ms`.

    All or nothing: BadSampleError names the first bad line, and nothing of the text is used, so
    that a sender can correct and send the whole again.
    """
    keys = keys or SeriesKeys()
    columns: dict[Series, tuple[SeriesKey, list[int], list[float]]] = {}
    known: dict[str, tuple[SeriesKey, list[int], list[float]]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if len(line) > MOST_LINE:
            raise BadSampleError(f"line {number}: {len(line)} characters, the limit is {MOST_LINE}")
        match = _LINE.match(line)
        if match is None:
            raise BadSampleError(f"line {number}: {short(line)} is not `name{{labels}} value [milliseconds]`")
        written, value, time = match.group("series", "value", "time")
        if not _VALUE.match(value):
            raise BadSampleError(f"line {number}: {short(value)} is not a number")
        column = known.get(written)
        if column is None:
            try:
                series = _series(written, limits)
            except BadSampleError as error:
                raise BadSampleError(f"line {number}: {error}") from None
            column = known[written] = columns.setdefault(series, (keys.of(series), [], []))
        t_ms = int(time) if time else now_ms
        if not T_MIN_MS <= t_ms <= T_MAX_MS:
            raise BadSampleError(f"line {number}: timestamp {t_ms} ms is not between 1970 and 9999")
        column[1].append(t_ms)
        column[2].append(float(value))
    return of_lists(columns.values())


def _series(written: str, limits: IngestOptions) -> Series:
    name, _, inner = written.partition("{")
    pairs = [("__name__", name.rstrip())]
    inner, position = inner.removesuffix("}").strip(), 0
    while position < len(inner):
        match = _LABEL.match(inner, position)
        if match is None:
            raise BadSampleError(f'labels {short(inner[position:])} are not `name="value", ...`')
        pairs.append((match.group(1), _ESCAPE.sub(_unescaped, match.group(2))))
        position = match.end()
    return checked_series(pairs, limits)


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match.group(1) == "n" else match.group(1)
