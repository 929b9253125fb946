"""Engine: is it well, what restricts it, what does it refuse, what waits. Filled by `assets/room/` from `/api/desk/engine`."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.components.listing import listing
from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.P(id="room-said", className="problem said", role="status"),
            html.Div(id="engine-summary", className="states", **{"data-states": "summary"}),
            listing(
                "engine",
                "causes",
                "Trading states",
                ("Scope", "State", "Cause", "Who", "Why", "Since (UTC)"),
                words=True,
            ),
            html.Div(
                [
                    listing(
                        "engine", "processes", "Processes", ("Process", "State", "Restarts", "Up for", "CPU", "Memory")
                    ),
                    listing("engine", "breakers", "Breakers", ("Breaker", "State", "Trips", "Open for")),
                    listing("engine", "rejects", "Refused orders", ("Reason", "Last 5 min", "Since its start")),
                    listing(
                        "engine", "limiter", "Message limiter", ("Strategy", "Orders", "Cancels", "Tokens", "Refused")
                    ),
                    listing("engine", "feed", "Feed", ("", "")),
                    listing("engine", "queues", "Queues", ("", "")),
                ],
                className="row row-halves",
            ),
            html.Div(
                [
                    listing("engine", "journal", "Journal", ("", "")),
                    listing(
                        "engine",
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


PAGE = Page("/engine", "Engine", "engine", _layout)
