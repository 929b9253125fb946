"""Rules: what is evaluated and how it goes, versions of the rule files with roll back, and backtests.

Texts and rules come from files and are drawn as words only.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update

from alerts.backtest import Backtest, RuleResult
from alerts.durations import show_duration
from alerts.reload import FileStatus, Version
from dashboard.components.markup import Component, dcc, html
from dashboard.pages.page import Page
from dashboard.services import Services
from dashboard.timerange import show_time
from metrics.errors import DeskvigilError

DAY_MS = 86_400_000
VERSIONS_SHOWN = 50
DIFF_LINES = 2_000
MARKS_SHOWN = 200
WHO = "operator at the console"
_SPANS = (("Last day", 1), ("Last 7 days", 7), ("Last 30 days", 30))


async def _layout(services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            dcc.Store(id="r-done", data=0),
            _panel(
                "Rule files",
                "looked at every few seconds; a wrong one changes nothing",
                html.Div(id="r-files", className="scroll"),
                html.Button("Read again now", id="r-reload", type="button", n_clicks=0),
                html.P(id="r-said", role="status"),
            ),
            _panel("Rules", "as they are evaluated", html.Div(id="r-rules", className="scroll")),
            _panel(
                "Backtest",
                "how often, when and how long rules would have fired on stored history",
                html.Label("Rules to try, as a rule file; empty: those that run now", htmlFor="r-text"),
                dcc.Textarea(id="r-text", value="", spellCheck=False, className="rule-text"),
                html.Div(
                    [
                        html.Button(words, id={"type": "r-backtest", "days": days}, type="button", n_clicks=0)
                        for words, days in _SPANS
                    ],
                    className="buttons",
                ),
                dcc.Loading(html.Div(id="r-backtest", className="scroll", role="status"), delay_show=300),
            ),
            _panel(
                "Versions",
                "everything that was read from the rule files, newest first",
                html.Div(id="r-difference", className="scroll"),
                html.Div(id="r-versions", className="scroll"),
            ),
        ],
        className="page alerts-page rules-page",
        **{"data-page": "rules", "data-title": "Rules"},
    )


def _panel(title: str, note: str, *children: Component) -> Component:
    return html.Section(
        [html.Header([html.H2(title), html.Span(note, className="note")]), *children], className="panel"
    )


def _register(app: Dash, services: Services) -> None:
    alerts = services.alerts

    @app.callback(Output("r-rules", "children"), Input("alerts-version", "data"), Input("r-done", "data"))
    async def show_rules(_version: int, _done: int) -> Component:
        return await _said(lambda: _rules_table(alerts.rules()))

    @app.callback(
        Output("r-files", "children"),
        Output("r-versions", "children"),
        Input("alerts-version", "data"),
        Input("r-done", "data"),
    )
    async def show_files(_version: int, _done: int) -> tuple[Component, Component]:
        return (
            await _said(lambda: _files_table(alerts.rule_files())),
            await _said(lambda: _versions_table(alerts.rule_versions(VERSIONS_SHOWN))),
        )

    @app.callback(
        Output("r-said", "children"),
        Output("r-done", "data"),
        Input("r-reload", "n_clicks"),
        Input({"type": "r-rollback", "id": ALL}, "n_clicks"),
        State("r-done", "data"),
        prevent_initial_call=True,
    )
    async def act(_reload: int, _rolled: list[int], done: int) -> tuple[Any, Any]:
        if not ctx.triggered or not ctx.triggered[0]["value"]:
            return no_update, no_update
        asked = ctx.triggered_id

        def work() -> str:
            if asked == "r-reload":
                wrong = sum(1 for file in alerts.reload() if file.error)
                return f"Files that are refused: {wrong}." if wrong else "The rule files are read."
            version = alerts.roll_back(int(asked["id"]), WHO)
            return f"{version.name}: the older text is in use until the file changes."

        return await _said(work), done + 1

    @app.callback(
        Output("r-difference", "children"),
        Input({"type": "r-show", "id": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    async def show_difference(_clicks: list[int]) -> Any:
        if not ctx.triggered or not ctx.triggered[0]["value"]:
            return no_update
        asked = int(ctx.triggered_id["id"])
        return await _said(lambda: _difference(services, asked))

    @app.callback(
        Output("r-backtest", "children"),
        Input({"type": "r-backtest", "days": ALL}, "n_clicks"),
        State("r-text", "value"),
        prevent_initial_call=True,
    )
    async def run_backtest(_clicks: list[int], text: str | None) -> Any:
        if not ctx.triggered or not ctx.triggered[0]["value"]:
            return no_update
        now_ms = services.clock.now_ns() // 1_000_000
        start_ms = now_ms - int(ctx.triggered_id["days"]) * DAY_MS
        return await _said(lambda: _result(alerts.backtest(text or "", start_ms, now_ms)))


async def _said(answer: Any) -> Any:
    """Ask in a thread; a failure is said in words."""
    try:
        return await asyncio.to_thread(answer)
    except DeskvigilError as error:
        return html.P(str(error), className="problem")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], main: str) -> Component:
    """A table; on a phone each row becomes a small card, with the cell of the column `main` on a line of its own."""
    head = html.Tr([html.Th(word, scope="col") for word in heads])
    classes = ["main" if word == main else "" for word in heads]
    body = [html.Tr([html.Td(cell, className=name) for cell, name in zip(row, classes, strict=True)]) for row in rows]
    return html.Table([html.Thead(head), html.Tbody(body)], className="rows words")


def _files_table(files: Sequence[FileStatus]) -> Component:
    rows = [(file.name, str(file.rules), _file_state(file)) for file in files]
    return _table(("File", "Rules", "State"), rows, "State")


def _file_state(file: FileStatus) -> Any:
    if file.error:
        return html.Span(f"refused, what it said before goes on: {file.error}", className="problem")
    return "rolled back: an older version runs until the file changes" if file.rolled_back else "in use"


def _rules_table(groups: Sequence[Mapping[str, Any]]) -> Component:
    rows = [
        (
            [group["name"], " / ", html.Strong(rule["name"])],
            _rule_state(rule),
            html.Code(rule["query"]),
            f"{rule['duration']:g} s" if rule["type"] == "alerting" else "",
            "" if rule["health"] == "unknown" else rule["lastEvaluation"][11:19],
            f"{1e6 * rule['evaluationTime']:.0f} µs" if rule.get("evaluationTime") else "",
        )
        for group in groups
        for rule in group["rules"]
    ]
    if not rows:
        return html.P("No rule file is loaded: nothing can alert.", className="absence")
    return _table(("Rule", "State", "Expression", "For", "Last UTC", "Took"), rows, "Expression")


def _rule_state(rule: Mapping[str, Any]) -> Any:
    if rule["health"] == "err":
        return html.Span(f"failing: {rule.get('lastError', 'no reason given')}", className="problem")
    if rule["health"] == "unknown":
        return "not evaluated yet"
    return "recorded" if rule["type"] == "recording" else rule["state"]


def _versions_table(found: Sequence[Version]) -> Component:
    if not found:
        return html.P("Nothing is on record yet.", className="absence")
    rows = [
        (
            show_time(one.t_ms),
            html.Span(Path(one.name).name, title=one.name),
            one.who,
            html.Span(one.outcome, className="problem") if one.outcome == "refused" else one.outcome,
            one.note or one.hash[:8],
            html.Button(
                "Difference",
                id={"type": "r-show", "id": one.id},
                type="button",
                n_clicks=0,
                title=f"Version {one.id} beside the present one",
            ),
        )
        for one in found
    ]
    return _table(("Time UTC", "File", "By", "Outcome", "Note", ""), rows, "Note")


def _difference(services: Services, version_id: int) -> Component:
    """What rolling back would change, and the button that does it."""
    old = services.alerts.rule_version(version_id)
    present = next((file for file in services.alerts.rule_files() if file.name == old.name), None)
    runs = "" if present is None else services.alerts.rule_text(old.name)
    lines = list(
        difflib.unified_diff(runs.splitlines(), old.text.splitlines(), "in use", f"version {old.id}", lineterm="")
    )
    title = html.H3(f"Version {old.id} of {show_time(old.t_ms)} UTC, {old.outcome}")
    if not lines:
        return html.Div([title, html.P("It is what is in use.", className="absence")])
    kinds = {"+": "added", "-": "gone"}
    shown = [html.Span(f"{line}\n", className=kinds.get(line[:1], "")) for line in lines[:DIFF_LINES]]
    more = (
        [html.P(f"{len(lines) - DIFF_LINES} more lines are not shown.", className="note")]
        if len(lines) > DIFF_LINES
        else []
    )
    button = html.Button(
        f"Use version {old.id}", id={"type": "r-rollback", "id": old.id}, type="button", n_clicks=0, className="primary"
    )
    words = html.P(
        "It runs in place of the file's text until the file changes; the file itself is not written to.",
        className="note",
    )
    usable = old.outcome == "loaded" and present is not None
    return html.Div([title, html.Pre(shown, className="difference"), *more, *([words, button] if usable else [])])


def _result(result: Backtest) -> Component:
    before = {one.rule: one for one in result.before or ()}
    rows = [
        (
            html.Strong(one.rule),
            _fired(one, result),
            _fired(before[one.rule], result)
            if one.rule in before
            else "not there"
            if result.before is not None
            else "",
            _strip(one, result),
            [html.Div(f"{hint.aim}: {hint.threshold:g} ({hint.fired}×, {hint.sure})") for hint in one.suggestions],
        )
        for one in sorted(result.rules, key=lambda one: (-len(one.error), -one.fired))
    ]
    note = f"Rules: {len(rows)} over {result.days:g} days, in {result.took_s:.1f} s. Thresholds: how often each would have fired, and how much that says."
    heads = ("Rule", "Fired", "Fired as it runs now", "When", "Thresholds for")
    return html.Div([html.P(note, className="note"), _table(heads, rows, "When")])


def _fired(one: RuleResult, result: Backtest) -> Any:
    if one.error:
        return html.Span(one.error, className="problem")
    if not one.series:
        return "no data"
    if not one.fired:
        return "never"
    tiers = ", ".join(f"{count} {name}" for name, count in one.tiers.items() if count)
    return (
        f"{one.fired}× ({tiers}); {show_duration(one.firing_s)} in all, longest {show_duration(one.longest_s)};"
        f" looked at every {show_duration(one.step_s)}{', worst of each' if one.worst_of_step else ''}"
    )


def _strip(one: RuleResult, result: Backtest) -> Component:
    """The range as a strip, with a mark where the rule fired."""
    span = result.end_ms - result.start_ms
    marks = [
        html.Span(
            className=f"fired-{episode.worst.label}",
            title=f"{show_time(episode.start_ms)}, {show_duration(((episode.end_ms or result.end_ms) - episode.start_ms) / 1000)}",
            style={
                "left": f"{100 * (episode.start_ms - result.start_ms) / span:.3f}%",
                "width": f"{100 * ((episode.end_ms or result.end_ms) - episode.start_ms) / span:.3f}%",
            },
        )
        for episode in one.episodes[-MARKS_SHOWN:]
    ]
    return html.Div(marks, className="episodes", role="img", **{"aria-label": f"fired {one.fired} times"})


PAGE = Page("/rules", "Rules", "rules", _layout, _register)
