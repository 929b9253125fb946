"""The sentence under the status bar: are we well, what is wrong, since when, why.

Pure functions from verdicts to words. The worst thing is said first; a word that leads somewhere
carries its address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from alerts.state import AlertState
from alerts.views import AlertView
from dashboard.judge import Verdict
from dashboard.services import EngineInfo, Health, ProcessInfo, RemoteState
from metrics.severity import Severity

REMOTE_LATE_S = 10.0


@dataclass(frozen=True, slots=True)
class Word:
    """A stretch of the sentence; href where it leads on."""

    text: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said, and how bad it is (None: all is well)."""

    severity: Severity | None
    words: tuple[Word, ...]

    def __str__(self) -> str:
        return "".join(word.text for word in self.words)


def compose(
    verdicts: Sequence[Verdict],
    alerts: Sequence[AlertView],
    engine: EngineInfo,
    processes: Sequence[ProcessInfo],
    store: Health,
    remote: RemoteState | None = None,
) -> Sentence:
    """Say how the desk is."""
    parts = [
        *_trading(engine, processes),
        *_store(store),
        *_remote(remote),
        *([] if engine.state == "DOWN" else _figures(verdicts)),
        *_alerts(alerts),
    ]
    severities = [severity for severity, _ in parts if severity is not None]
    words = [word for _, some in parts for word in some]
    return Sentence(max(severities, default=None), tuple(words))


Part = tuple[Severity | None, tuple[Word, ...]]


def _trading(engine: EngineInfo, processes: Sequence[ProcessInfo]) -> list[Part]:
    down = [process for process in processes if process.state != "running"]
    parts: list[Part] = [
        (Severity.CRITICAL, (Word(f"The {process.name} process is {process.state}. "),)) for process in down
    ]
    because = f": {engine.reason}" if engine.reason else ""
    if engine.state == "HALTED":
        parts.append((Severity.CRITICAL, (Word(f"Trading is halted{because}. "),)))
    elif engine.state == "REDUCING":
        parts.append((Severity.WARNING, (Word(f"Only orders that reduce exposure are sent{because}. "),)))
    elif engine.state == "DOWN" and not down:
        parts.append((Severity.CRITICAL, (Word(f"There is no engine{because}. "),)))
    return parts


def _store(store: Health) -> list[Part]:
    if store.ok:
        return []
    return [(Severity.CRITICAL, (Word(f"{store.what}: {store.reason}. "),))]


def _remote(remote: RemoteState | None) -> list[Part]:
    if remote is None or remote.age_s < REMOTE_LATE_S:
        return []
    because = f": {remote.reason.rstrip('.')}" if remote.reason else ""
    since = f"{remote.age_s:.0f} s" if remote.age_s < 600 else f"{remote.age_s / 60:.0f} min"
    href = "/history?expr=deskvigil_remote_write_queue_age_seconds"
    waiting = Word(f"{remote.samples_pending:,} samples have waited up to {since}".replace(",", " "), href)
    return [(Severity.WARNING, (waiting, Word(f" for the remote store{because}. ")))]


def _figures(verdicts: Sequence[Verdict]) -> list[Part]:
    known = [verdict for verdict in verdicts if verdict.met is not None]
    if not known:
        return [(None, (Word("Waiting for the first key figures. "),))]
    missed = [verdict for verdict in known if not verdict.met]
    unknown = len(verdicts) - len(known)
    head = f"{len(known) - len(missed)} of {len(verdicts)} targets met"
    if unknown:
        head += f", {unknown} without data"
    words = [Word(f"{head}. ")]
    worst = sorted(missed, key=lambda verdict: (-(verdict.severity or 0), verdict.since_ms))[:2]
    for verdict in worst:
        words += [Word(verdict.kpi.title, f"#kpi-{verdict.kpi.key}"), Word(f" {_miss(verdict)}. ")]
    if len(missed) > len(worst):
        words.append(Word(f"{len(missed) - len(worst)} more off target. "))
    severities = [verdict.severity for verdict in missed if verdict.severity is not None]
    return [(max(severities, default=None), tuple(words))]


def _miss(verdict: Verdict) -> str:
    kpi = verdict.kpi
    side = "below" if kpi.better == "higher" else "above"
    since = datetime.fromtimestamp(verdict.since_ms / 1000, UTC).strftime("%H:%M:%S")
    return f"is {side} {_number(kpi.target)} {kpi.unit} since {since}"


def _alerts(alerts: Sequence[AlertView]) -> list[Part]:
    firing = [alert for alert in alerts if alert.state is AlertState.FIRING]
    waiting = [alert for alert in firing if alert.acked_by is None and alert.severity > Severity.INFO]
    if not waiting:
        return []
    worst = max(waiting, key=lambda alert: alert.severity)
    words = [Word("Alert: "), Word(worst.summary.rstrip("."), f"/alerts?alert={worst.alert_id}")]
    words.append(Word(f" and {len(waiting) - 1} more. " if len(waiting) > 1 else ". "))
    return [(worst.severity, tuple(words))]


def _number(value: float) -> str:
    text = f"{value:,.2f}".rstrip("0").rstrip(".")
    return text.replace(",", " ").replace("-", "−")
