"""Recovery: the newest sound snapshot, then the journal's records behind it, give the engine that was killed.

Books, own orders and account are made by the same kernels that made them live, from the same events
and orders; no decision is taken again. Nothing that was written is lost or done twice: an order whose
record is there is in the market, one whose record is not there was never sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import journal as log
from engine.desk import TradingDesk
from engine.jit import kernel
from engine.journalfile import JournalFile, read_segment, segment_paths
from engine.marketmark import Mark, MarketMark
from engine.snapshot import Snapshot, newest_snapshots, read_snapshot
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine")
POISON_DEATHS = 2


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What a start found.

    sequence: the last sound record, 0 for an empty journal; goes_on: whether a session does; mismatch:
    the market's events were not those of the journal; records: how many were replayed; poison: the
    record left out from now on because it killed the engine twice, or 0; damaged: sound records
    that lay behind the end and were put aside.
    """

    sequence: int
    goes_on: bool = False
    mismatch: bool = False
    records: int = 0
    poison: int = 0
    damaged: int = 0


def recover(
    desk: TradingDesk, journal: JournalFile, market_key: int, *, marks: MarketMark | None = None, fresh: bool = False
) -> Recovered:
    """Bring the desk to the state after the last sound record, and the journal to write on behind it.

    The journal is open, the desk new and without a journal. Where no session goes on (the first start, a
    clean stop, another market, `fresh`) the desk is left as it was; after a mismatch it is of no use.
    The caller then attaches the journal and lets the desk go on.
    """
    poison = _poison(journal)
    snapshot = _newest(journal.folder, desk)
    after = snapshot.sequence if snapshot is not None else 0
    oldest = segment_paths(journal.folder)
    if snapshot is None and oldest:
        after = oldest[0][0] - 1
    pieces, controls = _read(journal.folder, after + 1)
    sequence = after + sum(len(piece) for piece in pieces)
    begins = controls["sequence"][controls["what"] == log.BEGIN]
    if len(begins):  # what lies before the last fresh start is over
        snapshot, pieces = None, _behind(pieces, int(begins[-1]))
    last = int(pieces[-1]["what"][-1]) if pieces else 0
    wanted = snapshot is not None or (pieces and int(pieces[0]["what"][0]) == log.BEGIN)
    same = _market_of(snapshot, pieces) == market_key
    if fresh or last == log.END or not wanted or not same:
        if wanted and not same and last != log.END:
            LOG.warning("the journal is of another market: a fresh session begins")
        return Recovered(sequence=sequence, damaged=journal.go_on(sequence), poison=poison)
    skip, begin = _left_out(controls, poison), int(pieces[0]["sequence"][0]) if pieces else 0
    if snapshot is not None:
        desk.restore(snapshot.arrays)
    else:
        desk.begin_run(int(pieces[0]["order_id"][0]))
    if pieces and marks is not None and not (controls["what"] == log.GAP).any():
        pieces = _to_mark(desk, marks.newest(int(pieces[0]["sequence"][0]), sequence), pieces, skip, journal)
    mismatch = False
    for piece in pieces:
        used = desk.replay(piece, skip, journal.head)
        if used < len(piece):
            mismatch = int(piece["what"][used]) != log.GAP
            sequence = int(piece["sequence"][used]) - 1
            if mismatch:
                LOG.error("the market's events are not those of the journal from record %d on", sequence + 1)
            break
    records = sequence - (snapshot.sequence if snapshot is not None else begin - 1)
    journal.head[log.BUSY] = 0
    damaged = journal.go_on(sequence)
    if poison:
        journal.note(log.SKIP, 0, poison)
    return Recovered(
        sequence=sequence, goes_on=not mismatch, mismatch=mismatch, records=records, poison=poison, damaged=damaged
    )


def _to_mark(
    desk: TradingDesk, mark: Mark | None, pieces: list[log.JournalArray], skip: IntArray, journal: JournalFile
) -> list[log.JournalArray]:
    """Replay what lies before a mark of the market's, which stays out of it, then put the market there; returns the rest."""
    if mark is None:
        return pieces
    for piece in pieces:
        before = min(max(mark.sequence + 1 - int(piece["sequence"][0]), 0), len(piece))
        desk.replay(piece[:before], skip, journal.head, follow=False)
    desk.restore_market(mark.state)
    return _behind(pieces, mark.sequence + 1)


def _poison(journal: JournalFile) -> int:
    """The record that was being carried out when the engine died, where that happened twice in a row; else 0."""
    head = journal.head
    busy = int(head[log.BUSY])
    if busy == 0:
        return 0
    head[log.DEATHS] = head[log.DEATHS] + 1 if busy == head[log.DEATH_AT] else 1
    head[log.DEATH_AT] = busy
    return busy if head[log.DEATHS] >= POISON_DEATHS else 0


def _newest(folder: Path, desk: TradingDesk) -> Snapshot | None:
    """The newest snapshot that can be read and that the journal reaches up to."""
    for path in newest_snapshots(folder):
        snapshot = read_snapshot(path, desk.untouched_books())
        if snapshot is not None and desk.fits(snapshot.arrays):
            return snapshot
    return None


@kernel
def survey(words: IntArray, first: int, sequence: int, controls: IntArray) -> tuple[int, int]:
    """`journal.sound_records`, and in the same pass where records are that are neither market nor own orders.

    controls: int64, room for as many positions as there are records; returns how many are sound, and how many
    positions were written.
    """
    found = 0
    for k in range(first, len(words)):
        if words[k, log.W_SEQUENCE] != sequence + k - first or words[k, log.W_CHECK] != log.check_of(words, k):
            return k - first, found
        controls[found] = k
        found += (words[k, log.W_WHAT] & 0xFFFFFFFF) > log.PARENT
    return len(words) - first, found


def _read(folder: Path, sequence: int) -> tuple[list[log.JournalArray], log.JournalArray]:
    """The sound records from `sequence` on, by segment, and a copy of the few that are neither market nor own orders."""
    pieces, controls = [], [np.zeros(0, log.RECORD)]
    for first, path in segment_paths(folder):
        records = read_segment(path)
        if first + len(records) <= sequence or first > sequence:
            continue
        places = np.empty(len(records), dtype=np.int64)
        start = sequence - first
        sound, found = survey(log.as_words(records), start, sequence, places)
        if sound:
            pieces.append(records[start : start + sound])
            controls.append(records[places[:found]])
            sequence += sound
    return pieces, np.concatenate(controls)


def _behind(pieces: list[log.JournalArray], sequence: int) -> list[log.JournalArray]:
    """The records from a sequence on."""
    rest = [piece[max(sequence - int(piece["sequence"][0]), 0) :] for piece in pieces]
    return [piece for piece in rest if len(piece)]


def _market_of(snapshot: Snapshot | None, pieces: list[log.JournalArray]) -> int:
    if snapshot is not None:
        return snapshot.market_key
    return int(pieces[0]["detail"][0]) if pieces else 0


def _left_out(controls: log.JournalArray, poison: int) -> IntArray:
    """Sequences that killed the engine twice."""
    found = controls["order_id"][controls["what"] == log.SKIP]
    return np.unique(np.append(found, [poison] if poison else []).astype(np.int64))


def between(folder: Path, t0_ns: int, t1_ns: int) -> Iterator[log.JournalArray]:
    """The sound records from wall-clock t0_ns to t1_ns, in pieces; exact to the second of the journal's clock records.

    A piece begins with the last CLOCK (or the segment's start) at or before t0_ns and ends with the first at or after
    t1_ns. A segment whose clock lies elsewhere is not copied.
    """
    for first, path in segment_paths(folder):
        records = read_segment(path)
        records = records[: log.sound_records(log.as_words(np.asarray(records)), 0, first)]
        clocks = np.flatnonzero(records["what"] == log.CLOCK)
        times = records["t_ns"][clocks]
        if not len(clocks) or int(times[-1]) < t0_ns:
            continue
        if int(times[0]) > t1_ns and clocks[0] > 0 and first > 1 and int(times[0]) - t1_ns > 60_000_000_000:
            return
        start = int(np.searchsorted(times, t0_ns, side="right")) - 1
        stop = int(np.searchsorted(times, t1_ns, side="left"))
        yield records[clocks[start] if start >= 0 else 0 : clocks[stop] + 1 if stop < len(clocks) else len(records)]
        if stop < len(clocks):
            return
