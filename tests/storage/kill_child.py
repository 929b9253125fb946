"""The child of test_kill: stores frames as fast as it can, seals beside it, and says on stdout what is durable.

Lines are `collector t_ms` for what a commit has returned for, and `@phase` for where a seal is: begin,
encode, insert, inserted (its transaction is open still), end. Each is one write to a pipe, so the
parent knows from the last mark in which phase this process died.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import storage.archive
import storage.ingest
from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series
from storage.options import StorageOptions
from storage.store import Store

COLLECTORS = ("one", "two", "three")
SERIES = 40


def value(t_ms: int, row: int) -> float:
    """What a sample must be, so that the witness can check it."""
    return (t_ms // 1000 % 977) * (row % 3) + row


def values(t_ms: np.ndarray, row: int) -> np.ndarray:
    """`value` for many instants."""
    return (t_ms // 1000 % 977) * (row % 3) + float(row)


def main(folder: str, start_ms: int) -> None:
    clock = ManualClock(start_ms * 1_000_000)
    for module in (storage.archive, storage.ingest):
        mark(module, "seal", before="@encode")
        mark(module, "insert_sealed", before="@insert", after="@inserted")
    store = Store.open(StorageOptions(seal_minutes=1, ring_frames=64), RuntimePaths(Path(folder)), clock)
    store.archive.on_commit(lambda committed: say("".join(f"{name} {t}\n" for name, t in committed)))
    schemas = [Schema(c, tuple(Series(f"{c}_{row}") for row in range(SERIES))) for c in COLLECTORS]
    threading.Thread(target=seal, args=(store,), daemon=True).start()
    while True:
        t_ms = clock.now_ns() // 1_000_000
        for schema in schemas:
            frame = np.array([value(t_ms, row) for row in range(SERIES)])
            store.live.append(Frame(schema, clock.now_ns(), frame))
        clock.advance(1_000_000_000)
        store.archive.tick(clock.now_ns())
        if t_ms // 1000 % 7 == 0:
            store.ingest([Series("pushed")], [np.array([t_ms])], [np.array([value(t_ms, 2)])])
            say(f"pushed {t_ms}\n")


def mark(module: ModuleType, name: str, before: str, after: str = "") -> None:
    """Have a function of a module say when it is called."""
    inner: Callable[..., Any] = getattr(module, name)

    def marked(*args: Any, **kwargs: Any) -> Any:
        say(f"{before}\n")
        result = inner(*args, **kwargs)
        if after:
            say(f"{after}\n")
        return result

    setattr(module, name, marked)


def seal(store: Store) -> None:
    while True:
        store.archive.due.wait()
        store.archive.due.clear()
        say("@begin\n")
        store.seal(everything=True)
        say("@end\n")


def say(lines: str) -> None:
    os.write(1, lines.encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
