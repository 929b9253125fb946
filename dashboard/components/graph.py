"""Graphs: the one place that configures Plotly, for the live charts and for those that a page asks for.

Plotly's mode bar offers to send a chart to a cloud: never here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from dashboard.components.markup import Component, html

CONFIG: Mapping[str, Any] = {
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "displaylogo": False,
    "displayModeBar": False,
    "responsive": True,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a live chart.

    series: the series as text (`str(Series)`); with `family` set, a metric name whose every series is
    drawn, named by that label. rate: draw the increase per second. over: draw the rate of this
    series per increase of `over` (a mean of a sum and a count).
    """

    series: str
    label: str = ""
    scale: float = 1.0
    weight: Literal["strong", "soft", "faint"] = "strong"
    family: str = ""
    rate: bool = False
    where: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """A horizontal line with its words."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class LiveChart:
    """A chart that the stream feeds.

    kpi: key of the figure whose verdict colours the line `watched` (an index of `lines`).
    ribbon: shade between the first and the last line. low and high: the least extent of the axis.
    spread: (index of a line, series of its standard error, how many of them on each side).
    """

    title: str
    lines: Sequence[Line]
    unit: str = ""
    note: str = ""
    threshold: Threshold | None = None
    low: float | None = 0.0
    high: float | None = None
    ribbon: bool = False
    kpi: str = ""
    watched: int = -1
    annotations: bool = False
    spread: tuple[int, str, float] | None = None
    compact: bool = True
    empty: str = ""


def live_chart(id: str, chart: LiveChart, class_name: str = "") -> Component:
    """A panel with a chart that live.js draws; until there are data it says so in words."""
    spec = {key: value for key, value in asdict(chart).items() if value is not None}
    config = orjson.dumps(CONFIG).decode()
    return html.Section(
        [
            html.Header(
                [
                    html.H2(chart.title + (f", {chart.unit}" if chart.unit else "")),
                    html.Span(chart.note, className="note", **{"data-note": ""}),
                ]
            ),
            html.Div(
                className="plot",
                role="img",
                hidden=True,
                **{"data-chart": orjson.dumps(spec).decode(), "data-config": config, "aria-label": chart.title},
            ),
            html.P("waiting for data", className="absence", **{"data-absence": ""}),
        ],
        id=id,
        className=f"panel chart {class_name}".strip(),
    )


def asked_graph(id: str, label: str) -> Component:
    """A place for a graph whose figure a page's script asks for; it takes its configuration from here."""
    return html.Div(
        id=id,
        className="graph",
        role="img",
        tabIndex="0",
        **{"data-config": orjson.dumps(CONFIG).decode(), "aria-label": label},
    )
