"""Executions: our own record of our fills, written when the account has booked them.

It stands beside the drop copy (`engine.dropcopy`): same form, another writer, other totals. The ring
of fills in the telemetry block is for the eye; this one is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine import account as acc
from engine.events import Instrument
from engine.jit import inline_kernel
from engine.recordfile import SESSION, RecordFile, finish_record, next_record
from metrics.frame import IntArray

OWN_FOLDER, DROP_COPY_FOLDER = "executions", "dropcopy"


@inline_kernel
def record_execution(
    w: IntArray, ledger: IntArray, execution: int, order_id: int, i: int, side: int, ticks: int, lots: int, taker: int,
    t_ns: int, wall_ns: int,
) -> None:  # fmt: skip
    """Write one own fill that has just been booked; ledger: the account's."""
    at = next_record(w, w[SESSION], execution)
    if at == 0:
        return
    body = w[at + 4 : at + 15]
    body[0], body[1], body[2], body[3], body[4] = order_id, i, side, ticks, lots
    body[5], body[6], body[7] = taker, t_ns, wall_ns
    body[8] = ledger[i, acc.HELD]
    body[9], body[10] = ledger[i, acc.CASH_HIGH], ledger[i, acc.CASH_LOW]
    finish_record(w, at)


class Executions:
    """Both streams of one engine: `own` as we booked them, `copy` as the venue saw them."""

    def __init__(self, folder: Path | None, instruments: Sequence[Instrument], run_ns: int) -> None:
        """folder: of the data, None to keep nothing. run_ns: names the books' life; that of before to go on with it."""
        self.run_ns = run_ns
        self.own = RecordFile(None if folder is None else folder / OWN_FOLDER, instruments, run_ns)
        self.copy = RecordFile(None if folder is None else folder / DROP_COPY_FOLDER, instruments, run_ns)

    def begin_session(self, session: int) -> None:
        """Executions from here on are of this session."""
        self.own.begin_session(session)
        self.copy.begin_session(session)

    def roll(self) -> bool:
        """Make room where there is little; True where one of the arrays has changed."""
        own, copy = self.own.roll(), self.copy.roll()
        return own or copy

    def sync(self) -> None:
        """Bring both to the disk; OSError where it refuses."""
        self.own.sync()
        self.copy.sync()

    def close(self) -> None:
        """Write both out and let go of the files."""
        self.own.close()
        self.copy.close()
