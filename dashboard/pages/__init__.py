"""The pages of the console."""

from __future__ import annotations

from dashboard.pages import alerts, desk, history, host, orders
from dashboard.pages.page import Page

PAGES: tuple[Page, ...] = (desk.PAGE, orders.PAGE, host.PAGE, history.PAGE, alerts.PAGE)
