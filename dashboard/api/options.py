"""Limits of what programs may send to the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """What one request, one series and one source of samples may be.

    most_body_bytes: a request's body as sent. most_block_bytes: what it holds uncompressed.
    most_labels, most_name_bytes, most_value_bytes: of one series (Prometheus's label_limit and its siblings).
    most_series_per_source: series that one sender (its address) or one value of the label `job` may keep
        active at a time; samples of further ones are refused, the rest of the request is stored.
    receive_timeout_s: a body that has not arrived after this long is given up.
    running, waiting: requests that are decoded and stored at once, and that may wait; beyond, 503 with Retry-After.
    """

    most_body_bytes: Annotated[int, Ge(1_024)] = 16 * MIB
    most_block_bytes: Annotated[int, Ge(1_024)] = 64 * MIB
    most_labels: Annotated[int, Ge(1), Le(1_000)] = 64
    most_name_bytes: Annotated[int, Ge(16), Le(65_536)] = 256
    most_value_bytes: Annotated[int, Ge(16), Le(1_048_576)] = 4_096
    most_series_per_source: Annotated[int, Ge(1), Le(10_000_000)] = 100_000
    receive_timeout_s: Annotated[float, Gt(0), Le(3_600)] = 30.0
    running: Annotated[int, Ge(1), Le(64)] = 4
    waiting: Annotated[int, Ge(0), Le(10_000)] = 64
