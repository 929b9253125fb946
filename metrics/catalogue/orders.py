"""Metrics of the orders' block: what the Orders page sees of own orders."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_O = "deskvigil_orders_"

METRICS: tuple[Metric, ...] = (
    Metric(_O + "up", "", "gauge", "1 while the engine writes the orders' block."),
    Metric(_O + "working", "", "gauge", "Own orders that rest or are on their way, clients' included."),
    Metric(_O + "board_cost_seconds", "seconds", "gauge", "What writing the orders' block took the engine's loop, the time before last."),
    Metric(_O + "logged_total", "", "counter", "Events of own orders in the engine's log, overwritten ones included."),
    Metric(_O + "events_total", "", "counter", "Events of own orders read since the console started."),
    Metric(_O + "events_missed_total", "", "counter", "Events of own orders overwritten before the console had read them."),
)  # fmt: skip
