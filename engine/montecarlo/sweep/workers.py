"""Workers: who computes a sweep's blocks. Processes of this machine, or a Ray cluster; both run `BlockWorker.tally`.

A worker that dies takes its block with it; the block is given to another one, until it has ended MOST_DEATHS of them.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, Protocol, cast

from engine.montecarlo.sweep.job import Job
from engine.montecarlo.sweep.tally import BlockTally
from metrics.errors import DeskvigilError

LOG = logging.getLogger("deskvigil.sweep")
MOST_DEATHS: Final = 3
LOOK_S: Final = 0.25  # how long a stop may go unseen
IN_FLIGHT: Final = 2  # blocks that a worker of a cluster has or that wait for it, so that it never waits for us
PROGRAM: Final = Path(__file__).resolve().parents[3]

Answer = tuple[int, BlockTally]


class Workers(Protocol):
    """Computes blocks and hands their tallies over in any order, until all are done or `stop` says so."""

    lost: int

    def results(self, job: Job, blocks: Sequence[int], stop: Callable[[], bool]) -> Iterator[Answer]: ...


class _Blocks:
    """The blocks that wait, and how many workers each has ended."""

    def __init__(self, blocks: Sequence[int]) -> None:
        self._waiting = deque(blocks)
        self._deaths: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> int:
        return self._waiting.popleft()

    def again(self, block: int, how: str) -> None:
        """Put back the block of a worker that died. DeskvigilError where it has ended too many."""
        deaths = self._deaths[block] = self._deaths.get(block, 0) + 1
        if deaths >= MOST_DEATHS:
            raise DeskvigilError(f"block {block} has ended {deaths} workers, the last one {how}")
        LOG.warning("a worker died %s; its block %d is given to another", how, block)
        self._waiting.appendleft(block)


class LocalWorkers:
    """Processes of this machine."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self.lost = 0

    def results(self, job: Job, blocks: Sequence[int], stop: Callable[[], bool]) -> Iterator[Answer]:
        """See Workers. Whatever ends it, its processes have ended by then."""
        waiting = _Blocks(blocks)
        busy: dict[Connection, tuple[BaseProcess, int]] = {}
        try:
            for _ in range(min(self._workers, len(waiting))):
                _give(_start(job), waiting.take(), busy)
            while busy and not stop():
                for pipe in cast("list[Connection]", wait(list(busy), LOOK_S)):
                    process, block = busy.pop(pipe)
                    try:
                        answer = pipe.recv()
                    except (EOFError, OSError):
                        process.join()
                        pipe.close()
                        self.lost += 1
                        waiting.again(block, f"with exit status {process.exitcode}")
                        _give(_start(job), waiting.take(), busy)
                        continue
                    if isinstance(answer, str):
                        busy[pipe] = process, block
                        raise DeskvigilError(answer)
                    if len(waiting):
                        _give((process, pipe), waiting.take(), busy)
                    else:
                        pipe.close()
                        process.join()
                    yield block, answer
        finally:
            for pipe, (process, _) in busy.items():
                process.kill()
                process.join()
                pipe.close()


def _start(job: Job) -> tuple[BaseProcess, Connection]:
    """A new worker; Ctrl-C is its parent's business, who ends it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs, job), name="sweep", daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return process, ours


def _give(worker: tuple[BaseProcess, Connection], block: int, busy: dict[Connection, tuple[BaseProcess, int]]) -> None:
    process, pipe = worker
    busy[pipe] = process, block
    try:
        pipe.send(block)
    except OSError:  # it has just died: reading from it will tell
        LOG.debug("a worker died before it was given block %d", block)


def _work(pipe: Connection, job: Job) -> None:
    """A worker's whole life: blocks in, tallies out, until nobody asks any more."""
    worker = None
    with closing(pipe):
        while True:
            try:
                block = pipe.recv()
                worker = worker or job.worker()
                pipe.send(worker.tally(block))
            except DeskvigilError as error:
                pipe.send(str(error))
            except (EOFError, BrokenPipeError):
                return


class RayWorkers:
    """A Ray cluster, or with no address one of this machine alone. The program's files travel with the job."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        try:
            import ray
        except ImportError:
            raise DeskvigilError(
                "Ray is not installed: pip install -r requirements-cluster.txt, or leave --ray out to use this machine's processes"
            ) from None
        self._ray: Any = ray
        self._workers, self._address = workers, address
        self.lost = 0

    def results(self, job: Job, blocks: Sequence[int], stop: Callable[[], bool]) -> Iterator[Answer]:
        """See Workers."""
        ray = self._ray
        paths = [str(PROGRAM), *filter(None, [os.environ.get("PYTHONPATH")])]  # Ray puts it in place of ours
        here: dict[str, Any] = {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}
        there: dict[str, Any] = {"py_modules": [str(PROGRAM / room) for room in ("engine", "metrics", "resources")]}
        try:
            if self._address is None:
                ray.init(num_cpus=self._workers, include_dashboard=False, log_to_driver=False, runtime_env=here)
            else:
                ray.init(address=self._address, log_to_driver=False, runtime_env=there)
        except Exception as error:  # a start that times out is a bare Exception of Ray's
            raise DeskvigilError(f"Ray cannot be reached at {self._address or 'this machine'}: {error}") from error
        try:
            yield from self._run(job, _Blocks(blocks), stop)
        finally:
            ray.shutdown()

    def _run(self, job: Job, waiting: _Blocks, stop: Callable[[], bool]) -> Iterator[Answer]:
        ray = self._ray
        compute = ray.remote(max_retries=0)(_compute)  # lost blocks are counted and given again by us
        key, shared = job.fingerprint(), ray.put(job)
        most = IN_FLIGHT * (self._workers or int(ray.cluster_resources().get("CPU", 1)))
        busy: dict[Any, int] = {}
        while (busy or len(waiting)) and not stop():
            while len(waiting) and len(busy) < most:
                block = waiting.take()
                busy[compute.remote(key, shared, block)] = block
            done, _ = ray.wait(list(busy), num_returns=1, timeout=LOOK_S)
            for reference in done:
                block = busy.pop(reference)
                try:
                    answer = ray.get(reference)
                except (
                    ray.exceptions.WorkerCrashedError,
                    ray.exceptions.NodeDiedError,
                    ray.exceptions.ObjectLostError,
                ) as error:
                    self.lost += 1
                    waiting.again(block, f"({type(error).__name__})")
                    continue
                if isinstance(answer, str):
                    raise DeskvigilError(answer)
                yield block, answer


_KEPT: dict[str, Any] = {}  # in a process of Ray's, which outlives its tasks: the worker of the job at hand


def _compute(key: str, job: Job, block: int) -> BlockTally | str:
    """A block's tally, or what is wrong with the job."""
    try:
        if key not in _KEPT:
            _KEPT.clear()
            _KEPT[key] = job.worker()
        tally: BlockTally = _KEPT[key].tally(block)
        return tally
    except DeskvigilError as error:
        return str(error)
