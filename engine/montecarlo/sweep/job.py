"""Job: what a sweep computes, as a YAML file says it, cut into blocks that are the same whoever computes them.

A job has cells, a cell has `samples` samples, and a block is BLOCK of them (the last one of a cell may be shorter). Every
block draws its own part of the Philox stream, so its losses depend on the job and its number alone.

- "paths": one cell, the options of `montecarlo.paths` along `samples` paths (or antithetic pairs of them).
- "grid": a cell for each combination of shocks, in which a book is revalued in `samples` scenarios; every cell
  sees the same normals, so that cells differ by their shocks alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import yaml
from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, Discriminator, TypeAdapter, ValidationError

from engine.montecarlo.book import Book, Position
from engine.montecarlo.covariance import correlation_factor
from engine.montecarlo.paths import PathOption, PathSimulation
from engine.montecarlo.simulation import BookSimulation
from engine.montecarlo.sweep.tally import RESOLUTION, BlockTally, Tally, tally_of
from metrics.errors import ConfigError, DeskvigilError
from metrics.frame import FloatArray
from metrics.version import VERSION

BLOCK: Final = 1 << 16
MOST_SAMPLES: Final = 1 << 32  # the counter's word for the sample's number
MOST_CELLS: Final = 1024
STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False, strict=False)
Row = dict[str, float | int | str | None]
Confidence = Annotated[float, Gt(0.5), Le(0.99999)]
Shock = Annotated[float, Gt(-1.0), Le(10.0)]


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What every sweep has; figures at these confidences."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    samples: Annotated[int, Ge(2), Le(MOST_SAMPLES)]
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 1
    var_confidence: Confidence = 0.99
    shortfall_confidence: Confidence = 0.975

    @property
    @abstractmethod
    def cells(self) -> int:
        """How many cells."""

    @property
    @abstractmethod
    def columns(self) -> int:
        """How many losses a sample has."""

    @abstractmethod
    def check(self) -> None:
        """DeskvigilError where parts do not fit together."""

    @abstractmethod
    def worker(self) -> BlockWorker:
        """What computes blocks of this job."""

    @abstractmethod
    def rows(self, cell: int, tally: Tally) -> list[Row]:
        """The figures of a cell."""

    @property
    def blocks_per_cell(self) -> int:
        return -(-self.samples // BLOCK)

    @property
    def blocks(self) -> int:
        return self.cells * self.blocks_per_cell

    def place(self, block: int) -> tuple[int, int, int]:
        """Cell, first sample and number of samples of a block."""
        cell, part = divmod(block, self.blocks_per_cell)
        return cell, part * BLOCK, min(BLOCK, self.samples - part * BLOCK)

    def fingerprint(self) -> str:
        """Of everything that the figures depend on, the program's version among it."""
        said = [VERSION, BLOCK, type(self).__name__, asdict(self)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _tail(self, tally: Tally, column: int, less: float) -> Row:
        """VaR and ES of a column's losses less a constant, with what the buckets' width makes of them at most."""
        losses = tally.losses(column)
        var, var_error = losses.value_at_risk(self.var_confidence)
        shortfall, shortfall_error = losses.expected_shortfall(self.shortfall_confidence)
        return {
            "var": var - less, "var_standard_error": var_error, "var_resolution": abs(var) * RESOLUTION,
            "expected_shortfall": shortfall - less, "shortfall_standard_error": shortfall_error,
            "shortfall_resolution": abs(shortfall) * RESOLUTION,
        }  # fmt: skip


class BlockWorker(ABC):
    """Computes blocks of one job, keeping what it needs for the next one. Not safe for two threads at once."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @abstractmethod
    def losses(self, cell: int, first: int, samples: int) -> FloatArray:
        """Losses float64 (columns, samples) of samples first, first + 1, ... of a cell."""

    def tally(self, block: int) -> BlockTally:
        """A block's losses, tallied."""
        return tally_of(self.losses(*self._job.place(block)))


@dataclass(frozen=True, kw_only=True)
class OptionTerms:
    """As `montecarlo.paths.PathOption`, lists for arrays; dividend yields 0, weights equal, assets independent by default."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    spot: tuple[float, ...]
    volatility: tuple[float, ...]
    dividend_yield: tuple[float, ...] = ()
    weight: tuple[float, ...] = ()
    correlation: tuple[tuple[float, ...], ...] = ()
    rate: float = 0.0
    years: float
    steps: int
    asian_strike: float
    asian_sign: Literal[1, -1] = 1
    vanilla_strike: float
    vanilla_sign: Literal[1, -1] = 1
    barrier: float
    barrier_side: Literal["down", "up"] = "down"

    def option(self) -> PathOption:
        """DeskvigilError where they do not fit together."""
        n = max(len(self.spot), 1)
        arrays = {
            "spot": np.array(self.spot), "volatility": np.array(self.volatility),
            "dividend_yield": np.array(self.dividend_yield or [0.0] * n), "weight": np.array(self.weight or [1.0 / n] * n),
            "correlation": _square(self.correlation, n, "option.correlation"),
        }  # fmt: skip
        return PathOption(**{**asdict(self), **arrays})


@dataclass(frozen=True, kw_only=True)
class PathsJob(Job):
    """Prices of an arithmetic Asian, a geometric Asian and a barrier option, and what their seller may lose.

    The losses are the discounted payoffs; VaR and ES are what they exceed the price by.
    """

    kind: Literal["paths"] = "paths"
    antithetic: bool = False
    option: OptionTerms

    OPTIONS: ClassVar = ("asian", "geometric_asian", "barrier")

    @property
    def cells(self) -> int:
        return 1

    @property
    def columns(self) -> int:
        return len(self.OPTIONS)

    def check(self) -> None:
        """DeskvigilError where the option's terms do not fit together."""
        option = self.option.option()
        option.payoffs(np.float64)

    def worker(self) -> BlockWorker:
        return _PathWorker(self)

    def rows(self, cell: int, tally: Tally) -> list[Row]:
        """A row for each option."""
        known = self.option.option().geometric_price()
        controlled, controlled_error = tally.controlled(0, 1, known)
        rows: list[Row] = []
        for column, option in enumerate(self.OPTIONS):
            price = tally.mean(column)
            row: Row = {
                "option": option, "samples": tally.samples, "price": price,
                "standard_error": tally.standard_error(column),
                "controlled_price": controlled if column == 0 else None,
                "controlled_standard_error": controlled_error if column == 0 else None,
                "known_price": known if column == 1 else None,
            }  # fmt: skip
            rows.append(row | self._tail(tally, column, price))
        return rows


class _PathWorker(BlockWorker):
    def __init__(self, job: PathsJob) -> None:
        super().__init__(job)
        size = max(min(BLOCK, job.samples), 2)
        self._simulation = PathSimulation(
            job.option.option(), paths=2 * size if job.antithetic else size, seed=job.seed, antithetic=job.antithetic
        )

    def losses(self, cell: int, first: int, samples: int) -> FloatArray:
        self._simulation.run(first_path=first)
        return self._simulation.payoffs[:, :samples]


@dataclass(frozen=True, kw_only=True)
class Line(Position):
    """A position of the book."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Axes of the stress grid; a cell for each combination of their values.

    spot: all spots jump by this share. volatility: all volatilities, of the moves and implied, rise by this share.
    correlation: of 1, all symbols move as one; of 0, as given; of -1, independently; linear between.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    spot: tuple[Shock, ...] = (0.0,)
    volatility: tuple[Shock, ...] = (0.0,)
    correlation: tuple[Annotated[float, Ge(-1.0), Le(1.0)], ...] = (0.0,)

    def cells(self) -> Iterator[tuple[float, float, float]]:
        return itertools.product(self.spot, self.volatility, self.correlation)


@dataclass(frozen=True, kw_only=True)
class GridJob(Job):
    """Risk of a book under stress. volatility: of each symbol's log return per year, in the order of `spot`.

    Gains are measured from the book's value today, so that a shock's own cost is in them.
    """

    kind: Literal["grid"] = "grid"
    spot: dict[str, float]
    volatility: tuple[Annotated[float, Ge(0.0)], ...]
    correlation: tuple[tuple[float, ...], ...] = ()
    positions: tuple[Line, ...]
    horizon_days: Annotated[float, Gt(0), Le(250)] = 1.0
    grid: Grid = field(default_factory=Grid)

    @property
    def cells(self) -> int:
        return len(self.grid.spot) * len(self.grid.volatility) * len(self.grid.correlation)

    @property
    def columns(self) -> int:
        return 1

    def check(self) -> None:
        """DeskvigilError where book, volatilities and correlation do not fit together."""
        if len(self.volatility) != len(self.spot):
            raise DeskvigilError(
                f"volatility: one for each of the {len(self.spot)} symbols of spot is expected, not {len(self.volatility)}"
            )
        if not 1 <= self.cells <= MOST_CELLS:
            raise DeskvigilError(f"grid: 1 to {MOST_CELLS} cells are possible, not {self.cells}")
        for axis, values in asdict(self.grid).items():
            if len(set(values)) != len(values):
                raise DeskvigilError(f"grid.{axis}: a value occurs twice in {list(values)}")
        self.book()
        self.loading(0.0, 0.0)

    def book(self, spot: float = 0.0, volatility: float = 0.0) -> Book:
        """The book under a shock."""
        lines = [
            Line(**{**asdict(line), "volatility": line.volatility * (1.0 + volatility)}) for line in self.positions
        ]
        return Book.of(lines, tuple(self.spot), np.array(list(self.spot.values())) * (1.0 + spot))

    def loading(self, volatility: float, correlation: float) -> FloatArray:
        """Factor (n, n) of the covariance of the log returns over the horizon, under a shock."""
        n, matrix = len(self.spot), _square(self.correlation, len(self.spot), "correlation")
        factor = correlation_factor(matrix, "the symbols")  # also where a shock hides that it is none
        if correlation:
            target = np.ones((n, n)) if correlation > 0.0 else np.eye(n)
            factor = correlation_factor((1.0 - abs(correlation)) * matrix + abs(correlation) * target, "the symbols")
        deviation = np.array(self.volatility) * (1.0 + volatility) * math.sqrt(self.horizon_days / 252.0)
        return np.asarray(factor * deviation[:, None], dtype=np.float64)

    def shock_gain(self, spot: float, volatility: float) -> float:
        """What the jump itself makes of the book, USD."""
        return float(self.book(spot, volatility).values().sum() - self.book().values().sum())

    def worker(self) -> BlockWorker:
        return _GridWorker(self)

    def rows(self, cell: int, tally: Tally) -> list[Row]:
        """One row."""
        spot, volatility, correlation = list(self.grid.cells())[cell]
        return [
            {
                "spot": spot, "volatility": volatility, "correlation": correlation, "samples": tally.samples,
                "shock_gain": self.shock_gain(spot, volatility), "mean_gain": -tally.mean(0),
                "standard_error": tally.standard_error(0),
            }
            | self._tail(tally, 0, 0.0)
        ]  # fmt: skip


class _GridWorker(BlockWorker):
    def __init__(self, job: GridJob) -> None:
        super().__init__(job)
        self._grid = job
        self._cells = list(job.grid.cells())
        self._at = -1

    def losses(self, cell: int, first: int, samples: int) -> FloatArray:
        if cell != self._at:
            spot, volatility, correlation = self._cells[cell]
            job = self._grid
            self._simulation = BookSimulation(
                job.book(spot, volatility), job.loading(volatility, correlation), scenarios=min(BLOCK, job.samples),
                seed=job.seed, horizon_years=job.horizon_days / 252.0,
            )  # fmt: skip
            self._shock, self._at = job.shock_gain(spot, volatility), cell
        # A block's scenarios are a stream of their own, the same one in every cell.
        gains = self._simulation.run(stream=first // BLOCK).gains[:samples]
        return np.asarray(-(gains + self._shock)[None, :], dtype=np.float64)


def read_job(path: Path, **overrides: int | None) -> Job:
    """Read and check a job's file; overrides that are not None win. ConfigError names every key at fault."""
    try:
        said = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"job {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"job {path} is not YAML: {error}") from None
    if not isinstance(said, dict):
        raise ConfigError(f"job {path} must hold keys and values, kind among them: paths or grid")
    said |= {name: value for name, value in overrides.items() if value is not None}
    try:
        job = _JOBS.validate_python(said)
    except ValidationError as error:
        raise ConfigError("\n".join(f"job {path}: {line}" for line in _problems(error))) from None
    try:
        job.check()
    except DeskvigilError as error:
        raise ConfigError(f"job {path}: {error}") from None
    return job


_JOBS: TypeAdapter[PathsJob | GridJob] = TypeAdapter(Annotated[PathsJob | GridJob, Discriminator("kind")])


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"][1:])  # the first part is the kind
        shown = f"{problem['input']!r}: " if isinstance(problem["input"], (str, int, float, type(None))) else ""
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            yield f"{name}: unknown key"
        elif problem["type"] == "missing":
            yield f"{name}: is missing"
        else:
            yield f"{name or 'kind'}: {shown}{problem['msg']}"


def _square(rows: tuple[tuple[float, ...], ...], n: int, name: str) -> FloatArray:
    """A matrix (n, n) of rows; without any, the identity. DeskvigilError where the rows do not make one."""
    if not rows:
        return np.eye(n)
    if [len(row) for row in rows] != [n] * n:
        raise DeskvigilError(f"{name} must be {n} rows of {n} numbers, it has rows of {[len(row) for row in rows]}")
    return np.array(rows, dtype=np.float64)
