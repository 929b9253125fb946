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
from engine import strategy as plan
from engine.book import Books, apply, best_price
from engine.desk import TradingDesk
from engine.events import CANCEL, HALT, IOC, RESUME
from engine.jit import kernel
from engine.journalfile import JournalFile, read_from, read_segment, segment_paths
from engine.orders import CHILD, ID, LAST_EVENT_NS, LAST_ID, LATEST_NS, LEFT, PLACES, PRICE, SENT_NS, SIDE, VENUE_HALTED, Desk, book_fills
from engine.snapshot import Snapshot, newest_snapshots, read_snapshot
from engine.step import mark
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine")
POISON_DEATHS = 2


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What a start found.

    sequence: the last sound record, 0 for an empty journal; session: whether a session goes on;
    records: how many were replayed; parents: interrupted parent orders; poison: the record left
    out from now on because it killed the engine twice, or 0; damaged: sound records behind the end.
    """

    sequence: int
    goes_on: bool = False
    records: int = 0
    poison: int = 0
    damaged: int = 0


@kernel
def reapply(desk: Desk, books: Books, words: IntArray, first: int, skip: IntArray, head: IntArray) -> int:
    """Carry out the records from `first` on; returns where one stands that is not for kernels, or the end.

    skip: sequences to leave out. head[BUSY] is the record under way, should it kill the engine again.
    """
    for k in range(first, words.shape[0]):
        what = words[k, log.W_WHAT] & 0xFFFFFFFF
        packed, t_ns, order_id = words[k, log.W_EVENT], words[k, log.W_T_NS], words[k, log.W_ORDER_ID]
        i, kind, flags = packed & 0xFFFFFFFF, (packed >> 32) & 0xFF, (packed >> 48) & 0xFFFF
        side = (packed >> 40) & 0xFF
        side = side - 256 if side > 127 else side
        price, qty = words[k, log.W_PRICE], words[k, log.W_QTY]
        if what == log.PARENT:
            _replay_parent(desk, i, t_ns, order_id, price, qty, kind, side, flags, words[k, log.W_WHAT] >> 32)
            mark(desk, best_price(books, i, 1), best_price(books, i, -1), i)
        elif what == log.MARKET or what == log.OWN:
            sequence = words[k, log.W_SEQUENCE]
            left_out = False
            for other in skip:
                left_out = left_out or other == sequence
            if left_out:
                continue
            head[log.BUSY] = sequence
            place = (-order_id) & 3
            known = what == log.OWN and place < PLACES
            if known and kind == CANCEL:
                if desk.own[i, place, ID] == order_id:
                    desk.own[i, place, ID] = 0
            elif known:
                desk.own[i, place, ID], desk.own[i, place, SIDE], desk.own[i, place, PRICE] = order_id, side, price
                desk.own[i, place, LEFT], desk.own[i, place, SENT_NS] = qty, t_ns
                desk.clockwork[LAST_ID] = max(desk.clockwork[LAST_ID], (-order_id) >> 2)
            count = apply(books, t_ns, order_id, price, qty, i, kind, side, flags)
            book_fills(desk, books.fills, count, t_ns)
            if what == log.MARKET:
                _replay_status(desk, i, kind, t_ns)
                mark(desk, best_price(books, i, 1), best_price(books, i, -1), i)
            elif known and kind != CANCEL and (count < 0 or kind == IOC) and desk.own[i, place, ID] == order_id:
                desk.own[i, place, ID] = 0  # refused by the venue, or what did not fill at once has lapsed
        else:
            head[log.BUSY] = 0
            return k
    head[log.BUSY] = 0
    return words.shape[0]


@kernel
def _replay_status(desk: Desk, i: int, kind: int, t_ns: int) -> None:
    if kind == HALT:
        desk.status[i, VENUE_HALTED] = 1
    elif kind == RESUME:
        desk.status[i, VENUE_HALTED] = 0
    desk.clockwork[LATEST_NS] = t_ns
    desk.status[i, LAST_EVENT_NS] = t_ns


@kernel
def _replay_parent(
    desk: Desk, i: int, t_ns: int, starts_ns: int, arrival: int, target: int, state: int, side: int, done: int,
    number: int,
) -> None:  # fmt: skip
    row = desk.parents[i]
    if row[plan.P_STATE] == plan.IDLE and state != plan.IDLE:
        row[plan.P_FILLED] = 0
    row[plan.P_STATE], row[plan.P_SIDE], row[plan.P_TARGET], row[plan.P_SLICE] = state, side, target, done
    row[plan.P_COUNT] = number
    if state == plan.IDLE:
        row[plan.P_NEXT_NS] = starts_ns
    else:
        row[plan.P_START_NS], row[plan.P_NEXT_NS] = starts_ns, t_ns
    desk.arrival[i] = 0.5 * arrival


def recover(desk: TradingDesk, journal: JournalFile, market_key: int, *, fresh: bool = False) -> Recovered:
    """Bring the desk to the state after the last sound record, and the journal to write on behind it.

    The journal is open, the desk new and without a journal. Where no session goes on (the first start, a
    clean stop, another market, `fresh`) the desk is left as it was. The caller then attaches the
    journal, closes interrupted parents, and says what was found.
    """
    poison = _poison(journal)
    snapshot = _newest(journal.folder, desk)
    after = snapshot.sequence if snapshot is not None else 0
    oldest = segment_paths(journal.folder)
    if snapshot is None and oldest:
        after = oldest[0][0] - 1
    pieces = [np.asarray(piece) for piece in read_from(journal.folder, after + 1)]
    sequence = after + sum(len(piece) for piece in pieces)
    pieces = [piece for piece in pieces if len(piece)]
    snapshot, pieces = _since_begin(snapshot, pieces)
    last = int(pieces[-1]["what"][-1]) if pieces else 0
    wanted = snapshot is not None or (pieces and int(pieces[0]["what"][0]) == log.BEGIN)
    same = _market_of(snapshot, pieces) == market_key
    if fresh or last == log.END or not wanted or not same:
        if wanted and not same and last != log.END:
            LOG.warning("the journal is of another market: a fresh session begins")
        return Recovered(sequence=sequence, damaged=journal.go_on(sequence), poison=poison)
    skip = _left_out(pieces, poison)
    if snapshot is not None:
        desk.restore(snapshot.arrays)
    goes_on, records = True, 0
    for piece in pieces:
        used = desk.replay(piece, skip, journal.head)
        records += used
        if used < len(piece):
            if int(piece["what"][used]) != log.GAP:  # the market has changed its mind: this is another one
                LOG.error("the market does not continue as the journal says (record %d)", piece["sequence"][used])
                goes_on = False
            break
    journal.head[log.BUSY] = 0
    damaged = journal.go_on(sequence)
    if poison:
        journal.note(log.SKIP, 0, poison)
    return Recovered(sequence=sequence, goes_on=goes_on, records=records, poison=poison, damaged=damaged)


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
        snapshot = read_snapshot(path, desk.empty_books())
        if snapshot is not None and desk.fits(snapshot.arrays):
            return snapshot
    return None


def _since_begin(
    snapshot: Snapshot | None, pieces: list[log.JournalArray]
) -> tuple[Snapshot | None, list[log.JournalArray]]:
    """Leave out what lies before the last fresh start."""
    for number in range(len(pieces) - 1, -1, -1):
        begins = np.flatnonzero(pieces[number]["what"] == log.BEGIN)
        if len(begins):
            return None, [pieces[number][begins[-1] :], *pieces[number + 1 :]]
    return snapshot, pieces


def _market_of(snapshot: Snapshot | None, pieces: list[log.JournalArray]) -> int:
    if snapshot is not None:
        return snapshot.market_key
    return int(pieces[0]["detail"][0]) if pieces else 0


def _left_out(pieces: list[log.JournalArray], poison: int) -> IntArray:
    """Sequences that killed the engine twice."""
    found = [piece["order_id"][piece["what"] == log.SKIP] for piece in pieces]
    return np.unique(np.concatenate([*found, np.array([poison] if poison else [], dtype=np.int64)]))


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
