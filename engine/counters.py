"""Where the step kernel counts: positions in its arrays, and what each is called outside.

`counts` is int64 and only grows; `sums` is float64. Both live as long as the process, not the session.
"""

from __future__ import annotations

import numpy as np

from engine.algos.choice import ALGOS, Algo
from engine.events import KIND_NAMES
from engine.gates import MAX_STRATEGIES, REASONS, STRATEGIES, Reason
from engine.mailbox import REFUSALS
from metrics.catalogue import series
from metrics.frame import FloatArray, IntArray
from metrics.series import Series

EVENT_OF_KIND = 0  # one for each event kind
REJECTED_FOR = len(KIND_NAMES)  # one for each Reason
(
    MARKET_ORDERS,
    LATE_EVENTS,
    REBASES,
    WAKEUPS,
    SUBMITTED_MAKER,
    SUBMITTED_PARENT,
    ACKED,
    CANCELLED,
    FILLED,
    FILLS_MAKER,
    FILLS_TAKER,
    FILLS_LOST,
    PARENTS_STARTED,
    PARENTS_FINISHED,
    IMPACT_PARENTS,
) = range(REJECTED_FOR + REASONS, REJECTED_FOR + REASONS + 15)
ALGO_FINISHED = IMPACT_PARENTS + 1  # one for each Algo
# One for each strategy: orders handed to the gates, refused for more than the trading state, and cancels, which
# no gate holds up.
MESSAGES_OF = ALGO_FINISHED + ALGOS
REJECTED_OF = MESSAGES_OF + MAX_STRATEGIES
CANCELS_OF = REJECTED_OF + MAX_STRATEGIES
SUBMITTED_CLIENT = CANCELS_OF + MAX_STRATEGIES
CLIENT_REQUESTS = SUBMITTED_CLIENT + 1
ANSWERS_LOST = CLIENT_REQUESTS + 1
REQUEST_REFUSED = ANSWERS_LOST + 1  # one for each of REFUSALS
# What breakers look at: requests of strategies that make sense and that do not, orders that the book could not take
# though nothing was wrong with them, and market events that it refused.
DECISIONS, DECISION_FAULTS, VENUE_FAULTS, EVENTS_REFUSED = range(
    REQUEST_REFUSED + len(REFUSALS), REQUEST_REFUSED + len(REFUSALS) + 4
)
COUNTS = EVENTS_REFUSED + 1

PARENT_ORDERED, PARENT_FILLED, SLIPPAGE_COST, SLIPPAGE_VALUE, IMPACT, TRADED_VALUE = range(6)
# By algorithm, the control group included, which the sums above leave out: one for each Algo.
ALGO_ORDERED, ALGO_FILLED, ALGO_COST, ALGO_VALUE, ALGO_IMPACT = (TRADED_VALUE + 1 + ALGOS * k for k in range(5))
SUMS = ALGO_IMPACT + ALGOS

# Latency histograms, in the order in which they lie in the block.
LATENCY_MARKET_DATA, LATENCY_DECISION, LATENCY_GATE, LATENCY_ACK, LATENCY_FILL, LATENCY_STEP = range(6)
LATENCY_CLIENT_ACK, LATENCY_CLIENT_FILL = 6, 7
STAGES = (
    "market_data", "decision", "gate", "order_to_ack", "order_to_fill", "step", "client_order_to_ack",
    "client_order_to_fill",
)  # fmt: skip
HISTOGRAMS: tuple[Series, ...] = tuple(series(f"deskvigil_engine_{what}_seconds") for what in STAGES)


def _name(what: str, **labels: str) -> Series:
    return series(f"deskvigil_engine_{what}", **labels)


COUNT_SERIES: tuple[tuple[Series, int], ...] = (
    *((_name("events_total", kind=kind), EVENT_OF_KIND + i) for i, kind in enumerate(KIND_NAMES) if i > 0),
    *((_name("orders_rejected_total", reason=r.label), REJECTED_FOR + r) for r in Reason if r is not Reason.ACCEPTED),
    *((_name("messages_total", strategy=name, kind="order"), MESSAGES_OF + s) for s, name in enumerate(STRATEGIES)),
    *((_name("messages_total", strategy=name, kind="cancel"), CANCELS_OF + s) for s, name in enumerate(STRATEGIES)),
    *((_name("strategy_rejects_total", strategy=name), REJECTED_OF + s) for s, name in enumerate(STRATEGIES)),
    (_name("market_orders_total"), MARKET_ORDERS),
    (_name("late_events_total"), LATE_EVENTS),
    (_name("timeline_rebases_total"), REBASES),
    (_name("loop_wakeups_total"), WAKEUPS),
    (_name("orders_submitted_total", strategy="maker"), SUBMITTED_MAKER),
    (_name("orders_submitted_total", strategy="parent"), SUBMITTED_PARENT),
    (_name("orders_acked_total"), ACKED),
    (_name("orders_cancelled_total"), CANCELLED),
    (_name("orders_filled_total"), FILLED),
    (_name("fills_total", liquidity="maker"), FILLS_MAKER),
    (_name("fills_total", liquidity="taker"), FILLS_TAKER),
    (_name("fills_lost_total"), FILLS_LOST),
    (_name("parents_started_total"), PARENTS_STARTED),
    (_name("parents_finished_total"), PARENTS_FINISHED),
    (_name("impact_parents_total"), IMPACT_PARENTS),
    *((_name("algo_parents_finished_total", algo=algo.label), ALGO_FINISHED + algo) for algo in Algo),
    (_name("orders_submitted_total", strategy="client"), SUBMITTED_CLIENT),
    (_name("client_requests_total"), CLIENT_REQUESTS),
    (_name("client_answers_lost_total"), ANSWERS_LOST),
    *(
        (_name("client_requests_refused_total", reason=why.name.lower()), REQUEST_REFUSED + k)
        for k, why in enumerate(REFUSALS)
    ),
    (_name("decisions_total"), DECISIONS),
    (_name("decision_faults_total"), DECISION_FAULTS),
    (_name("venue_faults_total"), VENUE_FAULTS),
    (_name("events_refused_total"), EVENTS_REFUSED),
)
SUM_SERIES: tuple[tuple[Series, int], ...] = (
    (_name("parent_ordered_value_usd_total"), PARENT_ORDERED),
    (_name("parent_filled_value_usd_total"), PARENT_FILLED),
    (_name("slippage_cost_usd"), SLIPPAGE_COST),
    (_name("slippage_value_usd_total"), SLIPPAGE_VALUE),
    (_name("impact_weighted_bps"), IMPACT),
    (_name("traded_value_usd_total"), TRADED_VALUE),
    *(
        (_name(f"algo_{what}", algo=algo.label), first + algo)
        for what, first in (
            ("ordered_value_usd_total", ALGO_ORDERED),
            ("filled_value_usd_total", ALGO_FILLED),
            ("slippage_cost_usd", ALGO_COST),
            ("slippage_value_usd_total", ALGO_VALUE),
            ("impact_weighted_bps", ALGO_IMPACT),
        )
        for algo in Algo
    ),
)


def empty_counts() -> IntArray:
    """int64, shape (COUNTS,)."""
    return np.zeros(COUNTS, dtype=np.int64)


def empty_sums() -> FloatArray:
    """float64, shape (SUMS,)."""
    return np.zeros(SUMS)
