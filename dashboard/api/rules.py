"""What alerting tells: /rules, /alerts, /alertmanagers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from dashboard.api import answers
from dashboard.api.endpoint import Call
from dashboard.api.parameters import Parameters
from query.errors import bad_data
from query.matchers import Matcher, predicate
from query.options import QueryOptions
from query.plan import matchers_of

Groups = Sequence[Mapping[str, object]]
_KINDS = {"alert": "alerting", "record": "recording"}


class RulesView(Protocol):
    """What alerting tells: both in the shape of Prometheus's JSON."""

    def rules(self) -> Groups: ...

    def alerts(self) -> Groups: ...


class RulesApi:
    """One method per endpoint: parameters in, JSON bytes out."""

    def __init__(self, rules: RulesView) -> None:
        self._rules = rules

    def rules(self, parameters: Parameters, _: Call) -> bytes:
        """type, rule_name[], rule_group[], file[], match[], exclude_alerts, group_limit, group_next_token."""
        kind = parameters.text("type", "").lower()
        if kind not in ("", *_KINDS):
            raise bad_data(f'invalid parameter "type": not supported value {kind!r}')
        names, groups, files = (set(parameters.all(name)) for name in ("rule_name[]", "rule_group[]", "file[]"))
        matchers = [matchers_of(text, QueryOptions()) for text in parameters.all("match[]")]
        bare = parameters.flag("exclude_alerts")
        kept = []
        for group in self._rules.rules():
            rules = group.get("rules")
            if (groups and group.get("name") not in groups) or (files and group.get("file") not in files):
                continue
            if not isinstance(rules, Sequence):
                continue
            wanted = [
                _without_alerts(rule) if bare else rule for rule in rules if _is_wanted(rule, kind, names, matchers)
            ]
            if wanted or not (names or kind or matchers):
                kept.append({**group, "rules": wanted})
        return answers.success(_page(kept, parameters))

    def alerts(self, _parameters: Parameters, _: Call) -> bytes:
        """Pending and firing alerts."""
        return answers.success({"alerts": list(self._rules.alerts())})

    def alertmanagers(self, _parameters: Parameters, _: Call) -> bytes:
        """None: notifications are sent from here."""
        return answers.success({"activeAlertmanagers": [], "droppedAlertmanagers": []})


def _is_wanted(rule: object, kind: str, names: set[str], matchers: Sequence[Sequence[Matcher]]) -> bool:
    if not isinstance(rule, Mapping):
        return False
    if kind and rule.get("type") != _KINDS[kind]:
        return False
    if names and rule.get("name") not in names:
        return False
    labels = rule.get("labels")
    found: Mapping[str, str] = labels if isinstance(labels, Mapping) else {}
    return not matchers or any(
        all(predicate(one)(str(found.get(one.name, ""))) for one in selection) for selection in matchers
    )


def _without_alerts(rule: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in rule.items() if key != "alerts"}


def _page(groups: list[dict[str, object]], parameters: Parameters) -> dict[str, object]:
    """All groups, or group_limit of them from the one that group_next_token names, with the next token."""
    limit, token = parameters.limit("group_limit"), parameters.text("group_next_token", "")
    if limit is None:
        if token:
            raise bad_data(
                'invalid parameter "group_limit": group_limit needs to be set in order to paginate over the groups'
            )
        return {"groups": groups}
    tokens = [_token(group) for group in groups]
    if token and token not in tokens:
        raise bad_data('invalid parameter "group_next_token": invalid group_next_token, were rule groups changed?')
    first = tokens.index(token) if token else 0
    page: dict[str, object] = {"groups": groups[first : first + limit]}
    if first + limit < len(groups):
        page["groupNextToken"] = tokens[first + limit]
    return page


def _token(group: Mapping[str, object]) -> str:
    return hashlib.sha256(f"{group.get('file')};{group.get('name')}".encode()).hexdigest()[:40]
