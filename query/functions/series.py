"""Functions of whole series: labels rewritten, order, absence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from metrics.series import Labels
from query.annotations import NO_SORTING
from query.context import Context
from query.errors import execution
from query.labels import NAME, Last, Table, get, with_label
from query.matchers import Matcher, full_regex
from query.merging import Merging
from query.nodes import Node, RangeNode, VectorNode
from query.values import Vector, empty, packed

_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


class Relabel(VectorNode):
    """label_replace and label_join: one label of every series is set anew."""

    def __init__(self, inner: VectorNode, target: str, value: Callable[[Labels], str | None]) -> None:
        self.inner = inner
        self.target = target
        self.value = value
        self._tables: Last[Table] = Last()
        self._merging = Merging()

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        table = self._tables.of(self._rewritten, vector.table)
        return self._merging.merge(Vector(table, vector.values, vector.present))

    def _rewritten(self, table: Table) -> Table:
        rows, drops = [], []
        for labels, drop in zip(table.rows, table.drop, strict=True):
            value = self.value(labels)
            rows.append(labels if value is None else with_label(labels, self.target, value))
            drops.append(drop and (value is None or self.target != NAME))
        return Table(tuple(rows), tuple(drops))


def label_replace(inner: VectorNode, target: str, replacement: str, source: str, pattern: str) -> Relabel:
    """label_replace(v, dst, replacement, src, regex)."""
    _check_label(target, "label_replace", "destination")
    try:
        regex = full_regex(pattern)
    except Exception:
        raise execution(f"invalid regular expression in label_replace(): {pattern}") from None

    def value(labels: Labels) -> str | None:
        match = regex.fullmatch(get(labels, source))
        return None if match is None else _REFERENCE.sub(lambda reference: _group(match, reference), replacement)

    return Relabel(inner, target, value)


def _group(match: object, reference: re.Match[str]) -> str:
    """The text of $1, ${name} or $$, "" where there is no such group."""
    name = reference.group(1) or reference.group(2)
    if name is None:
        return "$"
    try:
        return match.group(int(name) if name.isdigit() else name) or ""  # type: ignore[attr-defined]
    except (IndexError, KeyError):
        return ""


def label_join(inner: VectorNode, target: str, separator: str, sources: tuple[str, ...]) -> Relabel:
    """label_join(v, dst, separator, src...)."""
    _check_label(target, "label_join", "destination")
    for name in sources:
        _check_label(name, "label_join", "source")
    return Relabel(inner, target, lambda labels: separator.join(get(labels, name) for name in sources))


def _check_label(name: str, function: str, which: str) -> None:
    if not name or "\ufffd" in name:  # what is no UTF-8 was read as that
        raise execution(f"invalid {which} label name in {function}(): {name}")


class Sorted(VectorNode):
    """sort and sort_desc: order by value, NaN last; of instant queries only."""

    def __init__(self, inner: VectorNode, where: str, *, descending: bool) -> None:
        self.inner = inner
        self.where = where
        self.descending = descending

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        if not context.single:
            context.budget.annotations.warn(NO_SORTING, self.where)
            return vector
        values = vector.values[:, 0]
        return vector.take(np.argsort(-values if self.descending else values, kind="stable"))


class SortedByLabel(VectorNode):
    """sort_by_label(_desc): order by label values, digits inside them as numbers."""

    def __init__(self, inner: VectorNode, names: tuple[str, ...], where: str, *, descending: bool) -> None:
        self.inner = inner
        self.where = where
        self.names = names
        self.descending = descending

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        if not context.single:
            context.budget.annotations.warn(NO_SORTING, self.where)
            return vector
        rows = vector.table.rows
        keys = [(*(_natural(get(row, name)) for name in self.names), *(row,)) for row in rows]
        order = sorted(range(len(rows)), key=lambda row: keys[row], reverse=self.descending)
        return vector.take(np.array(order, dtype=np.int64))


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part)


def labels_of_matchers(matchers: tuple[Matcher, ...]) -> Labels:
    """The labels that an absent series would have: those that matchers pin with `=`."""
    labels: Labels = ()
    seen: set[str] = set()
    for name, op, value in matchers:
        if name == NAME:
            continue
        if op == "=" and name not in seen:
            labels = with_label(labels, name, value)
            seen.add(name)
        else:
            labels = with_label(labels, name, "")
    return labels


class Absent(VectorNode):
    """absent and absent_over_time: 1 where nothing is there."""

    def __init__(self, inner: VectorNode | RangeNode, labels: Labels) -> None:
        self.inner = inner
        self._table = Table((labels,))

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        missing = np.ones((1, context.steps), dtype=np.bool_)
        if isinstance(self.inner, RangeNode):
            for window in self.inner.windows(context).blocks:
                missing &= ~(window.count > 0)
        else:
            missing &= ~self.inner.evaluate(context).mask().any(axis=0)
        if not missing.any():
            return empty(context.steps)
        return Vector(self._table, np.ones((1, context.steps)), packed(missing))


class EvaluationTime(VectorNode):
    """timestamp() of anything but a plain selector: the evaluation time."""

    def __init__(self, inner: VectorNode) -> None:
        self.inner = inner
        self._dropped: Last[Table] = Last()

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        vector = self.inner.evaluate(context)
        seconds = np.broadcast_to(context.t_ms / 1000.0, vector.values.shape)
        return Vector(self._dropped.of(Table.dropping, vector.table), seconds, vector.present)
