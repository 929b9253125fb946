"""Resources: GPUs, processors and memory by use, saturation and errors; leaks, garbage, plan, bottleneck. Filled by `assets/room/` and the live stream."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.components.graph import Line, LiveChart, live_chart
from dashboard.components.listing import listing
from dashboard.components.markup import Component, dcc, html
from dashboard.pages.page import Page
from dashboard.services import Services

_MIB = 1 / 2**20
_USE = ("Figure", "Now", "Limit", "Age")

_MEMORY = LiveChart(
    "Resident memory by process",
    (Line("deskvigil_process_resident_memory_bytes", "", _MIB, "soft", family="process"),),
    unit="MiB",
    note="pages that processes share counted in each",
    empty="The process collector has sent nothing in this time.",
)
_PRESSURE = LiveChart(
    "Pressure",
    (Line("deskvigil_host_pressure_ratio", "", 100.0, "soft", family="resource", where={"kind": "some"}),),
    unit="%",
    note="time in which some task stood still for want of a resource",
    empty="This kernel does not tell pressure, or the host collector has sent nothing in this time.",
)


def _said(name: str, title: str, *more: Component) -> Component:
    """A panel of one sentence."""
    return html.Section(
        [
            html.Header([html.H2(title), html.Span(className="note", id=f"resources-{name}-note")]),
            html.P("waiting for the console", id=f"resources-{name}-words"),
            *more,
        ],
        id=f"resources-{name}",
        className="panel",
    )


async def _layout(_services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.P(id="room-said", className="problem said", role="status"),
            html.Div(className="states", **{"data-states": "summary"}),
            html.Div(
                [
                    html.Div(
                        [
                            _said(
                                "bottleneck",
                                "Bottleneck",
                                html.P(
                                    [dcc.Link("Profiler", href="/profiler"), " shows where the time goes."],
                                    className="note",
                                ),
                            ),
                            _said("plan", "Plan in force"),
                        ],
                        className="pile",
                    ),
                    listing("resources", "cost", "Own cost", _USE),
                ],
                className="row row-halves",
            ),
            html.Div(
                [
                    listing("resources", "gpu", "GPU", _USE),
                    listing("resources", "cpu", "Processors", _USE),
                    listing("resources", "memory", "Memory", _USE),
                ],
                className="row row-use",
                **{"data-alone": ""},
            ),
            html.Div(
                [live_chart("chart-own-memory", _MEMORY), live_chart("chart-pressure", _PRESSURE)],
                className="row row-halves",
            ),
            listing(
                "resources",
                "leaks",
                "Leaks",
                ("Process", "Verdict", "Slope", "95 % interval", "It rises at all", "Where"),
                words=True,
            ),
            html.Div(
                [
                    html.Div(
                        [
                            listing(
                                "resources",
                                "allocators",
                                "Allocators",
                                ("Process", "In use", "Holes", "Mapped", "Fragmented", "Python blocks", "Age"),
                            ),
                            listing("resources", "measures", "Done about memory", ("", "")),
                        ],
                        className="pile",
                    ),
                    listing("resources", "garbage", "Pauses for garbage", _USE),
                ],
                className="row row-halves",
            ),
        ],
        className="page room",
        **{"data-page": "resources", "data-title": "Resources", "data-room": "resources"},
    )


PAGE = Page("/resources", "Resources", "resources", _layout)
