"""Engine: is it well, what restricts it, what does it refuse, what waits. Filled by `assets/room/` from `/api/desk/engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.P(id="room-said", className="problem said", role="status"),
            html.Div(id="engine-summary", className="states", **{"data-states": "summary"}),
            _panel("causes", "Trading states", ("Scope", "State", "Cause", "Who", "Why", "Since (UTC)"), words=True),
            html.Div(
                [
                    _panel("processes", "Processes", ("Process", "State", "Restarts", "Up for", "CPU", "Memory")),
                    _panel("breakers", "Breakers", ("Breaker", "State", "Trips", "Open for")),
                    _panel("rejects", "Refused orders", ("Reason", "Last 5 min", "Since its start")),
                    _panel("limiter", "Message limiter", ("Strategy", "Orders", "Cancels", "Tokens", "Refused")),
                    _panel("feed", "Feed", ("", "")),
                    _panel("queues", "Queues", ("", "")),
                ],
                className="row row-halves",
            ),
            html.Div(
                [
                    _panel("journal", "Journal", ("", "")),
                    _panel(
                        "algos",
                        "Algorithms",
                        ("Algorithm", "Parents", "Fill rate", "less baseline", "Slippage", "less baseline"),
                    ),
                ],
                className="row row-journal",
            ),
        ],
        className="page room",
        **{"data-page": "engine", "data-title": "Engine", "data-room": "engine"},
    )


def _panel(name: str, title: str, heads: Sequence[str], *, words: bool = False) -> Component:
    """A table that the script fills; without words in the head it is a list of names and values."""
    head = [html.Thead(html.Tr([html.Th(word, scope="col") for word in heads]))] if any(heads) else []
    return html.Section(
        [
            html.Header([html.H2(title), html.Span(className="note", **{"data-note": ""})]),
            html.Div(
                html.Table([*head, html.Tbody()], className="rows words" if words else "rows", **{"aria-label": title}),
                className="wide-table",
            ),
            html.P("waiting for the console", className="absence", **{"data-nothing": ""}),
        ],
        id=f"engine-{name}",
        className="panel",
        **{"data-panel": name},
    )


PAGE = Page("/engine", "Engine", "engine", _layout)
