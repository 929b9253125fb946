"""A break as the Orders page shows it: what happened in a sentence, and field by field what the two records say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from console.comparison import COPY, OWN
from storage.breaks import FillBreak

STREAMS = {OWN: "our record", COPY: "the drop copy"}
EXECUTION = ("order_id", "side", "qty", "price", "liquidity")  # what is shown of an execution that only one of them has
NAMES = {"order_id": "order", "qty": "quantity", "engine_ns": "engine time"}
NOTHING = "–"


def break_view(row: FillBreak) -> dict[str, Any]:
    """The row for the page: times in ms; differs: rows (field, what our record says, what the drop copy says)."""
    return {
        "id": row.id,
        "kind": row.kind,
        "symbol": row.symbol,
        "what": _sentence(row.kind, row.detail),
        "differs": _differences(row.kind, row.detail),
        "t": row.t_ms,
        "found": row.found_ms,
        "state": row.state,
        "explained_by": row.explained_by,
        "explanation": row.explanation,
        "closed_by": row.who if row.state == "closed" else "",
        "closing": row.comment if row.state == "closed" else "",
        "changed": row.changed_ms,
    }


def _sentence(kind: str, detail: Mapping[str, Any]) -> str:
    stream = STREAMS.get(detail.get("stream", ""), "one of the records")
    order = f" Order {detail['order_id']}." if "order_id" in detail else ""
    if kind == "damaged":
        return f"The checksum of record {detail['place']} in {stream} is wrong."
    if kind == "gap":
        first, count = detail["first"], detail["records"]
        return f"{count} records from number {first} on are not in {stream}."
    if kind == "late":
        return f"An execution reported missing came into {stream} after all, {detail['seconds']:.1f} s after its other half.{order}"
    return {
        "missing_own": "The drop copy has an execution that our record does not have.",
        "missing_copy": "Our record has an execution that the drop copy does not have.",
        "duplicated": f"An execution is in {stream} more than once.",
        "altered": f"The two records of an execution differ.{order}",
        "position": f"After this execution the positions differ, and did not before.{order}",
        "settlement": "The session was settled on other sums than those of the drop copy.",
    }.get(kind, kind)


def _differences(kind: str, detail: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    def row(name: str, own: Any, copy: Any) -> tuple[str, str, str]:
        return NAMES.get(name, name), _words(name, own, detail), _words(name, copy, detail)

    if kind == "altered":
        return [row(name, values["own"], values["copy"]) for name, values in detail["fields"].items()]
    if kind == "position":
        return [row("position", detail["own"], detail["copy"])]
    if kind == "settlement":
        ours, theirs = detail["settled"], detail["drop_copy"]
        return [row(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]]
    stream = {"missing_own": COPY, "missing_copy": OWN}.get(kind, detail.get("stream"))
    shown = (
        [name for name in EXECUTION if name in detail] if kind in ("missing_own", "missing_copy", "duplicated") else []
    )
    return [row(name, *((detail[name], None) if stream == OWN else (None, detail[name]))) for name in shown]


def _words(name: str, value: Any, detail: Mapping[str, Any]) -> str:
    """A field's value in USD and units where these are known, else in ticks and lots."""
    if value is None:
        return NOTHING
    tick, lot = detail.get("tick_usd"), detail.get("lot")
    if name == "side":
        return "buy" if value > 0 else "sell"
    if name == "liquidity":
        return "taker" if value else "maker"
    if name == "price":
        return f"{value} ticks" if tick is None else f"{value * tick:,.{_decimals(tick)}f} USD"
    if name in ("qty", "position"):
        return f"{value} lots" if lot is None else f"{value * lot:,.{_decimals(lot)}f}"
    if name == "cash":
        if tick is None or lot is None:
            return f"{value} tick-lots"
        return f"{int(value) * tick * lot:,.{_decimals(tick * lot)}f} USD"
    return f"{value} ns" if name == "engine_ns" else str(value)


def _decimals(step: float) -> int:
    """As many decimals as a multiple of the step can have, at most 10: 2 for 0.01 and for 0.25."""
    return next((digits for digits in range(10) if math.isclose(round(step, digits), step, rel_tol=1e-6)), 10)
