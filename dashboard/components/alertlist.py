"""The list of alerts that live.js keeps."""

from __future__ import annotations

from dashboard.components.markup import Component, html


def alert_panel(*, full: bool = False) -> Component:
    """A panel with the alerts that are alive; full shows every column, else the worst few and what ended."""
    return html.Section(
        [
            html.Header(
                [html.H2("Active" if full else "Alerts"), html.Span(className="note", **{"data-alert-count": ""})]
            ),
            html.Ul(className="alerts", **{"data-alerts": "full" if full else "brief"}),
            html.P("waiting for the alert service", className="absence", **{"data-alerts-absence": ""}),
        ],
        id="alert-panel",
        className="panel alerts-panel",
    )
