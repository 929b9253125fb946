"""Vector matching: which rows of two vectors meet, and the labels of what comes out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.frame import IntArray
from metrics.series import Labels
from query.errors import execution
from query.grouping import Grouping, group_by
from query.labels import METADATA, NAME, Table, get, keep, show, with_label, without
from query.values import BoolArray

MOST_PAIRS = 100_000
Cardinality = Literal["one-to-one", "many-to-one", "one-to-many", "many-to-many"]


@dataclass(frozen=True, slots=True)
class Matching:
    """on/ignoring (labels), group_left/group_right (include)."""

    cardinality: Cardinality = "one-to-one"
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None

    @property
    def fills(self) -> bool:
        return self.fill_left is not None or self.fill_right is not None

    def signature(self, labels: Labels) -> Labels:
        """What has to be equal for two rows to meet."""
        return keep(labels, self.labels) if self.on else without(labels, (*self.labels, NAME))

    def result(self, many: Labels, one: Labels, *, drop_name: bool) -> Labels:
        """Labels of the pair's result: those of the `many` side, plus what is included from the `one` side."""
        labels = without(many, METADATA) if drop_name else many
        if self.cardinality == "one-to-one":
            labels = keep(labels, self.labels) if self.on else without(labels, self.labels)
        for name in self.include:
            labels = with_label(labels, name, get(one, name))
        return labels


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The pairs of rows that can meet, for two given tables.

    many, one: int64 [pairs], row positions. `table` are the results' labels, one row a pair.
    one_groups: rows of the `one` side by signature, if any signature occurs twice there: then each
        step has to be looked at. many_groups: the same for the `many` side of a one-to-one match.
    result_groups: pairs by equal result labels, if any labels occur twice.
    """

    many: IntArray
    one: IntArray
    table: Table
    one_groups: Grouping | None
    many_groups: Grouping | None
    result_groups: Grouping | None


def pairs(matching: Matching, many: Table, one: Table, *, drop_name: bool) -> Pairs:
    """Find all pairs of rows with equal signatures."""
    many_keys = [matching.signature(labels) for labels in many.rows]
    one_keys = [matching.signature(labels) for labels in one.rows]
    one_rows: dict[Labels, list[int]] = defaultdict(list)
    for row, key in enumerate(one_keys):
        one_rows[key].append(row)
    if sum(len(one_rows.get(key, ())) for key in many_keys) > MOST_PAIRS:
        raise execution(
            f"matching meets more than {MOST_PAIRS} pairs of series: matching labels must be unique on one side"
        )
    met = [(i, j) for i, key in enumerate(many_keys) for j in one_rows.get(key, ())]
    left, right = np.array([i for i, _ in met], dtype=np.int64), np.array([j for _, j in met], dtype=np.int64)
    named = tuple(matching.result(many.rows[i], one.rows[j], drop_name=drop_name) for i, j in met)
    many_groups = None
    if matching.cardinality == "one-to-one":
        many_groups = _if_twice([many_keys[i] for i, _ in met])
    # What has lost its name on the way (abs(x) > y) does not get it back by being compared.
    drops = tuple(many.drop[i] for i, _ in met)
    return Pairs(left, right, Table(named, drops), _if_twice(one_keys), many_groups, _if_twice(list(named)))


def _if_twice(keys: list[Labels]) -> Grouping | None:
    return group_by(keys) if len(set(keys)) < len(keys) else None


def check_one_side(matching: Matching, found: Pairs, one: Table, present: BoolArray, both: BoolArray) -> None:
    """Raise where two rows of the `one` side with the same signature are present at one step.

    both: bool [steps], where neither side is empty (Prometheus looks only there).
    """
    if found.one_groups is None:
        return
    counts = np.asarray(found.one_groups.reduce(np.add, present.astype(np.int64)))
    clashes = np.argwhere((counts > 1) & both)
    if not len(clashes):
        return
    group, step = clashes[0]
    rows = [row for row in found.one_groups.rows(int(group)).tolist() if present[row, step]]
    rows.sort(key=lambda row: one.rows[row])
    shared = one.rows[rows[0]]
    shared = keep(shared, matching.labels) if matching.on else without(shared, (*matching.labels, NAME))
    shown = sorted(show(one.rows[row]) for row in rows[:2])
    side = "left" if matching.cardinality == "one-to-many" else "right"
    raise execution(
        f"found duplicate series for the match group {show(shared)} on the {side} hand-side of the operation: "
        f"[{shown[0]}, {shown[1]}];many-to-many matching not allowed: matching labels must be unique on one side"
    )


def check_many_side(found: Pairs, present: BoolArray) -> None:
    """Raise where a one-to-one match meets two rows of the other side, or two results have the same labels."""
    if found.many_groups is not None and _clash(found.many_groups, present):
        raise execution("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
    if found.result_groups is not None and _clash(found.result_groups, present):
        raise execution("multiple matches for labels: grouping labels must ensure unique matches")


def _clash(grouping: Grouping, present: BoolArray) -> bool:
    return bool((np.asarray(grouping.reduce(np.add, present.astype(np.int64))) > 1).any())
