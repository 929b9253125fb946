"""State: how far a sweep has come, in one file that a kill at any moment leaves whole.

The first line is the SHA-256 of the rest, a JSON object: the job's fingerprint, which blocks are in, how many workers
were lost, and each cell's tally. It is synced under another name and then renamed, so there is always an old one or a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from engine.montecarlo.sweep.job import Job
from engine.montecarlo.sweep.tally import BlockTally, Tally
from metrics.errors import DeskvigilError

FORMAT = 1


class SweepState:
    """The blocks of a job that are in, and their sum."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._finished: set[int] = set()
        self.tallies: dict[int, Tally] = {}
        self.workers_lost = 0

    @property
    def finished(self) -> int:
        return len(self._finished)

    @property
    def samples(self) -> int:
        """How many samples the finished blocks have."""
        return sum(tally.samples for tally in self.tallies.values())

    def missing(self) -> list[int]:
        """Blocks that are still to be computed, in their order."""
        return [block for block in range(self._job.blocks) if block not in self._finished]

    def add(self, block: int, tally: BlockTally) -> None:
        """Take a block in; one that is in already changes nothing."""
        if block in self._finished:
            return
        cell, _, _ = self._job.place(block)
        self.tallies.setdefault(cell, Tally(self._job.columns)).add(tally)
        self._finished.add(block)

    def save(self, path: Path) -> None:
        """Write it, durable on return. DeskvigilError where the disk refuses."""
        said = {
            "format": FORMAT, "job": self._job.fingerprint(), "finished": _ranges(sorted(self._finished)),
            "workers_lost": self.workers_lost,
            "tallies": {str(cell): tally.state() for cell, tally in self.tallies.items()},
        }  # fmt: skip
        body = json.dumps(said, separators=(",", ":")).encode()
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DeskvigilError(f"the sweep's state {path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path, job: Job) -> SweepState:
        """Read it; a new one where there is no file. DeskvigilError where it is damaged or another job's."""
        state = cls(job)
        try:
            checksum, _, body = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return state
        except OSError as error:
            raise DeskvigilError(f"the sweep's state {path} cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            raise DeskvigilError(f"{path} is damaged, or no state of a sweep: remove it to begin anew")
        said = json.loads(body)
        if said["format"] != FORMAT or said["job"] != job.fingerprint():
            raise DeskvigilError(
                f"{path} is the state of another job (or of another version of the program): "
                "give that job again, remove the file to begin anew, or name another with --state"
            )
        state.workers_lost = said["workers_lost"]
        state._finished = {block for first, last in said["finished"] for block in range(first, last + 1)}
        state.tallies = {int(cell): Tally.from_state(tally) for cell, tally in said["tallies"].items()}
        return state


def _ranges(rising: Iterable[int]) -> list[list[int]]:
    """Rising numbers as ranges [first, last]."""
    ranges: list[list[int]] = []
    for number in rising:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
