"""Inhibition: while an alert fires, what follows from it is not told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alerts.policy.matchers import Matchers, matches_all

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InhibitRule:
    """A firing alert that `source` matches keeps those that `target` matches from being told.

    Only where the labels named in `equal` are alike (one that is missing is alike to an empty one).
    """

    source: Matchers
    target: Matchers
    equal: tuple[str, ...] = ()

    def key(self, labels: Mapping[str, str]) -> Key:
        return tuple(labels.get(name, "") for name in self.equal)


class Inhibitor:
    """What fires, as far as it may inhibit. Not thread-safe: whoever records alerts owns it.

    version grows with each change that may matter to another alert.
    """

    def __init__(self, rules: Sequence[InhibitRule]) -> None:
        self._rules = tuple(rules)
        # Per rule: the sources by their equal labels; each with whether the rule's target matches it too.
        self._sources: tuple[dict[Key, dict[str, bool]], ...] = tuple({} for _ in self._rules)
        self._keys: dict[str, list[tuple[int, Key]]] = {}
        self.version = 0

    def update(self, fingerprint: str, labels: Mapping[str, str] | None) -> None:
        """Note that an alert fires with these labels, or (None) does not fire any more."""
        if not self._rules:
            return
        keys = [] if labels is None else self._matching(labels)
        if keys == self._keys.get(fingerprint, []):
            return
        for index, key in self._keys.pop(fingerprint, ()):
            sources = self._sources[index][key]
            del sources[fingerprint]
            if not sources:
                del self._sources[index][key]
        for index, key in keys:
            both = matches_all(self._rules[index].target, labels or {})
            self._sources[index].setdefault(key, {})[fingerprint] = both
        if keys:
            self._keys[fingerprint] = keys
        self.version += 1

    def inhibited_by(self, fingerprint: str, labels: Mapping[str, str]) -> str | None:
        """The fingerprint of an alert that inhibits this one, None where there is none.

        An alert that is source and target of a rule is not inhibited by another such one, nor by itself.
        """
        for rule, by_key in zip(self._rules, self._sources, strict=True):
            sources = by_key.get(rule.key(labels)) if by_key else None
            if not sources or not matches_all(rule.target, labels):
                continue
            mine = matches_all(rule.source, labels)
            for other, both in sources.items():
                if other != fingerprint and not (mine and both):
                    return other
        return None

    def _matching(self, labels: Mapping[str, str]) -> list[tuple[int, Key]]:
        return [(index, rule.key(labels)) for index, rule in enumerate(self._rules) if matches_all(rule.source, labels)]
