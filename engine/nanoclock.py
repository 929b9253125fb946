"""The machine's clocks inside kernels: clock_gettime of libc, about 23 ns a call.

An intrinsic that declares the libc symbol stays cacheable; a ctypes function pointer would not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

CLOCK_REALTIME = time.CLOCK_REALTIME
CLOCK_MONOTONIC = time.CLOCK_MONOTONIC


def _clock_ns(typing_context: Any, clock_id: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        timespec = ir.LiteralStructType([i64, i64])
        declared = ir.FunctionType(ir.IntType(32), [ir.IntType(32), timespec.as_pointer()])
        function = builder.module.globals.get("clock_gettime")
        if function is None:
            function = ir.Function(builder.module, declared, name="clock_gettime")
        # The slot belongs to the function's entry block: inside a loop it would grow the stack.
        with builder.goto_entry_block():
            slot = builder.alloca(timespec)
        builder.call(function, [builder.trunc(args[0], ir.IntType(32)), slot])
        seconds = builder.load(builder.gep(slot, [ir.IntType(32)(0), ir.IntType(32)(0)]))
        nanoseconds = builder.load(builder.gep(slot, [ir.IntType(32)(0), ir.IntType(32)(1)]))
        return builder.add(builder.mul(seconds, i64(1_000_000_000)), nanoseconds)

    return types.int64(types.int64), codegen


if TYPE_CHECKING:

    def clock_ns(clock_id: int) -> int:
        """Nanoseconds of one of the clocks above; only to be called inside kernels."""
        ...

else:
    clock_ns = intrinsic(_clock_ns)
