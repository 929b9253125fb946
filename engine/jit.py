"""How kernels are compiled: one typed door to Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a free function over arrays; the machine code is cached on disk beside its file.

    `error_model="numpy"` because a checked division stops vectorisation; `nogil` because kernels
    touch no Python objects.
    """
    return cast(F, numba.njit(cache=True, error_model="numpy", nogil=True)(function))


def inline_kernel(function: F) -> F:
    """Compile a small function that always disappears into its callers (calls cost reference counting)."""
    return cast(F, numba.njit(cache=True, error_model="numpy", nogil=True, forceinline=True)(function))
