"""Active hours by a market's calendar: its sessions with half-days, holidays, lunch breaks and sessions over midnight.

The calendars are those of `exchange_calendars` (requirements-calendar.txt), read where a rule first names
one: the package brings pandas, which a desk without such a rule need not have.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from metrics.frame import IntArray

DAYS_LOADED = 400
_DAY_MS = 86_400_000
_INSTALL = "active.calendar needs the package exchange_calendars: pip install -r requirements-calendar.txt"


class MarketHours:
    """The sessions of one exchange, begun `before_open_ms` early and ended `after_close_ms` late.

    Sessions that touch are one (futures that trade around the clock). A lunch break is no session.
    ValueError where the calendar is unknown or the package is not there. Not thread-safe.
    """

    def __init__(self, calendar: str, before_open_ms: int = 0, after_close_ms: int = 0) -> None:
        self.calendar = calendar
        self._before_ms = before_open_ms
        self._after_ms = after_close_ms
        self._loaded = (0, 0)
        self._starts: IntArray = np.empty(0, np.int64)
        self._ends: IntArray = np.empty(0, np.int64)
        self._present = (0, 0, False)  # from, until, whether active: what the last question found
        self._load(round(datetime.now(UTC).timestamp() * 1000))

    def contains(self, now_ms: int) -> bool:
        """Whether an instant (ms since the epoch) lies in a session; two comparisons while the span lasts."""
        begin_ms, end_ms, active = self._present
        if begin_ms <= now_ms < end_ms:
            return active
        active, until_ms = self.span(now_ms)
        self._present = (now_ms, until_ms, active)
        return active

    def span(self, now_ms: int) -> tuple[bool, int]:
        """Whether an instant lies in a session, and until when (ms, exclusive) that is so."""
        if not self._loaded[0] <= now_ms < self._loaded[1]:
            self._load(now_ms)
        at = int(np.searchsorted(self._starts, now_ms, "right"))
        if at and now_ms < self._ends[at - 1]:
            return True, min(int(self._ends[at - 1]), self._loaded[1])
        until_ms = int(self._starts[at]) if at < len(self._starts) else self._loaded[1]
        return False, max(now_ms + 1, min(until_ms, self._loaded[1]))

    def __str__(self) -> str:
        words = [f"sessions of {self.calendar}"]
        if self._before_ms:
            words.append(f"from {self._before_ms // 1000} s before the open")
        if self._after_ms:
            words.append(f"until {self._after_ms // 1000} s after the close")
        return ", ".join(words)

    def _load(self, around_ms: int) -> None:
        """Read the sessions of about a year before and after an instant."""
        around = datetime.fromtimestamp(around_ms / 1000, UTC).date()
        first, last = around - timedelta(days=DAYS_LOADED), around + timedelta(days=DAYS_LOADED)
        schedule = _calendar(self.calendar, str(first), str(last)).schedule
        opens, closes = _ms(schedule["open"]), _ms(schedule["close"])
        breaks, resumes = _ms(schedule["break_start"]), _ms(schedule["break_end"])
        spans: list[list[int]] = []
        for begin, pause, resume, end in zip(opens, breaks, resumes, closes, strict=True):
            begin, end = begin - self._before_ms, end + self._after_ms
            parts = [(begin, end)] if pause < 0 else [(begin, pause), (resume, end)]
            for start, stop in parts:
                if spans and start <= spans[-1][1]:
                    spans[-1][1] = max(spans[-1][1], stop)
                else:
                    spans.append([start, stop])
        self._starts = np.array([start for start, _ in spans], np.int64)
        self._ends = np.array([stop for _, stop in spans], np.int64)
        # A day less at either end: sessions of the days just outside may reach in.
        reach = 2 * _DAY_MS
        self._loaded = (around_ms - DAYS_LOADED * _DAY_MS + reach, around_ms + DAYS_LOADED * _DAY_MS - reach)


def _calendar(name: str, start: str, end: str) -> Any:
    try:
        import exchange_calendars
    except ImportError:
        raise ValueError(_INSTALL) from None
    try:
        return exchange_calendars.get_calendar(name, start=start, end=end)
    except exchange_calendars.errors.InvalidCalendarName:
        raise ValueError(f"active.calendar: {name!r} is no calendar such as XNYS, XLON or CMES") from None
    except exchange_calendars.errors.CalendarError as error:
        raise ValueError(f"active.calendar: {name!r}: {error}") from None
    except ValueError as error:  # dates outside what is known of the exchange
        raise ValueError(f"active.calendar: {name!r}: {error}") from None


def _ms(column: Any) -> list[int]:
    """Milliseconds since the epoch; -1 where there is none."""
    times = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[ms]")
    return np.where(np.isnat(times), -1, times.astype(np.int64)).tolist()  # type: ignore[no-any-return]
