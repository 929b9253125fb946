"""Flood: a client that sends requests faster than the engine serves them, and reads its answers so that it may go on."""

from __future__ import annotations

import numpy as np

from engine.jit import kernel
from engine.mailbox import CANCEL, R_ID, R_PACKED, R_SENT_NS, R_TARGET
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.parking import send
from engine.ring import RECORD_WORDS, pull
from engine.session import OrderSession
from metrics.frame import IntArray
from metrics.paths import RuntimePaths

ANSWERS = 1024


@kernel
def _pour(requests: IntArray, answers: IntArray, record: IntArray, read: IntArray, bell: int, count: int) -> int:
    """Send cancels of orders that there are not, and read what is answered; returns how many fitted in."""
    sent = 0
    for _ in range(count):
        record[R_ID] += 1
        record[R_TARGET] = record[R_ID]
        record[R_SENT_NS] = clock_ns(CLOCK_MONOTONIC)
        if send(requests, record, bell):
            sent += 1
        else:
            record[R_ID] -= 1
            pull(answers, read, 0)
    pull(answers, read, 0)
    return sent


def flood(paths: RuntimePaths) -> None:
    """Attach to the engine that runs on these files and flood it until this process is killed."""
    record, read = np.zeros(RECORD_WORDS, dtype=np.int64), np.zeros((ANSWERS, RECORD_WORDS), dtype=np.int64)
    record[R_PACKED] = CANCEL << 32
    with OrderSession.open(paths, client="flood") as session:
        while True:
            _pour(session._requests, session._answers, record, read, session._bell, 4 * ANSWERS)
