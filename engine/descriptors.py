"""Descriptors inside kernels: sleeping until one can be read, and eventfds, by calls of libc. Linux only.

A process that wakes up in Python runs a good deal of it, with cold caches, before it does what it was
woken for; a kernel that sleeps by itself goes on at once. Intrinsics that declare libc's
symbols stay cacheable, as in `engine.nanoclock`.

What to sleep on is an int64 array of `struct pollfd`, one word each: descriptor in the low 32 bits, then
what is asked for, then (written by the system) what has come, as little-endian machines lay it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from engine.jit import inline_kernel
from engine.nanoclock import CLOCK_MONOTONIC, clock_ns
from metrics.frame import IntArray

NS: Final = 1_000_000_000
_ASKED_SHIFT: Final = 32
_COME_SHIFT: Final = 48
_READABLE: Final = 1  # POLLIN
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def readable(descriptors: Iterable[int]) -> IntArray:
    """What `sleep_until` takes, to sleep until one of these can be read, or its other end hangs up."""
    return np.array([descriptor | _READABLE << _ASKED_SHIFT for descriptor in descriptors], dtype=np.int64)


def _declared(builder: Any, name: str, kind: Any) -> Any:
    function = builder.module.globals.get(name)
    return function if function is not None else ir.Function(builder.module, kind, name=name)


def _poll(typing_context: Any, address: Any, count: Any, left_ns: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        timespec = ir.LiteralStructType([_I64, _I64])
        kind = ir.FunctionType(_I32, [_I64.as_pointer(), _I64, timespec.as_pointer(), _I64.as_pointer()])
        # The slot belongs to the function's entry block: inside a loop it would grow the stack.
        with builder.goto_entry_block():
            slot = builder.alloca(timespec)
        builder.store(builder.sdiv(args[2], _I64(NS)), builder.gep(slot, [_I32(0), _I32(0)]))
        builder.store(builder.srem(args[2], _I64(NS)), builder.gep(slot, [_I32(0), _I32(1)]))
        files = builder.inttoptr(args[0], _I64.as_pointer())
        nothing = ir.Constant(_I64.as_pointer(), None)
        done = builder.call(_declared(builder, "ppoll", kind), [files, args[1], slot, nothing])
        return builder.sext(done, _I64)

    return types.int64(types.int64, types.int64, types.int64), codegen


def _transfer(name: str) -> Any:
    """The eventfd call `name`: eight bytes read from or written to a descriptor."""

    def _call(typing_context: Any, descriptor: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_I64, [_I32, _I64.as_pointer(), _I64])
            with builder.goto_entry_block():
                slot = builder.alloca(_I64)
            builder.store(args[1], slot)
            return builder.call(_declared(builder, name, kind), [builder.trunc(args[0], _I32), slot, _I64(8)])

        return types.int64(types.int64, types.int64), codegen

    return _call


if TYPE_CHECKING:

    def _ppoll(address: int, count: int, left_ns: int) -> int: ...
    def _read(descriptor: int, value: int) -> int: ...
    def _write(descriptor: int, value: int) -> int: ...

else:
    _ppoll = intrinsic(_poll)
    _read = intrinsic(_transfer("read"))
    _write = intrinsic(_transfer("write"))


@inline_kernel
def sleep_until(files: IntArray, until_ns: int) -> bool:
    """Sleep until one of `files` (see `readable`) has something, or until then (monotonic).

    Returns whether one has. A signal ends it as well, and its handler runs once the kernel has returned.
    """
    left_ns = until_ns - clock_ns(CLOCK_MONOTONIC)
    return _ppoll(files.ctypes.data, len(files), max(left_ns, 0)) > 0


@inline_kernel
def has_come(files: IntArray, k: int) -> bool:
    """After `sleep_until` returned True: whether there is something to be heard from descriptor k."""
    return bool(files[k] >> _COME_SHIFT != 0)


@inline_kernel
def ring_bell(bell: int) -> None:
    """Wake who sleeps on an eventfd; one whose counter is full has been rung for already."""
    _write(bell, 1)


@inline_kernel
def hush(bell: int) -> None:
    """Take back what an eventfd (that does not block) was rung for."""
    _read(bell, 0)
