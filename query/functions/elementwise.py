"""Functions of each value by itself: mathematics, rounding, clamping, calendar."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from metrics.frame import FloatArray
from query.context import Context
from query.labels import BLANK, Last, Table, dropping
from query.nodes import Node, ScalarNode, VectorNode
from query.values import Vector, empty

Function = Callable[..., FloatArray]


class Elementwise(VectorNode):
    """function(values, *scalars), with scalars float64 [steps]; the name is dropped."""

    def __init__(self, function: Function, inner: VectorNode, scalars: tuple[ScalarNode, ...] = ()) -> None:
        self.function = function
        self.inner = inner
        self.scalars = scalars
        self._dropped: Last[Table] = Last()

    def children(self) -> Iterator[Node]:
        yield self.inner
        yield from self.scalars

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        if not len(vector.table):
            return empty(context.steps)
        values = self.function(vector.values, *(scalar.evaluate(context) for scalar in self.scalars))
        return Vector(self._dropped.of(dropping, vector.table), values, vector.present)


class Clamp(VectorNode):
    """clamp(v, min, max): nothing at steps where max < min."""

    def __init__(self, inner: VectorNode, low: ScalarNode, high: ScalarNode) -> None:
        self.inner, self.low, self.high = inner, low, high
        self._dropped: Last[Table] = Last()

    def children(self) -> Iterator[Node]:
        yield self.inner
        yield self.low
        yield self.high

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        low, high = self.low.evaluate(context), self.high.evaluate(context)
        values = clamp_min(clamp_max(vector.values, high), low)
        table = self._dropped.of(dropping, vector.table)
        if (high < low).any():
            return Vector(table, values, vector.mask() & ~(high < low))
        return Vector(table, values, vector.present)


class Now(VectorNode):
    """A calendar function without argument: of the evaluation time."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def children(self) -> Iterator[Node]:
        return iter(())

    def evaluate(self, context: Context) -> Vector:
        return Vector(BLANK, self.function(np.floor(context.t_ms / 1000.0))[None, :])


def clamp_min(values: FloatArray, low: FloatArray) -> FloatArray:
    clamped: FloatArray = np.maximum(values, low)
    return clamped


def clamp_max(values: FloatArray, high: FloatArray) -> FloatArray:
    clamped: FloatArray = np.minimum(values, high)
    return clamped


def round_half_up(values: FloatArray, nearest: FloatArray | None = None) -> FloatArray:
    """Round to a multiple of `nearest`, ties up."""
    inverse = 1.0 if nearest is None else 1.0 / nearest
    rounded: FloatArray = np.floor(values * inverse + 0.5) / inverse
    return rounded


def sign(values: FloatArray) -> FloatArray:
    signs: FloatArray = np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))
    return signs


def radians(values: FloatArray) -> FloatArray:
    return values * np.pi / 180


def degrees(values: FloatArray) -> FloatArray:
    return values * 180 / np.pi


def _seconds(values: FloatArray) -> FloatArray:
    """Whole seconds within the years 0 to 9999; what is no time at all becomes the epoch, as a Go conversion's zero."""
    return np.trunc(np.clip(np.nan_to_num(values, nan=0.0), -62_167_219_200, 253_402_300_799))


def _civil(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Year, month (1-12), day of month (1-31) in UTC."""
    days = _seconds(values).astype("datetime64[s]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    years = days.astype("datetime64[Y]")
    month = (months - years.astype("datetime64[M]")).astype(np.int64) + 1
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    return (years.astype(np.int64) + 1970).astype(float), month.astype(float), day.astype(float)


def year(values: FloatArray) -> FloatArray:
    return _civil(values)[0]


def month(values: FloatArray) -> FloatArray:
    return _civil(values)[1]


def day_of_month(values: FloatArray) -> FloatArray:
    return _civil(values)[2]


def day_of_year(values: FloatArray) -> FloatArray:
    days = _seconds(values).astype("datetime64[s]").astype("datetime64[D]")
    since = days - days.astype("datetime64[Y]").astype("datetime64[D]")
    ordinal: FloatArray = (since.astype(np.int64) + 1).astype(np.float64)
    return ordinal


def day_of_week(values: FloatArray) -> FloatArray:
    """0 is Sunday; 1970-01-01 was a Thursday."""
    week: FloatArray = np.mod(np.floor(_seconds(values) / 86_400) + 4, 7)
    return week


def days_in_month(values: FloatArray) -> FloatArray:
    months = _seconds(values).astype("datetime64[s]").astype("datetime64[M]")
    length = (months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")
    days: FloatArray = length.astype(np.int64).astype(np.float64)
    return days


def hour(values: FloatArray) -> FloatArray:
    hours: FloatArray = np.floor(np.mod(_seconds(values), 86_400) / 3_600)
    return hours


def minute(values: FloatArray) -> FloatArray:
    minutes: FloatArray = np.floor(np.mod(_seconds(values), 3_600) / 60)
    return minutes
