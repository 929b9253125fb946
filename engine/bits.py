"""Bits: the position of the highest set bit as one machine instruction, inside kernels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing import signature
from numba.extending import intrinsic


@intrinsic
def highest_bit(_context: Any, word: Any) -> Any:
    """Position (0..63) of the highest set bit of an int64; its argument must not be 0.

    Built from the builder's own ctlz: declaring the LLVM intrinsic by name crashes the compiler.
    """
    if not isinstance(word, types.Integer):
        return None

    def build(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: list[Any]) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(ir.IntType(64), 63), zeros)

    return signature(types.int64, types.int64), build
