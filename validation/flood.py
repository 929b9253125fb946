"""Clients that send requests without an end: as fast as they can, or so many a second; answers are read so that they may go on."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import numpy as np

from engine.jit import kernel
from engine.mailbox import CANCEL, R_ID, R_PACKED, R_SENT_NS, R_TARGET
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from engine.parking import send
from engine.ring import RECORD_WORDS, pull
from engine.session import OrderSession
from metrics.frame import IntArray
from metrics.paths import RuntimePaths
from resources.process import sleep_exactly

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


@kernel
def _send_orders(requests: IntArray, answers: IntArray, record: IntArray, read: IntArray, bell: int, count: int) -> int:
    """Send an order so many times, each with a number of its own, and read what is answered; returns how many fitted in."""
    sent = 0
    for _ in range(count):
        record[R_ID] += 1
        record[R_SENT_NS] = clock_ns(CLOCK_MONOTONIC)
        if not send(requests, record, bell):
            record[R_ID] -= 1
            break
        sent += 1
    while pull(answers, read, 0) == read.shape[0]:
        pass
    return sent


def paced(paths: RuntimePaths, symbol: str, price: float, per_s: int, started: Connection) -> None:
    """Send immediate-or-cancel orders that do not trade, `per_s` a second in bursts of a millisecond's, until killed."""
    read = np.zeros((ANSWERS, RECORD_WORDS), dtype=np.int64)
    sleep_exactly()
    with OrderSession.open(paths, client="paced") as session:
        session.send(symbol, "buy", 1, price, kind="ioc")  # the session's record is that order now
        record = session._record
        record[R_ID] = session._last_id
        _send_orders(session._requests, session._answers, record, read, session._bell, 0)
        started.send("ready")
        began, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * per_s)
            sent += _send_orders(session._requests, session._answers, record, read, session._bell, due - sent)
            time.sleep(0.001)
