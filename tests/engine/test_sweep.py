"""Sweeps: the same bits for any number of workers, after stops, kills and lost workers; figures held to exact ones."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.montecarlo.closedform import down_and_out_call
from engine.montecarlo.simulation import BookSimulation
from engine.montecarlo.sweep.job import BLOCK, BlockWorker, GridJob, Job, PathsJob, Row, read_job
from engine.montecarlo.sweep.state import SweepState
from engine.montecarlo.sweep.sweep import Progress, sweep
from engine.montecarlo.sweep.tally import RESOLUTION, SMALLEST, Tally, tally_of
from engine.montecarlo.sweep.workers import MOST_DEATHS, LocalWorkers, RayWorkers, Workers
from engine.montecarlo.tail import shortfall_weights
from metrics.errors import ConfigError, DeskvigilError
from tests.app.program import ROOT

PATHS = """
kind: paths
samples: {samples}
option:
  {{spot: [100], volatility: [0.2], dividend_yield: [0.01], rate: 0.03, years: 1, steps: 4,
   asian_strike: 100, vanilla_strike: 100, barrier: 85}}
"""
GRID = """
kind: grid
samples: 70_000
spot: {AAPL: 190, MSFT: 420}
volatility: [0.25, 0.22]
correlation: [[1, 0.6], [0.6, 1]]
positions:
  - {symbol: AAPL, quantity: 1000}
  - {symbol: MSFT, kind: put, quantity: 500, strike: 400, years: 0.25, volatility: 0.24, rate: 0.04}
grid: {spot: [-0.1, 0], volatility: [0, 0.5], correlation: [0, 1]}
"""


def job_of(folder: Path, text: str = PATHS.format(samples=5 * BLOCK + 777)) -> Job:
    path = folder / "job.yml"
    path.write_text(text)
    return read_job(path)


def run(job: Job, workers: Workers, state: Path, stop_after: int | None = None) -> tuple[Progress, list[Row]]:
    """A whole sweep, or one that is stopped once so many blocks are in."""
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return stop_after is not None and len(asked) > stop_after

    return sweep(job, workers, state, lambda _: None, stop)


class InOrder:
    """Blocks computed here, one after the other: the slow reference of all workers."""

    lost = 0

    def results(self, job, blocks, stop):
        worker = job.worker()
        for block in blocks:
            if stop():
                return
            yield block, worker.tally(block)


finite = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(finite, min_size=2, max_size=200), st.integers(1, 7), st.randoms(use_true_random=False))
def test_any_cut_and_any_order_of_blocks_gives_the_same_sum_to_the_bit(values, size, random) -> None:
    losses = np.array([values, np.square(values)])
    parts = [tally_of(losses[:, k : k + size]) for k in range(0, len(values), size)]
    one, other = Tally(2), Tally(2)
    for part in parts:
        one.add(part)
    random.shuffle(parts)
    half = len(parts) // 2
    for part in parts[:half]:
        other.add(part)
    other = Tally.from_state(json.loads(json.dumps(other.state())))
    for part in parts[half:]:
        other.add(part)
    assert one.state() == other.state()
    assert one.samples == len(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(finite, min_size=2, max_size=300), st.sampled_from([0.9, 0.99]))
def test_mean_error_quantile_and_shortfall_are_those_of_all_losses(values, confidence) -> None:
    losses = np.array(values)
    tally = Tally(1)
    tally.add(tally_of(losses[None, :]))
    exact = Fraction(0)
    for value in values:
        exact += Fraction(value)
    assert tally.mean(0) == pytest.approx(float(exact / len(values)), rel=1e-12, abs=1e-9)
    error = losses.std(ddof=1) / math.sqrt(len(losses))
    assert tally.standard_error(0) == pytest.approx(error, rel=1e-6, abs=1e-6 * np.abs(losses).max())
    falling = np.sort(losses)[::-1]
    rank = (1.0 - confidence) * (len(losses) - 1)
    found = tally.losses(0)
    var, _ = found.value_at_risk(confidence)
    above, below = falling[math.floor(rank)], falling[math.ceil(rank)]
    assert below - abs(below) * RESOLUTION - SMALLEST <= var <= above + abs(above) * RESOLUTION + SMALLEST
    weights = shortfall_weights(len(losses), confidence)
    shortfall, _ = found.expected_shortfall(confidence)
    worst = falling[: len(weights)]
    assert shortfall == pytest.approx(
        float(weights @ worst), abs=float(weights @ np.abs(worst)) * RESOLUTION + SMALLEST
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_a_loss_that_is_no_sensible_number_is_an_error(value: float) -> None:
    with pytest.raises(DeskvigilError, match="1 losses are not finite or beyond"):
        tally_of(np.array([[1.0, value]]))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("text", [PATHS.format(samples=5 * BLOCK + 777), GRID])
def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path, workers: int, text: str) -> None:
    job = job_of(tmp_path, text)
    _, expected = run(job, InOrder(), tmp_path / "reference")
    progress, rows = run(job, LocalWorkers(workers), tmp_path / "state")
    assert progress.complete
    assert rows == expected


@pytest.mark.parametrize("text", [PATHS.format(samples=5 * BLOCK + 777), GRID])
def test_a_stopped_sweep_goes_on_to_the_same_bits(tmp_path: Path, text: str) -> None:
    job = job_of(tmp_path, text)
    _, expected = run(job, InOrder(), tmp_path / "reference")
    stops = 0
    while True:
        progress, rows = run(job, InOrder(), tmp_path / "state", stop_after=2)
        if progress.complete:
            break
        stops += 1
        assert rows == []
    assert stops >= 2
    assert rows == expected
    assert progress.samples < job.samples * job.cells


def test_prices_meet_the_closed_forms_within_three_standard_errors(tmp_path: Path) -> None:
    job = job_of(tmp_path, PATHS.format(samples=1_000_000))
    _, (asian, geometric, barrier) = run(job, InOrder(), tmp_path / "state")
    assert abs(geometric["price"] - geometric["known_price"]) < 3 * geometric["standard_error"]
    known = down_and_out_call(100.0, 100.0, 85.0, 1.0, 0.2, 0.03, 0.01)
    assert abs(barrier["price"] - known) < 3 * barrier["standard_error"]
    assert abs(asian["price"] - asian["controlled_price"]) < 3 * asian["standard_error"]
    assert asian["controlled_standard_error"] < 0.1 * asian["standard_error"]


def test_a_cell_has_the_figures_of_its_scenarios_sorted(tmp_path: Path) -> None:
    job = job_of(tmp_path, GRID)
    assert isinstance(job, GridJob)
    _, rows = run(job, InOrder(), tmp_path / "state")
    for row in rows:
        shock = (row["spot"], row["volatility"])
        book = job.book(*shock)
        simulation = BookSimulation(book, job.loading(row["volatility"], row["correlation"]), scenarios=BLOCK, seed=1)
        gains = [simulation.run(stream=k).gains for k in range(2)]
        values = np.concatenate(gains)[: job.samples] + book.values().sum() - job.book().values().sum()
        assert row["mean_gain"] == pytest.approx(values.mean(), rel=1e-10)
        assert row["standard_error"] == pytest.approx(values.std(ddof=1) / math.sqrt(len(values)), rel=1e-8)
        var = np.quantile(-values, 0.99)
        assert row["var"] == pytest.approx(var, abs=row["var_resolution"])
        tail = np.sort(-values)[::-1][: round(0.025 * len(values))]
        assert row["expected_shortfall"] == pytest.approx(tail.mean(), abs=row["shortfall_resolution"])


def test_a_shock_to_correlation_makes_symbols_move_as_one_or_apart(tmp_path: Path) -> None:
    job = job_of(tmp_path, GRID)
    assert isinstance(job, GridJob)
    for shock, expected in ((0.0, 0.6), (1.0, 1.0), (-1.0, 0.0), (0.5, 0.8), (-0.5, 0.3)):
        factor = job.loading(0.5, shock)
        covariance = factor @ factor.T
        deviations = np.sqrt(np.diag(covariance))
        assert covariance[0, 1] / np.prod(deviations) == pytest.approx(expected, abs=1e-7)
        np.testing.assert_allclose(deviations, np.array([0.25, 0.22]) * 1.5 / math.sqrt(252), rtol=1e-7)


@dataclass(frozen=True, kw_only=True)
class Deadly(PathsJob):
    """A job one of whose blocks kills its worker, as often as there are files in a folder."""

    folder: str
    block: int

    def worker(self) -> BlockWorker:
        return _DeadlyWorker(self)


class _DeadlyWorker(BlockWorker):
    def __init__(self, job: Deadly) -> None:
        super().__init__(job)
        self._deadly, self._inner = job, PathsJob.worker(job)

    def losses(self, cell, first, samples):
        if first == self._deadly.block * BLOCK:
            for path in Path(self._deadly.folder).iterdir():
                path.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return self._inner.losses(cell, first, samples)


def deadly(folder: Path, deaths: int) -> Deadly:
    kills = folder / "kills"
    kills.mkdir()
    for number in range(deaths):
        (kills / str(number)).touch()
    job = job_of(folder)
    assert isinstance(job, PathsJob)
    return Deadly(samples=job.samples, option=job.option, folder=str(kills), block=2)


def test_the_block_of_a_worker_that_dies_is_computed_by_another(tmp_path: Path) -> None:
    job = deadly(tmp_path, MOST_DEATHS - 1)
    progress, rows = run(job, LocalWorkers(2), tmp_path / "state")
    assert progress.workers_lost == MOST_DEATHS - 1
    assert rows == run(job, InOrder(), tmp_path / "reference")[1]


def test_a_block_that_ends_every_worker_ends_the_sweep_and_keeps_what_is_in(tmp_path: Path) -> None:
    job = deadly(tmp_path, MOST_DEATHS)
    with pytest.raises(
        DeskvigilError, match=f"block 2 has ended {MOST_DEATHS} workers, the last one with exit status -9"
    ):
        run(job, LocalWorkers(2), tmp_path / "state")
    state = SweepState.load(tmp_path / "state", job)
    assert state.workers_lost == MOST_DEATHS
    assert 2 in state.missing()
    assert state.finished >= 1


def test_what_is_wrong_with_a_job_is_told_by_the_worker_who_finds_it(tmp_path: Path) -> None:
    job = job_of(tmp_path, GRID.replace("quantity: 1000", "quantity: 1e18"))
    with pytest.raises(DeskvigilError, match="losses are not finite or beyond"):
        run(job, LocalWorkers(2), tmp_path / "state")


def test_a_damaged_state_and_that_of_another_job_are_refused(tmp_path: Path) -> None:
    job, state = job_of(tmp_path), tmp_path / "state"
    run(job, InOrder(), state, stop_after=2)
    with pytest.raises(DeskvigilError, match="is the state of another job"):
        SweepState.load(state, job_of(tmp_path, PATHS.format(samples=5 * BLOCK + 778)))
    whole = state.read_bytes()
    for damaged in (whole[:-1], whole[:200] + b"7" + whole[201:], b"", b"{}"):
        state.write_bytes(damaged)
        with pytest.raises(DeskvigilError, match="is damaged"):
            SweepState.load(state, job)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PATHS.format(samples=1000).replace("[0.2]", "[.nan]"), "option.volatility.0: nan"),
        (PATHS.format(samples=1000).replace("barrier", "bariere"), "option.bariere: unknown key"),
        (PATHS.format(samples=1000).replace("steps: 4,", ""), "option.steps: is missing"),
        (PATHS.format(samples=1), "samples: 1"),
        (PATHS.format(samples=1000).replace("spot: [100]", "spot: [-1]"), "spot must be above 0"),
        (PATHS.format(samples=1000).replace("kind: paths", "kind: walks"), "walks"),
        (GRID.replace("grid: {spot", "grid: {skew: [1], spot"), "grid.skew: unknown key"),
        (GRID.replace("[-0.1, 0]", "[-0.1, .inf]"), "grid.spot.1: inf"),
        (GRID.replace("[-0.1, 0]", "[0, 0]"), "grid.spot: a value occurs twice"),
        (GRID.replace("[-0.1, 0]", "[]"), "grid: 1 to 1024 cells"),
        (GRID.replace("[[1, 0.6], [0.6, 1]]", "[[1, 1.6], [1.6, 1]]"), "not positive definite: its lowest eigenvalue is -0.6"),
        (GRID.replace("[[1, 0.6], [0.6, 1]]", "[[1, 0.6]]"), "correlation must be 2 rows of 2 numbers"),
        (GRID.replace("[0.25, 0.22]", "[0.25]"), "volatility: one for each of the 2 symbols"),
        (GRID.replace("symbol: MSFT", "symbol: MSTF"), "position 1 (put on MSTF): nothing is known of MSTF"),
        (GRID.replace("strike: 400", "strik: 400"), "positions.1.strik: unknown key"),
        ("- 1", "must hold keys and values"),
        ("a: [", "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_job_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        job_of(tmp_path, text)
    assert said in str(error.value)
    assert "job.yml" in str(error.value)


def _start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "app.py",
        "sweep",
        str(folder / "job.yml"),
        "-o",
        str(folder / "out.csv"),
        "--json",
        *more,
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _until_some_are_in(process: subprocess.Popen[str]) -> int:
    """Read its lines until it has computed some blocks; returns how many an earlier run had."""
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        assert said["event"] == "progress"
        if said["finished"] > said["resumed"] + 3:
            return int(said["resumed"])
    raise AssertionError(process.stderr.read() if process.stderr else "")


def test_killed_and_interrupted_on_the_command_line_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    job = job_of(tmp_path, PATHS.format(samples=200 * BLOCK + 5).replace("steps: 4", "steps: 64"))
    _, expected = run(job, InOrder(), tmp_path / "reference")
    with _start(tmp_path, "--workers", "2") as killed:
        assert _until_some_are_in(killed) == 0
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    with _start(tmp_path, "--workers", "1") as interrupted:
        assert _until_some_are_in(interrupted) >= 1
        interrupted.send_signal(signal.SIGINT)
        out, err = interrupted.communicate()
    assert interrupted.returncode == 130, err
    stopped = json.loads(out.splitlines()[-1])
    assert stopped["event"] == "stopped"
    assert stopped["finished"] > stopped["resumed"] + 3
    assert "the same command goes on" in stopped["message"]
    assert not (tmp_path / "out.csv").exists()
    with _start(tmp_path, "--workers", "3") as last:
        out, err = last.communicate()
    assert last.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["resumed"] >= stopped["finished"]
    assert result["rows"] == [{name: value for name, value in row.items() if value is not None} for row in expected]
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0].split(",") == list(expected[0])
    assert lines[1].split(",")[2] == repr(expected[0]["price"])
    assert not (tmp_path / "out.csv.state").exists()
    with _start(tmp_path) as again:
        _, err = again.communicate()
    assert again.returncode == 1
    assert "out.csv exists already" in err


def test_ray_gives_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    job = job_of(tmp_path)
    _, expected = run(job, InOrder(), tmp_path / "reference")
    run(job, RayWorkers(2, None), tmp_path / "state", stop_after=3)
    progress, rows = run(job, RayWorkers(2, None), tmp_path / "state")
    assert progress.complete
    assert rows == expected


def test_without_ray_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DeskvigilError, match=r"requirements-cluster\.txt"):
        RayWorkers(2, None)
