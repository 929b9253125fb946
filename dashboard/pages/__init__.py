"""The pages of the console."""

from __future__ import annotations

from dashboard.pages import alerts, desk, engine, history, host, latency
from dashboard.pages.page import Page

PAGES: tuple[Page, ...] = (desk.PAGE, latency.PAGE, engine.PAGE, host.PAGE, history.PAGE, alerts.PAGE)
