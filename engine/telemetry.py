"""Telemetry blocks: how a trading process shows its state without ever waiting for a reader.

A block is one memory-mapped file with one writer and any number of readers. The writer keeps its
own working arrays and copies them into the block on `publish`, under a sequence lock: the sequence
number is odd while a copy is under way, and a reader whose copy spans a change reads again. The
block describes itself (its spec lies in it as JSON), so readers need no knowledge of the writer.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.histogram import BUCKETS
from metrics.errors import TransientError
from metrics.frame import FloatArray, IntArray
from metrics.series import Series, make_labels
from resources.pages import touch

MAGIC = 0x4456_4247_4C42_0001
HEADER = 16  # int64 words
_MAGIC, _SPEC_BYTES, _SEQUENCE, _HEARTBEAT, _PID, _START, _SIZE = range(7)
READ_ATTEMPTS = 64
READ_PAUSE_S = 50e-6  # between attempts: a copy takes microseconds unless its writer lost the processor


@dataclass(frozen=True)
class TableSpec:
    """A ring of structured records: NumPy dtype description and how many are kept."""

    dtype: list[Any]
    capacity: int


@dataclass(frozen=True)
class BlockSpec:
    """What a block holds: scalars (counters and gauges), latency histograms, record tables, and constants in words."""

    name: str
    scalars: tuple[Series, ...]
    histograms: tuple[Series, ...] = ()
    tables: Mapping[str, TableSpec] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def index(self) -> dict[Series, int]:
        """Position of each scalar."""
        return {series: position for position, series in enumerate(self.scalars)}

    def to_json(self) -> bytes:
        """The spec as bytes that `from_json` reads back."""
        return json.dumps(
            {
                "name": self.name,
                "scalars": [[series.name, dict(series.labels)] for series in self.scalars],
                "histograms": [[series.name, dict(series.labels)] for series in self.histograms],
                "tables": {key: [table.dtype, table.capacity] for key, table in self.tables.items()},
                "info": dict(self.info),
            }
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> BlockSpec:
        """Read a spec; ValueError where it is not one."""
        raw = json.loads(text)
        return cls(
            name=raw["name"],
            scalars=tuple(Series(name, make_labels(labels)) for name, labels in raw["scalars"]),
            histograms=tuple(Series(name, make_labels(labels)) for name, labels in raw["histograms"]),
            tables={
                key: TableSpec([tuple(column) for column in dtype], capacity)
                for key, (dtype, capacity) in raw["tables"].items()
            },
            info=raw["info"],
        )


class _Layout:
    """Where the arrays of a block lie in its body; each begins on a cache line."""

    def __init__(self, spec: BlockSpec) -> None:
        self.names = tuple(spec.tables)
        parts: list[tuple[Any, tuple[int, ...]]] = [
            (np.float64, (len(spec.scalars),)),
            (np.int64, (len(spec.histograms), BUCKETS)),
            (np.float64, (len(spec.histograms),)),
            (np.int64, (len(spec.tables),)),
            *((table.dtype, (table.capacity,)) for table in spec.tables.values()),
        ]
        self._parts: list[tuple[tuple[int, ...], np.dtype[Any], int]] = []
        self.size = 0
        for kind, shape in parts:
            dtype = np.dtype(kind)
            self._parts.append((shape, dtype, self.size))
            self.size += -(-int(np.prod(shape)) * dtype.itemsize // 64) * 64

    def arrays(self, body: npt.NDArray[np.uint8]) -> tuple[FloatArray, IntArray, FloatArray, IntArray, list[Any]]:
        """Views over `body`: scalars, counts, sums_ns, written, and one array per table."""
        scalars, counts, sums_ns, written, *tables = (
            np.ndarray(shape, dtype, body.data, offset) for shape, dtype, offset in self._parts
        )
        return scalars, counts, sums_ns, written, tables


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One consistent reading of a block.

    scalars float64 (n,); counts int64 (h, BUCKETS) and sums_ns float64 (h,) per histogram; tables:
    the records of each ring, oldest first; written: how many records each ring ever got.
    """

    spec: BlockSpec
    heartbeat_ns: int
    pid: int
    start_ns: int
    scalars: FloatArray
    counts: IntArray
    sums_ns: FloatArray
    tables: dict[str, npt.NDArray[Any]]
    written: dict[str, int]

    def scalar(self, series: Series) -> float:
        """Value of one scalar, NaN where the block has none of that name."""
        position = self.spec.index.get(series)
        return float("nan") if position is None else float(self.scalars[position])


class BlockWriter:
    """The one writer of a block.

    `scalars`, `counts`, `sums_ns`, `tables` and `written` are private working arrays that kernels
    write as they like (append to a ring: tables[key][written[i] % capacity], then written[i] += 1);
    nothing is seen outside before `publish`.
    """

    def __init__(self, path: Path, spec: BlockSpec, hidden: bool = False) -> None:
        """hidden: the block takes the place of the one before with the first `publish`, not now."""
        text = spec.to_json()
        spec_bytes = -(-len(text) // 64) * 64
        layout = _Layout(spec)
        body_bytes = layout.size
        size = HEADER * 8 + spec_bytes + body_bytes
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        whole = np.frombuffer(self._map, dtype=np.uint8)
        self._header = whole[: HEADER * 8].view(np.int64)
        self._body = whole[HEADER * 8 + spec_bytes :]
        self._working = np.zeros(body_bytes, dtype=np.uint8)
        self.spec = spec
        self.scalars, self.counts, self.sums_ns, self.written, tables = layout.arrays(self._working)
        self.tables: dict[str, npt.NDArray[Any]] = dict(zip(layout.names, tables, strict=True))
        self.scalars[:] = np.nan
        whole[HEADER * 8 : HEADER * 8 + len(text)] = np.frombuffer(text, dtype=np.uint8)
        self._header[_SPEC_BYTES] = len(text)
        self._header[_PID] = os.getpid()
        self._header[_SIZE] = size
        self._header[_MAGIC] = MAGIC
        self._hidden: tuple[Path, Path] | None = (temporary, path)
        if not hidden:
            self._show()

    def touch(self) -> None:
        """Have all of it in memory, so that the first `publish` need not wait for pages."""
        touch(self._working)
        touch(self._body)

    def _show(self) -> None:
        if self._hidden is not None:
            self._header[_START] = time.time_ns()
            os.replace(*self._hidden)  # readers see a whole block or the one before
            self._hidden = None

    def publish(self, now_ns: int) -> None:
        """Make the working arrays visible as of `now_ns` (wall clock), which is also the heartbeat."""
        self._header[_SEQUENCE] += 1
        self._body[:] = self._working
        self._header[_HEARTBEAT] = now_ns
        self._header[_SEQUENCE] += 1
        self._show()


class BlockReader:
    """Reads a block that another process writes; follows the file when a restarted writer replaces it.

    A replaced block with the same spec keeps the same `BlockSpec` object, so that readers can tell
    by identity whether their plans still hold.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = -1
        self._text = b""
        self._spec = BlockSpec("", ())
        self._layout = _Layout(self._spec)
        self._header: IntArray = np.zeros(HEADER, dtype=np.int64)
        self._body: npt.NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)

    def read(self) -> Snapshot:
        """Return the newest published state; TransientError where there is none (yet)."""
        self._follow()
        if self._header[_SEQUENCE] == 0:
            raise TransientError(f"telemetry block {self._path.name} has nothing published yet")
        for _ in range(READ_ATTEMPTS):
            before = int(self._header[_SEQUENCE])
            if before % 2 == 0:
                body, heartbeat = self._body.copy(), int(self._header[_HEARTBEAT])
                if int(self._header[_SEQUENCE]) == before:
                    return self._snapshot(body, heartbeat)
            time.sleep(READ_PAUSE_S)
        raise TransientError(f"telemetry block {self._path.name} is held by a writer that stopped in the middle")

    def heartbeat(self) -> int | None:
        """The last heartbeat (wall-clock ns) without copying the body; None where nothing is published."""
        try:
            self._follow()
        except TransientError:
            return None
        return int(self._header[_HEARTBEAT]) or None

    def _follow(self) -> None:
        try:
            inode = self._path.stat().st_ino
        except OSError:
            self._inode = -1
            raise TransientError(f"no telemetry block at {self._path}: {_why_absent(self._path)}") from None
        if inode != self._inode:
            self._open()
            self._inode = inode

    def _open(self) -> None:
        try:
            with self._path.open("rb") as file:
                whole = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), dtype=np.uint8)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise TransientError(f"telemetry block {self._path} cannot be read: {error}") from None
        header = whole[: HEADER * 8].view(np.int64) if len(whole) > HEADER * 8 else np.zeros(HEADER, dtype=np.int64)
        if header[_MAGIC] != MAGIC or header[_SIZE] != len(whole):
            raise TransientError(f"{self._path} is not a telemetry block of this version")
        length = int(header[_SPEC_BYTES])
        text = whole[HEADER * 8 : HEADER * 8 + length].tobytes()
        if text != self._text:
            self._spec, self._text = BlockSpec.from_json(text), text
            self._layout = _Layout(self._spec)
        self._header = header
        self._body = whole[HEADER * 8 + -(-length // 64) * 64 :]

    def _snapshot(self, body: npt.NDArray[np.uint8], heartbeat_ns: int) -> Snapshot:
        scalars, counts, sums_ns, appended, rings = self._layout.arrays(body)
        written = dict(zip(self._layout.names, appended.tolist(), strict=True))
        tables = {}
        for (key, count), ring in zip(written.items(), rings, strict=True):
            capacity = len(ring)
            tables[key] = ring[:count] if count <= capacity else np.roll(ring, -(count % capacity))
        return Snapshot(
            self._spec, heartbeat_ns, int(self._header[_PID]), int(self._header[_START]),
            scalars, counts, sums_ns, tables, written,
        )  # fmt: skip


def starting_note(block: Path) -> Path:
    """Where it is said in words what keeps a block's process from starting."""
    return block.with_suffix(".starting")


def _why_absent(block: Path) -> str:
    try:
        return starting_note(block).read_text().strip() or "its process has not started"
    except OSError:
        return "its process has not started"
