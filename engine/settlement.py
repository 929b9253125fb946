"""Settlement: what each instrument comes to at the end of a session, written down before the next begins.

One JSON object a line in `settlements.jsonl`; the console copies the lines into its table, later if
it was down. Amounts that must compare exactly (position, cash) are whole numbers: lots and tick-lots.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine import account as acc
from engine.account import Account
from engine.events import Instrument
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine")

_TAIL_BYTES = 1 << 16
MID, LAST_MID, LAST_TRADE, NO_MARK = "mid", "last_mid", "last_trade", "none"


class SettlementError(DeskvigilError):
    """Settlements cannot be written or read; the session is settled all the same."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """One instrument's end of a session.

    run_ns: the books' life; t_ns: wall clock; mark_ticks and where it is from: "mid" (both sides were
    there), "last_mid" (one-sided at the end: the mid before that), "last_trade" (never two-sided),
    "none" (nothing to mark; 0). position, cash: whole lots and tick-lots before the closing at the
    mark; venue_position, venue_cash: the same as the drop copy's totals have it; executions: how many
    the drop copy has. USD figures are the session's; pnl_usd after fees.
    """

    run_ns: int
    session: int
    t_ns: int
    engine_ns: int
    symbol: str
    instrument: int
    mark_ticks: float
    mark_usd: float
    mark_from: str
    position: int
    cash: int
    venue_position: int
    venue_cash: int
    executions: int
    bought: float
    sold: float
    traded_usd: float
    realised_usd: float
    unrealised_usd: float
    fees_usd: float
    pnl_usd: float


def closing_mark(mark: float, two_sided: bool, last_price: int) -> tuple[float, str]:
    """The price (ticks) at which a session closes, and where it is from. mark: the last mid, NaN before the first."""
    if not np.isnan(mark):
        return mark, MID if two_sided else LAST_MID
    return (float(last_price), LAST_TRADE) if last_price > 0 else (0.0, NO_MARK)


def settle(
    account: Account,
    instruments: Sequence[Instrument],
    two_sided: Sequence[bool],
    last_prices: Sequence[int],
    venue: IntArray,
    *,
    run_ns: int,
    session: int,
    t_ns: int,
    engine_ns: int,
) -> list[Settlement]:
    """Mark every instrument, write down what it comes to, and close the account; one record per instrument.

    two_sided, last_prices (ticks, 0 for none): of each book at the end; venue: the drop copy's totals,
    int64 (instruments, TOTAL_WORDS). An instrument that was never marked gets its last trade's price.
    """
    rows, records = account.rows, []
    for i, instrument in enumerate(instruments):
        mark, source = closing_mark(float(rows[i, acc.MARK]), two_sided[i], last_prices[i])
        if source == LAST_TRADE:
            rows[i, acc.MARK] = mark
        unrealised = float(acc.unrealised_usd(rows, i))
        realised, fees = float(rows[i, acc.REALISED]), float(rows[i, acc.FEES])
        position, high, low, executions = venue[i].tolist()
        records.append(
            Settlement(
                run_ns=run_ns,
                session=session,
                t_ns=t_ns,
                engine_ns=engine_ns,
                symbol=instrument.symbol,
                instrument=i,
                mark_ticks=mark,
                mark_usd=mark * instrument.tick_size_usd,
                mark_from=source,
                position=int(account.ledger[i, acc.HELD]),
                cash=account.cash(i),
                venue_position=position,
                venue_cash=high * (1 << acc.LIMB_BITS) + low,
                executions=executions,
                bought=float(rows[i, acc.BOUGHT]) * instrument.lot_size,
                sold=float(rows[i, acc.SOLD]) * instrument.lot_size,
                traded_usd=float(rows[i, acc.VALUE]),
                realised_usd=realised,
                unrealised_usd=unrealised,
                fees_usd=fees,
                pnl_usd=realised + unrealised - fees,
            )
        )
    account.settle()
    return records


def _place(record: Settlement) -> tuple[int, int]:
    return record.session, record.instrument


class SettlementFile:
    """The engine's end: appends. One writer; path None keeps nothing.

    grouped: somebody calls `sync` from time to time, as the journal's thread does in its group commits; else each
    `write` does. A killed process loses nothing either way.
    """

    def __init__(self, path: Path | None, grouped: bool = False) -> None:
        self._path = path
        self._grouped = grouped
        self._unsynced = False

    def sync(self) -> None:
        """Bring what has been written to the disk; in any thread. OSError where it refuses."""
        if self._path is None or not self._unsynced:
            return
        self._unsynced = False  # before: what is written meanwhile is for the next time
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            self._unsynced = True
            raise

    def write(self, records: Sequence[Settlement]) -> bool:
        """Append the records of one session, all at once; False (and a log line) where that fails."""
        if self._path is None:
            return True
        data = b"".join(json.dumps(asdict(record), separators=(",", ":")).encode() + b"\n" for record in records)
        try:
            self._append(self._path, data)
        except OSError as error:
            LOG.error("the settlement of a session is not in %s: %s", self._path, error)
            return False
        return True

    def write_missing(self, records: Sequence[Settlement]) -> bool:
        """Append those of the records, in the order of their sessions, that the file does not have: a kill may have come between a settlement and its line."""
        if self._path is None or not records:
            return True
        last = _newest(self._path)
        if last is not None:
            records = [record for record in records if record.run_ns != last.run_ns or _place(record) > _place(last)]
        return self.write(records) if records else True

    def _append(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            if end and os.pread(descriptor, 1, end - 1) != b"\n":
                data = b"\n" + data  # a crash left half a line: it is skipped when read, and does not spoil this one
            try:
                if os.pwrite(descriptor, data, end) != len(data):
                    raise OSError("the disk is full")
                if not self._grouped:
                    os.fdatasync(descriptor)
                self._unsynced = self._grouped
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)


def _newest(path: Path) -> Settlement | None:
    """The newest sound line; None where there is none."""
    size = path.stat().st_size if path.exists() else 0
    for offset in (max(size - _TAIL_BYTES, 0), 0):  # the end of a long file is enough, unless it is damaged
        records, _, _ = read_settlements(path, offset)
        if records:
            return records[-1]
    return None


def read_settlements(path: Path, offset: int = 0) -> tuple[list[Settlement], list[int], int]:
    """The settlements from a byte of the file on: records, offsets of malformed lines, and the offset to go on from.

    A line that is being written is left for the next time; nothing where there is no file. A file
    shorter than `offset` is another one and read from its beginning. Raises SettlementError where it
    cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = offset if offset <= size else 0
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return [], [], offset
    except OSError as error:
        raise SettlementError(f"the settlements {path} cannot be read: {error}") from error
    content = content[: content.rfind(b"\n") + 1]
    records, malformed, at = [], [], start
    for line in content.splitlines(keepends=True):
        try:
            records.append(Settlement(**json.loads(line)))
        except (ValueError, TypeError):
            malformed.append(at)
        at += len(line)
    return records, malformed, start + len(content)
