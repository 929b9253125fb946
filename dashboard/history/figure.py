"""Figure: an answer as a plain dict for Plotly: two axes, one unit each.

Colours of the page are written as `var(--name)`; the browser puts in the theme's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dashboard.history.answer import Answer, Curve, Part, short_names
from dashboard.history.scale import Scale, scale_for
from metrics.frame import FloatArray

# Distinct without claiming a meaning: the severity colours are not among them.
COLOURS = ("#4E8FBF", "#B39B6B", "#6AA58B", "#A58BC2", "#7C90A5", "#C2908B", "#7FB0A9", "#8FA7C9")
_UNIFIED_MOST = 12
_AXES = ("y", "y2")
_TICKS = [
    {"dtickrange": [None, 59_999], "value": "%H:%M:%S"},
    {"dtickrange": [60_000, 43_199_999], "value": "%H:%M"},
    {"dtickrange": [43_200_000, None], "value": "%b %d"},
]


@dataclass(frozen=True, slots=True)
class Placed:
    """One query's place: axis "y", "y2" or "" (refused), how its values are scaled, why it is refused."""

    letter: str
    axis: str
    scale: Scale
    refusal: str = ""


def place(parts: Sequence[Part]) -> list[Placed]:
    """Give each query an axis: the first unit left, the second right, a third is refused in words."""
    drawn = [part for part in parts if part.curves]
    keys = list(dict.fromkeys(_key(part) for part in drawn))
    scales = {
        key: scale_for(
            next(part.unit for part in drawn if _key(part) == key),
            max((_largest(part) for part in drawn if _key(part) == key), default=0.0),
        )
        for key in keys
    }
    taken = {key: [part.letter for part in drawn if _key(part) == key] for key in keys}
    placed = []
    for part in parts:
        if not part.curves:
            placed.append(Placed(part.letter, "", Scale(1.0, "")))
            continue
        number, scale = keys.index(_key(part)), scales[_key(part)]
        refusal = (
            "" if number < len(_AXES) else _refusal(part.letter, scale, [scales[key] for key in keys[:2]], taken, keys)
        )
        placed.append(Placed(part.letter, "" if refusal else _AXES[number], scale, refusal))
    return placed


def _refusal(
    letter: str, scale: Scale, axes: Sequence[Scale], taken: Mapping[str, Sequence[str]], keys: Sequence[str]
) -> str:
    words = " and ".join(_word(one) for one in axes)
    hide = " or ".join(", ".join(taken[key]) for key in keys[:2])
    return f"{letter} is in {_word(scale)}, and the chart's two axes are taken by {words}. Hide {hide} to draw it."


def _word(scale: Scale) -> str:
    return scale.words or "plain numbers"


def _key(part: Part) -> str:
    return "?" if part.unit is None else part.unit.key


def _largest(part: Part) -> float:
    sizes = [float(np.abs(values).max()) for curve in part.curves if len(values := curve.finite())]
    return max(sizes, default=0.0)


def figure(answer: Answer, placed: Sequence[Placed]) -> dict[str, Any]:
    """Traces and layout; traces carry `meta` {letter, curve, before} for the page."""
    traces: list[dict[str, Any]] = []
    number = 0
    for part, where in zip(answer.parts, placed, strict=True):
        for row, (curve, name) in enumerate(zip(part.curves, short_names(part), strict=True)):
            colour = COLOURS[number % len(COLOURS)]
            number += 1
            if not where.axis:
                continue
            traces.append(_trace(answer, curve, f"{part.letter} · {name}", colour, where, (part.letter, row, False)))
            before = part.before[row] if part.before else None
            if before is not None and answer.comparison is not None:
                label = f"{part.letter} · {name} · {answer.comparison.words}"
                earlier = _trace(answer, before, label, colour, where, (part.letter, row, True))
                earlier["line"] |= {"dash": "7px,3px", "width": 1.2}
                earlier["opacity"] = 0.75
                traces.append(earlier)
    return {"data": traces, "layout": _layout(answer, placed, len(traces))}


def _trace(
    answer: Answer, curve: Curve, name: str, colour: str, where: Placed, meta: tuple[str, int, bool]
) -> dict[str, Any]:
    """Evenly spaced points need no times of their own; a missing one is null, and no line is drawn across."""
    seen = np.where(curve.present & np.isfinite(curve.values), curve.values, np.nan)
    alone = _alone(seen)
    unit = f" {where.scale.words}" if where.scale.words not in ("", "no unit") else ""
    return {
        "type": "scatter",
        "mode": "lines+markers" if alone.any() else "lines",
        "marker": {"size": np.where(alone, 4, 0).tolist() if alone.any() else 4, "color": colour, "line": {"width": 0}},
        "name": name if len(name) <= 90 else name[:89] + "…",
        "x0": int(answer.t_ms[0]),
        "dx": answer.step_ms,
        "y": shortened(seen * where.scale.factor),
        "yaxis": where.axis,
        "line": {"width": 1.5, "color": colour},
        "connectgaps": False,
        "hovertemplate": f"%{{y:,.5~r}}{unit}",
        "meta": {"letter": meta[0], "curve": meta[1], "before": meta[2]},
    }


def _alone(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Which points stand alone between gaps: a line would not show them."""
    known = np.isfinite(values)
    around = np.zeros(len(known) + 2, dtype=np.bool_)
    around[1:-1] = known
    return known & ~around[:-2] & ~around[2:]


def shortened(values: FloatArray) -> npt.NDArray[Any]:
    """float32 where its seven digits show every movement: it prints in half the characters."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return values.astype(np.float32)
    size, moves = float(np.abs(finite).max()), float(finite.max() - finite.min())
    if size > 3e38 or (moves == 0.0 and float(np.float32(size)) != size) or (0.0 < moves < size * 1e-3):
        return values
    return values.astype(np.float32)


def _layout(answer: Answer, placed: Sequence[Placed], traces: int) -> dict[str, Any]:
    axis = {"zeroline": False, "automargin": True, "ticks": "", "linecolor": "var(--line)"}
    words = {one.axis: one.scale.words for one in placed if one.axis}
    layout: dict[str, Any] = {
        "template": {"layout": {}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "inherit", "size": 12, "color": "var(--muted)"},
        "margin": {"l": 60, "r": 60 if "y2" in words else 16, "t": 24, "b": 30},
        "hoverlabel": {"bgcolor": "var(--raised)", "bordercolor": "var(--line)", "font": {"color": "var(--text)"}},
        "hovermode": "x unified" if traces <= _UNIFIED_MOST else "closest",
        "showlegend": False,
        "dragmode": "zoom",
        "xaxis": {
            **axis,
            "type": "date",
            "range": [answer.span.start_ms, answer.span.end_ms],
            "showgrid": False,
            "hoverformat": "%Y-%m-%d %H:%M:%S",
            "tickformatstops": _TICKS,
        },
        "yaxis": _value_axis(axis, words.get("y", ""), "left"),
        "annotations": [_axis_title(words[name], side) for name, side in (("y", 0), ("y2", 1)) if words.get(name)],
    }
    if placed and placed[0].axis and answer.lines:
        _draw_lines(layout, [level * placed[0].scale.factor for level in answer.lines], placed[0].scale.words)
    if "y2" in words:
        layout["yaxis2"] = {**_value_axis(axis, words["y2"], "right"), "overlaying": "y", "showgrid": False}
    return layout


def _draw_lines(layout: dict[str, Any], levels: Sequence[float], words: str) -> None:
    """Levels across the whole chart, named at their right end; the axis reaches them."""
    unit = "" if words in ("", "no unit") else f" {words}"
    across = {"xref": "paper", "yref": "y"}
    line = {"color": "var(--muted)", "width": 1.2, "dash": "6px,4px"}
    layout["shapes"] = [
        {**across, "type": "line", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": line} for level in levels
    ]
    layout["annotations"] += [
        {
            **across, "x": 1, "y": level, "xanchor": "right", "yanchor": "bottom", "showarrow": False,
            "text": f"{level:,.6g}{unit}", "font": {"size": 11, "color": "var(--muted)"},
        }
        for level in levels
    ]  # fmt: skip
    layout["yaxis"]["autorangeoptions"] = {"include": list(levels)}


def _value_axis(axis: Mapping[str, Any], words: str, side: str) -> dict[str, Any]:
    suffix = "%" if words == "%" else ""
    return {
        **axis,
        "side": side,
        "fixedrange": True,
        "gridcolor": "var(--line)",
        "showgrid": True,
        "exponentformat": "SI",
        "ticksuffix": suffix,
        "tickmode": "auto",
        "nticks": 7,
    }


def _axis_title(words: str, side: int) -> dict[str, Any]:
    """The unit above its axis, upright: read without turning the head."""
    return {
        "xref": "paper",
        "yref": "paper",
        "x": side,
        "y": 1,
        "xanchor": "left" if side == 0 else "right",
        "yanchor": "bottom",
        "xshift": -38 if side == 0 else 38,
        "yshift": 4,
        "text": words,
        "showarrow": False,
        "font": {"size": 11, "color": "var(--muted)"},
    }
