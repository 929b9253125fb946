"""Borrowed: an array as a kernel sees it, without an owner to count references for.

Numba counts references, atomically, to every array that an inlined function takes, and the compiler
takes few of these pairs away again: in the gates they cost more than the checks. A borrowed array must
not outlive the call that borrowed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import types
from numba.core.cgutils import get_null_value
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

A = TypeVar("A")


def _borrowed(_context: Any, array: Any) -> Any:
    """Typing and code of `borrowed`, as Numba's intrinsics want them: the same array, owned by nobody."""
    if not isinstance(array, types.Array):
        return None

    def build(context: Any, builder: Any, signature: Any, arguments: list[Any]) -> Any:
        view = make_array(signature.args[0])(context, builder, arguments[0])
        view.meminfo = get_null_value(view.meminfo.type)
        view.parent = get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), build


# borrowed(array): the same memory; the caller keeps the array alive.
borrowed = cast(Callable[[A], A], intrinsic(_borrowed))
