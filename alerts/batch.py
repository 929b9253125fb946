"""Batch: what goes out as one message, and to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from alerts.message import Message
from alerts.policy.decision import Target
from alerts.state import Reason
from metrics.severity import Severity


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that go to one channel as one, oldest first; at least one.

    batch_id is stable over retries and restarts, and with it what the batch holds: receivers drop repeats by
    it. Of a single message it is that message's own id. group_key is "" for a message of its own and for a
    digest; target None means the channel's own receivers.
    """

    batch_id: str
    messages: tuple[Message, ...]
    group_key: str = ""
    group_labels: Mapping[str, str] = field(default_factory=dict)
    target: Target | None = None

    @classmethod
    def of(cls, message: Message, target: Target | None = None) -> Batch:
        """A message that goes alone."""
        return cls(message.message_id, (message,), target=target)

    @property
    def latest(self) -> tuple[Message, ...]:
        """The newest message of each alert: firing before resolved, worst first, then oldest first."""
        newest = {message.alert_id: message for message in self.messages}
        return tuple(sorted(newest.values(), key=lambda one: (one.resolved, -one.severity, one.active_since_ms)))

    @property
    def resolved(self) -> bool:
        """Whether every alert in it is over."""
        return all(message.resolved for message in self.latest)

    @property
    def test(self) -> bool:
        """Whether somebody only tries the channel."""
        return self.messages[0].reason is Reason.TEST

    @property
    def severity(self) -> Severity:
        """The worst tier of what fires, else of what is over."""
        return self.latest[0].severity


def common(facts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The entries that all of some label sets share."""
    sets = iter(facts)
    shared = dict(next(sets, {}))
    for one in sets:
        shared = {name: text for name, text in shared.items() if one.get(name) == text}
    return shared
