"""Watch: what the engine sees in its own figures, and restricts trading for until a person resumes it.

Gates look at one order; this looks at a session (its loss, its drawdown) and at the last while (orders
refused, orders sent for each parent order). Time and figures are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.control import DRAWDOWN, LOSS, OUTPUT, REJECTS, key_of
from engine.gates import STRATEGIES, TradingState
from engine.limits import Limits
from metrics.frame import IntArray

MIN_ORDERS = 200  # a share of fewer orders says little
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Flow:
    """What was counted so far, int64 (strategies,) each: orders asked for, orders refused, intents at work.

    An intent counts once for each while (`repeat_within_s`) in which it sent an order; refusals by the
    trading state are left out: a halted strategy that asks is not a faulty one.
    """

    orders: IntArray
    refused: IntArray
    intents: IntArray


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be put in force: a cause's key, its state, and why in words."""

    key: str
    state: TradingState
    reason: str


class Watch:
    """Looks at figures once in a while; says what is beyond its limit."""

    def __init__(self, limits: Limits, watch_s: float) -> None:
        self._limits = limits
        self._watch_ns = round(watch_s * NS)
        self._since_ns: int | None = None
        self._before: Flow | None = None

    def look_at_result(self, pnl_usd: float, drawdown_usd: float) -> list[Finding]:
        """The session's loss and its drawdown, both in USD (a loss is negative P&L, drawdown is positive)."""
        loss_limit, deepest = self._limits.value("max_loss_usd"), self._limits.value("max_drawdown_usd")
        found = []
        if pnl_usd <= -loss_limit:
            words = f"the session lost more than {loss_limit:,.0f} USD"
            found.append(Finding(LOSS, TradingState.REDUCING, words))
        if drawdown_usd >= deepest:
            words = f"the session fell {drawdown_usd:,.0f} USD below its best, the limit is {deepest:,.0f}"
            found.append(Finding(DRAWDOWN, TradingState.REDUCING, words))
        return found

    def look_at_flow(self, now_ns: int, flow: Flow) -> list[Finding]:
        """What was sent since the last look that was a whole while ago; `now_ns` is monotonic."""
        if self._since_ns is None or self._before is None:
            self._since_ns, self._before = now_ns, flow
            return []
        if now_ns - self._since_ns < self._watch_ns:
            return []
        before, self._since_ns, self._before = self._before, now_ns, flow
        orders = flow.orders - before.orders
        refused = flow.refused - before.refused
        found = []
        most = self._limits.value("max_reject_ratio")
        per_intent = self._limits.value("max_output_ratio")
        intents = np.maximum(flow.intents - before.intents, 1)
        for s, name in enumerate(STRATEGIES):
            scope = f"strategy:{name}"
            if orders[s] >= MIN_ORDERS and refused[s] > most * orders[s]:
                words = f"{refused[s]} of the last {orders[s]} orders of {name} were refused, more than {most:.0%}"
                found.append(Finding(key_of(REJECTS, scope), TradingState.REDUCING, words))
            if orders[s] >= MIN_ORDERS and orders[s] > per_intent * intents[s]:
                words = f"{name} sent {orders[s]} orders for {intents[s]} intents at work, more than {per_intent:g} for each"
                found.append(Finding(key_of(OUTPUT, scope), TradingState.REDUCING, words))
        return found
