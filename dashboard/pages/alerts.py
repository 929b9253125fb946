"""Alerts: what is active, what happened and who was told.

The active list comes with the live stream; the tables are asked anew whenever it says that alerts
have changed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dash import Dash, Input, Output

from alerts.views import AlertEvent, NotificationView
from dashboard.components.alertlist import alert_panel
from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services
from dashboard.timerange import show_time
from metrics.errors import DeskvigilError

PAGE_ROWS = 50
MAX_ROWS = 1_000
_REASONS = {
    "first": "fired",
    "escalated": "escalated",
    "tier_fell": "became less severe",
    "repeat": "still firing",
    "resolved": "resolved",
    "acknowledged": "acknowledged",
    "unacknowledged": "acknowledgement taken back",
    "ack_lapsed": "acknowledgement lapsed",
    "assigned": "assigned",
    "escalation_step": "not acknowledged: the next were told",
    "untold": "told late, found by the auditor",
    "pending": "pending",
    "withdrawn": "withdrawn before it fired",
    "rule_gone": "ended with its rule",
    "unsuppressed": "told late: no longer silenced",
    "settled": "no longer comes and goes",
}


async def _layout(services: Services, parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            alert_panel(full=True),
            _section("History", "what happened to alerts, newest first", "a-history", "a-more-history"),
            _section(
                "Notifications", "attempts to tell people, newest first", "a-notifications", "a-more-notifications"
            ),
        ],
        className="page alerts-page",
        **{"data-page": "alerts", "data-title": "Alerts", "data-highlight": parameters.get("alert", "")},
    )


def _section(title: str, note: str, id: str, more: str) -> Component:
    return html.Section(
        [
            html.Header([html.H2(title), html.Span(note, className="note")]),
            html.Div(id=id, className="scroll"),
            html.Button("Older", id=more, type="button", n_clicks=0),
        ],
        className="panel",
    )


def _register(app: Dash, services: Services) -> None:
    @app.callback(Output("a-history", "children"), Input("alerts-version", "data"), Input("a-more-history", "n_clicks"))
    async def show_history(_version: int, clicks: int | None) -> Component:
        return await _answer(services.alerts.history, clicks, _history_table, "No alert has changed yet.")

    @app.callback(
        Output("a-notifications", "children"),
        Input("alerts-version", "data"),
        Input("a-more-notifications", "n_clicks"),
    )
    async def show_notifications(_version: int, clicks: int | None) -> Component:
        words = "Nobody has been told anything yet: no channel is configured, or no alert has fired."
        return await _answer(services.alerts.notifications, clicks, _notification_table, words)


async def _answer(question: Any, clicks: int | None, table: Any, nothing: str) -> Component:
    """Ask in a thread for as many rows as were clicked for; failures and absence are said in words."""
    limit = min(PAGE_ROWS * ((clicks or 0) + 1), MAX_ROWS)
    try:
        rows = await asyncio.to_thread(question, limit)
    except DeskvigilError as error:
        return html.P(f"Cannot be read now: {error}", className="problem")
    shown: Component = table(rows) if rows else html.P(nothing, className="absence")
    return shown


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], main: str) -> Component:
    """A table; on a phone each row becomes a small card, with the cell of the column `main` on a line of its own."""
    head = html.Tr([html.Th(word, scope="col") for word in heads])
    classes = ["main" if word == main else "" for word in heads]
    body = [html.Tr([html.Td(cell, className=name) for cell, name in zip(row, classes, strict=True)]) for row in rows]
    return html.Table([html.Thead(head), html.Tbody(body)], className="rows words")


def _severity(label: str) -> Component:
    return html.Span(
        [html.Span(className=f"mark mark-{label}", **{"aria-hidden": "true"}), label], className="severity"
    )


def _history_table(events: Sequence[AlertEvent]) -> Component:
    rows = [
        (
            show_time(event.t_ms),
            _severity(event.severity.label),
            event.annotations.get("summary") or event.labels.get("alertname", event.rule),
            _REASONS.get(event.reason.value, event.reason.value),
            _number(event.value),
            " · ".join(part for part in (event.who, event.comment) if part),
        )
        for event in events
    ]
    return _table(("Time UTC", "Severity", "Alert", "What happened", "Value", "By"), rows, "Alert")


def _notification_table(attempts: Sequence[NotificationView]) -> Component:
    rows = [
        (
            show_time(attempt.t_ms),
            attempt.channel,
            _REASONS.get(attempt.reason.value, attempt.reason.value),
            f"{attempt.outcome}, attempt {attempt.attempt}",
            f"{attempt.took_ms:.0f} ms" if math.isfinite(attempt.took_ms) else "",
            attempt.error,
        )
        for attempt in attempts
    ]
    return _table(("Time UTC", "Channel", "Because", "Outcome", "Took", "Error"), rows, "Error")


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


PAGE = Page("/alerts", "Alerts", "alerts", _layout, _register)
