"""The catalogue: name, unit, kind and help of every metric that the product has.

One file per room that publishes; adding a metric is adding a line there.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from metrics.catalogue import (
    alerts,
    cpu,
    detectors,
    engine,
    feed,
    gpu,
    host,
    kpi,
    live,
    memory,
    orders,
    process,
    profiler,
    reconciliation,
    remote,
    risk,
    scrape,
    storage,
    web,
)
from metrics.catalogue.metric import Metric
from metrics.series import Series, make_labels

__all__ = ["CATALOGUE", "Metric", "metric_of", "series"]


def _merge(parts: Iterable[tuple[Metric, ...]]) -> dict[str, Metric]:
    merged: dict[str, Metric] = {}
    for metric in (metric for part in parts for metric in part):
        if metric.name in merged:
            raise ValueError(f"metric {metric.name} is in the catalogue twice")
        merged[metric.name] = metric
    return merged


CATALOGUE = MappingProxyType(
    _merge(
        module.METRICS
        for module in (
            host,
            process,
            memory,
            cpu,
            profiler,
            scrape,
            gpu,
            engine,
            kpi,
            risk,
            feed,
            orders,
            reconciliation,
            storage,
            remote,
            alerts,
            detectors,
            web,
            live,
        )
    )
)
_HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")


def metric_of(name: str) -> Metric | None:
    """Return the metric behind a series name; a histogram's parts belong to the histogram."""
    found = CATALOGUE.get(name)
    if found is not None:
        return found
    for part in _HISTOGRAM_PARTS:
        if name.endswith(part):
            whole = CATALOGUE.get(name.removesuffix(part))
            if whole is not None and whole.kind == "histogram":
                return whole
    return None


def series(name: str, /, **labels: str) -> Series:
    """Return a series of a catalogued metric; KeyError where the catalogue does not have it."""
    if metric_of(name) is None:
        raise KeyError(f"metric {name} is not in the catalogue")
    return Series(name, make_labels(labels))
