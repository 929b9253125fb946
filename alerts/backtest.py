"""Backtest: how often, when and how long rules would have fired on stored history.

Every expression is asked as a range query and handed to the state machine that alerts live by. Where the
steps are longer than a rule's `for`, a plain rule is judged by the worst value of each step, so that no
short excursion is missed; other rules see the values at the steps, as a slower evaluation would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from alerts.evaluate import EvaluationError
from alerts.options import AlertOptions
from alerts.rules import Group, Rule
from alerts.simulation import Episode, History, simulate
from alerts.thresholds import Suggestion, suggest
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, IntArray
from metrics.severity import Severity
from query.engine import QueryEngine
from query.errors import QueryError

DAY_MS = 86_400_000
STEPS = 43_200
"""About the most steps of a backtest where none is asked for: a minute over 30 days."""
MAX_STEPS = 2_592_000
EPISODES_SHOWN = 200
_STEPS_AT_ONCE = 11_000
_FEWEST_STEPS = 10
_MAX_VALUES = 100_000_000


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule over the history.

    step_s: how often it was looked at; worst_of_step: by the worst value of each step. covered: share of the
    steps that had a sample. episodes: the newest EPISODES_SHOWN; fired: all of them. error: why it could not be asked.
    """

    rule: str
    line: int
    expression: str
    severity: Severity
    step_s: float
    worst_of_step: bool
    series: int = 0
    covered: float = 0.0
    fired: int = 0
    firing_s: float = 0.0
    longest_s: float = 0.0
    median_s: float = 0.0
    messages: int = 0
    tiers: dict[str, int] = field(default_factory=dict)
    episodes: tuple[Episode, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Backtest:
    """All rules over [start_ms, end_ms]; before: the same of the version compared with, by rule key. took_s: in all."""

    start_ms: int
    end_ms: int
    rules: tuple[RuleResult, ...]
    before: tuple[RuleResult, ...] | None
    took_s: float

    @property
    def days(self) -> float:
        return (self.end_ms - self.start_ms) / DAY_MS

    def to_json(self) -> dict[str, Any]:
        """For `--json`: severities by name."""
        return {
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "took_s": round(self.took_s, 3),
            "rules": [_json(one) for one in self.rules],
            "before": None if self.before is None else [_json(one) for one in self.before],
        }


def backtest(
    groups: Sequence[Group],
    query: QueryEngine,
    options: AlertOptions,
    start_ms: int,
    end_ms: int,
    *,
    against: Sequence[Group] | None = None,
    step_ms: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Backtest:
    """Run rules over stored history. DeskvigilError where the range or the step makes no sense.

    against: the version to compare with (the present one); a rule that is the same in both is asked once.
    """
    if end_ms <= start_ms:
        raise DeskvigilError("the end is not after the start")
    if step_ms is not None and not 0 < step_ms <= end_ms - start_ms:
        raise DeskvigilError("the step must be positive and shorter than the range")
    if step_ms is not None and (end_ms - start_ms) // step_ms > MAX_STEPS:
        raise DeskvigilError(f"more than {MAX_STEPS:,} steps: take a longer step or a shorter range")
    began_ns = time.perf_counter_ns()
    known: dict[tuple[object, ...], RuleResult] = {}

    def of(some: Sequence[Group]) -> tuple[RuleResult, ...]:
        found = []
        for group in some:
            for rule in group.rules:
                words = (rule.key, rule.expression.text, rule.extension_text, tuple(sorted(rule.label_texts.items())))
                key = (*words, rule.for_s, rule.keep_firing_for_s, group.interval_s, group.limit, rule.offset_s)
                if key not in known:
                    say(rule.key)
                    known[key] = _result(rule, group.limit, query, options, start_ms, end_ms, step_ms)
                found.append(known[key])
        return tuple(found)

    rules = of(groups)
    before = None if against is None else of(against)
    return Backtest(start_ms, end_ms, rules, before, (time.perf_counter_ns() - began_ns) / 1e9)


def _result(
    rule: Rule,
    limit: int,
    query: QueryEngine,
    options: AlertOptions,
    start_ms: int,
    end_ms: int,
    step_ms: int | None,
) -> RuleResult:
    interval_ms = round(1000 * (rule.interval_s or options.interval_s))
    step = step_ms or max(interval_ms, -(-(end_ms - start_ms) // STEPS))
    expression, worst = _asked(rule, step, interval_ms)
    head = RuleResult(rule.key, rule.line, rule.expression.text, rule.severity, step / 1000, worst)
    try:
        history = read_history(query, expression, start_ms, end_ms, step, round(1000 * rule.offset_s))
        episodes = simulate(rule, limit, history, options)
    except (DeskvigilError, EvaluationError) as error:
        return replace(head, error=str(error))
    steps = len(history.t_ms)
    covered = float(history.present.any(axis=0).mean()) if steps and len(history.labels) else 0.0
    lengths = [((one.end_ms or end_ms) - one.start_ms) / 1000 for one in episodes]
    comparison = rule.extension.tiers[0].comparison
    suggestions: list[Suggestion] = []
    if comparison is not None:
        values = np.where(history.present, history.values, np.nan)
        hold = 0 if worst else round(1000 * rule.for_s) // step
        suggestions = suggest(comparison, values, hold, covered * (end_ms - start_ms) / DAY_MS, rule.severity)
    tiers = {
        tier.severity.label: sum(1 for one in episodes if one.worst is tier.severity) for tier in rule.extension.tiers
    }
    return replace(
        head,
        series=len(history.labels),
        covered=covered,
        fired=len(episodes),
        firing_s=sum(lengths),
        longest_s=max(lengths, default=0.0),
        median_s=float(np.median(lengths)) if lengths else 0.0,
        messages=sum(one.changes for one in episodes),
        tiers=tiers,
        episodes=tuple(episodes[-EPISODES_SHOWN:]),
        suggestions=tuple(suggestions),
    )


def _asked(rule: Rule, step_ms: int, interval_ms: int) -> tuple[str, bool]:
    """What to ask, and whether it is the worst value of each step."""
    text, comparison = rule.expression.value_text, rule.expression.comparison
    direction = 0 if comparison is None else comparison.direction
    short = step_ms > interval_ms and 1000 * rule.for_s < step_ms
    if not (short and direction and rule.expression.plain) or text.rstrip().endswith(")"):
        return text, False
    return f"{'max' if direction > 0 else 'min'}_over_time({text}[{step_ms}ms])", True


def read_history(
    query: QueryEngine, expression: str, start_ms: int, end_ms: int, step_ms: int, offset_ms: int = 0
) -> History:
    """An expression at every step, asked in parts that the limits of one query allow; QueryError."""
    prepared = query.prepare(expression)
    count = (end_ms - start_ms) // step_ms + 1
    t_ms: IntArray = start_ms + step_ms * np.arange(count, dtype=np.int64)
    rows: dict[tuple[tuple[str, str], ...], int] = {}
    labels: list[dict[str, str]] = []
    values: list[FloatArray] = []
    at, at_once = 0, min(_STEPS_AT_ONCE, query.options.max_steps)
    while at < count:
        last = min(at + at_once, count) - 1
        try:
            part = prepared.range(int(t_ms[at]) - offset_ms, int(t_ms[last]) - offset_ms, step_ms)
        except QueryError as error:
            if error.kind == "bad_data" or at_once <= _FEWEST_STEPS:
                raise
            at_once = max(_FEWEST_STEPS, at_once // 2)
            continue
        for row, found in enumerate(part.labels):
            key = tuple(sorted(found.items()))
            if key not in rows:
                rows[key] = len(labels)
                labels.append(dict(found))
                if len(labels) * count > _MAX_VALUES:
                    raise DeskvigilError(f"more than {_MAX_VALUES:,} values: take a longer step or a shorter range")
                values.append(np.full(count, _ABSENT))
            column = values[rows[key]]
            column[at : last + 1][part.present[row]] = part.values[row][part.present[row]]
        at = last + 1
    matrix = np.array(values) if values else np.empty((0, count))
    return History(labels, t_ms, matrix, matrix.view(np.uint64) != _ABSENT_BITS)


_ABSENT_BITS = np.uint64(0x7FF0_0000_0000_0002)  # the stale marker: never among a query's values
_ABSENT = float(np.array([_ABSENT_BITS], np.uint64).view(np.float64)[0])


def _json(result: RuleResult) -> dict[str, Any]:
    shown = asdict(result)
    shown["severity"] = result.severity.label
    for name in ("episodes", "suggestions"):
        for one in shown[name]:
            key = "worst" if name == "episodes" else "severity"
            one[key] = one[key].label
    return shown
