"""How kernels are compiled: one typed door to Numba, and a cache that never serves stale machine code.

Numba looks only at a kernel's own file to tell whether its cached code is current, but a kernel is
made of the kernels it calls from other files as well. So the cached code of a file lies in a folder
named after that file and every file of the engine that it imports, directly or not: editing any of
them starts a fresh folder, and nothing else is compiled again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.registry import CPUDispatcher

F = TypeVar("F", bound=Callable[..., Any])

ENGINE = Path(__file__).resolve().parent
_IMPORTS = re.compile(
    r"^\s*(?:from\s+(engine[\w.]*)\s+import\s+(\([^)]*\)|[^\n]+)|import\s+(engine[\w.]*))", re.MULTILINE
)


@cache
def _imports(path: Path) -> frozenset[Path]:
    """The engine's files that a file imports by name."""
    found = set()
    for package, names, plain in _IMPORTS.findall(path.read_text()):
        module = package or plain
        candidates = [module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))]
        for candidate in candidates:
            file = ENGINE.parent / (candidate.replace(".", "/") + ".py")
            if file.is_file():
                found.add(file)
    return frozenset(found)


@cache
def _digest(path: Path) -> str:
    """A short digest of a file, all that it imports from the engine, and Numba's version."""
    behind, open_ends = {path}, [path]
    while open_ends:
        for file in _imports(open_ends.pop()) - behind:
            behind.add(file)
            open_ends.append(file)
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(behind):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _cache_home() -> Path:
    """Beside the sources, like Python's own bytecode; where those are read-only, in the user's cache folder."""
    beside = ENGINE / "__pycache__"
    with suppress(OSError):
        beside.mkdir(exist_ok=True)
    if os.access(beside, os.W_OK):
        return beside / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deskvigil" / "kernels"


def _cache_folder(path: Path) -> Path:
    """Where the machine code of one file's kernels lies."""
    return _cache_home() / f"{path.stem}-{_digest(path)}"


def remove_stale_caches() -> int:
    """Delete the compiled kernels of older sources; returns how many folders went."""
    current = {_cache_folder(path) for path in ENGINE.rglob("*.py")}
    stale = [folder for folder in _cache_home().glob("*") if folder not in current]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return len(stale)


class _Cache(FunctionCache):
    """Written by one process at a time: two that saved at once would give one number to two overloads."""

    def save_overload(self, sig: Any, data: Any) -> None:
        os.makedirs(self.cache_path, exist_ok=True)
        folder = os.open(self.cache_path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            super().save_overload(sig, data)
        finally:
            os.close(folder)


class _Kernel(CPUDispatcher):
    """Compiled once for an argument that is a literal in one call and a variable in another.

    Numba would compile a kernel (and all that it calls with it) anew for each number written in a call:
    4 of 9 compilations. Where a kernel is inlined the compiler sees the number all the same.
    """

    def enable_caching(self) -> None:
        self._cache = _Cache(self.py_func)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        plain = {name: types.unliteral(kind) for name, kind in kws.items()}
        return super().get_call_template([types.unliteral(kind) for kind in args], plain)


def _compile(function: F, *, forceinline: bool = False, parallel: bool = False) -> F:
    # Numba reads the folder when the kernel is declared, so each file's kernels get their own.
    # A folder set by the user (NUMBA_CACHE_DIR) is theirs to manage.
    if not os.environ.get("NUMBA_CACHE_DIR"):
        numba.config.CACHE_DIR = str(_cache_folder(Path(function.__code__.co_filename).resolve()))  # type: ignore[attr-defined]
    options = {"nopython": True, "boundscheck": None, "error_model": "numpy", "nogil": True}
    options |= {"forceinline": forceinline, "parallel": parallel, "no_cfunc_wrapper": True}  # nobody calls them from C
    compiled = _Kernel(function, targetoptions=options)
    compiled.enable_caching()
    return cast(F, compiled)


def kernel(function: F) -> F:
    """Compile a free function over arrays; the machine code is cached on disk beside its file.

    `error_model="numpy"` because a checked division stops vectorisation; `nogil` because kernels
    touch no Python objects.
    """
    return _compile(function)


def inline_kernel(function: F) -> F:
    """Compile a small function that always disappears into its callers (calls cost reference counting)."""
    return _compile(function, forceinline=True)


def parallel_kernel(function: F) -> F:
    """Compile a kernel whose `prange` loop runs on several threads; it must write where no other turn does."""
    return _compile(function, parallel=True)
