"""Anomaly detector: watches some series and publishes how unusual each is, as series that rules select.

It runs as a collector. Once a second it looks at the newest frames, and takes the series that were asked for: as they
are (window "1s"), and as means over a minute (window "1m", where seasons of a day and slow drifts show). Counters are
taken as rates. What it knew is learned anew from stored history after a start, a few series a tick.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from alerts.errors import RuleError
from alerts.source import Prepared, Querier
from metrics.catalogue import metric_of, series
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, Frame, IntArray
from metrics.series import Schema, Series

if TYPE_CHECKING:
    from alerts.detectors.bank import Bank

LOG = logging.getLogger(__name__)
OWN = "deskvigil_anomaly_"
WINDOWS = (("1s", 1), ("1m", 60))  # samples of a second that make one
SECOND_HISTORY_MS = 6 * 3_600_000
WARM_A_TICK = 2
PATIENCE = 3  # intervals without a frame before its readings count as missing
LONGEST_INTERVAL = 600  # ticks
FORGOTTEN_AFTER = 3600  # ticks
KEPT = 200
Note = Callable[[str, int], None]


class Frames(Protocol):
    """The meeting place of frames, as far as it is asked here."""

    @property
    def schemas(self) -> Mapping[str, Schema]: ...

    def last_frame(self, collector: str) -> Frame | None: ...


class Samples(Protocol):
    """One stored series."""

    @property
    def series(self) -> Series: ...

    @property
    def t_ms(self) -> IntArray: ...

    @property
    def values(self) -> FloatArray: ...


class Past(Protocol):
    """Stored samples."""

    def select(self, matchers: Sequence[tuple[str, str, str]], t0_ms: int, t1_ms: int) -> Sequence[Samples]: ...


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One incident as it began: which series, in which window, how unusual, and why in words."""

    t_ms: int
    series: Series
    window: str
    score: float
    text: str


@dataclass(slots=True, eq=False)
class _Source:
    """The watched series of one collector's schema: where they lie in its frames, and their rows."""

    schema: Schema
    positions: IntArray
    rows: IntArray
    counters: FloatArray  # 1.0 where a rate is taken
    refused: int = 0  # series beyond the limit
    seen: Frame | None = None
    silent: int = 0  # ticks without a frame
    interval: int = 1  # ticks between frames, the longest of late


@dataclass(slots=True, eq=False)
class _Place:
    """What a row stands for. warm: its history was taken in. missed: ticks since a schema had it."""

    series: Series
    warm: bool = False
    missed: int = 0
    incidents: list[int] = field(default_factory=lambda: [0] * len(WINDOWS))


class AnomalyCollector:
    """Scores of the series that `selectors` choose; RuleError names a selector that is none.

    note: told of each incident, a sentence and its time in ms. max_series bounds what is watched; more are counted
    as refused. Only `collect`'s thread touches it, except `anomalies`.
    """

    name = "anomaly"
    interval_s = 1.0

    def __init__(
        self,
        selectors: Sequence[str],
        live: Frames,
        past: Past,
        query: Querier,
        note: Note,
        *,
        max_series: int = 200,
        history_days: float = 3.0,
    ) -> None:
        self._plans = [_plan(text, query) for text in selectors]
        self._live, self._past, self._note = live, past, note
        self._max_series = max_series
        self._history_ms = round(history_days * 86_400_000)
        self._banks: list[Bank] = []
        self._sums, self._counts = np.zeros(0), np.zeros(0)
        self._ticks = 0
        self._sources: dict[str, _Source] = {}
        self._places: dict[int, _Place] = {}
        self._rows: dict[Series, int] = {}
        self._schema: Schema | None = None
        self._shown: IntArray = np.zeros(0, np.int64)
        self._found: deque[Anomaly] = deque(maxlen=KEPT)

    def anomalies(self) -> list[Anomaly]:
        """The last incidents, newest first."""
        return list(reversed(self._found.copy()))

    def describe(self) -> Schema:
        """The series as known now."""
        if not self._banks:
            self._banks = _banks()
        if self._schema is None:
            self._schema = self._describe()
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Take in what arrived since the last tick, and say how unusual it is."""
        self._ticks += 1
        self.describe()
        self._resolve()
        self._learn_history(now_ns // 1_000_000)
        for source in self._sources.values():
            self._look(source, now_ns)
        if self._ticks % WINDOWS[1][1] == 0:
            self._minute(now_ns)
        self._tell(now_ns // 1_000_000)
        return Frame(self.describe(), now_ns, self._values())

    def close(self) -> None:
        """Nothing to close."""

    # --- which series -------------------------------------------------------------------------

    def _resolve(self) -> None:
        schemas = self._live.schemas
        for gone in [name for name in self._sources if name not in schemas]:
            del self._sources[gone]
        for name, schema in schemas.items():
            known = self._sources.get(name)
            if name != self.name and (known is None or known.schema is not schema):
                self._sources[name] = self._source(schema)
        present = {row for source in self._sources.values() for row in source.rows.tolist()}
        for row, place in list(self._places.items()):
            place.missed = 0 if row in present else place.missed + 1
            if place.missed > FORGOTTEN_AFTER:
                self._forget(row)

    def _source(self, schema: Schema) -> _Source:
        chosen = [at for at, one in enumerate(schema.series) if self._wanted(one)]
        rows = [self._row(schema.series[at]) for at in chosen]
        kept = [(at, row) for at, row in zip(chosen, rows, strict=True) if row is not None]
        counters = [float(_is_counter(schema.series[at])) for at, _ in kept]
        positions, taken = (np.array([pair[side] for pair in kept], np.int64) for side in (0, 1))
        return _Source(schema, positions, taken, np.array(counters), refused=len(chosen) - len(kept))

    def _wanted(self, one: Series) -> bool:
        if one.name.startswith(OWN):  # it must not watch itself
            return False
        return any(
            (not (names := plan.metric_names()) or one.name in names) and plan.matches(one) for plan in self._plans
        )

    def _row(self, one: Series) -> int | None:
        row = self._rows.get(one)
        if row is None and len(self._places) < self._max_series:
            row = len(self._places)
            if row in self._places:  # one before it was given up
                row = next(at for at in range(row) if at not in self._places)
            self._rows[one] = row
            self._places[row] = _Place(one)
            for bank in self._banks:
                bank.hold(row + 1)
            if row >= len(self._sums):
                grown = np.zeros(2 * (row + 1))
                grown[: len(self._sums)] = self._sums
                counted = np.zeros(2 * (row + 1))
                counted[: len(self._counts)] = self._counts
                self._sums, self._counts = grown, counted
            self._schema = None
        return row

    def _forget(self, row: int) -> None:
        del self._rows[self._places.pop(row).series]
        for bank in self._banks:
            bank.clear(row)
        self._sums[row] = self._counts[row] = 0.0
        self._sources.clear()  # whoever was refused may have the place
        self._schema = None

    # --- samples ------------------------------------------------------------------------------

    def _learn_history(self, now_ms: int) -> None:
        waiting = [(row, place) for row, place in self._places.items() if not place.warm]
        for row, place in waiting[:WARM_A_TICK]:
            place.warm = True
            try:
                t_ms, values = self._history(place.series, now_ms)
            except DeskvigilError as error:
                LOG.warning("what %s was before cannot be read, it is learned anew: %s", place.series, error)
                continue
            if len(values):
                recent = t_ms >= now_ms - SECOND_HISTORY_MS
                self._banks[0].replay(t_ms[recent] / 1000.0, values[recent], row)
                self._banks[1].replay(*_minutes(t_ms, values), row)

    def _history(self, one: Series, now_ms: int) -> tuple[IntArray, FloatArray]:
        matchers = [("__name__", "=", one.name), *((name, "=", value) for name, value in one.labels)]
        found = self._past.select(matchers, now_ms - self._history_ms, now_ms)
        for data in found:
            if data.series == one:
                t_ms, values = data.t_ms, np.array(data.values)
                if _is_counter(one):
                    with np.errstate(all="ignore"):
                        rates = np.diff(values) / (np.diff(t_ms) / 1000.0)
                    t_ms, values = t_ms[1:], np.where(rates >= 0, rates, np.nan)
                usable = np.isfinite(values)
                return t_ms[usable], values[usable]
        return np.zeros(0, np.int64), np.zeros(0)

    def _look(self, source: _Source, now_ns: int) -> None:
        frame = self._live.last_frame(source.schema.collector)
        if not len(source.rows) or frame is None or frame.schema is not source.schema:
            return
        if source.seen is not None and frame.t_ns == source.seen.t_ns:
            source.silent += 1
            if source.silent >= PATIENCE * source.interval:
                self._observe(now_ns, np.full(len(source.rows), np.nan), source.rows)
            return
        read = frame.values[source.positions]
        before, source.seen = source.seen, frame
        source.interval = min(max(source.silent + 1, source.interval - 1), LONGEST_INTERVAL)
        source.silent = 0
        rows = source.rows
        if source.counters.any():
            if before is None:
                read = np.where(source.counters > 0, np.nan, read)
            else:
                elapsed_s = (frame.t_ns - before.t_ns) / 1e9
                with np.errstate(all="ignore"):
                    rates = (read - before.values[source.positions]) / elapsed_s
                read = np.where(source.counters > 0, rates, read)
            # A counter that began anew has no rate this time, which is not the same as no reading.
            known = ~((source.counters > 0) & ~((read >= 0) | (np.isnan(frame.values[source.positions]))))
            read, rows = read[known], rows[known]
        self._observe(frame.t_ns, read, rows)

    def _observe(self, t_ns: int, values: FloatArray, rows: IntArray) -> None:
        warm = np.array([self._places[row].warm for row in rows.tolist()], bool)
        if not warm.all():
            values, rows = values[warm], rows[warm]
        self._banks[0].observe(t_ns / 1e9, values, rows)
        usable = np.isfinite(values)
        self._sums[rows[usable]] += values[usable]
        self._counts[rows[usable]] += 1.0

    def _minute(self, now_ns: int) -> None:
        rows = np.array([row for row, place in self._places.items() if place.warm], np.int64)
        counts = self._counts[rows]
        # A slow series has minutes without a sample: nothing is said of those, the finer window knows what is missing.
        rows = rows[counts > 0]
        means = self._sums[rows] / self._counts[rows]
        self._banks[1].observe(now_ns / 1e9, means, rows)
        self._sums[:] = self._counts[:] = 0.0

    # --- what is told -------------------------------------------------------------------------

    def _tell(self, now_ms: int) -> None:
        rows = np.array(list(self._places), np.int64)
        for number, (window, _) in enumerate(WINDOWS):
            bank = self._banks[number]
            lasting = bank.incidents(rows) > 0
            for row, lasts in zip(rows.tolist(), lasting.tolist(), strict=True):
                place = self._places[row]
                began = lasts and not place.incidents[number] & 1
                if began or (not lasts and place.incidents[number] & 1):
                    place.incidents[number] += 1  # odd while one lasts
                if began:
                    finding = bank.finding(row)
                    text = (
                        f"{place.series} {finding.text} (window {window}, once in 10^{finding.score:.1f} samples by its own"
                        " history)"
                    )
                    self._found.append(Anomaly(now_ms, place.series, window, finding.score, text))
                    self._note(text, now_ms)

    def _describe(self) -> Schema:
        self._shown = np.array(sorted(self._places), np.int64)
        names = [str(self._places[row].series) for row in self._shown.tolist()]
        own = [
            series(f"{OWN}{what}", series=name, window=window)
            for window, _ in WINDOWS
            for what in ("score", "reason", "incidents_total")
            for name in names
        ]
        return Schema(self.name, (*own, series("deskvigil_anomaly_series"), series("deskvigil_anomaly_series_refused")))

    def _values(self) -> FloatArray:
        parts: list[FloatArray] = []
        refused = sum(source.refused for source in self._sources.values())
        for number, bank in enumerate(self._banks):
            counts = [(self._places[row].incidents[number] + 1) // 2 for row in self._shown.tolist()]
            parts += [bank.scores(self._shown), bank.reasons(self._shown), np.array(counts, np.float64)]
        return np.concatenate([*parts, np.array([len(self._places), refused], np.float64)])


def _banks() -> list[Bank]:
    # The compiler and its kernels take a third of a second to load: here it costs the console's start nothing.
    from alerts.detectors.bank import Bank

    return [Bank() for _ in WINDOWS]


def _plan(text: str, query: Querier) -> Prepared:
    try:
        return query.prepare(text)
    except DeskvigilError as error:
        raise RuleError(f"alerts.detectors.anomaly: {text!r}: {error}") from None


def _is_counter(one: Series) -> bool:
    metric = metric_of(one.name)
    if metric is None:
        return one.name.endswith(("_total", "_count", "_sum", "_bucket"))
    return metric.kind != "gauge"


def _minutes(t_ms: IntArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Means of the whole minutes that have samples: their ends in seconds, and the values."""
    minute = t_ms // 60_000
    starts = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    means = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
    return ((minute[starts] + 1) * 60.0).astype(np.float64), means
