"""Delivery: every message to people with its way, each channel's state, and what could not be delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from dash import Dash, Input, Output

from alerts.views import ChannelView, DeliveryView
from dashboard.components.markup import Component, dcc, html
from dashboard.pages.page import Page
from dashboard.services import Services
from dashboard.timerange import show_time
from metrics.errors import DeskvigilError

REFRESH_MS = 3_000
PAGE_ROWS = 50
MAX_ROWS = 1_000
DEAD_ROWS = 100
_REASONS = {
    "first": "fired",
    "escalated": "escalated",
    "tier_fell": "became less severe",
    "repeat": "still firing",
    "resolved": "resolved",
    "rule_gone": "ended with its rule",
    "escalation_step": "nobody acknowledged",
    "test": "test message",
}
_STATUSES = {"pending": "waits", "sent": "sent", "dead": "given up"}


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            dcc.Interval(id="d-tick", interval=REFRESH_MS),
            _section("Channels", "the ways to people, and how they are now", "d-channels"),
            html.Section(
                [
                    html.Header(
                        [html.H2("This browser"), html.Span("while the console is open in it", className="note")]
                    ),
                    html.Div(className="announcer", **{"data-announcer": "1"}),
                ],
                className="panel",
            ),
            _section("Dead letters", "given up; each can be sent again, under the same id", "d-dead"),
            _section("Messages", "newest first, from the decision until they were taken", "d-messages", "d-more"),
        ],
        className="page alerts-page",
        **{"data-page": "delivery", "data-title": "Delivery"},
    )


def _section(title: str, note: str, id: str, more: str | None = None) -> Component:
    button = [html.Button("Older", id=more, type="button", n_clicks=0)] if more else []
    head = html.Header([html.H2(title), html.Span(note, className="note")])
    return html.Section([head, html.Div(id=id, className="scroll"), *button], className="panel")


def _register(app: Dash, services: Services) -> None:
    @app.callback(Output("d-channels", "children"), Input("d-tick", "n_intervals"))
    async def show_channels(_tick: int | None) -> Component:
        words = "No channel is configured: nobody is told of an alert. Set alerts.email or alerts.webhook."
        return await _answer(services.alerts.channels, _channel_table, words)

    @app.callback(Output("d-dead", "children"), Input("d-tick", "n_intervals"))
    async def show_dead(_tick: int | None) -> Component:
        return await _answer(
            lambda: services.alerts.deliveries(DEAD_ROWS, "dead"), _dead_table, "Nothing had to be given up."
        )

    @app.callback(Output("d-messages", "children"), Input("d-tick", "n_intervals"), Input("d-more", "n_clicks"))
    async def show_messages(_tick: int | None, clicks: int | None) -> Component:
        limit = min(PAGE_ROWS * ((clicks or 0) + 1), MAX_ROWS)
        return await _answer(
            lambda: services.alerts.deliveries(limit), _message_table, "Nobody has been told anything yet."
        )


async def _answer(question: Callable[[], Sequence[Any]], table: Callable[[Any], Component], nothing: str) -> Component:
    """Ask in a thread; failures and absence are said in words."""
    try:
        rows = await asyncio.to_thread(question)
    except DeskvigilError as error:
        return html.P(f"Cannot be read now: {error}", className="problem")
    return table(rows) if rows else html.P(nothing, className="absence")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], main: str) -> Component:
    head = html.Tr([html.Th(word, scope="col") for word in heads])
    classes = ["main" if word == main else "" for word in heads]
    body = [html.Tr([html.Td(cell, className=name) for cell, name in zip(row, classes, strict=True)]) for row in rows]
    return html.Table([html.Thead(head), html.Tbody(body)], className="rows words")


def _button(words: str, path: str, label: str) -> Component:
    return html.Button(words, type="button", **{"data-post": path, "aria-label": label})


def _channel_table(channels: Sequence[ChannelView]) -> Component:
    rows = [
        (
            one.name,
            _state(one),
            f"{one.min_severity} and worse",
            f"{one.max_per_minute:g} a minute after {one.burst}" if one.max_per_minute else "no limit",
            f"{one.waiting:,} waiting" + (f" since {show_time(one.oldest_ms)}" if one.oldest_ms else ""),
            f"{one.sent:,} sent, {one.failed:,} tries failed; {one.dead:,} dead letters",
            one.last_error,
            _button("Send a test", f"/api/desk/channels/{quote(one.name, safe='')}/test", f"Send a test by {one.name}"),
        )
        for one in channels
    ]
    return _table(
        ("Channel", "State", "Gets", "Rate", "Waiting", "Since the start", "Last error", ""), rows, "Last error"
    )


def _state(channel: ChannelView) -> Component:
    if channel.last_error and channel.waiting:
        return _mark("critical", "failing")
    if channel.limited:
        return _mark("warning", "held by its rate")
    return _mark("resolved", "ready")


def _mark(kind: str, words: str) -> Component:
    return html.Span([html.Span(className=f"mark mark-{kind}", **{"aria-hidden": "true"}), words], className="severity")


def _dead_table(found: Sequence[DeliveryView]) -> Component:
    rows = [
        (
            show_time(one.decided_ms),
            _to(one),
            _mark(one.severity.label, one.severity.label),
            one.name,
            _REASONS.get(one.reason.value, one.reason.value),
            one.error,
            _button("Send again", f"/api/desk/notifications/{one.outbox_id}/replay", f"Send {one.outbox_id} again"),
        )
        for one in found
    ]
    return _table(("Time UTC", "To", "Severity", "Alert", "Because", "Why given up", ""), rows, "Alert")


def _message_table(found: Sequence[DeliveryView]) -> Component:
    rows = [
        (
            show_time(one.decided_ms),
            _to(one),
            _mark(one.severity.label, one.severity.label),
            one.name,
            _REASONS.get(one.reason.value, one.reason.value),
            _outcome(one),
            "" if one.took_ms is None else f"{_span(one.took_ms)} after the decision",
            "" if one.sent_ms is None else f"{_span(one.sent_ms - one.crossed_ms)} after crossing",
            one.error,
        )
        for one in found
    ]
    heads = ("Time UTC", "To", "Severity", "Alert", "Because", "Outcome", "Sent", "", "Error")
    return _table(heads, rows, "Alert")


def _to(one: DeliveryView) -> str:
    return f"{one.channel}, {one.person}" if one.person else one.channel


def _outcome(one: DeliveryView) -> str:
    words = _STATUSES.get(one.status, one.status)
    together = "" if one.batch_id in ("", one.message_id) else ", with others"
    tries = "" if one.attempts == 0 else f", attempt {one.attempts}"
    return f"{words}{tries}{together}"


def _span(ms: int) -> str:
    if ms < 10_000:
        return f"{ms:,} ms"
    return f"{ms / 1000:,.0f} s" if ms < 600_000 else f"{ms / 60_000:,.0f} min"


PAGE = Page("/delivery", "Delivery", "delivery", _layout, _register)
