"""The risk process's block in the dashboard's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collectors.engine import EngineCollector
from dashboard.room.riskroom import RiskRoom, Share
from metrics.series import Series

_R = "deskvigil_risk_"


def risk_room(risk: EngineCollector) -> RiskRoom:
    """What the collector read last; may be called from any thread. While the process is gone there are no figures."""
    absence, snapshot = risk.absence, risk.snapshot
    if absence or snapshot is None:
        return RiskRoom(absence=absence or "not read yet")
    found = dict(zip(snapshot.spec.scalars, snapshot.scalars.tolist(), strict=True))
    info, tables = snapshot.spec.info, snapshot.tables
    by_name: dict[str, float] = {series.name: value for series, value in found.items() if series.name != f"{_R}state"}
    state = _holds(found, f"{_R}state")

    def value(what: str) -> float:
        return by_name.get(_R + what, float("nan"))

    return RiskRoom(
        state=state, words=bytes(tables["words"]["words"][0]).decode(errors="replace"),
        var=value("var_usd"), var_error=value("var_standard_error_usd"),
        shortfall=value("expected_shortfall_usd"), shortfall_error=value("expected_shortfall_standard_error_usd"),
        gross=value("gross_exposure_usd"), age_s=value("position_age_seconds"), scenarios=value("scenarios"),
        options=value("options"), expired=value("expired_options"),
        confidences=(float(info.get("var_confidence", "nan")), float(info.get("shortfall_confidence", "nan"))),
        horizon_days=float(info.get("horizon_days", "nan")), draw=str(info.get("draw", "")),
        device=_holds(found, f"{_R}gpu_state"), device_words=bytes(tables["device"]["words"][0]).decode(errors="replace"),
        positions=tuple(_share(row) for row in tables["positions"]), bars=tuple(tables["histogram"].tolist()),
        steps=tuple(tables["convergence"].tolist()), stress=tuple(tables["stress"].tolist()),
    )  # fmt: skip


def risk_device(risk: EngineCollector) -> str:
    """What computes the scenarios now: GPU or CPU."""
    snapshot = risk.snapshot
    found = {} if snapshot is None else dict(zip(snapshot.spec.scalars, snapshot.scalars.tolist(), strict=True))
    return "GPU" if _holds(found, f"{_R}gpu_state") == "on" else "CPU"


def _holds(found: Mapping[Series, float], name: str) -> str:
    """The state of a metric that is 1 for the one that holds."""
    return next((series.label("state") for series, value in found.items() if series.name == name and value == 1.0), "")


def _share(row: Any) -> Share:
    name = bytes(row["name"]).decode(errors="replace")
    return Share(name, *(float(row[key]) for key in ("quantity", "value_usd", "var_usd", "shortfall_usd")))
