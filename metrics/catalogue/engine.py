"""Metrics of the engine process: feed, orders, parents, account, latency."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_E = "deskvigil_engine_"

METRICS: tuple[Metric, ...] = (
    # Added by the collector, also while the process is gone.
    Metric(_E + "up", "", "gauge", "1 while the engine's telemetry is fresh (a heartbeat within the last second), else 0."),
    Metric(_E + "heartbeat_age_seconds", "seconds", "gauge", "Time since the engine's heartbeat was last seen to move."),
    Metric(_E + "start_time_seconds", "seconds", "gauge", "When the running engine process started, seconds since the epoch."),
    # Feed and loop.
    Metric(_E + "events_total", "", "counter", "Market events applied to the book, by kind.", ("kind",)),
    Metric(_E + "market_orders_total", "", "counter", "Orders and cancellations of the market handled by the book."),
    Metric(_E + "market_volume_total", "", "counter", "Quantity traded between others, in units.", ("symbol",)),
    Metric(_E + "late_events_total", "", "counter", "Events applied later than the configured lateness after they were due."),
    Metric(_E + "timeline_rebases_total", "", "counter", "Times the engine gave up catching up and moved its timeline to now."),
    Metric(_E + "feed_age_seconds", "seconds", "gauge", "Engine time since the youngest market event."),
    Metric(_E + "event_lag_seconds", "seconds", "gauge", "How far the book is behind the events that are due."),
    Metric(_E + "loop_wakeups_total", "", "counter", "Times the engine's loop ran."),
    Metric(_E + "session_total", "", "counter", "Trading sessions begun since the process started; one more at each wrap of a tape."),
    Metric(_E + "session_start_time_seconds", "seconds", "gauge", "When the running session began, seconds since the epoch."),
    Metric(_E + "session_clock_seconds", "seconds", "gauge", "Engine time since the session's first event."),
    # Orders.
    Metric(_E + "orders_submitted_total", "", "counter", "Own orders handed to the gates, by strategy.", ("strategy",)),
    Metric(_E + "orders_acked_total", "", "counter", "Own orders accepted by the book."),
    Metric(_E + "orders_rejected_total", "", "counter", "Own orders refused by a gate or the venue, by reason.", ("reason",)),
    Metric(_E + "orders_cancelled_total", "", "counter", "Own orders cancelled."),
    Metric(_E + "orders_filled_total", "", "counter", "Own orders filled completely."),
    Metric(_E + "fills_total", "", "counter", "Own fills, by liquidity: maker or taker.", ("liquidity",)),
    Metric(_E + "filled_quantity_total", "", "counter", "Own filled quantity in units.", ("symbol",)),
    Metric(_E + "traded_value_usd_total", "usd", "counter", "Value of own fills."),
    Metric(_E + "fills_lost_total", "", "counter", "Fills that did not fit the engine's fill buffer; anything but 0 is a fault."),
    # Parent orders.
    Metric(_E + "parents_started_total", "", "counter", "Parent orders begun."),
    Metric(_E + "parents_finished_total", "", "counter", "Parent orders finished: filled, or ended at their deadline."),
    Metric(_E + "parent_ordered_value_usd_total", "usd", "counter", "Ordered quantity of finished parent orders, at arrival mid."),
    Metric(_E + "parent_filled_value_usd_total", "usd", "counter", "Filled quantity of finished parent orders, at arrival mid."),
    Metric(_E + "slippage_cost_usd", "usd", "gauge", "Sum over parents' fills of signed fill price minus arrival mid, times quantity; cumulative, may fall."),
    Metric(_E + "slippage_value_usd_total", "usd", "counter", "Sum over parents' fills of arrival mid times quantity."),
    Metric(_E + "impact_weighted_bps", "bps", "gauge", "Sum over finished parents of the signed move of the mid; cumulative, may fall."),
    Metric(_E + "impact_parents_total", "", "counter", "Finished parents that impact_weighted_bps covers."),
    # Account.
    Metric(_E + "working_orders", "", "gauge", "Own orders in the book."),
    Metric(_E + "position", "", "gauge", "Own position in units, negative where short.", ("symbol",)),
    Metric(_E + "mid_usd", "usd", "gauge", "Middle between best bid and best ask.", ("symbol",)),
    Metric(_E + "spread_bps", "bps", "gauge", "Best ask minus best bid over mid.", ("symbol",)),
    Metric(_E + "symbol_pnl_usd", "usd", "gauge", "Session P&L of one instrument after fees, marked at mid.", ("symbol",)),
    Metric(_E + "exposure_gross_usd", "usd", "gauge", "Sum of absolute position values at mid."),
    Metric(_E + "exposure_net_usd", "usd", "gauge", "Sum of signed position values at mid."),
    Metric(_E + "pnl_realised_usd", "usd", "gauge", "Realised P&L of the session before fees."),
    Metric(_E + "pnl_unrealised_usd", "usd", "gauge", "Unrealised P&L of the open positions, marked at mid."),
    Metric(_E + "fees_usd", "usd", "gauge", "Fees paid in the session."),
    Metric(_E + "pnl_usd", "usd", "gauge", "Session P&L after fees."),
    Metric(_E + "drawdown_usd", "usd", "gauge", "Distance of the session's P&L from its highest value so far."),
    Metric(_E + "settled_pnl_usd", "usd", "gauge", "P&L of the sessions that this process has already settled."),
    # Journal and recovery.
    Metric(_E + "journal_records_total", "", "counter", "Sequence of the journal's last record; goes on over restarts."),
    Metric(_E + "journal_undurable_records", "", "gauge", "Records that a power failure would lose now."),
    Metric(_E + "journal_lost_records_total", "", "counter", "Records that could not be written because the disk was full."),
    Metric(_E + "journal_full", "", "gauge", "1 while the journal cannot be written and no order is sent, else 0."),
    Metric(_E + "journal_snapshot_age_seconds", "seconds", "gauge", "Time since the state written by this process's last snapshot; NaN before the first."),
    Metric(_E + "recovered_records", "", "gauge", "Journal records that this process replayed when it started; 0 after a fresh start."),
    Metric(_E + "recovered_parents_closed", "", "gauge", "Parent orders that were interrupted and closed with what they had when this process started."),
    Metric(_E + "recovered_poison_record", "", "gauge", "Sequence of the record left out because it killed the engine twice, else 0."),
    Metric(_E + "recovered_damaged_records", "", "gauge", "Sound journal records put aside at the start because others before them were damaged."),
    # Control.
    Metric(_E + "trading_state", "", "gauge", "0 active, 1 reducing, 2 halted (the whole engine)."),
    Metric(_E + "halted_instruments", "", "gauge", "Instruments halted by themselves."),
    Metric(_E + "console_seen", "", "gauge", "1 while the console's heartbeat moves, 0 when it stopped, -1 before the first."),
    Metric(_E + "commands_total", "", "counter", "Commands carried out.", ("command",)),
    Metric(_E + "commands_refused_total", "", "counter", "Commands refused: unknown, incomplete or too long."),
    # Latency, from the intended time.
    Metric(_E + "market_data_seconds", "seconds", "histogram", "An event's due time to its being in the book."),
    Metric(_E + "decision_seconds", "seconds", "histogram", "Event in the book to the strategy's decision."),
    Metric(_E + "gate_seconds", "seconds", "histogram", "Pre-trade risk check of one order."),
    Metric(_E + "order_to_ack_seconds", "seconds", "histogram", "Intended time of an order to its acceptance by the book."),
    Metric(_E + "order_to_fill_seconds", "seconds", "histogram", "Intended time of a marketable order to its first fill."),
    Metric(_E + "step_seconds", "seconds", "histogram", "One run of the engine's loop over the events that were due."),
)  # fmt: skip
