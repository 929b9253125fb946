"""The record of what was foretold: each prediction, what became of it, and from that how far a rule's can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from sqlalchemy import insert, select, update

from alerts.detectors.trend import Ahead
from alerts.source import Transactions
from storage.tables.alerts import prediction as table

ROWS_READ = 10_000


class Outcome(StrEnum):
    """What became of a prediction. A breach that nobody foretold is `missed`."""

    OPEN = "open"
    HIT = "hit"  # breached before the late end of its interval
    LATE = "late"  # breached, but after it
    FALSE = "false"  # not breached in twice that time
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction. Times are ms since the epoch; high_s is None where the interval is open."""

    key: int
    t_ms: int
    rule: str
    fingerprint: str
    labels: Mapping[str, str]
    threshold: float
    eta_s: float
    low_s: float
    high_s: float | None
    outcome: Outcome
    breached_ms: int | None

    @property
    def lead_s(self) -> float | None:
        """How long before the breach it was made, None where there was none."""
        return None if self.breached_ms is None else (self.breached_ms - self.t_ms) / 1000.0


@dataclass(frozen=True, slots=True)
class Record:
    """How far the predictions of one rule could be trusted; None where there is nothing to say it from."""

    rule: str
    open: int
    hit: int
    late: int
    false: int
    missed: int
    lead_s: float | None

    @property
    def precision(self) -> float | None:
        """Of the predictions that are settled, those that came true in time."""
        settled = self.hit + self.late + self.false
        return self.hit / settled if settled else None

    @property
    def recall(self) -> float | None:
        """Of the breaches, those that were foretold."""
        breaches = self.hit + self.late + self.missed
        return (self.hit + self.late) / breaches if breaches else None


class Predictions:
    """The table `prediction`. Raises StorageUnavailable where the database cannot be used."""

    def __init__(self, store: Transactions) -> None:
        self._store = store

    def add(
        self, rule: str, fingerprint: str, labels: Mapping[str, str], threshold: float, ahead: Ahead | None, t_ms: int
    ) -> int:
        """Record one; without `ahead` it is a breach that was not foretold. Returns its key."""
        values: dict[str, Any] = {
            "t_ms": t_ms,
            "rule": rule,
            "fingerprint": fingerprint,
            "labels": dict(labels),
            "threshold": threshold,
            "eta_s": ahead.eta_s if ahead else 0.0,
            "eta_low_s": ahead.low_s if ahead else 0.0,
            "eta_high_s": ahead.high_s if ahead else 0.0,
            "outcome": Outcome.OPEN if ahead else Outcome.MISSED,
            "breached_ms": None if ahead else t_ms,
            "closed_ms": None if ahead else t_ms,
        }
        with self._store.write() as connection:
            key = connection.execute(insert(table).values(**values)).inserted_primary_key
        return int(key[0]) if key is not None else 0

    def close(self, key: int, outcome: Outcome, t_ms: int) -> None:
        """Note what became of one."""
        breached = t_ms if outcome in (Outcome.HIT, Outcome.LATE) else None
        with self._store.write() as connection:
            connection.execute(
                update(table)
                .where(table.c.id == key)
                .values(outcome=outcome.value, closed_ms=t_ms, breached_ms=breached)
            )

    def newest(self, limit: int = 200, *, still_open: bool = False) -> list[Prediction]:
        """Predictions, newest first."""
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if still_open:
            query = query.where(table.c.outcome == Outcome.OPEN.value)
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        return [
            Prediction(
                row.id,
                row.t_ms,
                row.rule,
                row.fingerprint,
                row.labels,
                row.threshold,
                row.eta_s,
                row.eta_low_s,
                row.eta_high_s,
                Outcome(row.outcome),
                row.breached_ms,
            )
            for row in rows
        ]

    def records(self) -> list[Record]:
        """The record of each rule, from its newest predictions."""
        return tally(self.newest(ROWS_READ))


def tally(predictions: Sequence[Prediction]) -> list[Record]:
    """Count outcomes by rule."""
    by_rule: dict[str, list[Prediction]] = {}
    for one in predictions:
        by_rule.setdefault(one.rule, []).append(one)
    records = []
    for rule, some in sorted(by_rule.items()):
        counts = {outcome: sum(1 for one in some if one.outcome is outcome) for outcome in Outcome}
        leads = [one.lead_s for one in some if one.outcome in (Outcome.HIT, Outcome.LATE) and one.lead_s is not None]
        records.append(
            Record(
                rule,
                counts[Outcome.OPEN],
                counts[Outcome.HIT],
                counts[Outcome.LATE],
                counts[Outcome.FALSE],
                counts[Outcome.MISSED],
                median(leads) if leads else None,
            )
        )
    return records
