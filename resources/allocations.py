"""Allocations: which lines of the program hold more and more memory, seen by tracing a short burst.

Tracing makes every Python allocation 1.6 to 16 times dearer, so it is on for seconds, once somebody suspects a leak.
Seen is what Python and NumPy allocate; memory that a C library takes for itself has no line here.
"""

from __future__ import annotations

import gc
import sys
import sysconfig
import threading
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from metrics.errors import DeskvigilError

FRAMES = 8
MOST_SITES = 5
LEAST_SHARE = 0.02  # of all growth seen: what grows less is not worth a line
_ROOT = str(Path(__file__).resolve().parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class Site:
    """A line of code and how fast what it allocated grew during the burst: bytes and blocks a second.

    file is relative to the program's folder where it lies in it. callers: who called, innermost first, "file:line".
    """

    file: str
    line: int
    bytes_s: float
    blocks_s: float
    callers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def find_growth(seconds: float, stop: threading.Event) -> list[Site]:
    """Trace this process's allocations for so long (less where `stop` is set); the sites that grew, fastest first.

    What was allocated before is not seen, so a buffer that swaps old for new seems to grow until it has turned round
    once: only what grew in both halves of the burst counts, by the second half. DeskvigilError where
    somebody else is tracing already.
    """
    if tracemalloc.is_tracing():
        raise DeskvigilError("allocations are being traced already")
    tracemalloc.start(FRAMES)
    try:
        taken = []
        for _ in range(2):
            stop.wait(seconds / 2.0)
            gc.collect(0)
            taken.append(_held())
    finally:
        tracemalloc.stop()
    return _grown(taken[0], taken[1], seconds / 2.0)


_Held = Mapping[tuple[tuple[str, int], ...], tuple[int, int]]


def _held() -> _Held:
    """Bytes and blocks that are held now, by the lines that led to them, innermost first."""
    own = tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)
    snapshot = tracemalloc.take_snapshot().filter_traces((own, tracemalloc.Filter(False, __file__, all_frames=True)))
    return {
        tuple((frame.filename, frame.lineno) for frame in reversed(found.traceback)): (found.size, found.count)
        for found in snapshot.statistics("traceback")
    }


def _grown(first: _Held, second: _Held, seconds: float) -> list[Site]:
    grown: dict[tuple[str, int], Site] = {}
    for trace, (size, count) in second.items():
        before, blocks = first.get(trace, (0, 0))
        if before > 0 and size > before:
            site = _site(trace, (size - before) / seconds, (count - blocks) / seconds)
            same = grown.get((site.file, site.line))
            if same is not None:  # another way led to the same line: the dearer one's callers are shown
                more = max(same, site, key=lambda one: one.bytes_s)
                site = replace(more, bytes_s=same.bytes_s + site.bytes_s, blocks_s=same.blocks_s + site.blocks_s)
            grown[site.file, site.line] = site
    total = sum(site.bytes_s for site in grown.values())
    fastest = sorted(grown.values(), key=lambda site: -site.bytes_s)[:MOST_SITES]
    return [site for site in fastest if site.bytes_s >= LEAST_SHARE * total]


def _site(trace: tuple[tuple[str, int], ...], bytes_s: float, blocks_s: float) -> Site:
    """Named after the innermost line that is not a library's: who called json.loads knows more than json does."""
    own = [place for place in trace if not place[0].startswith((*_LIBRARIES, "<"))]
    file, line = (own or trace)[0]
    callers = tuple(f"{_short(name)}:{number}" for name, number in trace if (name, number) != (file, line))
    return Site(_short(file), line, bytes_s, blocks_s, callers)


def _short(file: str) -> str:
    for root in (_ROOT, *_LIBRARIES, sys.prefix):
        if file.startswith(root + "/"):
            return file[len(root) + 1 :]
    return file
