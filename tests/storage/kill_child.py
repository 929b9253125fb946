"""The child of test_kill: stores frames as fast as it can, seals beside it, and says on stdout what is durable."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np

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


def main(folder: str, start_ms: int) -> None:
    clock = ManualClock(start_ms * 1_000_000)
    store = Store.open(StorageOptions(seal_minutes=1, ring_frames=64), RuntimePaths(Path(folder)), clock)
    store.archive.on_commit(lambda committed: say("".join(f"{name} {t}\n" for name, t in committed)))
    schemas = [Schema(c, tuple(Series(f"{c}_{row}") for row in range(SERIES))) for c in COLLECTORS]
    threading.Thread(target=seal, args=(store,), daemon=True).start()
    while True:
        t_ms = clock.now_ns() // 1_000_000
        for schema in schemas:
            values = np.array([value(t_ms, row) for row in range(SERIES)])
            store.live.append(Frame(schema, clock.now_ns(), values))
        clock.advance(1_000_000_000)
        store.archive.tick(clock.now_ns())
        if t_ms // 1000 % 7 == 0:
            store.ingest([Series("pushed")], [np.array([t_ms])], [np.array([value(t_ms, 2)])])
            say(f"pushed {t_ms}\n")


def seal(store: Store) -> None:
    while True:
        store.archive.due.wait()
        store.archive.due.clear()
        store.seal(everything=True)


def say(lines: str) -> None:
    os.write(1, lines.encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
