"""Shell: what surrounds every page: navigation, status bar, sentence, dialogs."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard.backfill import RANGES_S
from dashboard.components.markup import Component, dcc, html
from dashboard.pages.page import Page
from dashboard.services import Services

_RANGE_WORDS = {300: "5m", 900: "15m", 3600: "1h"}


def shell(services: Services, pages: Sequence[Page]) -> Component:
    """The whole document body; pages go into #content."""
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="alerts-version", data=0),
            _navigation(pages),
            html.Div(
                [
                    _status_bar(),
                    html.Div(
                        id="offline", className="banner", role="alert", hidden=True, **{"data-banner": "connection"}
                    ),
                    html.Div(id="sentence", className="sentence", role="status", **{"aria-live": "polite"}),
                    html.Main(id="content", tabIndex="-1"),
                    html.Footer(["Deskvigil ", services.version], className="foot"),
                ],
                className="body",
            ),
            _halt_dialog(),
            _acknowledge_dialog(),
            html.Div(id="toast", role="status", **{"aria-live": "polite"}),
        ],
        className="shell",
    )


def _navigation(pages: Sequence[Page]) -> Component:
    links = [
        dcc.Link(
            [html.Span(className=f"icon icon-{page.icon}"), html.Span(page.title)],
            href=page.path,
            className="rail-link",
        )
        for page in pages
    ]
    return html.Nav(links, className="rail", **{"aria-label": "Pages"})


def _status_bar() -> Component:
    ranges = [
        html.Button(_RANGE_WORDS[span], type="button", **{"data-range": str(span), "aria-pressed": "false"})
        for span in RANGES_S
    ]
    return html.Header(
        [
            html.Span("Deskvigil", className="brand"),
            dcc.Link(href="/alerts", id="status-alerts", className="status alerts-count", children=""),
            html.Span(id="status-clock", className="status wide"),
            html.Span(id="status-feed", className="status"),
            html.Span(id="status-remote", className="status", hidden=True),
            html.Span(id="status-trading", className="status"),
            html.Span(id="status-simulated", className="simulated", hidden=True),
            html.Span(className="spring"),
            html.Div(ranges, id="ranges", className="segments", role="group", **{"aria-label": "Range of live charts"}),
            html.Button(
                html.Span(className="icon icon-theme"),
                id="theme-switch",
                type="button",
                className="plain",
                title="Switch between dark and light",
                **{"aria-label": "Switch between dark and light"},
            ),
            html.Button("HALT", id="halt", type="button", className="halt", **{"data-order": "halt"}),
        ],
        className="bar",
    )


def _halt_dialog() -> Component:
    """One click never halts: this asks again, with the harmless answer under the Enter key."""
    return html.Dialog(
        [
            html.H2(id="order-title"),
            html.P(id="order-words"),
            html.Label(["Reason (goes into the audit)", _field("order-reason")]),
            html.Label(["Only: a symbol, strategy:NAME or client:NAME (empty: everything)", _field("order-scope")]),
            html.Div(
                [
                    html.Button("Cancel", id="order-cancel", type="button", autoFocus="autofocus"),
                    html.Button("Resume instead", id="order-other", type="button", className="plain"),
                    html.Button("Halt trading", id="order-confirm", type="button", className="halt"),
                ],
                className="answers",
            ),
        ],
        id="order-dialog",
        **{"aria-labelledby": "order-title"},
    )


def _acknowledge_dialog() -> Component:
    return html.Dialog(
        [
            html.H2("Acknowledge"),
            html.P(id="ack-words"),
            html.Label(["Comment", _field("ack-comment")]),
            html.Div(
                [
                    html.Button("Cancel", id="ack-cancel", type="button", autoFocus="autofocus"),
                    html.Button("Acknowledge", id="ack-confirm", type="button", className="primary"),
                ],
                className="answers",
            ),
        ],
        id="ack-dialog",
        **{"aria-label": "Acknowledge an alert"},
    )


def _field(id: str) -> Component:
    """A text field that only our script reads: a Dash input would send its content at each change."""
    return html.Div(id=id, className="field", **{"data-field": "200"})
