"""Lend: a tuple of arrays that kernels reach by one address, instead of being handed array by array.

A call from Python costs the more the more arrays its arguments hold: Numba works out each one's type and
takes each one apart, 7 us for the desk's forty. Between kernels every array is eight words on the stack.
So the tuple is taken apart once, into a table of its arrays' addresses and shapes; kernels get the table
and read from it what they use. What a kernel takes from a lent tuple is not counted (see `engine.borrow`):
whoever lends keeps the tuple and the table alive while kernels run.

    table = lend(desk)         # in Python; lend(desk, table) after an array has been exchanged
    desk = desk_of(table)      # in a kernel, where desk_of = taken_from(Desk); then desk.field as ever
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import cgutils, types
from numba.core.extending import intrinsic, models, register_model
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr

from metrics.frame import IntArray

T = TypeVar("T")
_WORD = cgutils.intp_t
_TYPES: dict[type, Any] = {}  # of each class of tuples that has been lent


class LentType(types.Type):
    """Numba's type of a lent tuple: the address of its table."""

    def __init__(self, tuple_type: Any) -> None:
        self.tuple_type = tuple_type
        super().__init__(name=f"Lent({tuple_type.name})")


@register_model(LentType)
class _LentModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lent: Any) -> None:
        super().__init__(manager, lent, _WORD.as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):
    key = LentType

    def generic_resolve(self, lent: Any, name: str) -> Any:  # type: ignore[override]
        fields = lent.tuple_type.fields
        return lent.tuple_type.types[fields.index(name)] if name in fields else None


def _words(kind: Any) -> int:
    """Words that a tuple or an array of this type has in a table: of an array its address and its shape."""
    if isinstance(kind, types.NamedTuple):
        return sum(_words(member) for member in kind.types)
    if isinstance(kind, types.Array) and kind.layout == "C" and kind.mutable:
        return 1 + int(kind.ndim)
    raise TypeError(f"only contiguous, writable arrays can be lent, not {kind}")


def _take(context: Any, builder: Any, kind: Any, table: Any, at: int) -> Any:
    """Code that puts together the array or tuple of `kind` from word `at` of a table on."""

    def word(offset: int) -> Any:
        # The table stands still while a kernel runs: LLVM may read a word once, or once more.
        value = builder.load(builder.gep(table, [_WORD(at + offset)]))
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    if isinstance(kind, types.NamedTuple):
        members = []
        for member in kind.types:
            members.append(_take(context, builder, member, table, at))
            at += _words(member)
        return context.make_tuple(builder, kind, members)
    view = context.make_array(kind)(context, builder)
    item_bytes = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    shape = [word(1 + k) for k in range(kind.ndim)]
    strides: list[Any] = []
    items: Any = _WORD(1)
    for length in reversed(shape):
        strides.insert(0, builder.mul(items, _WORD(item_bytes)))
        items = builder.mul(items, length)
    view.data = builder.inttoptr(word(0), view.data.type)
    view.shape = cgutils.pack_array(builder, shape, ty=_WORD)
    view.strides = cgutils.pack_array(builder, strides, ty=_WORD)
    view.itemsize, view.nitems = _WORD(item_bytes), items
    view.meminfo = cgutils.get_null_value(view.meminfo.type)
    view.parent = cgutils.get_null_value(view.parent.type)
    return view._getvalue()


@lower_getattr_generic(LentType)  # type: ignore[untyped-decorator]
def _field(context: Any, builder: Any, lent: Any, table: Any, name: str) -> Any:
    which = lent.tuple_type.fields.index(name)
    at = sum(_words(member) for member in lent.tuple_type.types[:which])
    return _take(context, builder, lent.tuple_type.types[which], table, at)


def taken_from(kind: type[T]) -> Callable[[IntArray], T]:
    """A function for kernels: the lent tuple of class `kind` behind a table that `lend` has made."""

    def take(_context: Any, table: Any) -> Any:
        if table != types.Array(types.int64, 1, "C"):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return context.make_array(signature.args[0])(context, builder, arguments[0]).data

        return LentType(_TYPES[kind])(table), generate

    return cast(Callable[[IntArray], T], intrinsic(take))


def lend(arrays: Any, table: IntArray | None = None) -> IntArray:
    """Write a NamedTuple of arrays (and of such tuples) into a table, a new one where none is given.

    TypeError where an array is not contiguous and writable, or has another type than when a tuple of this
    class was lent first: kernels are compiled for that one.
    """
    kind = numba.typeof(arrays)
    size = _words(kind)
    if _TYPES.setdefault(type(arrays), kind) != kind:
        raise TypeError(f"{type(arrays).__name__} was lent before with arrays of other types")
    words = [word for array in _leaves(arrays) for word in (array.ctypes.data, *array.shape)]
    if table is None:
        table = np.zeros(size, dtype=np.int64)
    table[:] = words
    return table


def _leaves(arrays: Any) -> list[Any]:
    if isinstance(arrays, np.ndarray):
        return [arrays]
    return [leaf for member in arrays for leaf in _leaves(member)]
