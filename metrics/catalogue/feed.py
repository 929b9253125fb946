"""Metrics of the feed process: live market data; there only where a live market is configured."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_F = "deskvigil_feed_"
_BY = ("feed",)

METRICS: tuple[Metric, ...] = (
    # Added by the collector, also while the process is gone.
    Metric(_F + "up", "", "gauge", "1 while the feed process's telemetry is fresh, else 0."),
    Metric(_F + "heartbeat_age_seconds", "seconds", "gauge", "Time since the feed process's heartbeat was last seen to move."),
    Metric(_F + "start_time_seconds", "seconds", "gauge", "When the running feed process started, seconds since the epoch."),
    Metric(_F + "state", "", "gauge", "1 for the state of a feed's worst instrument: syncing, live, gap, bad_checksum, stale, disconnected.", ("feed", "state")),
    Metric(_F + "active", "", "gauge", "1 for the feed that the engine trades on.", _BY),
    Metric(_F + "age_seconds", "seconds", "gauge", "Time since a feed's last message.", _BY),
    Metric(_F + "lag_seconds", "seconds", "gauge", "From the time that the venue wrote on its last message to our receipt, by both clocks: negative where they differ.", _BY),
    Metric(_F + "instruments_live", "", "gauge", "Instruments of a feed whose book is the venue's.", _BY),
    Metric(_F + "messages_total", "", "counter", "Messages received.", _BY),
    Metric(_F + "skipped_total", "", "counter", "Messages left out because they made no sense.", _BY),
    Metric(_F + "foreign_total", "", "counter", "Updates of instruments that nobody asked for.", _BY),
    Metric(_F + "duplicates_total", "", "counter", "Messages that said what was known already.", _BY),
    Metric(_F + "gaps_total", "", "counter", "Breaks in a venue's numbering, and books that crossed.", _BY),
    Metric(_F + "checksums_total", "", "counter", "Checksums of the venue compared with our book, by result.", ("feed", "result")),
    Metric(_F + "off_grid_total", "", "counter", "Prices that are no multiple of the tick: the instrument is not traded on them.", _BY),
    Metric(_F + "connections_total", "", "counter", "Connections made.", _BY),
    Metric(_F + "failures_total", "", "counter", "Connections that ended or could not be made.", _BY),
    Metric(_F + "repairs_total", "", "counter", "Snapshots asked for to mend a book.", _BY),
    Metric(_F + "on_backup", "", "gauge", "1 while the engine trades on the backup, else 0."),
    Metric(_F + "switches_total", "", "counter", "Changes of the feed that the engine trades on."),
    Metric(_F + "events_total", "", "counter", "Events handed to the engine."),
    Metric(_F + "events_lost_total", "", "counter", "Events the engine was too slow to take; every book is handed over anew after that."),
    Metric(_F + "handovers_total", "", "counter", "Times that every book was handed to the engine anew."),
)  # fmt: skip
