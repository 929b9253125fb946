"""The pages of the console."""

from __future__ import annotations

from dashboard.pages import (
    alerts,
    delivery,
    desk,
    engine,
    history,
    host,
    latency,
    oncall,
    orders,
    profiler,
    resources,
    risk,
    rules,
)
from dashboard.pages.page import Page

PAGES: tuple[Page, ...] = (
    desk.PAGE,
    orders.PAGE,
    latency.PAGE,
    engine.PAGE,
    risk.PAGE,
    resources.PAGE,
    host.PAGE,
    profiler.PAGE,
    history.PAGE,
    alerts.PAGE,
    rules.PAGE,
    oncall.PAGE,
    delivery.PAGE,
)
