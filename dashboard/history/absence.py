"""Absence: why a question has no answer, in words, and what to ask instead."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.services import SeriesIndex, Services
from dashboard.timerange import TimeRange, show_time
from metrics.catalogue import CATALOGUE, metric_of
from query.matchers import Matcher

_NAME = "__name__"
_MOST_VALUES = 12
_SEARCH_MS = 60_000
Selector = tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Absence:
    """text says why; similar: names that may have been meant; data_from_ms, data_to_ms: when there are data."""

    text: str
    similar: tuple[str, ...] = ()
    meant: str = ""
    data_from_ms: int | None = None
    data_to_ms: int | None = None


def why_nothing(services: Services, selectors: Sequence[Selector], span: TimeRange, now_ms: int) -> Absence:
    """Go through the expression's selectors, the first that has nothing to give says why; blocks."""
    for selector in selectors:
        absence = (
            _unknown(services, selector) or _mismatch(services, selector) or _elsewhen(services, selector, span, now_ms)
        )
        if absence is not None:
            return absence
    between = f"between {show_time(span.start_ms)} and {show_time(span.end_ms)} UTC"
    if not selectors:
        return Absence(f"The expression gives no series {between}.")
    return Absence(
        f"There are samples {between}, but no sample of it fits this expression: a comparison is never met, "
        "the two sides share no labels, or a window is shorter than two samples."
    )


def _name(selector: Selector) -> str:
    return next((one.value for one in selector if one.name == _NAME and one.op == "="), "")


def _unknown(services: Services, selector: Selector) -> Absence | None:
    """Nothing is stored under this name."""
    name = _name(selector)
    if not name or services.query.source.series([Matcher(_NAME, "=", name)]):
        return None
    metric = metric_of(name)
    stored = {one.name for one in services.query.source.series()}
    if metric is not None and metric.kind == "histogram" and name == metric.name:
        parts = tuple(part for part in (f"{name}_bucket", f"{name}_sum", f"{name}_count") if part in stored)
        if parts:
            return Absence(f"{name} is a histogram: ask for its parts.", parts, name)
    if metric is not None:
        reason = _collector(services, name)
        return Absence(f"{name} is known, but nothing has been stored of it yet. {reason}".strip())
    similar = difflib.get_close_matches(name, stored, n=3, cutoff=0.5)
    hint = " Did you mean" if similar else ""
    return Absence(f"Nothing called {name} has been stored yet.{hint}", tuple(similar), name)


def _collector(services: Services, name: str) -> str:
    """Why a whole room is silent, where it says so itself."""
    if name.startswith("deskvigil_gpu_"):
        absence = services.gpu()
        return f"{absence[0].upper()}{absence[1:].rstrip('.')}." if absence else ""
    if name.startswith(("deskvigil_engine_", "deskvigil_kpi_")):
        engine = services.engine()
        return f"The engine is down: {engine.reason or 'no reason given'}." if engine.state == "DOWN" else ""
    return "Its collector has sent no such figure."


def _mismatch(services: Services, selector: Selector) -> Absence | None:
    """The name exists, but not with these labels: say which one."""
    if services.query.source.series(selector):
        return None
    base = [one for one in selector if one.name == _NAME]
    known = services.query.source.series(base)
    subject = _name(selector) or "what is stored"
    for matcher in selector:
        if matcher.name == _NAME or services.query.source.series([*base, matcher]):
            continue
        values = sorted({value for one in known for name, value in one.labels if name == matcher.name})
        if not values:
            labels = sorted({name for one in known for name, _ in one.labels})
            has = f"it has {', '.join(labels)}" if labels else "it has no labels"
            return Absence(f"{subject} has no label {matcher.name}: {has}.", tuple(labels[:3]), matcher.name)
        shown = ", ".join(values[:_MOST_VALUES]) + (", …" if len(values) > _MOST_VALUES else "")
        similar = difflib.get_close_matches(matcher.value, values, n=3, cutoff=0.4)
        return Absence(
            f'No {subject} with {matcher.name}{matcher.op}"{matcher.value}": its values are {shown}.',
            tuple(similar) if matcher.op == "=" else (),
            matcher.value,
        )
    words = ", ".join(f'{one.name}{one.op}"{one.value}"' for one in selector if one.name != _NAME)
    return Absence(f"Each of {words} exists in {subject}, but not together in one series.")


def _elsewhen(services: Services, selector: Selector, span: TimeRange, now_ms: int) -> Absence | None:
    """The series exist, but have no sample then: say when they have."""
    reader = services.query.source
    if reader.series(selector, span.start_ms, span.end_ms):
        return None
    first, last = extent(reader, selector, now_ms)
    subject = _name(selector) or "what is asked for"
    if first is None or last is None:
        return Absence(f"{subject} has no sample in the store.")
    text = f"{subject} has no sample in this time: there are data from {show_time(first)} to {show_time(last)} UTC."
    kept = services.raw_days
    if kept and span.end_ms < now_ms - kept * 86_400_000:
        text += f" Samples are kept for {kept} days, after that one a minute."
    elif last < now_ms - 600_000 and span.end_ms > last:
        text += " Nothing has come in since." + (f" {_collector(services, subject)}" if subject in CATALOGUE else "")
    return Absence(text, (), "", first, last)


def extent(reader: SeriesIndex, selector: Selector, now_ms: int) -> tuple[int | None, int | None]:
    """Instants, to the minute or better, between which the selector has samples; None, None for never."""

    def any_between(t0_ms: int, t1_ms: int) -> bool:
        return bool(reader.series(selector, t0_ms, t1_ms))

    late = now_ms + 86_400_000
    if not any_between(0, late):
        return None, None
    low, high = 0, late  # the first sample lies in (low, high]
    while high - low > _SEARCH_MS:
        middle = (low + high) // 2
        low, high = (low, middle) if any_between(0, middle) else (middle, high)
    first = high
    low, high = 0, late  # the last one lies in [low, high)
    while high - low > _SEARCH_MS:
        middle = (low + high) // 2
        low, high = (middle, high) if any_between(middle, late) else (low, middle)
    return first, max(low, first)
