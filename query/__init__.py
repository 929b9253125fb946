"""PromQL: parse, plan, evaluate over columns."""
