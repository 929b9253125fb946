"""Relabelling: Prometheus's rules that keep, drop and rewrite label sets.

Meanings after Prometheus's model/relabel and its documentation of `relabel_config`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from collectors.scrape.options import LABEL_NAME, RelabelOptions
from collectors.scrape.pattern import compiled, expand

Labels = dict[str, str]
Step = Callable[[Labels], bool]


class Relabelling:
    """A chain of steps, compiled once."""

    def __init__(self, rules: Sequence[RelabelOptions]) -> None:
        self._steps = tuple(_step(rule) for rule in rules)

    def __bool__(self) -> bool:
        return bool(self._steps)

    def apply(self, labels: Labels) -> bool:
        """Change `labels` in place (the metric's name is `__name__`); False where a step drops the whole set."""
        return all(step(labels) for step in self._steps)


def _step(rule: RelabelOptions) -> Step:
    if rule.action in ("labelmap", "labeldrop", "labelkeep"):
        return _by_name(rule)
    if rule.action in ("keep", "drop", "keepequal", "dropequal"):
        return _filter(rule)
    return _rewrite(rule)


def _filter(rule: RelabelOptions) -> Step:
    fullmatch = compiled(rule.regex).fullmatch
    wanted = rule.action.startswith("keep")
    if rule.action in ("keepequal", "dropequal"):
        return lambda labels: (labels.get(rule.target_label, "") == _source(rule, labels)) is wanted
    return lambda labels: (fullmatch(_source(rule, labels)) is not None) is wanted


def _rewrite(rule: RelabelOptions) -> Step:
    fullmatch = compiled(rule.regex).fullmatch

    def replace(labels: Labels) -> bool:
        found = fullmatch(_source(rule, labels))
        if found is not None:
            target = expand(rule.target_label, found)
            if LABEL_NAME.match(target):
                _set(labels, target, expand(rule.replacement, found))
        return True

    def computed(change: Callable[[str], str]) -> Step:
        def step(labels: Labels) -> bool:
            _set(labels, rule.target_label, change(_source(rule, labels)))
            return True

        return step

    if rule.action == "replace":
        return replace
    changes: dict[str, Callable[[str], str]] = {
        "lowercase": str.lower,
        "uppercase": str.upper,
        "hashmod": lambda value: str(_hash(value) % rule.modulus),
    }
    return computed(changes[rule.action])


def _by_name(rule: RelabelOptions) -> Step:
    fullmatch = compiled(rule.regex).fullmatch

    def rename(labels: Labels) -> bool:
        for name, value in sorted(labels.items()):
            found = fullmatch(name)
            if found is not None:
                _set(labels, expand(rule.replacement, found), value)
        return True

    def only(labels: Labels) -> bool:
        for name in list(labels):
            if (fullmatch(name) is None) is (rule.action == "labelkeep"):
                del labels[name]
        return True

    return rename if rule.action == "labelmap" else only


def _source(rule: RelabelOptions, labels: Labels) -> str:
    names = rule.source_labels
    if len(names) == 1:
        return labels.get(names[0], "")
    return rule.separator.join(labels.get(name, "") for name in names)


def _set(labels: Labels, name: str, value: str) -> None:
    """Set a label; one set to nothing is one taken away."""
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _hash(value: str) -> int:
    """The lower half of the MD5 sum, as Prometheus's hashmod (no secret is protected by it)."""
    return int.from_bytes(hashlib.md5(value.encode(), usedforsecurity=False).digest()[8:], "big")
