"""Allocator: glibc's malloc, set so that a program of many threads keeps little that it does not use.

By default each thread gets an arena of its own, and what is freed in one is not given back while anything
above it lives: a console of 30 threads grew by 26 MB an hour that way (`python -m validation.soak`).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
ARENAS = 2
KEPT = 64 * 2**20
MOST_MAPPED = 32 * 2**20


def few_arenas() -> bool:
    """Let all threads share two arenas; call it before threads are started. False where the C library is not glibc."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
    except (OSError, AttributeError):
        return False


def trim() -> bool:
    """Give free memory back to the system; whether there was any. False where the C library is not glibc."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):
        return False


@dataclass(frozen=True, slots=True)
class Heap:
    """What malloc holds, bytes: `arena` taken from the system for its heaps, of which `free` is not handed out (holes
    and the top), and `mapped` in blocks of their own. Python's own small objects (up to 512 bytes) are not in it."""

    arena: int
    free: int
    mapped: int

    @property
    def in_use(self) -> int:
        """What is handed out."""
        return self.arena - self.free + self.mapped

    @property
    def fragmentation(self) -> float:
        """Share of the heaps that is not handed out; 0 where there is none."""
        return self.free / self.arena if self.arena else 0.0


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of <malloc.h> (glibc 2.33)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def heap() -> Heap | None:
    """The present state of malloc in this process, all arenas together; None where the C library cannot say."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    ask.restype = _Mallinfo2
    found = ask()
    return Heap(found.arena, found.fordblks, found.hblkhd)


def keep_freed(threshold: int = KEPT) -> bool:
    """Let malloc keep up to `threshold` bytes of what was freed, and take blocks smaller than that from its heaps.

    By default the top of the heap goes back to the system once twice the largest block freed so far is free there: a
    NumPy expression with several temporaries gives them back after each run, and touches new pages in the next.
    Call it before threads are started. False where the C library is not glibc.
    """
    try:
        ask = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # glibc refuses a mapping threshold above 32 MiB and then keeps its own.
    return bool(ask(_M_MMAP_THRESHOLD, min(threshold, MOST_MAPPED)) and ask(_M_TRIM_THRESHOLD, threshold))
