"""One run of the engine over a market in simulated time: every parent order that it finished, and what was refused."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import counters as at
from engine.algos.finished import FINISHED
from engine.desk import TradingDesk
from engine.gates import Reason
from engine.market import Market
from engine.options import EngineOptions
from engine.publisher import Publisher
from metrics.errors import DeskvigilError

NS = 1_000_000_000
STEP_NS = NS // 2
# Monotonic time that the machine's clock never reaches: nothing is ever late, so nothing depends on the machine.
ORIGIN_NS = 1 << 60


@dataclass(frozen=True, eq=False)
class Run:
    """parents: dtype FINISHED, in the order in which they ended; submitted: orders handed to the gates;
    rejected: how many of them were refused, by reason; seconds: simulated."""

    parents: npt.NDArray[Any]
    submitted: int
    rejected: dict[str, int]
    seconds: float


def run(market: Market, options: EngineOptions, seconds: float) -> Run:
    """Trade on a fresh market from its start for so long (simulated), or to its end.

    Raises DeskvigilError where more parents finish in a step than the engine's ring keeps.
    """
    with tempfile.TemporaryDirectory() as folder:
        publisher = Publisher(Path(folder) / "run.block", market.instruments, {})
        desk = TradingDesk(options, market, publisher)
        desk.start_session(ORIGIN_NS, 0)
        parts: list[npt.NDArray[Any]] = []
        read = elapsed_ns = 0
        until_ns = min(round(seconds * NS), market.end_ns - market.start_ns)
        while elapsed_ns < until_ns:
            elapsed_ns = min(elapsed_ns + STEP_NS, until_ns)
            now_ns = ORIGIN_NS + elapsed_ns
            # A step does a bounded number of events; past a tape's last one it has nothing left to be due.
            while desk.step(now_ns) <= now_ns and not desk.session_is_over(now_ns):
                pass
            written = int(publisher.parents_written[0])
            if written - read > len(publisher.parents):
                raise DeskvigilError(
                    f"{written - read} parents finished in one step, the ring keeps {len(publisher.parents)}"
                )
            parts.append(publisher.parents[np.arange(read, written) % len(publisher.parents)].copy())
            read = written
        counts = desk.counts
        rejected = {r.label: int(counts[at.REJECTED_FOR + r]) for r in Reason if counts[at.REJECTED_FOR + r]}
        return Run(
            parents=np.concatenate([np.zeros(0, dtype=FINISHED), *parts]),
            submitted=int(counts[at.SUBMITTED_PARENT] + counts[at.SUBMITTED_MAKER]),
            rejected=rejected,
            seconds=until_ns / NS,
        )
