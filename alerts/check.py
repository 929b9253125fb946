"""Checks a rule file as `app.py check-rules` does: what stops it, and what is probably not meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alerts.errors import RuleError
from alerts.evaluate import occurrences
from alerts.rules import Group, RecordingRule, Rule, load_rules, parse_rules
from alerts.source import Prepared, Querier
from metrics.catalogue import metric_of
from metrics.errors import DeskvigilError
from metrics.series import Labels

OURS = "deskvigil_"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. An error keeps the file from being used, a warning does not."""

    level: Literal["error", "warning"]
    where: str
    message: str

    @property
    def words(self) -> str:
        """Where it is and what it is."""
        return f"{self.where}: {self.message}" if self.where else self.message

    def __str__(self) -> str:
        return f"{self.level}: {self.words}"


def check_rules(path: Path, query: Querier | None = None) -> list[Problem]:
    """Read a rule file and say what is wrong with it; an empty list for a sound one.

    query: where given, every expression is prepared too, so that unsupported functions are found.
    """
    try:
        return check_groups(load_rules(path), query)
    except RuleError as error:
        return [Problem("error", "", str(error))]


def check_text(text: str, file: str, query: Querier) -> tuple[tuple[Group, ...], list[Problem]]:
    """Read rules from text as `check_rules` does; the groups are those of a text without errors, else none."""
    try:
        groups = parse_rules(text, file)
    except RuleError as error:
        return (), [Problem("error", "", str(error))]
    problems = check_groups(groups, query)
    return (() if any(problem.level == "error" for problem in problems) else groups), problems


def check_groups(groups: Sequence[Group], query: Querier | None) -> list[Problem]:
    """What is wrong or doubtful with rules that can be read."""
    rules = [rule for group in groups for rule in group.rules]
    problems = [problem for rule in rules for problem in _check_rule(rule, query)]
    for rule, ordinal in zip(rules, occurrences(rules), strict=True):
        if ordinal:
            problems.append(Problem("warning", _where(rule), "a rule of this name and these labels is there already"))
    recorded: set[tuple[str, Labels]] = set()
    for record in (record for group in groups for record in group.records):
        if (record.name, record.labels) in recorded:
            problems.append(Problem("warning", _where(record), "a rule records this name and these labels already"))
        recorded.add((record.name, record.labels))
        if query is not None:
            problems += _check_record(record, query.prepare)
    return problems


def _check_record(record: RecordingRule, prepare: Callable[[str], Prepared]) -> list[Problem]:
    try:
        plan = prepare(record.text)
    except DeskvigilError as error:
        return [Problem("error", _where(record), f"expr: {error}")]
    if plan.kind not in ("vector", "scalar"):
        return [Problem("error", _where(record), f"expr: gives a {plan.kind}, which cannot be recorded")]
    return []


def _check_rule(rule: Rule, query: Querier | None) -> list[Problem]:
    problems = [
        Problem("warning", _where(rule), f"the template action {action} is not known and stays as it is")
        for action in rule.unknown_actions
    ]
    if "severity" not in rule.label_texts:
        problems.append(Problem("warning", _where(rule), "no severity label: taken as warning"))
    if "summary" not in rule.annotation_texts:
        problems.append(Problem("warning", _where(rule), "no summary annotation: messages show the name only"))
    if query is not None:
        problems += _check_query(rule, query.prepare)
    return problems


def _check_query(rule: Rule, prepare: Callable[[str], Prepared]) -> list[Problem]:
    try:
        prepare(rule.expression.text)
        plan = prepare(rule.expression.value_text)
    except DeskvigilError as error:
        return [Problem("error", _where(rule), f"expr: {error}")]
    names = plan.metric_names()
    unknown = sorted(name for name in names if name.startswith(OURS) and metric_of(name) is None)
    return [Problem("warning", _where(rule), f"there is no metric {name}") for name in unknown]


def _where(rule: Rule | RecordingRule) -> str:
    return f"{rule.file}: group {rule.group!r}, rule {rule.name!r} (line {rule.line})"
