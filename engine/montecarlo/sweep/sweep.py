"""Sweep: have a job's blocks computed, keep the state on disk, and turn the sum into figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.montecarlo.sweep.job import Job, Row
from engine.montecarlo.sweep.state import SweepState
from engine.montecarlo.sweep.workers import Workers
from metrics.errors import DeskvigilError

REPORT_S: Final = 0.5
SAVE_S: Final = 2.0
SAVING_COSTS_AT_MOST: Final = 0.05  # of the time: a large grid's state takes longer to write


@dataclass(frozen=True)
class Progress:
    """How far a sweep has come. resumed: blocks of an earlier run; samples: of this run alone, over seconds."""

    blocks: int
    finished: int
    resumed: int
    samples: int
    seconds: float
    workers_lost: int

    @property
    def complete(self) -> bool:
        return self.finished == self.blocks

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds > 0.0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first block."""
        done = self.finished - self.resumed
        return (self.blocks - self.finished) * self.seconds / done if done else None


def sweep(
    job: Job, workers: Workers, state_file: Path, report: Callable[[Progress], None], stop: Callable[[], bool]
) -> tuple[Progress, list[Row]]:
    """Go on with the job where the state file has got to; the rows are empty where `stop` came first.

    The state is on disk when it returns. DeskvigilError where the job, the file or a worker does not serve.
    """
    state = SweepState.load(state_file, job)
    began, resumed, samples_before, lost_before = time.monotonic(), state.finished, state.samples, state.workers_lost

    def progress() -> Progress:
        state.workers_lost = lost_before + workers.lost
        return Progress(
            job.blocks, state.finished, resumed, state.samples - samples_before, time.monotonic() - began, state.workers_lost
        )  # fmt: skip

    state.save(state_file)  # a disk that refuses is told now, not after an hour
    reported = save_at = began
    try:
        for block, tally in workers.results(job, state.missing(), stop):
            state.add(block, tally)
            now = time.monotonic()
            if now - reported >= REPORT_S:
                report(progress())
                reported = now
            if now >= save_at:
                progress()
                state.save(state_file)
                saved = time.monotonic()
                save_at = saved + max(SAVE_S, (saved - now) / SAVING_COSTS_AT_MOST)
    except DeskvigilError:  # what is in stays in, whatever became of the rest
        progress()
        state.save(state_file)
        raise
    end = progress()
    state.save(state_file)
    report(end)
    return end, [
        row for cell in sorted(state.tallies) for row in job.rows(cell, state.tallies[cell])
    ] if end.complete else []
