"""What the anomaly detector costs: one sample of one series, and of each of many series of one frame."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from alerts.detectors.bank import Bank
from validation.figure import Figure

SAMPLES = 3000  # all of them past the point from which the whole past is looked through
MANY = 500
ROUNDS = 40
LIMIT_US = 50.0
PEERS = "no comparable figure: Prometheus and netdata have none a sample"


def measure(say: Callable[[str], None]) -> list[Figure]:
    """The figures for `app.py bench detectors`: medians, microseconds of CPU time a sample."""
    random = np.random.default_rng(1)
    one, many = Bank(), Bank()
    one.hold(1)
    many.hold(MANY)
    one.replay(np.arange(2000.0), random.normal(0, 1, 2000), 0)
    for row in range(MANY):
        many.replay(np.arange(1200.0), random.normal(0, 1, 1200), row)
    say("detectors: warm")
    figures = []
    for what, bank, rows, rounds in (
        ("one series", one, np.zeros(1, np.int64), SAMPLES),
        (f"{MANY} series of a frame", many, np.arange(MANY), ROUNDS),
    ):
        took = []
        for at in range(rounds):
            values = random.normal(0, 1, len(rows))
            began_ns = time.thread_time_ns()
            bank.observe(2000.0 + at, values, rows)
            took.append((time.thread_time_ns() - began_ns) / 1e3 / len(rows))
        for name, value in (("p50", np.median(took)), ("p99", np.quantile(took, 0.99))):
            figures.append(
                Figure(
                    benchmark="detectors",
                    what=f"anomaly, {what}, a sample, {name}",
                    value=float(value),
                    unit="us",
                    limit=LIMIT_US if name == "p50" else None,
                    peer=PEERS,
                )
            )
    return figures
