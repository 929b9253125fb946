"""info(): labels of info metrics joined to series by `instance` and `job`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from metrics.frame import IntArray
from metrics.series import Labels
from query.context import Context
from query.errors import execution
from query.labels import NAME, Table, get, keep, show, with_label
from query.matchers import Matcher, predicate
from query.merging import Merging
from query.nodes import Node, Selecting, VectorNode
from query.selectors import InstantSelector, Shift
from query.source import Source
from query.values import BoolArray, Vector, packed

IDENTIFYING = ("instance", "job")
TARGET_INFO = "target_info"


class Info(VectorNode, Selecting):
    """info(v, {matchers}): of each info metric the newest series with the same identifying labels counts."""

    def __init__(self, inner: VectorNode, matchers: tuple[Matcher, ...], source: Source, shift: Shift) -> None:
        self.inner = inner
        self._names = _name_matchers(tuple(one for one in matchers if one.name == NAME))
        self._data = tuple(one for one in matchers if one.name != NAME)
        self.matchers = (*self._names, *self._data)
        self._times = InstantSelector(self.matchers, source.cursor(self.matchers), shift, want_time=True)
        self._wanted = {one.name for one in self._data}
        self._optional = all(predicate(one)("") for one in self._data)
        self._is_info = [predicate(one) for one in self._names]
        self._merging = Merging()

    def children(self) -> Iterator[Node]:
        yield self.inner

    def evaluate(self, context: Context) -> Vector:
        base = self.inner.evaluate(context)
        info = self._times.evaluate(context)
        newest = _newest(info)
        rows: list[Labels] = []
        drops: list[bool] = []
        origin: list[int] = []
        masks: list[BoolArray] = []
        mask = base.mask()
        for row, labels in enumerate(base.table.rows):
            context.budget.check_time()
            for enriched, there in self._enriched(labels, mask[row], info, newest):
                rows.append(enriched)
                drops.append(base.table.drop[row])
                origin.append(row)
                masks.append(there)
        table = Table(tuple(rows), tuple(drops))
        if not rows:
            return Vector(table, np.empty((0, context.steps)))
        return self._merging.merge(Vector(table, base.values[origin], packed(np.stack(masks))))

    def _enriched(
        self,
        labels: Labels,
        mask: BoolArray,
        info: Vector,
        newest: dict[tuple[str, Labels], IntArray],
    ) -> Iterator[tuple[Labels, BoolArray]]:
        """The label sets that one series has over the steps, each with when."""
        if all(test(get(labels, NAME)) for test in self._is_info):
            yield labels, mask
            return
        identity = keep(labels, IDENTIFYING)
        chosen = [rows for (_, key), rows in newest.items() if key == identity] if identity else []
        if not chosen:
            if self._optional:
                yield labels, mask
            return
        combined, which = np.unique(np.stack(chosen), axis=1, return_inverse=True)
        for number, found in enumerate(combined.T.tolist()):
            there = mask & (which.reshape(-1) == number)
            used = [info.table.rows[row] for row in found if row >= 0]
            if there.any() and (used or self._optional):
                yield self._joined(labels, used), there

    def _joined(self, labels: Labels, infos: list[Labels]) -> Labels:
        added: dict[str, str] = {}
        for one in infos:
            for name, value in one:
                if name == NAME or (self._wanted and name not in self._wanted):
                    continue
                if added.get(name, value) != value:
                    raise execution(f"conflicting label: {name}")
                if not get(labels, name):
                    added[name] = value
        for name, value in added.items():
            labels = with_label(labels, name, value)
        return labels


def _name_matchers(given: tuple[Matcher, ...]) -> tuple[Matcher, ...]:
    """What info metrics are called: target_info, unless the selector says otherwise."""
    if not given:
        return (Matcher(NAME, "=", TARGET_INFO),)
    if any(one.op in ("=", "=~") for one in given):
        return given
    return (Matcher(NAME, "=~", ".+_info"), *given)


def _newest(info: Vector) -> dict[tuple[str, Labels], IntArray]:
    """For each info metric and identity the row with the newest sample at every step, int64 [steps], -1 where none."""
    groups: dict[tuple[str, Labels], list[int]] = defaultdict(list)
    for row, labels in enumerate(info.table.rows):
        groups[get(labels, NAME), keep(labels, IDENTIFYING)].append(row)
    found = {}
    for key, rows in groups.items():
        times = np.where(info.mask()[rows], info.values[rows], -np.inf)
        best = times.max(axis=0)
        there = best > -np.inf
        clash = there & ((times == best).sum(axis=0) > 1)
        if clash.any():
            step = int(np.flatnonzero(clash)[0])
            two = [info.table.rows[rows[i]] for i in np.flatnonzero(times[:, step] == best[step])[:2]]
            at = int(best[step] * 1000)
            raise execution(
                f"found duplicate series for info metric: existing {show(two[0])} @ {at}, new {show(two[1])} @ {at}"
            )
        found[key] = np.where(there, np.array(rows)[times.argmax(axis=0)], -1)
    return found
