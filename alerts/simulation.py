"""A rule over columns of samples: what RuleRun would have made of them, found without asking it at every step.

The state machine is the live one (`alerts.state.step`); it is asked only where what is seen of a series
changes, and where one of its clocks runs out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from alerts.evaluate import EvaluationError, RuleRun
from alerts.expression import Comparison
from alerts.extension import NoData
from alerts.options import AlertOptions
from alerts.rules import Rule
from alerts.state import AlertState, Instant, Live, Observation, Reason, Seen, Timing, step
from metrics.frame import FloatArray, IntArray
from metrics.severity import Severity

Mask = npt.NDArray[np.bool_]
_BETWEEN, _CLEAR, _MISSING, _FROZEN = 100, 101, 102, 103
_COMPARE = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


@dataclass(frozen=True, slots=True)
class Episode:
    """One time that an alert fired. end_ms: None where it still did at the end; worst: the highest tier."""

    labels: Mapping[str, str]
    start_ms: int
    end_ms: int | None
    worst: Severity
    changes: int


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The value of a rule's expression over time: labels [series], t_ms int64 [steps] ascending, values float64 and
    present bool [series, steps]."""

    labels: Sequence[dict[str, str]]
    t_ms: IntArray
    values: FloatArray
    present: Mask


def simulate(rule: Rule, limit: int, history: History, options: AlertOptions) -> list[Episode]:
    """The episodes of a rule over a history, by their beginning. Reminders are left out: they change nothing."""
    options = replace(options, repeat_interval_s=0.0)
    run = RuleRun(rule, 0, limit, options)
    active = _active(rule, history.t_ms)
    if not _separable(rule, run, limit, history, active):
        return _one_by_one(run, history)
    timing = run.timing
    episodes: list[Episode] = []
    others: Mask = np.asarray(history.present.any(axis=0))
    for row, labels in enumerate(history.labels):
        codes = _codes(rule, history.values[row], history.present[row], active, others)
        episodes += _course(rule, run.identity(labels).labels, timing, history.t_ms, codes)
    if rule.extension.no_data is NoData.ALERT:
        codes = np.where(others, _MISSING, np.where(active, 0, _FROZEN)).astype(np.int8)
        episodes += _course(rule, run.identity({}).labels, timing, history.t_ms, codes)
    return sorted(episodes, key=lambda episode: episode.start_ms)


def exceeds(comparison: Comparison | None, values: FloatArray) -> Mask:
    """Where values are on the bad side; everywhere for a rule without a comparison."""
    if comparison is None:
        return np.ones(values.shape, dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        found: Mask = _COMPARE[comparison.op](values, comparison.threshold)
    return found


def _active(rule: Rule, t_ms: IntArray) -> Mask:
    """When the rule may alert: found by the ends of its spans, not by asking at every step."""
    hours = rule.extension.active
    mask = np.ones(len(t_ms), dtype=np.bool_)
    if hours is None:
        return mask
    at = 0
    while at < len(t_ms):
        open_now, until_ms = hours.span(int(t_ms[at]))
        behind = max(at + 1, int(np.searchsorted(t_ms, until_ms)))
        mask[at:behind] = open_now
        at = behind
    return mask


def _separable(rule: Rule, run: RuleRun, limit: int, history: History, active: Mask) -> bool:
    """Whether each series is an alert of its own, so that they can be looked at one after the other."""
    if any("{{" in text and "$value" in text for text in rule.label_texts.values()):
        return False
    prints = [run.identity(labels).fingerprint for labels in history.labels]
    if rule.extension.no_data is NoData.ALERT:
        prints.append(run.identity({}).fingerprint)
    if len(set(prints)) != len(prints):
        return False
    if not limit:
        return True
    lowest = rule.extension.tiers[0].comparison
    return bool(((exceeds(lowest, history.values) & history.present).sum(axis=0) <= limit).all())


def _codes(rule: Rule, values: FloatArray, present: Mask, active: Mask, others: Mask) -> npt.NDArray[np.int8]:
    """What is seen of one series at each step: the index of the tier it reaches, or one of the codes above."""
    extension = rule.extension
    codes = np.full(len(values), _CLEAR, dtype=np.int8)
    if extension.recovery is not None:
        codes[exceeds(extension.recovery, values)] = _BETWEEN
    for index, tier in enumerate(extension.tiers):
        codes[exceeds(tier.comparison, values)] = index
    codes[~active] = _CLEAR
    match extension.no_data:
        case NoData.KEEP:
            codes[~present] = _FROZEN
        case NoData.ALERT:
            codes[~present] = np.where(others, _MISSING, _FROZEN)[~present]
        case NoData.RESOLVE:
            codes[~present] = _MISSING
    return codes


def _course(
    rule: Rule, labels: Mapping[str, str], timing: Timing, t_ms: IntArray, codes: npt.NDArray[np.int8]
) -> Iterator[Episode]:
    """The episodes of one alert."""
    if not len(codes):
        return
    tiers = rule.extension.tiers
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    live: Live | None = None
    begun: tuple[int, Severity, int] | None = None  # start, worst tier, changes
    for begin, end in itertools.pairwise(starts):
        code = int(codes[begin])
        if live is None and code >= _BETWEEN:
            continue
        seen = _observation(code, tiers[code].severity if code < _BETWEEN else rule.severity)
        at = begin
        while at < end:
            now = int(t_ms[at])
            live, reason = step(live, seen, timing, Instant(now, now))
            match reason:
                case Reason.FIRST if live is not None:
                    begun = (now, live.severity, 1)
                case Reason.ESCALATED | Reason.TIER_FELL if live is not None and begun is not None:
                    begun = (begun[0], max(begun[1], live.severity), begun[2] + 1)
                case Reason.RESOLVED if begun is not None:
                    yield Episode(labels, begun[0], now, begun[1], begun[2] + 1)
                    begun = None
            due_ms = _due_ms(live, seen, timing)
            if due_ms is None:
                break
            at = max(at + 1, int(np.searchsorted(t_ms, due_ms)))
    if begun is not None:
        yield Episode(labels, begun[0], None, begun[1], begun[2])


def _observation(code: int, severity: Severity) -> Observation:
    kinds = {_BETWEEN: Seen.BETWEEN, _CLEAR: Seen.CLEAR, _MISSING: Seen.MISSING, _FROZEN: Seen.FROZEN}
    return Observation(kinds.get(code, Seen.EXCEEDS), severity)


def _due_ms(live: Live | None, seen: Observation, timing: Timing) -> int | None:
    """When the same observation leads to a change by itself; None: never."""
    if live is None or seen.seen is Seen.FROZEN:
        return None
    if live.state is AlertState.PENDING:
        return live.since.mono_ms + timing.for_ms
    if live.clear_since is not None:
        return live.clear_since.mono_ms + timing.keep_firing_ms
    return None if live.below_since is None else live.below_since.mono_ms + timing.tier_fall_ms


def _one_by_one(run: RuleRun, history: History) -> list[Episode]:
    """The slow way, for rules whose alerts depend on one another: RuleRun, step by step."""
    begun: dict[str, Episode] = {}
    done: list[Episode] = []
    for at, t_ms in enumerate(history.t_ms.tolist()):
        rows = np.flatnonzero(history.present[:, at]).tolist() if len(history.labels) else []
        samples = [(history.labels[row], float(history.values[row, at])) for row in rows]
        try:
            changes = run.evaluate(samples, Instant(t_ms, t_ms), grace=False)
        except EvaluationError:
            continue
        for change in changes:
            key = change.tracked.alert_id
            if change.reason is Reason.FIRST:
                begun[key] = Episode(change.tracked.labels, t_ms, None, change.live.severity, 1)
            elif key in begun:
                one = begun[key]
                worst = max(one.worst, change.live.severity)
                begun[key] = replace(one, worst=worst, changes=one.changes + 1)
                if change.after is None:
                    done.append(replace(begun.pop(key), end_ms=t_ms))
    return sorted([*done, *begun.values()], key=lambda episode: episode.start_ms)
