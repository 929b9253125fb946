"""Metrics of the live stream to browsers."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_W = "deskvigil_web_live_"

METRICS: tuple[Metric, ...] = (
    Metric(_W + "viewers", "", "gauge", "Browsers connected to the live stream."),
    Metric(_W + "viewers_refused_total", "", "counter", "Browsers refused because as many as allowed were connected."),
    Metric(_W + "messages_total", "", "counter", "Messages put on the live stream, each serialised once."),
    Metric(_W + "sent_bytes_total", "bytes", "counter", "Bytes of the live stream sent to all browsers together."),
    Metric(_W + "snapshots_total", "", "counter", "Snapshots made: for newcomers, and for browsers that fell behind."),
    Metric(_W + "fell_behind_total", "", "counter", "Messages that found a browser's queue full: it lost the queue."),
    Metric(_W + "state_failures_total", "", "counter", "Times the state of the desk could not be told."),
)
