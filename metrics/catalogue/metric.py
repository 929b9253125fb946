"""Metric: one line of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from metrics.series import Kind


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric name means.

    unit is a base unit in Prometheus's words (seconds, bytes, ratio, usd, bps, ...) or "" for a
    plain count; labels are the label names its series carry, in reading order.
    """

    name: str
    unit: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
