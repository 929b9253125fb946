"""History: any question about the past, as chart, table and file; the address restores all of it.

The address is the one truth: controls write it, and whatever it says is evaluated and shown. So
going back, reloading and sharing work by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import dash_ag_grid as dag
from dash import Dash, Input, Output, State, ctx, no_update

from dashboard.components.graph import graph
from dashboard.components.markup import Component, dcc, html
from dashboard.history import Answer, Question, ask, value_rows
from dashboard.pages.page import Page
from dashboard.services import Services
from dashboard.timerange import DEFAULT, PRESETS, show_time
from metrics.catalogue import CATALOGUE, metric_of
from metrics.errors import DeskvigilError

PATH = "/history"
START = Question('deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}', DEFAULT)
# Distinct without claiming a meaning: the severity colours are not among them.
COLOURS = ("#4E8FBF", "#7C90A5", "#6AA58B", "#A58BC2", "#B39B6B", "#7FB0A9", "#8FA7C9", "#C2908B")
_GRID_THEME = {
    "function": "themeQuartz.withParams({backgroundColor: 'var(--panel)', foregroundColor: 'var(--text)', "
    "borderColor: 'var(--line)', headerBackgroundColor: 'var(--panel)', headerTextColor: 'var(--muted)', "
    "rowHoverColor: 'var(--raised)', accentColor: 'var(--info)', fontFamily: 'inherit', fontSize: 12, spacing: 5})"
}
_NUMBER = {"function": "params.value == null ? '' : d3.format('.6~g')(params.value)"}


def parameters_of(search: str | None) -> dict[str, str]:
    """A query string's parameters; of a repeated one the last."""
    return dict(parse_qsl((search or "").lstrip("?"), max_num_fields=20))


async def _layout(services: Services, parameters: Mapping[str, str]) -> Component:
    names = await asyncio.to_thread(_metric_names, services)
    return html.Div(
        [
            html.Section([_picker(names), _expression(), _range()], className="panel controls"),
            html.P(id="h-error", className="problem", role="alert"),
            html.Section(
                [
                    html.Header([html.H2(id="h-title"), html.Span(id="h-note", className="note")]),
                    graph("h-graph", _figure(None), displayModeBar="hover", scrollZoom=False, doubleClick=False),
                    html.P(id="h-nothing", className="absence"),
                ],
                className="panel history-chart",
            ),
            _tables(),
        ],
        className="page history",
        **{"data-page": "history", "data-title": "History"},
    )


def _picker(names: Sequence[str]) -> Component:
    options = [{"label": name, "value": name, "title": _help(name)} for name in names]
    return html.Div(
        [
            html.Label(
                ["Metric", dcc.Dropdown(options, id="h-metric", placeholder="choose a metric", maxHeight=360)],
                className="grow",
            ),
            html.Label(["Labels", dcc.Input(id="h-labels", type="text", placeholder='quantile="0.99"', debounce=True)]),
        ],
        className="line",
    )


def _expression() -> Component:
    field = dcc.Input(
        id="h-expr", type="text", debounce=False, spellCheck="false", autoComplete="off", className="code"
    )
    run = html.Button("Show", id="h-run", type="button", className="primary")
    return html.Div([html.Label(["PromQL", field], className="grow"), run], className="line")


def _range() -> Component:
    presets = [html.Button(name, id={"preset": name}, type="button", **{"aria-pressed": "false"}) for name in PRESETS]
    return html.Div(
        [
            html.Div(presets, className="segments", role="group", **{"aria-label": "Range back from now"}),
            html.Label(["From (UTC)", dcc.Input(id="h-start", type="text", placeholder="2026-11-23 09:30:00")]),
            html.Label(["To (UTC)", dcc.Input(id="h-end", type="text", placeholder="now")]),
            html.Span(className="spring"),
            html.A("CSV", id="h-csv", href="", className="button", download="deskvigil.csv"),
        ],
        className="line",
    )


def _tables() -> Component:
    numbers = [
        {"field": name, "headerName": name, "valueFormatter": _NUMBER, "type": "rightAligned", "width": 120}
        for name in ("last", "min", "mean", "max")
    ]
    columns: list[dict[str, Any]] = [
        {"field": "series", "flex": 1, "minWidth": 260},
        *numbers,
        {"field": "points", "type": "rightAligned", "width": 100},
    ]
    return html.Div(
        [
            html.Section(
                [
                    html.Header([html.H2("Statistics"), html.Span("over the points shown", className="note")]),
                    _grid("h-statistics", columns, None, domLayout="autoHeight"),
                ],
                className="panel",
            ),
            html.Section(
                [
                    html.Header([html.H2("Values"), html.Span(id="h-values-note", className="note")]),
                    _grid("h-values", [], "320px"),
                ],
                className="panel",
            ),
        ],
        className="tables",
    )


def _grid(id: str, columns: Sequence[Mapping[str, Any]], height: str | None, **options: Any) -> Component:
    return dag.AgGrid(
        id=id,
        columnDefs=list(columns),
        rowData=[],
        defaultColDef={"sortable": True, "resizable": True, "suppressMovable": True},
        dashGridOptions={"theme": _GRID_THEME, "animateRows": False, **options},
        style={"height": height, "width": "100%"},
    )


def _metric_names(services: Services) -> list[str]:
    stored = {one.name for one in services.reader.series()}
    whole = {metric.name for name in stored if (metric := metric_of(name)) is not None}
    return sorted(whole | {name for name in stored if metric_of(name) is None}) or sorted(CATALOGUE)


def _help(name: str) -> str:
    metric = CATALOGUE.get(name)
    return f"{metric.help} ({metric.kind}{', ' + metric.unit if metric.unit else ''})" if metric is not None else name


def expression_for(metric: str, labels: str) -> str:
    """The usual question about a metric: its value, a counter's rate, a histogram's 99th percentile."""
    known = CATALOGUE.get(metric)
    inner = labels.strip().strip("{}")
    matchers = f"{{{inner}}}" if inner else ""
    if known is not None and known.kind == "counter":
        return f"rate({metric}{matchers}[1m])"
    if known is not None and known.kind == "histogram":
        return f"histogram_quantile(0.99, sum by (le) (rate({metric}_bucket{matchers}[5m])))"
    return f"{metric}{matchers}"


def _figure(answer: Answer | None) -> dict[str, Any]:
    """A dict figure; text and grid take their colours from the page's style sheet."""
    traces = [] if answer is None else [_trace(answer, number) for number in range(len(answer.curves))]
    axis = {"showgrid": True, "zeroline": False, "automargin": True, "ticks": ""}
    span = {} if answer is None else {"range": [answer.span.start_ms, answer.span.end_ms]}
    return {
        "data": traces,
        "layout": {
            "template": {"layout": {}},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "inherit", "size": 12},
            "margin": {"l": 56, "r": 16, "t": 8, "b": 32},
            "xaxis": {**axis, "type": "date", **span},
            "yaxis": {**axis, "rangemode": "normal", "exponentformat": "SI", "fixedrange": True},
            "hovermode": "x unified" if len(traces) <= 12 else "closest",
            "showlegend": len(traces) > 1,
            "legend": {"orientation": "h", "y": -0.12, "font": {"size": 11}},
            "dragmode": "zoom",
        },
    }


def _trace(answer: Answer, number: int) -> dict[str, Any]:
    curve = answer.curves[number]
    times, values = _with_gaps(answer, number)
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(times) < 3 else "lines",
        "name": curve.name if len(curve.name) <= 90 else curve.name[:89] + "…",
        "x": times,
        "y": values,
        "line": {"width": 1.5, "color": COLOURS[number % len(COLOURS)]},
        "connectgaps": False,
    }


def _with_gaps(answer: Answer, number: int) -> tuple[list[float], list[float | None]]:
    """A curve's points with an empty one wherever steps are missing, so that no line is drawn across."""
    curve = answer.curves[number]
    times: list[float] = []
    values: list[float | None] = []
    before = None
    for t, value in zip(curve.t_ms.tolist(), curve.values.tolist(), strict=True):
        if before is not None and t - before > 1.5 * answer.step_ms:
            times.append(before + answer.step_ms)
            values.append(None)
        times.append(t)
        values.append(value)
        before = t
    return times, values


def _register(app: Dash, services: Services) -> None:
    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input("h-metric", "value"),
        Input("h-labels", "value"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def pick(metric: str | None, labels: str | None, search: str | None) -> Any:
        shown = Question.from_parameters(parameters_of(search))
        # What the address itself has just put into the picker must not replace its expression.
        if not metric or (metric, labels or "") == (shown.metric, shown.labels):
            return no_update
        expression = expression_for(metric, labels or "")
        return replace(shown, expression=expression, metric=metric, labels=labels or "").to_search()

    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input("h-run", "n_clicks"),
        Input("h-expr", "n_submit"),
        Input("h-start", "n_submit"),
        Input("h-end", "n_submit"),
        Input({"preset": "15m"}, "n_clicks"),
        *(Input({"preset": name}, "n_clicks") for name in list(PRESETS)[1:]),
        State("h-expr", "value"),
        State("h-start", "value"),
        State("h-end", "value"),
        State("h-metric", "value"),
        State("h-labels", "value"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def write_address(*values: Any) -> Any:
        trigger = _trigger(ctx.triggered, ctx.triggered_prop_ids)
        if trigger is None:
            return no_update
        expr, start, end, metric, labels, search = values[-6:]
        asked = Question(expr or "", "", start or "", end or "", metric or "", labels or "")
        shown = Question.from_parameters(parameters_of(search))
        return next_address(trigger, asked, shown)

    # Apart from the controls: a chart that was just drawn reports its view, and Dash drops the answer to
    # a click when the same callback is asked again meanwhile.
    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input("h-graph", "relayoutData"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def zoom(view: Mapping[str, Any] | None, search: str | None) -> Any:
        return zoomed_address(view, Question.from_parameters(parameters_of(search))) or no_update

    @app.callback(
        Output("h-graph", "figure"),
        Output("h-title", "children"),
        Output("h-note", "children"),
        Output("h-nothing", "children"),
        Output("h-error", "children"),
        Output("h-statistics", "rowData"),
        Output("h-values", "columnDefs"),
        Output("h-values", "rowData"),
        Output("h-values-note", "children"),
        Output("h-csv", "href"),
        Output("h-expr", "value"),
        Output("h-metric", "value"),
        Output("h-labels", "value"),
        Output("h-start", "value"),
        Output("h-end", "value"),
        *(Output({"preset": name}, "aria-pressed") for name in PRESETS),
        Input("url", "search"),
        State("url", "pathname"),
    )
    async def show(search: str | None, pathname: str | None) -> Any:
        if pathname != PATH:
            return (no_update,) * (15 + len(PRESETS))
        question = Question.from_parameters(parameters_of(search))
        if not question.expression:
            question = START
        try:
            answer = await asyncio.to_thread(ask, services, question)
        except DeskvigilError as error:
            return *_failure(str(error)), *_controls(question)
        return *_success(question, answer), *_controls(question)


def _trigger(triggered: Sequence[Mapping[str, Any]], ids: Mapping[str, Any]) -> Any:
    """The control that was used: its id, None where none was.

    Fields that appear fire once without having been used; then they have no value yet.
    """
    return next((ids[one["prop_id"]] for one in triggered if one["value"] is not None and one["prop_id"] in ids), None)


def zoomed_address(view: Mapping[str, Any] | None, shown: Question) -> str:
    """The query string after a stretch was dragged open; "" where the view changed otherwise."""
    span = _zoomed(view)
    if span is None:
        return ""
    return Question(shown.expression or START.expression, "", *span, shown.metric, shown.labels).to_search()


def next_address(trigger: Any, asked: Question, shown: Question) -> str:
    """The query string after a control was used."""
    if isinstance(trigger, Mapping):
        return Question(asked.expression, str(trigger["preset"]), "", "", asked.metric, asked.labels).to_search()
    if not asked.start and not asked.end:
        asked = Question(asked.expression, shown.preset or DEFAULT, "", "", asked.metric, asked.labels)
    return asked.to_search()


def _zoomed(zoom: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Start and end of the stretch that was dragged open, or None for other changes of the view."""
    if not zoom or "xaxis.range[0]" not in zoom or "xaxis.range[1]" not in zoom:
        return None
    start, end = (str(zoom[f"xaxis.range[{side}]"]).split(".")[0].replace("T", " ") for side in (0, 1))
    return start, end


def _controls(question: Question) -> tuple[Any, ...]:
    pressed = question.preset or ("" if question.start or question.end else DEFAULT)
    return (
        question.expression,
        question.metric or None,
        question.labels,
        question.start,
        question.end,
        *("true" if name == pressed else "false" for name in PRESETS),
    )


def _failure(reason: str) -> tuple[Any, ...]:
    return _figure(None), "", "", "Nothing is shown because the question has a mistake.", reason, [], [], [], "", ""


def _success(question: Question, answer: Answer) -> tuple[Any, ...]:
    names, rows = value_rows(answer)
    columns: list[dict[str, Any]] = [{"field": "time", "headerName": "Time (UTC)", "width": 170, "pinned": "left"}]
    columns += [
        {
            "field": f"c{number}",
            "headerName": name,
            "valueFormatter": _NUMBER,
            "type": "rightAligned",
            "minWidth": 150,
            "flex": 1,
        }
        for number, name in enumerate(names)
    ]
    statistics = [{"series": curve.name, **curve.statistics()} for curve in answer.curves]
    hidden = len(answer.curves) - len(names)
    return (
        _figure(answer),
        question.expression,
        _note(answer),
        answer.nothing,
        " ".join(answer.warnings),
        statistics,
        columns if names else [],
        rows,
        f"the newest {len(rows)} steps" + (f"; {hidden} more series in the CSV" if hidden else "") if rows else "",
        "/api/desk/history.csv" + question.to_search(),
    )


def _note(answer: Answer) -> str:
    span = f"{show_time(answer.span.start_ms)} – {show_time(answer.span.end_ms)} UTC"
    step_s = answer.step_ms // 1000
    step = f"step {step_s} s" if step_s < 120 else f"step {step_s // 60} min"
    left_out = f" · {answer.left_out} more series left out" if answer.left_out else ""
    return f"{span} · {step}{left_out}"


PAGE = Page(PATH, "History", "history", _layout, _register)
