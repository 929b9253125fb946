"""Node: one operation of a plan; scalars, texts and what wraps other nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from metrics.frame import FloatArray
from query.context import Context
from query.labels import BLANK, Last, Table, dropping
from query.matchers import Matcher
from query.values import Vector
from query.windows import Windows


class VectorNode(ABC):
    """Evaluates to an instant vector."""

    # True where the result does not depend on the evaluation time (everything below is pinned with @).
    pinned = False

    @abstractmethod
    def evaluate(self, context: Context) -> Vector: ...

    def children(self) -> Iterator[Node]:
        return iter(())


class ScalarNode(ABC):
    """Evaluates to a number per step: float64 [steps]."""

    pinned = False

    @abstractmethod
    def evaluate(self, context: Context) -> FloatArray: ...

    def children(self) -> Iterator[Node]:
        return iter(())


class RangeNode(ABC):
    """Evaluates to a range vector: a window of samples per series and step."""

    pinned = False
    range_ms: int

    @abstractmethod
    def windows(self, context: Context) -> Windows: ...

    def children(self) -> Iterator[Node]:
        return iter(())


class Text:
    """A string literal."""

    pinned = True

    def __init__(self, value: str) -> None:
        self.value = value

    def children(self) -> Iterator[Node]:
        return iter(())


Node: TypeAlias = VectorNode | ScalarNode | RangeNode | Text


class Selecting:
    """A node that reads series: what the plan depends on."""

    matchers: tuple[Matcher, ...]


class Number(ScalarNode):
    """A literal."""

    pinned = True

    def __init__(self, value: float) -> None:
        self.value = value
        self._one = np.full(1, value)

    def evaluate(self, context: Context) -> FloatArray:
        return self._one if context.single else np.full(context.steps, self.value)


class Time(ScalarNode):
    """time()."""

    def evaluate(self, context: Context) -> FloatArray:
        seconds: FloatArray = context.t_ms / 1000.0
        return seconds


class AsScalar(ScalarNode):
    """scalar(v): the value of the only element, NaN where there is not exactly one."""

    def __init__(self, inner: VectorNode) -> None:
        self.inner = inner
        self.pinned = inner.pinned

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> FloatArray:
        vector = self.inner.evaluate(context)
        count = vector.mask().sum(axis=0)
        total: FloatArray = vector.filled(0.0).sum(axis=0)
        return np.where(count == 1, total, np.nan)


class AsVector(VectorNode):
    """vector(s): one element without labels."""

    def __init__(self, inner: ScalarNode) -> None:
        self.inner = inner
        self.pinned = inner.pinned

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        return Vector(BLANK, self.inner.evaluate(context)[None, :])


class NegativeVector(VectorNode):
    """-v."""

    def __init__(self, inner: VectorNode) -> None:
        self.inner = inner
        self.pinned = inner.pinned
        self._dropped: Last[Table] = Last()

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        return Vector(self._dropped.of(dropping, vector.table), -vector.values, vector.present)


class ScalarFunction(ScalarNode):
    """A NumPy function of scalars."""

    def __init__(self, function: Callable[..., FloatArray], *inner: ScalarNode) -> None:
        self.function = function
        self.inner = inner
        self.pinned = all(node.pinned for node in inner)

    def children(self) -> Iterator[Node]:
        return iter(self.inner)

    def evaluate(self, context: Context) -> FloatArray:
        return self.function(*(node.evaluate(context) for node in self.inner))


class PinnedVector(VectorNode):
    """A vector that is the same at every step: evaluated once."""

    pinned = True

    def __init__(self, inner: VectorNode) -> None:
        self.inner = inner

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        if context.single:
            return self.inner.evaluate(context)
        once = self.inner.evaluate(context.first_step())
        shape = (len(once.table), context.steps)
        context.budget.spend(shape[0] * shape[1])
        present = None if once.present is None else np.broadcast_to(once.present, shape)
        return Vector(once.table, np.broadcast_to(once.values, shape), present)


def pinned(node: VectorNode) -> VectorNode:
    """Wrap a node that does not depend on time, unless it is wrapped already."""
    return PinnedVector(node) if node.pinned and not isinstance(node, PinnedVector) else node
