"""JournalKeeper: the journal in the engine's loop: recover at the start, room before each step, clocks and snapshots between."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine import journal as log
from engine.desk import TradingDesk
from engine.journalfile import FRESH, JournalError, JournalFile
from engine.journalreplay import market_file
from engine.market import Market, market_key
from engine.marketmark import MarketMark
from engine.options import JournalOptions
from engine.recovery import Recovered, recover
from engine.snapshot import Snapshot, write_snapshot
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine")
NS = 1_000_000_000
CLOCK_NS = NS  # between two clock records


class JournalMismatchError(JournalError):
    """The market's events are not those of the journal; the next start is fresh."""

    permanent = False


class JournalKeeper:
    """Keeps one desk's journal. Everything but the file's own thread happens in the engine's loop.

    `start` before anything else, then `make_room` before each step and `look` now and then; `end` says
    that the stop is a clean one. Without a journal (`enabled: false`) all of them do nothing.
    """

    def __init__(self, folder: Path, options: JournalOptions, desk: TradingDesk, market: Market, seed: int) -> None:
        self._options = options
        self._desk = desk
        self._market = market
        self._market_key = market_key(market, seed)
        self._file = JournalFile(folder, options) if options.enabled else None
        self._next_clock_ns = self._next_snapshot_ns = 0
        self._snapshot_at = self._snapshot_tried = 0  # sequence of the last one written, and of the last one begun
        self._snapshot_wall_ns = 0
        self._gap_at = 0  # a snapshot of this sequence or later must be there before orders are sent again
        self._lost = 0
        self._marks: MarketMark | None = None
        self._empty_books: IntArray | None = None  # made when the first snapshot is written, in the thread
        self.recovered = Recovered(sequence=0)
        self.parents_closed = 0

    @property
    def problem(self) -> str:
        """Why no order may be sent, in words; empty where the journal is well."""
        if self._file is None:
            return ""
        if self._file.is_full:
            return self._file.problem or "the journal has no room until its next segment is ready"
        if self._snapshot_at < self._gap_at:
            return "the journal has a gap, and the snapshot behind it is not written yet"
        return ""

    @property
    def lost_records(self) -> int:
        """Records that could not be written so far."""
        return 0 if self._file is None else self._lost + int(self._file.head[log.LOST])

    def start(self, now_ns: int, wall_ns: int) -> bool:
        """Recover what the journal holds; True where a session goes on. JournalError where it is another engine's."""
        if self._file is None:
            self._desk.begin_run(wall_ns)
            return False
        self._file.open()
        marker = self._file.folder / FRESH
        self._marks = MarketMark(self._file.folder / "market", self._desk.market_state())
        found = recover(self._desk, self._file, self._market_key, marks=self._marks, fresh=marker.exists())
        self.recovered = found
        marker.unlink(missing_ok=True)
        if self.recovered.mismatch:
            self._file.note(log.END, 0)
            raise JournalMismatchError("the market does not continue as the journal says; a fresh session follows")
        self._desk.attach(self._file.words, self._file.head, self._marks)
        if self.recovered.goes_on:
            self.parents_closed = self._desk.go_on(now_ns)
        else:
            self._describe_market(self._file.folder)
            self._file.note(log.BEGIN, 0, wall_ns, detail=self._market_key)
            self._desk.begin_run(wall_ns)
        self._desk.note_clock(wall_ns)
        self._file.start()
        self._next_clock_ns = now_ns + CLOCK_NS
        self._next_snapshot_ns = now_ns + round(self._options.snapshot_s * NS)
        return self.recovered.goes_on

    def sync_too(self, *followers: Callable[[], None]) -> None:
        """What the journal's group commits also bring to the disk; before `start`."""
        if self._file is not None:
            self._file.sync_too(followers)

    def make_room(self) -> None:
        """See to it that the next step's records have room where there is any."""
        file = self._file
        if file is None:
            return
        lost = int(file.head[log.LOST])
        if file.make_room():
            self._desk.attach(file.words, file.head, self._marks)
            if lost:
                self._lost += lost
                self._gap_at = file.sequence
                self._next_snapshot_ns = 0

    def look(self, now_ns: int, wall_ns: int) -> None:
        """Write the clock each second, and a snapshot when it is time."""
        file = self._file
        if file is None:
            return
        if now_ns >= self._next_clock_ns:
            self._next_clock_ns = now_ns + CLOCK_NS
            self._desk.note_clock(wall_ns)
        due = now_ns >= self._next_snapshot_ns or file.sequence - self._snapshot_tried > self._options.snapshot_records
        if due and not file.is_busy and file.head[log.LOST] == 0:
            self._next_snapshot_ns = now_ns + round(self._options.snapshot_s * NS)
            self._snapshot_tried = file.sequence
            snapshot = Snapshot(file.sequence, self._market_key, self._desk.state())
            file.run_soon(lambda: self._write(snapshot, wall_ns))

    def end(self) -> None:
        """Say that this is a clean stop: all own orders are cancelled."""
        if self._file is not None:
            self._file.note(log.END, 0)

    def close(self) -> None:
        """Let go of the journal."""
        if self._file is not None:
            self._desk.attach(*log.no_journal())
            self._file.close()

    def gauges(self, wall_ns: int) -> dict[str, float]:
        """The journal's part of `Gauges`."""
        file = self._file
        if file is None:
            return dict.fromkeys(GAUGES, 0.0) | {"journal_snapshot_age_seconds": np.nan}
        age_s = (wall_ns - self._snapshot_wall_ns) / NS if self._snapshot_wall_ns else np.nan
        return {
            "journal_records_total": float(file.sequence),
            "journal_undurable_records": float(file.sequence - file.durable),
            "journal_lost_records_total": float(self.lost_records),
            "journal_full": float(bool(self.problem)),
            "journal_snapshot_age_seconds": age_s,
            "recovered_records": float(self.recovered.records),
            "recovered_parents_closed": float(self.parents_closed),
            "recovered_poison_record": float(self.recovered.poison),
            "recovered_damaged_records": float(self.recovered.damaged),
        }

    def _describe_market(self, folder: Path) -> None:
        """Say in words what BEGIN's number stands for: a replay makes its books from it."""
        market = self._market
        words = {
            "source": market.source,
            "tape": market.name,
            "symbols": [instrument.symbol for instrument in market.instruments],
            "level_book": market.level_book,
            "max_orders": market.max_orders,
            "starts_empty": market.starts_empty,
        }
        try:
            market_file(folder, self._market_key).write_text(json.dumps(words))
        except OSError as error:  # a full disk: only a replay by hand misses it
            LOG.error("the journal's market is not described in %s: %s", folder, error.strerror)

    def _write(self, snapshot: Snapshot, wall_ns: int) -> int:
        """In the journal's thread. A snapshot that cannot be written is tried again at its next turn."""
        if self._file is None:
            return 0
        try:
            if self._empty_books is None:
                self._empty_books = self._desk.empty_books()
            kept_from = write_snapshot(self._file.folder, snapshot, self._empty_books)
        except OSError as error:
            LOG.error("no snapshot could be written in %s: %s", self._file.folder, error.strerror)
            return 0
        self._snapshot_at, self._snapshot_wall_ns = snapshot.sequence, wall_ns
        return kept_from


GAUGES = (
    "journal_records_total", "journal_undurable_records", "journal_lost_records_total", "journal_full",
    "journal_snapshot_age_seconds", "recovered_records", "recovered_parents_closed", "recovered_poison_record",
    "recovered_damaged_records",
)  # fmt: skip
