"""Any OpenMetrics or Prometheus text endpoint, by configuration, with Prometheus's semantics."""
