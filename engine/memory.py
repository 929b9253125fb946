"""Shared memory inside kernels: single words at raw addresses, with the order that two processes need.

A word is an int64 at an address that is a multiple of 8. Every access is one instruction that the
compiler neither repeats nor splits, so a value is checked and used as it was read, whatever the other
process writes meanwhile. `acquire` and `release` order what lies around them: what was stored before
a `release` is seen by whoever read its word with `acquire`. `fence` also keeps a later load from
being done before an earlier store. Addresses rather than arrays, because arrays are counted references.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

_WORD = ir.IntType(64)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _WORD.as_pointer())


def _loader(ordering: str) -> Any:
    def _load(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load_atomic(_pointer(builder, args[0]), ordering, 8)

        return types.int64(types.int64), codegen

    return _load


def _storer(ordering: str) -> Any:
    def _store(typing_context: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store_atomic(args[1], _pointer(builder, args[0]), ordering, 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return _store


def _fence(typing_context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


if TYPE_CHECKING:

    def load(address: int) -> int:
        """The word at an address; only to be called inside kernels, as all of these."""
        ...

    def acquire(address: int) -> int:
        """The word at an address, read before everything that follows."""
        ...

    def store(address: int, value: int) -> None:
        """Write the word at an address."""
        ...

    def release(address: int, value: int) -> None:
        """Write the word at an address after everything that came before."""
        ...

    def fence() -> None:
        """Finish every store before the next load."""
        ...

else:
    load = intrinsic(_loader("monotonic"))
    acquire = intrinsic(_loader("acquire"))
    store = intrinsic(_storer("monotonic"))
    release = intrinsic(_storer("release"))
    fence = intrinsic(_fence)
