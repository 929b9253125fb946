"""Borrow: an array as kernels want to pass it around, without the count of who holds it.

Numba counts references to an array each time that a kernel is given it, with atomic instructions, and
where a kernel has several ways out these stay in the machine code: a third of an event's time. A
borrowed array has no owner to count. Whoever borrows keeps the array itself alive meanwhile, as the
caller of a kernel does anyway; a borrowed array must not outlive the kernel that borrowed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba.core import cgutils, types
from numba.core.extending import intrinsic

A = TypeVar("A")


def _borrowed(_context: Any, array: Any) -> Any:
    """Typing and code of `borrowed`, as Numba's intrinsics want them."""
    if not isinstance(array, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = cgutils.create_struct_proxy(signature.return_type)(context, builder, value=arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), generate


# borrowed(array): the same array, uncounted; only to be called inside kernels.
borrowed = cast(Callable[[A], A], intrinsic(_borrowed))
