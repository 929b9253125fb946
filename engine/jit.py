"""How kernels are compiled: one typed door to Numba, and a cache that never serves stale machine code.

Numba looks only at a kernel's own file to tell whether its cached code is current, but a kernel is
made of the kernels it inlines from other files as well. So the cache lies in a folder named after
the sources of the whole engine: any edit anywhere starts a fresh one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

ENGINE = Path(__file__).resolve().parent
CACHE_PREFIX = "kernels-"


def _sources_digest() -> str:
    """A short digest of every source file of the engine and of Numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(ENGINE.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _cache_home() -> Path:
    """Beside the sources, like Python's own bytecode; where those are read-only, in the user's cache folder."""
    beside = ENGINE / "__pycache__"
    with suppress(OSError):
        beside.mkdir(exist_ok=True)
    if os.access(beside, os.W_OK):
        return beside
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deskvigil"


KERNEL_CACHE = _cache_home() / f"{CACHE_PREFIX}{_sources_digest()}"
# A folder set by the user (NUMBA_CACHE_DIR) is theirs to manage.
if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(KERNEL_CACHE)


def remove_stale_caches() -> int:
    """Delete the compiled kernels of older sources; returns how many folders went."""
    stale = [path for path in KERNEL_CACHE.parent.glob(f"{CACHE_PREFIX}*") if path != KERNEL_CACHE]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return len(stale)


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
