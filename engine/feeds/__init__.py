"""Market data sources: recorded tapes and the synthetic market, all as one event stream."""
