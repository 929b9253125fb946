"""Context: the steps of one evaluation, and the limits it runs under."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from metrics.clock import Clock
from metrics.frame import IntArray
from query.annotations import Annotations
from query.errors import QueryError, execution
from query.options import QueryOptions


@dataclass(slots=True)
class Budget:
    """What one query may still use up; shared by all contexts of the query."""

    options: QueryOptions
    clock: Clock
    deadline_ns: int
    limit_s: float
    loaded: int = 0
    annotations: Annotations = field(default_factory=Annotations)

    def check_time(self) -> None:
        """Raise QueryError(timeout) when the query has run too long."""
        if self.clock.monotonic_ns() > self.deadline_ns:
            raise QueryError("timeout", f"query timed out after {self.limit_s:g} s")

    def spend(self, samples: int) -> None:
        """Count samples that are loaded or made; QueryError where they are too many."""
        self.loaded += samples
        if self.loaded > self.options.max_samples:
            raise execution("query processing would load too many samples into memory in query execution")

    def check_series(self, count: int) -> None:
        if count > self.options.max_series:
            raise execution(f"a selector matches {count} series, the limit is {self.options.max_series}")


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Evaluation times and limits.

    t_ms: int64 [steps], ascending with constant distance step_ms (0 for one instant).
    start_ms, end_ms: of the whole query, for `@ start()` and `@ end()`, also inside subqueries.
    """

    t_ms: IntArray
    step_ms: int
    start_ms: int
    end_ms: int
    budget: Budget

    @property
    def steps(self) -> int:
        return len(self.t_ms)

    @property
    def single(self) -> bool:
        return len(self.t_ms) == 1

    @property
    def options(self) -> QueryOptions:
        return self.budget.options

    def at(self, t_ms: IntArray, step_ms: int) -> Context:
        """The same query at other times."""
        return Context(t_ms, step_ms, self.start_ms, self.end_ms, self.budget)

    def part(self, begin: int, end: int) -> Context:
        """The same query at some of its steps."""
        return self.at(self.t_ms[begin:end], self.step_ms if end - begin > 1 else 0)

    def first_step(self) -> Context:
        """The same query at its first step only."""
        return self.at(self.t_ms[:1], 0)


def times(start_ms: int, end_ms: int, step_ms: int) -> IntArray:
    """int64 times from start to end, both included where the step fits."""
    return np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
