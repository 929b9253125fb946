"""Snapshot: the engine's state after one record of the journal, in one file, so that recovery need not begin at the beginning.

The loop copies its arrays (`TradingDesk.state`); the journal's thread packs and writes them. Of the
books only the blocks are kept that differ from empty ones. A file is complete or not there: it is
synced under another name first, and NumPy's archive carries a CRC of every array.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.journalfile import SNAPSHOT_SUFFIX, snapshot_paths
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine")
BLOCK: Final = 512  # words: a page
KEPT: Final = 2  # the newest may be the one whose writing was cut off by a power failure
_BOOKS, _AT, _SIZE = "books.blocks", "books.at", "books.size"

State = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state after record `sequence`; `arrays` as `TradingDesk.state` gave them, the books under "books"."""

    sequence: int
    market_key: int
    arrays: State


def write_snapshot(folder: Path, snapshot: Snapshot, empty_books: IntArray) -> int:
    """Write one, durable on return, and delete older ones; returns from which record on the oldest kept one is followed.

    empty_books: the words of books to which nothing has happened. OSError where the disk refuses.
    """
    arrays = dict(snapshot.arrays)
    words = arrays.pop("books")
    arrays[_AT], arrays[_BOOKS] = _changed(words, empty_books)
    arrays[_SIZE] = np.array([len(words)])
    arrays["snapshot"] = np.array([snapshot.sequence, snapshot.market_key])
    path = folder / f"{snapshot.sequence + 1:020d}{SNAPSHOT_SUFFIX}"
    temporary = folder / "snapshot.new"
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    paths = snapshot_paths(folder)
    for _, old in paths[:-KEPT]:
        old.unlink(missing_ok=True)
    return paths[-KEPT:][0][0]


def read_snapshot(path: Path, empty_books: IntArray) -> Snapshot | None:
    """Read one; None (and a log line) where it is damaged or of books of another size."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        sequence, market_key = (int(word) for word in arrays.pop("snapshot"))
        at, blocks, size = arrays.pop(_AT), arrays.pop(_BOOKS), int(arrays.pop(_SIZE)[0])
        if size != len(empty_books) or sequence + 1 != int(path.stem):
            raise ValueError("it is of another engine")
        words = empty_books.copy()
        whole = size // BLOCK * BLOCK
        rows = words[:whole].reshape(-1, BLOCK)
        inside = at < len(rows)
        rows[at[inside]] = blocks[inside]
        if not inside.all():
            words[whole:] = blocks[~inside][0][: size - whole]
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        LOG.error("snapshot %s cannot be used: %s", path.name, error)
        return None
    arrays["books"] = words
    return Snapshot(sequence, market_key, arrays)


def newest_snapshots(folder: Path) -> list[Path]:
    """The snapshots' files, newest first."""
    return [path for _, path in reversed(snapshot_paths(folder))]


def _changed(words: IntArray, empty: IntArray) -> tuple[IntArray, IntArray]:
    """Which blocks differ from those of empty books, and their words, shape (n, BLOCK); a short last one is padded."""
    whole = len(words) // BLOCK * BLOCK
    rows = words[:whole].reshape(-1, BLOCK)
    at = np.flatnonzero((rows != empty[:whole].reshape(-1, BLOCK)).any(axis=1))
    blocks = rows[at]
    if (words[whole:] != empty[whole:]).any():
        last = np.zeros((1, BLOCK), dtype=np.int64)
        last[0, : len(words) - whole] = words[whole:]
        at, blocks = np.append(at, whole // BLOCK), np.concatenate([blocks, last])
    return at, blocks
