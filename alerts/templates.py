"""Templates of labels and annotations: the part of Go's language that rules commonly use.

Known: `$value`, `.Value`, `$labels.name`, `.Labels.name`, `index $labels "name"`, `$externalURL`, `printf "%.2f" X`,
and the pipes `humanize`, `humanize1024`, `humanizePercentage`, `humanizeDuration`, `toUpper`, `toLower`, `title`.
Anything else is left standing as it was written, and `app.py check-rules` warns about it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from alerts.durations import show_duration

Value = float | str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a template may speak of."""

    value: float
    labels: Mapping[str, str]
    external_url: str = ""


Part = str | Callable[[Facts], str]
_ACTION = re.compile(r"(?:\s*\{\{-\s|\{\{)\s*(.*?)\s*(?:\s-\}\}\s*|\}\})", re.DOTALL)  # `{{- x -}}` eats white space
_LABEL = re.compile(r"(?:\$labels|\.Labels)\.([a-zA-Z_][a-zA-Z0-9_]*)\Z")
_INDEX = re.compile(r"index\s+(?:\$labels|\.Labels)\s+\"([^\"]+)\"\Z")
_PRINTF = re.compile(r"printf\s+\"((?:[^\"\\]|\\.)*)\"(?:\s+(.+))?\Z", re.DOTALL)
_VERB = re.compile(r"%[-+# 0]*\d*(?:\.\d+)?[eEfFgGsvdq]")
_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)\"\Z")
_PREFIXES = (
    (1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""),
    (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"),
)  # fmt: skip


class Template:
    """A text with `{{ ... }}` actions, parsed once. `unknown` lists the actions left standing."""

    __slots__ = ("_parts", "unknown")

    def __init__(self, text: str) -> None:
        self.unknown: tuple[str, ...] = ()
        self._parts = tuple(self._parse(text))

    def render(self, facts: Facts) -> str:
        return "".join(part if isinstance(part, str) else part(facts) for part in self._parts)

    def _parse(self, text: str) -> list[Part]:
        parts: list[Part] = []
        at = 0
        for match in _ACTION.finditer(text):
            parts.append(text[at : match.start()])
            at = match.end()
            action = _pipeline(match.group(1))
            if action is None:
                self.unknown += (match.group(0),)
                parts.append(match.group(0))
            else:
                parts.append(_shown(action))
        parts.append(text[at:])
        return [part for part in parts if part != ""]


def _shown(action: Callable[[Facts], Value]) -> Callable[[Facts], str]:
    return lambda facts: _text(action(facts))


def _pipeline(source: str) -> Callable[[Facts], Value] | None:
    head, *pipes = (piece.strip() for piece in _split_pipes(source))
    action = _operand(head)
    for name in pipes:
        function = _FUNCTIONS.get(name) or _printf_pipe(name)
        if action is None or function is None:
            return None
        action = _then(action, function)
    return action


def _split_pipes(source: str) -> list[str]:
    """Split at `|` outside of quotes."""
    return re.findall(r"(?:\"(?:[^\"\\]|\\.)*\"|[^|\"])+", source) or [""]


def _then(first: Callable[[Facts], Value], second: Callable[[Value], Value]) -> Callable[[Facts], Value]:
    return lambda facts: second(first(facts))


def _operand(source: str) -> Callable[[Facts], Value] | None:
    if source in ("$value", ".Value"):
        return lambda facts: facts.value
    if source in ("$externalURL", ".ExternalURL"):
        return lambda facts: facts.external_url
    if match := _LABEL.match(source) or _INDEX.match(source):
        name = match.group(1)
        return lambda facts: facts.labels.get(name, "")
    if match := _STRING.match(source):
        text = _unquote(match.group(1))
        return lambda facts: text
    return _printf(source) or _call(source)


def _call(source: str) -> Callable[[Facts], Value] | None:
    """A function before its operand: `humanize $value`."""
    name, _, rest = source.partition(" ")
    function, operand = _FUNCTIONS.get(name), _operand(rest.strip()) if rest else None
    return None if function is None or operand is None else _then(operand, function)


def _printf(source: str) -> Callable[[Facts], Value] | None:
    match = _PRINTF.match(source)
    if match is None or match.group(2) is None:
        return None
    operand, shape = _operand(match.group(2).strip()), _shape(match.group(1))
    return None if operand is None or shape is None else _then(operand, shape)


def _printf_pipe(source: str) -> Callable[[Value], Value] | None:
    match = _PRINTF.match(source)
    return _shape(match.group(1)) if match is not None and match.group(2) is None else None


def _shape(raw: str) -> Callable[[Value], Value] | None:
    """A printf format with exactly one verb."""
    text = _unquote(raw)
    if len(_VERB.findall(text)) != 1 or _VERB.sub("", text).replace("%%", "").count("%"):
        return None
    shape = re.sub(r"%v", "%s", text)

    def show(value: Value) -> Value:
        try:
            verb = next(verb for verb in _VERB.findall(shape))[-1]
            if verb in "sq":
                return shape.replace("%q", '"%s"') % (_text(value),)
            return shape % (float(value),)
        except (TypeError, ValueError, OverflowError):
            return _text(value)

    return show


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match.group(1), match.group(1)), text)


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.12g}"


def _float(value: Value) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def humanize(value: Value) -> str:
    """Metric prefixes, four significant digits: 1234567 -> 1.235M, 0.00012 -> 120u."""
    number = _float(value)
    if number == 0 or not math.isfinite(number):
        return _text(number)
    size = abs(number)
    scale, prefix = next(((scale, prefix) for scale, prefix in _PREFIXES if size >= scale), _PREFIXES[-1])
    return f"{number / scale:.4g}{prefix}"


def humanize_1024(value: Value) -> str:
    """Binary prefixes: 8589934592 -> 8Gi."""
    number = _float(value)
    if abs(number) <= 1 or not math.isfinite(number):
        return f"{number:.4g}" if math.isfinite(number) else _text(number)
    prefix = ""
    for candidate in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"):
        if abs(number) < 1024:
            break
        prefix, number = candidate, number / 1024
    return f"{number:.4g}{prefix}"


_FUNCTIONS: Mapping[str, Callable[[Value], Value]] = {
    "humanize": humanize,
    "humanize1024": humanize_1024,
    "humanizePercentage": lambda value: f"{_float(value) * 100:.4g}%",
    "humanizeDuration": lambda value: show_duration(_float(value)),
    "toUpper": lambda value: _text(value).upper(),
    "toLower": lambda value: _text(value).lower(),
    "title": lambda value: _text(value).title(),
}
