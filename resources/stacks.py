"""Stacks: call stacks with weights, in the collapsed form that every flame graph tool reads, and the tree drawn of them.

One line a stack: frames from the outermost, joined by ";", a space, a whole number (samples, or bytes).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from metrics.errors import DeskvigilError

Stack = tuple[str, ...]
MOST_BYTES: Final = 64 << 20  # of one profile, unpacked
MOST_DEPTH: Final = 200
MOST_FRAME: Final = 300  # characters of one frame's name
CUT: Final = "(deeper frames are cut)"
OTHER: Final = "(stacks beyond the limit)"


class StacksError(DeskvigilError):
    """Text or bytes that are no collapsed stacks; the message names the line."""


def parse(text: str) -> dict[Stack, int]:
    """Collapsed stacks by line; the same stack twice is added up. Raises StacksError."""
    found: dict[Stack, int] = {}
    for number, line in enumerate(text.split("\n"), 1):  # a name may hold what else ends a line in Unicode
        if not line.strip():
            continue
        names, _, count = line.rpartition(" ")
        if not names or not count.isdecimal():
            raise StacksError(f"line {number} of the profile is no collapsed stack: {line[:80]!r}")
        frames = [frame[:MOST_FRAME] for frame in names.split(";")]
        if len(frames) > MOST_DEPTH:
            frames = [*frames[: MOST_DEPTH - 1], CUT]
        stack = tuple(frames)
        found[stack] = found.get(stack, 0) + int(count)
    return found


def collapsed(stacks: Mapping[Stack, int]) -> str:
    """The same as text, the heaviest first; ";" and line ends inside a frame's name become spaces."""
    rows = sorted(stacks.items(), key=lambda row: (-row[1], row[0]))
    return "".join(f"{';'.join(_clean(frame) for frame in stack)} {weight}\n" for stack, weight in rows)


def _clean(frame: str) -> str:
    return " ".join(frame.replace(";", " ").split()) or "?"


def pack(stacks: Mapping[Stack, int]) -> bytes:
    """Compressed, as it lies in the database. Raises StacksError beyond MOST_BYTES."""
    text = collapsed(stacks).encode(errors="replace")
    if len(text) > MOST_BYTES:
        raise StacksError(f"the profile has {len(text) >> 20} MiB of stacks, {MOST_BYTES >> 20} are the most")
    return zlib.compress(text, 6)


def unpack(data: bytes) -> dict[Stack, int]:
    """What `pack` made. Raises StacksError where the bytes are something else."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise StacksError(f"the stored profile is damaged: {error}") from None
    if inflate.unconsumed_tail or not inflate.eof:
        raise StacksError("the stored profile is damaged: it does not end where it should")
    return parse(text.decode(errors="replace"))


@dataclass(slots=True)
class Bounded:
    """Stacks with weights, never more than `most` of them: what comes on top is added up under one name."""

    most: int
    rows: dict[Stack, int] = field(default_factory=dict)

    def add(self, stack: Stack, weight: int) -> None:
        """Add weight to a stack."""
        if stack not in self.rows and len(self.rows) >= self.most:
            stack = (*stack[:1], OTHER)
        self.rows[stack] = self.rows.get(stack, 0) + weight


@dataclass(frozen=True, slots=True)
class Spent:
    """One function's share: self is its own, total with what it called (once a stack, recursion or not)."""

    name: str
    self_: int
    total: int


def by_function(stacks: Mapping[Stack, int]) -> list[Spent]:
    """Every frame by own and total weight, the heaviest own first."""
    own: dict[str, int] = {}
    total: dict[str, int] = {}
    for stack, weight in stacks.items():
        own[stack[-1]] = own.get(stack[-1], 0) + weight
        for frame in set(stack):
            total[frame] = total.get(frame, 0) + weight
    found = [Spent(name, own.get(name, 0), weight) for name, weight in total.items()]
    return sorted(found, key=lambda row: (-row.self_, -row.total, row.name))


@dataclass(frozen=True, slots=True)
class Box:
    """One rectangle of a flame graph: depth 0 is the whole; start and width are weights, parent is a position in the list."""

    name: str
    depth: int
    start: int
    width: int
    self_: int
    parent: int


def boxes(stacks: Mapping[Stack, int], *, least_share: float = 0.001, most: int = 5_000) -> list[Box]:
    """The flame graph's rectangles, parents before children, siblings by name.

    What is narrower than `least_share` of the whole is left out, and its space stays empty; of more
    than `most` the deepest are left out. A parent is never narrower than its children together.
    """
    whole = sum(stacks.values())
    if whole <= 0:
        return []
    found = [Box("all", 0, 0, whole, 0, -1)]
    level: list[tuple[int, list[tuple[Stack, int]]]] = [(0, list(stacks.items()))]
    depth = 0
    while level and len(found) < most:
        below: list[tuple[int, list[tuple[Stack, int]]]] = []
        for parent, rows in level:
            start = found[parent].start
            for name, own in _children(rows, depth):
                width = sum(weight for _, weight in own)
                if width >= least_share * whole and len(found) < most:
                    ends = sum(weight for stack, weight in own if len(stack) == depth + 1)
                    below.append((len(found), own))
                    found.append(Box(name, depth + 1, start, width, ends, parent))
                start += width
        level, depth = below, depth + 1
    return found


def _children(rows: Iterable[tuple[Stack, int]], depth: int) -> list[tuple[str, list[tuple[Stack, int]]]]:
    """Rows that go deeper, by their next frame."""
    groups: dict[str, list[tuple[Stack, int]]] = {}
    for stack, weight in rows:
        if len(stack) > depth:
            groups.setdefault(stack[depth], []).append((stack, weight))
    return sorted(groups.items())
