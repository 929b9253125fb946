"""Alerts that other programs send us (a Prometheus, by Alertmanager's API): they live, are told and end like our own.

Each lasts until the end that its sender names, or a timeout after it came last; sending it again moves the end.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alerts.evaluate import Change, Posted, Tracked, new_event_id, shown_labels
from alerts.options import AlertOptions
from alerts.rules import fingerprint
from alerts.state import AlertState, Instant, Live, Observation, Reason, Seen, Timing, step
from alerts.views import AlertView
from metrics.errors import DeskvigilError
from metrics.severity import Severity

RULE = "received"
MAX_LABELS = 64
MAX_NAME = 256
MAX_VALUE = 4096
MAX_ANNOTATION = 16_384
RESTORED_MS = 120_000  # after a start a sender has this long to say that its alert goes on
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


class ExternalAlertError(DeskvigilError):
    """An alert that was sent cannot be taken; the message says why."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One alert as it was sent. ends_ms None: a timeout after now."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_ms: int | None = None
    ends_ms: int | None = None
    generator_url: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of alerts that were sent: changes, those that only go on, and what is wrong with the others."""

    changes: list[Change]
    prolonged: list[Tracked]
    problems: list[str]


class ExternalRun:
    """All alerts that were sent. Not thread-safe: the service's turn owns it."""

    def __init__(self, options: AlertOptions) -> None:
        self.alerts: dict[str, Tracked] = {}
        self._limit = options.max_alerts
        self._repeat_ms = round(options.repeat_interval_s * 1000)

    def take(self, alerts: Sequence[Sent], sender: str, timeout_ms: int, now: Instant) -> Taken:
        """Begin, prolong or end alerts. timeout_ms: how long one lasts that names no end."""
        changes: list[Change] = []
        prolonged: dict[str, Tracked] = {}
        problems: list[str] = []
        for one in alerts:
            try:
                found = self._receive(one, sender, timeout_ms, now)
            except ExternalAlertError as error:
                problems.append(str(error))
                continue
            if isinstance(found, Change):
                changes.append(found)
            elif found is not None:
                prolonged[found.fingerprint] = found
        return Taken(changes, [one for key, one in prolonged.items() if key in self.alerts], problems)

    def _receive(self, sent: Sent, sender: str, timeout_ms: int, now: Instant) -> Change | Tracked | None:
        labels = check(sent)
        key = fingerprint(labels)
        tracked = self.alerts.get(key)
        ends_ms = now.wall_ms + timeout_ms if sent.ends_ms is None else sent.ends_ms
        if ends_ms <= now.wall_ms:
            return None if tracked is None else self._end(tracked, now)
        posted = Posted(
            sender, ends_ms, now.mono_ms + ends_ms - now.wall_ms, sent.generator_url, dict(sent.annotations)
        )
        if tracked is None:
            return self._begin(key, labels, sent, posted, now)
        tracked.posted, tracked.restored = posted, False
        before = tracked.live
        timing = Timing(repeat_ms=self._repeat_ms if tracked.repeat_ms is None else tracked.repeat_ms)
        after, reason = step(before, Observation(Seen.EXCEEDS, before.severity), timing, now)
        if after is None or reason is None:
            return tracked
        tracked.live = after
        return self._changed(tracked, before, after, reason, now)

    def expired(self, now: Instant) -> list[Change]:
        """End what was not sent again in time."""
        over = [one for one in self.alerts.values() if one.posted is not None and one.posted.due_ms <= now.mono_ms]
        return [self._end(one, now) for one in over]

    def take_back(self, tracked: Tracked, now: Instant) -> None:
        """An alert of before a restart: its sender gets the time to say that it goes on."""
        if tracked.posted is not None:
            tracked.posted = replace(tracked.posted, due_ms=max(tracked.posted.due_ms, now.mono_ms + RESTORED_MS))
        self.alerts[tracked.fingerprint] = tracked

    # --- as other runs ------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """In place of a rule's."""
        return RULE

    def owns(self, tracked: Tracked) -> bool:
        """Whether it was sent to us."""
        return tracked.posted is not None

    def shown_labels(self, tracked: Tracked, live: Live) -> dict[str, str]:
        """Its labels as they were sent."""
        return shown_labels(tracked, live)

    def change(
        self,
        tracked: Tracked,
        after: Live,
        reason: Reason,
        now: Instant,
        who: str | None = None,
        comment: str | None = None,
    ) -> Change:
        """A change that no sender made; not applied."""
        return replace(self._changed(tracked, tracked.live, after, reason, now), who=who, comment=comment)

    def view(self, tracked: Tracked) -> AlertView:
        """The alert as others see it."""
        live, posted = tracked.live, tracked.posted
        return AlertView(
            alert_id=tracked.alert_id,
            fingerprint=tracked.fingerprint,
            rule=RULE,
            labels=self.shown_labels(tracked, live),
            annotations={} if posted is None else posted.annotations,
            severity=live.severity,
            state=live.state,
            value=math.nan,
            threshold=None,
            comparison="",
            active_since_ms=live.since.wall_ms,
            fired_at_ms=None if live.fired is None else live.fired.wall_ms,
            acked_by=live.acked_by,
            acked_at_ms=live.acked_at_ms,
            ack_comment=live.ack_comment,
            suppressed=tracked.suppressed,
            posted=posted,
        )

    def _begin(self, key: str, labels: dict[str, str], sent: Sent, posted: Posted, now: Instant) -> Change:
        if len(self.alerts) >= self._limit:
            raise ExternalAlertError(f"there are {self._limit} alerts already")
        began_ms = now.wall_ms if sent.starts_ms is None else min(sent.starts_ms, now.wall_ms)
        since = Instant(began_ms, now.mono_ms - (now.wall_ms - began_ms))
        live = Live(AlertState.FIRING, _severity(labels), since=since, fired=now, notified=now)
        tracked = Tracked(f"{key}-{secrets.token_hex(4)}", key, labels, live, math.nan, stored=True, posted=posted)
        self.alerts[key] = tracked
        return self._changed(tracked, None, live, Reason.FIRST, now)

    def _end(self, tracked: Tracked, now: Instant) -> Change:
        del self.alerts[tracked.fingerprint]
        return self._changed(tracked, tracked.live, None, Reason.RESOLVED, now)

    def _changed(
        self, tracked: Tracked, before: Live | None, after: Live | None, reason: Reason, now: Instant
    ) -> Change:
        annotations = {} if tracked.posted is None else tracked.posted.annotations
        return Change(RULE, tracked, before, after, reason, now, math.nan, annotations, None, new_event_id())


def check(sent: Sent) -> dict[str, str]:
    """The labels that make an alert, empty ones left out; ExternalAlertError says what is wrong with it."""
    labels = {name: value for name, value in sent.labels.items() if value}
    if not labels:
        raise ExternalAlertError("at least one label pair required")
    if len(labels) > MAX_LABELS or len(sent.annotations) > MAX_LABELS:
        raise ExternalAlertError(f"more than {MAX_LABELS} labels or annotations")
    for kind, pairs, longest in (("label", labels, MAX_VALUE), ("annotation", sent.annotations, MAX_ANNOTATION)):
        for name, value in pairs.items():
            if len(name) > MAX_NAME or not _NAME.match(name):
                raise ExternalAlertError(f"{name[:80]!r} is no name of a {kind}")
            if len(value) > longest:
                raise ExternalAlertError(f"the {kind} {name} is longer than {longest} characters")
    if len(sent.generator_url) > MAX_VALUE:
        raise ExternalAlertError(f"generatorURL is longer than {MAX_VALUE} characters")
    if sent.starts_ms is not None and sent.ends_ms is not None and sent.ends_ms < sent.starts_ms:
        raise ExternalAlertError("start time must be before end time")
    return labels


def _severity(labels: Mapping[str, str]) -> Severity:
    """The tier that the label says; a word that is none of ours is a warning."""
    try:
        return Severity.parse(labels.get("severity", ""))
    except ValueError:
        return Severity.WARNING
