"""Stores to measure: captures, a generated store of many days, and the peers."""
