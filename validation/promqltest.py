"""Runs Prometheus's own PromQL cases (promql/promqltest/testdata/*.test) against our engine.

Each `eval` is one case. Values are compared with Prometheus's tolerance (1e-6 relative), failures and
the order of ordered cases too; expected messages of failures, warnings and info annotations too, word by word and with their places. Cases on
native histograms and start timestamps, and cases behind a feature flag of Prometheus 3, are counted apart.

    python -m validation.promqltest FOLDER [--verbose]
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from metrics.clock import SystemClock
from metrics.series import Labels, Series, make_labels
from query.engine import QueryEngine, QueryError, QueryOptions, Result
from query.format import parse_duration_ms
from query.labels import NAME, get
from query.source import MemorySource
from query.values import STALE

Class = Literal["stable", "flagged", "native"]
Points = list[float | None]
TOLERANCE = 1e-6
NATIVE_FILES = {"native_histograms", "start_timestamps"}
FLAGGED_FILES = {"name_label_dropping", "type_and_unit"}
_FLAGGED = re.compile(
    r"\b(?:anchored|smoothed|limitk|limit_ratio|double_exponential_smoothing|histogram_quantiles|info|mad_over_time"
    r"|sort_by_label|sort_by_label_desc|ts_of_\w+_over_time|max_of|min_of|fill|fill_left|fill_right)\s*\("
    r"|\b(?:anchored|smoothed)\b|(?<![@\w])(?<!@ )\b(?:start|end|step|range)\(\)"
    r"|\[[^\]]*[-+*/%^(][^\]]*\]|\boffset\s+-?\(",  # duration arithmetic
    re.IGNORECASE,
)
_NATIVE_FUNCTION = re.compile(r"\bhistogram_(?:count|sum|avg|stddev|stdvar)\b")
_EVAL_INSTANT = re.compile(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$")
_EVAL_RANGE = re.compile(r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$")
_LOAD = re.compile(r"^load(_with_nhcb)?\s+(.+?)$")
_LABEL = re.compile(r'\s*(?:([\w.:]+|"(?:[^"\\]|\\.)*")\s*(=)\s*)?("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')\s*,?')


@dataclass(slots=True)
class Case:
    """One `eval`."""

    file: str
    line: int
    expression: str
    start_ms: int
    end_ms: int
    step_ms: int
    classed: Class
    source: MemorySource
    fails: bool = False
    ordered: bool = False
    fail_message: str | None = None
    expected: list[tuple[Labels, Points]] = field(default_factory=list)
    scalar: float | None = None
    text: str | None = None
    window: tuple[int, int, int] | None = None
    annotations: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def ranged(self) -> bool:
        return self.step_ms > 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case, and why it failed ("" where it passed)."""

    case: Case
    trouble: str


def cases(path: Path) -> list[Case]:
    """Read all cases of one .test file."""
    return list(_File(path).cases())


def run(case: Case) -> Outcome:
    """Evaluate one case and compare."""
    engine = QueryEngine(case.source, QueryOptions(), SystemClock())
    try:
        if case.ranged:
            result = engine.range(case.expression, case.start_ms, case.end_ms, case.step_ms)
        else:
            result = engine.instant(case.expression, case.start_ms)
    except QueryError as error:
        return Outcome(case, _failure(case, str(error)))
    if case.fails:
        return Outcome(case, "expected an error, got a result")
    return Outcome(case, _difference(case, result) or _annotated(case, result.warnings))


def _failure(case: Case, message: str) -> str:
    if not case.fails:
        return f"error: {message}"
    if case.fail_message is not None and not _says(case.fail_message, message):
        return f"expected the error {case.fail_message}, got {message}"
    return ""


def _says(wanted: str, text: str) -> bool:
    """`msg: words` or `regex: pattern`, as the cases have it."""
    kind, _, rest = wanted.partition(":")
    return re.search(rest.strip(), text) is not None if kind == "regex" else rest.strip() in text


def _annotated(case: Case, texts: Sequence[str]) -> str:
    """What is wrong with the annotations: kinds are warn, info, no_warn and no_info."""
    told = {
        "warn": [text for text in texts if not text.startswith("PromQL info")],
        "info": [text for text in texts if text.startswith("PromQL info")],
    }
    for kind, how, wanted in case.annotations:
        if kind.startswith("no_"):
            if told[kind[3:]]:
                return f"expected {kind}, got {told[kind[3:]]}"
        elif not any(not how or _says(f"{how}: {wanted}", text) for text in told[kind]):
            return f"expected {kind} {wanted}, got {told[kind]}"
    return ""


class _File:
    """Reads one file line by line; blocks end with an empty line."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.lines = [line.strip() for line in path.read_text().splitlines()]
        self.position = 0
        self.source = MemorySource()
        self.native: set[str] = set()
        self.native_series: list[Series] = []

    def cases(self) -> Iterator[Case]:
        while self.position < len(self.lines):
            line = self.lines[self.position]
            self.position += 1
            if line == "clear":
                self.source, self.native, self.native_series = MemorySource(), set(), []
            elif match := _LOAD.match(line):
                self._load(match.group(2), nhcb=match.group(1) is not None)
            elif line.startswith("eval"):
                yield self._case(line)

    def _block(self) -> Iterator[str]:
        while self.position < len(self.lines):
            line = self.lines[self.position]
            if not line or line.startswith(("eval", "load", "clear")):
                return
            self.position += 1
            if not line.startswith("#"):
                yield line

    def _load(self, step: str, *, nhcb: bool) -> None:
        step_ms = parse_duration_ms(step)
        self.source = _copy(self.source)
        for line in self._block():
            metric, values = _split(line)
            if metric.endswith("@st"):
                continue
            labels = _labels(metric)
            name = get(labels, NAME)
            if nhcb:
                self.native.add(re.sub(r"_(bucket|count|sum)$", "", name))
            if "{{" in values:
                self.native.add(name)
                self.native_series.append(_series(labels))
            points = _points(re.sub(r"\{\{.*?\}\}(?:[-+]\{\{.*?\}\})?(?:x\d+)?", "_", values))
            self._put(labels, step_ms, points)

    def _put(self, labels: Labels, step_ms: int, points: Points) -> None:
        series = _series(labels)
        merged: dict[int, float] = {}
        if self.source.has(series):
            t, v = self.source.column(series)
            merged.update(zip(t.tolist(), v, strict=True))
        for i, value in enumerate(points):
            if value is not None:
                merged[i * step_ms] = value
        self.source.put(series, sorted(merged), [merged[t] for t in sorted(merged)])

    def _case(self, line: str) -> Case:
        number = self.position
        if match := _EVAL_RANGE.match(line):
            mode, start, end, step, expression = match.groups()
            times = (parse_duration_ms(start), parse_duration_ms(end), parse_duration_ms(step))
        elif match := _EVAL_INSTANT.match(line):
            mode, at, expression = match.groups()
            times = (parse_duration_ms(at), parse_duration_ms(at), 0)
        else:
            raise ValueError(f"{self.name}:{number}: cannot read {line!r}")
        case = Case(self.name, number, expression, *times, "stable", self.source)
        case.fails, case.ordered = mode == "fail", mode == "ordered"
        if mode in ("warn", "info"):
            case.annotations.append((mode, "", ""))
        native = self._expectations(case)
        case.classed = self._class(case, native=native)
        if case.annotations and self._reads_native(case):
            case.annotations = []  # they are about the native histograms, which the source does not hold
        return case

    def _reads_native(self, case: Case) -> bool:
        try:
            prepared = QueryEngine(self.source, QueryOptions(), SystemClock()).prepare(case.expression)
        except QueryError:
            return False
        return any(prepared.matches(series) for series in self.native_series)

    def _expectations(self, case: Case) -> bool:
        native = False
        for line in self._block():
            if line.startswith("expect "):
                _expect(case, line)
            elif line.startswith(("expected_fail_message", "expected_fail_regexp")):
                word, message = line.split(" ", 1)
                case.fail_message = f"{'regex' if word.endswith('regexp') else 'msg'}: {message}"
            elif "{{" in line:
                native = True
            elif re.fullmatch(r"[-+]?(?:[\d.]+(?:e[-+]?\d+)?|Inf|NaN|0x[0-9a-f]+)", line, re.IGNORECASE):
                case.scalar = _points(line)[0]
            else:
                metric, values = _split(line)
                case.expected.append((_labels(metric), _points(values)))
        return native

    def _class(self, case: Case, *, native: bool) -> Class:
        if self.name in NATIVE_FILES or native or _NATIVE_FUNCTION.search(case.expression):
            return "native"
        words = set(re.findall(r"[\w:]+", case.expression))
        pattern = re.search(r'__name__=~"([^"]*)"', case.expression)
        if pattern and any(re.fullmatch(pattern.group(1), name) for name in self.native):
            return "native"
        if words & self.native or any('="' in case.expression and name in case.expression for name in self.native):
            return "native"
        if self.name in FLAGGED_FILES or _FLAGGED.search(case.expression):
            return "flagged"
        return "stable"


def _series(labels: Labels) -> Series:
    return Series(get(labels, NAME), make_labels({k: v for k, v in labels if k != NAME}))


def _copy(source: MemorySource) -> MemorySource:
    """Cases keep the data that were loaded when they were read."""
    return MemorySource({series: source.column(series) for series in source.series()})


def _expect(case: Case, line: str) -> None:
    words = line.split(maxsplit=2)
    if words[1] == "fail":
        case.fails = True
        case.fail_message = words[2] if len(words) > 2 else None
    elif words[1] == "ordered":
        case.ordered = True
    elif words[1] in ("warn", "info", "no_warn", "no_info"):
        how, _, wanted = words[2].partition(":") if len(words) > 2 else ("", "", "")
        case.annotations.append((words[1], how, wanted.strip()))
    elif words[1] == "string":
        case.text = words[2].strip("\"'`")
    elif match := re.match(r"expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$", line):
        start, end, step = (parse_duration_ms(part) for part in match.groups())
        case.window = (start, end, step)


def _split(line: str) -> tuple[str, str]:
    """Metric and values: the first blank outside braces and quotes divides them."""
    depth, quote = 0, ""
    for i, char in enumerate(line):
        if quote:
            if char == quote and line[i - 1] != "\\":
                quote = ""
        elif char in "\"'`":
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
        elif char.isspace() and depth == 0:
            rest = line[i:].strip()
            if rest.startswith("{") and not rest.startswith("{{") and "{" not in line[:i]:
                end = line.index("}", i)
                return line[: end + 1], line[end + 1 :].strip()
            return line[:i], rest
    return line, ""


def _labels(metric: str) -> Labels:
    name, _, inner = metric.strip().partition("{")
    labels = {NAME: name.strip().strip('"')}
    position, inner = 0, inner.rstrip().removesuffix("}")
    while match := _LABEL.match(inner, position):
        key, equals, value = match.groups()
        text = _unquoted(value)
        labels[_unquoted(key) if equals else NAME] = text
        position = match.end()
    return make_labels(labels)


def _unquoted(text: str) -> str:
    if text[:1] not in "\"'":
        return text
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m.group(1), m.group(1)), text[1:-1])


def _points(values: str) -> Points:
    points: Points = []
    for item in values.split():
        points += _item(item)
    return points


def _item(item: str) -> Points:
    """`1`, `_`, `stale`, `1x3` (four times), `1+2x3` (1 3 5 7), `_x3` (three times)."""
    head, _, times = item.rpartition("x") if re.search(r"x\d+$", item) else (item, "", "")
    count = int(times) if times else 0
    if head == "_":
        return [None] * (count if times else 1)
    if head == "stale":
        return [STALE] * (count + 1)
    match = re.fullmatch(
        r"([-+]?(?:Inf|NaN|[\d.]+(?:e[-+]?\d+)?))(?:([-+](?:Inf|NaN|[\d.]+(?:e[-+]?\d+)?)))?", head, re.IGNORECASE
    )
    if match is None:
        return [float(int(head, 16)) if head.lower().lstrip("+-").startswith("0x") else float(head)]
    first, step = float(match.group(1)), float(match.group(2) or 0)
    if not times:
        return [first]
    return [first + step * i for i in range(count + 1)]


def _difference(case: Case, result: Result) -> str:
    if case.text is not None:
        return "" if result.text == case.text else f"got string {result.text!r}"
    if result.kind == "scalar":
        if case.scalar is None:
            return f"got scalar {result.values[0, 0]}"
        return "" if _close(float(result.values[0, 0]), case.scalar) else f"got scalar {result.values[0, 0]}"
    start, step = (case.window[0], case.window[2]) if case.window else (case.start_ms, case.step_ms)
    got = {make_labels(labels): dict(zip(t.tolist(), v.tolist(), strict=True)) for labels, t, v in result.series()}
    expected: dict[Labels, dict[int, float]] = {}
    if case.scalar is not None:
        return "expected a scalar"
    for labels, points in case.expected:
        expected[labels] = {start + i * step: value for i, value in enumerate(points) if value is not None}
    if set(got) != set(expected):
        return f"series: got {sorted(got)}, expected {sorted(expected)}"
    for labels, points_by_time in expected.items():
        if set(points_by_time) != set(got[labels]):
            return f"{labels}: got times {sorted(got[labels])}, expected {sorted(points_by_time)}"
        for t, value in points_by_time.items():
            if not _close(got[labels][t], value):
                return f"{labels} at {t}: got {got[labels][t]}, expected {value}"
    if case.ordered and [make_labels(labels) for labels in result.labels] != list(expected):
        return f"order: got {result.labels}"
    return ""


def _close(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if a == b:
        return True
    distance, size = abs(a - b), abs(a) + abs(b)
    if a == 0 or b == 0 or size < sys.float_info.min:
        return distance < TOLERANCE * sys.float_info.min
    return distance / min(size, sys.float_info.max) < TOLERANCE


def run_folder(folder: Path) -> dict[Class, list[Outcome]]:
    """Run every case of every file; by class."""
    outcomes: dict[Class, list[Outcome]] = {"stable": [], "flagged": [], "native": []}
    for path in sorted(folder.glob("*.test")):
        for case in cases(path):
            outcomes[case.classed].append(run(case) if case.classed != "native" else Outcome(case, "native"))
    return outcomes


def main(arguments: Sequence[str]) -> int:
    """Print passing counts by class; with --verbose every failing stable case."""
    outcomes = run_folder(Path(arguments[0]))
    classes: tuple[Class, ...] = ("stable", "flagged")
    for classed in classes:
        passed = sum(not outcome.trouble for outcome in outcomes[classed])
        print(f"{classed}: {passed} of {len(outcomes[classed])} pass")
    print(f"not run (native histograms, start timestamps): {len(outcomes['native'])}")
    if "--verbose" in arguments:
        for outcome in outcomes["stable"]:
            if outcome.trouble:
                case = outcome.case
                print(f"{case.file}:{case.line} {case.expression}\n    {outcome.trouble[:400]}")
        print(Counter(outcome.case.file for outcome in outcomes["stable"] if outcome.trouble))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
