"""Metrics of: gpu."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

METRICS: tuple[Metric, ...] = ()
