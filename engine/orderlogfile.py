"""Order log's file: the ring of order events in memory that engine and console share.

It is longer than the console's blotter needs, so that a console that starts finds what happened
before it, and an engine that replaces another goes on in it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.events import Instrument
from engine.orderlog import EVENTS_KEPT, ORDER_EVENT, WORDS
from metrics.errors import TransientError
from metrics.frame import IntArray

MAGIC: Final = 0x4456_4F52_4452_0001
HEADER_WORDS: Final = 8
_MAGIC, _MARKET, _WRITTEN = range(3)  # words of the header; _MARKET: see `_market_key`
_BYTES: Final = (HEADER_WORDS + EVENTS_KEPT * WORDS) * 8


class OrderLog:
    """The ring's one writer: kernels write `events` (int64 (EVENTS_KEPT, WORDS)) and `events_written` (int64 (1,)).

    A log of the same instruments is gone on with, also after a kill: what was being written is not counted yet.
    """

    def __init__(self, path: Path, instruments: Sequence[Instrument]) -> None:
        key = _market_key(instruments)
        words = _words(path, writable=True)
        if words is None or words[_MARKET] != key:
            words = self._make(path, key)
        self.events: IntArray = words[HEADER_WORDS:].reshape(EVENTS_KEPT, WORDS)
        self.events_written: IntArray = words[_WRITTEN : _WRITTEN + 1]

    def _make(self, path: Path, key: int) -> IntArray:
        temporary = path.with_suffix(f".{os.getpid()}.new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _BYTES)
            words = np.frombuffer(mmap.mmap(descriptor, _BYTES), dtype=np.int64)
        finally:
            os.close(descriptor)
        words[_MAGIC], words[_MARKET] = MAGIC, key
        os.replace(temporary, path)
        return words


@dataclass(frozen=True, eq=False, slots=True)
class LogReading:
    """events: dtype ORDER_EVENT, oldest first, the first of them the log's number `first` (from 0); missed: how many were overwritten before."""

    first: int
    events: npt.NDArray[Any]
    missed: int


class OrderLogReader:
    """Reads the log that another process writes. `log` names the one open: another number where it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._words: IntArray = np.zeros(0, dtype=np.int64)
        self._inode = 0
        self.log = 0

    def follow(self) -> None:
        """Open the log, or the one that has replaced it. TransientError where there is none."""
        try:
            inode = self._path.stat().st_ino
        except OSError:
            inode = 0
        if inode == self._inode and self.log:
            return
        words = _words(self._path, writable=False)
        if words is None:
            raise TransientError(f"no log of orders of this version at {self._path}")
        self._words, self._inode, self.log = words, inode, self.log + 1

    def read(self, after: int, upto: int) -> LogReading:
        """The events from number `after` (from 0) up to `upto`, which is published: complete, unless overwritten since."""
        ring = self._words[HEADER_WORDS:].view(ORDER_EVENT)
        upto = min(upto, int(self._words[_WRITTEN]))  # of another log, where this one has just been replaced
        first = max(after, upto - EVENTS_KEPT)
        events = ring[np.arange(first, max(upto, first)) % EVENTS_KEPT]  # a copy
        # While it was copied the writer went on; the row after the last one counted may be half written.
        whole = min(max(int(self._words[_WRITTEN]) + 1 - EVENTS_KEPT, first), max(upto, first))
        return LogReading(whole, events[whole - first :], max(whole - after, 0))


def _market_key(instruments: Sequence[Instrument]) -> int:
    """A number for what an event's instrument, ticks and lots mean: the same for the same list."""
    text = json.dumps([[row.symbol, row.tick_size_usd, row.lot_size] for row in instruments])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def _words(path: Path, *, writable: bool) -> IntArray | None:
    """The log mapped, as int64 words; None where there is none of this version."""
    try:
        with path.open("r+b" if writable else "rb") as file:
            if os.fstat(file.fileno()).st_size != _BYTES:
                return None
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            words = np.frombuffer(mmap.mmap(file.fileno(), _BYTES, access=access), dtype=np.int64)
    except OSError:
        return None
    return words if words[_MAGIC] == MAGIC else None
