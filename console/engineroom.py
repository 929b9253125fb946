"""The engine's record tables in the dashboard's words: restrictions, slowest orders, algorithms compared."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from collectors.engine import EngineCollector
from dashboard.room.engineroom import AlgoFigures, Cause, EngineRoom, Ratio, SlowOrder
from engine.algos.choice import Algo
from engine.control import scope_of
from engine.gates import TradingState
from engine.journal import RECORD
from metrics.frame import FloatArray

BASELINE = Algo.MARKET
Z95 = 1.959964


def engine_room(engine: EngineCollector) -> EngineRoom:
    """What the collector read last; may be called from any thread."""
    symbols = tuple(engine.info().get("instruments", ()))
    causes, parents = engine.table("causes"), engine.table("parents")
    return EngineRoom(
        absence=engine.absence,
        causes=tuple(_cause(row) for row in causes) if causes.dtype.names else None,
        slowest=tuple(_slow(row, symbols) for row in engine.slowest_orders()),
        algos=compare_algos(parents) if parents.dtype.names else (),
        baseline=BASELINE.label,
        parents=len(parents),
        journal_record_bytes=RECORD.itemsize,
    )


def _cause(row: Any) -> Cause:
    key, who, reason = (bytes(row[name]).decode(errors="replace") for name in ("key", "who", "reason"))
    state = TradingState(int(row["state"])).name
    return Cause(scope_of(key), key.partition(":")[0], state, who, reason, int(row["since_ns"]) // 1_000_000)


def _slow(row: Any, symbols: tuple[str, ...]) -> SlowOrder:
    market_data, decision, gate, book = (
        int(row[name]) / 1e9 for name in ("market_data_ns", "decision_ns", "gate_ns", "book_ns")
    )
    at = int(row["instrument"])
    return SlowOrder(
        t_ms=int(row["wall_ns"]) // 1_000_000,
        order_id=int(row["order_id"]),
        symbol=symbols[at] if 0 <= at < len(symbols) else "?",
        filled=bool(row["filled"]),
        total_s=int(row["total_ns"]) / 1e9,
        parts_s=(market_data, decision, gate, book),
    )


def compare_algos(rows: npt.NDArray[Any]) -> tuple[AlgoFigures, ...]:
    """Each algorithm's figures over finished parents (dtype FINISHED), the baseline first, then by name."""
    found = []
    for algo in sorted({int(code) for code in rows["algo"]}):
        own = rows[rows["algo"] == algo]
        ordered, filled, cost = _sums(own)
        found.append((Algo(algo), len(own), _ratio(filled, ordered), _ratio(cost * 1e4, filled)))
    base = next((one for one in found if one[0] is BASELINE), None)
    return tuple(
        AlgoFigures(algo.label, parents, fill, slippage)
        if base is None or algo is BASELINE
        else AlgoFigures(algo.label, parents, fill, slippage, _less(fill, base[2]), _less(slippage, base[3]))
        for algo, parents, fill, slippage in found
    )


def _sums(rows: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Ordered and filled value and the cost over arrival, float64 (n,) each.

    Each parent weighs by its filled share, not by its currency: parents are sized alike in value
    (`engine.parents.order_usd`), and so instruments of different tick and lot can be added up.
    """
    target = np.maximum(rows["target"].astype(np.float64), 1.0)
    filled = rows["filled"] / target
    arrival = np.where(rows["arrival"] > 0.0, rows["arrival"], np.nan)
    cost = rows["side"] * (rows["notional"] / arrival - rows["filled"]) / target
    return np.ones(len(rows)), filled, np.nan_to_num(cost)


def _ratio(part: FloatArray, whole: FloatArray) -> Ratio:
    """Sum of part over sum of whole, with the interval of a ratio estimator (linearised; parents taken as independent)."""
    n, total = len(whole), float(whole.sum())
    if total <= 0.0:
        return Ratio()
    value = float(part.sum()) / total
    if n < 2:
        return Ratio(value)
    residual = part - value * whole
    half = Z95 * math.sqrt(n / (n - 1) * float(residual @ residual)) / total
    return Ratio(value, value - half, value + half)


def _less(own: Ratio, base: Ratio) -> Ratio:
    """The difference of two independent ratios, their intervals added in quadrature."""
    value = own.value - base.value
    half = math.hypot(own.high - own.value, base.high - base.value)
    return Ratio(value, value - half, value + half)
