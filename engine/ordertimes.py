"""Order times: how long an own order took, counted in the histograms and kept where it was among the slowest."""

from __future__ import annotations

from engine import counters as at
from engine.deskarrays import Desk
from engine.jit import inline_kernel, kernel
from engine.recorder import LAST, note_order, put


@kernel
def record(desk: Desk, which: int, duration_ns: int) -> None:
    """Count one duration in one of the latency histograms."""
    put(desk.latencies, desk.latency_sums, desk.stages, which, duration_ns)


@inline_kernel
def record_order(desk: Desk, i: int, order_id: int, total_ns: int, filled: int, t_ns: int) -> None:
    """Count an accepted order's time from its intended instant, with the stages that it has just gone through."""
    record(desk, at.LATENCY_ACK, total_ns)
    if filled:
        record(desk, at.LATENCY_FILL, total_ns)
    last = desk.stages[LAST]
    note_order(
        desk.slowest, desk.stages, total_ns, last[at.LATENCY_MARKET_DATA], last[at.LATENCY_DECISION],
        last[at.LATENCY_GATE], t_ns, order_id, i, filled,
    )  # fmt: skip


@inline_kernel
def record_client_order(desk: Desk, i: int, order_id: int, total_ns: int, t_ns: int) -> None:
    """Count the time from when a client sent an order to its acceptance: no event caused it, no strategy decided it."""
    record(desk, at.LATENCY_CLIENT_ACK, total_ns)
    note_order(desk.slowest, desk.stages, total_ns, 0, 0, desk.stages[LAST, at.LATENCY_GATE], t_ns, order_id, i, 0)
