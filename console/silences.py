"""Silences as the page "Silences & on-call" has them: matchers as texts, those that have ended left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alerts.errors import SilenceError
from alerts.policy import silences as kept
from alerts.policy.matchers import parse_matchers
from metrics.clock import Clock


@dataclass(frozen=True, slots=True)
class SilenceView:
    """One silence; each matcher's text is as Alertmanager writes it. Times are ms since the epoch."""

    id: str
    matchers: tuple[object, ...]
    starts_ms: int
    ends_ms: int
    created_by: str
    comment: str


class PageSilences:
    """The console's silences; everything may be called from any thread."""

    def __init__(self, silences: kept.Silences, clock: Clock) -> None:
        self._silences = silences
        self._clock = clock

    def list(self) -> Sequence[SilenceView]:
        """Those that have not ended."""
        now_ms = self._clock.now_ns() // 1_000_000
        return [_view(one) for one in self._silences.list() if one.state(now_ms) is not kept.SilenceState.EXPIRED]

    def add(self, matchers: Sequence[str], starts_ms: int, ends_ms: int, who: str, comment: str) -> SilenceView:
        """Add one; SilenceError says what is wrong with it."""
        try:
            found = tuple(matcher for text in matchers for matcher in parse_matchers(text))
        except ValueError as error:
            raise SilenceError(str(error)) from None
        return _view(self._silences.add(found, ends_ms, who, comment, starts_ms))

    def expire(self, silence_id: str, who: str) -> SilenceView:
        """End one now."""
        return _view(self._silences.expire(silence_id, who))


def _view(one: kept.Silence) -> SilenceView:
    return SilenceView(one.silence_id, tuple(one.matchers), one.starts_ms, one.ends_ms, one.created_by, one.comment)
