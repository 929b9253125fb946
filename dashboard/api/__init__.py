"""HTTP APIs: Prometheus, Deskvigil's own."""
