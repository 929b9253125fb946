"""Routing: the policy at work. Where a change of an alert goes, or why it goes nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from alerts.evaluate import Change
from alerts.ledger import Recipient
from alerts.policy.decision import Address, Decision, Priority, Suppression, Target, Why
from alerts.policy.file import PolicyFile, Receiver
from alerts.policy.inhibit import Inhibitor
from alerts.policy.route import Route
from alerts.policy.silences import Silences
from alerts.state import AlertState, Reason
from metrics.severity import Severity

PRIORITIES = {
    Reason.FIRST: Priority.BAD_NEWS,
    Reason.UNSUPPRESSED: Priority.BAD_NEWS,
    Reason.UNACKNOWLEDGED: Priority.BAD_NEWS,
    Reason.ACK_LAPSED: Priority.BAD_NEWS,
    Reason.UNTOLD: Priority.BAD_NEWS,
    Reason.ESCALATED: Priority.RISEN,
}


class Contacts(Protocol):
    """How people are reached: by which channels, and at which addresses there."""

    def person(self, name: str) -> Sequence[tuple[str, Target]]:
        """The channels of one person, and whom of each."""
        ...

    def duty(self, rota: str, now_ms: int) -> Sequence[tuple[str, Target]]:
        """The same of whoever has the duty of a rota (nobody: empty)."""
        ...


class NoContacts:
    """Of a policy that names channels only."""

    def person(self, name: str) -> Sequence[tuple[str, Target]]:
        return ()

    def duty(self, rota: str, now_ms: int) -> Sequence[tuple[str, Target]]:
        return ()


class Routing:
    """Decides by a policy file, silences, and what fires. Not thread-safe: the alert thread's turn owns it."""

    def __init__(
        self,
        file: PolicyFile,
        recipients: Sequence[Recipient],
        silences: Silences,
        contacts: Contacts | None = None,
    ) -> None:
        self.file = file
        self._recipients = {one.name: one for one in recipients}
        self._least = {one.name: Severity.parse(one.min_severity) for one in recipients}
        self._silences = silences
        self._contacts = contacts or NoContacts()
        self._inhibitor = Inhibitor(file.inhibit_rules)
        self._timed = any(route.mute or route.active for route in file.route.walk())

    def observe(self, change: Change, labels: Mapping[str, str]) -> None:
        """Take note of a change before anything is decided: what fires may inhibit."""
        self.firing(change.tracked.fingerprint, labels if _fires(change) else None)

    def firing(self, fingerprint: str, labels: Mapping[str, str] | None) -> None:
        """Take note that an alert fires with these labels, or (None) does not any more."""
        self._inhibitor.update(fingerprint, labels)

    def epoch(self, now_ms: int) -> tuple[int, int, int]:
        """Changes whenever an alert that was told might not be now, or the other way round."""
        return self._silences.epoch(now_ms), self._inhibitor.version, now_ms // 60_000 if self._timed else 0

    def decide(self, change: Change, labels: Mapping[str, str], now_ms: int) -> Decision:
        """Where a change of an alert with these labels goes."""
        return self.judge(change.tracked.fingerprint, labels, change.live.severity, change.reason, now_ms)

    def judge(
        self, fingerprint: str, labels: Mapping[str, str], severity: Severity, reason: Reason, now_ms: int
    ) -> Decision:
        """As `decide`, of an alert that need not have changed."""
        open_: dict[str, Address] = {}
        muted: dict[str, dict[str, None]] = {}  # interval -> keys it keeps from being told, in order
        routes = self.file.route.match(labels)
        for route in routes:
            interval = self._muted_by(route, now_ms)
            for address in self._addresses(route, labels, severity, reason, now_ms):
                if interval is None:
                    open_.setdefault(address.key, address)
                else:
                    muted.setdefault(interval, {})[address.key] = None
        held = self.held(fingerprint, labels, now_ms)
        if held:
            keys = tuple(dict.fromkeys([*open_, *(key for keys in muted.values() for key in keys)]))
            return Decision(suppressions=tuple(Suppression(one.why, one.by, one.until_ms, keys) for one in held))
        kept = {name: tuple(key for key in keys if key not in open_) for name, keys in muted.items()}
        suppressions = tuple(Suppression(Why.MUTED, name, None, keys) for name, keys in kept.items() if keys)
        if not open_ and not suppressions:
            names = ", ".join(sorted({route.receiver for route in routes}))
            why = f"no channel of {names} takes {severity.label}" if self._recipients else "no channel is configured"
            suppressions = (Suppression(Why.UNROUTED, why),)
        return Decision(tuple(open_.values()), suppressions)

    def held(self, fingerprint: str, labels: Mapping[str, str], now_ms: int) -> tuple[Suppression, ...]:
        """Silences and the inhibiting alert that keep an alert from being told anywhere."""
        found = [
            Suppression(Why.SILENCED, silence.silence_id, silence.ends_ms)
            for silence in self._silences.matching(labels, now_ms)
        ]
        by = self._inhibitor.inhibited_by(fingerprint, labels)
        return (*found, Suppression(Why.INHIBITED, by)) if by is not None else tuple(found)

    def receivers(self, labels: Mapping[str, str]) -> list[str]:
        """Names of the receivers that labels lead to, in the order of their routes."""
        return list(dict.fromkeys(route.receiver for route in self.file.route.match(labels)))

    def _addresses(
        self, route: Route, labels: Mapping[str, str], severity: Severity, reason: Reason, now_ms: int
    ) -> list[Address]:
        # Whoever is told of nothing else is told of an emergency at once: neither a group nor a digest holds it.
        urgent = severity is Severity.EMERGENCY and reason in PRIORITIES
        priority = Priority.RISEN if urgent else PRIORITIES.get(reason, Priority.PLAIN)
        if severity is Severity.INFO and reason is not Reason.TIER_FELL:
            priority = Priority.DIGEST
        alone = route.group_by is None and not route.group_wait_ms and not route.group_interval_ms
        group = {} if alone else route.group_labels(labels)
        waits = reason in PRIORITIES and priority is not Priority.RISEN
        return [
            Address(
                channel=channel,
                group_key="" if alone else route.group_key(group),
                wait_ms=route.group_wait_ms if waits else 0,
                interval_ms=route.group_interval_ms,
                priority=priority,
                target=target,
                repeat_ms=route.repeat_ms,
                group_labels=tuple(group.items()),
            )
            for channel, target in self._places(self.file.receivers[route.receiver], now_ms)
            if channel in self._least and (severity >= self._least[channel] or reason is Reason.TIER_FELL)
        ]

    def _places(self, receiver: Receiver, now_ms: int) -> list[tuple[str, Target | None]]:
        places: list[tuple[str, Target | None]] = [(channel, None) for channel in receiver.channels]
        for name in receiver.people:
            places += self._contacts.person(name)
        for name in receiver.rotas:
            places += self._contacts.duty(name, now_ms)
        return places

    def _muted_by(self, route: Route, now_ms: int) -> str | None:
        """The interval that keeps a route quiet now; where it is active at certain times only, one of these."""
        for name in route.mute:
            if any(one.contains(now_ms) for one in self.file.intervals[name]):
                return name
        if route.active and not any(one.contains(now_ms) for name in route.active for one in self.file.intervals[name]):
            return f"outside {', '.join(route.active)}"
        return None


def _fires(change: Change) -> bool:
    return change.after is not None and change.after.state is AlertState.FIRING
