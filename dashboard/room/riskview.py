"""RiskView: what the Risk page shows of a RiskRoom: a strip of states, and what its graphs and tables need."""

from __future__ import annotations

import math
from typing import Any

from dashboard.room.riskroom import RiskRoom
from dashboard.room.words import NONE, count, number, plain, seconds

STATES = {
    "ok": "live",
    "no_engine": "no engine",
    "stale": "positions too old",
    "no_marks": "no price",
    "failed": "cannot be priced",
}
WHY = {
    "no_engine": "there is no engine to read positions from",
    "stale": "the engine's positions are too old to price",
    "no_marks": "a position has no sound price or quantity",
    "failed": "the covariance or the option book is at fault",
}
DRAWS = {
    "plain": "independent scenarios",
    "antithetic": "antithetic scenarios",
    "sobol": "scrambled Sobol points",
    "control": "delta-gamma control variate",
    "importance": "importance sampling",
}


def risk_view(room: RiskRoom) -> dict[str, Any]:
    """Everything the page draws; `said` is why there are no present figures, or ""."""
    said = _said(room)
    return {
        "said": said,
        "stale": bool(said),
        "nothing": f"{NONE}: {_why(room)}" if said else "",
        "states": _states(room),
        "histogram": _histogram(room),
        "convergence": _convergence(room),
        "positions": _positions(room),
        "total": [_usd(room.var), _usd(room.shortfall)],
        "stress": _stress(room),
    }


def _why(room: RiskRoom) -> str:
    if room.absence:
        return room.absence
    why = WHY.get(room.state, "the risk process has told nothing yet")
    return f"{why} ({room.words})" if room.words else why


def _said(room: RiskRoom) -> str:
    if not room.absence and room.state == "ok":
        return ""
    age = f" Positions are {seconds(room.age_s)} old." if math.isfinite(room.age_s) else ""
    return f"No value at risk: {_why(room)}.{age}"


def _usd(value: float) -> str:
    return number(value, 0, "USD")


def _signed(value: float, unit: str = "") -> str:
    """A whole number with its sign; nothing has none."""
    whole = round(value) if math.isfinite(value) else value
    return number(whole, 0, unit, signed=whole != 0)


def _states(room: RiskRoom) -> list[dict[str, Any]]:
    bad = bool(room.absence) or room.state != "ok"
    horizon = f"{room.horizon_days:g} day" if room.horizon_days == 1.0 else f"{room.horizon_days:g} days"
    var, shortfall = (f"{100 * one:g} %" for one in room.confidences)
    options = f"{count(room.options)} options" if room.options > 0 else "no options"
    if room.expired > 0:
        options += f", {count(room.expired)} expired and left out"
    rows = [
        ("State", "silent" if room.absence else STATES.get(room.state, NONE), "" if not bad else _why(room), bad),
        (f"VaR {var}", _usd(room.var), f"± {_usd(room.var_error)} standard error, {horizon}", False),
        (f"ES {shortfall}", _usd(room.shortfall), f"± {_usd(room.shortfall_error)} standard error", False),
        ("Age", seconds(room.age_s), "of the positions, when priced", False),
        ("Gross exposure", _usd(room.gross), options, False),
        ("Scenarios", count(room.scenarios), DRAWS.get(room.draw, NONE), False),
    ]
    if room.device in ("on", "failed"):  # without a GPU there is nothing to tell
        failed = room.device == "failed"
        rows.append(
            (
                "Computed by",
                "CPU" if failed else "GPU",
                f"the GPU failed: {room.device_words}" if failed else room.device_words,
                failed,
            )
        )
    return [
        {"cells": [name if "nan" not in name else name.split(" ", 1)[0], reading, words if reading != NONE or wrong else ""],
         "severity": "warning" if wrong else "", "title": words}
        for name, reading, words, wrong in rows
    ]  # fmt: skip


def _histogram(room: RiskRoom) -> dict[str, Any] | None:
    if not room.bars:
        return None
    low, high, share = (list(column) for column in zip(*room.bars, strict=True))
    return {"low": low, "high": high, "share": share, "var": room.var, "shortfall": room.shortfall}


def _convergence(room: RiskRoom) -> dict[str, Any] | None:
    if not room.steps:
        return None
    scenarios, var, error = (list(column) for column in zip(*room.steps, strict=True))
    return {"scenarios": scenarios, "var": var, "error": error, "figure": room.var, "draw": DRAWS.get(room.draw, "")}


def _positions(room: RiskRoom) -> list[dict[str, Any]]:
    """Positions by their share of ES, what adds most first; bars are in parts of the largest."""
    most = max((abs(one.shortfall) for one in room.positions), default=0.0)
    return [
        {
            "name": one.name,
            "shares": [_signed(one.var, "USD"), _signed(one.shortfall, "USD")],
            "part": one.shortfall / most if most > 0.0 else 0.0,
            "held": [plain(one.quantity, 4), _usd(one.value)],
        }
        for one in sorted(room.positions, key=lambda one: -one.shortfall)
    ]


def _stress(room: RiskRoom) -> dict[str, Any] | None:
    """Rows by volatility, columns by spot; weight in -1 .. 1 says how deep a cell is coloured."""
    if not room.stress:
        return None
    spots = list(dict.fromkeys(spot for _, spot, _ in room.stress))
    most = max(abs(gain) for _, _, gain in room.stress)
    rows: dict[float, list[dict[str, Any]]] = {}
    for volatility, _, gain in room.stress:
        cell = {"text": _signed(gain), "weight": gain / most if most > 0.0 else 0.0}
        rows.setdefault(volatility, []).append(cell)
    return {
        "spots": [_signed(100 * spot, "%") for spot in spots],
        "rows": [{"name": _signed(100 * one, "%"), "cells": cells} for one, cells in rows.items()],
    }
