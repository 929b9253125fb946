"""Rule files: Prometheus's YAML, read strictly: every key is obeyed or refused with its place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alerts.durations import parse_duration_s
from alerts.errors import RuleError
from alerts.expression import Expression, ExpressionError, parse_expression
from alerts.extension import ANNOTATION, Extension, parse_extension
from alerts.templates import Template
from alerts.yaml_block import Block, YamlError, load_yaml
from metrics.series import Labels, make_labels
from metrics.severity import Severity

GROUP_KEYS = ("name", "interval", "limit", "query_offset", "labels", "rules")
RULE_KEYS = ("alert", "expr", "for", "keep_firing_for", "labels", "annotations")
RECORD_KEYS = ("record", "expr", "labels")
MAX_RULES = 5000
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


@dataclass(frozen=True)
class Rule:
    """One alerting rule. Durations in seconds; `interval_s` is its group's, None for the default.

    offset_s: how far back the group looks (its `query_offset`). `extension_text` is kept for pages that show the rule; annotations are without it.
    """

    group: str
    name: str
    file: str
    line: int
    expression: Expression
    interval_s: float | None
    for_s: float
    keep_firing_for_s: float
    labels: Mapping[str, Template]
    label_texts: Mapping[str, str]
    annotations: Mapping[str, Template]
    annotation_texts: Mapping[str, str]
    extension: Extension
    extension_text: str
    offset_s: float = 0.0

    @property
    def key(self) -> str:
        """`group/rule`, as stored with alerts and events."""
        return f"{self.group}/{self.name}"

    @property
    def severity(self) -> Severity:
        """The tier of the severity label: the lowest this rule can have."""
        return self.extension.tiers[0].severity

    @property
    def unknown_actions(self) -> tuple[str, ...]:
        """Template actions that are left standing because the templates do not know them."""
        templates = [*self.labels.values(), *self.annotations.values()]
        return tuple(action for template in templates for action in template.unknown)


@dataclass(frozen=True)
class RecordingRule:
    """One recording rule: the result of `text` is kept as the series `name`, with `labels` in place of its own.

    A label whose value is empty is taken away.
    """

    group: str
    name: str
    file: str
    line: int
    text: str
    labels: Labels
    dropped: frozenset[str]

    @property
    def key(self) -> str:
        """`group/record`."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True)
class Group:
    """Rules that share an interval.

    `limit`: most alerts, or series, that one rule may have, 0 for no limit. records: its recording rules, in
    the order in which they are evaluated.
    """

    name: str
    file: str
    interval_s: float | None
    limit: int
    rules: tuple[Rule, ...]
    records: tuple[RecordingRule, ...] = ()
    offset_s: float = 0.0


def load_rules(path: Path) -> tuple[Group, ...]:
    """Read one rule file; RuleError names file, group and rule."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RuleError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RuleError(f"{path}: is not UTF-8 text") from None
    return parse_rules(text, str(path))


def parse_rules(text: str, file: str) -> tuple[Group, ...]:
    """Read rules from text; `file` is the name that messages give."""
    try:
        document = load_yaml(text)
    except YamlError as error:
        raise RuleError(f"{file}: {error}") from None
    if document is None:
        return ()
    top = _block(document, file)
    _only(top, ("groups",), file)
    groups = tuple(_group(raw, file) for raw in _list(top.get("groups", []), f"{file}: groups"))
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise RuleError(f"{file}: group {name!r} is there twice")
    if sum(len(group.rules) + len(group.records) for group in groups) > MAX_RULES:
        raise RuleError(f"{file}: more than {MAX_RULES} rules")
    return groups


def fingerprint(labels: Mapping[str, str]) -> str:
    """The identity of an alert: a hash of its label set, 16 hexadecimal digits."""
    text = "\xff".join(f"{name}\xfe{labels[name]}" for name in sorted(labels))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _group(raw: Any, file: str) -> Group:
    block = _block(raw, f"{file}: a group")
    name = _text(block.get("name"), f"{file}, line {block.line}: a group's name")
    where = f"{file}: group {name!r}"
    _only(block, GROUP_KEYS, where)
    head = _Head(
        name,
        file,
        _duration(block, "interval", where) or None,
        _duration(block, "query_offset", where),
        _texts(block.get("labels"), f"{where}, labels"),
    )
    rules, records = [], []
    for item in _list(block.get("rules", []), f"{where}: rules"):
        if "record" in _block(item, f"{where}: a rule"):
            records.append(_record(item, head))
        else:
            rules.append(_rule(item, head))
    limit = _limit(block.get("limit", "0"), where)
    return Group(name, file, head.interval_s, limit, tuple(rules), tuple(records), head.offset_s)


@dataclass(frozen=True)
class _Head:
    """What a group says for all of its rules."""

    name: str
    file: str
    interval_s: float | None
    offset_s: float
    labels: Mapping[str, str]


def _limit(raw: Any, where: str) -> int:
    if not isinstance(raw, str) or not raw.isdigit():
        raise RuleError(f"{where}: limit {raw!r} is not a whole number")
    return int(raw)


def _record(block: Block, head: _Head) -> RecordingRule:
    place = f"{head.file}: group {head.name!r}, line {block.line}"
    name = _text(block.get("record"), f"{place}: record")
    where = f"{head.file}: group {head.name!r}, rule {name!r} (line {block.line})"
    if "alert" in block:
        raise RuleError(f"{where}: a rule either records or alerts, not both")
    _only(block, RECORD_KEYS, where)
    if not _METRIC.match(name):
        raise RuleError(f"{where}: record: {name!r} is no metric name")
    text = _text(block.get("expr"), f"{where}: expr")
    try:
        parse_expression(text)
    except ExpressionError as error:
        raise RuleError(f"{where}: expr: {error}") from None
    labels = {**head.labels, **_texts(block.get("labels"), f"{where}, labels", ("__name__",))}
    dropped = frozenset(key for key, value in labels.items() if not value)
    return RecordingRule(head.name, name, head.file, block.line, text, make_labels(labels), dropped)


def _rule(block: Block, head: _Head) -> Rule:
    group, file = head.name, head.file
    name = _text(block.get("alert"), f"{file}: group {group!r}, line {block.line}: alert")
    where = f"{file}: group {group!r}, rule {name!r} (line {block.line})"
    _only(block, RULE_KEYS, where)
    try:
        expression = parse_expression(_text(block.get("expr"), f"{where}: expr"))
    except ExpressionError as error:
        raise RuleError(f"{where}: expr: {error}") from None
    labels = {**head.labels, **_texts(block.get("labels"), f"{where}, labels")}
    annotations = _texts(block.get("annotations"), f"{where}, annotations")
    extension_text = annotations.pop(ANNOTATION, "")
    return Rule(
        group=group,
        name=name,
        file=file,
        line=block.line,
        expression=expression,
        interval_s=head.interval_s,
        for_s=_duration(block, "for", where),
        keep_firing_for_s=_duration(block, "keep_firing_for", where),
        labels={key: Template(value) for key, value in labels.items() if key != "severity"},
        label_texts=labels,
        annotations={key: Template(value) for key, value in annotations.items()},
        annotation_texts=annotations,
        extension=_extension(extension_text, labels, expression, where),
        extension_text=extension_text,
        offset_s=head.offset_s,
    )


def _extension(text: str, labels: Mapping[str, str], expression: Expression, where: str) -> Extension:
    try:
        severity = Severity.parse(labels.get("severity", "warning"))
    except ValueError as error:
        raise RuleError(f"{where}: labels: {error}") from None
    try:
        return parse_extension(text, severity, expression.comparison)
    except ValueError as error:
        raise RuleError(f"{where}: annotation {ANNOTATION}: {error}") from None


def _block(raw: Any, where: str) -> Block:
    if not isinstance(raw, Block):
        raise RuleError(f"{where}: must be a mapping")
    return raw


def _list(raw: Any, where: str) -> list[Any]:
    if raw == "":
        return []
    if not isinstance(raw, list):
        raise RuleError(f"{where}: must be a list")
    return raw


def _text(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise RuleError(f"{where}: is missing or no text")
    return raw.strip()


def _texts(raw: Any, where: str, refused: tuple[str, ...] = ("__name__", "alertname")) -> dict[str, str]:
    if raw is None or raw == "":
        return {}
    block = _block(raw, where)
    for key, value in block.items():
        if not isinstance(value, str):
            raise RuleError(f"{where}: {key!r} must be text")
        if not _LABEL.match(key) or key in refused:
            raise RuleError(f"{where}: {key!r} is not allowed as a name")
    return dict(block)


def _duration(block: Block, key: str, where: str) -> float:
    raw = block.get(key)
    if raw is None or raw == "":
        return 0.0
    try:
        return parse_duration_s(_text(raw, f"{where}: {key}"))
    except ValueError as error:
        raise RuleError(f"{where}: {key}: {error}") from None


def _only(block: Block, allowed: tuple[str, ...], where: str) -> None:
    for key in block:
        if key not in allowed:
            raise RuleError(f"{where}: unknown key {key!r}; allowed are {', '.join(allowed)}")
