"""JournalFile: the segments of the journal on disk, and the thread that keeps the disk out of the loop's way.

A segment is a preallocated file of records, named after its first sequence. The loop only ever writes
memory; the thread syncs it, prepares the next segment before it is needed, writes snapshots, and
deletes the oldest segments. One engine owns a journal: its folder is locked.

    journal/
        head                            which record is being carried out, see `engine.journal`
        00000000000000000001.journal    records 1 ...
        00000000000000131073.snapshot   the engine's state after record 131072, see `engine.snapshot`
            market                          where the market stood, see `engine.marketmark`
        next.journal                    prepared, not in use yet
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from engine import journal as log
from engine.options import JournalOptions
from metrics.errors import DeskvigilError
from metrics.frame import IntArray
from resources.pages import touch

LOG = logging.getLogger("deskvigil.engine")
SUFFIX: Final = ".journal"
SNAPSHOT_SUFFIX: Final = ".snapshot"
NEXT: Final = "next.journal"
FRESH: Final = "fresh"  # a file of this name: the next start begins a fresh session (`app.py run --fresh` makes it)
RECORD_BYTES: Final = log.RECORD.itemsize
RESERVE: Final = 80_000  # what one step may write: `desk.STEPS` kernel calls of 4096 events, 8 requests each at worst
RETRY_S: Final = 0.5  # between attempts to prepare a segment on a full disk
# All pages mapped by the one call: a fault for every few of them costs more than reading what is in them.
_AT_ONCE: Final = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


class JournalError(DeskvigilError):
    """The journal is another engine's, or cannot be read."""


@dataclass(frozen=True, eq=False)
class Segment:
    """One mapped segment: its file and its records as int64 (n, WORDS)."""

    path: Path
    descriptor: int
    words: IntArray

    def close(self) -> None:
        """Let go of the file; the mapping goes with its last user."""
        os.close(self.descriptor)


def segment_paths(folder: Path) -> list[tuple[int, Path]]:
    """First sequence and path of each segment, oldest first."""
    return sorted((int(path.stem), path) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())


def snapshot_paths(folder: Path) -> list[tuple[int, Path]]:
    """Sequence of the next record and path of each snapshot, oldest first."""
    return sorted((int(path.stem), path) for path in folder.glob(f"*{SNAPSHOT_SUFFIX}") if path.stem.isdigit())


def read_segment(path: Path) -> log.JournalArray:
    """A segment's records (dtype RECORD), read-only, sound or not. A part of a record at its end is left out."""
    with path.open("rb") as file:
        records = os.fstat(file.fileno()).st_size // RECORD_BYTES
        if not records:
            return np.zeros(0, log.RECORD)
        mapped = mmap.mmap(file.fileno(), records * RECORD_BYTES, _AT_ONCE, mmap.PROT_READ)
    return np.frombuffer(mapped, log.RECORD)


def read_from(folder: Path, sequence: int) -> Iterator[log.JournalArray]:
    """The sound records from `sequence` on, in pieces (dtype RECORD); ends before the first that is not sound."""
    for first, path in segment_paths(folder):
        records = read_segment(path)
        if first + len(records) <= sequence or first > sequence:
            continue
        found = log.sound_records(log.as_words(np.asarray(records)), sequence - first, sequence)
        if found:
            yield records[sequence - first : sequence - first + found]
            sequence += found


class JournalFile:
    """The running engine's journal. `words` and `head` are what the kernels write.

    `open` locks the folder; `go_on` says where to write; `make_room` is called before each step.
    `is_full` where no segment can be prepared: no order may be sent then. Methods are for the loop's
    thread; the journal's own thread runs between `start` and `close`.
    """

    def __init__(self, folder: Path, options: JournalOptions) -> None:
        self.folder = folder
        self._records = max(options.segment_mb << 20, 2 * RESERVE * RECORD_BYTES) // RECORD_BYTES
        self._retain_bytes, self._min_free_bytes = options.retain_mb << 20, options.min_free_mb << 20
        self._sync_s = options.sync_s
        self.words, self.head = log.no_journal()
        self.problem = ""
        self._lock = -1
        self._current: Segment | None = None
        self._next: Segment | None = None
        self._retired: list[Segment] = []
        self._kept_from = 0  # records from here on are needed to recover
        self._job: Callable[[], int] | None = None
        self._followers: Sequence[Callable[[], None]] = ()
        self._retry_at = 0.0
        self._woken = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def sequence(self) -> int:
        """The last record's sequence."""
        return int(self.head[log.SEQUENCE])

    @property
    def durable(self) -> int:
        """Up to where the disk has it: power may fail without losing these."""
        return int(self.head[log.DURABLE])

    @property
    def is_full(self) -> bool:
        """Whether records have been lost, or soon will be."""
        return len(self.words) - int(self.head[log.SLOT]) < RESERVE and self._next is None

    @property
    def is_busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._job is not None

    def open(self) -> None:
        """Lock the folder and map the head; JournalError where another engine has it or it cannot be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.head = _map_head(self.folder / "head")
        except OSError as error:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise JournalError(f"the journal {self.folder} is in use by another engine") from None
            raise JournalError(f"the journal {self.folder} cannot be opened: {error.strerror}") from error

    def go_on(self, sequence: int) -> int:
        """Write on after record `sequence`; what lies behind it is put aside where it is sound, else wiped.

        Returns how many sound records were put aside: 0 unless something was damaged before them.
        """
        left = 0
        for first, path in reversed(segment_paths(self.folder)):
            if first > sequence + 1:
                left += self._put_aside(path, 0)
                path.unlink()
                continue
            slot = sequence + 1 - first
            whole = path.stat().st_size == self._records * RECORD_BYTES and slot < self._records
            if whole:
                self._current = self._map(path)
                self.words = self._current.words
                self.head[log.SLOT] = slot
            rest = self.words[slot:] if whole else log.as_words(read_segment(path)[slot:])
            if rest[:, log.W_SEQUENCE].any():  # a record without a sequence is none, so looking at those is enough
                left += self._put_aside(path, slot)
                if whole:
                    rest[:] = 0  # or an old record might one day fit behind a new one
            break
        self.head[log.SEQUENCE] = sequence
        self.head[log.DURABLE] = self.head[log.LOST] = 0
        if self._current is None:
            self._prepare()
            self._turn()
        return left

    def sync_too(self, followers: Sequence[Callable[[], None]]) -> None:
        """What every group commit also brings to the disk, after the journal itself. They raise OSError where it refuses."""
        self._followers = followers

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Bring everything to the disk, stop the thread, and unlock the folder."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
            self._thread = None
        self._sync()
        for segment in filter(None, (self._current, self._next)):
            segment.close()
        self._current = self._next = None
        self.words = log.no_journal()[0]
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def make_room(self) -> bool:
        """See to it that a step finds room; True where `words` is another array than before."""
        if len(self.words) - int(self.head[log.SLOT]) >= RESERVE or self._next is None:
            return False
        lost = int(self.head[log.LOST])
        self._turn()
        if lost:
            self.head[log.LOST] = 0
            self.note(log.GAP, 0, lost)
        return True

    def note(
        self, what: int, t_ns: int, order_id: int = 0, price: int = 0, qty: int = 0, instrument: int = 0,
        kind: int = 0, detail: int = 0,
    ) -> None:  # fmt: skip
        """Write a record that changes no book."""
        log.note(self.words, self.head, what, t_ns, order_id, price, qty, instrument, kind, detail)

    def run_soon(self, job: Callable[[], int]) -> None:
        """Let the thread do a job (write a snapshot); it returns from which record on the journal must be kept."""
        self._job = job
        self._woken.set()

    def _turn(self) -> None:
        """Go over to the prepared segment."""
        if self._next is None:
            return
        path = self.folder / f"{self.sequence + 1:020d}{SUFFIX}"
        os.replace(self._next.path, path)
        if self._current is not None:
            self._retired.append(self._current)
        self._current, self._next = Segment(path, self._next.descriptor, self._next.words), None
        self.words = self._current.words
        self.head[log.SLOT] = 0
        self._woken.set()

    def _map(self, path: Path) -> Segment:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = self._records * RECORD_BYTES
            allocate(descriptor, size)
            words = np.frombuffer(mmap.mmap(descriptor, size, _AT_ONCE), dtype=np.int64).reshape(-1, log.WORDS)
        except BaseException:
            os.close(descriptor)
            raise
        return Segment(path, descriptor, words)

    def _prepare(self) -> None:
        """Make the next segment, every page of it allocated and in memory."""
        path = self.folder / NEXT
        try:
            free = shutil.disk_usage(self.folder).free
            if free < self._min_free_bytes + self._records * RECORD_BYTES:
                raise OSError(errno.ENOSPC, f"only {free >> 20} MB are free")
            path.unlink(missing_ok=True)
            segment = self._map(path)
        except OSError as error:
            path.unlink(missing_ok=True)
            self.problem = f"no room for the journal in {self.folder}: {error.strerror}"
            self._retry_at = time.monotonic() + RETRY_S
            return
        touch(segment.words)
        self.problem = ""
        self._next = segment

    def _run(self) -> None:
        if self._current is not None:
            touch(self._current.words)
        while not self._stopping:
            self._woken.wait(self._sync_s)
            self._woken.clear()
            self._sync()
            if self._next is None and time.monotonic() >= self._retry_at:
                self._prepare()
            if self._job is not None:
                self._kept_from = max(self._kept_from, self._job())
                self._job = None
                self._forget()

    def _sync(self) -> None:
        """One group commit: everything written so far."""
        reached = self.sequence
        if self._current is None:
            return
        try:
            if reached != self.durable:
                segments, current = self._retired, self._current
                self._retired = []
                for segment in segments:
                    os.fdatasync(segment.descriptor)
                    segment.close()
                os.fdatasync(current.descriptor)
                self.head[log.DURABLE] = reached
            for sync in self._followers:
                sync()
        except OSError as error:
            problem = f"the journal in {self.folder} cannot be synced: {error.strerror}"
            if problem != self.problem:
                LOG.error("%s", problem)
            self.problem = problem

    def _forget(self) -> None:
        """Delete the oldest segments beyond the limit, never one that a recovery needs."""
        segments = segment_paths(self.folder)
        total = len(segments) * self._records * RECORD_BYTES
        for (_, path), (after, _) in pairwise(segments):
            if total <= self._retain_bytes or after > self._kept_from:
                break
            path.unlink(missing_ok=True)
            total -= self._records * RECORD_BYTES

    def _put_aside(self, path: Path, slot: int) -> int:
        """Keep a copy of a segment that holds sound records behind the end of the journal; returns how many."""
        count = int(log.sound_anywhere(log.as_words(np.asarray(read_segment(path))), slot))
        if count:
            shutil.copyfile(path, path.with_suffix(f".damaged-{time.time_ns()}"))
        return count


def _map_head(path: Path) -> IntArray:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        allocate(descriptor, log.HEAD_WORDS * 8)
        return np.frombuffer(mmap.mmap(descriptor, log.HEAD_WORDS * 8), dtype=np.int64)
    finally:
        os.close(descriptor)


def allocate(descriptor: int, size: int) -> None:
    """Have room on the disk for a file's first `size` bytes; OSError where there is none.

    Asking again for what is there already may wait for the file system's own journal, and a start waits with it.
    """
    there = os.fstat(descriptor)
    if there.st_size < size or there.st_blocks * 512 < size:
        os.posix_fallocate(descriptor, 0, size)
