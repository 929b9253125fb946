"""Latency: where the time goes, now and over any window. Filled by `assets/room/` from `/api/desk/latency`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboard.components.graph import asked_graph
from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.room.heatmap import RANGES
from dashboard.room.stages import STAGES
from dashboard.services import Services
from dashboard.timerange import DEFAULT

USUAL = "order_to_fill"


async def _layout(_services: Services, parameters: Mapping[str, str]) -> Component:
    stage = parameters.get("stage", USUAL)
    preset = parameters.get("range", DEFAULT)
    return html.Div(
        [
            html.P(id="room-said", className="problem said", role="status"),
            _stages(),
            _heatmap(stage if stage in STAGES else USUAL, preset if preset in RANGES else DEFAULT),
            _slowest(),
        ],
        className="page room",
        **{"data-page": "latency", "data-title": "Latency", "data-room": "latency"},
    )


def _stages() -> Component:
    heads = ("Stage", "128 ns to 8.6 s, log", "p50", "p95", "p99", "p99.9", "Longest, 2 s")
    return html.Section(
        [
            html.Header(
                [
                    html.H2("Stages"),
                    html.Span("last minute, from the intended time; longest: of the last 2 s", className="note"),
                ]
            ),
            html.Div(
                html.Table(
                    [html.Thead(html.Tr([html.Th(word, scope="col") for word in heads])), html.Tbody(id="stages-rows")],
                    className="rows stages",
                    **{"aria-label": "Stages"},
                ),
                className="wide-table",
            ),
            html.P(id="recorder-cost", className="note"),
        ],
        id="stages",
        className="panel",
    )


def _segments(name: str, chosen: str, words: Mapping[str, str], label: str) -> Component:
    buttons: list[Any] = [
        html.Button(word, type="button", **{f"data-{name}": key, "aria-pressed": str(key == chosen).lower()})
        for key, word in words.items()
    ]
    return html.Div(buttons, className="segments wrap", role="group", **{"aria-label": label})


def _heatmap(stage: str, preset: str) -> Component:
    names = {name: title for name, (title, _) in STAGES.items()}
    return html.Section(
        [
            html.Header([html.H2("Latency over time"), html.Span(className="note", id="heat-note")]),
            html.Div(
                [
                    _segments("stage", stage, names, "Stage"),
                    html.Span(className="spring"),
                    _segments("window", preset, {name: name for name in RANGES}, "Window"),
                ],
                className="toolbar",
            ),
            asked_graph("heat-graph", "Latency over time"),
            html.P("waiting for data", id="heat-nothing", className="absence"),
        ],
        id="heatmap",
        className="panel",
        **{"data-usual": USUAL, "data-default": DEFAULT},
    )


def _slowest() -> Component:
    heads = ("Time UTC", "Order", "Until", "Total", "Of which")
    return html.Section(
        [
            html.Header([html.H2("Slowest orders"), html.Span("of this minute and the one before", className="note")]),
            html.Ul(id="slow-parts", className="parts"),
            html.Div(
                html.Table(
                    [html.Thead(html.Tr([html.Th(word, scope="col") for word in heads])), html.Tbody(id="slow-rows")],
                    className="rows slow",
                    **{"aria-label": "Slowest orders"},
                ),
                className="wide-table",
            ),
            html.P("waiting for data", id="slow-nothing", className="absence"),
        ],
        id="slowest",
        className="panel",
    )


PAGE = Page("/latency", "Latency", "latency", _layout)
