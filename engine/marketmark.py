"""MarketMark: where the market stood when its last events were taken, so that a recovery need not generate the others again.

A mapped file with two places, written in turn. Its pages outlive the process, not the machine: after a
reboot the marks are void and the snapshot's is used.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.journalfile import allocate
from metrics.frame import IntArray

State = Mapping[str, npt.NDArray[Any]]
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_WORDS: Final = 8  # of a place's header: sequence (-1 while it is being written), and the boot's id in two
_SEQUENCE, _BOOT_HIGH, _BOOT_LOW = range(3)


@dataclass(frozen=True, eq=False)
class Mark:
    """The market's state before it gave the events that follow record `sequence`."""

    sequence: int
    state: State


class MarketMark:
    """The file; `like` is a state of the market whose marks it holds. OSError where it cannot be made."""

    def __init__(self, path: Path, like: State) -> None:
        self._shapes = [(name, like[name].dtype, like[name].shape) for name in sorted(like)]
        words = _WORDS + sum(-(-like[name].nbytes // 8) for name, _, _ in self._shapes)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != 16 * words:  # of another market
                os.ftruncate(descriptor, 0)
            allocate(descriptor, 16 * words)
            places = np.frombuffer(mmap.mmap(descriptor, 16 * words), dtype=np.int64).reshape(2, words)
        finally:
            os.close(descriptor)
        self._headers: IntArray = places[:, :_WORDS]
        self._arrays = [self._views(place) for place in places]
        self._boot = _boot_id()
        self._turn = 0

    def save(self, sequence: int, state: State) -> None:
        """Note the state; what was noted before the last time is overwritten."""
        header, arrays = self._headers[self._turn], self._arrays[self._turn]
        header[_SEQUENCE] = -1
        for name, array in arrays.items():
            array[...] = state[name]
        header[_BOOT_HIGH], header[_BOOT_LOW] = self._boot
        header[_SEQUENCE] = sequence
        self._turn = 1 - self._turn

    def newest(self, first: int, last: int) -> Mark | None:
        """The newest mark of this boot from record `first` to `last`, a copy; None where there is none."""
        found = [
            (int(header[_SEQUENCE]), position)
            for position, header in enumerate(self._headers)
            if first <= header[_SEQUENCE] <= last and (header[_BOOT_HIGH], header[_BOOT_LOW]) == self._boot
        ]
        if not found:
            return None
        sequence, position = max(found)
        self._turn = 1 - position
        return Mark(sequence, {name: array.copy() for name, array in self._arrays[position].items()})

    def _views(self, place: IntArray) -> dict[str, npt.NDArray[Any]]:
        views, at = {}, _WORDS
        for name, dtype, shape in self._shapes:
            count = int(np.prod(shape))
            words = -(-count * dtype.itemsize // 8)
            views[name] = place[at : at + words].view(dtype)[:count].reshape(shape)
            at += words
        return views


def _boot_id() -> tuple[int, int]:
    try:
        text = _BOOT.read_text().strip().replace("-", "")
        return int(text[:15], 16), int(text[15:30], 16) | 1
    except (OSError, ValueError):  # no such thing here: no mark is ever believed
        return 0, int.from_bytes(os.urandom(7), "little") | 1
