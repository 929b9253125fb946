"""Metrics of the reconciliation: our executions against the drop copy."""

from __future__ import annotations

from metrics.catalogue.metric import Metric

_R = "deskvigil_reconciliation_"

METRICS: tuple[Metric, ...] = (
    Metric(_R + "breaks_total", "", "counter", "Breaks found since the console started, by kind.", ("kind",)),
    Metric(_R + "open_breaks", "", "gauge", "Breaks that nobody has explained or closed."),
    Metric(_R + "executions_equal_total", "", "counter", "Executions that were the same in our record and in the drop copy."),
    Metric(_R + "executions_broken_total", "", "counter", "Executions that were missing, duplicated or altered in one of the two."),
    Metric(_R + "accuracy_ratio", "ratio", "gauge", "Settlement accuracy: executions equal to the drop copy over all that were compared."),
    Metric(_R + "waiting_executions", "", "gauge", "Executions seen in one of the two that wait for the other."),
    Metric(_R + "lag_seconds", "seconds", "gauge", "How long ago everything that was there had been compared."),
    Metric(_R + "positions_disagreeing", "", "gauge", "Instruments whose position is another one in the drop copy."),
    Metric(_R + "settlements_total", "", "counter", "Settlements of instruments taken over since the console started."),
    Metric(_R + "malformed_lines_total", "", "counter", "Lines of the settlement file that could not be read, since the console started."),
)  # fmt: skip
