"""SeriesKey: a series that remembers its id in the index, so that samples which keep coming need no look-up."""

from __future__ import annotations

from metrics.series import Series


class SeriesKey:
    """One series and, once resolved, its id in one store.

    Whoever receives the same series again and again keeps one key for it. `id` holds as long as `epoch`
    equals the index's: series may be forgotten (retention, deletion), and ids are never given out twice.
    """

    __slots__ = ("epoch", "id", "series")

    def __init__(self, series: Series) -> None:
        self.series = series
        self.id = 0
        self.epoch = -1

    def __repr__(self) -> str:
        return f"SeriesKey({self.series})"


class SeriesKeys:
    """One key per series, made on first sight. Any number of threads may use one.

    Holds at most `most` keys; then it forgets all of them, which costs their senders one look-up each.
    """

    def __init__(self, most: int = 500_000) -> None:
        self._most = most
        self._keys: dict[Series, SeriesKey] = {}

    def of(self, series: Series) -> SeriesKey:
        found = self._keys.get(series)
        if found is None:
            if len(self._keys) >= self._most:
                self._keys = {}
            found = self._keys.setdefault(series, SeriesKey(series))
        return found
