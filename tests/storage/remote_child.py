"""A store with a remote store, in a process of its own that a test kills: says on stdout what is durable.

Arguments: folder, URL of the remote store, first number, batch. Frames are a millisecond apart in wall time and
numbered; each line printed is the number of a frame whose commit has returned.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from storage.options import StorageOptions
from storage.store import Store
from tests.storage.conftest import frame, schema

STEP_MS = 10


def main() -> None:
    folder, url, t0_ms, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    options = StorageOptions(url=url, external_labels={"desk": "a"}, remote_retry_max_s=0.2, seal_minutes=1)
    store = Store.open(options, RuntimePaths(folder), SystemClock())
    store.start()
    of = schema("host", "cpu", "disk")
    number = first
    while True:
        store.live.append(frame(of, t0_ms + number * STEP_MS, float(number), float(number % 7)))
        store.archive.flush()
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1
        if number % 100 == 0:
            store.seal(everything=True)
        time.sleep(0.001)


if __name__ == "__main__":
    main()
