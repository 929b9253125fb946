"""Record files: executions as fixed, checksummed records in segments that are only ever appended to.

    FOLDER/00000000000000000001.seg   header | totals | instruments (JSON) | records

A segment is mapped into memory and written by kernels, so a record is in the file the moment it is
written: a killed process loses none. `sync` brings what there is to the disk; the journal's thread calls
it in its group commits, so the machine's own death costs what is younger than the last one. Of that some
may be there and some not: who goes on with a segment keeps what is whole, and recovery writes the rest
again. One stream numbers its records 1, 2, 3, ... over all segments and restarts. A
*run* is one life of the books, from empty to lost; a writer that goes on with a run (after a
recovery, which does the same executions again) leaves out what it has already. The totals are not
the file's to remember: who goes on with a run puts them where the books go on (`put_totals`).
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.events import Instrument
from engine.jit import inline_kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine")

MAGIC: Final = 0x4456_4752_4543_0001
# The header's words.
MAGIC_AT: Final = 0
RECORDS_AT: Final = 1  # word at which the records begin
TEXT_AT: Final = 2
TEXT_BYTES: Final = 3
RUN: Final = 4  # wall-clock ns at which the books' life began
FIRST: Final = 5  # number of the first record
CAPACITY: Final = 6
WRITTEN: Final = 7  # records in this segment
LOST: Final = 8  # records that had no room, since the process started
SESSION: Final = 9  # the session under way
LAST_SESSION: Final = 10  # session and execution of the last record of the run
LAST_EXECUTION: Final = 11
DURABLE: Final = 12  # records of this segment that the disk is known to have
TOTALS_AT: Final = 16
TOTAL_WORDS: Final = 4  # per instrument: position in lots, cash high and low (see engine.account), executions
HEADER_WORDS: Final = 16

# A record: two cache lines.
RECORD: Final = np.dtype(
    [
        ("sequence", np.int64),  # 1, 2, 3, ... in this stream
        ("run", np.int64),
        ("session", np.int64),
        ("execution", np.int64),  # the venue's identification, rising within a session
        ("order_id", np.int64),  # our own order: negative
        ("instrument", np.int64),
        ("side", np.int64),  # +1 we bought, -1 we sold
        ("price", np.int64),  # ticks
        ("qty", np.int64),  # lots
        ("liquidity", np.int64),  # 0: our order rested, 1: it was the aggressor
        ("engine_ns", np.int64),
        ("wall_ns", np.int64),
        ("position", np.int64),  # lots after it, as this writer counts them
        ("cash_high", np.int64),  # tick-lots after it, as this writer counts them
        ("cash_low", np.int64),
        ("checksum", np.int64),
    ]
)
RECORD_WORDS: Final = 16
_R_SEQUENCE, _R_RUN, _R_SESSION, _R_EXECUTION = range(4)
_R_CHECKSUM: Final = 15
_PRIME: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
_SHIFT: Final = np.uint64(29)

SEGMENT_RECORDS: Final = 1 << 14  # 2 MB
ROOM: Final = 1 << 12  # a segment with less room than this is followed by the next one, between two steps
KEPT_SEGMENTS: Final = 128

RecordArray = npt.NDArray[Any]  # dtype RECORD


class RecordFileError(DeskvigilError):
    """A segment cannot be made or read; what the books did is in force all the same."""


# Writing, in kernels. `w` is a whole segment as int64 words.


@inline_kernel
def next_record(w: IntArray, session: int, execution: int) -> int:
    """Word at which the record of an execution goes; 0 where it is there already, or there is no room (counted)."""
    if session < w[LAST_SESSION] or (session == w[LAST_SESSION] and execution <= w[LAST_EXECUTION]):
        return 0
    if w[WRITTEN] >= w[CAPACITY]:
        w[LOST] += 1
        return 0
    at = int(w[RECORDS_AT] + w[WRITTEN] * RECORD_WORDS)
    w[at + _R_SEQUENCE] = w[FIRST] + w[WRITTEN]
    w[at + _R_RUN] = w[RUN]
    w[at + _R_SESSION] = session
    w[at + _R_EXECUTION] = execution
    return at


@inline_kernel
def finish_record(w: IntArray, at: int) -> None:
    """Seal the record that `next_record` began, and count it: from here on readers see it."""
    mixed = _PRIME
    for k in range(_R_CHECKSUM):
        mixed = (mixed ^ np.uint64(w[at + k])) * _PRIME
        mixed ^= mixed >> _SHIFT
    w[at + _R_CHECKSUM] = np.int64(mixed)
    w[LAST_SESSION] = w[at + _R_SESSION]
    w[LAST_EXECUTION] = w[at + _R_EXECUTION]
    w[WRITTEN] += 1


def checksums(records: RecordArray) -> IntArray:
    """What the checksum of each record must be, int64; records: dtype RECORD, shape (n,)."""
    words = np.ascontiguousarray(records).view(np.uint64).reshape(-1, RECORD_WORDS)
    mixed = np.full(len(words), _PRIME)
    for k in range(_R_CHECKSUM):
        mixed = (mixed ^ words[:, k]) * _PRIME
        mixed ^= mixed >> _SHIFT
    return mixed.view(np.int64)


def segments_of(folder: Path) -> list[tuple[int, Path]]:
    """The segments of a stream, oldest first: number of the first record, file. Empty where there are none."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordFileError(f"the records in {folder} cannot be listed: {error}") from error
    return sorted((int(name[:-4]), folder / name) for name in names if name.endswith(".seg") and name[:-4].isdecimal())


class RecordFile:
    """The one writer of a stream; `words` is the segment under way, to be handed to kernels.

    `roll` follows a segment that is nearly full by the next one and deletes the oldest beyond
    KEPT_SEGMENTS. Where no segment can be made, records are not kept but counted as lost.
    """

    def __init__(self, folder: Path | None, instruments: Sequence[Instrument], run_ns: int) -> None:
        """folder None: memory only. run_ns: the run to begin, or to go on with where it is the last one's."""
        self._folder = folder
        self._text = json.dumps([[row.symbol, row.tick_size_usd, row.lot_size] for row in instruments]).encode()
        self._n = len(instruments)
        self._map: mmap.mmap | None = None
        self._descriptor = -1  # of the segment under way
        self._retired: list[int] = []  # those of full ones, to be synced and closed
        self.words: IntArray = self._blank(1, 0 if folder is not None else SEGMENT_RECORDS, run_ns)
        if folder is not None:
            try:
                self._go_on(folder, run_ns)
            except (OSError, RecordFileError) as error:
                LOG.error("executions are not recorded in %s: %s", folder, error)

    @property
    def lost(self) -> int:
        """Records that had no room since the process started."""
        return int(self.words[LOST])

    def begin_session(self, session: int) -> None:
        """From here on executions are of this session; the totals begin anew where it is another one than before."""
        w = self.words
        if int(w[SESSION]) != session:
            w[TOTALS_AT : TOTALS_AT + self._n * TOTAL_WORDS] = 0
            w[SESSION] = session

    def totals(self) -> IntArray:
        """Position, cash high, cash low, executions of the session under way: int64 (instruments, TOTAL_WORDS)."""
        return self.words[TOTALS_AT : TOTALS_AT + self._n * TOTAL_WORDS].reshape(self._n, TOTAL_WORDS).copy()

    def put_totals(self, totals: IntArray) -> None:
        """Go on from these `totals` of the session under way."""
        self.words[TOTALS_AT : TOTALS_AT + self._n * TOTAL_WORDS] = totals.reshape(-1)

    def roll(self) -> bool:
        """Make room if there is little; True where `words` is another array now."""
        w = self.words
        if w[CAPACITY] - w[WRITTEN] >= ROOM:
            return False
        if self._folder is None:  # memory only: begin at its start again
            w[FIRST] += w[WRITTEN]
            w[WRITTEN] = 0
            return False
        if self._map is None:  # it could not be opened: everything is counted as lost
            return False
        try:
            self.words = self._make(self._folder, int(w[FIRST] + w[WRITTEN]), w)
        except OSError as error:
            if w[WRITTEN] >= w[CAPACITY] and w[LOST] == 0:
                LOG.error("no room for further executions in %s: %s", self._folder, error)
            return False
        return True

    def sync(self) -> None:
        """Bring what has been written to the disk; in any thread, one at a time. OSError where the disk refuses."""
        while self._retired:  # the loop only ever appends
            os.fdatasync(self._retired[0])
            os.close(self._retired.pop(0))
        descriptor, w = self._descriptor, self.words  # the loop changes them in the other order
        written = int(w[WRITTEN])
        if descriptor >= 0 and written > w[DURABLE]:
            os.fdatasync(descriptor)
            if self._descriptor == descriptor:
                w[DURABLE] = written

    def close(self) -> None:
        """Write out what there is and let go of the file."""
        if self._map is None:
            return
        try:
            self.sync()
        except OSError as error:
            LOG.error("the newest executions in %s may not be on the disk: %s", self._folder, error.strerror)
        for descriptor in (*self._retired, self._descriptor):
            os.close(descriptor)
        self._map, self._descriptor, self._retired = None, -1, []
        self.words = self.words.copy()

    def _blank(self, first: int, capacity: int, run_ns: int) -> IntArray:
        text_at = HEADER_WORDS + self._n * TOTAL_WORDS
        records_at = -(-(text_at + -(-len(self._text) // 8)) // 512) * 512  # on a page of its own
        words = np.zeros(records_at + capacity * RECORD_WORDS, dtype=np.int64)
        words[MAGIC_AT], words[RECORDS_AT], words[TEXT_AT], words[TEXT_BYTES] = (
            MAGIC,
            records_at,
            text_at,
            len(self._text),
        )
        words[RUN], words[FIRST], words[CAPACITY] = run_ns, first, capacity
        words[text_at:].view(np.uint8)[: len(self._text)] = np.frombuffer(self._text, dtype=np.uint8)
        return words

    def _go_on(self, folder: Path, run_ns: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = segments_of(folder)
        first = 1
        if found:
            number, path = found[-1]
            last = self._map_file(path)
            if last is None:
                aside = path.with_suffix(f".damaged-{time.time_ns()}")
                path.rename(aside)
                LOG.error("%s is not a segment of records; it is kept as %s", path, aside.name)
                first = number + SEGMENT_RECORDS
            elif last[RUN] == run_ns and self._same_instruments(last):
                self._cut(last, found[-2][1] if len(found) > 1 else None)
                self.words = last
                self.words[LOST] = 0
                return
            else:
                first = int(last[FIRST] + last[WRITTEN])
                self._leave(path, last)
        self.words = self._make(folder, first, self.words)

    def _cut(self, w: IntArray, before: Path | None) -> None:
        """Leave out what the machine's death kept from the disk: from the first record on that is not whole.

        What the disk is known to have is not looked at: damage there is somebody else's doing, and is reported.
        """
        first = int(w[RECORDS_AT])
        records = w[first:].view(RECORD)[: int(w[WRITTEN])]
        durable = min(int(w[DURABLE]), len(records))
        newer = records[durable:]
        torn = np.flatnonzero(checksums(newer) != newer["checksum"])
        if not len(torn):
            return
        sound = durable + int(torn[0])
        LOG.warning("%d executions in %s had not reached the disk", len(records) - sound, self._folder)
        w[WRITTEN] = sound
        kept = records[:sound] if sound or before is None else _records_of(before)
        w[LAST_SESSION], w[LAST_EXECUTION] = (kept["session"][-1], kept["execution"][-1]) if len(kept) else (0, 0)

    def _leave(self, path: Path, w: IntArray) -> None:
        """Give back the room that a segment of an earlier run did not use."""
        self._retired.append(self._descriptor)
        self._map, self._descriptor = None, -1
        if w[WRITTEN] == 0:  # nothing happened in it: it makes way for a segment of the same name
            path.unlink()
            return
        w[CAPACITY] = w[WRITTEN]
        os.truncate(path, int(w[RECORDS_AT] + w[WRITTEN] * RECORD_WORDS) * 8)

    def _same_instruments(self, w: IntArray) -> bool:
        text = w[int(w[TEXT_AT]) :].view(np.uint8)[: int(w[TEXT_BYTES])].tobytes()
        return text == self._text

    def _map_file(self, path: Path) -> IntArray | None:
        """The words of a segment, mapped for writing; None where it is not one."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size >= HEADER_WORDS * 8 and size % 8 == 0:
                mapped = mmap.mmap(descriptor, size)
                words = np.frombuffer(mapped, dtype=np.int64)
                records = (len(words) - int(words[RECORDS_AT])) // RECORD_WORDS
                if words[MAGIC_AT] == MAGIC and 0 <= words[WRITTEN] <= words[CAPACITY] == records:
                    self._map, self._descriptor = mapped, descriptor
                    return words
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _make(self, folder: Path, first: int, before: IntArray) -> IntArray:
        """A new segment; it carries on the totals, the session and the losses of `before`."""
        blank = self._blank(first, SEGMENT_RECORDS, int(before[RUN]))
        blank[LOST : LAST_EXECUTION + 1] = before[LOST : LAST_EXECUTION + 1]
        totals = slice(TOTALS_AT, TOTALS_AT + self._n * TOTAL_WORDS)
        blank[totals] = before[totals]
        path = folder / f"{first:020}.seg"
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Room on the disk for all of it now: a mapped page without room would kill the process later.
            os.posix_fallocate(descriptor, 0, blank.nbytes)
            os.pwrite(descriptor, blank[: int(blank[RECORDS_AT])].tobytes(), 0)
            mapped = mmap.mmap(descriptor, blank.nbytes)
            os.rename(temporary, path)
        except OSError:
            os.close(descriptor)
            os.unlink(temporary)
            raise
        if self._descriptor >= 0:
            self._retired.append(self._descriptor)
        self.words = np.frombuffer(mapped, dtype=np.int64)
        self._map, self._descriptor = mapped, descriptor
        for _, oldest in segments_of(folder)[:-KEPT_SEGMENTS]:
            oldest.unlink(missing_ok=True)
        return self.words


def _records_of(path: Path) -> RecordArray:
    """The records of a segment that is not written any more, dtype RECORD."""
    words = np.fromfile(path, dtype=np.int64)
    first = int(words[RECORDS_AT])
    return words[first : first + int(words[WRITTEN]) * RECORD_WORDS].view(RECORD)
