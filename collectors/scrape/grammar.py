"""The two text formats, line by line: Prometheus text 0.0.4 (and 1.0.0) and OpenMetrics 1.0.

Accepted and refused are what Prometheus accepts and refuses, with two exceptions: a line break inside a quoted value
has to be escaped, as both specifications say, and no line is longer than MOST_LINE_BYTES.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Format = Literal["text", "openmetrics"]
MOST_LINE_BYTES = 65_536
NAME = "__name__"

_TEXT = re.compile(
    rb"[ \t]*+(?P<series>(?:[a-zA-Z_:][a-zA-Z0-9_:]*+[ \t]*+)?(?:\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*+\")*+\})?)[ \t]*+"
    rb"(?<=[ \t}])(?P<value>[^{ \t]+)(?:[ \t]+(?P<time>-?[0-9]+))?[ \t]*\Z"
)
_OPEN = re.compile(
    rb"(?P<series>(?:[a-zA-Z_:][a-zA-Z0-9_:]*+)?(?:\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*+\")*+\})?) (?P<value>[^ {]+)(?: (?P<time>[^ #]+))?"
    rb"(?: # \{(?P<exemplar>(?:[^\"}]|\"(?:[^\"\\]|\\.)*+\")*+)\} (?P<exemplar_value>[^ ]+)(?: (?P<exemplar_time>[^ ]+))?)?\Z"
)
_LABEL = re.compile(
    r"[ \t]*(?:(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)|\"(?P<quoted>(?:[^\"\\]|\\.)*)\")"
    r"[ \t]*(?:=[ \t]*\"(?P<value>(?:[^\"\\]|\\.)*)\"[ \t]*)?(?P<end>,|\Z)"
)
_TEXT_META = re.compile(
    rb"[ \t]*#[ \t]+(?P<what>HELP|TYPE)[ \t]+(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*|\"(?:[^\"\\]|\\.)+\")(?:[ \t]+(?P<text>.*))?\Z"
)
_OPEN_META = re.compile(
    rb"# (?P<what>HELP|TYPE|UNIT) (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*|\"(?:[^\"\\]|\\.)+\") (?P<text>.*)\Z"
)
_ESCAPED = re.compile(r"\\([\\\"n])")
_NUMBER = re.compile(
    rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z|[-+]?[iI][nN][fF](?:[iI][nN][iI][tT][yY])?\Z|[nN][aA][nN]\Z"
)
TEXT_TYPES = {
    b"counter": "counter",
    b"gauge": "gauge",
    b"histogram": "histogram",
    b"summary": "summary",
    b"untyped": "unknown",
}
OPEN_TYPES = {
    word: word.decode()
    for word in (b"counter", b"gauge", b"histogram", b"gaugehistogram", b"summary", b"info", b"stateset", b"unknown")
}


class FormatError(ValueError):
    """A line breaks the format's rules; the message says how."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample's line. series: as written; value_at: where the value begins; t_ms: None where no time is given.

    alone: the value is the last word of the line, so that a line with another value can be read without the grammar.
    """

    series: bytes
    value_at: int
    value: float
    t_ms: int | None
    alone: bool


@dataclass(frozen=True, slots=True)
class Meta:
    """One line of metadata. what: HELP, TYPE or UNIT; text: unescaped, a type in the API's words."""

    what: str
    name: str
    text: str


def sample(line: bytes, form: Format) -> Sample:
    """Read a sample's line; FormatError where it is none."""
    if len(line) > MOST_LINE_BYTES:
        raise FormatError(f"a line of {len(line)} bytes, the limit is {MOST_LINE_BYTES}")
    found = (_TEXT if form == "text" else _OPEN).match(line)
    if found is None or not found["series"]:
        raise FormatError(f'{shown(line)} is not `name{{label="value"}} number [time]`')
    time = found["time"]
    if form == "text":
        t_ms = None if time is None else _milliseconds(time)
        alone = time is None and found.end("value") == len(line)
    else:
        t_ms = None if time is None else _seconds(time)
        alone = found.end("value") == len(line)
        if found["exemplar"] is not None:
            _check_exemplar(found)
    return Sample(found["series"], found.start("value"), number(found["value"]), t_ms, alone)


def number(token: bytes) -> float:
    """A float as Go reads one; FormatError for anything else (hexadecimal, 1_000, 1e999)."""
    if not _NUMBER.match(token):
        raise FormatError(f"{shown(token)} is not a number")
    value = float(token)
    if math.isinf(value) and not token.strip(b"0123456789.eE+-"):
        raise FormatError(f"{shown(token)} is out of a float's range")
    return value


def labels(series: bytes, form: Format) -> dict[str, str]:
    """The labels of a series as written, its name as `__name__`; empty values stay."""
    try:
        written = series.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{shown(series)} is not UTF-8") from None
    if "\x00" in written:
        raise FormatError(f"{shown(series)} holds a NUL character")
    name, brace, inner = written.partition("{")
    found = {NAME: name.rstrip(" \t")} if name else {}
    if brace:
        _read_labels(inner[:-1], form, found)
    if not found.get(NAME):
        raise FormatError(f"{shown(series)} has no metric name")
    return found


def meta(line: bytes, form: Format) -> Meta | None:
    """Read a comment's line; None for one that only a person reads."""
    found = (_TEXT_META if form == "text" else _OPEN_META).match(line)
    if found is None:
        if form == "openmetrics":
            raise FormatError(f"{shown(line)} is not a line of metadata (OpenMetrics has no other comments)")
        return None
    what, words = found["what"].decode(), found["text"] or b""
    try:
        name, text = _unquoted(found["name"].decode()), words.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{shown(line)} is not UTF-8") from None
    if what == "TYPE":
        kind = (TEXT_TYPES if form == "text" else OPEN_TYPES).get(words.strip(b" \t") if form == "text" else words)
        if kind is None:
            raise FormatError(f"{shown(words)} is no type of metric")
        text = kind
    elif what == "UNIT":
        if text and not name.endswith(f"_{text}"):
            raise FormatError(f"the unit {shown(words)} is not a suffix of the metric's name {name}")
    else:
        text = _unescaped(text)
    return Meta(what, name, text)


def shown(words: bytes) -> str:
    """The beginning of some bytes, fit for a message."""
    text = words[:100].decode(errors="backslashreplace")
    return repr(text if len(words) <= 100 else text + "...")


def _read_labels(inner: str, form: Format, into: dict[str, str]) -> None:
    position, end = 0, ","
    while position < len(inner):
        found = _LABEL.match(inner, position)
        if found is None:
            if not inner[position:].strip(" \t"):
                break
            raise FormatError(f'the labels {shown(inner[position:].encode())} are not `name="value", ...`')
        name, value, end = found["name"], found["value"], found["end"]
        if value is None:
            if name is not None or NAME in into:
                raise FormatError(f"the label {name or found['quoted']!r} has no value")
            into[NAME] = _unescaped(found["quoted"])
        else:
            name = _unescaped(found["quoted"]) if name is None else name
            if name in into or not name:
                raise FormatError(f"the label {name!r} occurs twice" if name else "a label has no name")
            into[name] = _unescaped(value)
        position = found.end()
    if form == "openmetrics" and inner.endswith(",") and end == ",":
        raise FormatError("a label is missing after the last comma")


def _unquoted(name: str) -> str:
    return _unescaped(name[1:-1]) if name.startswith('"') else name


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _milliseconds(token: bytes) -> int:
    if len(token) > 18:
        raise FormatError(f"the time {shown(token)} is out of range")
    return int(token)


def _seconds(token: bytes) -> int:
    value = number(token)
    if not math.isfinite(value) or abs(value) > 1e12:
        raise FormatError(f"the time {shown(token)} is out of range")
    return int(value * 1000)


def _check_exemplar(found: re.Match[bytes]) -> None:
    """An exemplar is read so that a broken one is found, and not kept."""
    try:
        into = {NAME: ""}
        _read_labels(found["exemplar"].decode(), "openmetrics", into)
    except UnicodeDecodeError:
        raise FormatError("an exemplar is not UTF-8") from None
    number(found["exemplar_value"])
    if found["exemplar_time"] is not None:
        _seconds(found["exemplar_time"])
