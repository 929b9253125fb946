"""Tile: one key figure with value, unit, target, age and the last five minutes."""

from __future__ import annotations

import orjson

from dashboard.components.markup import Component, html
from metrics.catalogue import metric_of
from metrics.kpi import Kpi

MINUS = "\N{MINUS SIGN}"


def tile(kpi: Kpi) -> Component:
    """An empty tile; live.js fills it from the stream."""
    spec = {
        "key": kpi.key,
        "series": str(kpi.series),
        "collector": kpi.collector,
        "unit": kpi.unit,
        "scale": kpi.scale,
        "decimals": kpi.decimals,
        "better": kpi.better,
        "target": kpi.target,
        "low": kpi.bar_low,
        "high": kpi.bar_high,
        "signed": kpi.key == "pnl",
    }
    return html.Section(
        [
            html.Header([html.H2(kpi.title), html.Span(className="age", **{"data-age": ""})]),
            html.Div(
                [
                    html.Span(className="mark", **{"data-mark": "", "aria-hidden": "true"}),
                    html.Span(className="value", **{"data-value": ""}),
                    html.Span(className="unit", **{"data-unit": ""}),
                ],
                className="reading",
            ),
            html.Canvas(className="spark", **{"data-spark": "", "aria-hidden": "true"}),
            html.Div(
                [html.I(className="fill", **{"data-fill": ""}), html.I(className="goal", **{"data-goal": ""})],
                className="bullet",
                **{"aria-hidden": "true"},
            ),
            html.P([html.Span(_aim(kpi)), html.Span(**{"data-change": ""})], className="aim", **{"data-aim": ""}),
            html.P(className="why", **{"data-why": ""}),
        ],
        id=f"kpi-{kpi.key}",
        className="tile",
        title=_meaning(kpi),
        **{"data-kpi": orjson.dumps(spec).decode()},
    )


def _aim(kpi: Kpi) -> str:
    sign = "≥" if kpi.better == "higher" else "≤"
    value = f"{kpi.target / 1000:,.0f} k" if abs(kpi.target) >= 10_000 else f"{kpi.target:g}"
    value = value.replace("-", MINUS).replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{kpi.target_word} {sign} {value}"


def _meaning(kpi: Kpi) -> str:
    metric = metric_of(kpi.series.name)
    window = f" Window: {kpi.window_s} s." if kpi.window_s else ""
    return (metric.help if metric is not None else kpi.title) + window
