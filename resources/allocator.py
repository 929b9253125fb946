"""Allocator: glibc's malloc, set so that a program of many threads keeps little that it does not use.

By default each thread gets an arena of its own, and what is freed in one is not given back while anything
above it lives: a console of 30 threads grew by 26 MB an hour that way (`python -m validation.soak`).
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
ARENAS = 2


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
