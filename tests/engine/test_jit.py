"""How kernels are compiled: once for literals and variables, and into a cache that one process writes at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import numba
import pytest
from numba import types
from numba.core.caching import FunctionCache

from engine import jit
from engine.jit import inline_kernel, kernel


@kernel
def _scaled(value: int, by: int) -> int:
    return value * by


@inline_kernel
def _raised(value: int, by: int = 1) -> int:
    return value + by


@kernel
def _all_ways(value: int) -> int:
    return _scaled(value, 3) + _scaled(value, value) + _scaled(by=value, value=2) + _raised(value) + _raised(1, 5)


def test_a_number_written_in_a_call_does_not_compile_a_kernel_anew() -> None:
    assert _all_ways(7) == 21 + 49 + 14 + 8 + 6
    scaled: Any = _scaled  # asked as the compiler asks: a kernel that comes from the cache does not ask any more
    for kinds in ([types.literal(3), types.int64], [types.int64, types.int64], [types.int64, types.literal(2)]):
        scaled.get_call_template(kinds, {})
    assert list(scaled.overloads) == [(types.int64, types.int64)]


def test_the_cache_is_written_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled: Any = jit.kernel(lambda value: value + 1)
    folder = compiled._cache.cache_path
    found: list[str] = []

    def is_free() -> bool:
        other = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(other)
        return True

    save = FunctionCache.save_overload

    def watched(cache: Any, signature: Any, data: Any) -> None:
        found.append("free" if is_free() else "taken")
        save(cache, signature, data)

    monkeypatch.setattr(FunctionCache, "save_overload", watched)
    assert compiled(1) == 2
    assert compiled(1.5) == 2.5
    assert found == ["taken", "taken"]
    assert is_free()
