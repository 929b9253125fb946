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
    return larger(values, low)


def clamp_max(values: FloatArray, high: FloatArray) -> FloatArray:
    return smaller(values, high)


def larger(a: FloatArray, b: FloatArray) -> FloatArray:
    """As Go's math.Max: NaN beside anything but +Inf."""
    result: FloatArray = np.where(np.isposinf(a) | np.isposinf(b), np.inf, np.maximum(a, b))
    return result


def smaller(a: FloatArray, b: FloatArray) -> FloatArray:
    """As Go's math.Min: NaN beside anything but -Inf."""
    result: FloatArray = np.where(np.isneginf(a) | np.isneginf(b), -np.inf, np.minimum(a, b))
    return result


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


# What Go makes of NaN, infinities and whatever is no int64: its smallest, whose calendar wraps around.
_WRAPPED = {
    "year": 292_277_026_596.0,
    "month": 12.0,
    "day_of_month": 4.0,
    "day_of_year": 339.0,
    "day_of_week": 0.0,
    "days_in_month": 31.0,
    "hour": 15.0,
    "minute": 30.0,
}


def _calendar(function: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
    """A calendar function that is right for everything that a Go conversion to int64 takes."""

    def calendar(values: FloatArray) -> FloatArray:
        fits = np.abs(values) < 2.0**62
        if fits.all():
            return function(np.trunc(values))
        return np.where(fits, function(np.trunc(np.where(fits, values, 0.0))), _WRAPPED[function.__name__])

    calendar.__doc__ = function.__doc__
    return calendar


def _civil(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Year, month (1-12), day of month (1-31) in UTC."""
    days = values.astype("datetime64[s]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    years = days.astype("datetime64[Y]")
    month = (months - years.astype("datetime64[M]")).astype(np.int64) + 1
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    return (years.astype(np.int64) + 1970).astype(float), month.astype(float), day.astype(float)


@_calendar
def year(values: FloatArray) -> FloatArray:
    return _civil(values)[0]


@_calendar
def month(values: FloatArray) -> FloatArray:
    return _civil(values)[1]


@_calendar
def day_of_month(values: FloatArray) -> FloatArray:
    return _civil(values)[2]


@_calendar
def day_of_year(values: FloatArray) -> FloatArray:
    days = values.astype("datetime64[s]").astype("datetime64[D]")
    since = days - days.astype("datetime64[Y]").astype("datetime64[D]")
    ordinal: FloatArray = (since.astype(np.int64) + 1).astype(np.float64)
    return ordinal


@_calendar
def day_of_week(values: FloatArray) -> FloatArray:
    """0 is Sunday; 1970-01-01 was a Thursday."""
    week: FloatArray = np.mod(np.floor(values / 86_400) + 4, 7)
    return week


@_calendar
def days_in_month(values: FloatArray) -> FloatArray:
    months = values.astype("datetime64[s]").astype("datetime64[M]")
    length = (months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")
    days: FloatArray = length.astype(np.int64).astype(np.float64)
    return days


@_calendar
def hour(values: FloatArray) -> FloatArray:
    hours: FloatArray = np.floor(np.mod(values, 86_400) / 3_600)
    return hours


@_calendar
def minute(values: FloatArray) -> FloatArray:
    minutes: FloatArray = np.floor(np.mod(values, 3_600) / 60)
    return minutes
