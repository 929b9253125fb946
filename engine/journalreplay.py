"""JournalReplay: a journal applied to empty books again, and compared with what the engine had when it wrote it.

Each second the journal notes a digest of all fills so far, and each snapshot holds the books whole: both
must come out the same, bit for bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine import journal as log
from engine.book import Books, apply_all, make_books, reset
from engine.events import SELF_CANCEL, TAKER_CANCEL, Tape, empty_fills
from engine.feeds.files import Opening
from engine.feeds.orders import OrderFills
from engine.feeds.result import Result
from engine.journalfile import SUFFIX, read_from, read_segment, segment_paths, snapshot_paths
from engine.layout import LOST_FILLS, SEQUENCE
from engine.snapshot import read_snapshot
from metrics.errors import DeskvigilError

CHUNK: Final = 1 << 16  # events applied at a time
FILLS_PER_CHUNK: Final = 1 << 20


@dataclass(kw_only=True)
class Replayed:
    """What came out: fills as (record, resting order, lots, ticks), and how often it was not what the engine had."""

    events: int = 0
    records: int = 0
    seconds: float = 0.0
    books_checked: int = 0
    digests_checked: int = 0
    mismatches: int = 0
    gaps: int = 0
    damaged: int = 0
    skipped: int = 0
    parts: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def fills(self) -> OrderFills:
        """All fills, in order."""
        table = np.concatenate(self.parts) if self.parts else np.zeros((0, 4), dtype=np.int64)
        row, resting, qty, price = (np.ascontiguousarray(column) for column in table.T)
        return OrderFills(row=row, resting_order_id=resting, qty=qty, price=price)


def market_file(folder: Path, market_key: int) -> Path:
    """Where a journal says which market its records are of."""
    return folder / f"market-{market_key}.json"


def replay_journal(path: Path) -> Replayed:
    """Apply a journal's folder, or one of its segments. DeskvigilError where there is nothing to begin with.

    It begins at the oldest fresh start or snapshot that the records lead on from.
    """
    folder = path if path.is_dir() else path.parent
    segments = [(first, file) for first, file in segment_paths(folder) if path.is_dir() or file == path]
    if not segments:
        raise DeskvigilError(f"{path}: neither a journal's folder nor one of its segments")
    first, last = segments[0][0], segments[-1][0] + len(read_segment(segments[-1][1])) - 1
    pieces = [np.asarray(piece) for piece in read_from(folder, first)]
    records = np.concatenate(pieces)[: last - first + 1] if pieces else np.zeros(0, log.RECORD)
    found = Replayed(records=len(records), damaged=_damaged(segments, first + len(records)))
    _Replay(folder, records, found).run()
    return found


class _Replay:
    """One pass over sound records."""

    def __init__(self, folder: Path, records: log.JournalArray, found: Replayed) -> None:
        self._records, self._found = records, found
        self._snapshots = [(after - 1, path) for after, path in snapshot_paths(folder)]
        self._market, self._books = _market_of(folder, records)
        self._empty = self._books.words.copy()
        self._fills = empty_fills(FILLS_PER_CHUNK)
        self._head = np.zeros(log.HEAD_WORDS, dtype=np.int64)
        self._skip = records["order_id"][records["what"] == log.SKIP]

    def run(self) -> None:
        at = self._begin()
        for stop, sequence in self._stops(at):
            self._apply(self._records[at:stop])
            at = stop
            if sequence >= 0:
                self._compare_books(sequence)
            elif stop < len(self._records):
                if not self._control(self._records[stop]):
                    return
                at += 1

    def _begin(self) -> int:
        """Where the oldest fresh start or snapshot is; the books are brought there."""
        if not len(self._records):
            return 0
        first = int(self._records["sequence"][0])
        begins = np.flatnonzero(self._records["what"] == log.BEGIN)
        begin = int(begins[0]) if len(begins) else len(self._records)
        for sequence, path in self._snapshots:
            if first - 1 <= sequence < first + begin:
                snapshot = read_snapshot(path, self._empty)
                if snapshot is not None:
                    self._books.words[:] = snapshot.arrays["books"]
                    self._head[log.DIGEST], self._head[log.FILLS] = snapshot.arrays["numbers"][4:6]
                    return sequence + 1 - first
        if begin == len(self._records):
            raise DeskvigilError(
                f"the records {first} to {int(self._records['sequence'][-1])} hold neither a start nor follow a snapshot"
            )
        return begin

    def _stops(self, at: int) -> Iterator[tuple[int, int]]:
        """Positions at which more is to be done than applying: for a snapshot its sequence, else -1; the end is the last."""
        if not len(self._records):
            return
        first = int(self._records["sequence"][0])
        control = [(int(k), -1) for k in np.flatnonzero(self._records["what"] > log.PARENT) if k >= at]
        books = [(s + 1 - first, s) for s, _ in self._snapshots if at < s + 1 - first <= len(self._records)]
        yield from sorted(control + books, key=lambda stop: (stop[0], -stop[1]))
        yield len(self._records), -1

    def _apply(self, records: log.JournalArray) -> None:
        chosen = (records["what"] <= log.OWN) & ~np.isin(records["sequence"], self._skip)
        self._found.skipped += int(np.count_nonzero(records["what"] <= log.OWN) - np.count_nonzero(chosen))
        chosen_records = records[chosen]
        for start in range(0, len(chosen_records), CHUNK):
            part = chosen_records[start : start + CHUNK]
            events = log.as_events(part)
            base = int(self._books.words[SEQUENCE])
            began = time.perf_counter()
            count = apply_all(self._books, events, self._fills)
            self._found.seconds += time.perf_counter() - began
            if count > len(self._fills) or self._books.words[LOST_FILLS]:
                raise DeskvigilError(f"more than {len(self._fills)} fills in {len(events)} events")
            log.digest_fills(self._head, self._fills, count)
            self._found.events += len(events)
            fills = self._fills[:count]
            trades = fills[fills["flags"] & (SELF_CANCEL | TAKER_CANCEL) == 0]
            row = part["sequence"][trades["sequence"] - base - 1]  # the event that traded is counted in its sequence
            self._found.parts.append(np.column_stack((row, trades["maker_id"], trades["qty"], trades["price"])))

    def _control(self, record: Any) -> bool:
        """A record that is not for the books; False where nothing leads on."""
        what = int(record["what"])
        if what == log.CLOCK:
            self._found.digests_checked += 1
            digest, fills = int(self._head[log.DIGEST]), int(self._head[log.FILLS])
            self._found.mismatches += (digest, fills) != (int(record["price"]), int(record["qty"]))
        elif what == log.BEGIN:
            reset(self._books)
            self._head[[log.DIGEST, log.FILLS]] = 0
        elif what == log.SESSION and (self._market["starts_empty"] or int(record["order_id"]) == 1):
            reset(self._books)
        elif what == log.GAP:
            self._found.gaps += 1
            return False
        return True

    def _compare_books(self, sequence: int) -> None:
        snapshot = read_snapshot(dict(self._snapshots)[sequence], self._empty)
        if snapshot is not None:
            self._found.books_checked += 1
            self._found.mismatches += not np.array_equal(snapshot.arrays["books"], self._books.words)


def _market_of(folder: Path, records: log.JournalArray) -> tuple[dict[str, Any], Books]:
    begins = records[records["what"] == log.BEGIN]
    keys = {int(key) for key in begins["detail"]}
    files = [market_file(folder, key) for key in keys] if keys else sorted(folder.glob("market-*.json"))
    if len(files) != 1:
        raise DeskvigilError(f"{folder}: the records are of {len(files)} markets; replay them one segment at a time")
    try:
        market = json.loads(files[0].read_text())
        return market, make_books(
            len(market["symbols"]), max_orders=int(market["max_orders"]), level_book=bool(market["level_book"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeskvigilError(f"{files[0]}: cannot be read as a journal's market: {error}") from None


def _damaged(segments: list[tuple[int, Path]], end: int) -> int:
    """1 where something that is no sound record follows the last one, else 0."""
    for first, path in segments:
        records = read_segment(path)
        if first <= end < first + len(records):
            following = log.as_words(np.asarray(records[end - first : end - first + 1]))
            return int(following.any() and not any(first_of == end for first_of, _ in segments))
    return 0


def is_journal(opening: Opening) -> bool:
    """Whether a folder is a journal's."""
    return not opening.head and any(name.endswith(SUFFIX) for name in opening.members)


def load(path: Path) -> Tape:
    """Never a tape: DeskvigilError."""
    raise DeskvigilError(f"{path}: a journal is replayed as fast as it goes; it is not traded on, and has no pace")


def prove(path: Path, fills_out: Path | None) -> Result:
    """Replay a journal and compare it with its own digests and snapshots."""
    found = replay_journal(path)
    fills = found.fills()
    if fills_out is not None:
        fills.write(fills_out)
    return Result(
        events=found.events, seconds=found.seconds, fills=len(fills.row), fills_crc32=fills.crc32(),
        book_rows_checked=found.books_checked, mismatches=found.mismatches, checksums_ok=found.records,
        checksums_bad=found.damaged, gaps=found.gaps, skipped_lines=found.skipped,
    )  # fmt: skip
