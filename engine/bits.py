"""Bits: the position of the highest set bit as one machine instruction, inside kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic


def _highest_bit(_context: Any, word: Any) -> Any:
    """Typing and code of `highest_bit`, as Numba's intrinsics want them.

    Built from the builder's own ctlz: declaring the LLVM intrinsic by name crashes the compiler.
    """
    if not isinstance(word, types.Integer):
        return None

    def build(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: list[Any]) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(ir.IntType(64), 63), zeros)

    return types.int64(types.int64), build


# highest_bit(word): position (0..63) of the highest set bit of an int64 that is not 0.
highest_bit = cast(Callable[[int], int], intrinsic(_highest_bit))
