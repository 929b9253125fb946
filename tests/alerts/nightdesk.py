"""A desk with people, a rota and escalations, moved by hand: no threads, a clock that only tests advance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update

from alerts.state import Instant
from metrics.clock import ManualClock
from storage.tables import alert_event, alert_state, audit, escalation, notification, oncall_override, outbox
from tests.alerts.desk import Desk, rules_file
from tests.alerts.test_outbox import Spy

TIERS = """
- alert: High
  expr: x > 1
  labels: {severity: warning}
  annotations:
    summary: x is {{ $value }}
    deskvigil: |
      tiers: {critical: 2, emergency: 3}
"""
POLICY = """
people:
  ana: {zone: Europe/Zurich, channels: {mail: [ana@desk.example]}}
  ben: {channels: {pager: }}
rotas:
  desk: {layers: [{people: [ana, ben], handover: mon 09:00}]}
escalations:
  emergency:
    severity: emergency
    steps:
      - {people: [ben]}
      - {after: 1m, rotas: [desk], channels: [pager]}
    repeat_interval: 2m
  critical:
    severity: critical
    steps:
      - {after: 1m, people: [ana]}
      - {after: 2m, people: [ben]}
    repeat: 1
    repeat_interval: 4m
"""
TABLES = (alert_event, alert_state, audit, escalation, notification, oncall_override, outbox)
NIGHT_NS = 1_700_000_000_000_000_000
DAY_NS = 86_400_000_000_000


class NightDesk:
    """`x` is what the rule looks at; `go` lets time pass and the alert thread's work be done."""

    def __init__(
        self, folder: Path, policy: str = POLICY, rules: str = TIERS, now_ns: int = NIGHT_NS, **options: Any
    ) -> None:
        self.folder, self.options = folder, options
        self.rules = rules_file(folder, rules)
        self.policy = folder / "policy.yml"
        self.policy.write_text(policy)
        self.clock = ManualClock(now_ns)
        self.x = 0.0
        self._open()

    def _open(self) -> None:
        self.spies = {name: Spy(name) for name in ("mail", "pager")}
        keys = {"repeat_interval_s": 0.0, "restore_grace_s": 0.0, "tier_fall_after_s": 0.0, **self.options}
        self.desk = Desk(self.folder, self.rules, list(self.spies.values()), self.clock, policy=self.policy, **keys)
        self.service = self.desk.service
        self.service._restore(self.now())
        self.desk.store.live.subscribe(self.service._arrived)

    def close(self) -> None:
        self.desk.close()

    def restart(self) -> None:
        """Killed and started again, at once."""
        self.close()
        self._open()

    def clean(self) -> None:
        """Nothing has ever happened."""
        with self.desk.store.write() as connection:
            for table in TABLES:
                connection.execute(delete(table))
        self.x = 0.0
        self.restart()

    def now(self) -> Instant:
        return Instant(self.clock.now_ns() // 1_000_000, self.clock.monotonic_ns() // 1_000_000)

    def go(self, seconds: float = 1.0) -> None:
        """Let time pass, then look at `x` and do what is due."""
        self.clock.advance(round(seconds * 1e9))
        self.desk.frame("engine", {"x": self.x})
        self.service._pass()
        for _ in range(3):  # steps without a wait follow each other at once
            self.service._pass()

    def rows(self, table: Any) -> list[Any]:
        with self.desk.store.read() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key.columns)).all())

    @property
    def alert_id(self) -> str:
        return self.service.active()[0].alert_id

    def reasons(self) -> list[str]:
        """What happened, in order."""
        return [row.reason for row in self.rows(alert_event)]

    def steps(self) -> list[str]:
        """The steps that were run, in order."""
        return [row.comment for row in self.rows(alert_event) if row.reason == "escalation_step"]

    def told(self, reason: str) -> list[tuple[str, str | None]]:
        """Channel and person of each message with a reason."""
        found = [row for row in self.rows(outbox) if row.reason == reason]
        return [(row.channel, None if row.target is None else row.target["person"]) for row in found]

    def suppress(self, *kinds: str) -> None:
        """What the policy notes of all alerts: why nobody is told."""
        noted = [{"kind": kind, "by": "test", "until_ms": None} for kind in kinds] or None
        with self.desk.store.write() as connection:
            connection.execute(update(alert_state).values(suppressed=noted))
