"""Limits and defaults of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """What one query may cost.

    lookback_s: how far back an instant selector looks for a sample (Prometheus: 5 minutes).
    timeout_s: a query is given up after this long.
    max_expression_bytes, max_nesting, max_operators: checked before parsing; the parser's time grows with the text, its
        stack and the plan's depth with nesting and operators.
    max_series: series one selector may match.
    max_samples: samples one query may load or produce in one node.
    max_steps: points per series of a range query (Prometheus: 11,000).
    subquery_step_s: the step of a subquery that names none.
    rollups: auto answers from 1-minute rollups where samples are gone, or where a coarse query (steps of 5 minutes,
        ranges of 10) would read more than rollup_samples; never does not.
    """

    lookback_s: Annotated[float, Gt(0), Le(86_400)] = 300.0
    timeout_s: Annotated[float, Gt(0), Le(3_600)] = 30.0
    max_expression_bytes: Annotated[int, Ge(64), Le(65_536)] = 8_192
    max_nesting: Annotated[int, Ge(4), Le(200)] = 100
    max_operators: Annotated[int, Ge(4), Le(250)] = 200
    max_series: Annotated[int, Ge(1)] = 20_000
    max_samples: Annotated[int, Ge(1_000)] = 20_000_000
    max_steps: Annotated[int, Ge(1)] = 11_000
    subquery_step_s: Annotated[float, Gt(0), Le(86_400)] = 60.0
    rollups: Literal["auto", "never"] = "auto"
    rollup_samples: Annotated[int, Ge(0)] = 5_000_000

    @property
    def lookback_ms(self) -> int:
        return round(self.lookback_s * 1000)

    @property
    def subquery_step_ms(self) -> int:
        return round(self.subquery_step_s * 1000)
