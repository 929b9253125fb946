"""Reconciliation: compares our executions with the drop copy twice a second, and keeps what does not agree.

Breaks are rows that stay open until somebody explains or closes them. How far the comparison has come
lies in the table `meta`, written in one transaction with the breaks and settlements found on the way,
and only at a moment when no execution waited for its other half; what a restart reads again gives the
same breaks under the same keys, and each is kept once.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from console.comparison import COPY, KINDS, OVERDUE, OWN, Break, Comparison, Execution, executions_of
from engine.events import Instrument
from engine.executions import DROP_COPY_FOLDER, OWN_FOLDER
from engine.recordtail import Reading, RecordTail
from engine.settlement import Settlement, read_settlements
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema
from storage.breaks import explain_arrived, insert_breaks, missing_executions
from storage.settlements import insert_settlements
from storage.store import Store
from storage.tables import meta

log = logging.getLogger("deskvigil.console")

CURSOR = "reconciliation"  # key in the table `meta`
GRACE_NS = 1_000_000_000  # both streams are written within a microsecond; what is not there after this is missing
KEEP_NS = 10_000_000_000  # the cursor is written at least this often while executions come
READ_AT_ONCE = 10_000
_R = "deskvigil_reconciliation_"
_GAUGES = (
    "open_breaks", "executions_equal_total", "executions_broken_total", "accuracy_ratio", "waiting_executions",
    "lag_seconds", "positions_disagreeing", "settlements_total", "malformed_lines_total",
)  # fmt: skip


class Reconciliation:
    """A collector: each tick compares what is new, keeps what was found, and gives the figures as a frame."""

    name = "reconciliation"
    interval_s = 0.5

    def __init__(self, paths: RuntimePaths, store: Store, clock: Clock) -> None:
        self._tails = {
            OWN: RecordTail(paths.executions_dir / OWN_FOLDER),
            COPY: RecordTail(paths.executions_dir / DROP_COPY_FOLDER),
        }
        self._settlements_path = paths.settlements
        self._store = store
        self._clock = clock
        self._schema = Schema(
            self.name,
            (*(series(_R + "breaks_total", kind=kind) for kind in KINDS), *(series(_R + what) for what in _GAUGES)),
        )
        self._offset = 0  # of the settlement file
        self._begin_anew()
        self._held: list[Settlement] = []  # read, but their session's executions are not all taken in yet
        self._rows: list[Settlement] = []  # to be kept
        self._unkept: list[Break] = []
        self._instruments: tuple[Instrument, ...] = ()
        self._counts: Counter[str] = Counter()
        self._open = 0
        self._changes = self._counted_ns = 0
        self._settled = self._malformed = 0
        self._kept: str | None = None  # the cursor as it lies in the database; None: not looked yet
        self._kept_ns = 0
        self._complete_ns = clock.monotonic_ns()
        self._trouble = ""

    def describe(self) -> Schema:
        return self._schema

    def collect(self, now_ns: int) -> Frame:
        """Compare what is new. What cannot be read or kept is tried again; the lag shows how long that goes on."""
        try:
            if self._kept is None:
                self._go_on()
            if self._compare(now_ns):
                self._complete_ns = self._clock.monotonic_ns()
            self._keep(now_ns)
            self._trouble = ""
        except DeskvigilError as error:
            if str(error) != self._trouble:
                log.warning("executions are not reconciled: %s", error)
            self._trouble = str(error)
        return Frame(self._schema, now_ns, np.array(self._values()))

    def close(self) -> None:
        """Keep how far it has come, where that can be said."""
        if self._kept is not None:
            try:
                self._keep(self._clock.now_ns(), at_once=True)
            except DeskvigilError as error:
                log.warning("the reconciliation's cursor is not kept: %s", error)

    def _values(self) -> list[float]:
        comparison = self._comparison
        compared = comparison.equal + comparison.broken
        return [
            *(float(self._counts[kind]) for kind in KINDS),
            float(self._open) if self._kept is not None else float("nan"),
            float(comparison.equal),
            float(comparison.broken),
            comparison.equal / compared if compared else float("nan"),
            float(comparison.waiting),
            (self._clock.monotonic_ns() - self._complete_ns) / 1e9,
            float(len(comparison.disagreeing)),
            float(self._settled),
            float(self._malformed),
        ]

    def _compare(self, now_ns: int) -> bool:
        """Take in what is new; False where there was more than fits into one tick."""
        # Settlements first: what a session did was recorded before it was settled, so it is in the streams by now.
        settlements, malformed, offset = read_settlements(self._settlements_path, self._offset)
        self._offset = offset
        for byte in malformed:
            log.warning("%s: the line at byte %d is no settlement and is skipped", self._settlements_path, byte)
        self._malformed += len(malformed)
        self._rows += settlements
        self._held += settlements
        complete = self._take(COPY, now_ns) & self._take(OWN, now_ns)
        self._comparison.expire(self._clock.monotonic_ns())
        if complete:
            for settlement in self._held:
                self._comparison.check_settlement(settlement)
            self._held.clear()
        found = self._comparison.found()
        self._counts.update(found_break.kind for found_break in found)
        self._unkept += found
        for found_break in found:
            log.warning("reconciliation: %s %s", found_break.kind, dict(found_break.detail))
        return complete

    def _take(self, name: str, now_ns: int) -> bool:
        reading: Reading = self._tails[name].read(self._places[name], READ_AT_ONCE)
        first = self._places[name] + 1
        if reading.missing:
            self._comparison.note_gap(name, reading.run, first, reading.missing, now_ns)
        self._comparison.note_damage(name, reading.damaged, now_ns)
        numbers = zip(
            reading.places, reading.records["sequence"].tolist(), reading.records["run"].tolist(), strict=True
        )
        for place, sequence, run in numbers:
            if sequence - place > self._shifts[name]:  # somebody took records out
                self._comparison.note_gap(name, run, place, sequence - place - self._shifts[name], now_ns)
            self._shifts[name] = sequence - place
        self._comparison.take(name, executions_of(reading), self._clock.monotonic_ns())
        self._places[name] = reading.upto
        self._instruments = reading.instruments or self._instruments
        return len(reading.places) + len(reading.damaged) < READ_AT_ONCE

    # Keeping.

    def _go_on(self) -> None:
        """Take up where the last console left off. StorageUnavailable where the database cannot be read."""
        with self._store.read() as connection:
            value = connection.execute(select(meta.c.value).where(meta.c.key == CURSOR)).scalar() or ""
            missing = missing_executions(connection, OVERDUE)
        self._begin_anew()
        if value:
            try:
                cursor = json.loads(value)
                self._comparison.resume(cursor["comparison"])
                self._places = {name: int(cursor["places"][name]) for name in (OWN, COPY)}
                self._shifts = {name: int(cursor["shifts"][name]) for name in (OWN, COPY)}
                self._offset = int(cursor["offset"])
            except (ValueError, KeyError, TypeError) as error:
                log.error("the reconciliation's cursor is damaged (%s): everything is compared again", error)
                self._begin_anew()
        if any(self._places[name] > tail.end() for name, tail in self._tails.items()):
            log.warning("the records of executions were cleared: the reconciliation begins anew")
            self._begin_anew()
        for kind, detail in missing:
            known = {name: detail[name] for name in Execution._fields if name in detail}
            try:
                self._comparison.expect_late(kind.removeprefix("missing_"), Execution(**known))
            except TypeError as error:
                log.error(
                    "a %s break in the database is not whole, its late arrival would not be known: %s", kind, error
                )
        self._open = self._store.breaks.count_open()
        self._kept = value
        self._kept_ns = self._clock.monotonic_ns()

    def _begin_anew(self) -> None:
        self._comparison = Comparison(GRACE_NS)
        self._places = {OWN: 0, COPY: 0}
        self._shifts = {OWN: 0, COPY: 0}  # how far the records' own numbers are ahead of their places
        self._offset = 0

    def _keep(self, now_ns: int, at_once: bool = False) -> None:
        comparison = self._comparison
        news = bool(self._unkept or self._rows or comparison.arrived)
        due = at_once or self._clock.monotonic_ns() - self._kept_ns >= KEEP_NS
        cursor = self._kept
        if (news or due) and comparison.waiting == 0 and not self._held:
            cursor = json.dumps(
                {
                    "places": self._places,
                    "shifts": self._shifts,
                    "offset": self._offset,
                    "comparison": comparison.state(),
                },
                sort_keys=True,
            )
        if news or cursor != self._kept:
            with self._store.write() as connection:
                self._write(connection, cursor or "", now_ns)
            self._settled += len(self._rows)
            self._unkept, self._rows, comparison.arrived = [], [], []
            self._kept, self._kept_ns = cursor, self._clock.monotonic_ns()
        self._count_open(news)

    def _count_open(self, news: bool) -> None:
        """Ask the database where something may have changed; now and then for what another program did."""
        changes, now_ns = self._store.breaks.changes, self._clock.monotonic_ns()
        if news or changes != self._changes or now_ns - self._counted_ns >= KEEP_NS:
            self._open = self._store.breaks.count_open()
            self._changes, self._counted_ns = changes, now_ns

    def _write(self, connection: Connection, cursor: str, now_ns: int) -> None:
        now_ms = now_ns // 1_000_000
        insert_breaks(connection, [self._break_row(found) for found in self._unkept], now_ms)
        explain_arrived(connection, self._comparison.arrived, now_ms)
        insert_settlements(connection, [_settlement_row(row) for row in self._rows])
        connection.execute(delete(meta).where(meta.c.key == CURSOR))
        connection.execute(insert(meta).values(key=CURSOR, value=cursor))

    def _break_row(self, found: Break) -> dict[str, Any]:
        detail, symbol = dict(found.detail), ""
        if 0 <= found.instrument < len(self._instruments):
            instrument = self._instruments[found.instrument]
            symbol = instrument.symbol
            # With its units the row can still be read when the market is another one.
            detail |= {"tick_usd": instrument.tick_size_usd, "lot": instrument.lot_size}
        return {
            "key": found.key,
            "kind": found.kind,
            "t_ms": found.wall_ns // 1_000_000,
            "run_ns": found.run_ns,
            "session": found.session,
            "execution": found.execution,
            "symbol": symbol,
            "detail": detail,
        }


def _settlement_row(record: Settlement) -> dict[str, Any]:
    same = (
        "run_ns", "session", "symbol", "mark_usd", "mark_from", "position",
        "realised_usd", "unrealised_usd", "fees_usd", "pnl_usd",
    )  # fmt: skip
    detail = asdict(record) | {"cash": str(record.cash), "venue_cash": str(record.venue_cash)}
    return {name: getattr(record, name) for name in same} | {"t_ms": record.t_ns // 1_000_000, "detail": detail}
